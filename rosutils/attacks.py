"""FGSM and PGD in l2 and linf, for one or several labels per image, and the checks that an attack works (Table II)."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from rosutils import InputError, check_count, modes_kept


NORMS = ("l2", "linf", "l2-scaled")
Loss = Callable[[Tensor, Tensor], Tensor]

# Share of the gained loss that may go missing when two attacks are compared. PGD keeps its last iterate, which circles
# the optimum; and on a linear model in l2, 10 steps of 2.5 eps / 10 from a start at right angles to the gradient reach
# 98 % of FGSM's gain (96 % for 2 steps): the price of a random start, not a defect.
SLACK = 0.05


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy for int64 labels [B], mean binary cross-entropy for float labels [B, C]; logits [B, C]."""
    if labels.dtype == torch.int64 and labels.shape == logits.shape[:1]:
        return F.cross_entropy(logits, labels)
    if labels.is_floating_point() and labels.shape == logits.shape:
        return F.binary_cross_entropy_with_logits(logits, labels)
    found = f"labels are {labels.dtype} {tuple(labels.shape)} for logits {tuple(logits.shape)}"
    raise InputError(f"{found}; allowed are int64 [B], one class per image, and float [B, C], several labels")


def effective_radius(eps: float, norm: str, shape: Sequence[int]) -> tuple[str, float]:
    """The ball ("l2" or "linf") and its radius for a reading of Table II's eps; images [..., channels, H, W].

    "l2-scaled" is the l2 ball of radius eps * sqrt(channels * H * W): eps is then the root mean square over pixels. Grey
    films are attacked in their one channel: the radius is that of three channels over sqrt(3), at the same root mean square.
    """
    if norm not in NORMS:
        raise InputError(f"norm is {norm!r}; allowed: {', '.join(NORMS)}")
    if not 0 <= eps < math.inf:
        raise InputError(f"eps is {eps}; it must be 0 or a positive number, for images in [0, 1]")
    return ("l2", eps * math.sqrt(math.prod(shape[-3:]))) if norm == "l2-scaled" else (norm, float(eps))


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, norm: str, loss_fn: Loss) -> Tensor:
    """Fast gradient (sign) method of Table II: one step of length eps up the loss, images [B, channels, H, W] in [0, 1].

    linf steps along the gradient's sign (Goodfellow et al. 2015), l2 along the gradient itself (FGM). The model is in
    eval mode meanwhile; an image whose gradient is zero or not finite stays as it is.
    """
    ball, radius = _checked(images, eps, norm)
    with _under_attack(model):
        return (images.detach() + radius * _steepest(_gradient(model, images, labels, loss_fn), ball)).clamp(0, 1)


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, norm: str, loss_fn: Loss, steps: int,
    step_size: float, random_start: bool, generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Projected gradient descent of Table II (Madry et al. 2018), the last of `steps` iterates; else as `fgsm`.

    Every step is projected onto the eps-ball, then clipped to [0, 1]. `step_size` is in the units of eps (scaled like
    it for "l2-scaled"). A random start is uniform in the ball, drawn on the CPU.
    """
    ball, radius = _checked(images, eps, norm)
    check_count("steps", steps, 1, "PGD needs")
    if not 0 <= step_size < math.inf or (step_size == 0 and eps > 0):
        raise InputError(f"step_size is {step_size}; it must be positive, for example 2.5 * eps / steps")
    _, length = effective_radius(step_size, norm, images.shape)
    images = attacked = images.detach()
    if random_start:
        attacked = (images + _uniform_in_ball(images, ball, radius, generator)).clamp(0, 1)
    with _under_attack(model):  # once for all steps
        for _ in range(steps):
            moved = length * _steepest(_gradient(model, attacked, labels, loss_fn), ball) + attacked
            attacked = (_projected(moved - images, ball, radius) + images).clamp(0, 1)
    return attacked


def random_perturbation(images: Tensor, *, eps: float, norm: str, generator: Generator) -> Tensor:
    """Images [B, channels, H, W] plus noise whose norm is exactly eps, then clipped to [0, 1]: what an attack must beat.

    l2: a uniformly random direction; linf: every pixel moves by eps up or down.
    """
    ball, radius = _checked(images, eps, norm)
    return (images.detach() + radius * _steepest(_drawn(images, generator), ball)).clamp(0, 1)


def self_checks(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, norm: str, steps: int, surrogate: nn.Module,
    generator: Generator, loss_fn: Loss = classification_loss, thresholds: Tensor | float | None = None, step_factor: float = 2.5,
) -> pd.DataFrame:  # fmt: skip
    """Nine checks that the attacks of Table II work on this model, as rows `check, passed, detail`.

    Success is `loss_fn` on the true labels: it means the same for one and several labels per image, and unlike F1 it
    moves with every image of a small sample. The share of wrong labels (at `thresholds`, default 0.5) is only told.
    PGD runs as in Table II: random start, step size step_factor * eps / steps. `surrogate` is another model of the same task.
    """
    if not eps > 0:
        raise InputError(f"eps is {eps}; the checks need a positive radius")
    seed = int(torch.randint(2**62, (), generator=generator))

    def attack(multiple: float = 1, n_steps: int = steps, victim: nn.Module = model) -> Tensor:
        """PGD from the same draws each time, so that no difference comes from the start."""
        start = {"random_start": True, "generator": Generator().manual_seed(seed)}
        length = {"eps": multiple * eps, "steps": n_steps, "step_size": step_factor * multiple * eps / steps}
        return pgd(victim, images, labels, norm=norm, loss_fn=loss_fn, **length, **start)

    fast, still = (fgsm(model, images, labels, eps=size, norm=norm, loss_fn=loss_fn) for size in (eps, 0.0))
    by_eps = {"PGD at eps / 2": attack(0.5), "PGD": attack(), "PGD at 2 eps": attack(2)}
    by_steps = {f"{n} steps": attack(n_steps=n) if n != steps else by_eps["PGD"] for n in sorted({1, steps, 2 * steps})}
    # an attack that is itself noise beats one draw of noise half the time, but twice the largest of five hardly ever
    noise = {f"noise {i}": random_perturbation(images, eps=eps, norm=norm, generator=generator) for i in range(1, 6)}
    made = {"clean": images, "FGSM": fast, "transfer": attack(victim=surrogate), **by_eps, **by_steps, **noise}
    sizes = {"FGSM": eps, "PGD at eps / 2": eps / 2, "PGD": eps, "PGD at 2 eps": 2 * eps}
    scores = {name: _score(model, attacked, labels, loss_fn, thresholds) for name, attacked in made.items()}
    gain = {name: loss - scores["clean"][0] for name, (loss, _) in scores.items()}
    least, slack = min("FGSM", "PGD", key=gain.get), SLACK * max(gain["FGSM"], 0)
    loud = max(noise, key=lambda name: abs(gain[name]))
    _, heard = _in_order(scores, ["clean", loud, least])
    change = max(float((one - images).abs().max()) for one in (still, attack(0)))
    low, high = (float(end) for end in torch.cat(list(made.values())).aminmax())
    with _under_attack(model):
        usable = _norms(_steepest(_gradient(model, images, labels, loss_fn), "linf"), "linf") > 0
    checks = {
        "eps 0 is the identity": (change == 0, f"largest change of a pixel {change:g}"),
        "measured norms never exceed eps": _in_ball(made, sizes, norm),
        "images stay in [0, 1]": (low >= 0 and high <= 1, f"from {low:g} to {high:g}"),
        "success grows with eps": _in_order(scores, ["clean", *by_eps], -slack, strictly=True),
        "success grows with steps": _in_order(scores, [*by_steps], slack, strictly=True),
        "PGD is at least as strong as FGSM": _in_order(scores, ["FGSM", "PGD"], slack),
        "random noise of the same norm is weaker": (2 * abs(gain[loud]) < gain[least], heard),
        "gradients do not vanish": (bool(usable.all()), f"{int(usable.sum())} of {len(usable)} images can be attacked"),
        "a transfer attack is not stronger than the white-box one": _in_order(scores, ["transfer", "PGD"]),
    }
    return pd.DataFrame([(name, *found) for name, found in checks.items()], columns=["check", "passed", "detail"])


def _checked(images: Tensor, eps: float, norm: str) -> tuple[str, float]:
    """The ball and its radius, once the images are known to be fit for an attack."""
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise InputError(f"images are {images.dtype} {tuple(images.shape)}; need float [B >= 1, channels, H, W]")
    if not ((images >= 0) & (images <= 1)).all():
        found = f"{float(images.min()):g} to {float(images.max()):g}"
        raise InputError(f"images run from {found}; allowed is 0 to 1: divide bytes by 255, let the model normalise")
    return effective_radius(eps, norm, images.shape)


@contextmanager
def _under_attack(model: nn.Module) -> Iterator[None]:
    """Eval mode, gradients for the images alone (1.5 times faster), all of it undone afterwards, module by module."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with modes_kept(model), torch.inference_mode(False), torch.enable_grad():
        try:
            model.eval().requires_grad_(False)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)


def _gradient(model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss) -> Tensor:
    images, labels = images.detach().clone().requires_grad_(), labels.clone()
    loss = loss_fn(model(images), labels)
    gradient = torch.autograd.grad(loss, images, allow_unused=True)[0] if loss.requires_grad else None
    if gradient is None:
        raise InputError("the loss does not depend on the images; does the model detach them or use no_grad?")
    return gradient


def _norms(tensor: Tensor, ball: str) -> Tensor:
    """The norm of each image, [B, 1, 1, 1]."""
    if ball == "linf":  # twenty times faster than vector_norm with inf
        return tensor.abs().amax(dim=(1, 2, 3), keepdim=True)
    return torch.linalg.vector_norm(tensor, dim=(1, 2, 3), keepdim=True)


def _steepest(gradient: Tensor, ball: str) -> Tensor:
    """The direction of norm 1 in which the loss of each image grows most; 0 for a gradient 0 or not finite."""
    largest = _norms(gradient, "linf")
    gradient = gradient.masked_fill(~largest.isfinite(), 0)
    if ball == "linf":
        return gradient.sign()
    # Confident models have gradients whose squares underflow, hence the largest entry is brought to 1 first.
    tiny = torch.finfo(gradient.dtype).tiny
    gradient = gradient / largest.nan_to_num(0, 0).clamp_min(tiny)
    return gradient / _norms(gradient, "l2").clamp_min(tiny)


def _projected(delta: Tensor, ball: str, radius: float) -> Tensor:
    if ball == "linf":
        return delta.clamp(-radius, radius)
    return delta * (radius / _norms(delta, "l2").clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def _drawn(images: Tensor, generator: Generator | None, *bounds: float) -> Tensor:
    """Noise of the images' shape: uniform between two bounds, or Gaussian."""
    if generator is None or generator.device.type != "cpu":
        raise InputError("randomness needs a torch.Generator on the CPU: generator=torch.Generator().manual_seed(0)")
    draw = getattr(torch.empty(images.shape, dtype=images.dtype), "uniform_" if bounds else "normal_")
    return draw(*bounds, generator=generator).to(images.device)


def _uniform_in_ball(images: Tensor, ball: str, radius: float, generator: Generator | None) -> Tensor:
    """One perturbation per image, uniform by volume."""
    if ball == "linf":
        return _drawn(images, generator, -radius, radius)
    direction = _steepest(_drawn(images, generator), ball)
    return radius * direction * _drawn(images[:, :1, :1, :1], generator, 0, 1) ** (1 / images[0].numel())


def _score(model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Loss, thresholds: Tensor | float | None) -> tuple:
    """The loss on the true labels, and the share of wrong labels."""
    with _under_attack(model), torch.no_grad():
        logits = model(images)
        loss = float(loss_fn(logits, labels))
    limits = torch.as_tensor(0.5 if thresholds is None else thresholds, device=logits.device)
    wrong = logits.argmax(1) != labels if labels.ndim == 1 else (logits.double().sigmoid() >= limits) != (labels > 0.5)
    return loss, float(wrong.double().mean())


def _in_ball(made: dict[str, Tensor], sizes: dict[str, float], norm: str) -> tuple[bool, str]:
    """No perturbation is longer than its eps, but for rounding: of each pixel's last place, and of the norm."""
    passed, told, images = True, [], made["clean"]
    for name, eps in sizes.items():
        ball, radius = effective_radius(eps, norm, images.shape)
        measured = float(_norms(made[name].double() - images.double(), ball).max())
        rounding = torch.finfo(images.dtype).eps * (1 + radius)
        passed &= measured <= radius + rounding * (math.sqrt(images[0].numel()) if ball == "l2" else 1)
        told.append(f"{name}: {measured:.6g} of {radius:.6g}")
    return passed, f"largest {ball} norm of {', '.join(told)}"


def _in_order(scores: dict, names: Sequence[str], slack: float = 0, *, strictly: bool = False) -> tuple[bool, str]:
    """No loss is below the one before it, but for `slack` and rounding; strictly: the last exceeds the first."""
    losses = [scores[name][0] for name in names]
    rounding = 1e-6 * (1 + abs(losses[0]))
    in_order = all(b >= a - slack - rounding for a, b in zip(losses, losses[1:], strict=False))
    told = ", ".join(f"{name}: loss {scores[name][0]:.6g} ({scores[name][1]:.1%} wrong)" for name in names)
    return in_order and (not strictly or losses[-1] > losses[0] + rounding), told
