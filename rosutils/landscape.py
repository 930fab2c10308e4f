"""The loss around trained weights: a plane (Section IV-F, Fig. 4), and the numbers that stand beside its picture."""

import copy
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import loss_landscapes
import numpy as np
import torch
from loss_landscapes.metrics import Metric
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import ndimage
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rosutils import InputError


Direction = dict[str, Tensor]
Loss = Callable[[nn.Module, object], Tensor]
IGNORABLE = ("bias", "bn")
NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm)

# The ascent of `sharpness`: as many steps as Table II's PGD and as long (2.5 / steps of the radius), but from a start near
# the centre: in millions of dimensions a start on the sphere is at right angles to every gradient, and lost way.
ASCENT_STEPS, ASCENT_STEP, ASCENT_START = 10, 0.25, 0.1


def filter_normalized_directions(
    model: nn.Module, *, generator: Generator, ignore: Sequence[str] = IGNORABLE
) -> tuple[Direction, Direction]:
    """Two Gaussian directions, every filter as long as the model's own (Li et al. 2018, section 4), for each parameter.

    A filter is a slice [...] of a weight [F, ...]; a vector that is not ignored counts as one filter. Zero are what `ignore`
    names: "bias" every bias, "bn" all of a normalisation layer. The draws are the same for all models of these shapes,
    on any device, whatever is ignored. Raises InputError for other names and without a CPU generator.
    """
    moved = _moved(model, ignore)
    return tuple(
        {name: _direction(parameter, name in moved, generator) for name, parameter in model.named_parameters()}
        for _ in range(2)
    )


def square_grid(span: float, points: int) -> np.ndarray:
    """Evenly spaced coordinates [points] from -span to span, mirror-symmetric to the last bit, with 0 in the centre.

    Raises InputError for a span that is not positive and finite, and for a number of points that is not odd.
    """
    if not 0 < span < math.inf:
        raise InputError(f"span is {span}; it must be a positive number, in units of the filters' norms")
    if isinstance(points, bool) or not isinstance(points, int) or points < 1 or points % 2 == 0:
        raise InputError(f"points is {points!r}; it must be a positive odd number, so that the model is the centre")
    half = span * (np.arange(1, points // 2 + 1) / max(points // 2, 1))
    return np.concatenate([-half[::-1], [0.0], half])


@torch.no_grad()
def loss_surface(
    model: nn.Module, directions: tuple[Direction, Direction], grid: np.ndarray, batch, loss_fn: Loss, *,
    checkpoint: Path | None = None,
) -> np.ndarray:  # fmt: skip
    """The loss [G, G] of Fig. 4, float64: entry [i, j] at weights + grid[i] * directions[0] + grid[j] * directions[1].

    Eval mode, buffers as they are; afterwards the model is what it was, bit for bit. A loss that overflows stays inf or
    nan. Finished rows are kept in `checkpoint`, where an interrupted surface goes on; its owner deletes it. Raises
    InputError for directions of another model, a bad grid, a loss that is no scalar, and a checkpoint that is damaged
    or of other weights, directions, grid or batch (the loss function is not compared).
    """
    grid, (first, second) = _checked_grid(grid), _checked_directions(model, directions)
    digest = _digest(model, first, second, grid, batch)
    rows = _finished_rows(checkpoint, digest, len(grid))
    with _untouched(model):
        start = {name: parameter.clone() for name, parameter in model.named_parameters()}
        for a in grid[len(rows) :]:
            # from the saved weights each time: steps added up would end beside the point that is drawn
            line = {name: torch.add(weight, first[name], alpha=a) for name, weight in start.items()}
            losses = []
            for b in grid:
                for name, parameter in model.named_parameters():
                    torch.add(line[name], second[name], alpha=b, out=parameter)
                losses.append(_scalar(loss_fn(model, batch)).item())
            rows = np.concatenate([rows, [losses]])
            _keep_rows(checkpoint, digest, rows)
    return rows


def basin_area(surface: np.ndarray, level: float) -> float:
    """The basin's share of the grid [G, G]: points no higher than the centre + level, and joined to it by such points.

    Joined are neighbours along a row or a column. Points that are not finite are outside; nan where the centre itself is
    not finite. Raises InputError for a surface without a central point and for a level that is not positive.
    """
    surface = np.asarray(surface)
    if surface.ndim != 2 or surface.shape[0] != surface.shape[1] or len(surface) % 2 == 0:
        raise InputError(f"the surface has shape {surface.shape}; it must be square with an odd side, to have a centre")
    if not 0 < level < math.inf:
        raise InputError(f"level is {level}; it must be a positive rise of the loss")
    centre = (len(surface) // 2,) * 2
    if not np.isfinite(surface[centre]):
        return math.nan
    basins, _ = ndimage.label(surface <= surface[centre] + level)
    return float((basins == basins[centre]).mean())


def weight_norm(model: nn.Module, *, ignore: Sequence[str] = IGNORABLE) -> float:
    """The l2 norm of all weights that the directions move, summed in float64; raises InputError for a bad `ignore`."""
    return _norm(_moved(model, ignore).values())


def sharpness(model: nn.Module, batch, loss_fn: Loss, *, radius: float, generator: Generator) -> float:
    """The largest rise of the loss found within radius * `weight_norm` of the weights, l2 (Keskar 2017; Foret 2021).

    Projected gradient ascent from a random point at a tenth of the radius: 10 steps along the gradient over its norm, each
    a quarter of the radius. The highest loss on the way counts (a nan does not), so the result is never negative, and a
    lower bound of the true maximum. The weights are those that directions move; eval mode; the model is unchanged, bit
    for bit. Raises InputError for a radius that is not positive, no CPU generator, and a loss without gradient.
    """
    if not 0 < radius < math.inf:
        raise InputError(f"radius is {radius}; it must be a positive share of the weights' norm")
    with _untouched(model):
        weights = list(_moved(model, IGNORABLE).values())
        model.requires_grad_(True)
        centre, reach = [weight.detach().clone() for weight in weights], radius * _norm(weights)
        shift = _scaled([_drawn(weight, generator) for weight in weights], ASCENT_START * reach)
        losses = [_gradient(model, weights, batch, loss_fn)[0].item()]
        for step in range(ASCENT_STEPS + 1):
            _place(weights, centre, shift)
            loss, gradient = _gradient(model, weights, batch, loss_fn)
            losses.append(loss.item())
            length = _norm(gradient)
            if step == ASCENT_STEPS or length == 0 or not math.isfinite(length):
                break
            shift = [s + g * (ASCENT_STEP * reach / length) for s, g in zip(shift, gradient, strict=True)]
            shift = _scaled(shift, min(reach, _norm(shift)))
    return max(loss for loss in losses if not math.isnan(loss)) - losses[0] if losses[0] == losses[0] else math.nan


def hessian_eigenvalue(model: nn.Module, batch, loss_fn: Loss, *, iterations: int, generator: Generator) -> float:
    """The eigenvalue of the loss's Hessian that is largest in magnitude, with its sign, by power iteration.

    Over all parameters, as PyHessian; eval mode. The Rayleigh quotient after `iterations` products with the Hessian (two
    backward passes each) from a Gaussian start: below the true magnitude until it has converged. Raises InputError for
    iterations < 1, no CPU generator, and a loss without gradient.
    """
    _check_count("iterations", iterations, 1)
    with _hessian(model, batch, loss_fn) as (parameters, product):
        vector = _scaled([_drawn(parameter, generator) for parameter in parameters], 1.0)
        for _ in range(iterations):
            image = product(vector)
            value, length = _dot(vector, image), _norm(image)
            if length == 0 or not math.isfinite(length):
                return value
            vector = _scaled(image, 1.0)
    return value


def hessian_trace(model: nn.Module, batch, loss_fn: Loss, *, samples: int, generator: Generator) -> tuple[float, float]:
    """The trace of the loss's Hessian over all parameters and its standard error, by Hutchinson's Rademacher probes.

    Eval mode. Raises InputError for samples < 2 (one has no error), no CPU generator, and a loss without gradient.
    """
    _check_count("samples", samples, 2)
    with _hessian(model, batch, loss_fn) as (parameters, product):
        found = []
        for _ in range(samples):
            probe = [torch.where(_drawn(parameter, generator) < 0, -1.0, 1.0).to(parameter) for parameter in parameters]
            found.append(_dot(probe, product(probe)))
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(samples))


def path(start: nn.Module, end: nn.Module, batch, loss_fn: Loss, *, steps: int) -> np.ndarray:
    """The loss [steps] on the straight line from the weights of `start` to those of `end`, both included; eval mode.

    The inner points are walked by the package loss-landscapes; it begins one step after the start and adds its steps up, so
    the ends are evaluated by themselves, exactly. It moves parameters only: BatchNorm's running mean and variance are
    interpolated here in the same way (Li et al.'s "states"), or the end's weights would meet the start's statistics.
    Both models stay as they are. Raises InputError for steps < 2 and for models that differ in shape.
    """
    _check_count("steps", steps, 2)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (start, end)]
    if shapes[0] != shapes[1]:
        names = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise InputError(f"start and end are networks of different shape ({', '.join(names[:3])}, ...); no line joins them")
    models = [copy.deepcopy(model).eval() for model in (start, end)]  # copies: the package freezes what it is given
    ends = [loss_landscapes.point(model, _LossAt([], batch, loss_fn)) for model in models]
    inner = _LossAt(_buffers_between(*models, steps - 1), batch, loss_fn)
    way = loss_landscapes.linear_interpolation(*models, inner, steps=steps - 1, deepcopy_model=True)
    return np.array([ends[0], *way[:-1], ends[1]])


class _LossAt(Metric):
    """The loss in the package's protocol, called at one point of a line after the other; `buffers` are set before each."""

    def __init__(self, buffers, batch, loss_fn: Loss) -> None:
        super().__init__()
        self.buffers, self.batch, self.loss_fn = iter(buffers), batch, loss_fn

    @torch.no_grad()
    def __call__(self, model_wrapper) -> float:
        [model] = model_wrapper.get_modules()
        for buffer, value in zip(model.buffers(), next(self.buffers, ()), strict=False):
            buffer.copy_(value)
        return _scalar(self.loss_fn(model, self.batch)).item()
