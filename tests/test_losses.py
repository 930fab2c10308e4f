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


def eq3(z, tau):
    exponentials = [math.exp(value / tau) for value in z]
    return [value / sum(exponentials) for value in exponentials]


def kl(q, p):
    return sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))


def cross_entropy(z, y):
    return -math.log(eq3(z, 1)[y])


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def binary_kl(z_teacher, z_student, tau):
    """Per-label reading: each label is a distribution over (present, absent); averaged over the labels."""
    pairs = zip(z_teacher, z_student, strict=True)
    return sum(kl(two(t / tau), two(s / tau)) for t, s in pairs) / len(z_student)


def two(z):
    return sigmoid(z), 1 - sigmoid(z)


def binary_cross_entropy(z, y):
    return -sum(math.log(two(value)[0 if present else 1]) for value, present in zip(z, y, strict=True)) / len(z)


def eq4(student, teachers, labels, weights, tau, alpha, multilabel):
    """Eq. 4 as two loops, over examples and teachers, divided by the number of examples; weights [K] or [K, B]."""
    total = 0.0
    for i, z in enumerate(student.tolist()):
        soft = 0.0
        for m, teacher in enumerate(teachers.tolist()):
            w = float(weights[m]) if weights.ndim == 1 else float(weights[m, i])
            soft += w * (binary_kl(teacher[i], z, tau) if multilabel else kl(eq3(teacher[i], tau), eq3(z, tau)))
        y = labels[i].tolist()
        hard = binary_cross_entropy(z, y) if multilabel else cross_entropy(z, y)
        total += alpha * tau**2 * soft + (1 - alpha) * hard
    return total / len(student)


# Eq. 3


@quick
@given(temperature=temperatures, seed=seeds)
def test_eq3_equals_the_formula_of_the_paper_and_sums_to_one(temperature, seed):
    student, *_ = case(False, seed=seed)
    q = soft_targets(student, temperature)
    assert torch.allclose(q, torch.tensor([eq3(z, temperature) for z in student.tolist()], dtype=q.dtype), atol=1e-12)
    assert torch.allclose(q.sum(-1), torch.ones(B, dtype=q.dtype))


def test_eq3_at_temperature_one_is_softmax_and_at_a_large_one_uniform():
    student, *_ = case(False)
    assert torch.equal(soft_targets(student, 1.0), student.softmax(-1))
    assert torch.allclose(soft_targets(student, 1e9), torch.full((B, C), 1 / C, dtype=student.dtype), atol=1e-7)
    assert torch.allclose(soft_targets(student, 1e9, multilabel=True), torch.full_like(student, 0.5), atol=1e-7)


def test_eq3_below_temperature_one_sharpens_and_above_softens():
    student, *_ = case(False)
    entropy = [Categorical(soft_targets(student, tau)).entropy() for tau in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert all((low < high).all() for low, high in zip(entropy, entropy[1:], strict=False))


@quick
@given(temperature=temperatures, shift=st.floats(-50, 50), seed=seeds)
def test_eq3_does_not_change_when_a_constant_is_added_to_all_logits(temperature, shift, seed):
    student, *_ = case(False, seed=seed)
    assert torch.allclose(soft_targets(student + shift, temperature), soft_targets(student, temperature), atol=1e-10)


def test_eq3_for_several_labels_is_a_sigmoid_for_each_label():
    student, *_ = case(True)
    expected = torch.tensor([[sigmoid(value / 0.5) for value in z] for z in student.tolist()], dtype=student.dtype)
    assert torch.allclose(soft_targets(student, 0.5, multilabel=True), expected, atol=1e-12)


def test_eq3_takes_any_leading_axes():
    _, teachers, *_ = case(False)
    together = soft_targets(teachers, 0.5)
    assert together.shape == (K, B, C)
    assert torch.equal(together[1], soft_targets(teachers[1], 0.5))


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


# The divergence


def test_divergences_equal_those_of_torch_distributions_for_classes():
    student, teachers, *_ = case(False)
    expected = kl_divergence(Categorical(logits=teachers / 0.5), Categorical(logits=student / 0.5))
    found = teacher_divergences(student, teachers, 0.5)
    assert found.shape == (K, B)
    assert torch.allclose(found, expected, atol=1e-12)


def test_divergences_equal_those_of_torch_distributions_for_labels():
    student, teachers, *_ = case(True)
    expected = kl_divergence(Bernoulli(logits=teachers / 0.5), Bernoulli(logits=student.expand(K, B, C) / 0.5)).mean(-1)
    found = teacher_divergences(student, teachers, 0.5, multilabel=True)
    assert found.shape == (K, B)
    assert torch.allclose(found, expected, atol=1e-12)


def test_the_divergence_is_from_the_student_to_the_teacher_and_not_the_reverse():
    sure, unsure = torch.tensor([[math.log(9.0), 0.0]]), torch.zeros(1, 2)
    teacher_is_sure = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    student_is_sure = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert abs(teacher_is_sure - student_is_sure) > 0.1
    assert teacher_divergences(unsure, sure[None], 1.0).item() == pytest.approx(teacher_is_sure, rel=1e-5)
    assert teacher_divergences(sure, unsure[None], 1.0).item() == pytest.approx(student_is_sure, rel=1e-5)
    one, none = torch.tensor([[math.log(9.0)]]), torch.zeros(1, 1)
    assert teacher_divergences(none, one[None], 1.0, multilabel=True).item() == pytest.approx(teacher_is_sure, rel=1e-5)
    assert teacher_divergences(one, none[None], 1.0, multilabel=True).item() == pytest.approx(student_is_sure, rel=1e-5)


@quick
@given(temperature=temperatures, multilabel=st.booleans(), seed=seeds)
def test_the_divergence_is_positive_and_zero_where_student_and_teacher_agree(temperature, multilabel, seed):
    student, teachers, *_ = case(multilabel, seed=seed)
    assert (teacher_divergences(student, teachers, temperature, multilabel=multilabel) > 0).all()
    itself = teacher_divergences(student, student[None], temperature, multilabel=multilabel)
    assert torch.allclose(itself, torch.zeros_like(itself), atol=1e-12)


# The task loss


def test_task_loss_equals_the_loops_for_each_example():
    student, _, labels, _ = case(False)
    expected = [cross_entropy(z, y) for z, y in zip(student.tolist(), labels.tolist(), strict=True)]
    assert task_loss(student, labels).tolist() == pytest.approx(expected, rel=1e-12)
    student, _, labels, _ = case(True)
    expected = [binary_cross_entropy(z, y) for z, y in zip(student.tolist(), labels.tolist(), strict=True)]
    assert task_loss(student, labels, multilabel=True).tolist() == pytest.approx(expected, rel=1e-12)


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


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_one_teacher_with_weight_one_is_hintons_loss_with_batchmean(temperature, log_target):
    student, teachers, labels, _ = case(False, k=1)
    log_p = (student / temperature).log_softmax(-1)
    log_q = (teachers[0] / temperature).log_softmax(-1)
    target = log_q if log_target else log_q.exp()
    found = distillation_loss(student, teachers, labels, torch.ones(1), temperature=temperature, alpha=0.9)

    def hinton(reduction):
        divergence = F.kl_div(log_p, target, reduction=reduction, log_target=log_target)
        return 0.9 * temperature**2 * divergence + 0.1 * F.cross_entropy(student, labels)

    assert torch.allclose(found, hinton("batchmean"), atol=1e-12)
    if log_target:  # reduction "mean" divides by the number of classes as well
        per_entry = F.kl_div(log_p, target, reduction="none", log_target=True).mean()
        assert not torch.allclose(found, 0.9 * temperature**2 * per_entry + 0.1 * F.cross_entropy(student, labels))


@readings
def test_the_batch_twice_over_has_the_same_loss(multilabel):
    student, teachers, labels, weights = case(multilabel)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": multilabel}
    once = distillation_loss(student, teachers, labels, weights, **options)
    twice = distillation_loss(
        student.repeat(2, 1), teachers.repeat(1, 2, 1), torch.cat([labels, labels]), weights, **options
    )
    assert torch.allclose(once, twice, atol=1e-12)


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


def averaged_teacher_divergence(student, teachers, temperature, multilabel):
    """KL of the student to the teachers' mean probabilities, as in Baseline III's wording."""
    kind = Bernoulli if multilabel else Categorical
    mean = soft_targets(teachers, temperature, multilabel=multilabel).mean(0)
    return kl_divergence(kind(mean), kind(logits=student / temperature))


@readings
def test_uniform_weights_have_the_gradient_of_the_divergence_to_the_averaged_teacher(multilabel):
    student, teachers, labels, _ = case(multilabel)
    student.requires_grad_()
    uniform = torch.full((K,), 1 / K, dtype=student.dtype)
    options = {"temperature": 0.5, "alpha": 1.0, "multilabel": multilabel}
    ours = distillation_loss(student, teachers, labels, uniform, **options)
    divergence = averaged_teacher_divergence(student, teachers, 0.5, multilabel)
    theirs = 0.25 * (divergence.mean() if multilabel else divergence.sum() / B)
    assert not torch.allclose(ours, theirs)  # they differ by the teachers' entropies alone
    (ours_gradient,) = torch.autograd.grad(ours, student)
    (theirs_gradient,) = torch.autograd.grad(theirs, student)
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


def test_the_mean_of_logits_takes_weights_for_each_example():
    _, teachers, *_ = case(False)
    weights = torch.rand(K, B, generator=torch.Generator().manual_seed(0), dtype=teachers.dtype)
    expected = torch.einsum("kb,kbc->bc", weights, teachers)
    assert torch.allclose(mean_logits(teachers, weights)[0], expected, atol=1e-12)


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


@readings
def test_a_mixture_of_teachers_without_doubt_is_finite(multilabel):
    extreme = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, -1e4]]])
    for selected in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        found = mixture_logits(extreme, torch.tensor(selected)[:, None], 0.5, multilabel=multilabel)
        assert found.isfinite().all()


def test_the_factor_tau_squared_keeps_the_gradient_at_high_temperatures():
    """Hinton et al. 2015, section 2.1: it tends to the difference of the centred logits over C."""
    student, teachers, labels, _ = case(False, k=1)
    student.requires_grad_()
    loss = distillation_loss(student, teachers, labels, torch.ones(1), temperature=1e4, alpha=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    centred = (student - student.mean(1, keepdim=True)) - (teachers[0] - teachers[0].mean(1, keepdim=True))
    assert torch.allclose(gradient, centred / C / B, atol=1e-4)


def test_all_weights_zero_leave_the_hard_label_part():
    student, teachers, labels, weights = case(False)
    found = distillation_loss(student, teachers, labels, weights * 0, temperature=0.5, alpha=0.9)
    assert torch.allclose(found, 0.1 * F.cross_entropy(student, labels))


def test_weights_for_each_example_weigh_that_example_alone():
    student, teachers, labels, weights = case(False)
    by_example = weights[:, None].repeat(1, B)
    options = {"temperature": 0.5, "multilabel": False}
    before = weighted_divergence(student, teachers, by_example, **options)
    assert torch.equal(before, weighted_divergence(student, teachers, weights, **options))
    by_example[0, 2] += 1
    change = weighted_divergence(student, teachers, by_example, **options) - before
    divergences = teacher_divergences(student, teachers, 0.5)
    assert torch.allclose(change, torch.tensor([0, 0, 1, 0], dtype=change.dtype) * divergences[0], atol=1e-12)


@readings
def test_teachers_with_their_weights_may_come_in_any_order(multilabel):
    student, teachers, labels, weights = case(multilabel)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": multilabel}
    order = torch.tensor([2, 0, 1])
    first = distillation_loss(student, teachers, labels, weights, **options)
    assert torch.allclose(first, distillation_loss(student, teachers[order], labels, weights[order], **options))
    assert not torch.allclose(first, distillation_loss(student, teachers[order], labels, weights, **options))


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
