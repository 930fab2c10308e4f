"""Which measurements a claim compares, replicate by replicate, and what bars a comparison: no skill, or an idle attack."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rosutils.intervals import PairedDifference, paired_difference
from rosutils.paper.cells import number
from rosutils.paper.published import published
from rosutils.results import KEYS
from rosutils.settings import BASELINES, CHANCE, PRIMARY, PRINTED_AVERAGE, SETTINGS, TEACHERS


POOLS = {row.name: TEACHERS[row.pool == "subset"] for row in SETTINGS if row.teachers != "none"}
SAYS = dict(zip(CHANCE, ("always saying the same scores", "random scores have", "2.5 % of random scores reach"), strict=True))
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
    needs: str
    barred: str = ""
    decides: bool = True

    def untold(self) -> str:
        """Why it has no verdict, "" where it has one."""
        if self.found is None:
            return f"Not run: it needs {self.needs}."
        if self.found.n < 2:
            return "One replicate gives no interval."
        if self.barred:
            return f"{self.barred[0].upper()}{self.barred[1:]}."
        return "The difference is not a number." if math.isnan(self.found.mean) else ""


class Measured:
    """All that claims are about, by what it is of; the tasks, the attacks' radius, and whether the scale is the paper's own."""

    def __init__(self, results: pd.DataFrame, tasks: dict[str, dict], *, eps: float, as_printed: bool) -> None:
        self.tasks, self.eps, self.as_printed, self.paper = tasks, eps, as_printed, published()
        self._found: dict[tuple, Replicates] = defaultdict(dict)
        self._teachers: dict[Side, set[str]] = defaultdict(set)
        whole = results[(results["class"] == "") & results["metric"].isin([*NAMES, SKILL, "seconds"])]
        for row in pd.concat([whole, *_basins(results)]).itertuples(index=False):
            side = Side(row.task, row.setting, row.student, row.variant, row.variant_value)
            what = side, row.metric, row.average, row.attack, row.norm, _radius(row.eps)
            self._found[what][row.replicate] = row.value, row.run
            if row.metric == SKILL:
                self._teachers[side._replace(student="")].add(row.student)

    def of(self, side: Side, metric: str, average: str = "", attack: str = "", norm: str = "", eps=math.nan) -> Replicates:
        """The replicates of one measurement; none where it was not made."""
        return self._found.get((side, metric, average, attack, norm, _radius(eps)), {})

    def mean(self, replicates: Collection[int], side: Side, *what, **more) -> float:
        """The mean of a measurement over the replicates that it has of these, nan where it has none."""
        values = [value for replicate, (value, _) in self.of(side, *what, **more).items() if replicate in replicates]
        return float(np.mean(values)) if values else math.nan

    def levels(self) -> list[str]:
        """The levels of loss of which there is a basin."""
        return sorted({what[2] for what in self._found if what[1] == "basin_area" and what[2]}, key=float)

    def barred(self, sides: Iterable[Side], measures: Iterable[Measure], replicates: Collection[int]) -> list[str]:
        """Why sides are not to be compared, [] where they are: each has to be above chance, its teachers above the base rates."""
        sides, measures = list(sides), list(dict.fromkeys(measures))
        found = [why for side in sides for measure in measures for why in self.at_chance(side, measure, replicates)]
        return list(dict.fromkeys(found + [why for side in sides for why in self.ignorant(side, replicates)]))

    def at_chance(self, side: Side, measure: Measure, replicates: Collection[int], attack="", norm="") -> Iterator[str]:
        """Why a side is not above chance in a measure, mean over replicates, same test images; nothing where it is.

        With `attack` and `norm`, on the sample of images that is attacked, before that.
        """
        sample, before = ("attacked sample", {"attack": attack, "norm": norm, "eps": 0.0}) if attack else ("", {})
        what = NAMES[measure[0]] + (" on the images attacked" if attack else "")
        nobodies = {name: side._replace(setting=name, student="") for name in CHANCE}
        chance = {name: self.mean(replicates, who, *measure, sample) for name, who in nobodies.items()}
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


def _radius(eps: float) -> str:
    return "" if math.isnan(eps) else f"{eps:.7g}"


def of_table1(here: Measured, task: str, student: str) -> list[tuple[str, Part]]:
    """RoS-KD beside every other row of Table I that was run, by the deciding metric first: (metric, comparison) for each."""
    found, f1 = [], _f1(here, task)
    for metric, average in dict.fromkeys([PRIMARY[here.tasks[task]["multilabel"]], f1]):
        for name in BASELINES:
            sides = [Side(task, setting, student) for setting in ("RoS-KD", name)]
            found.append((f"{NAMES[metric]} ({average})", _scored(here, sides, name, (metric, average), name)))
    return [(metric, part) for metric, part in found if part.found]


def parts_of(claim: dict, here: Measured) -> list[Part]:
    """The comparisons of a claim, those that decide first; a task that the profile lacks is one that was not run."""
    found = []
    for task in [claim["task"]] if isinstance(claim["task"], str) else claim["task"]:
        lacking = [Part(task, task, _pairs({}, {}), None, f"the task {task}, which this profile does not have")]
        found += _finder(claim)(claim, here, task) if task in here.tasks else lacking
    return sorted(found, key=lambda part: not part.decides)


def _finder(claim: dict) -> Callable[[dict, Measured, str], Iterator[Part]]:
    if "attack" in claim:
        return _attacked
    kinds = {"seconds": _run_time, "auroc": _against_print, "basin_area": _landscape}
    return kinds.get(claim["metric"], _overlap if "overlap" in claim["comparison"]["better"] else _trained)


def _trained(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """Table I (the profile's own runs) and Fig. 2 (variant "students"), for one student or for all."""
    variant = "students" if "Fig. 2" in claim["where"] else ""
    everyone = claim["student"] == "all"
    for student in here.paper["section_4b"]["teachers"] if everyone else [claim["student"]]:
        needs = f"student {student}{' of Fig. 2' if variant else ''}, {_both(claim)}"
        sides = [side._replace(student=student, variant=variant) for side in _sides(claim, task)]
        yield from _by_f1(here, sides, f"{task}, {student}" if everyone else task, needs)


def _overlap(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """Fig. 3: RoS-KD at two overlap ratios, teachers retrained at each."""
    ratios = [claim["comparison"][side].split("overlap ")[1] for side in ("better", "than")]
    sides = [Side(task, "RoS-KD", claim["student"], "overlap", ratio) for ratio in ratios]
    yield from _by_f1(here, sides, task, f"Fig. 3's runs, {_both(claim)}")


def _by_f1(here: Measured, sides: Sequence[Side], label: str, needs: str) -> Iterator[Part]:
    """F1 decides, since the paper prints it; where images have several labels, mean AUROC stands beside it."""
    task = sides[0].task
    yield _scored(here, sides, label, _f1(here, task), needs)
    if here.tasks[task]["multilabel"]:
        yield _scored(here, sides, f"{label}, mean AUROC", PRIMARY[True], needs)._replace(decides=False)


def _scored(here: Measured, sides: Sequence[Side], label: str, measure: Measure, needs: str) -> Part:
    pair = _pairs(*(here.of(side, *measure) for side in sides))
    bars = here.barred(sides, [measure, PRIMARY[here.tasks[sides[0].task]["multilabel"]]], pair.index)
    return _part(label, (*sides, measure[0]), pair, needs, bars)


def _attacked(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """Table II: how F1 changes under the attack, the same teachers in both settings, for each reading of the radius."""
    sides, f1 = _sides(claim, task), _f1(here, task)
    for norm in (DECIDING_NORM, *OTHER_NORMS):
        which = f1 + (claim["attack"], norm)
        moved = [_pairs(here.of(side, *which, here.eps), here.of(side, *which, 0.0)) for side in sides]
        changes = [dict(zip(m.index, zip(m["better"] - m["than"], m["run_better"], strict=True), strict=True)) for m in moved]
        pair = _pairs(*changes)
        bars = here.barred(sides, [f1, PRIMARY[here.tasks[task]["multilabel"]]], pair.index)
        bars += [why for side in sides for why in here.at_chance(side, f1, pair.index, *which[2:])]
        after, before = moved[1]["better"].mean(), moved[1]["than"].mean()
        if before - after <= here.paper["attack_moves"]:
            bars.append(f"the attack does not move {sides[1].setting} ({number(before)} → {number(after)})")
        needs = f"{claim['attack'].upper()} with the radius {here.eps:.4g}, {norm}, on {_both(claim)}"
        yield _part(norm, (*sides, *which[2:]), pair, needs, bars, norm == DECIDING_NORM)


def _against_print(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """Table III: mean AUROC of our replicates less the number printed for other methods: one mean, so one comparison."""
    side, than = Side(task, "RoS-KD", claim["student"], "table3"), claim["comparison"]["than"]
    ours = here.of(side, *PRIMARY[True])
    bars = here.barred([side], [PRIMARY[True]], ours) if here.as_printed else [OTHER_SCALE]
    for method in here.paper["table3"]["methods"]:
        if method["method"] == than or (than == "published methods" and method["method"] != "RoS-KD"):
            label, printed = task if method["method"] == than else method["method"], (method["mean"], "")
            yield _part(label, (side, "auroc"), _pairs(ours, dict.fromkeys(ours, printed)), "the runs of Table III", bars)


def _landscape(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """Fig. 4: the share of the plane below each level; the mean over levels and directions is one number of a training."""
    sides, needs = _sides(claim, task), f"the loss surfaces of {_both(claim)}"
    for level in ["", *here.levels()]:
        pair = _pairs(*(here.of(side._replace(variant="landscape"), "basin_area", level) for side in sides))
        bars = here.barred(sides, [PRIMARY[here.tasks[task]["multilabel"]]], pair.index)
        label = f"{task}, loss within {level}" if level else task
        yield _part(label, (*sides, "basin_area", level), pair, needs, bars, not level)


def _run_time(claim: dict, here: Measured, task: str) -> Iterator[Part]:
    """III-B1 and IV-C4: seconds of training, as a ratio; how well a network does makes it neither slower nor faster."""
    sides = _sides(claim, task)
    pair = _pairs(*(here.of(side, "seconds") for side in sides))
    found = paired_difference(np.log(pair["better"]), np.log(pair["than"])) if len(pair) else None
    yield Part(task, (*sides, "seconds"), pair, found, f"the run times of {_both(claim)}")


def _part(label: str, key: Hashable, pair: pd.DataFrame, needs: str, bars: list[str], decides: bool = True) -> Part:
    found = paired_difference(pair["better"], pair["than"]) if len(pair) else None
    return Part(label, key, pair, found, needs, "; ".join(bars), decides)


def _pairs(better: Replicates, than: Replicates) -> pd.DataFrame:
    """A row for each replicate that both sides have: better, than, run_better, run_than."""
    both = sorted(better.keys() & than.keys())
    rows = [(better[i][0], than[i][0], better[i][1], than[i][1]) for i in both]
    index = pd.Index(both, name="replicate", dtype="int64")
    found = pd.DataFrame(rows, index, ["better", "than", "run_better", "run_than"])
    return found.astype({"better": float, "than": float})


def _f1(here: Measured, task: str) -> Measure:
    return "f1", PRINTED_AVERAGE[here.tasks[task]["multilabel"]]


def _sides(claim: dict, task: str) -> list[Side]:
    return [Side(task, claim["comparison"][side], claim["student"]) for side in ("better", "than")]


def _both(claim: dict) -> str:
    return f"{claim['comparison']['better']} and {claim['comparison']['than']}"
