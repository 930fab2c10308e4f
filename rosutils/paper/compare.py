"""Two studies beside each other: Table I of both, and the second minus the first, paired by replicate (beyond the paper)."""

from pathlib import Path
from typing import Any

import pandas as pd

from rosutils import InputError, params, results
from rosutils.paper.cells import AUROC, block, differences, measures
from rosutils.paper.table1 import OWN
from rosutils.results import select
from rosutils.settings import CHANCE, PLAIN, ROWS


def table(first: str, second: str, **sections: Any) -> pd.DataFrame:
    """Table I of two studies and its differences, from their results.csv: rows are settings, a block for each task and metric.

    A study is named by its profile or by its label, such as demo+alpha0.5; `sections` are laid over the second where it is
    named by its profile, `engine` over both. Columns are (task and metric, which of the two, ours, std, n and runs), and of
    the second minus the first mean, low, high (95 %, Student's t) and n over replicates of equal test parts; where these
    differ it is blank. Raises InputError where a study has no results, or the two have no task in common.
    """
    engine = {"engine": sections["engine"]} if "engine" in sections else {}
    (name, known, before), (other, _, after) = _read(first, **engine), _read(second, **sections)
    tasks = [task for task in known.tasks if {task} <= set(before["task"]) & set(after["task"])]
    if not tasks or name == other:
        why = "are the same study" if name == other else "have no task in common"
        raise InputError(f"{name} and {other} {why}; name two studies, such as demo and demo+alpha0.5")
    index, blocks = pd.Index([*ROWS, PLAIN, *CHANCE], name="setting"), {}
    for task in tasks:
        wanted = measures(known.data.sources[task].multilabel) | {AUROC: ("auroc", "macro")}
        for title, (metric, average) in wanted.items():
            which = {"task": task, "metric": metric, "average": average, "setting": list(index), **OWN}
            pair, place = [select(each, **which) for each in (before, after)], f"{task}, {title}"
            for label, rows in zip((name, other), pair, strict=True):
                blocks[place, label] = block(rows, index, by=["setting"])
            blocks[place, "second minus first"] = _differences(*pair, index)
    return pd.concat(blocks, axis=1, names=["task", "study", "column"])


def _read(study: str, **sections: Any) -> tuple[str, params.Parameters, pd.DataFrame]:
    """A study's label, its profile's parameters, and its results.csv."""
    profile, changes = (study, "") if Path(study).suffix in (".yaml", ".yml") else study.partition("+")[::2]
    parameters = params.load(profile, **sections)
    label = study if changes else params.label(profile, parameters)
    place = params.ROOT / parameters.engine.store
    if not (place / label / "results.csv").is_file():
        there = ", ".join(sorted(path.parent.name for path in place.glob("*/results.csv"))) or "none"
        raise InputError(
            f"the study '{label}' has no results in {place}, there are those of: {there}; run: make reproduce, or "
            "python -m rosutils reproduce with the same -y"
        )
    return label, parameters, results.read(place / label / "results.csv")


def _differences(before: pd.DataFrame, after: pd.DataFrame, index: pd.Index) -> pd.DataFrame:
    """The second minus the first for each setting over the replicates whose test parts are equal (no skill scores the same)."""
    chance = before.merge(after, on=["setting", "replicate"], suffixes=("", "_after"))
    chance = chance[chance["setting"].isin(CHANCE)]
    same = (chance["value"] == chance["value_after"]).groupby(chance["replicate"]).all()
    first, second = (select(each, replicate=list(same.index[same])) for each in (before, after))
    pairs = {name: (select(second, setting=name), select(first, setting=name)) for name in (*ROWS, PLAIN)}
    return differences(pairs).reindex(index)
