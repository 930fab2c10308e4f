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
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, weights: Tensor, *, temperature: float, alpha: float,
    multilabel: bool = False,
) -> Tensor:  # fmt: skip
    """Eq. 4 as a mean over the batch: alpha tau^2 sum_m w_m KL(q_m || p) + (1 - alpha) CE, a scalar.

    Logits are [B, C] and [K, B, C], weights [K] or [K, B]. With uniform weights the gradient equals that of the KL
    divergence to the averaged teacher (Baseline III): the two differ by the teachers' entropies alone.
    """
    options = {"temperature": temperature, "alpha": alpha, "multilabel": multilabel}
    soft, hard = soft_and_hard(student_logits, teacher_logits, labels, weights, **options)
    return torch.mean(soft + hard)


def soft_and_hard(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, weights: Tensor, *, temperature: float, alpha: float,
    multilabel: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The two parts of Eq. 4 for each example, [B] each: alpha tau^2 sum_m w_m KL(q_m || p), and (1 - alpha) CE."""
    divergence = weighted_divergence(student_logits, teacher_logits, weights, temperature, multilabel)
    hard = task_loss(student_logits, labels, multilabel=multilabel)
    return alpha * temperature**2 * divergence, (1 - alpha) * hard


def weighted_divergence(
    student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, temperature: float, multilabel: bool
) -> Tensor:
    """The inner sum of Eq. 4, sum_m w_m KL(q_m || p), for each example, [B]; weights [K] or [K, B]."""
    divergences = teacher_divergences(student_logits, teacher_logits, temperature, multilabel=multilabel)
    return (weights.reshape(len(weights), -1) * divergences).sum(0)


def mean_logits(teacher_logits: Tensor, weights: Tensor) -> Tensor:
    """One teacher in place of K: the weighted mean of their logits [K, B, C], as [1, B, C]; weights [K] or [K, B]."""
    return (weights.reshape(len(weights), -1, 1) * teacher_logits).sum(0, keepdim=True)


def mixture_logits(
    teacher_logits: Tensor, selected: Tensor, temperature: float = 1.0, *, multilabel: bool = False
) -> Tensor:
    """Logits [B, C] whose Eq. 3 is the mean q of the selected teachers', from logits [K, B, C] and `selected` [K, B] in {0, 1}.

    Teachers that agree give their own bits, whichever are selected: a reward that compares mixtures is then 0.
    """
    scaled = teacher_logits / temperature
    if multilabel:
        mixed = _log_mean(F.logsigmoid(scaled), selected) - _log_mean(F.logsigmoid(-scaled), selected)
    else:
        mixed = _log_mean(scaled.log_softmax(-1), selected)
    return temperature * mixed


def _log_mean(log_q: Tensor, selected: Tensor) -> Tensor:
    """The logarithm of the selected q's mean, [B, C]."""
    chosen = log_q.masked_fill(selected[..., None] == 0, -torch.inf)
    largest = chosen.amax(0)
    return largest + ((chosen - largest).exp().sum(0) / selected.sum(0)[:, None]).log()
