"""What a run costs, relative to others, and the disk it takes: good enough to order runs and to say how long they take."""

from functools import lru_cache
from typing import NamedTuple

import torch

from rosutils import models
from rosutils.study.experiment import Experiment, RunSpec


FLOAT, SMALL_FILES = 4, 4096  # bytes of a number, and of run.json and history.csv
# Training on one image, relative to a ResNet-18 in float32 (40 px, one CPU thread; `models` has the measurements).
TRAINING = {
    "float32": {"resnet18": 1.0, "resnet34": 1.8, "resnet50": 2.8, "mobilenet_v2": 0.41, "densenet121": 1.2},
    "bfloat16": {"resnet18": 0.63, "resnet34": 1.1, "resnet50": 1.7, "mobilenet_v2": 0.9, "densenet121": 0.85},
}
# The same of a pass forward, of a gradient by the pixels, and of a product with the Hessian.
FORWARD, GRADIENT, PRODUCT = 0.25, 0.7, 3.0
EPOCH, RUN = 20.0, 100.0  # a checkpoint with its validation's start; a network made, stored and read again
ASCENT = 12  # gradients that `landscape.sharpness` takes


class Sizes(NamedTuple):
    """Images: what the run is trained on, and the parts of its task."""

    trained_on: float
    train: float
    validation: float
    test: float


def sizes(experiment: Experiment, spec: RunSpec) -> Sizes:
    """The images of an opened task."""
    parts = {name: len(index) for name, index in experiment.task(spec.task).split.items()}
    return Sizes(len(experiment.training_index(spec)), **parts)


def work(experiment: Experiment, spec: RunSpec, size: Sizes) -> float:
    """The work of a run, in images that a ResNet-18 is trained on in float32."""
    if spec.role in ("chance", "pixels"):
        return RUN
    if spec.role in ("teacher", "student"):
        return RUN + _training(experiment, spec, size)
    return RUN + TRAINING["float32"][spec.architecture] * _looking(experiment.parameters, spec, size)


def _training(experiment: Experiment, spec: RunSpec, size: Sizes) -> float:
    """Whole batches and validation in every epoch; BatchNorm and both parts of the split at the end."""
    section = experiment.parameters.training
    batches = size.trained_on // section.batch_size
    if spec.subset is not None and experiment.parameters.teachers.steps == "equal":
        batches = size.train // section.batch_size
    averaged = 2 if spec.weighting == "exponential" else 1
    seen = averaged * (size.validation * section.epochs + size.trained_on + size.validation + size.test)
    forward = FORWARD * TRAINING["float32"][spec.architecture] * seen
    trained = TRAINING[experiment.precision(spec)][spec.architecture] * batches * section.batch_size * section.epochs
    return trained + forward + EPOCH * section.epochs


def _looking(p, spec: RunSpec, size: Sizes) -> float:
    """Passes of a bank or a probe, in images of its own architecture in training."""
    attacked = min(p.attacks.examples or size.test, size.test)
    seen, norms, points = min(p.landscape.examples, size.test), len(p.attacks.norms), len(p.attacks.curve_multiples)
    ascents, products = (
        ASCENT * len(p.landscape.sharpness_radii),
        p.landscape.hessian_iterations + p.landscape.hessian_samples,
    )
    views = min(p.training.epochs, p.training.augmentation.views or p.training.epochs)
    return {
        "bank": FORWARD * size.train * views,
        "agreement": FORWARD * size.train,
        "attack": GRADIENT * attacked * norms * (1 + p.attacks.steps),
        "curve": GRADIENT * attacked * points * p.attacks.steps,
        "checks": GRADIENT * min(64, attacked) * norms * 10 * p.attacks.steps,
        "surface": (FORWARD * seen + EPOCH) * p.landscape.points**2,
        "path": FORWARD * seen * 21,
        "curvature": (PRODUCT * products + ascents) * seen,
    }[spec.role]


def relative(experiment: Experiment, spec: RunSpec) -> float:
    """The work of a run of an opened task: good enough to begin with the longest."""
    return work(experiment, spec, sizes(experiment, spec))


def disk(experiment: Experiment, spec: RunSpec, size: Sizes, n_classes: int = 8) -> tuple[float, float]:
    """Bytes of a finished run: of what stays, and of the weights that may be released."""
    p, logits = experiment.parameters, FLOAT * n_classes
    attacked = min(p.attacks.examples or size.test, size.test)
    averaged = 2 if spec.weighting == "exponential" else 1
    trained = spec.role in ("teacher", "student")
    small = {
        "bank": logits * experiment.views * size.train,
        "agreement": logits * size.train,
        "attack": logits * attacked * (1 + 2 * len(p.attacks.norms)),
        "curve": logits * attacked * (1 + len(p.attacks.curve_multiples)),
        "surface": 2 * FLOAT * p.landscape.points**2,
    }.get(spec.role, averaged * logits * (size.validation + size.test) if trained or spec.role == "pixels" else 0.0)
    return SMALL_FILES + small, averaged * weights(spec.architecture) if trained else 0.0


@lru_cache(maxsize=16)
def weights(architecture: str, n_classes: int = 8) -> int:
    """Bytes of a network's weights and statistics."""
    with torch.device("meta"):
        state = models.create(architecture, n_classes, seed=0).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())
