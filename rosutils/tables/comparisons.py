"""RoS-KD minus each other setting of Table I, replicate by replicate, with what chance alone would give."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.metrics import paired_difference
from rosutils.results import published, select
from rosutils.settings import PRINTED_AVERAGE, ROWS
from rosutils.tables.captions import averaging, counted, many


BASELINES = ROWS[:-1]


def pairs(better: pd.DataFrame, than: pd.DataFrame) -> pd.DataFrame:
    """Two selections of results side by side: a row per replicate that both have; better, than, run_better, run_than.

    Raises InputError where a selection has two values for one replicate.
    """
    sides = _one_each(better), _one_each(than)
    both = sorted(sides[0].keys() & sides[1].keys())
    values, runs = ([[side[replicate][part] for replicate in both] for side in sides] for part in (0, 1))
    better, than = np.array(values, dtype=float)
    columns = {"better": better, "than": than, "run_better": runs[0], "run_than": runs[1]}
    return pd.DataFrame(columns, index=pd.Index(both, name="replicate", dtype="int64"))


def _one_each(rows: pd.DataFrame) -> dict[int, tuple[float, str]]:
    """The value and the run of each replicate."""
    found = dict(zip(rows["replicate"], zip(rows["value"], rows["run"], strict=True), strict=True))
    if len(found) < len(rows):
        twice = rows[rows["replicate"].duplicated(keep=False)]
        raise InputError(
            f"a comparison by replicate needs one value of each setting per replicate, found {len(twice)} of "
            f"{twice.iloc[0]['setting']} for {twice.iloc[0]['task']}, replicate {twice.iloc[0]['replicate']}; they differ in a "
            f"column that is not selected: keep the results of one profile, or delete results.csv and make it again"
        )
    return found


def f1_rows(results: pd.DataFrame, task: str, multilabel: bool, *, attack: str = "", **which) -> pd.DataFrame:
    """The F1 of one task in the averaging that the paper prints; `which` are further conditions of `results.select`."""
    average = PRINTED_AVERAGE[multilabel]
    return select(results, task=task, attack=attack, class_="", metric="f1", average=average, **which)


def differences(
    results: pd.DataFrame, task: str, multilabel: bool, *, student: str | None, measure: tuple[str, str] | None = None
) -> pd.DataFrame:
    """RoS-KD minus every other setting (Table I), paired by replicate: baseline, mean, low, high (95 %), n, p, paper.

    `p` is two-sided, of no difference, for one comparison alone. `measure` is (metric, average), the F1 that the paper
    prints where it is None. `student` None is the only one there is; InputError where there are several.
    """
    metric, average = measure or ("f1", PRINTED_AVERAGE[multilabel])
    which = {"variant": "", "attack": "", "class_": ""} | ({} if student is None else {"student": student})
    rows = select(results, task=task, metric=metric, average=average, **which)
    gains, found = _printed_gains(task) if metric == "f1" else {}, []
    for baseline in BASELINES:
        pair = pairs(select(rows, setting="RoS-KD"), select(rows, setting=baseline))
        if len(pair):
            paired = paired_difference(pair["better"], pair["than"])
            p = 2 * min(paired.p_above(0), paired.p_below(0))
            found.append({"baseline": baseline, **paired._asdict(), "p": p, "paper": gains.get(baseline, math.nan)})
    return pd.DataFrame(found, columns=["baseline", "mean", "low", "high", "n", "p", "paper"])


def _printed_gains(task: str) -> pd.Series:
    """RoS-KD's printed F1 minus each baseline's (Table I), nan where the paper has none."""
    printed = pd.Series(
        {setting: row["f1"] for setting, row in published()["table1"].get(task, {}).items()}, dtype=float
    )
    printed = printed.reindex(ROWS)
    return (printed["RoS-KD"] - printed[list(BASELINES)]).round(3)  # as many decimals as are printed


def comparisons(
    results: pd.DataFrame, *, tasks: dict[str, dict], intervals: Mapping[tuple[str, str], tuple[float, float]]
) -> pd.DataFrame:
    """RoS-KD minus each baseline in F1 (Table I), paired by replicate, beside the difference of the printed numbers.

    Columns are (task, "RoS-KD minus baseline", published or mean), (task, "95 % over replicates", low, high or n:
    Student's t, nan for one replicate) and (task, "95 % over test groups", low or high: `intervals` by (task, baseline),
    where given). Rows of baselines that were not run are blank. Raises InputError for results of several students.
    """
    blocks = {}
    for task, about in tasks.items():
        found = differences(results, task, about["multilabel"], student=None).set_index("baseline").reindex(BASELINES)
        found = found.astype({"mean": float, "low": float, "high": float, "n": "Int64"})
        gains = {"published": _printed_gains(task), "mean": found["mean"]}
        ends = [intervals.get((task, baseline), (math.nan, math.nan)) for baseline in BASELINES]
        blocks[task, "RoS-KD minus baseline"] = pd.DataFrame(gains)
        blocks[task, "95 % over replicates"] = found[["low", "high", "n"]]
        blocks[task, "95 % over test groups"] = pd.DataFrame(ends, columns=["low", "high"], index=list(BASELINES))
    return pd.concat(blocks, axis=1, names=["task", "interval", "column"]).rename_axis("baseline")


def comparisons_caption(frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """What the columns of `comparisons` are, over how many replicates, and the profile's watermark."""
    counts = counted(frame)
    mean = f"mean over {many(counts, 'replicate')}, paired" if counts else "not run yet"
    one = " One replicate (n = 1) gives no interval." if 1 in counts else ""
    return (
        f"RoS-KD minus each baseline in F1. Paper: the difference of its printed numbers. Ours: {mean}. 95 % over replicates: "
        f"Student's t, how much the method varies from one to the next.{one} 95 % over test groups: bootstrap of whole lesions or "
        f"patients, how much the choice of test images matters. {averaging(tasks)} {watermark}"
    ).strip()
