"""The weights that are moved around, in a copy of the network: which, how long, and drawn noise of their shape."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rosutils import InputError


Loss = Callable[[nn.Module, object], Tensor]
IGNORABLE = ("bias", "bn")
NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def weight_norm(model: nn.Module) -> float:
    """The l2 norm of all weights that the directions move, summed in float64."""
    return norm(moved_weights(model).values())


def moved_weights(model: nn.Module, ignore: Sequence[str] = IGNORABLE) -> dict[str, nn.Parameter]:
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


def copied(model: nn.Module) -> nn.Module:
    """The network to be moved about, in eval mode; the caller's stays as it is, bit for bit."""
    return copy.deepcopy(model).eval()


def drawn(like: Tensor, generator: Generator | None, dtype=None, device=None) -> Tensor:
    """Gaussian noise of a tensor's shape, drawn on the CPU whatever the device; InputError without a CPU generator."""
    if generator is None or generator.device.type != "cpu":
        raise InputError("randomness needs a torch.Generator on the CPU: generator=torch.Generator().manual_seed(0)")
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float32)  # seven times faster than float64
    return noise.to(device or like.device, dtype or like.dtype)


def scalar(loss: Tensor) -> Tensor:
    """The loss, once it is known to be one number; else an InputError."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"the loss is {found}; loss_fn(model, batch) must return a tensor of one number")
    return loss


@torch.no_grad()
def norm(tensors: Sequence[Tensor]) -> float:
    """The l2 norm of all tensors together, in float64."""
    return math.sqrt(sum(float(torch.linalg.vector_norm(value, dtype=torch.float64)) ** 2 for value in tensors))


def scaled(tensors: Sequence[Tensor], length: float) -> list[Tensor]:
    """The tensors at another norm; zeros stay zeros."""
    factor = length / (norm(tensors) or 1)
    return [value * factor for value in tensors]


def check_count(name: str, value: int, least: int) -> None:
    """Raises InputError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number, at least {least}")
