"""Table III: AUROC per class beside the published methods, and beside public networks that the paper does not have."""

from string import ascii_lowercase

import pandas as pd

from rosutils.results import published, select, summary
from rosutils.settings import CHANCE
from rosutils.tables.captions import spread_over
from rosutils.tables.scores import beside, no_skill


OURS = "RoS-KD"
MEAN = "Mean"


def table3(results: pd.DataFrame, *, task: str) -> pd.DataFrame:
    """Table III: AUROC per class and their mean, ours over the replicates of variant "table3" (n of them); no skill's mean.

    Columns are (class, one of published, published std, ours, std, n, difference, public); the paper's methods have
    published values, its RoS-KD also ours, and the public networks that we add ("added (a): ...") only public ones. A task
    that is not the paper's has its own row alone; what was not run is blank.
    """
    rows = select(results, task=task, setting=OURS, variant="table3", attack="", metric="auroc")
    rows = rows[(rows["class"] != "") | (rows["average"] == "macro")]
    ours = summary(rows.assign(**{"class": rows["class"].replace("", MEAN)}), by=["class"]).set_index("class")
    paper, stds, public = _printed(task)
    index = pd.Index([*paper, *CHANCE, *public], name="method")
    chance = no_skill(results, task, "auroc", "macro", variant="table3")
    classes = dict.fromkeys([*paper[OURS].index[:-1], *ours.index.drop(MEAN, errors="ignore"), MEAN])
    blocks = {}
    for name in classes:
        block = beside(_only(ours, name, index), _row(paper, name, index))
        if name == MEAN:
            block.update(chance.rename(columns={"mean": "ours"}))
        block.insert(1, "published std", _row({OURS: stds}, name, index))
        blocks[name] = block.assign(public=_row(public, name, index))
    return pd.concat(blocks, axis=1, names=["class", "column"])


def _only(ours: pd.DataFrame, name: str, index: pd.Index) -> pd.DataFrame:
    """Our summary of one class, in the row of RoS-KD."""
    return ours[ours.index == name].set_axis([OURS] * int(name in ours.index)).reindex(index)


def _row(methods: dict[str, pd.Series], name: str, index: pd.Index) -> pd.Series:
    return pd.Series({method: values.get(name) for method, values in methods.items()}, dtype=float).reindex(index)


def _printed(task: str) -> tuple[dict[str, pd.Series], pd.Series, dict[str, pd.Series]]:
    """By method: what the paper prints per class and as mean; its std; what public networks have, which we add."""
    printed = published()["table3"]
    if task != printed["task"]:
        return {OURS: pd.Series([float("nan")], index=[MEAN])}, pd.Series(dtype=float), {}
    classes = printed["classes"]
    paper = {m["method"]: pd.Series([*m["auroc"], m["mean"]], [*classes, MEAN]) for m in printed["methods"]}
    stds = pd.Series(next(m["std"] for m in printed["methods"] if m["method"] == OURS), classes)
    public = {label: pd.Series(a["auroc"], classes) for label, a in _added().items()}
    return paper, stds, {label: pd.concat([each, pd.Series({MEAN: each.mean()})]) for label, each in public.items()}


def _added() -> dict[str, dict]:
    """The public networks by their label: a letter for the caption, what it is, and on which split."""
    split = {True: "public split", False: "another split"}
    return {
        f"added ({letter}): {anchor['method']}, {split[anchor['same_split']]}": anchor
        for letter, anchor in zip(ascii_lowercase, published()["table3"]["anchors"], strict=False)
    }


def table3_caption(frame: pd.DataFrame, *, watermark: str) -> str:
    """What the rows of `table3` are, where the added ones are from, over how many runs, and the profile's watermark."""
    said = f"Table III, AUROC. Ours: {spread_over(frame.loc[[OURS]], 'independent run')}."
    said += " A run has a split, teachers and a student of its own; the scale is that of the sweeps."
    if sources := [f"({label[7]}) {a['source']}, {a['note']}" for label, a in _added().items() if label in frame.index]:
        said += (
            " The paper prints classes to two decimals; its ± is over three runs. Added by us, not in the paper: single networks "
            f"trained once in public, as their authors report them: {'; '.join(sources)}. “Public split” are the 70/10/20 lists by "
            "patient that ChestMNIST uses too; the paper does not publish its own."
        )
    return f"{said} {watermark}".strip()
