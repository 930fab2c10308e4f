"""Scores in, numbers out: precision, recall, F1, AUROC, and the thresholds they need (Section IV).

Scores are the model's logits [N, C], as tensors or arrays. Multi-class labels are integers [N]; several
labels per image are 0/1 entries [N, C]. scikit-learn does the computing.
"""

from collections import namedtuple
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from rosutils import InputError


Array = Tensor | np.ndarray
METRICS = ("precision", "recall", "f1")
PrecisionRecallF1 = namedtuple("PrecisionRecallF1", METRICS)  # three numbers, or three arrays [C] when not averaged


def precision_recall_f1(
    scores: Array, labels: Array, *, average: str | None, multilabel: bool = False, thresholds: Array | float | None = None
) -> PrecisionRecallF1:  # fmt: skip
    """Precision, recall and F1 (Tables I and II), averaged over classes or examples, or per class.

    `average` is "macro", "micro", "weighted", "samples" (multi-label only), "means" for the macro precision, the macro
    recall and the F1 of these two, or None for arrays [C]. Multi-class predicts the largest score; multi-label predicts the
    labels with sigmoid(score) >= threshold, a probability per label [C] or for all (default 0.5). Macro averages are over the
    classes that occur in `labels`, as the mean AUROC is; 0/0 is 0.
    """
    allowed = averagings(multilabel)
    if average is not None and average not in allowed:
        raise InputError(f"average is {average!r}; allowed are None, {', '.join(allowed)}")
    labels, predicted = decided(scores, labels, multilabel, thresholds)
    from sklearn.metrics import precision_recall_fscore_support  # here and below: its import takes a second

    one_by_one, classes = "macro" if average == "means" else average, np.arange(np.shape(scores)[1])
    occur = classes[labels.any(axis=0)] if multilabel else np.unique(labels)
    over = occur if one_by_one == "macro" and len(occur) else classes
    options = {"labels": over, "average": one_by_one, "zero_division": 0}
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, **options)
    if average == "means":
        f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return PrecisionRecallF1(precision, recall, f1)


def averagings(multilabel: bool) -> tuple[str, ...]:
    """The averagings that a single-label or a multi-label result has; "means" is the F1 of averaged precision and recall."""
    return ("macro", "micro", "weighted", *(("samples",) if multilabel else ()), "means")


def of_counts(counts: Tensor, metric: str, average: str) -> Tensor:
    """A metric [...] in any averaging of counts [..., 3, C]: true positives, predicted and true labels.

    The numbers of `precision_recall_f1`, for many resamples or guesses at once. "samples" takes the counts of N examples in
    place of those of C classes.
    """
    if average == "means" and metric == "f1":
        precision, recall = (of_counts(counts, each, "macro") for each in ("precision", "recall"))
        return _over(2 * precision * recall, precision + recall)
    if average == "micro":
        return _of_counts(counts.sum(dim=-1, keepdim=True), metric)[..., 0]
    per_class, support = _of_counts(counts, metric), counts[..., 2, :]
    if average == "samples":
        return per_class.mean(dim=-1)
    share = support if average == "weighted" else (support > 0).to(support)
    return _over((per_class * share).sum(-1), share.sum(-1))


def _of_counts(counts: Tensor, metric: str) -> Tensor:
    hits, predicted, true = counts.unbind(dim=-2)
    if metric == "f1":
        return _over(2 * hits, predicted + true)
    return _over(hits, predicted if metric == "precision" else true)


def _over(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b, 0.0)


def auroc_per_class(scores: Array, labels: Array) -> Tensor:
    """Area under the ROC curve of each class [C] (Table III), nan where a class has one kind of label only.

    Labels [N] are taken one class against the rest, on softmax probabilities; labels [N, C] on the scores as they are.
    """
    from sklearn.metrics import roc_auc_score

    scores, labels = _checked(scores, labels, multilabel := np.ndim(labels) == 2)
    if not multilabel:
        scores, labels = special.softmax(scores, axis=1), labels[:, None] == np.arange(scores.shape[1])
    both = labels.any(axis=0) & ~labels.all(axis=0)
    found = np.where(both, 0.0, np.nan)
    found[both] = roc_auc_score(labels[:, both], scores[:, both], average=None) if both.any() else ()
    return torch.from_numpy(found)


def best_thresholds(scores: Array, labels: Array, *, rule: str = "micro") -> Tensor:
    """Probability threshold (float64) with the best F1 on these multi-label examples: one for all labels, or one each [C].

    Rule "micro" is the one threshold, a scalar, with the best micro-F1: every entry [N, C] counts alike, and a label
    without skill cannot claim all images for itself. Rule "per-label" is the best F1 of each label on its own, for macro F1.
    Give it the validation part, never the test part. Candidates lie halfway between neighbouring distinct values of
    sigmoid(score), and halfway between 0 and the lowest; the highest of equally good ones is taken (fewest positives).
    Where no example is positive it is 0.5.
    """
    if rule not in ("micro", "per-label"):
        raise InputError(f"rule is {rule!r}; allowed are micro, per-label")
    scores, labels = _checked(scores, labels, multilabel=True)
    columns = (-1, 1) if rule == "micro" else scores.shape  # of one threshold each
    probabilities, labels = (torch.from_numpy(each).reshape(columns) for each in (special.expit(scores), labels))
    probabilities, order = probabilities.sort(dim=0, descending=True)
    labels = labels.gather(0, order)
    n_positive, n_predicted = labels.sum(0), torch.arange(1, len(labels) + 1)[:, None]
    f1 = 2 * labels.cumsum(0).double() / (n_predicted + n_positive)
    # equal scores fall on the same side of any threshold
    f1[:-1][probabilities[:-1] == probabilities[1:]] = -1
    row = f1.argmax(0, keepdim=True)  # the first of equal maxima, hence the highest threshold
    next_lower = torch.cat([probabilities[1:], torch.zeros_like(probabilities[:1])])
    lowest, below = probabilities.gather(0, row)[0], next_lower.gather(0, row)[0]
    halfway = (lowest + below) / 2
    # between two neighbouring floats the midpoint may round down onto the lower one, which must stay negative
    found = torch.where(n_positive == 0, 0.5, torch.where(halfway > below, halfway, lowest))
    return found[0] if rule == "micro" else found


def evaluate(
    scores: Array, labels: Array, *, multilabel: bool, class_names: Sequence[str], thresholds: Array | float | None = None,
    per_class: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Every number of one evaluation as rows `class, average, metric, value`; without `per_class` the averages only.

    Precision, recall and F1 in every averaging (class ""), the same and AUROC per class (average ""), the mean AUROC over
    classes that have one (average "macro"), and for single-label tasks the accuracy (class and average "").
    """
    if np.shape(scores)[1:] != (len(class_names),):
        raise InputError(f"scores have shape {np.shape(scores)} but there are {len(class_names)} class names")
    options = {"multilabel": multilabel, "thresholds": thresholds}
    rows = []
    for average in averagings(multilabel):
        numbers = precision_recall_f1(scores, labels, average=average, **options)
        rows += [("", average, metric, value) for metric, value in numbers._asdict().items()]
    if not multilabel:
        rows.append(("", "", "accuracy", (_array(labels) == _array(scores).argmax(axis=1)).mean()))
    if per_class:
        auroc = auroc_per_class(scores, labels)
        rows.append(("", "macro", "auroc", auroc.nanmean().item()))
        each = precision_recall_f1(scores, labels, average=None, **options)._asdict() | {"auroc": auroc.numpy()}
        rows += [(name, "", metric, each[metric][c]) for c, name in enumerate(class_names) for metric in each]
    return pd.DataFrame(rows, columns=["class", "average", "metric", "value"]).astype({"value": float})


def agreement(
    scores: Array, clean: Array, given: Array, *, multilabel: bool, thresholds: Array | float | None = None
) -> pd.DataFrame:
    """How often predictions on noisily labelled examples agree with the clean and with the given labels, as rows
    `average, metric, value`: over "all" labels, and over the "changed" ones alone (nan where none was).

    Labels are classes [N] or 0/1 entries [N, C].
    """
    (clean, predicted), (given, _) = (decided(scores, each, multilabel, thresholds) for each in (clean, given))
    changed, rows = clean != given, []
    for average, where in (("all", np.ones_like(changed)), ("changed", changed)):
        for name, labels in (("clean", clean), ("given", given)):
            value = (predicted == labels)[where].mean() if where.any() else float("nan")
            rows.append((average, f"agreement_{name}", value))
    return pd.DataFrame(rows, columns=["average", "metric", "value"]).astype({"value": float})


def decided(
    scores: Array, labels: Array, multilabel: bool, thresholds: Array | float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The labels and what the scores predict, as `precision_recall_f1` does: int64 [N], or 0/1 [N, C]; else an InputError."""
    scores, labels = _checked(scores, labels, multilabel)
    if not multilabel:
        if thresholds is not None:
            raise InputError("thresholds are for several labels per image; one label is that of the largest score")
        return labels, scores.argmax(axis=1)
    thresholds = _array(0.5 if thresholds is None else thresholds)
    if thresholds.shape not in ((), scores.shape[1:]) or not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise InputError(f"thresholds are {thresholds.tolist()}; give one or {scores.shape[1]}, from 0 to 1")
    return labels, (special.expit(scores) >= thresholds).astype(np.int64)


def _checked(scores: Array, labels: Array, multilabel: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 [N, C] and labels as int64 [N] or [N, C], or an InputError that says why not."""
    scores, labels = _array(scores), _array(labels)
    if scores.ndim != 2 or 0 in scores.shape or scores.shape[1] < 2:
        raise InputError(f"scores have shape {scores.shape}; need [N, C] with at least one example and two classes")
    expected = scores.shape if multilabel else scores.shape[:1]
    if labels.shape != expected:
        raise InputError(f"labels have shape {labels.shape}; scores of shape {scores.shape} need {expected}")
    if not np.isfinite(scores).all():
        raise InputError("scores hold nan or infinite values; did the training diverge? try a lower learning rate")
    highest = 1 if multilabel else scores.shape[1] - 1
    if not np.isin(labels, np.arange(highest + 1)).all():
        raise InputError(f"labels run from {labels.min()} to {labels.max()}; allowed are the integers 0 to {highest}")
    return scores, labels.astype(np.int64)


def _array(values: Array | Sequence[float] | float) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)
