"""Eq. 1, the smooth parameter average, and BatchNorm statistics for the averaged weights."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rosutils import modes_kept


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, n_averaged: int) -> None:
    """Eq. 1, in place: W_smooth <- (W_smooth n + W) / (n + 1), with n checkpoints averaged so far; buffers are copied."""
    for smooth, current in zip(average.parameters(), model.parameters(), strict=True):
        smooth.mul_(n_averaged).add_(current).div_(n_averaged + 1)
    for smooth, current in zip(average.buffers(), model.buffers(), strict=True):
        smooth.copy_(current)


@torch.no_grad()
def refresh_batchnorm(model: nn.Module, loader) -> None:
    """BatchNorm's running statistics re-estimated on the images of `loader` (Izmailov et al. 2018, section 3.2).

    Unlike torch's `update_bn` each batch counts by its size, and no other layer is put into training mode.
    """
    layers = {layer: layer.momentum for layer in model.modules() if isinstance(layer, _BatchNorm)}
    seen = 0
    with modes_kept(model):
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        for batch in loader:
            if len(batch.images) == 1:  # a last batch of one image has no variance to estimate
                continue
            seen += len(batch.images)
            for layer in layers:
                layer.momentum = len(batch.images) / seen
            model(batch.images)
    for layer, momentum in layers.items():
        layer.momentum = momentum
