"""Distillation: the loss a student meets is Eq. 4 with its teachers, whatever way the weights come about."""

import pytest
import torch
from torch.nn import functional as F

from rosutils.data import Batch
from rosutils.distill import (
    Average,
    DistillationLoss,
    ExponentialWeights,
    ReinforcedLoss,
    fixed,
    supervised_loss,
)
from rosutils.losses import distillation_loss
from rosutils.weights import ReinforcedSelector, uniform_weights


OPTIONS = {"temperature": 0.5, "alpha": 0.9}


def batches(loader, epoch):
    loader.set_epoch(epoch)
    return list(loader)


def on_the_fly(teachers, batch):
    with torch.no_grad():
        return torch.stack([teacher.eval()(batch.images) for teacher in teachers])


# Eq. 4 through the bank


@pytest.mark.parametrize("per_example", [False, True])
def test_the_loss_is_eq_4_with_the_teachers_on_the_fly_for_whole_epochs(
    bank_and_teachers, small_task, make_net, per_example
):
    bank, teachers, loader = bank_and_teachers
    options = {**OPTIONS, "multilabel": small_task.multilabel}
    loss = DistillationLoss(bank, ExponentialWeights(3, seed=4, per_example=per_example), **options)
    same_draws = ExponentialWeights(3, seed=4, per_example=per_example)
    student = make_net(4, seed=7).train()
    for epoch in range(3):
        for batch in batches(loader, epoch):
            expected = distillation_loss(
                student(batch.images), on_the_fly(teachers, batch), batch.labels, same_draws(batch), **options
            )
            torch.testing.assert_close(loss(student, batch), expected, rtol=0, atol=1e-5)


def test_no_gradient_reaches_the_teachers(bank_and_teachers, small_task, make_net):
    bank, _, loader = bank_and_teachers
    loss = DistillationLoss(bank, fixed(uniform_weights(3)), multilabel=small_task.multilabel, **OPTIONS)
    student = make_net(4, seed=7)
    loss(student, next(iter(loader))).backward()
    assert not bank.logits.requires_grad and all(p.grad is not None for p in student.parameters())


def test_without_teachers_the_loss_is_the_mean_task_loss(bank_and_teachers, small_task, make_net):
    batch, student = next(iter(bank_and_teachers[2])), make_net(4, seed=7).eval()
    logits = student(batch.images)
    oracle = F.binary_cross_entropy_with_logits if small_task.multilabel else F.cross_entropy
    torch.testing.assert_close(supervised_loss(student, batch), oracle(logits, batch.labels))


# Section III-B: the draws


def draws(weigh, epoch, n=6):
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.arange(2), epoch)
    return [weigh(batch) for _ in range(n)]


def same(first, second):
    return all(a.equal(b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("per_example", [False, True])
def test_an_epochs_weights_depend_on_seed_and_epoch_alone_so_a_resumed_study_draws_the_same(per_example):
    unbroken = ExponentialWeights(5, seed=3, per_example=per_example)
    epochs = [draws(unbroken, epoch) for epoch in range(4)]
    torch.manual_seed(123)
    resumed = ExponentialWeights(5, seed=3, per_example=per_example)
    assert same(draws(resumed, 2), epochs[2]) and same(draws(resumed, 3), epochs[3])
    assert not same(epochs[2], epochs[3])
    assert not same(draws(ExponentialWeights(5, seed=4, per_example=per_example), 2), epochs[2])


def test_every_iteration_has_a_draw_of_its_own():
    found = draws(ExponentialWeights(5, seed=3), 0, n=50)
    assert len({tuple(weights.tolist()) for weights in found}) == 50


def test_weights_sum_to_one_unless_they_are_left_as_drawn():
    torch.testing.assert_close(torch.stack(draws(ExponentialWeights(5, seed=0), 0)).sum(1), torch.ones(6))
    per_example = draws(ExponentialWeights(5, seed=0, per_example=True), 0)[0]
    assert per_example.shape == (5, 2) and not per_example[:, 0].equal(per_example[:, 1])
    raw = torch.stack(draws(ExponentialWeights(5, seed=0, normalize=False), 0, n=2000))
    # Exp(1): mean 1 and standard deviation 1; five standard errors of 10,000 draws.
    assert raw.mean() == pytest.approx(1, abs=0.05) and raw.std() == pytest.approx(1, abs=0.1)
    assert raw.sum(1).std() > 1


# Baseline IV


class Recorder(ReinforcedSelector):
    """A selector that keeps what it picked."""

    picked: torch.Tensor

    def select(self, states, *, generator):
        self.picked = super().select(states, generator=generator)
        return self.picked


@pytest.fixture
def reinforced(bank_and_teachers, small_task):
    bank, teachers, loader = bank_and_teachers
    selector = Recorder(54, 4)

    def make(**options):
        return ReinforcedLoss(bank, selector, multilabel=small_task.multilabel, seed=2, **OPTIONS, **options)

    return make, selector, teachers, loader


def eq_4(student_logits, teacher_logits, labels, weights, multilabel):
    """Eq. 4 for each example as written: loops over examples and teachers; hard losses and divergences, [B] each."""
    tau, hard, soft = OPTIONS["temperature"], [], []
    for b, logits in enumerate(student_logits):
        divergence = torch.zeros(())
        for m, teacher in enumerate(teacher_logits):
            if multilabel:
                q, p = torch.sigmoid(teacher[b] / tau), torch.sigmoid(logits / tau)
                kl = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()
            else:
                q, p = torch.softmax(teacher[b] / tau, 0), torch.softmax(logits / tau, 0)
                kl = (q * (q / p).log()).sum()
            divergence = divergence + weights[m, b] * kl
        soft.append(divergence)
        oracle = F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy
        hard.append(oracle(logits, labels[b]))
    return torch.stack(hard), torch.stack(soft)


def test_the_first_epoch_counts_every_teacher_equally(reinforced, bank_and_teachers, small_task, make_net):
    make, selector, _, loader = reinforced
    uniform = DistillationLoss(
        bank_and_teachers[0], fixed(uniform_weights(3)), multilabel=small_task.multilabel, **OPTIONS
    )
    loss, student = make(), make_net(4, seed=7)
    for batch in batches(loader, 0):
        gradients = []
        for each in (loss, uniform):
            student.zero_grad()
            value = each(student, batch)
            value.backward()
            gradients.append([value, *(p.grad.clone() for p in student.parameters())])
        torch.testing.assert_close(*gradients)
    assert selector.episode == []


@pytest.mark.parametrize("reward", ["r1", "r2"])
def test_later_epochs_are_eq_4_with_the_selected_teachers_alone(reinforced, small_task, make_net, reward):
    make, selector, teachers, loader = reinforced
    loss, student = make(reward=reward), make_net(4, seed=7).train()
    none_selected = 0
    for batch in batches(loader, 1):
        value = loss(student, batch)
        picked = selector.picked
        weights = picked / picked.sum(0).clamp(min=1)
        hard, soft = eq_4(
            student(batch.images), on_the_fly(teachers, batch), batch.labels, weights, small_task.multilabel
        )
        torch.testing.assert_close(value, (0.9 * 0.5**2 * soft + 0.1 * hard).mean(), rtol=0, atol=1e-5)
        rewards = (-hard - (soft if reward == "r2" else 0)).detach()
        torch.testing.assert_close(
            selector.episode[-1][2], (rewards - rewards.mean()) / rewards.std(), rtol=0, atol=1e-4
        )
        assert selector.episode[-1][1].equal(picked)
        none_selected += int((picked.sum(0) == 0).sum())
    assert none_selected > 0  # the case in which the task loss counts alone has been there


def test_after_an_epoch_the_policy_has_moved_and_the_shares_are_those_of_the_picks(reinforced, make_net):
    make, selector, _, loader = reinforced
    loss, student, picks = make(), make_net(4, seed=7), []
    for batch in batches(loader, 1):
        loss(student, batch)
        picks.append(selector.picked)
    before, picks = selector.policy.weight.clone(), torch.cat(picks, dim=1)
    row = loss.after_epoch()
    assert row["selected"] == pytest.approx(picks.mean().item())
    assert row["unselected"] == pytest.approx((picks.sum(0) == 0).double().mean().item())
    assert not selector.policy.weight.equal(before) and selector.episode == []


def test_the_picks_of_an_epoch_depend_on_seed_and_epoch_alone(reinforced, make_net):
    make, selector, _, loader = reinforced
    student, found = make_net(4, seed=7).eval(), []
    unbroken, resumed = make(), make()
    for loss, epochs in ((unbroken, (1, 2)), (resumed, (2,))):
        for epoch in epochs:
            picks = []
            for batch in batches(loader, epoch):
                loss(student, batch)
                picks.append(selector.picked)
            found.append(torch.cat(picks, dim=1))
    assert found[1].equal(found[2]) and not found[0].equal(found[1])


# Eq. 1 along the trajectory


def train_to(model, epoch):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(epoch)
        model.backbone[1].running_mean.fill_(100 + epoch)


@pytest.mark.parametrize("start, epochs, counted", [(10, 50, 40), (0, 5, 5), (4, 5, 1)])
def test_the_average_is_the_mean_over_the_epochs_after_the_warm_up(make_net, start, epochs, counted):
    model = make_net(4, seed=0)
    average = Average(model, start)
    for epoch in range(epochs):
        train_to(model, epoch)
        average.after_epoch(model, epoch)
    after_warm_up = range(start, epochs)
    assert len(after_warm_up) == counted
    expected = sum(after_warm_up) / counted
    for parameter in average.model.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))
    assert average.model.backbone[1].running_mean.eq(100 + epochs - 1).all()


def test_averaging_never_feeds_back_into_the_student(make_net):
    model = make_net(4, seed=0)
    average = Average(model, 0)
    for epoch in range(3):
        train_to(model, epoch)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        average.after_epoch(model, epoch)
        assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in average.model.parameters()}
