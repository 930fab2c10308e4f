"""Draws stylised frontal chest films with the paper's eight findings, each by the sign radiologists name.

Bone, fluid and soft tissue are white, air is black; the patient's right is on the left of the picture.
"""

from typing import NamedTuple

import numpy as np


CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
CHANNELS, GROUP, STREAM = 1, "patient", 20
MOST_VIEWS = 2
PERSISTS, ARISES = 0.9, 0.02  # chance that a film shows a finding the patient has, and one that is new

# Patients per block and their findings: fluid with collapse or a large heart, infection with infiltration.
COURSES = (
    (17, ""), (3, "Effusion Atelectasis"), (2, "Effusion Atelectasis Cardiomegaly"), (3, "Effusion Cardiomegaly"),
    (1, "Atelectasis Pneumothorax"), (1, "Atelectasis Mass"), (2, "Cardiomegaly Nodule"), (3, "Infiltration Pneumonia"),
    (2, "Infiltration Nodule"), (2, "Infiltration Mass Pneumothorax"), (2, "Mass Nodule Pneumonia"),
    (2, "Mass Pneumothorax"), (2, "Nodule Pneumothorax"), (2, "Pneumonia Effusion"),
)  # fmt: skip
BLOCK = sum(count for count, _ in COURSES)


class Chest(NamedTuple):
    """A chest on the film: coordinates x, y [S, S], the half-width of the thorax at this height, the lungs' cover."""

    x: np.ndarray
    y: np.ndarray
    wall: np.ndarray
    lungs: np.ndarray

    def lung(self, side: float) -> np.ndarray:
        """The cover of one lung: -1 on the patient's right, +1 on the left."""
        return self.lungs * (self.x * side > 0)


def block(rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Findings [C] on each film of each patient in one block; findings partly persist from film to film."""
    courses = [course for count, course in COURSES for _ in range(count)]
    return [_films(courses[i], rng) for i in rng.permutation(BLOCK)]


def _films(course, rng):
    has = np.array([name in course.split() for name in CLASSES])
    chance = np.where(has, PERSISTS, ARISES)
    return list((rng.random((rng.integers(1, MOST_VIEWS + 1), len(CLASSES))) < chance).astype(np.float32))


def paint(canvas, label: np.ndarray, thing: np.random.Generator, photo: np.random.Generator) -> None:
    """Paint one film: `thing` fixes the patient and where findings lie, `photo` the position and the exposure."""
    found = {name for name, value in zip(CLASSES, label, strict=True) if value}
    places = dict(zip(CLASSES, thing.spawn(len(CLASSES)), strict=True))
    chest = _body(canvas, thing, photo)
    for name, finding in IN_THE_LUNGS.items():
        if name in found:
            finding(canvas, chest, places[name])
    _heart(canvas, chest, thing.uniform(0.54, 0.66) if "Cardiomegaly" in found else thing.uniform(0.26, 0.34))
    film = np.clip(canvas.ink[0], 0, 1)
    canvas.ink[0] = film * photo.uniform(0.9, 1.1) + photo.uniform(0, 0.06)


def _body(canvas, thing, photo):
    """Soft tissue, dark lungs above the diaphragm, their vessels, pairs of ribs."""
    x, y = (photo.uniform(0.97, 1.08) * axis - photo.normal(0, 0.03) for axis in (canvas.x, canvas.y))
    across, width = np.abs(x), thing.uniform(0.74, 0.84)
    wall = width * np.sqrt(np.maximum(1 - ((0.6 - y) / 1.45) ** 2, 0))
    floor = 0.5 + thing.uniform(-0.06, 0.06) + 0.7 * (across - 0.36) ** 2
    lungs = canvas.ramp(wall - across, 0.04) * canvas.ramp(across - 0.14, 0.05) * canvas.ramp(floor - y, 0.04)
    canvas.paint(canvas.ramp(y + 0.92 - 0.45 * across**2, 0.05) * canvas.ramp(width + 0.12 - across, 0.04), 0.57)
    canvas.paint(lungs, thing.uniform(0.16, 0.22))
    canvas.ink[0] += 0.05 * lungs * canvas.noise(thing, x, y, 6)
    rib = (y - 0.5 * across**2) * 5.5
    canvas.ink[0] += 0.06 * lungs * canvas.ramp(0.2 - np.abs(rib - np.floor(rib) - 0.5), 0.12)
    return Chest(x, y, wall, lungs)


def _heart(canvas, chest, half):
    """Heart, great vessels and spine; in cardiomegaly the heart is wider than half of the thorax."""
    x, y = chest.x - 0.3 * half, chest.y - 0.26
    canvas.paint(canvas.ramp(1 - (x / half) ** 2 - (y / (0.6 * half + 0.08)) ** 2, 0.2), 0.68)
    canvas.paint(canvas.ramp(0.15 - np.abs(chest.x), 0.07) * canvas.ramp(chest.y + 0.85, 0.3), 0.66)


def _side(rng):
    return -1.0 if rng.random() < 0.5 else 1.0


def _balls(canvas, chest, rng, count, radius):
    for _ in range(count):
        x, y = _side(rng) * rng.uniform(0.3, 0.55), rng.uniform(-0.45, 0.3)
        away = np.sqrt((chest.x - x) ** 2 + (chest.y - y) ** 2)
        canvas.paint(chest.lungs * canvas.ramp(rng.uniform(*radius) - away, 0.05), 0.95)


def _nodule(canvas, chest, rng):
    """Several round opacities smaller than 3 cm (the thorax, about 30 cm wide, is 1.5 units)."""
    _balls(canvas, chest, rng, rng.integers(5, 9), (0.06, 0.08))


def _mass(canvas, chest, rng):
    """A round opacity larger than 3 cm."""
    _balls(canvas, chest, rng, 1, (0.2, 0.28))


def _infiltration(canvas, chest, rng):
    """Patchy, ill-defined haze in both lungs."""
    canvas.paint(0.9 * chest.lungs * canvas.ramp(canvas.noise(rng, chest.x, chest.y, 4) + 0.2, 0.8), 0.62)


def _pneumonia(canvas, chest, rng):
    """Lobar consolidation: an upper lobe evenly white down to its fissure."""
    fissure = chest.y - rng.uniform(-0.15, 0.1) - 0.25 * (np.abs(chest.x) - 0.4)
    canvas.paint(0.95 * chest.lung(_side(rng)) * canvas.ramp(-fissure, 0.06), 0.66)


def _atelectasis(canvas, chest, rng):
    """Plates of collapsed lung across the lower half of one side."""
    side = _side(rng)
    for height in (-0.05, 0.15, 0.35):
        line = canvas.stroke(chest.x, chest.y, (side * 0.15, height + 0.05), (side * 0.7, height - 0.1), width=0.07)
        canvas.paint(chest.lungs * line, 0.9)


def _pneumothorax(canvas, chest, rng):
    """Air between wall and lung: a black rim, and the lung in it smaller and denser."""
    side = _side(rng)
    inside = chest.wall - rng.uniform(0.22, 0.36) - np.abs(chest.x)
    canvas.paint(0.5 * chest.lung(side) * canvas.ramp(inside, 0.02), 0.6)
    canvas.paint(chest.lung(side) * canvas.ramp(-inside, 0.02), 0.0)


def _effusion(canvas, chest, rng):
    """Fluid hides the diaphragm and blunts the costophrenic angle, climbing the wall as a meniscus."""
    level = chest.y - rng.uniform(0.05, 0.25) + 0.6 * np.maximum(np.abs(chest.x) - 0.3, 0) ** 2
    canvas.paint(chest.lung(_side(rng)) * canvas.ramp(level, 0.07), 0.85)


IN_THE_LUNGS = {
    "Infiltration": _infiltration,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Nodule": _nodule,
    "Mass": _mass,
    "Pneumothorax": _pneumothorax,
    "Effusion": _effusion,
}
