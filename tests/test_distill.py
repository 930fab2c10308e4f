"""Distillation: the loss a student meets is Eq. 4 with its teachers, whatever way the weights come about."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from rosutils import InputError, training
from rosutils.bank import Bank
from rosutils.data import Batch
from rosutils.distill import Average, DistillationLoss, ExponentialWeights, ReinforcedLoss, fixed, supervised_loss
from rosutils.losses import distillation_loss, soft_targets, task_loss, teacher_divergences
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


def test_averaged_logits_are_one_teacher_more_certain_where_the_others_agree(bank_and_teachers, small_task, make_net):
    """Eq. 4 with one teacher, softmax(mean of logits / tau)."""
    bank, teachers, loader = bank_and_teachers
    options = {**OPTIONS, "multilabel": small_task.multilabel}
    loss = DistillationLoss(bank, fixed(uniform_weights(3)), mean_of="logits", **options)
    student = make_net(4, seed=7).eval()
    for batch in batches(loader, 1):
        mean = on_the_fly(teachers, batch).mean(0, keepdim=True)
        expected = distillation_loss(student(batch.images), mean, batch.labels, torch.ones(1), **options)
        torch.testing.assert_close(loss(student, batch), expected, rtol=0, atol=1e-5)


def test_another_mean_of_teachers_is_refused(bank_and_teachers):
    with pytest.raises(InputError, match="'losses'"):
        DistillationLoss(bank_and_teachers[0], fixed(uniform_weights(3)), mean_of="losses", multilabel=False, **OPTIONS)


@pytest.mark.parametrize("mean_of", ["distributions", "logits"])
def test_an_epoch_tells_the_mean_divergence_to_each_teacher(bank_and_teachers, small_task, make_net, mean_of):
    bank, teachers, loader = bank_and_teachers
    options = {**OPTIONS, "multilabel": small_task.multilabel}
    loss = DistillationLoss(bank, ExponentialWeights(3, seed=4), mean_of=mean_of, **options)
    student, parts = make_net(4, seed=7).eval(), []
    for epoch in range(2):
        for batch in (*batches(loader, epoch), *batches(loader, epoch)[:1]):
            loss(student, batch)
            logits = student(batch.images), on_the_fly(teachers, batch)
            parts.append(teacher_divergences(*logits, 0.5, multilabel=small_task.multilabel).detach())
        expected, row = torch.cat(parts, dim=1).mean(1).tolist(), loss.after_epoch()
        assert row == {f"divergence_{m}": pytest.approx(expected[m - 1], abs=1e-5) for m in (1, 2, 3)}
        parts.clear()
    assert loss.after_epoch() == {}


def test_without_teachers_the_loss_is_the_mean_task_loss(bank_and_teachers, small_task, make_net):
    batch, student = next(iter(bank_and_teachers[2])), make_net(4, seed=7).eval()
    expected = task_loss(student(batch.images), batch.labels, multilabel=small_task.multilabel).mean()
    torch.testing.assert_close(supervised_loss(student, batch), expected)


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


def test_every_iteration_has_a_draw_of_its_own_and_sums_to_one_unless_left_as_drawn():
    found = torch.stack(draws(ExponentialWeights(5, seed=3), 0, n=50))
    torch.testing.assert_close(found.sum(1), torch.ones(50))
    assert len(found.unique(dim=0)) == 50
    per_example = draws(ExponentialWeights(5, seed=0, per_example=True), 0)[0]
    assert per_example.shape == (5, 2) and not per_example[:, 0].equal(per_example[:, 1])
    raw = torch.stack(draws(ExponentialWeights(5, seed=0, normalize=False), 0, n=2000))
    assert raw.mean() == pytest.approx(1, abs=0.05)  # Exp(1): five standard errors of 10,000 draws
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


def test_the_first_epoch_counts_every_teacher_equally(reinforced, bank_and_teachers, small_task, make_net):
    make, selector, _, loader = reinforced
    options = {**OPTIONS, "multilabel": small_task.multilabel}
    uniform = DistillationLoss(bank_and_teachers[0], fixed(uniform_weights(3)), **options)
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
    everyone = {"selected": 1, "unselected": 0, "selected_1": 1, "selected_2": 1, "selected_3": 1}
    assert loss.after_epoch() == everyone | uniform.after_epoch()


def worth(logits, teachers, labels, chosen, multilabel, reward):
    """What the mixture of the chosen teachers is worth for each example, [B]: its soft label is the mean of theirs."""

    def mixture(tau):
        q = (soft_targets(teachers, tau, multilabel=multilabel) * chosen[..., None]).sum(0) / chosen.sum(0)[:, None]
        return Bernoulli(q) if multilabel else Categorical(q)

    found, student = mixture(1.0).log_prob(labels), (Bernoulli if multilabel else Categorical)(logits=logits / 0.5)
    if reward != "r1":
        found = found - 0.9 * 0.5**2 * kl_divergence(mixture(0.5), student)
    return (found.mean(-1) if multilabel else found).detach()


def those_that_count(picked, selector, states):
    """The actions as drawn, and the likeliest teacher alone where nobody was."""
    counted = picked.clone()
    for b in torch.nonzero(picked.sum(0) == 0).flatten():
        counted[selector(states)[:, b].argmax(), b] = 1
    return counted


@pytest.mark.parametrize("reward", ["r1", "r2", "r3"])
def test_later_epochs_are_eq_4_with_the_selected_teachers_alone(reinforced, small_task, make_net, reward):
    make, selector, teachers, loader = reinforced
    loss, student, multilabel = make(reward=reward), make_net(4, seed=7).train(), small_task.multilabel
    with torch.no_grad():
        selector.policy.weight.copy_(torch.linspace(-1, 1, 59))
        selector.policy.bias.fill_(-1.5)
    none_selected = 0
    for batch in batches(loader, 1):
        value = loss(student, batch)
        states, actions, advantages = selector.episode[-1]
        assert actions.equal(those_that_count(selector.picked, selector, states))
        logits, others = student(batch.images), on_the_fly(teachers, batch)
        options = {**OPTIONS, "multilabel": multilabel}
        expected = distillation_loss(logits, others, batch.labels, actions / actions.sum(0), **options)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
        sides = [worth(logits, others, batch.labels, each, multilabel, reward) for each in (actions, actions * 0 + 1)]
        torch.testing.assert_close(advantages, sides[0] - sides[1], rtol=0, atol=1e-4)
        none_selected += int((selector.picked.sum(0) == 0).sum())
    assert none_selected > 0  # the case in which the likeliest teacher counts has been there


def test_after_an_epoch_the_policy_has_moved_and_the_shares_are_those_that_counted(reinforced, make_net):
    make, selector, _, loader = reinforced
    loss, student, picks = make(), make_net(4, seed=7), []
    for batch in batches(loader, 1):
        loss(student, batch)
        picks.append(selector.picked)
    counted = torch.cat([actions for _, actions, _ in selector.episode], dim=1)
    before, picks = selector.policy.weight.clone(), torch.cat(picks, dim=1)
    row = loss.after_epoch()
    assert row["selected"] == pytest.approx(counted.mean().item())
    assert [row[f"selected_{m}"] for m in (1, 2, 3)] == pytest.approx(counted.mean(1).tolist())
    assert row["unselected"] == pytest.approx((picks.sum(0) == 0).double().mean().item())
    assert not selector.policy.weight.equal(before) and selector.episode == []


def test_reward_r3_asks_for_the_quality_and_the_others_do_not_look_at_it(reinforced):
    make, selector, *_ = reinforced
    assert [make(reward=reward).wants_quality for reward in ("r1", "r2", "r3")] == [False, False, True]
    make(reward="r2").after_epoch(0.5)
    assert selector.quality_mean.isinf()
    make(reward="r3").after_epoch(0.5)
    assert selector.quality_mean == 0.5
    with pytest.raises(InputError, match="r3 needs"):
        make(reward="r3").after_epoch()


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


@pytest.mark.parametrize("reward", ["r1", "r2", "r3"])
def test_where_all_teachers_are_equal_nothing_moves_the_policy(bank_and_teachers, small_task, make_net, reward):
    bank, _, loader = bank_and_teachers
    equal = Bank(bank.logits[:1].expand(3, -1, -1, -1), small_task.split["train"])
    selector, multilabel = ReinforcedSelector(54, 4), small_task.multilabel
    loss = ReinforcedLoss(equal, selector, multilabel=multilabel, seed=2, reward=reward, **OPTIONS)
    history = training.fit(
        make_net(4, seed=7), loader, loss, epochs=3, learning_rate=0.1, progress=False,
        after_epoch=lambda model, epoch: loss.after_epoch(0.6),
    )  # fmt: skip
    assert not selector.policy.weight.any() and not selector.policy.bias.any()
    assert history[-1]["selected_1"] != history[-1]["selected_2"]  # they were drawn


def reinforced_fit(bank, loader, make_net, multilabel, epochs, checkpoint):
    """Student and selector after some epochs of r3, the quality being the number of the epoch."""
    student, selector = make_net(4, seed=7, dropout=0.5), ReinforcedSelector(54, 4)
    loss = ReinforcedLoss(bank, selector, multilabel=multilabel, seed=2, reward="r3", **OPTIONS)
    history = training.fit(
        student, loader, loss, epochs=epochs, learning_rate=0.1, progress=False, checkpoint=checkpoint,
        stateful={"selector": selector}, after_epoch=lambda model, epoch: loss.after_epoch(epoch / 10),
    )  # fmt: skip
    return [*student.state_dict().values(), *selector.state_dict().values()], history


def test_a_resumed_run_has_the_bits_of_an_unbroken_one(bank_and_teachers, small_task, make_net, tmp_path):
    bank, _, loader = bank_and_teachers
    arguments = (bank, loader, make_net, small_task.multilabel)
    unbroken, history = reinforced_fit(*arguments, 3, None)
    reinforced_fit(*arguments, 2, tmp_path / "run.safetensors")
    resumed, same_history = reinforced_fit(*arguments, 3, tmp_path / "run.safetensors")
    assert same(unbroken, resumed) and history == same_history


# Eq. 1 along the trajectory


def train_to(model, epoch):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(epoch)
        model.backbone[1].running_mean.fill_(100 + epoch)


@pytest.mark.parametrize("start, epochs, counted", [(10, 50, 40), (0, 5, 5), (4, 5, 1)])
def test_the_average_is_the_mean_over_the_epochs_after_the_warm_up_and_never_feeds_back(
    make_net, start, epochs, counted
):
    model = make_net(4, seed=0)
    average = Average(model, start)
    for epoch in range(epochs):
        train_to(model, epoch)
        average.after_epoch(model, epoch)
        assert all(parameter.eq(epoch).all() for parameter in model.parameters())
    after_warm_up = range(start, epochs)
    assert len(after_warm_up) == counted
    for parameter in average.model.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, sum(after_warm_up) / counted))
    assert average.model.backbone[1].running_mean.eq(100 + epochs - 1).all()
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in average.model.parameters()}
