"""Where a comparison can tell nothing: settings no better than chance, teachers that know less than the base rates."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from rosutils.results import select
from rosutils.settings import CHANCE, TEACHERS
from rosutils.tables import number


FULL, SUBSET = TEACHERS
POOLS = {
    "Baseline II": FULL, "Baseline III": FULL, "Baseline IV": FULL,
    "Baseline III, subset teachers": SUBSET, "Baseline V": SUBSET, "RoS-KD": SUBSET,
}  # fmt: skip
SAYS = dict(
    zip(CHANCE, ("always saying the same scores", "random scores have", "2.5 % of random scores reach"), strict=True)
)
NAMES = {"f1": "F1", "auroc": "mean AUROC"}
MARGIN = "validation_skill"  # see chance.skill_margin: overconfidence is no lack of skill
NAN = float("nan")

Measure = tuple[str, str]  # metric, average


class Side(NamedTuple):
    """One side of a comparison: the student of a setting, and where it was trained."""

    task: str
    setting: str
    student: str
    variant: str = ""
    overlap: float | None = None

    def rows(self, results: pd.DataFrame, **which) -> pd.DataFrame:
        """Its measurements; `which` are further conditions of `results.select`."""
        ratio = {} if self.overlap is None else {"overlap": self.overlap}
        own = {"task": self.task, "setting": self.setting, "student": self.student, "variant": self.variant}
        return select(results, **own, **ratio, **which)


class Gates:
    """What has to be passed before two sides are compared, from the scores without attack, or before one, of all settings."""

    def __init__(self, results: pd.DataFrame) -> None:
        rows = results[(results["class"] == "") & ~(results["eps"] > 0) & results["metric"].isin([*NAMES, MARGIN])]
        self._values: dict[tuple, dict[int, float]] = defaultdict(dict)
        self._teachers: dict[Side, set[str]] = defaultdict(set)
        for row in rows.itertuples(index=False):
            ratio = row.overlap if row.variant == "overlap" and not pd.isna(row.overlap) else None
            side = Side(row.task, row.setting, row.student, row.variant, ratio)
            self._values[side, row.attack, row.norm, row.metric, row.average][row.replicate] = row.value
            if row.metric == MARGIN:
                self._teachers[side._replace(student="")].add(row.student)

    def barred(self, sides: Sequence[Side], measures: Sequence[Measure], replicates: Collection[int]) -> list[str]:
        """Why sides are not to be compared, [] where they are: each has to be above chance, its teachers above the base rates."""
        found = [why for side in sides for measure in measures for why in self.at_chance(side, measure, replicates)]
        found += [why for side in sides for why in self.ignorant(side, replicates)]
        return list(dict.fromkeys(found))

    def at_chance(
        self, side: Side, measure: Measure, replicates: Collection[int], *, attack: str = "", norm: str = ""
    ) -> Iterator[str]:
        """Why a side is not above chance in a measure: mean over replicates, same test images; nothing where it is.

        With `attack` and `norm`, on the sample of images that is attacked, before that.
        """
        sample, where = ("attacked sample", " on the images attacked") if attack else ("", "")
        nobodies = {name: side._replace(setting=name, student="", overlap=None) for name in CHANCE}
        chance = {name: self._mean(replicates, nobody, sample, "", *measure) for name, nobody in nobodies.items()}
        ours, highest = self._mean(replicates, side, attack, norm, *measure), max(chance, key=chance.__getitem__)
        if any(value != value for value in chance.values()):
            yield f"chance was not measured ({NAMES[measure[0]]}{where})"
        elif ours != ours:
            yield f"{NAMES[measure[0]]} of {side.setting} was not measured"
        elif ours <= chance[highest]:
            what = f"{NAMES[measure[0]]}{where}"
            yield f"{side.setting} scores {number(ours)} in {what}, {SAYS[highest]} {number(chance[highest])}"

    def ignorant(self, side: Side, replicates: Collection[int]) -> Iterator[str]:
        """Which teachers of a side have a larger loss on validation than always saying the base rates; nothing where none."""
        if side.setting not in POOLS:
            return
        pool = side._replace(setting=POOLS[side.setting], student="")
        margins = {
            student: self._mean(replicates, pool._replace(student=student), "", "", MARGIN, "")
            for student in sorted(self._teachers.get(pool, ()))
        }
        if not margins:
            yield f"the teachers of {side.setting} were not measured"
        elif failed := [student for student, margin in margins.items() if not margin > 0]:
            who = f"teacher{'s' if len(failed) > 1 else ''} {' and '.join(failed)}"
            yield f"always saying the base rates has a smaller loss than the {who} of {side.setting}"

    def _mean(self, replicates: Collection[int], *cell) -> float:
        found = self._values.get(cell, {})
        values = [found[replicate] for replicate in replicates if replicate in found]
        return fmean(values) if values else NAN
