"""What a run costs: the steps it takes, and the disk and memory it needs; the one place that knows."""

from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rosutils import models
from rosutils.experiment import EVALUATION_BATCH, Experiment, RunSpec


FLOAT, SMALL_FILES = 4, 4096  # bytes of a number, and of run.json and history.csv
# What a pass without a way back holds at once, as a share of what the way back needs.
FORWARD_ALONE = 0.1
# Gradients by the weights that `landscape.sharpness` takes.
ASCENT = 12


class Sizes(NamedTuple):
    """Images: what the run is trained on, and the parts of its task."""

    trained_on: float
    train: float
    validation: float
    test: float


class Step(NamedTuple):
    """A piece of work that takes as long in one run as in another; what it is counted in, KINDS says."""

    kind: str
    architecture: str
    batch: int
    pixels: int


# Kind -> what it is counted in, and its time relative to training a ResNet-18 on one image (32 px, one CPU thread).
KINDS = {
    "supervised": ("images in training without teachers", 1.0),
    "distilled": ("images in training with looked-up teachers", 1.0),
    "reinforced": ("images in training with selected teachers", 1.1),
    "forward": ("images passed forward", 0.3),
    "gradient": ("images whose gradient an attack takes", 0.8),
    "plane": ("surfaces begun", 150.0),
    "point": ("images at a point of a surface", 0.5),
    "product": ("images in a product with the Hessian", 3.0),
    "ascent": ("images whose gradient by the weights sharpness takes", 1.0),
    "epoch": ("checkpoints written", 20.0),
    "run": ("networks made, stored and read again", 100.0),
}
# Of an image in training, relative to ResNet-18.
RELATIVE = {"resnet18": 1.0, "mobilenet_v2": 0.65, "resnet34": 1.8, "resnet50": 2.9, "densenet121": 2.1}


def sizes(experiment: Experiment, spec: RunSpec) -> Sizes:
    """The images of an opened task."""
    parts = {name: len(index) for name, index in experiment.task(spec.task).split.items()}
    return Sizes(len(experiment.training_index(spec)), **parts)


def steps(experiment: Experiment, spec: RunSpec, size: Sizes) -> Counter[Step]:
    """How often a run takes which step."""
    counts = {
        "teacher": _training, "student": _training, "bank": _bank, "attack": _attack, "curve": _curve,
        "surface": _surface, "curvature": _curvature, "agreement": _agreement,
    }[spec.role](experiment.parameters, spec, size)  # fmt: skip
    found: Counter[Step] = Counter()
    for (kind, batch), count in counts.items():
        found[Step(kind, spec.architecture, batch, experiment.parameters.data.pixels)] += count
    return found


def relative(experiment: Experiment, spec: RunSpec) -> float:
    """The time of a run in images that a ResNet-18 is trained on: good enough to begin with the longest."""
    found = steps(experiment, spec, sizes(experiment, spec))
    return sum(count * KINDS[step.kind][1] * RELATIVE[step.architecture] for step, count in found.items())


def disk(experiment: Experiment, spec: RunSpec, size: Sizes, n_classes: int = 8) -> float:
    """Bytes that a finished run takes."""
    p, logits = experiment.parameters, FLOAT * n_classes
    attacked = min(p.attacks.examples or size.test, size.test)
    averaged = 2 if spec.weighting == "exponential" else 1
    training = averaged * (weights(spec.architecture) + logits * (size.validation + size.test))
    return SMALL_FILES + {
        "teacher": training,
        "student": training,
        "bank": logits * p.training.epochs * size.train,
        "agreement": logits * size.train,
        "attack": logits * attacked * (1 + 2 * len(p.attacks.norms)),
        "curve": logits * attacked * (1 + len(p.attacks.curve_multiples)),
        "surface": 2 * FLOAT * p.landscape.points**2,
        "curvature": 0.0,
    }.get(spec.role, 0.0)


def memory(experiment: Experiment, spec: RunSpec, size: Sizes, n_classes: int = 8) -> float:
    """Bytes that a run needs beside those of its process: networks, activations of a batch, banks; images stay on disk."""
    p = experiment.parameters
    bank = FLOAT * n_classes * p.training.epochs * size.train
    whole, image = weights(spec.architecture), activations(spec.architecture, p.data.pixels)
    # Weights, gradients, momentum, perhaps an average; banks as read and stacked.
    if spec.role in ("teacher", "student"):
        networks = (4 if spec.weighting == "exponential" else 3) * whole
        return networks + image * p.training.batch_size + 2 * len(spec.teachers) * bank
    if spec.role in ("attack", "curve"):
        return 2 * whole + image * min(p.attacks.examples or size.test, size.test, EVALUATION_BATCH)
    seen = min(p.landscape.examples, size.test)
    if spec.role == "curvature":  # two ways back at once
        return 5 * whole + 2 * image * seen
    passing = FORWARD_ALONE * image * (seen if spec.role == "surface" else EVALUATION_BATCH)
    return 5 * whole + passing + (bank if spec.role == "bank" else 0)


@lru_cache(maxsize=16)
def weights(architecture: str, n_classes: int = 8) -> int:
    """Bytes of a network's weights and statistics."""
    with torch.device("meta"):
        state = models.create(architecture, n_classes, seed=0).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())


@lru_cache(maxsize=64)
def activations(architecture: str, pixels: int) -> float:
    """Bytes that one image leaves in a network for the way back, counted without computing anything."""
    with torch.device("meta"):
        model, kept = models.create(architecture, 8, seed=0).train(), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
        ):
            model(torch.empty(2, 3, pixels, pixels))
    own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    return sum({_storage(t): t.untyped_storage().nbytes() for t in kept if _storage(t) not in own}.values()) / 2


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _training(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    """Every epoch: whole batches, validation, a checkpoint; with Eq. 1 the average's BatchNorm and validation as well."""
    section = p.training
    batches = size.trained_on // section.batch_size
    kind = {"none": "supervised", "reinforced": "reinforced"}.get(spec.weighting, "distilled")
    seen = size.validation * section.epochs + size.validation + size.test
    checkpoints = section.epochs if p.engine.checkpoint_seconds == 0 else 0.0  # short runs write none, long ones few
    if spec.weighting == "exponential":
        averaged = section.epochs - p.distillation.averaging_start
        again = size.trained_on if p.distillation.refresh_batchnorm else 0
        seen += averaged * (again + size.validation) + size.validation + size.test
        checkpoints *= 1.5  # of weights and momentum, and of the average
    return {
        (kind, section.batch_size): batches * section.batch_size * section.epochs,
        ("forward", EVALUATION_BATCH): seen, ("epoch", 1): checkpoints, ("run", 1): 1,
    }  # fmt: skip


def _bank(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    return {("forward", EVALUATION_BATCH): size.train * p.training.epochs, ("run", 1): 1}


def _attack(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    norms = len(p.attacks.norms)
    return _attacked(p, size, gradients=norms * (1 + p.attacks.steps), passes=1 + 2 * norms)


def _curve(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    points = len(p.attacks.curve_multiples)
    return _attacked(p, size, gradients=points * p.attacks.steps, passes=1 + points)


def _attacked(p, size: Sizes, *, gradients: int, passes: int) -> dict[tuple[str, int], float]:
    images = min(p.attacks.examples or size.test, size.test)
    return {
        ("gradient", EVALUATION_BATCH): images * gradients, ("forward", EVALUATION_BATCH): images * passes, ("run", 1): 1
    }  # fmt: skip


def _surface(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    seen = int(min(p.landscape.examples, size.test))
    return {("plane", 1): 1, ("point", seen): seen * p.landscape.points**2, ("run", 1): 1}


def _curvature(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    seen = int(min(p.landscape.examples, size.test))
    products = p.landscape.hessian_iterations + p.landscape.hessian_samples
    return {("product", seen): seen * products, ("ascent", seen): seen * ASCENT, ("run", 1): 1}


def _agreement(p, spec: RunSpec, size: Sizes) -> dict[tuple[str, int], float]:
    return {("forward", EVALUATION_BATCH): size.train, ("run", 1): 1}
