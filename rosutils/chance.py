"""What no skill scores (beside Tables I to III): the best constant answer, random scores, and the loss of base rates."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from rosutils import InputError
from rosutils.losses import task_loss
from rosutils.metrics import METRICS, averagings, best_thresholds, of_counts
from rosutils.settings import CHANCE


FEWEST = 40  # draws that have one beyond the 97.5th percentile

Numbers = dict[tuple[str, str], float]  # (average, metric) -> value


def chance(
    labels_validation: Tensor, labels_test: Tensor, *, multilabel: bool, class_names: Sequence[str], rule: str = "micro",
    draws: int = 200, generator: Generator,
) -> pd.DataFrame:  # fmt: skip
    """What no skill scores on a test part, as rows `setting, class, average, metric, value` (class "") like a setting's.

    "best constant" is one answer for every image, that with the best F1 on this very test part: a class, or the m commonest
    labels. "random scores" is the mean over draws of scores that know nothing of the images, "random scores, 97.5 %" their
    percentile, each number on its own. For several labels thresholds are chosen on random scores of the validation part by
    `rule` ("fixed": 0.5), as a setting's are. A single label is drawn from the validation part's base rates, add-one smoothed:
    of the guesses that know nothing they have the best macro F1, since the sum of 2pq/(p+q) is largest for q = p. AUROC is
    the mean over classes with both kinds of label, a macro average that over the classes that occur. Labels are [N] or [N, C];
    raises InputError for labels that do not fit the class names or are none, an unknown rule, and fewer than 40 draws.
    """
    validation, test = (_entries(each, len(class_names), multilabel) for each in (labels_validation, labels_test))
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < FEWEST:
        raise InputError(f"draws is {draws!r}; the 97.5th percentile needs a whole number, at least {FEWEST}")
    guess = partial(_several_labels, rule=rule) if multilabel else _single_label
    found = [guess(validation, test, generator=generator) for _ in range(draws)]
    values = np.array([list(numbers.values()) for numbers in found])
    of_draws = [dict(zip(found[0], each, strict=True)) for each in (values.mean(0), np.quantile(values, 0.975, axis=0))]
    settings = dict(zip(CHANCE, [_best_constant(test, multilabel), *of_draws], strict=True))
    rows = [(name, "", *key, value) for name, numbers in settings.items() for key, value in numbers.items()]
    return pd.DataFrame(rows, columns=["setting", "class", "average", "metric", "value"]).astype({"value": float})


def _best_constant(test: Tensor, multilabel: bool) -> Numbers:
    """The numbers of the constant with the best F1 in each averaging, on test labels bool [N, C]."""
    commonest = test.sum(dim=0).argsort(descending=True, stable=True)
    classes = torch.eye(test.shape[1], dtype=torch.bool)
    answers = classes[commonest].cumsum(dim=0).bool() if multilabel else classes  # the m commonest, or each
    every = [_numbers(answer.expand(test.shape), test, multilabel) for answer in answers]
    best = {average: max(every, key=lambda numbers: numbers[average, "f1"]) for average in averagings(multilabel)}
    best[""] = best["micro"]  # the accuracy is the micro-F1
    return {key: best[key[0]][key] for key in every[0]} | {("macro", "auroc"): 0.5}


def _several_labels(validation: Tensor, test: Tensor, *, rule: str, generator: Generator) -> Numbers:
    first, second = (torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in (validation, test))
    threshold = 0.5 if rule == "fixed" else best_thresholds(first, validation, rule=rule)
    return _numbers(second.sigmoid() >= threshold, test, True) | {("macro", "auroc"): _mean_auroc(second, test)}


def _single_label(validation: Tensor, test: Tensor, *, generator: Generator) -> Numbers:
    # the largest of log p plus Gumbel noise is a draw from p
    noise = -torch.empty(test.shape, dtype=torch.float64).exponential_(generator=generator).log()
    scores = _base_logits(validation, False) + noise
    guess = torch.nn.functional.one_hot(scores.argmax(dim=1), test.shape[1]).bool()
    return _numbers(guess, test, False) | {("macro", "auroc"): _mean_auroc(scores.softmax(dim=1), test)}


def _numbers(predicted: Tensor, true: Tensor, multilabel: bool) -> Numbers:
    """Precision, recall and F1 in every averaging of answers bool [N, C], and the accuracy of a single label."""
    entries = torch.stack([predicted & true, predicted, true]).double()
    by_class, by_image, found = entries.sum(dim=1), entries.sum(dim=2), {}
    for average in averagings(multilabel):
        counts = by_image if average == "samples" else by_class
        found |= {(average, metric): of_counts(counts, metric, average).item() for metric in METRICS}
    return found if multilabel else found | {("", "accuracy"): by_class[0].sum().item() / len(true)}


def _mean_auroc(scores: Tensor, true: Tensor) -> float:
    """Mean AUROC over classes with both kinds of label, from ranks: a draw of scores has no ties. nan where none has."""
    order, n = scores.argsort(dim=0), len(true)
    ranks = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
    positive = true.sum(dim=0).double()
    above = (true.gather(0, order) * ranks).sum(dim=0) - positive * (positive + 1) / 2
    return (above / (positive * (n - positive))).nanmean().item()  # 0/0 where a class has one kind


def base_rate_loss(labels_train: Tensor, labels_validation: Tensor, *, multilabel: bool) -> float:
    """The task loss on the validation part of predicting the training part's base rates for every image.

    Cross-entropy, or BCE averaged over labels, as `losses.task_loss`. Each class or entry counts once more than it
    occurs (add-one), so that the loss is finite where a class is absent from training. Labels are [N] or [N, C]; classes
    are those up to the highest in either part. Raises InputError for labels that do not fit, or none.
    """
    highest = 0 if multilabel else max(int(each.max()) for each in (labels_train, labels_validation) if len(each))
    n_classes = labels_train.shape[-1] if multilabel else max(2, 1 + highest)
    train, validation = (_entries(each, n_classes, multilabel) for each in (labels_train, labels_validation))
    logits = _base_logits(train, multilabel).expand(validation.shape)
    labels = validation.double() if multilabel else validation.int().argmax(dim=1)
    return task_loss(logits, labels, multilabel=multilabel).mean().item()


def base_rate_margin(task, logits: Tensor) -> float:
    """The loss of always saying a task's base rates minus a network's, from its logits [N, C] of the validation part.

    Below 0 a network says less than someone who has only counted the training labels.
    """
    train, labels = (task.labels[task.split[part]] for part in ("train", "validation"))
    own = task_loss(logits, labels, multilabel=task.multilabel).mean().item()
    return base_rate_loss(train, labels, multilabel=task.multilabel) - own


def skill_margin(task, logits: Tensor) -> float:
    """How much less a network's loss on validation is than the base rates', once its logits [N, C] are shrunk towards these.

    A network that is trained until it fits its noise, as the paper's are, is so sure of itself that its plain loss is above
    the base rates' although it ranks images well. So its logits are mixed with the base rates' by the best of one factor from
    0 to 1. That factor is fitted, so what one of no skill would gain in 19 of 20 cases is taken off (the likelihood ratio's
    chi-square of one degree, 3.84, over 2N). Above 0 is skill.
    """
    train, labels = (task.labels[task.split[part]] for part in ("train", "validation"))
    base = _base_logits(_entries(train, task.n_classes, task.multilabel), task.multilabel)
    labels = labels.double() if task.multilabel else labels
    mixed = (base + share * (logits.double() - base) for share in torch.linspace(0, 1, 101, dtype=torch.float64) ** 2)
    found = torch.stack([task_loss(each, labels, multilabel=task.multilabel).mean() for each in mixed])
    gain, entries = found[0] - found.min(), labels.numel() if task.multilabel else len(labels)
    return (gain - 3.84 / (2 * entries)).item()


def _base_logits(labels: Tensor, multilabel: bool) -> Tensor:
    """Logits float64 [C] of how common each of bool labels [N, C] is, with one more of each kind."""
    rates = (labels.sum(dim=0).double() + 1) / (len(labels) + (2 if multilabel else labels.shape[1]))
    return rates.logit() if multilabel else rates.log()


def _entries(labels: Tensor, n_classes: int, multilabel: bool) -> Tensor:
    """Labels [N] or [N, C] as bool [N, C], or an InputError that says why not."""
    fits = labels.ndim == 1 if not multilabel else labels.ndim == 2 and labels.shape[1] == n_classes
    if not fits or len(labels) == 0 or n_classes < 2:
        expected = f"[N, {n_classes}]" if multilabel else "[N]"
        found = f"labels have shape {tuple(labels.shape)}"
        raise InputError(f"{found}; need {expected}, at least one image and two classes")
    highest = 1 if multilabel else n_classes - 1
    if not torch.isin(labels, torch.arange(highest + 1).to(labels)).all():
        raise InputError(f"labels run from {labels.min()} to {labels.max()}; allowed are the integers 0 to {highest}")
    return labels > 0 if multilabel else torch.nn.functional.one_hot(labels.long(), n_classes).bool()
