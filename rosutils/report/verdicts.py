"""What the paired differences between RoS-KD and the other settings say (Table I), replicate by replicate."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from rosutils.report.decisions import ALPHA, Holm, p_in_words
from rosutils.report.gates import NAMES, Gates, Measure, Side
from rosutils.results import select
from rosutils.settings import PRIMARY, PRINTED_AVERAGE
from rosutils.tables import differences, interval, pairs, signed


Intervals = Mapping[tuple[str, str], tuple[float, float]]  # (task, baseline) -> low, high
# How a difference enters the sentence, and what its line says.
WORDS = {
    "beats": ("better", "good"), "is worse than": ("worse", "bad"), "is not shown to beat": ("not shown", "open"),
    "is above": ("one replicate decides nothing", "open"), "is not above": ("one replicate decides nothing", "open"),
}  # fmt: skip


class Difference(NamedTuple):
    """RoS-KD minus a baseline in one metric, as `tables.differences` has it, and why the two are not to be compared."""

    baseline: str
    mean: float
    low: float
    high: float
    n: int
    p: float
    paper: float
    metric: str
    pairs: pd.DataFrame
    barred: str
    corrected: float = math.nan

    def judged(self) -> bool:
        """Whether it is one that can show anything."""
        return self.n > 1 and not self.barred

    def said(self) -> str:
        """What it shows, one of WORDS."""
        if self.n < 2:
            return "is above" if self.mean > 0 else "is not above"
        if not self.corrected < ALPHA:
            return "is not shown to beat"
        return "beats" if self.mean > 0 else "is worse than"


def verdict(
    results: pd.DataFrame, task: str, multilabel: bool, *, student: str, intervals: Intervals | None = None
) -> dict:
    """What the paired differences of one task say (Table I), in words (`text`) and as `lines`, the deciding metric first.

    A difference is shown where its p-value is below 0.05 after Holm's correction over all lines of the task. Settings at
    chance, or whose teachers know less than the base rates, are not compared. `intervals` are over test groups, of F1.
    """
    measures = list(dict.fromkeys([PRIMARY[multilabel], ("f1", PRINTED_AVERAGE[multilabel])]))
    gates, ours = Gates(select(results, task=task, variant="")), Side(task, "RoS-KD", student)
    found = [line for measure in measures for line in _compared(results, gates, ours, multilabel, measure)]
    holm = Holm(line.p for line in found if line.judged())
    found = [line._replace(corrected=holm(line.p)) if line.judged() else line for line in found]
    groups = over_groups(intervals or {}, task)
    lines = [_line(line, groups) for line in found]
    return {"task": task, "text": _text(found, len(measures) > 1), "lines": lines, "bootstrapped": bool(groups)}


def _compared(
    results: pd.DataFrame, gates: Gates, ours: Side, multilabel: bool, measure: Measure
) -> Iterable[Difference]:
    metric, average = measure
    which = {"metric": metric, "average": average, "attack": "", "class_": ""}
    passed = list(dict.fromkeys([PRIMARY[multilabel], measure]))  # what has to be above chance
    table = differences(results, ours.task, multilabel, student=ours.student, measure=measure)
    for row in table.itertuples(index=False):
        sides = (ours, ours._replace(setting=row.baseline))
        pair = pairs(*(side.rows(results, **which) for side in sides))
        barred = "; ".join(gates.barred(sides, passed, pair.index))
        yield Difference(*row, f"{NAMES[metric]} ({average})", pair, barred)


def _text(lines: Sequence[Difference], several_metrics: bool) -> str:
    """What is shown by each metric, and what is not to be compared and why."""
    if not lines:
        return "Nothing to compare yet: RoS-KD or its baselines have not been run."
    free = [line for line in lines if not line.barred]
    metrics = dict.fromkeys(line.metric for line in free)
    found = [
        f"{f'By {metric}, over' if several_metrics else 'Over'} {_sentence([line for line in free if line.metric == metric])}"
        for metric in metrics
    ]
    reasons = dict.fromkeys(line.barred for line in lines if line.barred)
    found += [_barred([line for line in lines if line.barred == reason], several_metrics) for reason in reasons]
    return " ".join(found)


def _sentence(lines: Sequence[Difference]) -> str:
    counts = sorted({line.n for line in lines})
    groups = {words: _names(line for line in lines if line.said() == words) for words in WORDS}
    said = "; it ".join(f"{words} {_and(names)}" for words, names in groups.items() if names)
    if counts == [1]:
        return f"one replicate RoS-KD {said}. One replicate: no interval can be given, so this decides nothing."
    return f"{_and(counts)} replicates RoS-KD {said}."


def _barred(lines: Sequence[Difference], several_metrics: bool) -> str:
    by = f"By {_and(dict.fromkeys(line.metric for line in lines))}, nothing" if several_metrics else "Nothing"
    return f"{by} can be told of {_and(_names(lines))}: {lines[0].barred}."


def _names(lines: Iterable[Difference]) -> list[str]:
    return list(dict.fromkeys(line.baseline.replace(",", " with") for line in lines))


def _line(line: Difference, groups: Mapping[str, str]) -> dict:
    """One difference as the page shows it."""
    said, kind = (f"cannot be told: {line.barred}", "open") if line.barred else WORDS[line.said()]
    return {
        "baseline": line.baseline, "metric": line.metric, "mean": signed(line.mean), "n": line.n, "said": said, "kind": kind,
        "interval": interval(line.low, line.high) if line.n > 1 else "one replicate: no interval",
        "p": p_in_words(line.corrected) if line.judged() else "", "paper": signed(line.paper), "pairs": line.pairs,
        "bootstrap": groups.get(line.baseline, "") if line.metric.startswith(NAMES["f1"]) else "",
    }  # fmt: skip


def over_groups(intervals: Intervals, task: str) -> dict[str, str]:
    """The intervals over test groups of one task in words, by baseline; none where it has none."""
    found = {baseline: ends for (name, baseline), ends in intervals.items() if name == task}
    return {baseline: interval(*ends) for baseline, ends in found.items() if not math.isnan(ends[0])}


def _and(items: Iterable[object]) -> str:
    items = [str(item) for item in items]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
