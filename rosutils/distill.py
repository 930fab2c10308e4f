"""Teachers, weighting and losses become a `loss_fn` for `training.fit`; Eq. 1 becomes an `after_epoch`."""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from rosutils import InputError, losses
from rosutils.averaging import update_average
from rosutils.bank import Bank
from rosutils.data.loader import send
from rosutils.weights import ReinforcedSelector, counted_actions, exponential_weights


def supervised_loss(model: nn.Module, batch):
    """Baseline I and every teacher: the task loss on the given labels, a mean over the batch."""
    return losses.task_loss(model(batch.images), batch.labels, multilabel=batch.labels.is_floating_point()).mean()


class EpochMeans:
    """Means over the images of an epoch, kept where they are computed and read once, at its end."""

    def __init__(self) -> None:
        self._sums, self._images = {}, 0

    def add(self, values: dict[str, Tensor]) -> None:
        """A batch's values by the name of their column: [B], or [K, B] for as many columns, <name>1 to <name>K."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().sum(-1, dtype=torch.float64)
        self._images += value.shape[-1]

    def row(self) -> dict[str, float]:
        """The means as columns for the history; the next epoch begins at nothing."""
        found = {}
        for name, total in self._sums.items():
            means = (total / self._images).tolist()
            found |= {f"{name}{m}": mean for m, mean in enumerate(means, 1)} if total.ndim else {name: means}
        self._sums, self._images = {}, 0
        return found


class DistillationLoss:
    """Eq. 4 with the bank's logits; `weigh(batch)` gives the teachers' weights [K] or [K, B].

    With `mean_of` "logits" there is one teacher instead, the softmax of the weighted mean of their logits over tau: another
    reading of Baseline III's "averaging teacher outputs".
    """

    def __init__(self, bank: Bank, weigh, *, mean_of: str = "distributions", **options) -> None:
        """`options` are Eq. 4's: temperature, alpha, multilabel."""
        if mean_of not in ("distributions", "logits"):
            raise InputError(f"mean_of is '{mean_of}'; the teachers' mean is that of their distributions or logits")
        self.bank, self.weigh, self.mean_of, self.means, self.options = bank, weigh, mean_of, EpochMeans(), options

    def __call__(self, model: nn.Module, batch):
        """The loss of a batch, a scalar."""
        weights = send(self.weigh(batch), batch.images.device)
        logits, teachers = model(batch.images), self.bank(batch)
        self.means.add({"divergence_": divergences(logits, teachers, self.options)})
        if self.mean_of == "logits":
            teachers, weights = losses.mean_logits(teachers, weights), torch.ones(1, device=weights.device)
        return losses.distillation_loss(logits, teachers, batch.labels, weights, **self.options)

    def after_epoch(self) -> dict:
        """Columns for the history: the mean KL(q || p) of each teacher over the epoch, divergence_1 to divergence_K."""
        return self.means.row()


@torch.no_grad()
def divergences(logits: Tensor, teachers: Tensor, options: dict) -> Tensor:
    """KL(q || p) of each teacher and example, [K, B], for the history: it has no part in any gradient."""
    return losses.teacher_divergences(logits, teachers, options["temperature"], multilabel=options["multilabel"])


def fixed(weights):
    """The same teacher weights [K] in every iteration (Baselines II and III)."""
    return lambda batch: weights


class ExponentialWeights:
    """Section III-B: fresh exponential weights in each iteration; an epoch's draws depend on (seed, epoch) alone."""

    def __init__(self, n_teachers: int, *, seed: int, normalize: bool = True, per_example: bool = False) -> None:
        self.n_teachers, self.normalize, self.per_example = n_teachers, normalize, per_example
        self._generator = EpochGenerator(seed)

    def __call__(self, batch):
        """Weights [K], or [K, B] with one draw per example."""
        options = {"n_examples": len(batch.index) if self.per_example else None, "normalize": self.normalize}
        return exponential_weights(self.n_teachers, generator=self._generator(batch.epoch), **options)


class EpochGenerator:
    """A generator that begins anew with each epoch, so that a resumed run draws what an unbroken one draws."""

    def __init__(self, seed: int) -> None:
        self.seed, self.epoch, self.generator = seed, None, None

    def __call__(self, epoch: int) -> torch.Generator:
        """The generator of an epoch, as far as it has been drawn from."""
        if epoch != self.epoch:
            self.epoch, self.generator = epoch, torch.Generator().manual_seed(self.seed * 100_003 + epoch + 50_021)
        return self.generator


class ReinforcedLoss:
    """Baseline IV: Eq. 4 with the teachers that a `ReinforcedSelector` picks; its first epoch uses all teachers.

    A mixture, the mean of its teachers' soft labels, is worth: r1 minus its task loss; r2 less the distillation part too,
    alpha tau^2 KL(mixture || student) as in Eq. 4. The advantage of an action is what the mixture of its teachers is worth
    more than that of all teachers on the same image: nothing where teachers agree. r3 is r2, and how much better than before
    the student does after the episode (see `after_epoch`).

    Where the draw selects nobody the likeliest teacher is taken alone, and the policy learns from that action, the one that
    counted: what comes of it is credited to the teacher, and not to the draw.
    """

    def __init__(self, bank: Bank, selector: ReinforcedSelector, *, seed: int, reward: str = "r2", **options) -> None:
        """`options` are Eq. 4's: temperature, alpha, multilabel."""
        self.bank, self.selector, self.reward, self.options = bank, selector, reward, options
        self.wants_quality = reward == "r3"  # for `after_epoch`: on a part of validation that stays the same
        self._generator, self.means = EpochGenerator(seed), EpochMeans()

    def __call__(self, model: nn.Module, batch):
        """The loss of a batch, a scalar; its states, actions and advantages are remembered for the policy."""
        features = model.features(batch.images)
        logits, teachers = model.head(features), self.bank(batch)
        states = self._states(features, teachers, batch.labels)
        if batch.epoch == 0:
            draws = actions = torch.ones(states.shape[:2], device=states.device)
        else:
            draws = self.selector.select(states, generator=self._generator(batch.epoch))
            actions = counted_actions(draws, self.selector(states))
            worth = partial(self._worth, logits, teachers, batch.labels)
            self.selector.episode.append((states, actions, worth(actions) - worth(torch.ones_like(actions))))
        self.means.add({
            "selected": actions.mean(0), "unselected": draws.sum(0) == 0, "selected_": actions,
            "divergence_": divergences(logits, teachers, self.options),
        })  # fmt: skip
        weights = actions / actions.sum(0)  # the selected teachers, at least one for each image, count equally
        return losses.distillation_loss(logits, teachers, batch.labels, weights, **self.options)

    @torch.no_grad()
    def probabilities(self, model: nn.Module, batch) -> Tensor:
        """How likely the policy is to select each teacher for each image of a batch, [K, B]."""
        return self.selector(self._states(model.features(batch.images), self.bank(batch), batch.labels))

    @torch.no_grad()
    def _states(self, features: Tensor, teachers: Tensor, labels: Tensor) -> Tensor:
        several = labels.is_floating_point()
        hard = torch.stack([losses.task_loss(teacher, labels, multilabel=several) for teacher in teachers])
        return self.selector.states(features, losses.soft_targets(teachers, 1.0, multilabel=several), hard)

    @torch.no_grad()
    def _worth(self, logits: Tensor, teachers: Tensor, labels: Tensor, actions: Tensor) -> Tensor:
        """What a mixture is worth for each image, [B], in nats; not below -10, where the states' losses end as well."""
        several = labels.is_floating_point()
        worth = -losses.task_loss(
            losses.mixture_logits(teachers, actions, multilabel=several), labels, multilabel=several
        )
        if self.reward != "r1":
            temperature, multilabel = self.options["temperature"], self.options["multilabel"]
            mixture = losses.mixture_logits(teachers, actions, temperature, multilabel=multilabel)[None]
            soft, _ = losses.soft_and_hard(logits, mixture, labels, torch.ones(1, device=logits.device), **self.options)
            worth = worth - soft
        return worth.clamp(min=-10)

    def after_epoch(self, quality: float | None = None) -> dict:
        """The policy pass at the end of an episode, for r3 with the student's `quality` after it (any score).

        Columns for the history: `selected`, the share of teachers that counted, and of each, selected_1 to selected_K;
        `unselected`, the share of images for which the draw chose nobody; divergence_1 to divergence_K as in
        `DistillationLoss`.
        """
        if self.wants_quality and quality is None:
            raise InputError("reward r3 needs the student's quality on validation after each epoch; none was given")
        self.selector.learn(quality if self.wants_quality else None)
        return self.means.row()


class Average:
    """Eq. 1 along the trajectory: from epoch `start` on, the model's weights join the average after each epoch."""

    def __init__(self, model: nn.Module, start: int) -> None:
        self.model, self.start = copy.deepcopy(model), start

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Count epoch `epoch` (from 0) in, once `start` epochs are over."""
        if epoch >= self.start:
            update_average(self.model, model, epoch - self.start)
