"""Draws stylised frontal chest films with the paper's eight findings, each by the signs radiologists name.

Bone, fluid and soft tissue are white, air is black; the patient's right is on the left of the picture.
Exposure, tilt, breath, habitus, breast shadows and projection (PA, or AP, which magnifies the heart) vary.
"""

from typing import NamedTuple

import numpy as np


CLASSES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
CHANNELS, GROUP, STREAM = 1, "patient", 20
MOST_VIEWS = 4
PERSISTS, ARISES = 0.88, 0.015  # chance that a film shows a finding the patient has, and one that is new

# Patients per block and their findings: fluid with collapse or a large heart, infection with infiltration.
COURSES = (
    (19, ""),
    (3, "Effusion Atelectasis"),
    (1, "Effusion Atelectasis Infiltration"),
    (3, "Cardiomegaly Effusion"),
    (1, "Cardiomegaly"),
    (4, "Infiltration Pneumonia"),
    (1, "Infiltration Atelectasis"),
    (1, "Infiltration Effusion"),
    (1, "Pneumonia"),
    (2, "Mass Nodule"),
    (1, "Mass Effusion"),
    (1, "Mass"),
    (2, "Nodule"),
    (1, "Pneumothorax Atelectasis"),
    (3, "Pneumothorax"),
)
BLOCK = sum(count for count, _ in COURSES)


class Chest(NamedTuple):
    """A chest on the film: coordinates x, y [S, S], the lungs' cover, and the sizes the findings act on."""

    x: np.ndarray
    y: np.ndarray
    side: np.ndarray  # -1 on the patient's right, +1 on the left
    wall: np.ndarray  # half-width of the thorax at this height
    floor: np.ndarray  # height of the diaphragm
    lungs: np.ndarray
    width: float
    collapsed: float  # side that has lost volume, 0 for neither


def block(rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Findings [C] on each film of each patient in one block; findings partly persist from film to film."""
    courses = [course for count, course in COURSES for _ in range(count)]
    return [_films(courses[i], rng) for i in rng.permutation(BLOCK)]


def _films(course, rng):
    has = np.array([name in course.split() for name in CLASSES])
    chance = np.where(has, PERSISTS, ARISES)
    return list((rng.random((rng.integers(1, MOST_VIEWS + 1), len(CLASSES))) < chance).astype(np.float32))


def paint(canvas, label: np.ndarray, thing: np.random.Generator, photo: np.random.Generator) -> None:
    """Paint one film: `thing` fixes the patient and where findings lie, `photo` grade and exposure."""
    found = {name for name, value in zip(CLASSES, label, strict=True) if value}
    places = dict(zip(CLASSES, thing.spawn(len(CLASSES)), strict=True))
    chest = _body(canvas, found, places, thing, photo)
    _lungs(canvas, chest, thing)
    for name in IN_THE_LUNGS:
        if name in found:
            IN_THE_LUNGS[name](canvas, chest, places[name], photo.uniform(0.8, 1.15))
    _heart(canvas, chest, "Cardiomegaly" in found, places["Cardiomegaly"], thing, photo)
    _bones(canvas, chest, thing)
    if "Effusion" in found:
        _effusion(canvas, chest, places["Effusion"], photo.uniform(0.75, 1.15))
    _exposure(canvas, photo)


def _body(canvas, found, places, thing, photo):
    """Outline, thorax and diaphragm; atelectasis raises the diaphragm of its side (volume loss)."""
    tilt, scale = photo.normal(0, 0.035), photo.uniform(0.97, 1.08)
    x = scale * (canvas.x + tilt * canvas.y) - photo.normal(0, 0.04)
    y = scale * (canvas.y - tilt * canvas.x) - photo.normal(0, 0.04)
    width, breath = thing.uniform(0.70, 0.82), photo.uniform(-0.06, 0.06)
    side = np.where(x < 0, -1.0, 1.0).astype(np.float32)
    low = (0.55 - y) * (1 / 1.4)
    wall = width * np.sqrt(np.maximum(1 - low * low, 0))
    dome = (np.abs(x) - 0.36) * (1 / 0.5)
    floor = 0.44 + breath + 0.025 * side + thing.uniform(0.17, 0.24) * dome * dome
    collapsed = _side(places["Atelectasis"]) if "Atelectasis" in found else 0.0
    floor = floor - places["Atelectasis"].uniform(0.10, 0.22) * (side == collapsed)
    inner = 0.13 + 1.6 * np.maximum(-0.5 - y, 0) ** 2
    lungs = canvas.ramp(wall - np.abs(x), 0.04) * canvas.ramp(np.abs(x) - inner, 0.05)
    lungs *= canvas.ramp(floor - y, 0.04)
    return Chest(x, y, side, wall, floor, lungs, width, collapsed)


def _side(rng):
    return -1.0 if rng.random() < 0.5 else 1.0


def _lungs(canvas, chest, rng):
    """Soft tissue, air outside, dark lungs, vessels fanning out from the hila, breasts, stomach bubble."""
    x, y, across = chest.x, chest.y, np.abs(chest.x)
    shoulders = canvas.ramp(y + 0.90 - 0.45 * np.maximum(across - 0.2, 0) ** 2, 0.05)
    flanks = canvas.ramp(chest.width + 0.12 + 1.8 * np.maximum(0.05 - y, 0) ** 2 - across, 0.04)
    canvas.paint(np.maximum(shoulders, canvas.ramp(0.24 - across, 0.05)) * flanks, 0.57)
    canvas.ink[0] += 0.05 * canvas.noise(rng, x, y, 1.5)
    canvas.paint(chest.lungs, rng.uniform(0.14, 0.22))
    hilum = np.sqrt((across - 0.2) ** 2 + (y - 0.02) ** 2)
    ridges = 1 - np.abs(canvas.noise(rng, x, y, 6.0))
    twigs = 1 - np.abs(canvas.noise(rng, x, y, 12.0))
    canvas.ink[0] += chest.lungs * (ridges**2 * ridges + twigs**2 * twigs) * (0.06 / (0.25 + hilum))
    canvas.paint(0.5 * chest.lungs * canvas.ramp(0.12 - hilum, 0.2), 0.5)
    breast = canvas.ramp(0.3 - np.sqrt((across - 0.42) ** 2 + (y - 0.3) ** 2), 0.12)
    canvas.ink[0] += rng.uniform(0, 0.08) * breast
    bubble = canvas.ramp(1 - 40 * (x - 0.38) ** 2 - 160 * (y - 0.62) ** 2, 0.6)
    canvas.paint(rng.uniform(0, 0.6) * bubble * canvas.ramp(y - chest.floor - 0.03, 0.02), 0.25)


def _heart(canvas, chest, large, place, thing, photo):
    """Heart and great vessels; in cardiomegaly the heart is wider than half of the thorax."""
    ratio = place.uniform(0.54, 0.68) if large else place.uniform(0.38, 0.48)
    ratio *= 1.06 if photo.random() < 0.3 else 1.0  # AP: farther from the film, so magnified
    half = ratio * chest.width
    shift = 0.05 * chest.collapsed  # volume loss pulls the heart over
    x, y = chest.x - 0.26 * half - shift, chest.y - 0.26
    y = y - 0.22 * x
    blurred = 1 + 0.05 * canvas.noise(thing, chest.x, chest.y, 3)
    heart = canvas.ramp(blurred - ((x / half) ** 2 + (y / (0.62 * half + 0.08)) ** 2), 0.2)
    canvas.paint(0.92 * heart, 0.66)
    narrow = thing.uniform(0.12, 0.17)
    knob = canvas.ramp(0.09 - np.sqrt((chest.x - narrow) ** 2 + (chest.y + 0.22) ** 2), 0.06)
    middle = canvas.ramp(narrow - np.abs(chest.x - shift), 0.07) * canvas.ramp(chest.y + 0.85, 0.3)
    canvas.paint(0.85 * np.maximum(knob, middle), 0.63)
    windpipe = canvas.ramp(0.045 - np.abs(chest.x + 0.01 - shift), 0.03) * canvas.ramp(-0.12 - chest.y, 0.1)
    canvas.paint(0.45 * windpipe, 0.25)


def _bones(canvas, chest, rng):
    """Spine with its discs, pairs of ribs, clavicles; bone adds least where the film is white already."""
    y, across = chest.y, np.abs(chest.x)
    disc = y * 6.5 - np.floor(y * 6.5)
    bone = 0.22 * canvas.ramp(0.085 - across, 0.04) * (0.6 + 0.4 * canvas.ramp(disc - 0.2, 0.15))
    back = (y - 0.55 * (across - 0.25) ** 2 - 0.05 * across) * rng.uniform(5.2, 5.8)
    front = (y + 0.9 * (across - 0.75) ** 2) * rng.uniform(5.2, 5.8) + 0.4
    thorax = canvas.ramp(chest.wall + 0.04 - across, 0.03) * canvas.ramp(0.5 - y, 0.4)
    for field, weight in ((back, 0.15), (front, 0.07)):
        band = np.abs(field - np.floor(field) - 0.5)
        bone = bone + weight * thorax * (canvas.ramp(0.2 - band, 0.12) - 0.35 * canvas.ramp(0.1 - band, 0.1))
    height = rng.uniform(-0.68, -0.6)
    ends = (0.07, height + 0.06), (0.72, height - 0.06)
    bone = bone + 0.25 * canvas.stroke(across, y, *ends, width=0.06, bend=-0.03)
    canvas.ink[0] += bone * (1 - canvas.ink[0])


def _nodule(canvas, chest, rng, grade):
    """One to four round opacities smaller than 3 cm (the thorax, about 30 cm wide, is 1.5 units)."""
    for _ in range(rng.integers(1, 5)):
        canvas.paint(0.9 * chest.lungs * _ball(canvas, chest, rng, grade * rng.uniform(0.06, 0.08), 0.04), 0.7)


def _mass(canvas, chest, rng, grade):
    """A round, slightly lobulated opacity larger than 3 cm."""
    ball = _ball(canvas, chest, rng, grade * rng.uniform(0.13, 0.22), 0.08)
    canvas.paint(0.92 * chest.lungs * ball, 0.66)


def _ball(canvas, chest, rng, radius, edge):
    x, y = _side(rng) * rng.uniform(0.30, 0.55), rng.uniform(-0.4, 0.3)
    lobes = 0.25 * radius * canvas.noise(rng, chest.x, chest.y, 0.6 / radius)
    return canvas.ramp(radius + lobes - np.sqrt((chest.x - x) ** 2 + (chest.y - y) ** 2), edge)


def _infiltration(canvas, chest, rng, grade):
    """Patchy, ill-defined haze in both lungs, denser low or around the hila."""
    low = canvas.ramp(chest.y + rng.uniform(-0.1, 0.4), 0.8)
    uneven = canvas.noise(rng, chest.x, chest.y, 3.5) + 0.6 * canvas.noise(rng, chest.x, chest.y, 9)
    patches = canvas.ramp(uneven + rng.uniform(0.0, 0.3), 1.2)
    canvas.paint(grade * rng.uniform(0.5, 0.8) * chest.lungs * low * patches, 0.6)


def _pneumonia(canvas, chest, rng, grade):
    """Lobar consolidation: one lobe evenly white up to its fissure, with air bronchograms (dark tubes)."""
    side, top = _side(rng), rng.uniform(-0.15, 0.1)
    upper = rng.random() < 0.35
    fissure = chest.y - top - 0.25 * (np.abs(chest.x) - 0.4)
    lobe = canvas.ramp(-fissure if upper else fissure, 0.06) * (chest.side == side)
    lobe = lobe * canvas.ramp((0.45 if upper else 0.5) - np.abs(fissure), 0.4)
    canvas.paint(grade * rng.uniform(0.65, 0.85) * chest.lungs * lobe, 0.6)
    for _ in range(3):
        start, end = (side * 0.2, top + 0.05), (side * rng.uniform(0.4, 0.65), top + rng.uniform(0.0, 0.5))
        tube = canvas.stroke(chest.x, chest.y, start, end, width=0.025, bend=rng.uniform(-0.04, 0.04))
        canvas.paint(0.4 * chest.lungs * lobe * tube, 0.3)


def _atelectasis(canvas, chest, rng, grade):
    """Plates and a basal wedge of collapsed lung on the side whose diaphragm is raised."""
    side, x, y = chest.collapsed, chest.x, chest.y
    for _ in range(rng.integers(1, 3)):
        height = rng.uniform(-0.05, 0.2)
        ends = (side * 0.2, height + 0.05), (side * rng.uniform(0.5, 0.66), height - rng.uniform(-0.05, 0.1))
        canvas.paint(0.75 * chest.lungs * canvas.stroke(x, y, *ends, width=0.05 * grade, bend=0.02), 0.6)
    wedge = canvas.ramp(y - chest.floor + 0.3 * grade - 0.45 * np.abs(x), 0.06) * (chest.side == side)
    canvas.paint(0.6 * chest.lungs * wedge, 0.6)


def _pneumothorax(canvas, chest, rng, grade):
    """Air between wall and lung: a black rim without markings, the visceral pleura as a fine white line."""
    side, gap = _side(rng), grade * rng.uniform(0.12, 0.3)
    inside = chest.wall - gap * (1.1 - 0.8 * canvas.ramp(chest.y - 0.1, 0.9)) - np.abs(chest.x)
    rim = canvas.ramp(-inside, 0.02) * chest.lungs * (chest.side == side)
    canvas.paint(0.9 * rim, 0.03)
    line = canvas.ramp(0.010 - np.abs(inside), 0.015) * chest.lungs * (chest.side == side)
    canvas.paint(0.6 * line, 0.6)


def _effusion(canvas, chest, rng, grade):
    """Fluid hides the diaphragm and blunts the costophrenic angle, climbing the wall as a meniscus."""
    level, both = grade * rng.uniform(0.12, 0.36), rng.random() < 0.3
    hurt = 1.0 if both else (chest.side == _side(rng))
    climb = 0.28 * (np.maximum(np.abs(chest.x) - 0.3, 0) * (1 / 0.45)) ** 2
    fluid = canvas.ramp(chest.y - (0.5 - level) + climb, 0.07) * hurt
    fluid *= canvas.ramp(chest.wall + 0.02 - np.abs(chest.x), 0.04)
    canvas.paint(0.9 * fluid * canvas.ramp(np.abs(chest.x) - 0.12, 0.06), 0.62)


IN_THE_LUNGS = {
    "Infiltration": _infiltration,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Nodule": _nodule,
    "Mass": _mass,
    "Pneumothorax": _pneumothorax,
}


def _exposure(canvas, rng):
    """Film exposure and contrast, a little scatter, collimated edges, and the side marker."""
    film = canvas.ink[0]
    lift = rng.uniform(-0.2, 0.3)
    film[:] = np.clip(film, 0, 1)
    film[:] = film + lift * film * (1 - film)
    film *= rng.uniform(0.92, 1.1)
    film += rng.uniform(0, 0.05) + 0.012 * canvas.noise(rng, canvas.x, canvas.y, 20)
    for end in ((0.84, -0.9), (0.90, -0.8)):  # the letter L
        canvas.paint(0.9 * canvas.stroke(canvas.x, canvas.y, (0.84, -0.8), end, width=0.03), 0.95)
    edge = rng.uniform(0.94, 1.1)
    canvas.paint(canvas.ramp(np.maximum(np.abs(canvas.x), np.abs(canvas.y)) - edge, 0.01), 0.02)
