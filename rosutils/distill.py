"""Teachers, weighting and losses become a `loss_fn` for `training.fit`; Eq. 1 becomes an `after_epoch`."""

import copy

import torch
from torch import nn

from rosutils.averaging import update_average
from rosutils.bank import Bank
from rosutils.devices import send
from rosutils.losses import distillation_loss, soft_targets, task_loss, weighted_divergence
from rosutils.weights import ReinforcedSelector, exponential_weights, selection_weights


def supervised_loss(model: nn.Module, batch):
    """Baseline I and every teacher: the task loss on the given labels, a mean over the batch."""
    return task_loss(model(batch.images), batch.labels, multilabel=batch.labels.is_floating_point()).mean()


class DistillationLoss:
    """Eq. 4 with the bank's logits; `weigh(batch)` gives the teachers' weights [K] or [K, B]."""

    def __init__(self, bank: Bank, weigh, *, temperature: float, alpha: float, multilabel: bool) -> None:
        self.bank, self.weigh = bank, weigh
        self.options = {"temperature": temperature, "alpha": alpha, "multilabel": multilabel}

    def __call__(self, model: nn.Module, batch):
        """The loss of a batch, a scalar."""
        weights = send(self.weigh(batch), batch.images.device)
        return distillation_loss(model(batch.images), self.bank(batch), batch.labels, weights, **self.options)


def fixed(weights):
    """The same teacher weights [K] in every iteration (Baselines II and III)."""
    return lambda batch: weights


class ExponentialWeights:
    """Section III-B: fresh exponential weights in each iteration; an epoch's draws depend on (seed, epoch) alone."""

    def __init__(self, n_teachers: int, *, seed: int, normalize: bool = True, per_example: bool = False) -> None:
        self.n_teachers, self.seed, self.normalize, self.per_example = n_teachers, seed, normalize, per_example
        self._epoch, self._generator = None, torch.Generator()

    def __call__(self, batch):
        """Weights [K], or [K, B] with one draw per example."""
        self._generator = epoch_generator(self._generator, self._epoch, batch.epoch, self.seed)
        self._epoch = batch.epoch
        n_examples = len(batch.index) if self.per_example else None
        return exponential_weights(
            self.n_teachers, n_examples=n_examples, normalize=self.normalize, generator=self._generator
        )


def epoch_generator(generator: torch.Generator, current: int | None, epoch: int, seed: int) -> torch.Generator:
    """The generator, restarted where a new epoch begins, so that a resumed run draws what an unbroken one draws."""
    return generator if epoch == current else torch.Generator().manual_seed(seed * 100_003 + epoch + 50_021)


class ReinforcedLoss:
    """Baseline IV: Eq. 4 with the teachers that a `ReinforcedSelector` picks; its first epoch uses all teachers."""

    def __init__(
        self, bank: Bank, selector: ReinforcedSelector, *, temperature: float, alpha: float, multilabel: bool,
        seed: int, reward: str = "r2",
    ) -> None:  # fmt: skip
        self.bank, self.selector, self.reward, self.seed = bank, selector, reward, seed
        self.temperature, self.alpha, self.multilabel = temperature, alpha, multilabel
        self._epoch, self._generator = None, torch.Generator()
        self.selected = self.considered = self.unselected = self.seen = 0.0

    def __call__(self, model: nn.Module, batch):
        """The loss of a batch, a scalar; the batch's states, actions and rewards are remembered for the policy."""
        several = batch.labels.is_floating_point()
        features = model.features(batch.images)
        logits, teachers = model.head(features), self.bank(batch)
        with torch.no_grad():
            losses = torch.stack([task_loss(teacher, batch.labels, multilabel=several) for teacher in teachers])
        states = self.selector.states(features, soft_targets(teachers, 1.0, multilabel=several), losses)
        actions = self._actions(states, batch.epoch)
        divergence = weighted_divergence(
            logits, teachers, selection_weights(actions), self.temperature, self.multilabel
        )
        hard = task_loss(logits, batch.labels, multilabel=self.multilabel)
        soft = self.alpha * self.temperature**2 * divergence
        if batch.epoch > 0:
            rewards = -hard.detach() - (divergence.detach() if self.reward == "r2" else 0)
            self.selector.remember(states, actions, rewards)
        return (soft + (1 - self.alpha) * hard).mean()

    def _actions(self, states, epoch: int):
        if epoch == 0:
            return torch.ones(states.shape[:2], device=states.device)
        self._generator = epoch_generator(self._generator, self._epoch, epoch, self.seed)
        self._epoch = epoch
        actions = self.selector.select(states, generator=self._generator)
        # tensors, read at the end of the epoch only: an accelerator is not waited for
        self.selected = self.selected + actions.sum(dtype=torch.float64)
        self.considered += actions.numel()
        self.unselected = self.unselected + (actions.sum(0) == 0).sum()
        return actions

    def after_epoch(self) -> dict:
        """The policy pass at the end of an episode; history: shares of teachers selected and of images with none."""
        self.selector.learn()
        images = self.considered / max(1, len(self.bank.logits))
        row = {
            "selected": float(self.selected) / max(1.0, self.considered),
            "unselected": float(self.unselected) / max(1.0, images),
        }
        self.selected = self.considered = self.unselected = 0.0
        return row


class Average:
    """Eq. 1 along the trajectory: from epoch `start` on, the model's weights join the average after each epoch."""

    def __init__(self, model: nn.Module, start: int) -> None:
        self.model, self.start = copy.deepcopy(model), start

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Count epoch `epoch` (from 0) in, once `start` epochs are over."""
        if epoch >= self.start:
            update_average(self.model, model, epoch - self.start)
