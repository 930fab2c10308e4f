"""How sharp the loss is around the trained weights: its largest rise nearby, and its Hessian's eigenvalue and trace."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn

from rosutils import InputError
from rosutils.landscape.weights import Loss, check_count, copied, drawn, moved_weights, norm, scalar, scaled


# As many steps as Table II's PGD and as long (2.5 / steps of the radius), but from a start near the centre: in millions of
# dimensions a start on the sphere is at right angles to every gradient, and its length is lost to the ascent.
ASCENT_STEPS, ASCENT_STEP, ASCENT_START = 10, 0.25, 0.1


def sharpness(model: nn.Module, batch, loss_fn: Loss, *, radius: float, generator: Generator) -> float:
    """The largest rise of the loss found within radius * `weight_norm` of the weights, l2 (Keskar 2017; Foret 2021).

    Projected gradient ascent from a random point at a tenth of the radius: 10 steps along the gradient over its norm, each
    a quarter of the radius. The highest loss on the way counts, so the result is never negative and a lower bound of the
    true maximum; it is nan where the loss of the model itself is not finite. The weights are those that directions move, in
    a copy in eval mode. Raises InputError for a radius that is not positive, a model without such weights, no CPU generator,
    and a loss without gradient.
    """
    if not 0 < radius < math.inf:
        raise InputError(f"radius is {radius}; it must be a positive share of the weights' norm")
    centre, climber = list(moved_weights(model).values()), copied(model).requires_grad_(True)
    if not centre:
        raise InputError("the model has no weights to move, only biases and normalisation layers")
    weights, reach = list(moved_weights(climber).values()), radius * norm(centre)
    shift = scaled([drawn(weight, generator) for weight in weights], ASCENT_START * reach)
    before = highest = _gradient(weights, climber, batch, loss_fn)[0]
    for _ in range(ASCENT_STEPS):
        _place(weights, centre, shift)
        loss, gradient = _gradient(weights, climber, batch, loss_fn)
        highest, length = max(highest, loss), norm(gradient)  # max keeps the first beside a nan
        if length == 0 or not math.isfinite(length):
            break
        shift = [s + g * (ASCENT_STEP * reach / length) for s, g in zip(shift, gradient, strict=True)]
        shift = scaled(shift, min(reach, norm(shift)))
    _place(weights, centre, shift)
    return max(highest, _gradient(weights, climber, batch, loss_fn)[0]) - before


def hessian_eigenvalue(model: nn.Module, batch, loss_fn: Loss, *, iterations: int, generator: Generator) -> float:
    """The eigenvalue of the loss's Hessian that is largest in magnitude, with its sign, by power iteration.

    Over all parameters, as PyHessian; eval mode. The Rayleigh quotient after `iterations` products with the Hessian (two
    backward passes each) from a Gaussian start: below the true magnitude until it has converged. Raises InputError for
    iterations < 1, no CPU generator, and a loss without gradient.
    """
    check_count("iterations", iterations, 1)
    parameters, product = _hessian(model, batch, loss_fn)
    vector = scaled([drawn(parameter, generator) for parameter in parameters], 1.0)
    for _ in range(iterations):
        image = product(vector)
        value, length = _dot(vector, image), norm(image)
        if length == 0 or not math.isfinite(length):
            break
        vector = scaled(image, 1.0)
    return value


def hessian_trace(model: nn.Module, batch, loss_fn: Loss, *, samples: int, generator: Generator) -> tuple[float, float]:
    """The trace of the loss's Hessian over all parameters and its standard error, by Hutchinson's Rademacher probes.

    Eval mode. Raises InputError for samples < 2 (one has no error), no CPU generator, and a loss without gradient.
    """
    check_count("samples", samples, 2)
    (parameters, product), found = _hessian(model, batch, loss_fn), []
    for _ in range(samples):
        probe = [torch.where(drawn(parameter, generator) < 0, -1.0, 1.0).to(parameter) for parameter in parameters]
        found.append(_dot(probe, product(probe)))
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(samples))


@torch.no_grad()
def _place(weights: Sequence[Tensor], centre: Sequence[Tensor], shift: Sequence[Tensor]) -> None:
    for weight, middle, moved in zip(weights, centre, shift, strict=True):
        torch.add(middle, moved, out=weight)


@torch.enable_grad()
def _gradient(weights: Sequence[Tensor], model: nn.Module, batch, loss_fn: Loss, **options) -> tuple[float, tuple]:
    """The loss, and its gradient by the weights (0 where the loss does not depend on them)."""
    loss = scalar(loss_fn(model, batch))
    if not loss.requires_grad:
        raise InputError("the loss has no gradient by the weights; does loss_fn detach it, or use no_grad?")
    return loss.item(), torch.autograd.grad(loss, weights, materialize_grads=True, **options)


def _hessian(model: nn.Module, batch, loss_fn: Loss) -> tuple[list[Tensor], Callable]:
    """All parameters of a copy, and the Hessian's product with a vector shaped like them; one graph for all products."""
    model = copied(model).requires_grad_(True)
    parameters = list(model.parameters())
    _, gradient = _gradient(parameters, model, batch, loss_fn, create_graph=True)
    # where the loss is linear in the weights there is nothing to differentiate again
    curved = [index for index, value in enumerate(gradient) if value.requires_grad]

    def product(vector: Sequence[Tensor]) -> list[Tensor]:
        if not curved:
            return [torch.zeros_like(value) for value in parameters]
        outputs, grads = [gradient[i] for i in curved], [vector[i] for i in curved]
        return list(torch.autograd.grad(outputs, parameters, grads, retain_graph=True, materialize_grads=True))

    return parameters, product


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return float(sum((a * b).sum(dtype=torch.float64) for a, b in zip(one, other, strict=True)))
