"""Draws stylised dermoscopy photographs of the eight ISIC-2019 classes, by the signs dermatologists name.

Shapes follow the ABCD rule (asymmetry, border, colours, diameter); structures follow dermoscopy's vocabulary
(pigment network, globules, blue-white veil, arborising vessels, milia-like cysts, lacunae). Skin tone, light,
vignette, hair and ruler marks are nuisance, alike for all classes.
"""

import math
from typing import NamedTuple

import numpy as np


CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
CHANNELS, GROUP, STREAM = 3, "lesion", 10
COUNTS = (4, 8, 4, 2, 3, 1, 2, 2)  # lesions per block: ISIC-2019's order of frequency, milder
BLOCK, MOST_VIEWS = sum(COUNTS), 3

BLACK, DARK, BROWN, TAN = (0.13, 0.09, 0.09), (0.33, 0.19, 0.13), (0.52, 0.32, 0.21), (0.71, 0.51, 0.37)
BLUE_GREY, PURPLE, RED = (0.40, 0.42, 0.50), (0.45, 0.10, 0.32), (0.76, 0.17, 0.20)
PINK, WHITE, KERATIN = (0.89, 0.60, 0.57), (0.93, 0.88, 0.85), (0.91, 0.83, 0.62)
SKINS = ((0.92, 0.77, 0.70), (0.89, 0.72, 0.62), (0.82, 0.63, 0.51))


class Shape(NamedTuple):
    """Ranges over lesions of a class, in scene units (half the picture is 1): A, B and D of the ABCD rule."""

    radius: tuple[float, float]
    asymmetry: tuple[float, float]
    ragged: tuple[float, float]
    edge: tuple[float, float]  # width of the border's fade relative to the radius: small is sharply cut


SHAPES = {
    "MEL": Shape((0.42, 0.80), (0.15, 0.60), (0.15, 0.40), (0.10, 0.30)),  # large, asymmetric, irregular
    "NV": Shape((0.26, 0.58), (0.00, 0.30), (0.02, 0.18), (0.12, 0.35)),  # symmetric, regular
    "BCC": Shape((0.32, 0.66), (0.10, 0.40), (0.05, 0.20), (0.15, 0.35)),
    "AK": Shape((0.40, 0.80), (0.20, 0.50), (0.15, 0.40), (0.50, 0.90)),  # ill-defined
    "BKL": Shape((0.36, 0.72), (0.10, 0.40), (0.08, 0.25), (0.04, 0.10)),  # stuck on: sharply cut
    "DF": Shape((0.26, 0.44), (0.00, 0.20), (0.02, 0.12), (0.35, 0.70)),  # small, faint rim
    "VASC": Shape((0.26, 0.62), (0.05, 0.35), (0.05, 0.20), (0.04, 0.12)),  # sharply bordered
    "SCC": Shape((0.36, 0.74), (0.15, 0.45), (0.10, 0.30), (0.12, 0.40)),
}


class Lesion(NamedTuple):
    """A lesion on the skin: coordinates u, v, depth (1 at the centre, 0 at the border), cover; all [S, S]."""

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    radius: float


def block(rng: np.random.Generator) -> list[list[int]]:
    """Labels of the views of each lesion in one block; every block holds every class in its share."""
    classes = rng.permutation(np.repeat(np.arange(len(CLASSES)), COUNTS))
    views = rng.integers(1, MOST_VIEWS + 1, BLOCK)
    return [[int(c)] * int(n) for c, n in zip(classes, views, strict=True)]


def paint(canvas, label: int, thing: np.random.Generator, photo: np.random.Generator) -> None:
    """Paint one photograph: `thing` fixes lesion and skin, `photo` the angle, zoom, light and hair."""
    name = CLASSES[label]
    u, v = _camera(canvas, photo)
    _skin(canvas, u, v, thing)
    lesion = _lesion(canvas, SHAPES[name], u, v, thing)
    STRUCTURES[name](canvas, lesion, thing)
    canvas.ink += lesion.cover * (0.05 * canvas.noise(thing, u, v, 5) + 0.03 * canvas.noise(thing, u, v, 16))
    _hair(canvas, photo)
    _ruler(canvas, photo)
    _light(canvas, photo)


def _camera(canvas, rng):
    angle, zoom = rng.uniform(0, 2 * math.pi), rng.uniform(0.75, 1.0)
    c, s = math.cos(angle) * zoom, math.sin(angle) * zoom
    x, y = canvas.x - rng.uniform(-0.1, 0.1), canvas.y - rng.uniform(-0.1, 0.1)
    return c * x + s * y, c * y - s * x


def _lesion(canvas, shape, u, v, rng):
    radius, stretch = rng.uniform(*shape.radius), rng.uniform(1, 1.2 + shape.asymmetry[1] / 3)
    across, along = u * (stretch / radius), v * (1 / (stretch * radius))
    border = 1 + rng.uniform(*shape.asymmetry) * canvas.noise(rng, across, along, 0.8)
    teeth = canvas.noise(rng, across, along, 2.5) + 0.4 * canvas.noise(rng, across, along, 6)
    border += rng.uniform(*shape.ragged) * teeth
    depth = border - np.sqrt(across * across + along * along)
    return Lesion(u, v, depth, canvas.ramp(depth, rng.uniform(*shape.edge)), radius)


def _skin(canvas, u, v, rng):
    """Skin of a tone between fair and olive, mottled, with fine furrows."""
    canvas.paint(1.0, _shade(rng, _mix(SKINS[rng.integers(3)], SKINS[rng.integers(3)], rng.random()), 0.02))
    canvas.ink += 0.025 * canvas.noise(rng, u, v, 2) + 0.02 * canvas.noise(rng, u, v, 14)


def _mix(first, second, share):
    return tuple(a + share * (b - a) for a, b in zip(first, second, strict=True))


def _shade(rng, colour, spread=0.05):
    """The colour as this lesion has it: a little lighter or darker, a little redder or bluer."""
    lighter = rng.normal(0, spread)
    return tuple(value + lighter + rng.normal(0, spread / 5) for value in colour)


def _patch(canvas, lesion, rng, colour, *, above, cells=1.6, strength=0.9):
    """An uneven area of another colour inside the lesion; the higher `above`, the smaller."""
    spread = canvas.noise(rng, lesion.u, lesion.v, cells / lesion.radius)
    canvas.paint(lesion.cover * canvas.ramp(spread - above, 0.5) * strength, _shade(rng, colour))


def _network(canvas, lesion, rng, colour, *, strength, warp):
    """Pigment network: brown lines around lighter holes; `warp` makes it atypical."""
    bent, faded = warp * canvas.noise(rng, lesion.u, lesion.v, 3), canvas.ramp(lesion.depth - 0.1, 0.6)
    holes = canvas.dots(rng, lesion.u + bent, lesion.v - bent, pitch=0.08, radius=0.4, jitter=0.15)
    canvas.paint(lesion.cover * faded * (1 - holes) * strength, colour)


def _dots(canvas, lesion, rng, colour, *, pitch, radius=0.26, share=0.6, strength=0.85, where=1.0):
    bent = 0.2 * pitch * canvas.noise(rng, lesion.u, lesion.v, 1 / pitch)
    spots = canvas.dots(rng, lesion.u + bent, lesion.v - bent, pitch=pitch, radius=radius, share=share, jitter=0.5)
    canvas.paint(lesion.cover * spots * (where * strength), _shade(rng, colour))


def _vessels(canvas, lesion, rng, *, trunks, width):
    """Arborising vessels: sharp red trunks that branch like a tree."""
    for _ in range(trunks):
        angle = rng.uniform(0, 2 * math.pi)
        root = (1.05 * lesion.radius * math.cos(angle), 1.05 * lesion.radius * math.sin(angle))
        tip = tuple(rng.uniform(-0.3, 0.3) * lesion.radius for _ in range(2))
        fork = _mix(root, tip, 0.45)
        side = (fork[0] - 0.5 * tip[1] + 0.2 * tip[0], fork[1] + 0.5 * tip[0] - 0.5 * root[1])
        for start, end, thick in ((root, tip, width), (fork, side, 0.6 * width)):
            line = canvas.stroke(lesion.u, lesion.v, start, end, width=thick, bend=rng.uniform(-0.12, 0.12))
            canvas.paint(0.8 * line, RED)


def _melanoma(canvas, lesion, rng):
    """MEL: several colours (browns, black, blue-white veil, regression), atypical network, rim dots."""
    canvas.paint(lesion.cover, _shade(rng, _mix(DARK, TAN, rng.uniform(0.0, 0.6))))
    _network(canvas, lesion, rng, DARK, strength=0.4, warp=0.08)
    stage = rng.uniform(0.3, 1.0)  # an early melanoma shows its colours faintly, much like a nevus
    _patch(canvas, lesion, rng, DARK, above=rng.uniform(-0.2, 0.3))
    _patch(canvas, lesion, rng, BLACK, above=rng.uniform(0.0, 0.5), strength=stage)
    _patch(canvas, lesion, rng, BLUE_GREY, above=rng.uniform(0.0, 0.5), strength=stage)
    if rng.random() < 0.35:
        _patch(canvas, lesion, rng, _mix(PINK, WHITE, 0.4), above=rng.uniform(0.3, 0.6), strength=0.8 * stage)
    _dots(canvas, lesion, rng, BLACK, pitch=0.11, share=0.3, strength=stage, where=lesion.depth < 0.45)


def _nevus(canvas, lesion, rng):
    """NV: one or two browns in even rings, regular network, some globules; a dysplastic one has a blotch."""
    canvas.paint(lesion.cover, _shade(rng, _mix(BROWN, TAN, rng.uniform(0.2, 1))))
    inner = canvas.ramp(lesion.depth - rng.uniform(0.3, 0.6), 0.5)
    canvas.paint(lesion.cover * inner * rng.uniform(0.2, 0.8), _shade(rng, _mix(DARK, BROWN, rng.random())))
    _network(canvas, lesion, rng, DARK, strength=rng.uniform(0.1, 0.4), warp=0.03)
    if rng.random() < 0.4:
        _dots(canvas, lesion, rng, DARK, pitch=0.11, strength=0.7)
    if rng.random() < 0.25:
        _patch(canvas, lesion, rng, DARK, above=rng.uniform(0.0, 0.4))


def _basal_cell(canvas, lesion, rng):
    """BCC: pearly pink, arborising vessels, blue-grey ovoid nests, sometimes a shallow ulcer."""
    canvas.paint(rng.uniform(0.65, 0.95) * lesion.cover, _shade(rng, _mix(PINK, WHITE, rng.uniform(0, 0.6)), 0.03))
    _dots(canvas, lesion, rng, BLUE_GREY, pitch=0.22, radius=0.3, share=rng.uniform(0.15, 0.7), strength=0.75)
    _patch(canvas, lesion, rng, BLUE_GREY, above=rng.uniform(0.4, 0.8), cells=2.5, strength=0.7)
    _vessels(canvas, lesion, rng, trunks=rng.integers(3, 6), width=0.026)
    if rng.random() < 0.35:
        _patch(canvas, lesion, rng, RED, above=0.45, cells=1.2, strength=0.8)


def _keratosis_actinic(canvas, lesion, rng):
    """AK: red with the strawberry pattern (pale follicles in a red net), white scale, border hard to tell."""
    canvas.paint(rng.uniform(0.7, 0.95) * lesion.cover, _shade(rng, _mix(PINK, RED, rng.uniform(0.3, 0.7)), 0.03))
    _dots(canvas, lesion, rng, PINK, pitch=0.10, share=0.9, strength=0.6)
    _patch(canvas, lesion, rng, WHITE, above=rng.uniform(0.2, 0.5), cells=4, strength=0.7)


def _keratosis_benign(canvas, lesion, rng):
    """BKL: waxy, stuck on, yellow to dark brown, milia-like cysts (white), comedo-like openings (dark)."""
    canvas.paint(lesion.cover, _shade(rng, _mix(_mix(DARK, BROWN, rng.random()), KERATIN, rng.uniform(0.1, 0.7))))
    _patch(canvas, lesion, rng, BROWN, above=0.1, cells=3.5, strength=0.5)
    _patch(canvas, lesion, rng, DARK, above=0.3, cells=3.0, strength=0.6)
    _dots(canvas, lesion, rng, WHITE, pitch=0.15, radius=0.17, share=rng.uniform(0.2, 0.6), strength=0.75)
    _dots(canvas, lesion, rng, DARK, pitch=0.19, radius=0.2, share=0.4)


def _dermatofibroma(canvas, lesion, rng):
    """DF: white scar-like centre in a faint brown ring with a delicate network."""
    canvas.paint(rng.uniform(0.55, 0.9) * lesion.cover, _shade(rng, _mix(TAN, PINK, rng.uniform(0, 0.4)), 0.03))
    _network(canvas, lesion, rng, BROWN, strength=0.3, warp=0.02)
    scar = lesion.depth - rng.uniform(0.35, 0.55) + 0.1 * canvas.noise(rng, lesion.u, lesion.v, 6)
    canvas.paint(canvas.ramp(scar, 0.4) * rng.uniform(0.5, 0.9), _shade(rng, WHITE, 0.02))


def _vascular(canvas, lesion, rng):
    """VASC: red, purple or black-blue lacunae (round lakes of blood) with whitish septa, sharply bordered."""
    blood = _mix(RED, PURPLE, rng.random())
    canvas.paint(lesion.cover, _shade(rng, _mix(blood, PINK, rng.uniform(0.1, 0.4))))
    _dots(canvas, lesion, rng, _mix(blood, BLACK, rng.uniform(0.1, 0.5)), pitch=0.18, radius=0.42, share=0.85)


def _squamous_cell(canvas, lesion, rng):
    """SCC: yellow-white keratin mass in the middle of pink, blood spots, looped vessels towards the rim."""
    canvas.paint(0.9 * lesion.cover, _shade(rng, _mix(PINK, RED, rng.uniform(0, 0.5)), 0.04))
    _dots(canvas, lesion, rng, RED, pitch=0.09, radius=0.2, share=0.5, where=lesion.depth < 0.5)
    rough = lesion.depth - rng.uniform(0.3, 0.7) + 0.25 * canvas.noise(rng, lesion.u, lesion.v, 5)
    canvas.paint(canvas.ramp(rough, 0.15) * rng.uniform(0.6, 0.95), _shade(rng, KERATIN, 0.04))
    _patch(canvas, lesion, rng, _mix(RED, BLACK, 0.6), above=rng.uniform(0.5, 0.7), cells=4)


STRUCTURES = {
    "MEL": _melanoma,
    "NV": _nevus,
    "BCC": _basal_cell,
    "AK": _keratosis_actinic,
    "BKL": _keratosis_benign,
    "DF": _dermatofibroma,
    "VASC": _vascular,
    "SCC": _squamous_cell,
}


def _hair(canvas, rng):
    """Body hair on about half of the photographs, dark or fair."""
    colour, main = _mix(BLACK, (0.62, 0.47, 0.33), rng.random()), rng.uniform(0, 2 * math.pi)
    for _ in range(rng.integers(2, 9) if rng.random() < 0.45 else 0):
        angle, half = main + rng.normal(0, 0.5), rng.uniform(0.4, 1.2)
        x, y = rng.uniform(-1, 1), rng.uniform(-1, 1)
        dx, dy, width = half * math.cos(angle), half * math.sin(angle), rng.uniform(0.012, 0.03)
        ends = (x - dx, y - dy), (x + dx, y + dy)
        line = canvas.stroke(canvas.x, canvas.y, *ends, width=width, bend=rng.uniform(-0.2, 0.2))
        canvas.paint(0.8 * line, colour)


def _ruler(canvas, rng):
    """Millimetre marks along one edge on about one photograph in eight."""
    pitch, depth = rng.uniform(0.08, 0.14), rng.uniform(0.85, 0.92) if rng.random() < 0.12 else 9.0
    place = canvas.x * (1 / pitch)
    marks = canvas.ramp(0.12 - np.abs(place - np.floor(place) - 0.5), 0.1) * canvas.ramp(canvas.y - depth, 0.01)
    canvas.paint(0.8 * marks, (0.15, 0.15, 0.18))


def _light(canvas, rng):
    """Exposure, colour temperature, light from one side, vignette, the round field of some dermatoscopes."""
    warm, far = rng.normal(0, 0.025), canvas.x * canvas.x + canvas.y * canvas.y
    slope = rng.uniform(-0.06, 0.06) * canvas.x + rng.uniform(-0.06, 0.06) * canvas.y
    gain = rng.uniform(0.9, 1.06) * (1 + slope - rng.uniform(0, 0.14) * far)
    for channel, tint in zip(canvas.ink, (1 + warm, 1.0, 1 - warm), strict=True):
        channel *= gain * tint
    if rng.random() < 0.1:
        canvas.paint(canvas.ramp(np.sqrt(far) - rng.uniform(1.0, 1.2), 0.04), (0.02, 0.02, 0.02))
