"""Stylised dermoscopy and chest-film images with known clean labels, drawn on the spot: a class is a row of a table.

Every image is a scene in scene units (x right, y down, both from -1 to 1), fixed by (seed, group, view) before
the first pixel is drawn: image i of a seed shows the same scene at 32 and at 256 pixels, so a notebook can
enlarge the very images that networks saw. Arrays meet only + - * / and square roots, rounded alike everywhere.
"""

import math
from collections import namedtuple
from collections.abc import Iterator

import numpy as np

from rosutils import InputError


FORMAT = 1  # of the pixels: raised where the same options draw others, so that no prepared set outlives the change
LEAST = {"pixels": 16, "seed": 0, "examples": 1, "index": 0}
RENDERED = 128  # pixels at least drawn per side before averaging down
LATTICE, MOST_VIEWS = 16, 2  # cells after which noise and dots repeat; images of one lesion or patient

BLACK, DARK, BROWN, TAN = (0.10, 0.07, 0.08), (0.28, 0.16, 0.11), (0.52, 0.31, 0.18), (0.72, 0.52, 0.36)
BLUE, PURPLE, RED, YELLOW = (0.32, 0.40, 0.58), (0.40, 0.05, 0.42), (0.82, 0.10, 0.14), (0.88, 0.76, 0.32)
PINK, WHITE, BLOOD = (0.95, 0.62, 0.66), (0.98, 0.96, 0.94), (0.62, 0.05, 0.25)
SKIN = ((0.92, 0.77, 0.70), (0.84, 0.65, 0.53))


# A class of lesion by the signs dermatologists name: how many a block has (ISIC-2019's order of frequency, much milder);
# its radius in scene units, how ragged it is, how wide its border fades, the two colours between which it is; and marks: kind,
# colour, and numbers (rarity and cells of patches; pitch, radius, share and rim of dots; depth of a centre).
Lesion = namedtuple("Lesion", "count radius ragged edge colours marks")
MEL = (("patches", BLUE, (0.1, 1.2)), ("dots", BLACK, (0.15, 0.3, 0.4, 0.45)))
BCC = (("dots", BLUE, (0.26, 0.32, 0.5, 9)), ("vessels", RED, ()))
BKL = (("dots", WHITE, (0.2, 0.22, 0.5, 9)), ("dots", DARK, (0.24, 0.26, 0.5, 9)))
VASC = (("dots", BLACK, (0.24, 0.4, 0.6, 9)),)
SCC = (("centre", YELLOW, (0.45,)), ("dots", DARK, (0.2, 0.25, 0.3, 0.5)))
LESIONS = {
    "MEL": Lesion(4, (0.60, 0.85), 0.40, 0.2, (BROWN, BLACK), MEL),  # large, irregular
    "NV": Lesion(6, (0.40, 0.60), 0.10, 0.2, (DARK, TAN), (("dots", DARK, (0.1, 0.26, 0.5, 9)),)),  # round, regular
    "BCC": Lesion(4, (0.50, 0.70), 0.20, 0.2, (PINK, WHITE), BCC),  # pearly
    "AK": Lesion(3, (0.60, 0.85), 0.30, 0.7, (RED, PINK), (("patches", WHITE, (0.3, 3)),)),  # ill-defined
    "BKL": Lesion(3, (0.50, 0.75), 0.20, 0.1, (YELLOW, BROWN), BKL),  # waxy, stuck on: sharply cut
    "DF": Lesion(2, (0.45, 0.60), 0.10, 0.4, (TAN, BROWN), (("centre", WHITE, (0.4,)),)),  # faint rim
    "VASC": Lesion(2, (0.45, 0.70), 0.15, 0.1, (BLOOD, PURPLE), VASC),  # sharply bordered
    "SCC": Lesion(3, (0.55, 0.75), 0.25, 0.2, (PINK, RED), SCC),
}


# A finding by the sign radiologists name, with its ink: bone, fluid and soft tissue are white (1), air is black (0); its
# size is a radius, height or width in scene units (the thorax is 1.5 wide).
Finding = namedtuple("Finding", "sign ink density size count", defaults=(1.0, (0, 0), (1, 2)))
FINDINGS = {  # in the order they are painted; classes are in that of the alphabet
    "Infiltration": Finding("haze", 0.62, 0.9),  # patchy, ill-defined, in both lungs
    "Pneumonia": Finding("lobe", 0.66, 0.95, size=(-0.15, 0.1)),  # evenly white down to its fissure
    "Atelectasis": Finding("plates", 0.9),  # of collapsed lung across the lower half of one side
    "Nodule": Finding("balls", 0.95, size=(0.06, 0.08), count=(5, 9)),
    "Mass": Finding("balls", 0.95, size=(0.2, 0.28)),  # larger than 3 cm
    "Pneumothorax": Finding("air", 0.6, 0.5, size=(0.22, 0.36)),  # a black rim, the lung in it smaller and denser
    "Effusion": Finding("fluid", 0.85, size=(0.05, 0.25)),  # hides the diaphragm, climbs the wall as a meniscus
    "Cardiomegaly": Finding("heart", 0.68, size=(0.54, 0.66)),  # wider than half of the thorax
}
HEALTHY = (0.26, 0.34)  # half-width of the heart
PERSISTS, ARISES = 0.9, 0.02  # chance that a film shows a finding the patient has, and one that is new
# Patients per block and their findings: fluid with collapse or a large heart, infection with infiltration.
COURSES = (
    "17 / 3 Effusion Atelectasis / 2 Effusion Atelectasis Cardiomegaly / 3 Effusion Cardiomegaly / 1 Atelectasis "
    "Pneumothorax / 1 Atelectasis Mass / 2 Cardiomegaly Nodule / 3 Infiltration Pneumonia / 2 Infiltration Nodule / 2 "
    "Infiltration Mass Pneumothorax / 2 Mass Nodule Pneumonia / 2 Mass Pneumothorax / 2 Nodule Pneumothorax / 2 Pneumonia "
    "Effusion"
)
# The kinds of pictures: classes, channels, a group's name, a stream of seeds, the labels of a block, how one is painted.
Modality = namedtuple("Modality", "classes channels group stream block paint")


def make(modality: str, *, examples: int, pixels: int, seed: int) -> dict:
    """Draw a labelled set (section IV-A's data in miniature): uint8 images [N, channels, H, W], clean labels.

    Labels are int64 [N] (lesions) or float32 [N, C] (findings). The first n images of a larger set are the set of n.
    Raises InputError for an unknown modality and for a size or seed out of range.
    """
    kind = _modality(modality, pixels=pixels, seed=seed, examples=examples)
    groups, views, labels = _plan(kind, examples, seed)
    images = np.stack([_picture(kind, *which, pixels, seed) for which in zip(groups, views, labels, strict=True)])
    names = tuple(f"{kind.group}{group:05d}_{view}" for group, view in zip(groups, views, strict=True))
    same = {"class_names": kind.classes, "multilabel": labels.ndim == 2}
    return {"images": images, "labels": labels, "groups": groups, "names": names, **same}


def draw(modality: str, index: int, *, pixels: int, seed: int) -> np.ndarray:
    """Draw image `index` of `make(modality, ...)` at any size, the same scene: uint8 [channels, H, W]."""
    kind = _modality(modality, pixels=pixels, seed=seed, index=index)
    return _picture(kind, *(part[index] for part in _plan(kind, index + 1, seed)), pixels, seed)


def _modality(name: str, **numbers: int) -> Modality:
    if name not in MODALITIES:
        raise InputError(f"modality {name!r} is not known; choose one of {', '.join(MODALITIES)}")
    for what, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < LEAST[what]:
            raise InputError(f"{what} is {value!r}; it must be a whole number, at least {LEAST[what]}")
    return MODALITIES[name]


def _plan(kind: Modality, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups [N], views within them [N] and clean labels, made in blocks so that a prefix stays a prefix."""
    groups, views, labels, block = [], [], [], 0
    while len(labels) < examples:
        for images in kind.block(np.random.default_rng([seed, kind.stream, block])):
            groups += [groups[-1] + 1 if groups else 0] * len(images)
            views += range(len(images))
            labels += images
        block += 1
    dtype = np.int64 if np.ndim(labels[0]) == 0 else np.float32
    return np.array(groups[:examples]), np.array(views[:examples]), np.array(labels[:examples], dtype)


def _picture(kind: Modality, group: int, view: int, label, pixels: int, seed: int) -> np.ndarray:
    """`thing` fixes lesion or patient, `photo` the angle, zoom and light of one picture of it."""
    step = max(2, math.ceil(RENDERED / pixels))
    centres = (np.arange(pixels * step, dtype=np.float32) + 0.5) * (2.0 / (pixels * step)) - 1.0
    y, x = np.meshgrid(*[centres.astype(np.float32)] * 2, indexing="ij")
    thing = np.random.default_rng([seed, kind.stream + 1, group])
    ink = np.zeros((kind.channels, *x.shape), np.float32)
    kind.paint(ink, x, y, label, thing, np.random.default_rng([seed, kind.stream + 2, group, view]))
    small = sum(ink[:, i::step, j::step] for i in range(step) for j in range(step)) / (step * step)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8)


def _lesion_block(rng: np.random.Generator) -> list[list[int]]:
    """Labels of the views of each lesion in one block; every block holds every class in its share."""
    counts = [lesion.count for lesion in LESIONS.values()]
    classes = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return [[int(c)] * int(n) for c, n in zip(classes, rng.integers(1, MOST_VIEWS + 1, sum(counts)), strict=True)]


def _paint_lesion(ink: np.ndarray, x, y, label: int, thing, photo) -> None:
    row = list(LESIONS.values())[label]
    angle, zoom = photo.uniform(0, 2 * math.pi), photo.uniform(0.8, 1.0)
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    u, v = c * x + s * y, c * y - s * x
    paint(ink, 1.0, _between(thing, *SKIN))
    ink += 0.03 * noise(thing, u, v, 4)
    radius, stretch = thing.uniform(*row.radius), thing.uniform(1, 1.15)
    across, along = u * (stretch / radius), v * (1 / (stretch * radius))
    border = 1 + row.ragged * (noise(thing, across, along, 0.8) + 0.6 * noise(thing, across, along, 2.5))
    depth = border - np.sqrt(across * across + along * along)  # 1 at the centre, 0 at the border
    cover, strength = ramp(depth, row.edge), thing.uniform(0.5, 1.0)  # an early lesion shows its structures faintly
    paint(ink, cover, _between(thing, *row.colours))
    for kind, colour, numbers in row.marks:
        for mark in _mark(kind, numbers, thing, u, v, depth, cover, radius):
            paint(ink, strength * mark, colour)
    for _ in range(photo.integers(2, 6) if photo.random() < 0.3 else 0):  # hair
        ends = photo.uniform(-1, 1, (2, 2))
        paint(ink, 0.7 * stroke(x, y, *ends, width=0.02, bend=photo.uniform(-0.2, 0.2)), DARK)
    ink *= photo.uniform(0.92, 1.04) - 0.06 * (x * x + y * y)


def _mark(kind: str, numbers: tuple, rng, u, v, depth, cover, radius: float) -> Iterator[np.ndarray]:
    if kind == "patches":  # uneven areas: a veil, scales
        yield cover * ramp(noise(rng, u, v, numbers[1] / radius) - numbers[0], 0.4)
    elif kind == "dots":
        pitch, size, share, rim = numbers
        yield cover * dots(rng, u, v, pitch=pitch, radius=size, share=share, jitter=0.4) * (depth < rim)
    elif kind == "centre":  # a middle of another colour, its edge uneven
        yield ramp(depth - numbers[0] + 0.15 * noise(rng, u, v, 5), 0.2)
    else:  # vessels: trunks from the border inwards
        for angle in rng.uniform(0, 2 * math.pi, 5):
            root, tip = (radius * math.cos(angle), radius * math.sin(angle)), rng.uniform(-0.3, 0.3, 2) * radius
            yield stroke(u, v, root, tip, width=0.04, bend=rng.uniform(-0.1, 0.1))


def _between(rng, first, second) -> np.ndarray:
    return np.add(first, rng.random() * np.subtract(second, first))


def _film_block(rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Findings [C] on each film of each patient in one block; they partly persist from film to film."""
    courses = [names for count, *names in map(str.split, COURSES.split("/")) for _ in range(int(count))]
    chances = np.where([[name in course for name in sorted(FINDINGS)] for course in courses], PERSISTS, ARISES)
    chances = chances[rng.permutation(len(courses))]
    return [list(np.float32(rng.random((rng.integers(1, MOST_VIEWS + 1), 8)) < chance)) for chance in chances]


def _paint_film(ink: np.ndarray, x, y, label: np.ndarray, thing, photo) -> None:
    places = dict(zip(sorted(FINDINGS), thing.spawn(len(FINDINGS)), strict=True))
    found = {name: FINDINGS[name] for name, value in zip(places, label, strict=True) if value}
    x, y = (photo.uniform(0.97, 1.08) * axis - photo.normal(0, 0.03) for axis in (x, y))
    across, width = np.abs(x), thing.uniform(0.74, 0.84)
    wall = width * np.sqrt(np.maximum(1 - ((0.6 - y) / 1.45) ** 2, 0))
    floor = 0.5 + thing.uniform(-0.06, 0.06) + 0.7 * (across - 0.36) ** 2
    lungs = ramp(wall - across, 0.04) * ramp(across - 0.14, 0.05) * ramp(floor - y, 0.04)  # the patient's right is left
    paint(ink, ramp(y + 0.92 - 0.45 * across**2, 0.05) * ramp(width + 0.12 - across, 0.04), 0.57)  # soft tissue
    paint(ink, lungs, thing.uniform(0.16, 0.22))
    ink[0] += 0.05 * lungs * noise(thing, x, y, 6)
    rib = (y - 0.5 * across**2) * 5.5
    ink[0] += 0.06 * lungs * ramp(0.2 - np.abs(rib - np.floor(rib) - 0.5), 0.12)
    for name in filter(found.__contains__, FINDINGS):
        for cover, grey in _sign(found[name], x, y, wall, lungs, places[name]):
            paint(ink, cover, grey)
    half = thing.uniform(*(FINDINGS["Cardiomegaly"].size if "Cardiomegaly" in found else HEALTHY))
    outside = ((x - 0.3 * half) / half) ** 2, ((y - 0.26) / (0.6 * half + 0.08)) ** 2
    paint(ink, ramp(1 - outside[0] - outside[1], 0.2), FINDINGS["Cardiomegaly"].ink)
    paint(ink, ramp(0.15 - np.abs(x), 0.07) * ramp(y + 0.85, 0.3), 0.66)  # vessels and spine
    ink[0] = np.clip(ink[0], 0, 1) * photo.uniform(0.9, 1.1) + photo.uniform(0, 0.06)


def _sign(row: Finding, x, y, wall, lungs, rng) -> Iterator[tuple[np.ndarray, float]]:
    if row.sign == "haze":
        yield row.density * lungs * ramp(noise(rng, x, y, 4) + 0.2, 0.8), row.ink
    elif row.sign == "balls":
        for _ in range(rng.integers(*row.count) if row.count[1] > 2 else 1):
            there = _side(rng) * rng.uniform(0.3, 0.55), rng.uniform(-0.45, 0.3)
            away = np.sqrt((x - there[0]) ** 2 + (y - there[1]) ** 2)
            yield lungs * ramp(rng.uniform(*row.size) - away, 0.05), row.ink
    elif row.sign == "plates":
        side = _side(rng)
        for high in (-0.05, 0.15, 0.35):
            yield lungs * stroke(x, y, (side * 0.15, high + 0.05), (side * 0.7, high - 0.1), width=0.07), row.ink
    elif row.sign == "air":
        lung, inside = lungs * (x * _side(rng) > 0), wall - rng.uniform(*row.size) - np.abs(x)
        yield row.density * lung * ramp(inside, 0.02), row.ink
        yield lung * ramp(-inside, 0.02), 0.0
    elif row.sign in ("lobe", "fluid"):  # above a fissure, or below a level
        height, across = y - rng.uniform(*row.size), np.abs(x)
        lung = lungs * (x * _side(rng) > 0)
        lobe, fluid = 0.25 * (across - 0.4) - height, height + 0.6 * np.maximum(across - 0.3, 0) ** 2
        yield row.density * lung * (ramp(lobe, 0.06) if row.sign == "lobe" else ramp(fluid, 0.07)), row.ink


def _side(rng) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0


MODALITIES = {
    "dermoscopy": Modality(tuple(LESIONS), 3, "lesion", 10, _lesion_block, _paint_lesion),
    "chest-film": Modality(tuple(sorted(FINDINGS)), 1, "patient", 20, _film_block, _paint_film),
}


def paint(ink: np.ndarray, cover, colour) -> None:
    """Blend `colour` (one number per channel) into the ink [channels, S, S], as far as `cover` [S, S] (0 to 1) says."""
    for channel, value in zip(ink, np.atleast_1d(colour), strict=True):
        channel += cover * (float(value) - channel)


def ramp(value, width: float):
    """Cover of the region where `value` > 0, with a soft edge `width` wide (anti-aliased at any size)."""
    t = np.clip(value * (1 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, u, v, cells: float):
    """Smooth noise in -1 to 1 at the points (u, v), with `cells` bumps per scene unit."""
    table = rng.uniform(-1, 1, LATTICE * LATTICE).astype(np.float32)
    (i, du), (j, dv) = _cell(u * cells), _cell(v * cells)
    du, dv = du * du * (3 - 2 * du), dv * dv * (3 - 2 * dv)
    i, i1, j1 = i * LATTICE, (i + 1) % LATTICE * LATTICE, (j + 1) % LATTICE
    near = table[i + j] * (1 - dv) + table[i + j1] * dv
    return near * (1 - du) + (table[i1 + j] * (1 - dv) + table[i1 + j1] * dv) * du


def dots(rng: np.random.Generator, u, v, *, pitch: float, radius: float, share: float, jitter: float):
    """Cover of dots, one in a `share` of the cells of side `pitch`; radius and jitter are in cells."""
    table = rng.random((4, LATTICE * LATTICE), np.float32)
    u, v = u * (1 / pitch), v * (1 / pitch)
    (i, du), (j, dv) = _cell(u + 0.5 * (np.floor(v) % 2)), _cell(v)
    a, b, size, drawn = table[:, i * LATTICE + j]
    away = np.sqrt((du - 0.5 + jitter * (a - 0.5)) ** 2 + (dv - 0.5 + jitter * (b - 0.5)) ** 2)
    return ramp(radius * (1 + jitter * (size - 0.5)) - away, 0.2) * (drawn < share)


def stroke(u, v, start, end, *, width: float, bend: float = 0.0):
    """Cover of a line from `start` to `end`, `width` wide, bowed sideways by `bend`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.sqrt(dx * dx + dy * dy)
    along = ((u - start[0]) * dx + (v - start[1]) * dy) * (1 / length**2)
    across = ((v - start[1]) * dx - (u - start[0]) * dy) * (1 / length) - 4 * bend * along * (1 - along)
    beyond = np.maximum(np.abs(along - 0.5) - 0.5, 0) * length
    return ramp(0.5 * width - np.sqrt(across * across + beyond * beyond), max(0.5 * width, 0.012))


def _cell(u):
    """The lattice cell (modulo its period) and the place within it."""
    return np.floor(u).astype(np.int32) % LATTICE, u - np.floor(u)
