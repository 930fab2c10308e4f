"""One run: its recipe, its key in the store, and how it is made. A run is a teacher, a teacher's bank, or a student."""

import platform
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import torch
import torchvision
from torch import Tensor, nn

import rosutils
from rosutils import distill, models, training, weights
from rosutils.augment import View
from rosutils.averaging import refresh_batchnorm
from rosutils.bank import Bank, view_logits
from rosutils.data import Loader, Task, fingerprint, make_task
from rosutils.losses import task_loss
from rosutils.metrics import best_thresholds, precision_recall_f1
from rosutils.params import ROOT, Parameters
from rosutils.sources import open_source
from rosutils.store import Run, Store, digest
from rosutils.subsets import overlapping_subsets


# Part of every key: raise it when the same recipe would train to other numbers.
FORMAT = 1
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class RunSpec:
    """What a run is: a teacher (on a subset, or on the full set), the bank of one teacher, or a student."""

    role: str
    task: str
    architecture: str
    seed: int
    subset: int | None = None
    weighting: str = "none"
    teachers: tuple["RunSpec", ...] = ()

    def __str__(self) -> str:
        of = "" if self.subset is None else f" on subset {self.subset + 1}"
        how = "" if self.weighting == "none" else f", {self.weighting} weights"
        return f"{self.task}: {self.role} {self.architecture}{of}{how}, seed {self.seed}"


class Experiment:
    """The parameters of a study with the data they name and the store of its runs."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._tasks: dict[str, Task] = {}

    @staticmethod
    @lru_cache(maxsize=8)
    def of(parameters: str) -> "Experiment":
        """The experiment of parameters given as JSON, opened once in each process."""
        return Experiment(Parameters.model_validate_json(parameters))

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
            root = Path(data.root) if data.root is not None else None
            examples = open_source(
                section, pixels=data.pixels, root=root, allow_missing=data.allow_missing, cache_root=self.folder / "cache"
            )
            self._tasks[name] = make_task(
                name, examples, fractions=data.fractions, noise=self.parameters.noise, lists=section.lists,
                seed=self.parameters.seeds.data, keep_unlabelled=section.keep_unlabelled,
            )  # fmt: skip
        return self._tasks[name]

    def subsets(self, name: str) -> list[Tensor]:
        """Section III-A: the example numbers of the k overlapping subsets of a task's training part."""
        task, section = self.task(name), self.parameters.subsets
        train = task.split["train"]
        generator = torch.Generator().manual_seed(self.parameters.seeds.data * 1009 + 2)
        chosen = overlapping_subsets(
            len(train), section.count, section.overlap, scheme=section.scheme, groups=task.groups[train], generator=generator
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
        recipe = {"format": FORMAT, "role": spec.role, "task": spec.task, "architecture": spec.architecture, "seed": spec.seed}
        recipe |= {"data": self.task(spec.task).fingerprint, "examples": fingerprint(self.training_index(spec))}
        recipe |= {"pixels": self.parameters.data.pixels, "view_seed": self.parameters.seeds.data}
        if spec.role == "bank":
            recipe |= {"epochs": section.epochs, "augmentation": section.augmentation.model_dump()}
        else:
            recipe["training"] = section.model_dump()
        if spec.teachers:
            recipe["teachers"] = [self.key(teacher) for teacher in spec.teachers]
        if spec.role == "student" and spec.weighting != "none":
            recipe["distillation"] = self._distillation(spec)
        return recipe

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
        """The trained network of a finished run; `averaged` for the M_smooth of Eq. 1."""
        model = models.create(spec.architecture, self.task(spec.task).n_classes, seed=spec.seed)
        model.load_state_dict(self.run(spec).tensors("averaged" if averaged else "weights"))
        return model.to(self.device).eval()

    def bank(self, spec: RunSpec) -> Bank:
        """The logits [K, E, N, C] of a student's K teachers for every view of the training part."""
        banks = [bank_of(teacher) for teacher in spec.teachers]
        logits = torch.stack([self.run(bank).tensors("logits")["train"] for bank in banks])
        return Bank(logits, self.task(spec.task).split["train"])

    def work(self, spec: RunSpec) -> float:
        """The run's expected cost in images, weighted by the relative cost of the architecture."""
        images = len(self.training_index(spec)) * self.parameters.training.epochs
        cost = models.RELATIVE_COST[spec.architecture]
        return images * cost * (0.3 if spec.role == "bank" else 1.0)

    def make(self, spec: RunSpec, *, progress: bool = False) -> Run:
        """The run from the store, or made now: resumable, and by one process at a time."""
        key = self.key(spec)
        with self.store.lock(key):
            if (run := self.store.get(key)) is not None:
                return run
            start = time.perf_counter()
            tensors, tables = self._bank_logits(spec) if spec.role == "bank" else self._train(spec, progress)
            record = {"seconds": round(time.perf_counter() - start, 2), "device": device_name(self.device), **versions()}
            record |= {"work": self.work(spec), "threads": torch.get_num_threads(), "run": str(spec)}
            return self.store.put(key, recipe=self.recipe(spec), record=record, tensors=tensors, tables=tables)

    def _bank_logits(self, spec: RunSpec) -> tuple[dict, dict]:
        loader = self.loader(spec, self.training_index(spec), augmented=True)
        logits = view_logits(self.model(spec.teachers[0]), loader, self.parameters.training.epochs)
        return {"logits": {"train": logits}}, {}

    def _train(self, spec: RunSpec, progress: bool) -> tuple[dict, dict]:
        """Train a teacher or a student, average it where its setting asks for that, and keep weights, logits and history."""
        section, task = self.parameters.training, self.task(spec.task)
        model = models.create(spec.architecture, task.n_classes, seed=spec.seed, pretraining=section.pretraining)
        model = model.to(self.device)
        loss_fn = self.loss_fn(spec)
        average = distill.Average(model, self.parameters.distillation.averaging_start)
        best = training.BestModel(model)
        stateful: dict[str, nn.Module] = {"best": best} if section.reported == "best-validation" else {}
        stateful |= {"average": average.model} if spec.weighting == "exponential" else {}
        stateful |= {"selector": loss_fn.selector} if spec.weighting == "reinforced" else {}

        def after_epoch(model: nn.Module, epoch: int) -> dict:
            row = self._validate(spec, model)
            if "best" in stateful:
                best.offer(model, row["validation_f1"])
            if "average" in stateful:
                average.after_epoch(model, epoch)
            return row | (loss_fn.after_epoch() if "selector" in stateful else {})

        history = training.fit(
            model, self.loader(spec, self.training_index(spec), shuffled=True, augmented=True), loss_fn,
            epochs=section.epochs, learning_rate=section.learning_rate, milestones=section.milestones,
            momentum=section.momentum, weight_decay=section.weight_decay, seed=spec.seed, after_epoch=after_epoch,
            stateful=stateful, checkpoint=self.store.checkpoint(self.key(spec)), progress=progress,
        )  # fmt: skip
        return self._outcome(spec, best.model if "best" in stateful else model, average.model, history)

    def _outcome(self, spec: RunSpec, model: nn.Module, average: nn.Module, history: list[dict]) -> tuple[dict, dict]:
        tensors = {"weights": model.state_dict(), "logits": self._logits(spec, model)}
        if spec.weighting == "exponential":
            if self.parameters.distillation.refresh_batchnorm:
                refresh_batchnorm(average, self.loader(spec, self.training_index(spec)))
            tensors["averaged"] = average.state_dict()
            tensors["averaged_logits"] = self._logits(spec, average)
        return tensors, {"history": pd.DataFrame(history)}

    def loss_fn(self, spec: RunSpec):
        """The run's loss: supervised, or Eq. 4 with the weighting of its setting."""
        if spec.weighting == "none":
            return distill.supervised_loss
        section, task, bank = self.parameters.distillation, self.task(spec.task), self.bank(spec)
        options = {"temperature": section.temperature, "alpha": section.alpha}
        options["multilabel"] = task.multilabel and section.multilabel == "sigmoid"
        if spec.weighting == "reinforced":
            selector = weights.ReinforcedSelector(
                models.create(spec.architecture, task.n_classes, seed=0).head.in_features, task.n_classes,
                learning_rate=section.reinforced.learning_rate, entropy_bonus=section.reinforced.entropy_bonus,
            ).to(self.device)  # fmt: skip
            return distill.ReinforcedLoss(bank, selector, seed=spec.seed, reward=section.reinforced.reward, **options)
        k = len(spec.teachers)
        weigh = {
            "single": distill.fixed(weights.single_weights(k, 0)),
            "uniform": distill.fixed(weights.uniform_weights(k)),
            "exponential": distill.ExponentialWeights(
                k, seed=spec.seed, normalize=section.weights.normalize, per_example=section.weights.per == "example"
            ),
        }[spec.weighting]
        return distill.DistillationLoss(bank, weigh, **options)

    def _logits(self, spec: RunSpec, model: nn.Module) -> dict[str, Tensor]:
        """Validation and test logits, so that every metric can be recomputed without the model."""
        split = self.task(spec.task).split
        return {part: training.predict(model, self.loader(spec, split[part]))[0] for part in ("validation", "test")}

    def _validate(self, spec: RunSpec, model: nn.Module) -> dict:
        """Validation loss and F1 (weighted, or micro for several labels) for the history."""
        task = self.task(spec.task)
        logits, labels = training.predict(model, self.loader(spec, task.split["validation"]))
        thresholds = best_thresholds(logits, labels) if task.multilabel else None
        average = "micro" if task.multilabel else "weighted"
        score = precision_recall_f1(logits, labels, average=average, multilabel=task.multilabel, thresholds=thresholds)
        loss = task_loss(logits, labels, multilabel=task.multilabel).mean()
        return {"validation_loss": float(loss), "validation_f1": float(score.f1)}


def bank_of(teacher: RunSpec) -> RunSpec:
    """The bank of one teacher: its logits for every view of the whole training part."""
    return RunSpec("bank", teacher.task, teacher.architecture, teacher.seed, teachers=(teacher,))


def make_job(job: tuple[str, RunSpec]) -> None:
    """Make the run of a (parameters as JSON, spec) pair; what the engine calls in its workers."""
    Experiment.of(job[0]).make(job[1])


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {
        "rosutils": rosutils.__version__, "python": platform.python_version(), "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """The processor's name as torch or the platform tells it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
