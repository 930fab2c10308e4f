"""Eq. 1, the smooth parameter average, and BatchNorm statistics for the averaged weights."""

import torch
from torch import nn
from torch.optim.swa_utils import update_bn


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, n_averaged: int) -> None:
    """Eq. 1, in place: W_smooth <- (W_smooth n + W) / (n + 1), with n checkpoints averaged so far; buffers are copied."""
    for smooth, current in zip(average.parameters(), model.parameters(), strict=True):
        smooth.mul_(n_averaged).add_(current).div_(n_averaged + 1)
    for smooth, current in zip(average.buffers(), model.buffers(), strict=True):
        smooth.copy_(current)


def refresh_batchnorm(model: nn.Module, loader) -> None:
    """BatchNorm's running statistics re-estimated on the images of `loader` (Izmailov et al. 2018, section 3.2)."""
    # A last batch of one image has no variance to estimate.
    update_bn((batch.images for batch in loader if len(batch.images) > 1), model)
