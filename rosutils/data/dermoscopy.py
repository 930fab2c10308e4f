"""Draws stylised dermoscopy photographs of the eight ISIC-2019 classes, by the signs dermatologists name.

Shapes follow the ABCD rule (asymmetry, border, colours, diameter); structures follow dermoscopy's vocabulary
(globules, blue-white veil, vessels, milia-like cysts, lacunae). Skin tone, light and hair are nuisance, alike for all.
"""

import math
from typing import NamedTuple

import numpy as np


CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
CHANNELS, GROUP, STREAM = 3, "lesion", 10
COUNTS = (4, 6, 4, 3, 3, 2, 2, 3)  # lesions per block: ISIC-2019's order of frequency, much milder
BLOCK, MOST_VIEWS = sum(COUNTS), 2

BLACK, DARK, BROWN, TAN = (0.10, 0.07, 0.08), (0.28, 0.16, 0.11), (0.52, 0.31, 0.18), (0.72, 0.52, 0.36)
BLUE, PURPLE, RED, YELLOW = (0.32, 0.40, 0.58), (0.40, 0.05, 0.42), (0.82, 0.10, 0.14), (0.88, 0.76, 0.32)
PINK, WHITE, BLOOD = (0.95, 0.62, 0.66), (0.98, 0.96, 0.94), (0.62, 0.05, 0.25)
SKIN = ((0.92, 0.77, 0.70), (0.84, 0.65, 0.53))


class Shape(NamedTuple):
    """A class's A, B and D of the ABCD rule, in scene units (half the picture is 1), and its main colour."""

    radius: tuple[float, float]
    ragged: float
    edge: float  # width of the border's fade relative to the radius: small is sharply cut
    colours: tuple  # the lesion is of a shade between the two


SHAPES = {
    "MEL": Shape((0.60, 0.85), 0.40, 0.2, (BROWN, BLACK)),  # large, irregular
    "NV": Shape((0.40, 0.60), 0.10, 0.2, (DARK, TAN)),  # round, regular
    "BCC": Shape((0.50, 0.70), 0.20, 0.2, (PINK, WHITE)),  # pearly
    "AK": Shape((0.60, 0.85), 0.30, 0.7, (RED, PINK)),  # ill-defined
    "BKL": Shape((0.50, 0.75), 0.20, 0.1, (YELLOW, BROWN)),  # waxy, stuck on: sharply cut
    "DF": Shape((0.45, 0.60), 0.10, 0.4, (TAN, BROWN)),  # faint rim
    "VASC": Shape((0.45, 0.70), 0.15, 0.1, (BLOOD, PURPLE)),  # sharply bordered
    "SCC": Shape((0.55, 0.75), 0.25, 0.2, (PINK, RED)),
}


class Lesion(NamedTuple):
    """A lesion on the skin: coordinates u, v, depth (1 at the centre, 0 at the border), cover; all [S, S]."""

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    radius: float
    strength: float  # of what is painted on it: an early lesion shows its structures faintly


def block(rng: np.random.Generator) -> list[list[int]]:
    """Labels of the views of each lesion in one block; every block holds every class in its share."""
    classes = rng.permutation(np.repeat(np.arange(len(CLASSES)), COUNTS))
    return [[int(c)] * int(n) for c, n in zip(classes, rng.integers(1, MOST_VIEWS + 1, BLOCK), strict=True)]


def paint(canvas, label: int, thing: np.random.Generator, photo: np.random.Generator) -> None:
    """Paint one photograph: `thing` fixes lesion and skin, `photo` the angle, zoom, light and hair."""
    name = CLASSES[label]
    angle, zoom = photo.uniform(0, 2 * math.pi), photo.uniform(0.8, 1.0)
    c, s, x, y = zoom * math.cos(angle), zoom * math.sin(angle), canvas.x, canvas.y
    u, v = c * x + s * y, c * y - s * x
    canvas.paint(1.0, _between(thing, *SKIN))
    canvas.ink += 0.03 * canvas.noise(thing, u, v, 4)
    lesion = _lesion(canvas, SHAPES[name], u, v, thing)
    canvas.paint(lesion.cover, _between(thing, *SHAPES[name].colours))
    for spot in STRUCTURES[name]:
        spot(canvas, lesion, thing)
    for _ in range(photo.integers(2, 6) if photo.random() < 0.3 else 0):  # hair
        ends = photo.uniform(-1, 1, (2, 2))
        canvas.paint(0.7 * canvas.stroke(x, y, *ends, width=0.02, bend=photo.uniform(-0.2, 0.2)), DARK)
    canvas.ink *= photo.uniform(0.92, 1.04) - 0.06 * (x * x + y * y)


def _lesion(canvas, shape, u, v, rng):
    radius, stretch = rng.uniform(*shape.radius), rng.uniform(1, 1.15)
    across, along = u * (stretch / radius), v * (1 / (stretch * radius))
    border = 1 + shape.ragged * (canvas.noise(rng, across, along, 0.8) + 0.6 * canvas.noise(rng, across, along, 2.5))
    depth = border - np.sqrt(across * across + along * along)
    return Lesion(u, v, depth, canvas.ramp(depth, shape.edge), radius, rng.uniform(0.5, 1.0))


def _between(rng, first, second):
    share = rng.random()
    return tuple(a + share * (b - a) for a, b in zip(first, second, strict=True))


def _patches(colour, *, above, cells):
    """Uneven areas of another colour inside the lesion; the higher `above`, the smaller."""

    def spot(canvas, lesion, rng):
        spread = canvas.noise(rng, lesion.u, lesion.v, cells / lesion.radius)
        canvas.paint(lesion.strength * lesion.cover * canvas.ramp(spread - above, 0.4), colour)

    return spot


def _dots(colour, *, pitch, radius, share, rim=9.0):
    """Dots: globules, cysts, lacunae, blood spots; `rim` keeps them near the border."""

    def spot(canvas, lesion, rng):
        spots = canvas.dots(rng, lesion.u, lesion.v, pitch=pitch, radius=radius, share=share, jitter=0.4)
        canvas.paint(lesion.strength * lesion.cover * spots * (lesion.depth < rim), colour)

    return spot


def _centre(colour, *, deeper):
    """A middle of another colour, its edge uneven."""

    def spot(canvas, lesion, rng):
        uneven = lesion.depth - deeper + 0.15 * canvas.noise(rng, lesion.u, lesion.v, 5)
        canvas.paint(lesion.strength * canvas.ramp(uneven, 0.2), colour)

    return spot


def _vessels(canvas, lesion, rng):
    """Arborising vessels: red trunks from the border inwards."""
    for angle in rng.uniform(0, 2 * math.pi, 5):
        root = (lesion.radius * math.cos(angle), lesion.radius * math.sin(angle))
        tip = rng.uniform(-0.3, 0.3, 2) * lesion.radius
        line = canvas.stroke(lesion.u, lesion.v, root, tip, width=0.04, bend=rng.uniform(-0.1, 0.1))
        canvas.paint(lesion.strength * line, RED)


STRUCTURES = {
    "MEL": (_patches(BLUE, above=0.1, cells=1.2), _dots(BLACK, pitch=0.15, radius=0.3, share=0.4, rim=0.45)),
    "NV": (_dots(DARK, pitch=0.1, radius=0.26, share=0.5),),
    "BCC": (_dots(BLUE, pitch=0.26, radius=0.32, share=0.5), _vessels),
    "AK": (_patches(WHITE, above=0.3, cells=3),),
    "BKL": (_dots(WHITE, pitch=0.2, radius=0.22, share=0.5), _dots(DARK, pitch=0.24, radius=0.26, share=0.5)),
    "DF": (_centre(WHITE, deeper=0.4),),
    "VASC": (_dots(BLACK, pitch=0.24, radius=0.4, share=0.6),),
    "SCC": (_centre(YELLOW, deeper=0.45), _dots(DARK, pitch=0.2, radius=0.25, share=0.3, rim=0.5)),
}
