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
from rosutils.metrics import METRICS, averagings, precision_recall_f1


FEWEST = 40  # resamples that have one beyond each end of a 95 % interval
AT_ONCE = 100  # resamples: their draws of 22,000 groups take 18 MB


class Interval(NamedTuple):
    """Both ends of a 95 % interval."""

    low: float
    high: float


def difference_interval(
    scores_a: Sequence[Tensor],
    scores_b: Sequence[Tensor],
    labels: Tensor,
    groups: Tensor,
    *,
    average: str,
    multilabel: bool,
    resamples: int,
    generator: Generator,
    metric: str = "f1",
    thresholds_a: Sequence[Tensor] | None = None,
    thresholds_b: Sequence[Tensor] | None = None,
) -> Interval:
    """95 % percentile interval of system a's metric minus system b's, groups [N] of test images drawn with replacement.

    Each system is a list of logits [N, C], one per seed, with its thresholds [C] in the same order (None: 0.5); what is
    resampled is the mean over the seeds, every seed of both systems on the same images. `metric` and `average` are those
    of `metrics.precision_recall_f1`, labels [N] or [N, C]. Raises InputError for unequal numbers of seeds, thresholds,
    images, labels and groups, an unknown metric or averaging, one group only, and fewer than 40 resamples.
    """
    seeds = [*_by_seed(scores_a, thresholds_a), *_by_seed(scores_b, thresholds_b)]
    _check(len(scores_a), len(scores_b), labels, groups, metric, average, multilabel, resamples)
    for scores, thresholds in seeds:  # says what is wrong with scores, labels and thresholds
        precision_recall_f1(scores, labels, average=average, multilabel=multilabel, thresholds=thresholds)
    place = torch.unique(groups, return_inverse=True)[1]
    tallies = [_over_groups(_tally(*seed, labels, metric, average), place) for seed in seeds]
    values = _resampled(torch.stack(tallies, dim=1), metric, average, resamples, generator)
    return percentile_interval(values[:, : len(scores_a)].mean(dim=1) - values[:, len(scores_a) :].mean(dim=1))


def percentile_interval(values: Tensor) -> Interval:
    """The values [R] of the resamples without 2.5 % at either end (Efron and Tibshirani 1993, chapter 13)."""
    return Interval(*torch.quantile(values, values.new_tensor([0.025, 0.975])).tolist())


def _by_seed(scores: Sequence[Tensor], thresholds: Sequence[Tensor] | None) -> list[tuple[Tensor, Tensor | None]]:
    thresholds = [None] * len(scores) if thresholds is None else thresholds
    if len(thresholds) != len(scores):
        raise InputError(
            f"there are {len(thresholds)} thresholds for {len(scores)} seeds; give one [C] per seed, or None"
        )
    return list(zip(scores, thresholds, strict=True))


def _check(
    n_a: int, n_b: int, labels: Tensor, groups: Tensor, metric: str, average: str, multilabel: bool, resamples: int
) -> None:
    if n_a != n_b or n_a == 0:
        raise InputError(f"the systems have {n_a} and {n_b} seeds; a difference needs equally many, at least one")
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
    own = _ratio(metric, *tally.sum(dim=2).T)
    return torch.stack([own, torch.ones_like(own)], dim=1)


def _true_and_predicted(scores: Tensor, thresholds: Tensor | None, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which labels [N, C] each image has and is given, to the last bit as `rosutils.metrics` decides it."""
    scores, labels = scores.detach().cpu().double().numpy(), labels.detach().cpu().numpy()
    if labels.ndim == 2:
        limits = 0.5 if thresholds is None else thresholds.detach().cpu().double().numpy()
        return labels > 0, special.expit(scores) >= limits
    classes = np.arange(scores.shape[1])
    return labels[:, None] == classes, scores.argmax(axis=1)[:, None] == classes


def _over_groups(tally: Tensor, place: Tensor) -> Tensor:
    return tally.new_zeros(int(place.max()) + 1, *tally.shape[1:]).index_add_(0, place, tally)


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
    if average == "samples":
        return sums[..., 0] / sums[..., 1]
    if average == "micro":
        return _ratio(metric, *sums.sum(dim=-1).unbind(dim=-1))
    per_class, support = _ratio(metric, *sums.unbind(dim=-2)), sums[..., 2, :]
    return per_class.mean(dim=-1) if average == "macro" else _over((per_class * support).sum(-1), support.sum(-1))


def _ratio(metric: str, hits: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Precision, recall or F1 from counts."""
    if metric == "f1":
        return _over(2 * hits, predicted + true)
    return _over(hits, predicted if metric == "precision" else true)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0/0 is 0, as in `rosutils.metrics`."""
    return torch.where(b > 0, a / b, 0.0)
