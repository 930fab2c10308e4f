"""Deterministic augmented views: a pure function of (seed, epoch, example), so teachers and students see the same pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rosutils import InputError


_SALTS = {"down": 1, "right": 2, "vertical": 3, "horizontal": 4}


@dataclass(frozen=True)
class View:
    """Random crop after reflecting `pad` pixels, and random flips; one view per (seed, epoch, example).

    With a number of `views` these come round by turns: the view of epoch e is that of e modulo `views`.
    """

    seed: int
    pad: int = 0
    flips: tuple[str, ...] = ()
    views: int | None = None

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The views [B, channels, H, W] of `images` [B, channels, H, W] whose example numbers are `index` [B].

        Raises InputError for more padding than the image can reflect, or an unknown flip.
        """
        side = min(images.shape[2:])
        if not 0 <= self.pad < side:
            allowed = f"allowed for images of {side} px: 0 to {side - 1}"
            raise InputError(f"training.augmentation.pad is {self.pad}; {allowed}")
        if unknown := set(self.flips) - {"horizontal", "vertical"}:
            raise InputError(f"training.augmentation.flips: {min(unknown)!r} is unknown; allowed: horizontal, vertical")
        if self.pad == 0 and not self.flips:
            return images
        index, epoch = index.to(images.device), epoch if self.views is None else epoch % self.views
        rows = self._positions(images.shape[2], index, epoch, shift="down", flip="vertical")
        columns = self._positions(images.shape[3], index, epoch, shift="right", flip="horizontal")
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        return images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _positions(self, length: int, index: Tensor, epoch: int, *, shift: str, flip: str) -> Tensor:
        """Which source row (or column) [B, length] each row of the view shows; the edge is reflected."""
        offset = self._draw(index, epoch, shift) % (2 * self.pad + 1) - self.pad
        position = (torch.arange(length, device=index.device) + offset[:, None]).abs()
        position = (length - 1) - ((length - 1) - position).abs()
        if flip in self.flips:
            flipped = (self._draw(index, epoch, flip) % 2 == 1)[:, None]
            position = torch.where(flipped, length - 1 - position, position)
        return position

    def _draw(self, index: Tensor, epoch: int, what: str) -> Tensor:
        """Non-negative int64 [B], uniformly mixed: splitmix64 (Steele, Lea, Flood 2014), equal on every device."""
        start = self.seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03 + _SALTS[what] * 0x8CB92BA72F3D8DD7
        x = index.long() * 0x632BE59BD9B4E019 + _signed(start)
        x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
        x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
        return _shift_right(x ^ _shift_right(x, 31), 1)


def _signed(value: int) -> int:
    """The int64 with the same low 64 bits."""
    return (value + 2**63) % 2**64 - 2**63


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own on int64 keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
