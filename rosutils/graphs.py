"""CUDA graphs: a network's training passes recorded once and replayed, for at batch 64 launching kernels takes the time."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def replayed(model: nn.Module, shape: Sequence[int]) -> Iterator[None]:
    """While it lasts, training passes of `model.backbone` over batches of one shape [B, channels, H, W] are replayed.

    On CUDA alone; elsewhere it does nothing. Weights, running statistics and gradients are those of the plain passes, and
    passes in eval mode stay plain. Losses, heads and the optimiser step are no part of the graph, so they may be anything.
    Where recording fails training goes on without it, and a warning says why.
    """
    if next(model.parameters()).device.type != "cuda":
        yield
        return
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True  # one shape: the search for the fastest kernels is made once
    try:
        _record(model, shape)
        yield
    finally:
        model.backbone.__dict__.pop("forward", None)  # what make_graphed_callables laid over the class's own
        torch.backends.cudnn.benchmark = benchmark


def _record(model: nn.Module, shape: Sequence[int]) -> None:
    """Record forward and backward passes; the passes that warm up move BatchNorm's statistics, which are put back."""
    device, backbone = next(model.parameters()).device, model.backbone
    modes = {module: module.training for module in model.modules()}
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    model.train()
    try:
        with torch.cuda.device(device), model.in_precision():
            sample = model.prepared(torch.rand(tuple(shape), device=device)).detach()
            torch.cuda.make_graphed_callables(backbone, (sample,))
    except RuntimeError as error:
        warnings.warn(f"CUDA graphs could not be recorded, training is slower without them: {error}", stacklevel=3)
    finally:
        with torch.no_grad():
            for name, buffer in backbone.named_buffers():
                buffer.copy_(before[name])
        for module, mode in modes.items():
            module.training = mode
