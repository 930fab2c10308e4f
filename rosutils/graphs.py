"""CUDA graphs: a network's training passes recorded once and replayed, for at batch 64 launching kernels takes the time."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from rosutils.models import Classifier


LEAST = 200  # steps: a shorter run is over before recording has paid

logger = logging.getLogger(__name__)


@contextmanager
def recorded(model: Classifier, shape: Sequence[int], steps: int) -> Iterator[None]:
    """While it lasts, training passes of `model.backbone` over batches of one shape [B, channels, H, W] are replayed.

    On CUDA, for LEAST steps or more; else it does nothing. Weights, running statistics and gradients are those of the plain
    passes, and passes in eval mode stay plain. Losses, heads and the optimiser's step are no part of the graph, so they may be
    anything. Where recording fails training goes on without it, and a warning says why.
    """
    if next(model.parameters()).device.type != "cuda" or steps < LEAST:
        yield
        return
    warn = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", lambda on: None)
    warn(False)  # of gradients that come from the graph's stream: their bits are those of plain passes
    try:
        _record(model, shape)
        yield
    finally:
        warn(True)
        model.backbone.__dict__.pop("forward", None)  # what make_graphed_callables laid over the class's own
        gc.collect()  # its graph and buffers lie in a cycle, and hold gigabytes
        torch.cuda.empty_cache()


def _record(model: Classifier, shape: Sequence[int]) -> None:
    """Record forward and backward passes; the passes that warm up move BatchNorm's statistics, which are put back."""
    device, backbone = next(model.parameters()).device, model.backbone
    modes = {module: module.training for module in model.modules()}
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    model.train()
    gc.collect()
    gc.disable()  # an old graph that is destroyed in the midst of a recording spoils it
    try:
        with torch.cuda.device(device), model.in_precision():
            sample = model.prepared(torch.rand(tuple(shape), device=device)).detach()
            torch.cuda.make_graphed_callables(backbone, (sample,))
    except RuntimeError as error:
        backbone.__dict__.pop("forward", None)
        logger.warning("CUDA graphs could not be recorded, training is slower without them: %s", error)
    finally:
        gc.enable()
        with torch.no_grad():
            for name, buffer in backbone.named_buffers():
                buffer.copy_(before[name])
        for module, mode in modes.items():
            module.training = mode
