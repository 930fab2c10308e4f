"""Label noise of a known kind and rate (Sections I and II motivate it; the paper itself injects none).

"Rate" is always the share of labels that CHANGE. The other convention in the literature re-draws that share
over all classes, the true one included, so that its "50 % symmetric" changes only 45 % of ten-class labels.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from rosutils import InputError


KINDS = ("none", "symmetric", "pairflip")


def transition_matrix(kind: str, rate: float, n_classes: int) -> Tensor:
    """Probability [C, C] (float64) that an example of the row's class is given the column's class.

    "none" is the identity whatever the rate; "symmetric" moves `rate` evenly to the C - 1 other classes; "pairflip" to the
    next class, cyclically. Raises InputError for an unknown kind, a rate outside [0, 1], or fewer than two classes.
    """
    if kind not in KINDS:
        raise InputError(f"noise kind is {kind!r}; allowed are {', '.join(KINDS)}")
    _check_rates("noise rate", torch.tensor(rate, dtype=torch.float64))
    if n_classes < 2:
        raise InputError(f"label noise between classes needs at least 2 classes, found n_classes = {n_classes}")
    identity = torch.eye(n_classes, dtype=torch.float64)
    if kind == "none":
        return identity
    other = (1 - identity) / (n_classes - 1) if kind == "symmetric" else identity.roll(1, dims=1)
    return (1 - rate) * identity + rate * other


def label_flip_rates(
    false_negatives: float | Sequence[float], false_positives: float | Sequence[float], n_classes: int
) -> Tensor:
    """Multi-label noise [C, 2] (float64): per label the false-negative rate, then the false-positive rate.

    Each is one number for all labels or a sequence of C. Raises InputError for a rate outside [0, 1] or a wrong count.
    """
    columns = []
    for name, given in (("false_negatives", false_negatives), ("false_positives", false_positives)):
        rates = torch.as_tensor(given, dtype=torch.float64)
        if rates.shape not in ((), (n_classes,)):
            raise InputError(f"{name} has shape {tuple(rates.shape)}; give one number or {n_classes}, one per label")
        _check_rates(name, rates)
        columns.append(rates.expand(n_classes))
    return torch.stack(columns, dim=1)


def flip_labels(labels: Tensor, matrix: Tensor, *, generator: torch.Generator) -> Tensor:
    """Noisy copy of int64 labels [N] (`matrix` [C, C]) or of multi-label 0/1 floats [N, C] (`matrix` [C, 2]).

    One uniform number is drawn per example (or entry) whatever the labels are, so no label influences another one's draw.
    Matrices are those of `transition_matrix` and `label_flip_rates`. Raises InputError where the two do not fit.
    """
    matrix = matrix.to(torch.float64)
    if labels.ndim == 2 and labels.is_floating_point():
        return _flip_entries(labels, matrix, generator)
    if labels.ndim == 1 and labels.dtype == torch.int64:
        return _flip_classes(labels, matrix, generator)
    found = f"{labels.dtype} with shape {tuple(labels.shape)}"
    raise InputError(f"labels are {found}; give int64 [N], or floats [N, C] for several labels per image")


def move_labels(labels: Tensor, matrix: Tensor, *, generator: torch.Generator) -> Tensor:
    """Noisy copy of multi-label 0/1 floats [N, C]: every label an image has moves by its row of `matrix` [C, C].

    An image without labels stays without, and two labels that move to the same place become one. Raises InputError as
    `flip_labels` does.
    """
    if labels.ndim != 2 or not labels.is_floating_point():
        raise InputError(f"labels are {labels.dtype} with shape {tuple(labels.shape)}; give floats [N, C]")
    present = _indicator(labels, labels.shape[1])
    classes = torch.arange(labels.shape[1]).expand(labels.shape)
    moved = _flip_classes(classes.flatten(), matrix.to(torch.float64), generator).view(labels.shape)
    return torch.zeros_like(labels).scatter_reduce_(1, moved, present.to(labels.dtype), reduce="amax")


def noise_rate(noisy: Tensor, clean: Tensor) -> float:
    """Measured share of changed labels [N] or entries [N, C]; raises InputError where the shapes differ."""
    if noisy.shape != clean.shape:
        raise InputError(f"noisy labels {tuple(noisy.shape)} and clean labels {tuple(clean.shape)} must have one shape")
    return (noisy != clean).double().mean().item()


def noise_report(noisy: Tensor, clean: Tensor, class_names: Sequence[str]) -> pd.DataFrame:
    """Measured noise, one row per class: how many have the label clean and given, both kinds of error, and their rates.

    The false-negative rate is the share of the class's examples that lost the label, the false-positive rate the share of
    all others that gained it (nan where there are none). Raises InputError where the shapes differ.
    """
    noise_rate(noisy, clean)
    given, true = (_indicator(labels, len(class_names)) for labels in (noisy, clean))
    lost, gained = (true & ~given).sum(0), (given & ~true).sum(0)
    columns = {"clean": true.sum(0), "given": given.sum(0), "false_negatives": lost, "false_positives": gained}
    columns |= {"false_negative_rate": lost.double() / true.sum(0)}
    columns |= {"false_positive_rate": gained.double() / (~true).sum(0)}
    return pd.DataFrame({"class": list(class_names), **{name: each.numpy() for name, each in columns.items()}})


def _flip_classes(labels: Tensor, matrix: Tensor, generator: torch.Generator) -> Tensor:
    n_classes = len(matrix)
    if matrix.shape != (n_classes, n_classes):
        raise InputError(f"the matrix has shape {tuple(matrix.shape)}; labels [N] need [C, C], see transition_matrix")
    if (matrix < 0).any() or not torch.allclose(matrix.sum(1), torch.ones_like(matrix[:, 0])):
        raise InputError(f"rows of a matrix are non-negative and sum to 1, found sums {matrix.sum(1).tolist()}")
    _check_class_range(labels, n_classes)
    cumulative = matrix.cumsum(1)
    # The last entry must be exactly 1, or rounding lets a draw close to 1 fall past the last class.
    cumulative = cumulative / cumulative[:, -1:]
    draws = torch.rand(len(labels), 1, dtype=torch.float64, generator=generator)
    return torch.searchsorted(cumulative[labels], draws, right=True).squeeze(1)


def _flip_entries(labels: Tensor, rates: Tensor, generator: torch.Generator) -> Tensor:
    if rates.shape != (labels.shape[1], 2):
        need = f"labels {tuple(labels.shape)} need ({labels.shape[1]}, 2), see label_flip_rates"
        raise InputError(f"the rates have shape {tuple(rates.shape)}; {need}")
    _check_rates("rate", rates)
    positive = _indicator(labels, labels.shape[1])
    draws = torch.rand(labels.shape, dtype=torch.float64, generator=generator)
    flipped = draws < torch.where(positive, rates[:, 0], rates[:, 1])
    return (positive ^ flipped).to(labels.dtype)


def _indicator(labels: Tensor, n_classes: int) -> Tensor:
    """Boolean [N, C] from classes [N] or from 0/1 entries [N, C]."""
    if labels.ndim == 1:
        _check_class_range(labels, n_classes)
        return torch.nn.functional.one_hot(labels, n_classes).bool()
    if labels.shape[1] != n_classes or not ((labels == 0) | (labels == 1)).all():
        found = f"labels of shape {tuple(labels.shape)} holding {labels.unique()[:5].tolist()}"
        raise InputError(f"{found}; need [N, {n_classes}] of 0 and 1")
    return labels == 1


def _check_class_range(labels: Tensor, n_classes: int) -> None:
    if len(labels) and not (0 <= labels.min() and labels.max() < n_classes):
        raise InputError(f"labels run from {labels.min()} to {labels.max()}; allowed are 0 to {n_classes - 1}")


def _check_rates(name: str, rates: Tensor) -> None:
    if not ((rates >= 0) & (rates <= 1)).all():
        raise InputError(f"{name} is {rates.tolist()}; allowed are values from 0 to 1")
