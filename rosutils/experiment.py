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
from rosutils.data import Loader, Task, examples_by_class, fingerprint, make_task
from rosutils.params import ROOT, Parameters
from rosutils.sources import Examples, open_source, split_lists, synthetic
from rosutils.store import Run, Store, digest
from rosutils.subsets import overlapping_subsets


# Part of every key: raise it when the same recipe would train to other numbers, or a probe would find others.
FORMAT, PROBE_FORMAT = 1, 2
EVALUATION_BATCH = 256


# Which weights of a student a probe looks at: the last ones, M_smooth of Eq. 1, or M_smooth with the last BatchNorm statistics.
STATES = ("weights", "averaged", "averaged, BatchNorm as copied")


@dataclass(frozen=True)
class RunSpec:
    """What a run is: a teacher (on a subset, or on the full set), a teacher's bank, a student, or a probe of a student.

    `variant` names the parameters it runs under: "" for the profile's own, else one of `sweeps.variants`.
    """

    role: str
    task: str
    architecture: str
    seed: int
    subset: int | None = None
    weighting: str = "none"
    teachers: tuple["RunSpec", ...] = ()
    variant: str = ""
    of: "RunSpec | None" = None
    state: str = "weights"

    def __str__(self) -> str:
        on = "" if self.subset is None else f" on subset {self.subset + 1}"
        how = "" if self.weighting == "none" else f", {self.weighting} weights"
        of = (
            f" of the {self.of.weighting if self.of.teachers else 'undistilled'} student, {self.state}"
            if self.of
            else ""
        )
        where = f" ({self.variant})" if self.variant else ""
        return f"{self.task}: {self.role} {self.architecture}{on}{how}{of}, seed {self.seed}{where}"


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

    def training_index(self, spec: RunSpec) -> Tensor:
        """The example numbers a run is trained on."""
        return self.task(spec.task).split["train"] if spec.subset is None else self.subsets(spec.task)[spec.subset]

    @cached_property
    def view(self) -> View:
        """The augmented views, shared by teachers, banks and students."""
        section = self.parameters.training.augmentation
        return View(self.parameters.seeds.data, section.pad, tuple(section.flips))

    def loader(self, spec: RunSpec, index: Tensor, *, shuffled: bool = False, augmented: bool = False) -> Loader:
        """Batches of examples `index`: shuffled by the run's seed for training, in order otherwise."""
        return Loader(
            self.task(spec.task), index, device=self.device, view=self.view if augmented else None,
            batch_size=self.parameters.training.batch_size if shuffled else EVALUATION_BATCH,
            shuffle_seed=spec.seed if shuffled else None,
        )  # fmt: skip

    def recipe(self, spec: RunSpec) -> dict:
        """Everything that decides a run's result, JSON-able; the key is its hash."""
        section = self.parameters.training
        recipe = {
            "format": FORMAT if spec.of is None else PROBE_FORMAT,
            "role": spec.role,
            "task": spec.task,
            "architecture": spec.architecture,
            "seed": spec.seed,
        }
        recipe |= {"data": self.task(spec.task).fingerprint, "examples": fingerprint(self.training_index(spec))}
        recipe |= {"pixels": self.parameters.data.pixels, "view_seed": self.parameters.seeds.data}
        if spec.of is not None:
            return recipe | self._probe(spec)
        if spec.role == "bank":
            recipe |= {"epochs": section.epochs, "augmentation": section.augmentation.model_dump()}
        else:
            recipe["training"] = section.model_dump()
        if spec.teachers:
            recipe["teachers"] = [self.key(teacher) for teacher in spec.teachers]
        if spec.role == "student" and spec.weighting != "none":
            recipe["distillation"] = self._distillation(spec)
        return recipe

    def _probe(self, spec: RunSpec) -> dict:
        """What a probe looks at, and the parameters that decide what it sees."""
        p = self.parameters
        sections = {
            "attack": p.attacks.model_dump(exclude={"curve_norm", "curve_multiples"}),
            "curve": p.attacks.model_dump(exclude={"norms"}),
            "surface": p.landscape.model_dump(include={"span", "points", "examples"}),
            "curvature": p.landscape.model_dump(
                include={"examples", "sharpness_radius", "hessian_iterations", "hessian_samples"}
            ),
        }
        return {"model": self.key(spec.of), "state": spec.state, "parameters": sections.get(spec.role, {})}

    def _distillation(self, spec: RunSpec) -> dict:
        """The parameters of the distillation that this weighting uses, and no other."""
        section = self.parameters.distillation.model_dump()
        keys = ["temperature", "alpha"] + (["multilabel"] if self.task(spec.task).multilabel else [])
        keys += {"exponential": ["weights", "averaging_start", "refresh_batchnorm"], "reinforced": ["reinforced"]}.get(
            spec.weighting, []
        )
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
        if state == "averaged, BatchNorm as copied":  # Eq. 1 leaves the average the statistics of the last weights
            last = self.run(spec).tensors("weights")
            copied = {name: last[name] for name, _ in model.named_buffers() if name in last}
            model.load_state_dict(copied, strict=False)
        return models.placed(model, self.device).eval()

    def bank(self, spec: RunSpec) -> Bank:
        """The logits [K, E, N, C] of a student's K teachers for every view of the training part."""
        banks = [bank_of(teacher) for teacher in spec.teachers]
        logits = torch.stack([self.run(bank).tensors("logits")["train"] for bank in banks])
        return Bank(logits, self.task(spec.task).split["train"])

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


def bank_of(teacher: RunSpec) -> RunSpec:
    """The bank of one teacher: its logits for every view of the whole training part."""
    return RunSpec(
        "bank", teacher.task, teacher.architecture, teacher.seed, teachers=(teacher,), variant=teacher.variant
    )
