"""RoS-KD minus each other setting of Table I, seed by seed, with what chance alone would give."""

import math
from collections.abc import Mapping

import pandas as pd

from rosutils import InputError
from rosutils.metrics import paired_difference
from rosutils.results import PRINTED_AVERAGE, SETTINGS, published, select
from rosutils.tables.captions import averaging, counted, many


BASELINES = SETTINGS[:-1]


def pairs(better: pd.DataFrame, than: pd.DataFrame) -> pd.DataFrame:
    """Two selections of results side by side: one row per seed that both have, columns better, than, run_better, run_than.

    Raises InputError where a selection has two values for one seed.
    """
    sides = []
    for rows, name in ((better, "better"), (than, "than")):
        twice = rows[rows["seed"].duplicated(keep=False)]
        if len(twice):
            raise InputError(
                f"a comparison by seed needs one value of each setting per seed, found {len(twice)} of "
                f"{twice.iloc[0]['setting']} for {twice.iloc[0]['task']}, seed {twice.iloc[0]['seed']}; they differ in a column "
                f"that is not selected: keep the results of one profile, or delete results.csv and make it again"
            )
        sides.append(rows.set_index("seed")[["value", "run"]].set_axis([name, f"run_{name}"], axis=1))
    return sides[0].join(sides[1], how="inner").sort_index()


def f1_rows(results: pd.DataFrame, task: str, multilabel: bool, *, attack: str = "", **which) -> pd.DataFrame:
    """The F1 of one task in the averaging that the paper prints; `which` are further conditions of `results.select`."""
    average = PRINTED_AVERAGE[multilabel]
    return select(results, task=task, attack=attack, class_="", metric="f1", average=average, **which)


def differences(
    results: pd.DataFrame, task: str, multilabel: bool, *, student: str | None = "resnet18"
) -> pd.DataFrame:
    """RoS-KD's F1 minus every other setting's (Table I), paired by seed: baseline, mean, low, high (95 %), n, paper.

    `student` None is the only one there is; InputError where there are several.
    """
    rows = f1_rows(results, task, multilabel, variant="", **({} if student is None else {"student": student}))
    found = []
    for baseline, gain in _printed_gains(task).items():
        pair = pairs(select(rows, setting="RoS-KD"), select(rows, setting=baseline))
        if len(pair):
            found.append(
                {"baseline": baseline, **paired_difference(pair["better"], pair["than"])._asdict(), "paper": gain}
            )
    return pd.DataFrame(found, columns=["baseline", "mean", "low", "high", "n", "paper"])


def _printed_gains(task: str) -> pd.Series:
    """RoS-KD's printed F1 minus each baseline's (Table I), nan where the paper has none."""
    printed = pd.Series(
        {setting: row["f1"] for setting, row in published()["table1"].get(task, {}).items()}, dtype=float
    )
    printed = printed.reindex(SETTINGS)
    return (printed["RoS-KD"] - printed[list(BASELINES)]).round(3)  # as many decimals as are printed


def comparisons(
    results: pd.DataFrame, *, tasks: dict[str, dict], intervals: Mapping[tuple[str, str], tuple[float, float]]
) -> pd.DataFrame:
    """RoS-KD minus each baseline in F1 (Table I), paired by seed, beside the difference of the printed numbers.

    Columns are (task, "RoS-KD minus baseline", published or mean), (task, "95 % over seeds", low, high or n: Student's t,
    nan for one seed) and (task, "95 % over test groups", low or high: `intervals` by (task, baseline), where given). Rows of
    baselines that were not run are blank. Raises InputError for results of several students.
    """
    blocks = {}
    for task, about in tasks.items():
        found = differences(results, task, about["multilabel"], student=None).set_index("baseline").reindex(BASELINES)
        found = found.astype({"mean": float, "low": float, "high": float, "n": "Int64"})
        gains = {"published": _printed_gains(task), "mean": found["mean"]}
        ends = [intervals.get((task, baseline), (math.nan, math.nan)) for baseline in BASELINES]
        blocks[task, "RoS-KD minus baseline"] = pd.DataFrame(gains)
        blocks[task, "95 % over seeds"] = found[["low", "high", "n"]]
        blocks[task, "95 % over test groups"] = pd.DataFrame(ends, columns=["low", "high"], index=list(BASELINES))
    return pd.concat(blocks, axis=1, names=["task", "interval", "column"]).rename_axis("baseline")


def comparisons_caption(frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """What the columns of `comparisons` are, over how many seeds, and the profile's watermark."""
    counts = counted(frame)
    seeds = f"mean over {many(counts, 'seed')}, paired" if counts else "not run yet"
    one = " One seed (n = 1) gives no interval." if 1 in counts else ""
    return (
        f"RoS-KD minus each baseline in F1. Paper: the difference of its printed numbers. Ours: {seeds}. 95 % over seeds: "
        f"Student's t, how much a student's training varies.{one} 95 % over test groups: bootstrap of whole lesions or "
        f"patients, how much the choice of test images matters. {averaging(tasks)} {watermark}"
    ).strip()
