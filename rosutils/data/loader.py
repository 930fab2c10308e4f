"""Batches of a task, on any device: an epoch's order and views depend on (seed, epoch) alone."""

import math
from collections import namedtuple
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rosutils import InputError
from rosutils.augment import View
from rosutils.data.task import Task


SHARE = 0.5  # of the device's free memory is for the images of one task: the rest is for networks and for other workers
SENT = 4096  # images at a time: to the device, and into views there, whose many small steps cost the host more than the device
VIEWED = 2**26  # bytes of images at a time that are made into views; three times as much is gone until they are used
# What a loader yields: images float [B, channels, H, W] in [0, 1], labels, example numbers [B] (on the host), epoch.
Batch = namedtuple("Batch", "images labels index epoch")


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`; from the host to CUDA through pinned memory, and without waiting for it."""
    device = torch.device(device)
    to_cuda = device.type == "cuda" and tensor.device.type == "cpu"
    return (tensor.pin_memory() if to_cuda else tensor).to(device, non_blocking=to_cuda)


def resident(task: Task, device: torch.device, free: int | None = None) -> Tensor | None:
    """The task's images on an accelerator, sent there once, where they take at most SHARE of its free memory; or None.

    `free` is in bytes; by default what a CUDA driver tells, and 0 for any other device.
    """
    if free is None:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    if device not in task.resident and task.images.nbytes <= SHARE * free:
        whole = torch.empty(task.images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(whole), SENT):
            whole[start : start + SENT] = torch.from_numpy(np.array(task.images[start : start + SENT])).to(device)
        task.resident[device] = whole
    return task.resident.get(device)


class Loader:
    """Batches of a task's examples.

    With `shuffle_seed` the order is shuffled and a smaller last batch is dropped, or there are `batches` an epoch, for which
    the examples are shuffled as often as it takes; without, the order is that of `index`. Raises InputError for a training
    set smaller than a batch. On an accelerator images are gathered and made into views there, and nothing waits for it.
    """

    def __init__(
        self, task: Task, index: Tensor, *, batch_size: int, shuffle_seed: int | None = None, batches: int | None = None,
        view: View | None = None, device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        if shuffle_seed is not None and len(index) < batch_size:
            raise InputError(
                f"training.batch_size is {batch_size}, but a training set of task '{task.name}' has only {len(index)} "
                "examples: use a smaller batch_size or more images"
            )
        self.task, self.index, self.batch_size, self.batches = task, index, batch_size, batches
        self.shuffle_seed, self.view, self.device, self.epoch = shuffle_seed, view, torch.device(device), 0
        self.resident = resident(task, self.device)

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch (from 0) whose order and views come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = len(self.index) / self.batch_size
        return math.ceil(batches) if self.shuffle_seed is None else self.batches or math.floor(batches)

    def __iter__(self) -> Iterator[Batch]:
        order = self.index
        if self.shuffle_seed is not None:
            generator = torch.Generator().manual_seed(self.shuffle_seed * 100_003 + self.epoch)
            rounds = math.ceil(len(self) * self.batch_size / len(order))
            order = torch.cat([order[torch.randperm(len(order), generator=generator)] for _ in range(rounds)])
        ahead = 0 if self.resident is None else min(SENT, VIEWED // max(1, self.resident[:1].nbytes)) // self.batch_size
        at_once = self.batch_size * max(1, ahead)
        for some in order[: len(self) * self.batch_size].split(at_once) if len(order) else ():
            images, labels = self._views(some)
            parts = (each.split(self.batch_size) for each in (images, labels, some))
            for uint8, of_them, index in zip(*parts, strict=True):
                yield Batch(uint8.float() / 255, of_them, index, self.epoch)

    def _views(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images, gathered, cropped and flipped on the device from its memory or through pinned host memory; and labels."""
        on_device, labels = send(index, self.device), send(self.task.labels[index], self.device)
        if self.resident is not None:
            images = self.resident.index_select(0, on_device)
        else:
            images = send(torch.from_numpy(np.asarray(self.task.images[index.numpy()])), self.device)
        if self.view is not None:
            images = self.view(images, on_device, self.epoch)
        return images, labels
