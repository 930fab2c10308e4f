"""The parameters of a study with the data they name, and each run's recipe, key, inputs and outputs."""

from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rosutils import models
from rosutils.augment import View
from rosutils.bank import Bank
from rosutils.data import Loader, Task, make_task, synthetic
from rosutils.data.sources import Examples, open_source, split_lists
from rosutils.data.task import examples_by_class, fingerprint
from rosutils.metrics import best_thresholds
from rosutils.params import ROOT, Parameters
from rosutils.store import Run, Store, digest
from rosutils.study.variants import OWN, Variant
from rosutils.subsets import overlapping_subsets


# Part of every key: raise it when the same recipe would train to other numbers, or a probe would find others.
FORMAT, PROBE_FORMAT = 2, 3
EVALUATION_BATCH = 256


# Draws of random scores, for what chance alone scores.
DRAWS = 200


@dataclass(frozen=True)
class RunSpec:
    """What a run is: a teacher (on a subset, or on the full set), a teacher's bank, a student, a probe of a student, or what a
    predictor without any network scores (roles chance and pixels).

    `variant` says which parameters it runs under: the profile's own, or those of one of `variants.variants`; `replicate` counts
    the repetitions of the whole study from 0. A probe is `of` a student; some set it `against` another.
    """

    role: str
    task: str
    architecture: str
    seed: int
    subset: int | None = None
    weighting: str = "none"
    teachers: tuple["RunSpec", ...] = ()
    variant: Variant = OWN
    replicate: int = 0
    of: "RunSpec | None" = None
    state: str = "weights"
    against: "RunSpec | None" = None

    def __str__(self) -> str:
        on = "" if self.subset is None else f" on subset {self.subset + 1}"
        how = "" if self.weighting == "none" else f", {self.weighting} weights"
        of = (
            f" of the {self.of.weighting if self.of.teachers else 'undistilled'} student, {self.state}"
            if self.of
            else ""
        )
        where = f" ({self.variant})" if self.variant.kind else ""
        return f"{self.task}: {self.role} {self.architecture}{on}{how}{of}, replicate {self.replicate + 1}{where}"


class Experiment:
    """The parameters of a study with the data they name and the store of its runs."""

    def __init__(self, parameters: Parameters, opened: dict[str, Examples] | None = None) -> None:
        """`opened` holds the sources that are open already, for experiments that differ in other parameters only."""
        self.parameters = parameters
        self._tasks: dict[str, Task] = {}
        self._opened = {} if opened is None else opened

    @staticmethod
    @lru_cache(maxsize=128)
    def from_json(parameters: str) -> "Experiment":
        """The experiment of parameters given as JSON, made once in each process, its sources opened once for all."""
        return Experiment(Parameters.model_validate_json(parameters), _opened_here())

    @cached_property
    def folder(self) -> Path:
        """Where runs, caches and executed notebooks are kept."""
        return ROOT / self.parameters.engine.store

    @cached_property
    def store(self) -> Store:
        """The store of runs."""
        return Store(self.folder / "store")

    @cached_property
    def device(self) -> torch.device:
        """The accelerator where there is one (engine.device: auto), or the one named."""
        named = self.parameters.engine.device
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named)

    def task(self, name: str) -> Task:
        """The task with its split and label noise, opened once; raises InputError for data that cannot be used."""
        if name not in self._tasks:
            data = self.parameters.data
            section = data.sources[name]
            self._tasks[name] = make_task(
                name, self._source(name), fractions=data.fractions, noise=self.parameters.noise, seed=self.parameters.seeds.data,
                lists=split_lists(section, self.root), split=section.split, keep_unlabelled=section.keep_unlabelled,
                sample=data.examples,
            )  # fmt: skip
        return self._tasks[name]

    @property
    def root(self) -> Path | None:
        """The data folder; a relative one is taken from the project's folder, wherever the notebooks run."""
        root = self.parameters.data.root
        return None if root is None else ROOT / root

    def _source(self, name: str) -> Examples:
        data = self.parameters.data
        section = data.sources[name]
        options = {
            "pixels": data.pixels,
            "root": self.root,
            "allow_missing": data.allow_missing,
            "skip_bad": data.skip_bad,
        }
        which = f"{section.model_dump_json(exclude={'lists', 'split', 'keep_unlabelled'})} {options} {self.folder}"
        if which not in self._opened:
            self._opened[which] = open_source(section, **options, cache_root=self.folder / "cache")
        return self._opened[which]

    def gallery(self, name: str, *, per_class: int, pixels: int | None = None) -> dict[str, np.ndarray]:
        """Training images of each class, uint8 [n, channels, H, W]; with `pixels` synthetic scenes are drawn at that size."""
        task, source = self.task(name), self.parameters.data.sources[name]
        pixels = pixels or self.parameters.data.pixels
        chosen = {label: index for label, index in examples_by_class(task, per_class).items() if len(index)}
        if source.source != "synthetic" or pixels == self.parameters.data.pixels:
            return {label: np.asarray(task.images[index.numpy()]) for label, index in chosen.items()}
        draw = partial(synthetic.draw, source.modality, pixels=pixels, seed=source.seed)
        return {label: np.stack([draw(number) for number in index.tolist()]) for label, index in chosen.items()}

    def subsets(self, name: str) -> list[Tensor]:
        """Section III-A: the example numbers of the k overlapping subsets of a task's training part."""
        task, section = self.task(name), self.parameters.subsets
        train = task.split["train"]
        generator = torch.Generator().manual_seed(self.parameters.seeds.data * 1009 + 2)
        chosen = overlapping_subsets(
            len(train),
            section.count,
            section.overlap,
            scheme=section.scheme,
            groups=task.groups[train],
            generator=generator,
        )
        return [train[index] for index in chosen]

    def name_of(self, spec: RunSpec) -> str:
        """A network's architecture, and which of several of its pool it is: "mobilenet_v2 (2)" for the second."""
        pool, number = self.parameters.teachers.architectures, spec.seed % 1000
        if spec.role != "teacher" or number >= len(pool):
            return spec.architecture
        before = pool[:number].count(spec.architecture)
        return f"{spec.architecture} ({before + 1})" if before else spec.architecture

    def training_index(self, spec: RunSpec) -> Tensor:
        """The example numbers a run is trained on."""
        return self.task(spec.task).split["train"] if spec.subset is None else self.subsets(spec.task)[spec.subset]

    def view_seed(self, spec: RunSpec) -> int:
        """The seed of a run's views: bank and students share theirs, teachers are not asked about views they were trained on."""
        return 2 * self.parameters.seeds.data + (spec.role == "teacher")

    def view(self, spec: RunSpec) -> View:
        """The augmented views of a run."""
        section = self.parameters.training.augmentation
        return View(self.view_seed(spec), section.pad, tuple(section.flips), section.views)

    @property
    def views(self) -> int:
        """How many views of an image a bank holds: one for each epoch, or those that come round by turns."""
        section = self.parameters.training
        return min(section.epochs, section.augmentation.views or section.epochs)

    def loader(self, spec: RunSpec, index: Tensor, *, shuffled: bool = False, augmented: bool = False) -> Loader:
        """Batches of examples `index`: shuffled by the run's seed for training, in order otherwise."""
        return Loader(
            self.task(spec.task), index, device=self.device, view=self.view(spec) if augmented else None,
            batch_size=self.parameters.training.batch_size if shuffled else EVALUATION_BATCH,
            shuffle_seed=spec.seed if shuffled else None, batches=self.batches(spec) if shuffled else None,
        )  # fmt: skip

    def batches(self, spec: RunSpec) -> int | None:
        """Batches an epoch of a subset's teacher that is to take as many steps as one of the full set; None for all others."""
        if spec.role != "teacher" or spec.subset is None or self.parameters.teachers.steps == "own":
            return None
        return len(self.task(spec.task).split["train"]) // self.parameters.training.batch_size

    def precision(self, spec: RunSpec) -> str:
        """Of a run's training passes: float32 or bfloat16."""
        named = self.parameters.training.precision
        named = named.get(spec.architecture, "auto") if isinstance(named, dict) else named
        return models.precision(self.device) if named == "auto" else named

    def recipe(self, spec: RunSpec) -> dict:
        """Everything that decides a run's result, JSON-able; the key is its hash."""
        section = self.parameters.training
        recipe = {"role": spec.role, "task": spec.task, "data": self.task(spec.task).fingerprint}
        recipe["format"] = PROBE_FORMAT if spec.of or spec.role in ("chance", "pixels") else FORMAT
        if spec.role == "chance":
            sample = self.parameters.attacks.examples
            return recipe | {
                "draws": DRAWS,
                "rule": self.parameters.evaluation.thresholds,
                "sample": sample,
                "seed": spec.seed,
            }
        recipe |= {"architecture": spec.architecture, "seed": spec.seed, "device": self.device.type}
        recipe |= {"examples": fingerprint(self.training_index(spec)), "pixels": self.parameters.data.pixels}
        if spec.of is not None:
            return recipe | self._probe(spec)
        if spec.role in ("teacher", "student"):
            recipe["training"] = section.model_dump(exclude={"precision"}) | {"precision": self.precision(spec)}
            recipe |= {"view_seed": self.view_seed(spec), "batches": self.batches(spec)}
        if spec.role == "bank":
            recipe |= {"views": self.views, "augmentation": section.augmentation.model_dump(exclude={"views"})}
            recipe["view_seed"] = self.view_seed(spec)
        if spec.teachers:
            recipe["teachers"] = [self.key(teacher) for teacher in spec.teachers]
        if spec.role == "student" and spec.weighting != "none":
            recipe["distillation"] = self._distillation(spec)
        return recipe

    def _probe(self, spec: RunSpec) -> dict:
        """What a probe looks at, and the parameters that decide what it sees."""
        p = self.parameters
        curvature = {"examples", "sharpness_radii", "hessian_iterations", "hessian_samples"}
        sections = {
            "attack": p.attacks.model_dump(exclude={"curve_norm", "curve_multiples"}),
            "curve": p.attacks.model_dump(exclude={"norms"}),
            "checks": p.attacks.model_dump(exclude={"curve_norm", "curve_multiples"})
            | {"thresholds": p.evaluation.thresholds},
            "surface": p.landscape.model_dump(include={"span", "points", "examples"}),
            "path": p.landscape.model_dump(include={"examples"}),
            "curvature": p.landscape.model_dump(include=curvature),
        }
        found = {"model": self.key(spec.of), "state": spec.state, "parameters": sections.get(spec.role, {})}
        return found if spec.against is None else found | {"against": self.key(spec.against)}

    def _distillation(self, spec: RunSpec) -> dict:
        """The parameters of the distillation that this weighting uses, and no other."""
        section = self.parameters.distillation.model_dump()
        keys = ["temperature", "alpha"] + (["multilabel"] if self.task(spec.task).multilabel else [])
        keys += {
            "exponential": ["weights", "averaging_start", "refresh_batchnorm"],
            "reinforced": ["reinforced"],
            "uniform": ["mean_of"],
        }.get(spec.weighting, [])
        return {"weighting": spec.weighting} | {key: section[key] for key in keys}

    def key(self, spec: RunSpec) -> str:
        """The run's name in the store: <role>-<architecture>-<hash of its recipe>."""
        if spec not in self._keys:
            self._keys[spec] = f"{spec.role}-{spec.architecture}-{digest(self.recipe(spec))}"
        return self._keys[spec]

    @cached_property
    def _keys(self) -> dict[RunSpec, str]:
        return {}

    def run(self, spec: RunSpec) -> Run | None:
        """The finished run, or None."""
        return self.store.get(self.key(spec))

    def model(self, spec: RunSpec, *, averaged: bool = False) -> models.Classifier:
        """The trained network of a finished run, in eval mode; `averaged` for the M_smooth of Eq. 1."""
        return self.model_in_state(spec, "averaged" if averaged else "weights")

    def model_in_state(self, spec: RunSpec, state: str) -> models.Classifier:
        """The trained network of a finished run in one of STATES, in eval mode."""
        model = models.create(spec.architecture, self.task(spec.task).n_classes, seed=spec.seed)
        model.load_state_dict(self.run(spec).tensors("weights" if state == "weights" else "averaged"))
        if state == "averaged, BatchNorm as copied":
            model.load_state_dict(self.run(spec).tensors("running"), strict=False)
        return models.placed(model, self.device).eval()

    def bank(self, spec: RunSpec) -> Bank:
        """The logits [K, views, N, C] of a student's K teachers for every view of the training part."""
        banks = [bank_of(teacher) for teacher in spec.teachers]
        logits = torch.stack([self.run(bank).tensors("logits")["train"] for bank in banks])
        by_turns = self.parameters.training.augmentation.views is not None
        return Bank(logits, self.task(spec.task).split["train"], by_turns=by_turns)

    def sample(self, name: str, count: int | None) -> Tensor:
        """A seeded sample of a task's test part, the same for all probes of all models; all of it without a count."""
        test = self.task(name).split["test"]
        if count is None or count >= len(test):
            return test
        generator = torch.Generator().manual_seed(self.parameters.seeds.data * 1009 + 4)
        return test[torch.randperm(len(test), generator=generator)[:count]].sort().values


@lru_cache(maxsize=1)
def _opened_here() -> dict[str, Examples]:
    return {}


def logits_of(there: Experiment, spec: RunSpec, state: str) -> dict[str, Tensor]:
    """A run's logits on the validation and the test part, of its last or of its averaged weights."""
    return there.run(spec).tensors("logits" if state == "weights" else "averaged_logits")


def thresholds_of(there: Experiment, spec: RunSpec, state: str) -> Tensor | None:
    """The decision threshold of a run, chosen on validation: one for all labels, or [C]; None is 0.5 (and single-label)."""
    rule = there.parameters.evaluation.thresholds
    if not there.task(spec.task).multilabel or rule == "fixed":
        return None
    logits = logits_of(there, spec, state)["validation"]
    return best_thresholds(logits, labels_of(there, spec.task, "validation"), rule=rule)


def labels_of(there: Experiment, task: str, part: str) -> Tensor:
    """The labels of a part of a task's split."""
    return there.task(task).labels[there.task(task).split[part]]


def bank_of(teacher: RunSpec) -> RunSpec:
    """The bank of one teacher: its logits for every view of the whole training part."""
    where = {"variant": teacher.variant, "replicate": teacher.replicate}
    return RunSpec("bank", teacher.task, teacher.architecture, teacher.seed, teachers=(teacher,), **where)


def weights_needed(spec: RunSpec) -> list[RunSpec]:
    """The runs whose weights (not only their logits or banks) a run is made from: a bank's teacher, a probe's students."""
    if spec.role == "bank":
        return list(spec.teachers)
    return [student for student in (spec.of, spec.against) if student is not None]
