"""Beside Tables I to III: what no skill scores (a constant answer, random scores, base rates), and what pixels alone give."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from rosutils import InputError, check_count
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
    the mean over classes with both kinds of label, a macro average that over the classes that occur. Labels are [N] or [N, C].
    """
    validation, test = (_entries(each, len(class_names), multilabel) for each in (labels_validation, labels_test))
    check_count("draws", draws, FEWEST, "the 97.5th percentile needs")
    found = [_random_scores(validation, test, multilabel, rule, generator) for _ in range(draws)]
    values = np.array([list(numbers.values()) for numbers in found])
    of_draws = [dict(zip(found[0], each, strict=True)) for each in (values.mean(0), np.quantile(values, 0.975, axis=0))]
    settings = zip(CHANCE, [_best_constant(test, multilabel), *of_draws], strict=True)
    rows = [(name, "", *key, value) for name, numbers in settings for key, value in numbers.items()]
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


def _random_scores(validation: Tensor, test: Tensor, multilabel: bool, rule: str, generator: Generator) -> Numbers:
    """The numbers of one draw of scores that know nothing of the images."""
    if multilabel:
        first, scores = (
            torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in (validation, test)
        )
        guess = scores.sigmoid() >= (0.5 if rule == "fixed" else best_thresholds(first, validation, rule=rule))
    else:  # the largest of log p plus Gumbel noise is a draw from p
        noise = -torch.empty(test.shape, dtype=torch.float64).exponential_(generator=generator).log()
        scores = _base_logits(validation, False) + noise
        guess, scores = F.one_hot(scores.argmax(dim=1), test.shape[1]).bool(), scores.softmax(dim=1)
    return _numbers(guess, test, multilabel) | {("macro", "auroc"): _mean_auroc(scores, test)}


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

    Cross-entropy, or BCE averaged over labels, as `losses.task_loss`. Each class or entry counts once more than it occurs
    (add-one), so that the loss is finite where a class is absent from training. Labels are [N] or [N, C]; classes are those
    up to the highest in either part.
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
    return labels > 0 if multilabel else F.one_hot(labels.long(), n_classes).bool()


# Pixels alone: logistic regression on their principal components, no network

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse strengths
COMPONENTS = 100
SIDE = 40  # larger images are averaged down to it, so that 100,000 of them fit into memory
AT_ONCE = 1000  # images
ITERATIONS = 10_000  # so many are never needed: the largest component has variance 1


def logistic_regression(
    images_train: np.ndarray, labels_train: Tensor, images_validation: np.ndarray, labels_validation: Tensor,
    images_test: np.ndarray, *, multilabel: bool, seed: int, n_classes: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Logits float32 [N, C] on the "validation" and the "test" part of logistic regression on the pixels.

    Images are uint8 [N, channels, H, W]: their pixels are standardised and projected on the first 100 principal components of
    the training part. It is one model over the classes of labels [N], or one for each label of [N, C]; of PENALTIES it takes
    that with the lowest task loss on validation. A class that training lacks gets the log-probability of one image more than
    there are, a label of one kind its add-one log-odds.
    """
    parts = {"training": (images_train, labels_train), "validation": (images_validation, labels_validation)}
    for part, (images, labels) in parts.items():
        if len(images) == 0 or len(images) != len(labels):
            found = f"{len(images)} images and {len(labels)} labels"
            raise InputError(f"the {part} part has {found}; need one each, and at least one")
    train, *others = _components([_flat(each) for each in (images_train, images_validation, images_test)], seed)
    found = [_logits(train, labels_train.numpy(), others, strength, n_classes) for strength in PENALTIES]
    losses = [task_loss(logits, labels_validation, multilabel=multilabel).mean().item() for logits, _ in found]
    return dict(zip(("validation", "test"), found[int(np.argmin(losses))], strict=True))


def _flat(images: np.ndarray) -> np.ndarray:
    """Pixels float32 [N, F] of images uint8 [N, channels, H, W], of at most SIDE a side."""
    size = [min(side, SIDE) for side in images.shape[-2:]]
    parts = (torch.from_numpy(np.array(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE))
    return torch.cat([F.adaptive_avg_pool2d(part.float(), size).flatten(1) for part in parts]).numpy()


def _components(parts: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """The principal components float64 [N, <= 100] of pixels [N, F], all of them those of the first part."""
    from sklearn.utils.extmath import randomized_svd

    mean, scale = parts[0].mean(axis=0), parts[0].std(axis=0)
    standard = [(part - mean) / np.where(scale > 0, scale, 1) for part in parts]
    axes = randomized_svd(standard[0], min(COMPONENTS, *parts[0].shape), random_state=seed)[2]
    found = [(part @ axes.T).astype(np.float64) for part in standard]
    # one scale for all: components scaled each on its own would lend the faint ones, mostly noise, the weight of the strong
    return [part / (found[0].std(axis=0).max() or 1) for part in found]


def _logits(train, labels: np.ndarray, others: list[np.ndarray], strength: float, n_classes: int) -> list[Tensor]:
    """Logits float32 [N, C] on the other parts."""
    if labels.ndim == 2:
        columns = [_one_label(train, label, others, strength) for label in labels.T]
        return [torch.from_numpy(np.stack(of_part, axis=1)).float() for of_part in zip(*columns, strict=True)]
    found = [torch.full((len(part), n_classes), -float(np.log(len(train) + 1))) for part in others]
    for logits, scores in zip(found, _scores(train, labels, others, strength), strict=True):
        logits[:, np.unique(labels)] = torch.from_numpy(scores).log_softmax(dim=1).float()
    return found


def _one_label(train: np.ndarray, label: np.ndarray, others: list[np.ndarray], strength: float) -> list[np.ndarray]:
    if 0 < label.sum() < len(label):
        return [scores[:, 1] for scores in _scores(train, label, others, strength)]
    odds = float(np.log((label.sum() + 1) / ((1 - label).sum() + 1)))
    return [np.full(len(part), odds) for part in others]


def _scores(train: np.ndarray, labels: np.ndarray, others: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Scores [N, classes present] whose softmax is the probability of each class; of two classes the first has 0."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return [np.zeros((len(part), 1)) for part in others]
    model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(train, labels)
    found = [model.decision_function(part) for part in others]
    return [np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores for scores in found]
