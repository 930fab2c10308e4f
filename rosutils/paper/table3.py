"""Table III: AUROC per class beside the published methods, and beside public networks that the paper does not have."""

import math
from string import ascii_lowercase

import pandas as pd

from rosutils.paper.cells import block, spread_over
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.results import select
from rosutils.settings import CHANCE


OURS, MEAN = "RoS-KD", "Mean"


def table(study) -> pd.DataFrame:
    """Table III: AUROC per class and their mean, ours over the replicates of variant "table3" (n of them); no skill's mean.

    Columns are (class, one of published, published std, ours, std, n, difference, runs, public); the paper's methods have
    published values, its RoS-KD also ours, and the public networks that we add ("added (a): ...") only public ones. A task
    that is not the paper's has its own row alone; what was not run is blank.
    """
    task = next(task for task, about in study.about_tasks().items() if about["multilabel"])
    rows = select(study.results(), task=task, setting=[OURS, *CHANCE], variant="table3", attack="", metric="auroc")
    rows = rows[(rows["class"] != "") | (rows["average"] == "macro")]
    rows = rows.assign(**{"class": rows["class"].replace("", MEAN)})
    paper, stds, public = _printed(task)
    index = pd.Index([*paper.index, *CHANCE, *public.index], name="setting")
    blocks, blank = {}, pd.Series(math.nan, index)
    for name in dict.fromkeys([*paper.columns[:-1], *rows["class"][rows["class"] != MEAN], MEAN]):
        one = block(select(rows, class_=name), index, by=["setting"], paper=paper.get(name, blank))
        one.insert(1, "published std", stds.get(name, blank).reindex(index))
        blocks[name] = one.assign(public=public.get(name, blank).reindex(index))
    return pd.concat(blocks, axis=1, names=["class", "column"]).rename_axis("method")


def _printed(task: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """[method, class]: what the paper prints, per class and as mean; its std; what public networks have, which we add."""
    printed = published()["table3"]
    if task != printed["task"]:
        return pd.DataFrame(index=[OURS]), pd.DataFrame(), pd.DataFrame()
    sides = (
        {each["method"]: [*each["auroc"], each["mean"]] for each in printed["methods"]},
        {each["method"]: [*each["std"], math.nan] for each in printed["methods"] if "std" in each},
        {label: [*each["auroc"], pd.Series(each["auroc"]).mean()] for label, each in _added().items()},
    )
    columns = [*printed["classes"], MEAN]
    return tuple(pd.DataFrame.from_dict(side, orient="index", columns=columns) for side in sides)


def _added() -> dict[str, dict]:
    """The public networks by their label: a letter for the caption, what it is, and on which split."""
    split = {True: "public split", False: "another split"}
    return {
        f"added ({letter}): {anchor['method']}, {split[anchor['same_split']]}": anchor | {"letter": letter}
        for letter, anchor in zip(ascii_lowercase, published()["table3"]["anchors"], strict=False)
    }


def caption(study, frame: pd.DataFrame) -> str:
    """What the rows of the table are, where the added ones are from, over how many runs, and the sweeps' watermark."""
    said = f"Table III, AUROC. Ours: {spread_over(frame.loc[[OURS]], 'independent run')}."
    said += " A run has a split, teachers and a student of its own; the scale is that of the sweeps."
    added = [anchor for label, anchor in _added().items() if label in frame.index]
    if sources := [f"({each['letter']}) {each['source']}, {each['note']}" for each in added]:
        said += (
            " The paper prints classes to two decimals; its ± is over three runs. Added by us, not in the paper: single networks "
            f"trained once in public, as their authors report them: {'; '.join(sources)}. “Public split” are the 70/10/20 lists by "
            "patient that ChestMNIST uses too; the paper does not publish its own."
        )
    return f"{said} {TABLE.watermark(study)}"


TABLE = Item("table3", "Table III", "04_tables", ("table3",), table, caption, "table")
