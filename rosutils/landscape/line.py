"""The loss on the straight line between two networks, walked by the package loss-landscapes."""

from collections.abc import Iterator

import loss_landscapes
import numpy as np
import torch
from loss_landscapes.metrics import Metric
from torch import Tensor, nn

from rosutils import InputError
from rosutils.landscape.weights import Loss, check_count, copied, scalar


def path(start: nn.Module, end: nn.Module, batch, loss_fn: Loss, *, steps: int) -> np.ndarray:
    """The loss [steps] on the straight line from the weights of `start` to those of `end`, both included; eval mode.

    The inner points are walked by the package loss-landscapes; it begins one step after the start and adds its steps up, so
    the ends are evaluated by themselves, exactly. It moves parameters only: BatchNorm's running mean and variance are
    interpolated here in the same way (Li et al.'s "states"), or the end's weights would meet the start's statistics.
    Both models stay as they are. Raises InputError for steps < 2 and for models that differ in shape.
    """
    check_count("steps", steps, 2)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (start, end)]
    if shapes[0] != shapes[1]:
        names = sorted(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
        raise InputError(f"start and end are networks of different shape ({', '.join(names[:3])}, ...)")
    models = [copied(model) for model in (start, end)]  # the package freezes what it is given
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
        return scalar(self.loss_fn(model, self.batch)).item()


def _buffers_between(start: nn.Module, end: nn.Module, steps: int) -> Iterator[list[Tensor]]:
    """The buffers at 1/steps, 2/steps, ... of the way; counters, which do not enter the loss, stay the start's."""
    pairs = list(zip(start.buffers(), end.buffers(), strict=True))
    for step in range(1, steps + 1):
        yield [torch.lerp(a, b, step / steps) if a.is_floating_point() else a for a, b in pairs]
