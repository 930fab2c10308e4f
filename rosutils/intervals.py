"""How sure a difference is: over replicates (paired, Student's t), and over the choice of test images (bootstrap over groups).

Images of one lesion or patient are alike, so the groups of Section IV-A's split are drawn with replacement, not the
images (the cluster bootstrap of Davison and Hinkley 1997, section 3.8). F1 follows from counts that add up over groups: a
resample is a weighted sum of them, and no image is looked at twice.
"""

from collections import namedtuple
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Generator, Tensor

from rosutils import InputError, check_count
from rosutils.metrics import averagings, decided, of_counts


FEWEST = 40  # resamples that have one beyond each end of a 95 % interval


class PairedDifference(NamedTuple):
    """Mean of n paired differences and its 95 % interval, Student's t."""

    mean: float
    low: float
    high: float
    n: int

    def p_above(self, bound: float) -> float:
        """One-sided p-value of a true difference above `bound`; nan for one pair."""
        return float(special.stdtr(self.n - 1, -self._t(bound)))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of a true difference below `bound`; nan for one pair."""
        return float(special.stdtr(self.n - 1, self._t(bound)))

    def smallest_told(self) -> float:
        """The true difference that n pairs with this spread show in four of five studies (two-sided 5 %); nan for one pair."""
        if not self.high - self.mean > 0:
            return self.high - self.mean
        from statsmodels.stats.power import TTestPower  # here, for it takes a second: a report alone asks

        spread = (self.high - self.mean) / float(special.stdtrit(self.n - 1, 0.975)) * self.n**0.5
        return spread * float(TTestPower().solve_power(nobs=self.n, alpha=0.05, power=0.8))

    def _t(self, bound: float) -> float:
        gap, half = self.mean - bound, self.high - self.mean
        if half == 0:  # pairs that all differ by the same
            return float(np.sign(gap)) * np.inf if gap else 0.0
        return gap / half * float(special.stdtrit(self.n - 1, 0.975))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """Mean of a - b over pairs of the same replicate, with Student's t 95 % interval (nan for one pair)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise InputError(f"paired values are equally many, found {a.size} and {b.size}; give one of each per replicate")
    mean, n = float((a - b).mean()), a.size
    half = float(special.stdtrit(n - 1, 0.975) * (a - b).std(ddof=1) / n**0.5) if n > 1 else float("nan")
    return PairedDifference(mean, mean - half, mean + half, n)


Interval = namedtuple("Interval", ["low", "high"])  # both ends of a 95 % interval


class Scored(NamedTuple):
    """What a system says of a replicate's test part: logits [N, C], labels [N] or [N, C], groups [N], its threshold or [C]."""

    logits: Tensor
    labels: Tensor
    groups: Tensor
    thresholds: Tensor | None = None


def difference_interval(
    a: Sequence[Scored], b: Sequence[Scored], *, average: str, multilabel: bool, resamples: int, generator: Generator
) -> Interval:
    """95 % percentile interval of system a's F1 minus system b's, groups of test images drawn with replacement.

    Each system has one entry per replicate, in the same order; what is resampled is the mean over replicates. A group that
    is in the test parts of several replicates is drawn as often for each, for both systems alike. `average` is one of
    `metrics.precision_recall_f1` but "samples".
    """
    _check(a, b, average, multilabel, resamples)
    every = torch.cat([scored.groups for scored in (*a, *b)]).unique()
    counts = [_of_groups(scored, every, multilabel) for scored in (*a, *b)]
    values = _resampled(torch.stack(counts, dim=1), average, resamples, generator)
    return percentile_interval(values[:, : len(a)].mean(dim=1) - values[:, len(a) :].mean(dim=1))


def percentile_interval(values: Tensor) -> Interval:
    """The values [R] of the resamples without 2.5 % at either end (Efron and Tibshirani 1993, chapter 13)."""
    return Interval(*torch.quantile(values, values.new_tensor([0.025, 0.975])).tolist())


def _check(a: Sequence[Scored], b: Sequence[Scored], average: str, multilabel: bool, resamples: int) -> None:
    if len(a) != len(b) or not a:
        raise InputError(f"the systems have {len(a)} and {len(b)} replicates; both need equally many, at least one")
    for _, labels, groups, _ in (*a, *b):
        if groups.shape != labels.shape[:1]:
            raise InputError(f"groups have shape {tuple(groups.shape)} for {len(labels)} images; give one per image")
        if len(groups.unique()) < 2:
            raise InputError(f"groups are {groups.unique().tolist()}; drawing whole groups takes at least two of them")
    allowed = [name for name in averagings(multilabel) if name != "samples"]
    if average not in allowed:
        raise InputError(f"average is {average!r}; allowed are {', '.join(allowed)}")
    check_count("resamples", resamples, FEWEST, "a 95 % interval needs")


def _of_groups(scored: Scored, every: Tensor, multilabel: bool) -> Tensor:
    """What each of the groups [G] adds, [G, 3, C]: true positives, predicted and true labels."""
    both = decided(scored.logits, scored.labels, multilabel, scored.thresholds)
    if not multilabel:
        both = [each[:, None] == np.arange(scored.logits.shape[1]) for each in both]
    true, predicted = (torch.from_numpy(each > 0) for each in both)
    counts = torch.stack([true & predicted, predicted, true], dim=1).double()
    place = torch.searchsorted(every, scored.groups)
    return counts.new_zeros(len(every), *counts.shape[1:]).index_add_(0, place, counts)


def _resampled(counts: Tensor, average: str, resamples: int, generator: Generator) -> Tensor:
    """The F1 [R, M] of M models on each resample, from what every group adds to each model's counts [G, M, 3, C]."""
    n, flat = len(counts), counts.flatten(1)
    drawn = (torch.randint(n, (n,), generator=generator) for _ in range(resamples))
    sums = torch.stack([index.bincount(minlength=n).double() @ flat for index in drawn])
    return of_counts(sums.unflatten(1, counts.shape[1:]), "f1", average)
