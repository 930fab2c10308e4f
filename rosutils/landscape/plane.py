"""Fig. 4: the loss on the plane of two filter-normalised directions through the trained weights."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor, nn

from rosutils import InputError
from rosutils.landscape.weights import IGNORABLE, Loss, copied, drawn, moved_weights, scalar


Direction = dict[str, Tensor]


def filter_normalized_directions(
    model: nn.Module, *, generator: Generator, ignore: Sequence[str] = IGNORABLE
) -> tuple[Direction, Direction]:
    """Two Gaussian directions, every filter as long as the model's own (Li et al. 2018, section 4), for each parameter.

    A filter is a slice [...] of a weight [F, ...]; a vector that is not ignored counts as one filter. Zero are what `ignore`
    names: "bias" every bias, "bn" all of a normalisation layer. The draws are the same for all models of these shapes,
    on any device, whatever is ignored. Raises InputError for other names and without a CPU generator.
    """
    moved, every = moved_weights(model, ignore), dict(model.named_parameters())
    return tuple({name: _direction(every[name], name in moved, generator) for name in every} for _ in range(2))


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
    model: nn.Module, directions: tuple[Direction, Direction], grid: np.ndarray, batch, loss_fn: Loss
) -> np.ndarray:
    """The loss [G, G] of Fig. 4, float64: entry [i, j] at weights + grid[i] * directions[0] + grid[j] * directions[1].

    Eval mode, buffers as they are; a copy is moved. A loss that overflows stays inf or nan. Raises InputError for directions
    of another model, a bad grid, and a loss that is no scalar.
    """
    grid, (first, second) = _checked_grid(grid), _checked_directions(model, directions)
    walker, start = copied(model), dict(model.named_parameters())
    moved = {name: p for name, p in walker.named_parameters() if first[name].any() or second[name].any()}
    losses = np.empty((len(grid), len(grid)))
    for i, a in enumerate(grid):
        # from the saved weights each time: steps added up would end beside the point that is drawn
        line = {name: torch.add(start[name], first[name], alpha=a) for name in moved}
        for j, b in enumerate(grid):
            for name, parameter in moved.items():
                torch.add(line[name], second[name], alpha=b, out=parameter)
            losses[i, j] = scalar(loss_fn(walker, batch)).item()
    return losses


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


def _direction(parameter: Tensor, moved: bool, generator: Generator) -> Tensor:
    """One parameter's part of a direction, in the parameter's memory layout."""
    draw = drawn(parameter, generator, torch.float64, "cpu")
    if not moved:  # drawn all the same, so that the others' draws do not depend on what is ignored
        return torch.zeros_like(parameter, requires_grad=False)
    filters = tuple(range(1 if parameter.ndim > 1 else 0, parameter.ndim))
    own, drew = (
        torch.linalg.vector_norm(value, dim=filters, keepdim=True, dtype=torch.float64)
        for value in (parameter.detach().cpu(), draw)
    )
    return torch.empty_like(parameter, requires_grad=False).copy_(draw.mul_(own).div_(drew))


def _checked_grid(grid) -> np.ndarray:
    grid = np.asarray(grid, dtype=np.float64)
    if grid.ndim != 1 or len(grid) == 0 or not np.isfinite(grid).all():
        raise InputError(f"grid has shape {grid.shape}; it is a row [G >= 1] of finite coordinates, see square_grid")
    return grid


def _checked_directions(model: nn.Module, directions: tuple[Direction, Direction]) -> list[Direction]:
    """Both directions, on the model's device."""
    every = dict(model.named_parameters())
    if any({n: v.shape for n, v in each.items()} != {n: p.shape for n, p in every.items()} for each in directions):
        raise InputError("a direction has other names or shapes than the model's parameters; draw it for this network")
    return [{name: value.to(every[name]) for name, value in each.items()} for each in directions]
