"""Eq. 3, Eq. 4 and the task loss; every function takes logits."""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_targets(logits: Tensor, temperature: float, *, multilabel: bool = False) -> Tensor:
    """Eq. 3: the knowledge q of logits [..., C] at temperature tau; softmax, or a sigmoid for each label."""
    scaled = logits / temperature
    return scaled.sigmoid() if multilabel else scaled.softmax(-1)


def teacher_divergences(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, multilabel: bool = False
) -> Tensor:
    """KL(q || p) of Eq. 4 for each teacher and example, [K, B], from logits [B, C] and [K, B, C].

    For several labels per image it is the binary KL divergence averaged over the C labels.
    """
    student, teacher = student_logits / temperature, teacher_logits / temperature
    if multilabel:
        present = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
        absent = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
        return (present + absent).mean(-1)
    log_q = teacher.log_softmax(-1)
    return (log_q.exp() * (log_q - student.log_softmax(-1))).sum(-1)


def task_loss(logits: Tensor, labels: Tensor, *, multilabel: bool = False) -> Tensor:
    """The hard-label loss of each example, [B]: cross-entropy, or binary cross-entropy averaged over the C labels."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
    return F.cross_entropy(logits, labels, reduction="none")


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    temperature: float,
    alpha: float,
    multilabel: bool = False,
) -> Tensor:
    """Eq. 4 as a mean over the batch: alpha tau^2 sum_m w_m KL(q_m || p) + (1 - alpha) CE, a scalar.

    Logits are [B, C] and [K, B, C], weights [K] or [K, B]. With uniform weights the gradient equals that of the KL
    divergence to the averaged teacher (Baseline III): the two differ by the teachers' entropies alone.
    """
    return torch.mean(
        alpha * temperature**2 * weighted_divergence(student_logits, teacher_logits, weights, temperature, multilabel)
        + (1 - alpha) * task_loss(student_logits, labels, multilabel=multilabel)
    )


def weighted_divergence(
    student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, temperature: float, multilabel: bool
) -> Tensor:
    """The inner sum of Eq. 4, sum_m w_m KL(q_m || p), for each example, [B]; weights [K] or [K, B]."""
    divergences = teacher_divergences(student_logits, teacher_logits, temperature, multilabel=multilabel)
    return ((weights[:, None] if weights.ndim == 1 else weights) * divergences).sum(0)
