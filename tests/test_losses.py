"""Eq. 3, Eq. 4 and the task loss."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from rosutils.losses import (
    distillation_loss,
    mean_logits,
    mixture_logits,
    soft_and_hard,
    soft_targets,
    task_loss,
    teacher_divergences,
    weighted_divergence,
)


quick = settings(max_examples=40, deadline=None)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 7.5])
seeds = st.integers(0, 2**32)
readings = pytest.mark.parametrize("multilabel", [False, True], ids=["multi-class", "multi-label"])
K, B, C = 3, 4, 5


def case(multilabel, *, seed=0, dtype=torch.float64, k=K, b=B, c=C):
    """Random student logits [B, C], teacher logits [K, B, C], labels and weights [K]."""
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(b, c, generator=generator, dtype=dtype)
    teachers = 3 * torch.randn(k, b, c, generator=generator, dtype=dtype)
    if multilabel:
        labels = (torch.rand(b, c, generator=generator) < 0.4).to(dtype)
    else:
        labels = torch.randint(c, (b,), generator=generator)
    return student, teachers, labels, torch.rand(k, generator=generator, dtype=dtype)


# The paper's formulas, one number at a time.


def eq3(z, tau, multilabel=False):
    """For several labels the reading per label: each is a distribution of its own over (present, absent)."""
    if multilabel:
        return [1 / (1 + math.exp(-value / tau)) for value in z]
    exponentials = [math.exp(value / tau) for value in z]
    return [value / sum(exponentials) for value in exponentials]


def kl(q, p, multilabel=False):
    if multilabel:
        return sum(kl([a, 1 - a], [b, 1 - b]) for a, b in zip(q, p, strict=True)) / len(q)
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def hard_loss(z, y, multilabel=False):
    if multilabel:
        return -sum(math.log(p if present else 1 - p) for p, present in zip(eq3(z, 1, True), y, strict=True)) / len(z)
    return -math.log(eq3(z, 1)[y])


def eq4(student, teachers, labels, weights, tau, alpha, multilabel):
    """Eq. 4 as two loops, over examples and teachers, divided by the number of examples; weights [K] or [K, B]."""
    total = 0.0
    for i, z in enumerate(student.tolist()):
        soft = 0.0
        for m, teacher in enumerate(teachers.tolist()):
            w = float(weights[m]) if weights.ndim == 1 else float(weights[m, i])
            soft += w * kl(eq3(teacher[i], tau, multilabel), eq3(z, tau, multilabel), multilabel)
        total += alpha * tau**2 * soft + (1 - alpha) * hard_loss(z, labels[i].tolist(), multilabel)
    return total / len(student)


# Eq. 3


@quick
@given(temperature=temperatures, shift=st.floats(-50, 50), multilabel=st.booleans(), seed=seeds)
def test_eq3_equals_the_formula_of_the_paper_on_any_leading_axes(temperature, shift, multilabel, seed):
    _, teachers, *_ = case(multilabel, seed=seed)
    q = soft_targets(teachers, temperature, multilabel=multilabel)
    expected = [[eq3(z, temperature, multilabel) for z in teacher] for teacher in teachers.tolist()]
    assert torch.allclose(q, torch.tensor(expected, dtype=q.dtype), atol=1e-12)
    if not multilabel:
        assert torch.allclose(q.sum(-1), torch.ones(K, B, dtype=q.dtype))
        assert torch.allclose(soft_targets(teachers + shift, temperature), q, atol=1e-10)


def test_eq3_at_temperature_one_is_softmax_and_at_a_large_one_uniform():
    student, *_ = case(False)
    assert torch.equal(soft_targets(student, 1.0), student.softmax(-1))
    assert torch.allclose(soft_targets(student, 1e9), torch.full((B, C), 1 / C, dtype=student.dtype), atol=1e-7)
    assert torch.allclose(soft_targets(student, 1e9, multilabel=True), torch.full_like(student, 0.5), atol=1e-7)


@readings
def test_values_and_gradients_are_finite_at_logits_of_ten_thousand(multilabel):
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, -1e4], [1e4, 1e4, -1e4]], requires_grad=True)
    labels = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]) if multilabel else torch.tensor([1, 0, 2])
    teachers = torch.stack([-extreme.detach(), extreme.detach().roll(1, 0), torch.zeros(3, 3)])
    assert soft_targets(extreme, 0.5, multilabel=multilabel).isfinite().all()
    assert teacher_divergences(extreme, teachers, 0.5, multilabel=multilabel).isfinite().all()
    loss = distillation_loss(
        extreme, teachers, labels, torch.ones(3), temperature=0.5, alpha=0.9, multilabel=multilabel
    )
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert extreme.grad.isfinite().all() and extreme.grad.any()
    for selected in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]):
        mixture = mixture_logits(teachers, torch.tensor(selected)[:, None], 0.5, multilabel=multilabel)
        assert mixture.isfinite().all()


# The divergence


@readings
def test_divergences_equal_those_of_torch_distributions(multilabel):
    student, teachers, *_ = case(multilabel)
    kind = Bernoulli if multilabel else Categorical
    expected = kl_divergence(kind(logits=teachers / 0.5), kind(logits=student.expand(K, B, C) / 0.5))
    found = teacher_divergences(student, teachers, 0.5, multilabel=multilabel)
    assert torch.allclose(found, expected.mean(-1) if multilabel else expected, atol=1e-12)


@readings
def test_the_divergence_is_from_the_student_to_the_teacher_and_not_the_reverse(multilabel):
    sure = torch.tensor([[math.log(9.0)]] if multilabel else [[math.log(9.0), 0.0]])
    teacher_is_sure = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    student_is_sure = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    for student, teacher, expected in ((0 * sure, sure, teacher_is_sure), (sure, 0 * sure, student_is_sure)):
        found = teacher_divergences(student, teacher[None], 1.0, multilabel=multilabel)
        assert found.item() == pytest.approx(expected, rel=1e-5)


@quick
@given(temperature=temperatures, multilabel=st.booleans(), seed=seeds)
def test_the_divergence_is_positive_and_zero_where_student_and_teacher_agree(temperature, multilabel, seed):
    student, teachers, *_ = case(multilabel, seed=seed)
    assert (teacher_divergences(student, teachers, temperature, multilabel=multilabel) > 0).all()
    itself = teacher_divergences(student, student[None], temperature, multilabel=multilabel)
    assert torch.allclose(itself, torch.zeros_like(itself), atol=1e-12)


# The task loss


@readings
def test_task_loss_equals_the_loops_for_each_example(multilabel):
    student, _, labels, _ = case(multilabel)
    expected = [hard_loss(z, y, multilabel) for z, y in zip(student.tolist(), labels.tolist(), strict=True)]
    assert task_loss(student, labels, multilabel=multilabel).tolist() == pytest.approx(expected, rel=1e-12)


# Eq. 4


@quick
@given(
    temperature=temperatures, alpha=st.floats(0, 1), multilabel=st.booleans(), per_example=st.booleans(), seed=seeds,
    k=st.integers(1, 4), b=st.integers(1, 5), c=st.integers(2, 5),
)  # fmt: skip
def test_eq4_equals_the_double_loop_over_examples_and_teachers(
    temperature, alpha, multilabel, per_example, seed, k, b, c
):
    student, teachers, labels, weights = case(multilabel, seed=seed, k=k, b=b, c=c)
    if per_example:
        weights = weights[:, None] * torch.arange(1.0, b + 1)
    found = distillation_loss(
        student, teachers, labels, weights, temperature=temperature, alpha=alpha, multilabel=multilabel
    )
    assert found.shape == ()
    expected = eq4(student, teachers, labels, weights, temperature, alpha, multilabel)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@readings
def test_alpha_zero_is_the_task_loss_and_alpha_one_has_no_labels(multilabel):
    student, teachers, labels, weights = case(multilabel)
    options = {"temperature": 0.5, "multilabel": multilabel}
    hard = distillation_loss(student, teachers, labels, weights, alpha=0.0, **options)
    oracle = F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy
    assert torch.allclose(hard, oracle(student, labels), atol=1e-12)
    soft = distillation_loss(student, teachers, labels, weights, alpha=1.0, **options)
    assert torch.equal(soft, distillation_loss(student, teachers, labels.roll(1, 0), weights, alpha=1.0, **options))
    assert torch.allclose(soft, 0.25 * weighted_divergence(student, teachers, weights, 0.5, multilabel).mean())


@readings
def test_the_parts_of_eq4_are_those_of_each_example(multilabel):
    student, teachers, labels, weights = case(multilabel)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": multilabel}
    soft, hard = soft_and_hard(student, teachers, labels, weights, **options)
    assert soft.shape == hard.shape == (B,)
    for b in range(B):
        one = [student[b : b + 1], teachers[:, b : b + 1], labels[b : b + 1], weights]
        assert soft[b].item() == pytest.approx(eq4(*one, 0.5, 0.9, multilabel) - hard[b].item(), rel=1e-9)
        assert hard[b].item() == pytest.approx(eq4(*one, 0.5, 0.0, multilabel) * 0.1, rel=1e-9)
    assert torch.equal((soft + hard).mean(), distillation_loss(student, teachers, labels, weights, **options))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_one_teacher_with_weight_one_is_hintons_loss_with_batchmean(temperature):
    student, teachers, labels, _ = case(False, k=1)
    log_p, log_q = ((logits / temperature).log_softmax(-1) for logits in (student, teachers[0]))
    found = distillation_loss(student, teachers, labels, torch.ones(1), temperature=temperature, alpha=0.9)

    def hinton(reduction):
        divergence = F.kl_div(log_p, log_q, reduction=reduction, log_target=True).mean()
        return 0.9 * temperature**2 * divergence + 0.1 * F.cross_entropy(student, labels)

    assert torch.allclose(found, hinton("batchmean"), atol=1e-12)
    assert not torch.allclose(found, hinton("none"))  # reduction "mean" divides by the number of classes as well


@readings
@pytest.mark.parametrize("per_example", [False, True])
def test_gradients_hold_against_finite_differences(multilabel, per_example):
    student, teachers, labels, weights = case(multilabel)
    if per_example:
        weights = weights[:, None] * torch.arange(1.0, B + 1)
    student.requires_grad_()

    def loss(logits):
        return distillation_loss(logits, teachers, labels, weights, temperature=0.5, alpha=0.9, multilabel=multilabel)

    assert torch.autograd.gradcheck(loss, student)


@readings
def test_uniform_weights_have_the_gradient_of_the_divergence_to_the_averaged_teacher(multilabel):
    """KL of the student to the teachers' mean probabilities, as in Baseline III's wording."""
    student, teachers, labels, _ = case(multilabel)
    student.requires_grad_()
    uniform, kind = torch.full((K,), 1 / K, dtype=student.dtype), Bernoulli if multilabel else Categorical
    ours = distillation_loss(student, teachers, labels, uniform, temperature=0.5, alpha=1.0, multilabel=multilabel)
    mean = soft_targets(teachers, 0.5, multilabel=multilabel).mean(0)
    theirs = 0.25 * kl_divergence(kind(mean), kind(logits=student / 0.5)).mean()
    assert not torch.allclose(ours, theirs)  # they differ by the teachers' entropies alone
    (ours_gradient,), (theirs_gradient,) = (torch.autograd.grad(loss, student) for loss in (ours, theirs))
    assert torch.allclose(ours_gradient, theirs_gradient, atol=1e-12)


# Other means of the teachers


@readings
def test_the_mean_of_logits_is_a_teacher_of_its_own(multilabel):
    """softmax(mean of logits / tau) in closed form: the geometric mean of the teachers' q, normalised."""
    _, teachers, *_ = case(multilabel)
    mean = mean_logits(teachers, torch.full((K,), 1 / K, dtype=teachers.dtype))
    assert mean.shape == (1, B, C)
    q = soft_targets(teachers, 0.5, multilabel=multilabel)
    geometric, opposite = q.log().mean(0).exp(), (1 - q).log().mean(0).exp()
    closed = geometric / (geometric + opposite if multilabel else geometric.sum(-1, keepdim=True))
    assert torch.allclose(soft_targets(mean[0], 0.5, multilabel=multilabel), closed, atol=1e-12)
    assert not torch.allclose(closed, q.mean(0), atol=1e-3)
    by_example = torch.rand(K, B, generator=torch.Generator().manual_seed(0), dtype=teachers.dtype)
    expected = torch.einsum("kb,kbc->bc", by_example, teachers)
    assert torch.allclose(mean_logits(teachers, by_example)[0], expected, atol=1e-12)


@quick
@given(temperature=temperatures, multilabel=st.booleans(), seed=seeds)
def test_the_soft_label_of_a_mixture_is_the_mean_of_the_selected_teachers(temperature, multilabel, seed):
    _, teachers, *_ = case(multilabel, seed=seed)
    selected = (torch.rand(K, B, generator=torch.Generator().manual_seed(seed)) < 0.5).double()
    selected[seed % K] = 1
    found = soft_targets(
        mixture_logits(teachers, selected, temperature, multilabel=multilabel), temperature, multilabel=multilabel
    )
    q = soft_targets(teachers, temperature, multilabel=multilabel)
    for b in range(B):
        assert torch.allclose(found[b], q[selected[:, b] > 0, b].mean(0), atol=1e-12)


@readings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mixture_of_teachers_that_agree_has_the_same_bits_whoever_is_selected(multilabel, dtype):
    one = case(multilabel, dtype=dtype)[1][:1]
    everyone = mixture_logits(one.expand(7, -1, -1), torch.ones(7, B, dtype=dtype), 0.5, multilabel=multilabel)
    for number in range(1, 8):
        some = (torch.arange(7)[:, None] < number).to(dtype).expand(-1, B)
        assert torch.equal(mixture_logits(one.expand(7, -1, -1), some, 0.5, multilabel=multilabel), everyone)


def test_the_factor_tau_squared_keeps_the_gradient_at_high_temperatures():
    """Hinton et al. 2015, section 2.1: it tends to the difference of the centred logits over C."""
    student, teachers, labels, _ = case(False, k=1)
    student.requires_grad_()
    loss = distillation_loss(student, teachers, labels, torch.ones(1), temperature=1e4, alpha=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    centred = (student - student.mean(1, keepdim=True)) - (teachers[0] - teachers[0].mean(1, keepdim=True))
    assert torch.allclose(gradient, centred / C / B, atol=1e-4)


def test_the_literal_softmax_reading_takes_float_labels_of_several_classes():
    """Softmax targets on multi-label data: cross-entropy sums over the labels that are present."""
    student, teachers, labels, weights = case(True)
    labels[0] = 0  # an image without any finding adds nothing to the hard part
    log_p = torch.tensor([[math.log(value) for value in eq3(z, 1)] for z in student.tolist()], dtype=student.dtype)
    hard = -(labels * log_p).sum(1)
    assert torch.allclose(task_loss(student, labels), hard, atol=1e-12)
    assert hard[0] == 0
    found = distillation_loss(student, teachers, labels, weights, temperature=0.5, alpha=0.9)
    soft = weighted_divergence(student, teachers, weights, 0.5, False)
    assert torch.allclose(found, (0.9 * 0.25 * soft + 0.1 * hard).mean(), atol=1e-12)


def test_weights_of_the_wrong_shape_are_refused_not_rearranged():
    """[B, K] instead of [K, B] is silently cut into other teachers' and examples' weights by `view`."""
    with pytest.raises((ValueError, RuntimeError)):
        weighted_divergence(torch.randn(4, 5), torch.randn(3, 4, 5), torch.rand(4, 3), 1.0, False)
