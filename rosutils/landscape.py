"""The loss around trained weights (Section IV-F): a plane (Fig. 4), how sharp it is, and the line between two networks.

Whatever is moved is a copy of the network in eval mode: the caller's stays as it is, bit for bit.
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial

import loss_landscapes
import numpy as np
import torch
from loss_landscapes.metrics import Metric
from scipy import ndimage
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rosutils import InputError, check_count


Loss = Callable[[nn.Module, object], Tensor]
IGNORABLE = ("bias", "bn")
NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm)
Direction = dict[str, Tensor]
# As many steps as Table II's PGD and as long (2.5 / steps of the radius), but from a start near the centre: in millions of
# dimensions a start on the sphere is at right angles to every gradient, and its length is lost to the ascent.
ASCENT_STEPS, ASCENT_STEP, ASCENT_START = 10, 0.25, 0.1


# The plane of Fig. 4


def filter_normalized_directions(
    model: nn.Module, *, generator: Generator, ignore: Sequence[str] = IGNORABLE
) -> tuple[Direction, Direction]:
    """Two Gaussian directions, every filter as long as the model's own (Li et al. 2018, section 4), for each parameter.

    A filter is a slice [...] of a weight [F, ...]; a vector that is not ignored counts as one filter. Zero are what `ignore`
    names: "bias" every bias, "bn" all of a normalisation layer. The draws are the same for all models of these shapes,
    on any device, whatever is ignored.
    """
    moved, every = _moved_weights(model, ignore), dict(model.named_parameters())
    return tuple({name: _direction(every[name], name in moved, generator) for name in every} for _ in range(2))


def square_grid(span: float, points: int) -> np.ndarray:
    """Evenly spaced coordinates [points] from -span to span, mirror-symmetric to the last bit, with 0 in the centre."""
    if not 0 < span < math.inf:
        raise InputError(f"span is {span}; it must be a positive number, in units of the filters' norms")
    if isinstance(points, bool) or not isinstance(points, int) or points < 1 or points % 2 == 0:
        raise InputError(f"points is {points!r}; it must be a positive odd number, so that the model is the centre")
    half = span * (np.arange(1, points // 2 + 1) / max(points // 2, 1))
    return np.concatenate([-half[::-1], [0.0], half])


@torch.no_grad()
def loss_surface(
    model: nn.Module, directions: tuple[Direction, Direction], grid: np.ndarray, batch, loss_fn: Loss
) -> np.ndarray:
    """The loss [G, G] of Fig. 4, float64: entry [i, j] at weights + grid[i] * directions[0] + grid[j] * directions[1].

    Eval mode, buffers as they are; a copy is moved. A loss that overflows stays inf or nan.
    """
    grid, start = np.asarray(grid, dtype=np.float64), dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in start.items()}
    if any({name: value.shape for name, value in each.items()} != shapes for each in directions):
        raise InputError("a direction has other names or shapes than the model's parameters; draw it for this network")
    if grid.ndim != 1 or len(grid) == 0 or not np.isfinite(grid).all():
        raise InputError(f"grid has shape {grid.shape}; it is a row [G >= 1] of finite coordinates, see square_grid")
    walker = copy.deepcopy(model).eval()
    first, second = ({name: value.to(start[name]) for name, value in each.items()} for each in directions)
    moved = {name: p for name, p in walker.named_parameters() if first[name].any() or second[name].any()}
    losses = np.empty((len(grid), len(grid)))
    for i, a in enumerate(grid):
        # from the saved weights each time: steps added up would end beside the point that is drawn
        line = {name: torch.add(start[name], first[name], alpha=a) for name in moved}
        for j, b in enumerate(grid):
            for name, parameter in moved.items():
                torch.add(line[name], second[name], alpha=b, out=parameter)
            losses[i, j] = _scalar(loss_fn(walker, batch)).item()
    return losses


def basin_area(surface: np.ndarray, level: float) -> float:
    """The basin's share of the grid [G, G]: points no higher than the centre + level, and joined to it by such points.

    Joined are neighbours along a row or a column. Points that are not finite are outside; nan where the centre itself is
    not finite.
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


def _direction(parameter: Tensor, moved: bool, generator: Generator) -> Tensor:
    """One parameter's part of a direction, in the parameter's memory layout."""
    draw = _drawn(parameter, generator, torch.float64, "cpu")
    if not moved:  # drawn all the same, so that the others' draws do not depend on what is ignored
        return torch.zeros_like(parameter, requires_grad=False)
    filters = tuple(range(1 if parameter.ndim > 1 else 0, parameter.ndim))
    length = partial(torch.linalg.vector_norm, dim=filters, keepdim=True, dtype=torch.float64)
    own, drew = length(parameter.detach().cpu()), length(draw)
    return torch.empty_like(parameter, requires_grad=False).copy_(draw.mul_(own).div_(drew))


# Numbers beside its picture


def weight_norm(model: nn.Module) -> float:
    """The l2 norm of all weights that the directions move, summed in float64."""
    return _norm(_moved_weights(model).values())


def sharpness(model: nn.Module, batch, loss_fn: Loss, *, radius: float, generator: Generator) -> float:
    """The largest rise of the loss found within radius * `weight_norm` of the weights, l2 (Keskar 2017; Foret 2021).

    Projected gradient ascent from a random point at a tenth of the radius: 10 steps along the gradient over its norm, each
    a quarter of the radius. The highest loss on the way counts, so the result is never negative and a lower bound of the
    true maximum; it is nan where the loss of the model itself is not finite. The weights are those that directions move.
    """
    if not 0 < radius < math.inf:
        raise InputError(f"radius is {radius}; it must be a positive share of the weights' norm")
    centre, climber = list(_moved_weights(model).values()), copy.deepcopy(model).eval().requires_grad_(True)
    if not centre:
        raise InputError("the model has no weights to move, only biases and normalisation layers")
    weights, reach = list(_moved_weights(climber).values()), radius * _norm(centre)
    shift = _scaled([_drawn(weight, generator) for weight in weights], ASCENT_START * reach)
    before = highest = _gradient(weights, climber, batch, loss_fn)[0]
    for _ in range(ASCENT_STEPS + 1):  # of the end of the last step the loss counts alone
        with torch.no_grad():
            for weight, middle, moved in zip(weights, centre, shift, strict=True):
                torch.add(middle, moved, out=weight)
        loss, gradient = _gradient(weights, climber, batch, loss_fn)
        highest, length = max(highest, loss), _norm(gradient)  # max keeps the first beside a nan
        if length == 0 or not math.isfinite(length):
            break
        shift = [s + g * (ASCENT_STEP * reach / length) for s, g in zip(shift, gradient, strict=True)]
        shift = _scaled(shift, min(reach, _norm(shift)))
    return highest - before


def hessian_eigenvalue(model: nn.Module, batch, loss_fn: Loss, *, iterations: int, generator: Generator) -> float:
    """The eigenvalue of the loss's Hessian that is largest in magnitude, with its sign, by power iteration.

    Over all parameters, as PyHessian. The Rayleigh quotient after `iterations` products with the Hessian (two backward passes
    each) from a Gaussian start: below the true magnitude until it has converged.
    """
    check_count("iterations", iterations, 1)
    parameters, product = _hessian(model, batch, loss_fn)
    vector = _scaled([_drawn(parameter, generator) for parameter in parameters], 1.0)
    for _ in range(iterations):
        image = product(vector)
        value, length = _dot(vector, image), _norm(image)
        if length == 0 or not math.isfinite(length):
            break
        vector = _scaled(image, 1.0)
    return value


def hessian_trace(model: nn.Module, batch, loss_fn: Loss, *, samples: int, generator: Generator) -> tuple[float, float]:
    """The trace of the loss's Hessian over all parameters and its standard error, by Hutchinson's Rademacher probes."""
    check_count("samples", samples, 2)
    (parameters, product), found = _hessian(model, batch, loss_fn), []
    for _ in range(samples):
        probe = [torch.where(_drawn(parameter, generator) < 0, -1.0, 1.0).to(parameter) for parameter in parameters]
        found.append(_dot(probe, product(probe)))
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(samples))


@torch.enable_grad()
def _gradient(weights: Sequence[Tensor], model: nn.Module, batch, loss_fn: Loss, **options) -> tuple[float, tuple]:
    """The loss, and its gradient by the weights (0 where the loss does not depend on them)."""
    loss = _scalar(loss_fn(model, batch))
    if not loss.requires_grad:
        raise InputError("the loss has no gradient by the weights; does loss_fn detach it, or use no_grad?")
    return loss.item(), torch.autograd.grad(loss, weights, materialize_grads=True, **options)


def _hessian(model: nn.Module, batch, loss_fn: Loss) -> tuple[list[Tensor], Callable]:
    """All parameters of a copy, and the Hessian's product with a vector shaped like them; one graph for all products."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
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


# The line between two networks


def path(start: nn.Module, end: nn.Module, batch, loss_fn: Loss, *, steps: int) -> np.ndarray:
    """The loss [steps] on the straight line from the weights of `start` to those of `end`, both included.

    The inner points are walked by the package loss-landscapes; it begins one step after the start and adds its steps up, so
    the ends are evaluated by themselves, exactly. It moves parameters only: BatchNorm's running mean and variance are
    interpolated here in the same way (Li et al.'s "states"), or the end's weights would meet the start's statistics.
    """
    check_count("steps", steps, 2)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (start, end)]
    if shapes[0] != shapes[1]:
        names = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise InputError(f"start and end are networks of different shape ({', '.join(names[:3])}, ...)")
    models = [copy.deepcopy(model).eval() for model in (start, end)]  # the package freezes what it is given
    ends = [loss_landscapes.point(model, _LossAt([], batch, loss_fn)) for model in models]
    pairs = list(zip(*(model.buffers() for model in models), strict=True))
    between = (  # counters, which do not enter the loss, stay the start's
        [torch.lerp(a, b, step / (steps - 1)) if a.is_floating_point() else a for a, b in pairs]
        for step in range(1, steps)
    )
    inner = _LossAt(between, batch, loss_fn)
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


# The weights that are moved


def _moved_weights(model: nn.Module, ignore: Sequence[str] = IGNORABLE) -> dict[str, nn.Parameter]:
    """The parameters that directions move, by name: all but those that `ignore` names, else an InputError."""
    unknown = [name for name in ignore if name not in IGNORABLE]
    if unknown or isinstance(ignore, str):
        raise InputError(f"ignore is {ignore!r}; allowed is a tuple of any of {', '.join(IGNORABLE)}")
    still = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if ("bias" in ignore and "bias" in name) or ("bn" in ignore and isinstance(module, NORMALISATION))
    }
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in still}


def _drawn(like: Tensor, generator: Generator | None, dtype=None, device=None) -> Tensor:
    """Gaussian noise of a tensor's shape, drawn on the CPU whatever the device; InputError without a CPU generator."""
    if generator is None or generator.device.type != "cpu":
        raise InputError("randomness needs a torch.Generator on the CPU: generator=torch.Generator().manual_seed(0)")
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float32)  # seven times faster than float64
    return noise.to(device or like.device, dtype or like.dtype)


def _scalar(loss: Tensor) -> Tensor:
    """The loss, once it is known to be one number; else an InputError."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"the loss is {found}; loss_fn(model, batch) must return a tensor of one number")
    return loss


@torch.no_grad()
def _norm(tensors: Sequence[Tensor]) -> float:
    """The l2 norm of all tensors together, in float64."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(value, dtype=torch.float64)) ** 2 for value in tensors))


def _scaled(tensors: Sequence[Tensor], length: float) -> list[Tensor]:
    """The tensors at another norm; zeros stay zeros."""
    factor = length / (_norm(tensors) or 1)
    return [value * factor for value in tensors]
