"""What paired differences say of a claim: p-values of what may be said, corrected for the number of comparisons (Holm)."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from statsmodels.stats.multitest import multipletests

from rosutils.metrics import PairedDifference


HOLDS, BETTER, FAILS = "holds", "better, but not by the printed gain", "does not hold"
UNKNOWN, NOT_RUN = "cannot be told", "not run"
VERDICTS = (HOLDS, BETTER, FAILS, UNKNOWN, NOT_RUN)
ALPHA = 0.05


class Bounds(NamedTuple):
    """What a claim says of the true difference: that it lies between `low` and `high`; `gain`: above 0 is better at all."""

    low: float
    high: float
    gain: bool = True


def bounds(claim: dict) -> Bounds:
    """Where a claim of params/published.yaml puts the true difference, or the log of the ratio of run times."""
    compare = claim["comparison"]
    if claim["metric"] == "seconds":
        low, high = compare.get("more_than"), compare.get("at_most")
        return Bounds(math.log(low) if low else -math.inf, math.log(high) if high else math.inf, gain=False)
    if "gain" in compare:
        return Bounds(compare["gain"] - claim["tolerance"], compare["gain"] + claim["tolerance"])
    return Bounds(compare.get("more_than", 0.0), math.inf)


def p_values(found: PairedDifference, between: Bounds) -> dict[str, float]:
    """The p-value of each thing that may be said: "inside" the bounds (two one-sided tests), "less", "more", "better", "worse".

    Each is twice that of a one-sided test. So all of them are read off one two-sided interval, of which one of two ends is
    wrong in no more than its level of all studies, wherever the true difference lies.
    """
    said = {
        "inside": max(found.p_above(between.low), found.p_below(between.high)),
        "less": found.p_below(between.low), "more": found.p_above(between.high),
    }  # fmt: skip
    if between.gain:
        said |= {"better": found.p_above(0.0), "worse": found.p_below(0.0)}
    return {name: min(1.0, 2 * p) for name, p in said.items()}


def unsettled(said: Mapping[str, float]) -> float:
    """The level up to which something that `p_values` is about stays open: the place of the difference, or whether it is a gain."""
    place = min(said["inside"], said["less"], said["more"])
    return max(place, min(said["better"], said["worse"])) if "better" in said else place


class Holm:
    """Holm's correction over distinct comparisons, from the level up to which each is `unsettled`.

    A comparison makes way for the others once nothing more can be said of it that is wrong. Were it to do so once anything is
    said, those that are surely smaller than printed would make way for calling each other better or worse.
    """

    def __init__(self, levels: Iterable[float]) -> None:
        self._levels = sorted(levels)
        self.count = len(self._levels)
        corrected = multipletests(self._levels, method="holm", is_sorted=True)[1] if self.count else []
        self._corrected = [0.0, *map(float, corrected)]

    def __call__(self, p: float) -> float:
        """The corrected p-value of something said about one of the comparisons."""
        before = bisect_left(self._levels, p)
        left = max(1, self.count - before)  # also where p is larger than any level, since what it says is not so
        return max(self._corrected[before], min(1.0, left * p))


def decide(corrected: Mapping[str, float]) -> str:
    """The verdict of VERDICTS that corrected `p_values` bear."""
    shown = {name for name, p in corrected.items() if p < ALPHA}
    if "inside" in shown:
        return HOLDS
    if shown & {"less", "more"}:
        return BETTER if "better" in shown else FAILS
    return UNKNOWN


def p_in_words(p: float) -> str:
    """ "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
