"""How much each teacher counts: one alone, all equally, exponential draws (Section III-B), or reinforced selection."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def uniform_weights(n_teachers: int) -> Tensor:
    """Baseline III: every teacher counts 1/K, [K]."""
    return torch.full((n_teachers,), 1 / n_teachers)


def single_weights(n_teachers: int, teacher: int) -> Tensor:
    """Baseline II: one teacher counts 1 and the others 0, [K]."""
    return F.one_hot(torch.tensor(teacher), n_teachers).float()


def exponential_weights(
    n_teachers: int, *, n_examples: int | None = None, normalize: bool = True, generator: torch.Generator
) -> Tensor:
    """Section III-B: weights drawn from Exp(1), [K], or [K, B] with one draw per example; normalised they sum to 1."""
    shape = (n_teachers,) if n_examples is None else (n_teachers, n_examples)
    weights = torch.empty(shape).exponential_(generator=generator)
    return weights / weights.sum(0) if normalize else weights


class ReinforcedSelector(nn.Module):
    """Baseline IV: a logistic policy that selects teachers for each example, trained by policy gradient.

    Our adaptation of Yuan et al. (AAAI 2021), since the paper gives no details: state [student features (layer-normed, of
    length one); teacher probabilities; teacher loss], one Bernoulli action per teacher and example, REINFORCE with the
    advantages that the caller gives, scaled by their size in the batch, and an entropy bonus; one pass over the episode (an
    epoch) with plain SGD, so that a checkpoint holds the whole of it: the policy, and the running mean of the quality.
    """

    def __init__(
        self, n_features: int, n_classes: int, *, learning_rate: float = 0.1, entropy_bonus: float = 1e-3
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # a Linear draws its weights before we set them to zero
            self.policy = nn.Linear(n_features + n_classes + 1, 1)
        nn.init.zeros_(self.policy.weight)
        nn.init.zeros_(self.policy.bias)
        self.register_buffer("quality_mean", torch.tensor(-torch.inf))  # none was told so far
        self.learning_rate, self.entropy_bonus = learning_rate, entropy_bonus
        # batches: states [K, B, D], the actions that counted [K, B], their advantages [B]
        self.episode: list[tuple[Tensor, Tensor, Tensor]] = []

    def states(self, features: Tensor, probabilities: Tensor, losses: Tensor) -> Tensor:
        """F(s) [K, B, D] from student features [B, F], teacher probabilities [K, B, C], teacher losses [K, B].

        Features are the same for all teachers: at their full length, the root of F, their noise moves all of them together.
        """
        normed = F.layer_norm(features.detach(), features.shape[1:]) / features.shape[1] ** 0.5
        clipped = losses.clamp(max=10)
        centred = clipped - clipped.mean()
        deviation = (centred.square().sum() / max(1, centred.numel() - 1)).sqrt()
        loss = centred / deviation.clamp(min=1e-3)  # of equal losses only rounding is left, which must not be blown up
        return torch.cat([normed.expand(len(losses), -1, -1), probabilities, loss[..., None]], dim=-1)

    def forward(self, states: Tensor) -> Tensor:
        """The probability of selecting each teacher for each example, [K, B], kept in [0.05, 0.95]."""
        return self.policy(states).squeeze(-1).sigmoid().clamp(0.05, 0.95)

    @torch.no_grad()
    def select(self, states: Tensor, *, generator: torch.Generator) -> Tensor:
        """Sampled actions [K, B] in {0, 1}; they may select nobody, see `counted_actions`."""
        # drawn on the host whatever the device, and through pinned memory, so that nobody waits for the copy
        draws = torch.rand(states.shape[:2], generator=generator, pin_memory=states.is_cuda)
        draws = draws.to(states.device, non_blocking=states.is_cuda)
        return (draws < self(states)).float()

    def learn(self, quality: float | None = None) -> None:
        """One policy-gradient pass over the episode, which is then forgotten.

        A `quality` after the episode, less its running mean, is added to every advantage of the episode (reward r3).
        """
        surplus = 0.0
        if quality is not None:  # the first is only kept; then the running mean moves half of the way
            told = torch.full_like(self.quality_mean, quality)
            before = torch.where(self.quality_mean.isinf(), told, self.quality_mean)
            self.quality_mean.copy_((before + told) / 2)
            surplus = told - before
        for states, actions, advantages in self.episode:
            self._step(states, actions, _scaled(advantages + surplus))
        self.episode = []

    def _step(self, states: Tensor, actions: Tensor, advantages: Tensor) -> None:
        with torch.enable_grad():
            p = self(states)
            log_probability = torch.where(actions > 0, p, 1 - p).log()
            entropy = -(p * p.log() + (1 - p) * (1 - p).log())
            objective = (advantages * log_probability + self.entropy_bonus * entropy).sum(0).mean()
            gradients = torch.autograd.grad(objective, list(self.policy.parameters()))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        with torch.no_grad():
            for parameter, gradient in zip(self.policy.parameters(), gradients, strict=True):
                parameter.add_(gradient * (self.learning_rate / norm.clamp(min=1)))


def _scaled(advantages: Tensor) -> Tensor:
    """Of size one (the root of the mean square); not centred, for the mean of all teachers is the baseline already."""
    return advantages / advantages.square().mean().sqrt().clamp(min=1e-3)


def counted_actions(draws: Tensor, probabilities: Tensor) -> Tensor:
    """The actions that count, [K, B]: those drawn; where nobody was, the likeliest teacher alone (the first of equals)."""
    likeliest = torch.arange(len(draws), device=draws.device)[:, None] == probabilities.argmax(0)
    return torch.where(draws.sum(0) > 0, draws, likeliest.to(draws.dtype))
