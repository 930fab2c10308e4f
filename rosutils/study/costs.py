"""What a run costs, in images that a ResNet-18 is trained on, and the disk it takes: good enough to order runs and to plan."""

from collections import namedtuple
from functools import lru_cache

import torch

from rosutils import models
from rosutils.study.experiment import TRAINED, RunSpec


FLOAT, SMALL_FILES, CLASSES = 4, 4096, 8  # bytes of a number, and of run.json and history.csv; columns of logits
# Training on one image, relative to a ResNet-18 in float32 (40 px, one CPU thread); on a GPU to one in bfloat16 (64 px, H100,
# sixteen runs at once).
TRAINING = {
    "float32": {"resnet18": 1.0, "resnet34": 1.8, "resnet50": 2.8, "mobilenet_v2": 0.41, "densenet121": 1.2},
    "bfloat16": {"resnet18": 0.63, "resnet34": 1.1, "resnet50": 1.7, "mobilenet_v2": 0.9, "densenet121": 0.85},
    "cuda": {"resnet18": 1.0, "resnet34": 1.7, "resnet50": 2.4, "mobilenet_v2": 2.3, "densenet121": 6.1},
}
# The same of a pass forward, of a gradient by the pixels, and of a product with the Hessian.
FORWARD, GRADIENT, PRODUCT = 0.25, 0.7, 8.4
EPOCH, RUN, POINT = 20.0, 30.0, 3.0  # a checkpoint; a network stored and read; weights moved on a surface
CHECKS, ASCENT = 17, 12  # attacks that the self-checks take, all told; gradients that `landscape.sharpness` takes
# Images: what a run is trained on, and the parts of its task.
Sizes = namedtuple("Sizes", "trained_on train validation test")


def sizes(study, spec: RunSpec, share: float = 1) -> Sizes:
    """The images of a run and its task; `share` is how many each of an unopened task stands for."""
    there = study.at(spec)
    split = there.task(spec.task).split
    counts = len(there.training_index(spec)), *(len(split[part]) for part in Sizes._fields[1:])
    return Sizes(*(int(share * count) for count in counts))


def work(study, spec: RunSpec, size: Sizes | None = None) -> float:
    """The work of a run, in images that a ResNet-18 is trained on (see TRAINING): good enough to begin with the longest."""
    there, size = study.at(spec), size or sizes(study, spec)
    if spec.role in TRAINED:
        return RUN + _training(there, spec, size)
    attacks, landscape = there.parameters.attacks, there.parameters.landscape
    attacked, seen = min(attacks.examples or size.test, size.test), min(landscape.examples, size.test)
    products, norms = landscape.hessian_iterations + landscape.hessian_samples, len(attacks.norms)
    images = {
        "bank": FORWARD * size.train * there.views,
        "agreement": FORWARD * size.train,
        "attack": GRADIENT * attacked * norms * (1 + attacks.steps),
        "curve": GRADIENT * attacked * len(attacks.curve_multiples) * attacks.steps,
        "checks": GRADIENT * min(64, attacked) * norms * CHECKS * attacks.steps,
        "surface": (FORWARD * seen + POINT) * landscape.points**2,
        "path": FORWARD * seen * 21,
        "curvature": (PRODUCT * products + ASCENT * len(landscape.sharpness_radii)) * seen,
    }
    return RUN + TRAINING["float32"].get(spec.architecture, 0.0) * images.get(spec.role, 0.0)


def _training(there, spec: RunSpec, size: Sizes) -> float:
    """Whole batches and validation in every epoch; BatchNorm and both parts of the split at the end."""
    section = there.parameters.training
    equal = spec.subset is not None and there.parameters.teachers.steps == "equal"
    images = (size.train if equal else size.trained_on) // section.batch_size * section.batch_size * section.epochs
    averaged = 2 if spec.weighting == "exponential" else 1
    seen = averaged * (size.validation * section.epochs + size.trained_on + size.validation + size.test)
    forward = FORWARD * TRAINING["float32"][spec.architecture] * seen
    kind = "cuda" if there.made_on == "cuda" else there.precision(spec)
    return TRAINING[kind][spec.architecture] * images + forward + EPOCH * section.epochs


def speed(study) -> float | None:
    """Work that one worker did in a second, by what the finished networks of a study took; None before there are any."""
    trained = [spec for spec in study.unique(study.all_runs()) if spec.role in TRAINED]
    seconds = {spec: run.about()["record"]["seconds"] for spec in trained if (run := study.run(spec))}
    return sum(work(study, spec) for spec in seconds) / max(sum(seconds.values()), 0.01) if seconds else None


def disk(study, spec: RunSpec, size: Sizes) -> tuple[float, float]:
    """Bytes of a finished run: of what stays, and of the weights that may be released."""
    there, averaged = study.at(spec), 2 if spec.weighting == "exponential" else 1
    attacks = there.parameters.attacks
    attacked = min(attacks.examples or size.test, size.test)
    rows = {
        "bank": there.views * size.train,
        "agreement": size.train,
        "attack": attacked * (1 + 2 * len(attacks.norms)),
        "curve": attacked * (1 + len(attacks.curve_multiples)),
        "surface": 2 * there.parameters.landscape.points**2 / CLASSES,
    } | dict.fromkeys((*TRAINED, "pixels"), averaged * (size.validation + size.test))
    heavy = averaged * weights(spec.architecture) if spec.role in TRAINED else 0.0
    return SMALL_FILES + FLOAT * CLASSES * rows.get(spec.role, 0.0), heavy


@lru_cache(maxsize=16)
def weights(architecture: str) -> int:
    """Bytes of a network's weights and statistics."""
    with torch.device("meta"):
        state = models.create(architecture, CLASSES, seed=0).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())
