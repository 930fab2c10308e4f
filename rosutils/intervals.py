"""How far a difference between two systems hangs on the choice of test images: a bootstrap over whole groups.

Images of one lesion or patient are alike, so the groups of Section IV-A's split are drawn with replacement, not the
images (the cluster bootstrap of Davison and Hinkley 1997, section 3.8). Precision, recall and F1 follow from counts
that add up over groups: a resample is a weighted sum of them, and no image is looked at twice.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Generator, Tensor

from rosutils import InputError
from rosutils.metrics import METRICS, averagings, of_counts, precision_recall_f1


FEWEST = 40  # resamples that have one beyond each end of a 95 % interval
AT_ONCE = 100  # resamples: their draws of 22,000 groups take 18 MB


class Interval(NamedTuple):
    """Both ends of a 95 % interval."""

    low: float
    high: float


class Scored(NamedTuple):
    """What a system says of a replicate's test part: logits [N, C], labels [N] or [N, C], groups [N], its threshold or [C]."""

    logits: Tensor
    labels: Tensor
    groups: Tensor
    thresholds: Tensor | None = None


def difference_interval(
    a: Sequence[Scored],
    b: Sequence[Scored],
    *,
    average: str,
    multilabel: bool,
    resamples: int,
    generator: Generator,
    metric: str = "f1",
) -> Interval:
    """95 % percentile interval of system a's metric minus system b's, groups of test images drawn with replacement.

    Each system has one entry per replicate, in the same order; what is resampled is the mean over replicates. A group that
    is in the test parts of several replicates is drawn as often for each, for both systems alike. `metric` and `average` are
    those of `metrics.precision_recall_f1`. Raises InputError for unequal numbers of replicates, labels or groups that do not
    fit, an unknown metric or averaging, one group only, and fewer than 40 resamples.
    """
    _check(a, b, metric, average, multilabel, resamples)
    for scores, labels, _, thresholds in (*a, *b):  # says what is wrong with scores, labels and thresholds
        precision_recall_f1(scores, labels, average=average, multilabel=multilabel, thresholds=thresholds)
    every = torch.cat([scored.groups for scored in (*a, *b)]).unique()
    tallies = [
        _over_groups(_tally(s.logits, s.thresholds, s.labels, metric, average), torch.searchsorted(every, s.groups), len(every))
        for s in (*a, *b)
    ]  # fmt: skip
    values = _resampled(torch.stack(tallies, dim=1), metric, average, resamples, generator)
    return percentile_interval(values[:, : len(a)].mean(dim=1) - values[:, len(a) :].mean(dim=1))


def percentile_interval(values: Tensor) -> Interval:
    """The values [R] of the resamples without 2.5 % at either end (Efron and Tibshirani 1993, chapter 13)."""
    return Interval(*torch.quantile(values, values.new_tensor([0.025, 0.975])).tolist())


def _check(
    a: Sequence[Scored], b: Sequence[Scored], metric: str, average: str, multilabel: bool, resamples: int
) -> None:
    if len(a) != len(b) or not a:
        raise InputError(
            f"the systems have {len(a)} and {len(b)} replicates; a difference needs equally many, at least one"
        )
    for _, labels, groups, _ in (*a, *b):
        if groups.shape != labels.shape[:1]:
            raise InputError(
                f"groups have shape {tuple(groups.shape)} for {len(labels)} labelled images; give one per image"
            )
        if len(groups.unique()) < 2:
            raise InputError(f"groups are {groups.unique().tolist()}; drawing whole groups takes at least two of them")
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}; allowed are {', '.join(METRICS)}")
    if average not in averagings(multilabel):
        raise InputError(f"average is {average!r}; allowed are {', '.join(averagings(multilabel))}")
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < FEWEST:
        raise InputError(f"resamples is {resamples!r}; a 95 % interval needs a whole number, at least {FEWEST}")


def _tally(scores: Tensor, thresholds: Tensor | None, labels: Tensor, metric: str, average: str) -> Tensor:
    """What an image adds [N, 3, C]: true positives, predicted and true labels; for "samples" [N, 2]: its metric, and 1."""
    true, predicted = (torch.from_numpy(each) for each in _true_and_predicted(scores, thresholds, labels))
    tally = torch.stack([true & predicted, predicted, true], dim=1).double()
    if average != "samples":
        return tally
    own = of_counts(tally.sum(dim=2, keepdim=True), metric, "macro")
    return torch.stack([own, torch.ones_like(own)], dim=1)


def _true_and_predicted(scores: Tensor, thresholds: Tensor | None, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which labels [N, C] each image has and is given, to the last bit as `rosutils.metrics` decides it."""
    scores, labels = scores.detach().cpu().double().numpy(), labels.detach().cpu().numpy()
    if labels.ndim == 2:
        limits = 0.5 if thresholds is None else thresholds.detach().cpu().double().numpy()
        return labels > 0, special.expit(scores) >= limits
    classes = np.arange(scores.shape[1])
    return labels[:, None] == classes, scores.argmax(axis=1)[:, None] == classes


def _over_groups(tally: Tensor, place: Tensor, count: int) -> Tensor:
    return tally.new_zeros(count, *tally.shape[1:]).index_add_(0, place, tally)


def _resampled(tallies: Tensor, metric: str, average: str, resamples: int, generator: Generator) -> Tensor:
    """The metric [R, M] of M models on each resample, from what every group adds to each model's tally [G, M, ...]."""
    counts = _counts(len(tallies), resamples, generator)
    sums = ((several @ tallies.flatten(1)).unflatten(1, tallies.shape[1:]) for several in counts)
    return torch.cat([_averaged(each, metric, average) for each in sums])


def _counts(n_groups: int, resamples: int, generator: Generator) -> Iterator[Tensor]:
    """How often each resample holds each group [r, G], a few resamples at a time."""
    for start in range(0, resamples, AT_ONCE):
        drawn = torch.randint(n_groups, (min(AT_ONCE, resamples - start), n_groups), generator=generator)
        empty = torch.zeros(drawn.shape, dtype=torch.float64)
        yield empty.scatter_add_(1, drawn, torch.ones_like(empty))


def _averaged(sums: Tensor, metric: str, average: str) -> Tensor:
    """The metric [...] of tallies [..., 3, C], or [..., 2] for "samples"."""
    return sums[..., 0] / sums[..., 1] if average == "samples" else of_counts(sums, metric, average)
