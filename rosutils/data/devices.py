"""What lives where: transfers that nobody waits for, and a cache of images on the accelerator where it fits."""

import weakref

import numpy as np
import torch
from torch import Tensor


# Of the device's free memory, what one cache of images may take: the rest is for networks and for other workers.
SHARE = 0.5
# Images that go through the host or through a view together: a few launches for several batches instead of for each.
AHEAD = 512

_RESIDENT: dict[tuple[int, torch.device], Tensor] = {}


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`; from the host to CUDA through pinned memory, and without waiting for it."""
    device = torch.device(device)
    to_cuda = device.type == "cuda" and tensor.device.type == "cpu"
    return (tensor.pin_memory() if to_cuda else tensor).to(device, non_blocking=to_cuda)


class Images:
    """A cache of uint8 images [N, channels, H, W] whose rows are gathered onto a device.

    On an accelerator the cache itself lives in device memory where it takes at most SHARE of what is free; else its rows
    are gathered into pinned host memory (the operating system keeps the mapped file) and copied asynchronously.
    """

    def __init__(self, stored: np.ndarray, device: torch.device | str, *, free: int | None = None) -> None:
        """`free` bytes of device memory; by default what the driver tells, and 0 where there is no such memory."""
        self.stored, self.device = stored, torch.device(device)
        self.resident = resident(stored, self.device, free)

    def __call__(self, index: Tensor, on_device: Tensor) -> Tensor:
        """The images [B, channels, H, W] whose numbers are `index` [B] on the host, and `on_device` on the device."""
        if self.resident is not None:
            return self.resident.index_select(0, on_device)
        if self.device.type != "cuda":
            return torch.from_numpy(np.asarray(self.stored[index.numpy()])).to(self.device)
        rows = torch.empty((len(index), *self.stored.shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(self.stored, index.numpy(), axis=0, out=rows.numpy(), mode="clip")  # mode="raise" would copy once more
        return rows.to(self.device, non_blocking=True)


def free_memory(device: torch.device) -> int:
    """Bytes of a CUDA device's memory that nobody uses, or 0 for any other device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def resident(images: np.ndarray, device: torch.device, free: int | None = None) -> Tensor | None:
    """The whole cache on `device`, sent once for all loaders while `images` lives, or None where it does not fit."""
    key = (id(images), device)
    if key not in _RESIDENT and images.nbytes <= SHARE * (free_memory(device) if free is None else free):
        whole = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for rows in torch.arange(len(images)).split(8 * AHEAD):
            whole[rows[0] : rows[-1] + 1] = torch.from_numpy(np.array(images[rows[0] : rows[-1] + 1])).to(device)
        _RESIDENT[key] = whole
        weakref.finalize(images, _RESIDENT.pop, key, None)
    return _RESIDENT.get(key)
