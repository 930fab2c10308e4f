"""Which measurements a claim compares, replicate by replicate, and what bars a comparison: no skill, or an idle attack."""

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rosutils.intervals import PairedDifference, paired_difference
from rosutils.paper.cells import number
from rosutils.paper.published import published
from rosutils.results import KEYS
from rosutils.settings import BASELINES, CHANCE, PRIMARY, PRINTED_AVERAGE, SETTINGS, TEACHERS


POOLS = {row.name: TEACHERS[row.pool == "subset"] for row in SETTINGS if row.teachers != "none"}
_SAYS = "always saying the same scores", "random scores have", "2.5 % of random scores reach"
SAYS = dict(zip(CHANCE, _SAYS, strict=True))
NAMES = {"f1": "F1", "auroc": "mean AUROC"}
SKILL = "validation_skill"  # see chance.skill_margin: overconfidence is no lack of skill
DECIDING_NORM, OTHER_NORMS = "l2", ("linf", "l2-scaled")  # the paper says l2; the others are readings of its radius
OTHER_SCALE = "the numbers of others are of the whole data at full size, these runs are not"

Measure = tuple[str, str]  # metric, average
Replicates = dict[int, tuple[float, str]]  # value and run


class Side(NamedTuple):
    """One side of a comparison: the student of a setting, and the variant it was trained under."""

    task: str
    setting: str
    student: str
    variant: str = ""
    value: str = ""


class Part(NamedTuple):
    """One comparison that a claim rests on, or (not `decides`) one that only stands beside it.

    `key` is what is compared, whichever claim it is for; `found` None where nothing was run; `barred` says why it can tell nothing.
    """

    label: str
    key: Hashable
    pairs: pd.DataFrame
    found: PairedDifference | None
    barred: str = ""
    decides: bool = True

    def untold(self) -> str:
        """Why it has no verdict, "" where it has one."""
        if self.found is None:
            return "Not run."
        if self.found.n < 2:
            return "One replicate gives no interval."
        barred = self.barred or ("the difference is not a number" if math.isnan(self.found.mean) else "")
        return barred and f"{barred[0].upper()}{barred[1:]}."


class Measured:
    """All that claims are about, by what it is of; the tasks, the attacks' radius, and whether the scale is the paper's own."""

    def __init__(self, results: pd.DataFrame, tasks: dict[str, dict], *, eps: float, as_printed: bool) -> None:
        self.tasks, self.eps, self.as_printed, self.paper = tasks, eps, as_printed, published()
        self._found: dict[tuple, Replicates] = defaultdict(dict)
        self._teachers: dict[Side, set[str]] = defaultdict(set)
        whole = results[(results["class"] == "") & results["metric"].isin([*NAMES, SKILL, "seconds"])]
        for row in pd.concat([whole, *_basins(results)]).itertuples(index=False):
            side = Side(row.task, row.setting, row.student, row.variant, row.variant_value)
            what = side, row.metric, row.average, row.attack, row.norm, f"{row.eps:.7g}"
            self._found[what][row.replicate] = row.value, row.run
            if row.metric == SKILL:
                self._teachers[side._replace(student="")].add(row.student)

    def of(self, side: Side, metric: str, average="", attack="", norm="", eps=math.nan) -> Replicates:
        """The replicates of one measurement; none where it was not made."""
        return self._found.get((side, metric, average, attack, norm, f"{eps:.7g}"), {})

    def mean(self, replicates: Collection[int], side: Side, *what, **more) -> float:
        """The mean of a measurement over the replicates that it has of these, nan where it has none."""
        values = [value for replicate, (value, _) in self.of(side, *what, **more).items() if replicate in replicates]
        return float(np.mean(values)) if values else math.nan

    def f1(self, task: str) -> Measure:
        """F1 in the averaging that the paper prints."""
        return "f1", PRINTED_AVERAGE[self.tasks[task]["multilabel"]]

    def primary(self, task: str) -> Measure:
        """The measure that decides."""
        return PRIMARY[self.tasks[task]["multilabel"]]

    def levels(self) -> list[str]:
        """The levels of loss of which there is a basin."""
        return sorted({what[2] for what in self._found if what[1] == "basin_area" and what[2]}, key=float)

    def barred(self, sides: Sequence[Side], measures: Sequence[Measure], replicates: Collection[int]) -> list[str]:
        """Why sides are not to be compared, [] where they are: each has to be above chance, its teachers above the base rates."""
        found = [why for side in sides for measure in measures for why in self.at_chance(side, measure, replicates)]
        return list(dict.fromkeys(found + [why for side in sides for why in self.ignorant(side, replicates)]))

    def at_chance(self, side: Side, measure: Measure, replicates: Collection[int], attack="", norm="") -> Iterator[str]:
        """Why a side is not above chance in a measure, mean over replicates, same test images; nothing where it is.

        With `attack` and `norm`, on the sample of images that is attacked, before that.
        """
        sample, before = ("attacked sample", {"attack": attack, "norm": norm, "eps": 0.0}) if attack else ("", {})
        what = NAMES[measure[0]] + (" on the images attacked" if attack else "")
        nobody = side._replace(student="")
        chance = {name: self.mean(replicates, nobody._replace(setting=name), *measure, sample) for name in CHANCE}
        ours, highest = self.mean(replicates, side, *measure, **before), max(chance, key=chance.__getitem__)
        if any(map(math.isnan, chance.values())):
            yield f"chance was not measured ({what})"
        elif math.isnan(ours):
            yield f"{NAMES[measure[0]]} of {side.setting} was not measured"
        elif ours <= chance[highest]:
            yield f"{side.setting} scores {number(ours)} in {what}, {SAYS[highest]} {number(chance[highest])}"

    def ignorant(self, side: Side, replicates: Collection[int]) -> Iterator[str]:
        """Which teachers of a side have a larger loss on validation than always saying the base rates; nothing where none."""
        if side.setting not in POOLS:
            return
        pool = side._replace(setting=POOLS[side.setting], student="")
        names = sorted(self._teachers.get(pool, ()))
        failed = [name for name in names if not self.mean(replicates, pool._replace(student=name), SKILL) > 0]
        if not names:
            yield f"the teachers of {side.setting} were not measured"
        elif failed:
            who = f"teacher{'s' if len(failed) > 1 else ''} {' and '.join(failed)}"
            yield f"always saying the base rates has a smaller loss than the {who} of {side.setting}"


def _basins(results: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The share of the plane below each level and, with no average, over all levels: means over directions, one of a training."""
    rows = results[results["metric"] == "basin_area"]
    for each in (rows, rows.assign(average="")):
        by = each.groupby([key for key in KEYS if key != "class"], dropna=False, as_index=False)
        yield by.agg(value=("value", "mean"), run=("run", "first"))


def of_table1(here: Measured, task: str, student: str) -> list[tuple[str, Part]]:
    """RoS-KD beside every other row of Table I that was run, by the deciding metric first: (metric, comparison) for each."""
    ours = Side(task, "RoS-KD", student)
    found = [
        (f"{NAMES[metric]} ({average})", _scored(here, (ours, ours._replace(setting=name)), name, (metric, average)))
        for metric, average in dict.fromkeys([here.primary(task), here.f1(task)]) for name in BASELINES
    ]  # fmt: skip
    return [(metric, part) for metric, part in found if part.found]


def parts_of(claim: dict, here: Measured) -> list[Part]:
    """The comparisons of a claim, those that decide first; a task that the profile lacks is one that was not run."""
    kinds = {"f1": _trained, "seconds": _run_time, "auroc": _against_print, "basin_area": _landscape}
    compare, find, found = claim["comparison"], _attacked if "attack" in claim else kinds[claim["metric"]], []
    for task in [claim["task"]] if isinstance(claim["task"], str) else claim["task"]:
        sides = [Side(task, compare[side], claim["student"]) for side in ("better", "than")]
        lacking = [_part(f"{task}, which the profile lacks", task, {}, {})]
        found += find(claim, here, sides) if task in here.tasks else lacking
    return sorted(found, key=lambda part: not part.decides)


def _trained(claim: dict, here: Measured, sides: list[Side]) -> Iterator[Part]:
    """Table I, Fig. 2 (one student, or all) and Fig. 3 (two ratios), by F1; of several labels, mean AUROC stands beside it."""
    task, everyone = sides[0].task, claim["student"] == "all"
    if "Fig. 2" in claim["where"]:
        sides = [side._replace(variant="students") for side in sides]
    if "overlap" in sides[0].setting:
        sides = [Side(task, "RoS-KD", side.student, "overlap", side.setting.split("overlap ")[1]) for side in sides]
    for student in here.paper["section_4b"]["teachers"] if everyone else [claim["student"]]:
        both, label = [side._replace(student=student) for side in sides], f"{task}, {student}" if everyone else task
        yield _scored(here, both, label, here.f1(task))
        if here.tasks[task]["multilabel"]:
            yield _scored(here, both, f"{label}, mean AUROC", here.primary(task))._replace(decides=False)


def _scored(here: Measured, sides: Sequence[Side], label: str, measure: Measure) -> Part:
    scores, task = [here.of(side, *measure) for side in sides], sides[0].task
    bars = here.barred(sides, [measure, here.primary(task)], scores[0].keys() & scores[1].keys())
    return _part(label, (*sides, measure[0]), *scores, bars)


def _attacked(claim: dict, here: Measured, sides: list[Side]) -> Iterator[Part]:
    """Table II: how F1 changes under the attack, the same teachers in both settings, for each reading of the radius."""
    task, f1 = sides[0].task, here.f1(sides[0].task)
    for norm in (DECIDING_NORM, *OTHER_NORMS):
        which = claim["attack"], norm
        moved = [pairs(here.of(side, *f1, *which, here.eps), here.of(side, *f1, *which, 0.0)) for side in sides]
        changes = [{i: (row.better - row.than, row.run_better) for i, row in m.iterrows()} for m in moved]
        both = changes[0].keys() & changes[1].keys()
        bars = here.barred(sides, [f1, here.primary(task)], both)
        bars += [why for side in sides for why in here.at_chance(side, f1, both, *which)]
        after, before = moved[1]["better"].mean(), moved[1]["than"].mean()
        if before - after <= here.paper["attack_moves"]:
            bars.append(f"the attack does not move {sides[1].setting} ({number(before)} → {number(after)})")
        yield _part(norm, (*sides, *which), *changes, bars, decides=norm == DECIDING_NORM)


def _against_print(claim: dict, here: Measured, sides: list[Side]) -> Iterator[Part]:
    """Table III: mean AUROC of our replicates less the number printed for other methods: one mean, so one comparison."""
    side, than = sides[0]._replace(variant="table3"), sides[1].setting
    ours = here.of(side, *PRIMARY[True])
    bars = here.barred([side], [PRIMARY[True]], ours) if here.as_printed else [OTHER_SCALE]
    for method in here.paper["table3"]["methods"]:
        if method["method"] == than or (than == "published methods" and method["method"] != "RoS-KD"):
            label = side.task if method["method"] == than else method["method"]
            yield _part(label, (side, "auroc"), ours, dict.fromkeys(ours, (method["mean"], "")), bars)


def _landscape(claim: dict, here: Measured, sides: list[Side]) -> Iterator[Part]:
    """Fig. 4: the share of the plane below each level; the mean over levels and directions is one number of a training."""
    for level in ["", *here.levels()]:
        areas = [here.of(side._replace(variant="landscape"), "basin_area", level) for side in sides]
        bars = here.barred(sides, [here.primary(sides[0].task)], areas[0].keys() & areas[1].keys())
        label = f"{sides[0].task}, loss within {level}" if level else sides[0].task
        yield _part(label, (*sides, "basin_area", level), *areas, bars, decides=not level)


def _run_time(claim: dict, here: Measured, sides: list[Side]) -> Iterator[Part]:
    """III-B1 and IV-C4: seconds of training, as a ratio; how well a network does makes it neither slower nor faster."""
    yield _part(sides[0].task, (*sides, "seconds"), *(here.of(side, "seconds") for side in sides), scale=np.log)


def _part(label: str, key: Hashable, better: Replicates, than: Replicates, bars=(), *, decides=True, scale=np.asarray):
    pair = pairs(better, than)
    found = paired_difference(scale(pair["better"]), scale(pair["than"])) if len(pair) else None
    return Part(label, key, pair, found, "; ".join(bars), decides)


def pairs(better: Replicates, than: Replicates) -> pd.DataFrame:
    """A row for each replicate that both sides have: better, than, run_better, run_than."""
    both = sorted(better.keys() & than.keys())
    rows = [(better[i][0], than[i][0], better[i][1], than[i][1]) for i in both]
    index, columns = pd.Index(both, name="replicate", dtype="int64"), ["better", "than", "run_better", "run_than"]
    return pd.DataFrame(rows, index, columns).astype({"better": float, "than": float})
