"""Stylised dermoscopy and chest-film images with known clean labels, drawn on the spot.

Every image is a scene in scene units (x right, y down, both from -1 to 1), fixed by (seed, group, view) before
the first pixel is drawn: image i of a seed shows the same scene at 32 and at 256 pixels, so a notebook can
enlarge the very images that networks saw. Arrays meet only + - * / and square roots, rounded alike everywhere.
"""

import math
from dataclasses import dataclass

import numpy as np

from rosutils import InputError
from rosutils.data import chest_film, dermoscopy


MODALITIES = {"dermoscopy": dermoscopy, "chest-film": chest_film}
SMALLEST = 16
RENDERED = 128  # pixels at least drawn per side before averaging down
LATTICE = 16  # noise and dots repeat after this many cells


def make(modality: str, *, examples: int, pixels: int, seed: int) -> dict:
    """Draw a labelled set (section IV-A's data in miniature): uint8 images [N, channels, H, W], clean labels.

    Labels are int64 [N] (one lesion class) or float32 [N, C] (findings). The first n images of a larger set
    are the set of n. Raises InputError for an unknown modality and for a size or seed out of range.
    """
    painter = _painter(modality, pixels, seed)
    _at_least("examples", examples, 1)
    groups, views, labels = _plan(painter, examples, seed)
    images = np.empty((examples, painter.CHANNELS, pixels, pixels), np.uint8)
    for i in range(examples):
        images[i] = _picture(painter, groups[i], views[i], labels[i], pixels, seed)
    return {
        "images": images,
        "labels": labels,
        "groups": groups,
        "names": tuple(f"{painter.GROUP}{g:05d}_{v}" for g, v in zip(groups, views, strict=True)),
        "class_names": painter.CLASSES,
        "multilabel": labels.ndim == 2,
    }


def draw(modality: str, index: int, *, pixels: int, seed: int) -> np.ndarray:
    """Draw image `index` of `make(modality, ...)` at any size, the same scene: uint8 [channels, H, W]."""
    painter = _painter(modality, pixels, seed)
    _at_least("index", index, 0)
    groups, views, labels = _plan(painter, index + 1, seed)
    return _picture(painter, groups[index], views[index], labels[index], pixels, seed)


def _painter(modality, pixels, seed):
    if modality not in MODALITIES:
        raise InputError(f"modality {modality!r} is not known; choose one of {', '.join(MODALITIES)}")
    _at_least("pixels", pixels, SMALLEST)
    _at_least("seed", seed, 0)
    return MODALITIES[modality]


def _at_least(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number, at least {least}")


def _plan(painter, examples, seed):
    """Groups [N], views within them [N] and clean labels, made in blocks so that a prefix stays a prefix."""
    groups, views, labels = [], [], []
    block = 0
    while len(groups) < examples:
        rng = np.random.default_rng([seed, painter.STREAM, block])
        for group, images in enumerate(painter.block(rng), start=block * painter.BLOCK):
            groups += [group] * len(images)
            views += range(len(images))
            labels += images
        block += 1
    dtype = np.int64 if np.ndim(labels[0]) == 0 else np.float32
    return np.array(groups[:examples]), np.array(views[:examples]), np.array(labels[:examples], dtype)


def _picture(painter, group, view, label, pixels, seed):
    canvas = Canvas.blank(pixels * max(2, math.ceil(RENDERED / pixels)), painter.CHANNELS)
    thing = np.random.default_rng([seed, painter.STREAM + 1, group])
    photo = np.random.default_rng([seed, painter.STREAM + 2, group, view])
    painter.paint(canvas, label, thing, photo)
    return canvas.averaged(pixels)


@dataclass
class Canvas:
    """A picture in the making: coordinates x, y [S, S] in scene units and ink [channels, S, S] in 0 to 1."""

    x: np.ndarray
    y: np.ndarray
    ink: np.ndarray

    @classmethod
    def blank(cls, side: int, channels: int) -> "Canvas":
        """Start a black picture of `side` pixels."""
        centres = ((np.arange(side, dtype=np.float32) + 0.5) * (2.0 / side) - 1.0).astype(np.float32)
        y, x = np.meshgrid(centres, centres, indexing="ij")
        return cls(x, y, np.zeros((channels, side, side), np.float32))

    def paint(self, cover, colour) -> None:
        """Blend `colour` (one number per channel) in, as far as `cover` [S, S] (0 to 1) says."""
        for channel, value in zip(self.ink, np.atleast_1d(colour), strict=True):
            channel += cover * (float(value) - channel)

    def averaged(self, pixels: int) -> np.ndarray:
        """Area-average down to uint8 [channels, pixels, pixels]."""
        step = self.ink.shape[-1] // pixels
        small = sum(self.ink[:, i::step, j::step] for i in range(step) for j in range(step)) / (step * step)
        return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)

    @staticmethod
    def ramp(value, width: float):
        """Cover of the region where `value` > 0, with a soft edge `width` wide (anti-aliased at any size)."""
        t = np.clip(value * (1 / width) + 0.5, 0, 1)
        return t * t * (3 - 2 * t)

    @staticmethod
    def noise(rng: np.random.Generator, u, v, cells: float):
        """Smooth noise in -1 to 1 at the points (u, v), with `cells` bumps per scene unit."""
        table = rng.uniform(-1, 1, LATTICE * LATTICE).astype(np.float32)
        (i, du), (j, dv) = _cell(u * cells), _cell(v * cells)
        du, dv = du * du * (3 - 2 * du), dv * dv * (3 - 2 * dv)
        i, i1 = i * LATTICE, (i + 1) % LATTICE * LATTICE
        j1 = (j + 1) % LATTICE
        near = table[i + j] * (1 - dv) + table[i + j1] * dv
        return near * (1 - du) + (table[i1 + j] * (1 - dv) + table[i1 + j1] * dv) * du

    @staticmethod
    def dots(rng: np.random.Generator, u, v, *, pitch: float, radius: float, share=1.0, jitter: float):
        """Cover of dots, one in a `share` of the cells of side `pitch`; radius and jitter are in cells."""
        table = rng.random((4, LATTICE * LATTICE), np.float32)
        row = np.floor(v * (1 / pitch))
        (i, du), (j, dv) = _cell(u * (1 / pitch) + 0.5 * (row % 2)), _cell(v * (1 / pitch))
        a, b, size, drawn = table[:, i * LATTICE + j]
        away = np.sqrt((du - 0.5 + jitter * (a - 0.5)) ** 2 + (dv - 0.5 + jitter * (b - 0.5)) ** 2)
        return Canvas.ramp(radius * (1 + jitter * (size - 0.5)) - away, 0.2) * (drawn < share)

    @staticmethod
    def stroke(u, v, start, end, *, width: float, bend: float = 0.0):
        """Cover of a line from `start` to `end`, `width` wide, bowed sideways by `bend`."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.sqrt(dx * dx + dy * dy)
        along = ((u - start[0]) * dx + (v - start[1]) * dy) * (1 / length**2)
        across = ((v - start[1]) * dx - (u - start[0]) * dy) * (1 / length) - 4 * bend * along * (1 - along)
        beyond = np.maximum(np.abs(along - 0.5) - 0.5, 0) * length
        return Canvas.ramp(0.5 * width - np.sqrt(across * across + beyond * beyond), max(0.5 * width, 0.012))


def _cell(u):
    """The lattice cell (modulo its period) and the place within it."""
    floor = np.floor(u)
    return floor.astype(np.int32) % LATTICE, u - floor
