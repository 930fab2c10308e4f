"""From parameters to the runs that tables and figures need: which are missing, how they are made, what is measured on them."""

import json
import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import joblib
import matplotlib
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from rosutils import InputError, models, params, results
from rosutils.augment import View
from rosutils.bank import Bank
from rosutils.data import Loader, Task, make_task, synthetic
from rosutils.data.decode import size_and_time
from rosutils.data.sources import RAW, Examples, NoImages, Unseen, open_source, split_lists
from rosutils.data.task import examples_by_class
from rosutils.params import ROOT, Parameters
from rosutils.settings import SETTINGS, setting
from rosutils.store import Run, Store, checksum, digest, write_whole
from rosutils.study import costs, experiment, kept, variants
from rosutils.study.engine import Place, run_jobs, workers_for
from rosutils.study.experiment import EVALUATION_BATCH, TRAINED, RunSpec, bank_of, settings_of, weights_needed
from rosutils.study.making import Job, make_job, versions
from rosutils.study.measurements import rows_of
from rosutils.study.needs import ARTEFACTS, with_prerequisites
from rosutils.study.variants import LABEL_NOISE, OWN, Variant
from rosutils.subsets import overlapping_subsets


PROBES = ("attack", "curve", "checks", "surface", "path", "curvature", "agreement")
BANK_FILES = ("logits.safetensors", "mean.safetensors")
# All code that an item is made by, as it was when it was imported, the paper's numbers, and the versions of others' code.
_FILES = [*sorted((ROOT / "rosutils").rglob("*.py")), ROOT / "params" / "published.yaml"]
CODE = digest([[checksum(file) for file in _FILES], versions(), matplotlib.__version__])
STAGES = {"teachers": ("chance", "pixels", "teacher"), "banks": ("bank",), "students": ("student",), "probes": PROBES}


@dataclass(eq=False, repr=False)
class Study:
    """A profile's parameters with the data they name and the store of its runs.

    The sweeps, the repetitions and the tasks with sections of their own are studies as well, under their parameters; whatever
    is asked about a run is looked up under those that the run names.
    """

    parameters: Parameters
    variant: Variant = OWN
    replicate: int = 0  # from 0
    label: str = ""  # the profile's name with what was laid over it: demo+alpha0.5; of its folders and watermark
    opened: dict[tuple, Examples] = field(default_factory=dict)  # the sources, shared by all studies of a profile
    kind: str = ""  # of the device whose runs are looked at, where that is another machine's: see `as_made`

    def __post_init__(self) -> None:
        self.label = self.label or self.parameters.profile
        self._tasks: dict[str, Task] = {}
        self._keys: dict[RunSpec, str] = {}
        self._seen: tuple[list, str] = ([], "")  # the files of all runs, and their state then
        self._read: tuple[tuple, pd.DataFrame | None] = ((), None)  # what results were read from, and they

    def __reduce__(self):  # how it gets to workers: as its parameters, made into a study once in each process
        return _in_this_process, (pickle.dumps(self.parameters), self.variant, self.replicate, self.label, self.kind)

    @classmethod
    def load(cls, profile: str | Path, /, **overrides: Any) -> "Study":
        """The study of a profile (a name or a YAML file), with sections laid over it; raises InputError for wrong input."""
        parameters = params.load(profile, **overrides)
        for task in parameters.tasks:  # a point of a sweep that is out of range is told before anything is trained
            variants.variants(variants.of_task(parameters, task))
        return cls(parameters, label=params.label(profile, parameters))

    @classmethod
    def of_notebook(cls, names: Mapping[str, Any]) -> "Study":
        """The study of a notebook's `globals()`, `profile` and sections; raises InputError for one that is misspelt, as `load`."""
        return cls.load(names["profile"], **params.sections_in(names)).as_made()

    # Which parameters

    @cached_property
    def variants(self) -> dict[Variant, "Study"]:
        """The studies of the sweeps, first replicates: the same source under other parameters."""
        found = variants.variants(self.parameters)
        return {variant: replace(self, parameters=p, variant=variant, replicate=0) for variant, p in found.items()}

    @cached_property
    def replicates(self) -> list["Study"]:
        """The repetitions of this study: each with its own seeds, so its own split, views, teachers and students."""
        p = self.parameters
        others = range(1, p.seeds.replicates)
        return [self, *(replace(self, parameters=variants.replicate(p, n), replicate=n) for n in others)]

    def for_task(self, task: str) -> "Study":
        """This study with the sections that `by_task` lays over for the runs of one task."""
        return self._by_task.get(task, self)

    @cached_property
    def _by_task(self) -> dict[str, "Study"]:
        p = self.parameters
        return {task: replace(self, parameters=variants.of_task(p, task)) for task in p.by_task}

    def at(self, spec: RunSpec) -> "Study":
        """This study under the parameters that a run is made under; raises ValueError where it has no such run."""
        there = self.for_task(spec.task)
        if spec.variant != there.variant:
            there = there.variants.get(spec.variant, there)
        if spec.replicate != there.replicate and there.replicate == 0 and spec.replicate < len(there.replicates):
            there = there.replicates[spec.replicate]
        if (there.variant, there.replicate) != (spec.variant, spec.replicate):
            this = f"{self.label}' {self.variant}, replicate {self.replicate + 1}"
            raise ValueError(f"the study '{this}, has no run '{spec}'")
        return there

    # Where things are

    @property
    def folder(self) -> Path:
        """Where runs, caches and executed notebooks are kept."""
        return ROOT / self.parameters.engine.store

    @cached_property
    def store(self) -> Store:
        """The store of runs."""
        return Store(self.folder / "store")

    @property
    def root(self) -> Path | None:
        """The data folder; a relative one is taken from the project's folder, wherever the notebooks run."""
        root = self.parameters.data.root
        return None if root is None else ROOT / root

    @property
    def figures(self) -> Path:
        """Where this profile's tables and figures go."""
        return ROOT / self.parameters.engine.artefacts / self.label

    @property
    def output(self) -> Path:
        """Where this profile's results.csv, executed notebooks and images that are not to be shared go."""
        return self.folder / self.label

    @cached_property
    def device(self) -> torch.device:
        """The accelerator where there is one (engine.device: auto), or the one named; raises InputError where it is not there."""
        named = self.parameters.engine.device
        if named == "cuda" and not torch.cuda.is_available():
            raise InputError("engine.device is 'cuda', but torch finds no GPU that it can use here; give auto, or cpu")
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if named == "auto" else named)

    @property
    def made_on(self) -> str:
        """The kind of device that is part of a run's key."""
        return self.kind or self.device.type

    def as_made(self) -> "Study":
        """This study or, where it is whole as a machine with another kind of device made it and not as this one, as that has it."""
        trained = next((spec for spec in self.runs("table1") if spec.role in TRAINED), None)
        for kind in {"cpu", "cuda"} - {self.made_on} if trained and not self.kind else ():
            other = replace(self, kind=kind)
            if other.run(trained) and self.missing(self.all_runs()) and not other.missing(other.all_runs()):
                return other
        return self

    def workers(self) -> int:
        """How many runs are made at once: as many as cores, or as GPUs."""
        engine = self.parameters.engine
        if engine.backend == "inline" or engine.workers != "auto":
            return 1 if engine.backend == "inline" else engine.workers
        return torch.cuda.device_count() if self.device.type == "cuda" else joblib.cpu_count()

    # Images

    def task(self, name: str) -> Task:
        """The task with its split and label noise, opened once; raises InputError for data that cannot be used."""
        there = self.for_task(name)
        if name not in there._tasks:
            there._tasks[name] = there._task(name)
        return there._tasks[name]

    def _task(self, name: str) -> Task:
        p, section = self.parameters, self.parameters.data.sources[name]
        how = {"fractions": p.data.fractions, "noise": p.noise, "seed": p.seeds.data, "sample": p.data.examples}
        how |= {"split": section.split, "keep_unlabelled": section.keep_unlabelled}
        return make_task(name, self._source(name), lists=split_lists(section, self.root), **how)

    def _source(self, name: str) -> Examples:
        """A source's examples; without a data folder those that an archive brought, which have no images."""
        section, recipe = self.parameters.data.sources[name], self._recipe(name)
        if (which := (digest(recipe), self.root)) not in self.opened:
            found = kept.get(self.store, recipe) if self.root is None and section.source in RAW else None
            options = {"root": self.root, "cache_root": self.folder / "cache", **recipe["prepared"]}
            self.opened[which] = found or open_source(section, **options)
        return self.opened[which]

    def _recipe(self, name: str) -> dict:
        """What decides a source's examples, but for the raw files themselves."""
        data = self.parameters.data
        section = data.sources[name].model_dump(mode="json", exclude={"lists", "split", "keep_unlabelled"})
        return {"source": section, "prepared": data.model_dump(include={"pixels", "allow_missing", "skip_bad"})}

    def tasks(self) -> dict[str, Task]:
        """Every task of the profile by name."""
        return {name: self.task(name) for name in self.parameters.tasks}

    def about_tasks(self) -> dict[str, dict]:
        """What tables and figures need to know of each task."""
        return {n: {"multilabel": task.multilabel, "class_names": task.class_names} for n, task in self.tasks().items()}

    def gallery(self, name: str, *, per_class: int, pixels: int | None = None) -> dict[str, np.ndarray]:
        """Training images of each class, uint8 [n, channels, H, W]; with `pixels` synthetic scenes are drawn at that size."""
        task, source = self.task(name), self.parameters.data.sources[name]
        chosen = {label: index for label, index in examples_by_class(task, per_class).items() if len(index)}
        if source.source != "synthetic" or pixels in (None, self.parameters.data.pixels):
            return {label: np.asarray(task.images[index.numpy()]) for label, index in chosen.items()}
        draw = partial(synthetic.draw, source.modality, pixels=pixels, seed=source.seed)
        return {label: np.stack([draw(number) for number in index.tolist()]) for label, index in chosen.items()}

    def subsets(self, name: str) -> list[Tensor]:
        """Section III-A: the example numbers of the k overlapping subsets of a task's training part."""
        task, section = self.task(name), self.parameters.subsets
        train, generator = task.split["train"], torch.Generator().manual_seed(self.parameters.seeds.data * 1009 + 2)
        how = {"scheme": section.scheme, "groups": task.groups[train], "generator": generator}
        return [train[index] for index in overlapping_subsets(len(train), section.count, section.overlap, **how)]

    def sample(self, name: str, count: int | None) -> Tensor:
        """A seeded sample of a task's test part, the same for all probes of all models; all of it without a count."""
        test = self.task(name).split["test"]
        if count is None or count >= len(test):
            return test
        generator = torch.Generator().manual_seed(self.parameters.seeds.data * 1009 + 4)
        return test[torch.randperm(len(test), generator=generator)[:count]].sort().values

    # What a run is made from, under its own parameters

    def training_index(self, spec: RunSpec) -> Tensor:
        """The example numbers a run is trained on."""
        there = self.at(spec)
        return there.task(spec.task).split["train"] if spec.subset is None else there.subsets(spec.task)[spec.subset]

    def view(self, spec: RunSpec) -> View:
        """The augmented views of a run. Bank and students share theirs; teachers are not asked about views they trained on."""
        p = self.at(spec).parameters
        section = p.training.augmentation
        return View(2 * p.seeds.data + (spec.role == "teacher"), section.pad, tuple(section.flips), section.views)

    @property
    def views(self) -> int:
        """How many views of an image a bank holds: one for each epoch, or those that come round by turns."""
        section = self.parameters.training
        return min(section.epochs, section.augmentation.views or section.epochs)

    def batches(self, spec: RunSpec) -> int | None:
        """Batches an epoch of a subset's teacher that is to take as many steps as one of the full set; None for all others."""
        there = self.at(spec)
        if spec.role != "teacher" or spec.subset is None or there.parameters.teachers.steps == "own":
            return None
        return len(there.task(spec.task).split["train"]) // there.parameters.training.batch_size

    def precision(self, spec: RunSpec) -> str:
        """Of a run's training passes: float32 or bfloat16."""
        named = self.at(spec).parameters.training.precision
        named = named.get(spec.architecture, "auto") if isinstance(named, dict) else named
        return models.precision(torch.device(self.made_on)) if named == "auto" else named

    def loader(self, spec: RunSpec, index: Tensor, *, shuffled: bool = False, augmented: bool = False) -> Loader:
        """Batches of examples, in order or shuffled by the run's seed; raises InputError where one batch is more than these."""
        there, how = self.at(spec), {"batch_size": EVALUATION_BATCH}
        if shuffled:
            size = there.parameters.training.batch_size
            how = {"batch_size": size, "shuffle_seed": spec.seed, "batches": there.batches(spec)}
        view = there.view(spec) if augmented else None
        return Loader(there.task(spec.task), index, device=self.device, view=view, **how)

    def recipe(self, spec: RunSpec) -> dict:
        """Everything that decides a run's result, JSON-able; the key is its hash."""
        return experiment.recipe(self.at(spec), spec)

    def key(self, spec: RunSpec) -> str:
        """The run's name in the store: <role>-<architecture>-<hash of its recipe>."""
        there = self.at(spec)
        if spec not in there._keys:
            there._keys[spec] = f"{spec.role}-{spec.architecture}-{digest(there.recipe(spec))}"
        return there._keys[spec]

    def run(self, spec: RunSpec) -> Run | None:
        """The finished run, or None."""
        return self.store.get(self.key(spec))

    def model(self, spec: RunSpec, state: str = "weights") -> models.Classifier:
        """The trained network of a finished run in one of `settings.STATES`, in eval mode."""
        run, n_classes = self.run(spec), self.at(spec).task(spec.task).n_classes
        model = models.create(spec.architecture, n_classes, seed=spec.seed)
        model.load_state_dict(run.tensors("weights" if state == "weights" else "averaged"))
        if state == "averaged, BatchNorm as copied":
            model.load_state_dict(run.tensors("running"), strict=False)
        return models.placed(model, self.device).eval()

    def load_student(self, task: str, row: str = "RoS-KD") -> models.Classifier:
        """The trained student of a row of Table I, in eval mode: images [B, channels, H, W] in [0, 1] in, logits [B, C] out.

        Raises InputError for another row or task, and where it is not trained yet.
        """
        return self.model(self.trained(task, row), setting(row).state)

    def trained(self, task: str, row: str) -> RunSpec:
        """The first replicate's student of a row of Table I; raises InputError where it is not trained yet."""
        if task not in self.parameters.tasks:
            raise InputError(f"task '{task}' is unknown; {self.label} has {', '.join(self.parameters.tasks)}")
        spec = self.for_task(task).student(task, row)
        if self.run(spec) is None:
            how = "make reproduce, or study.ensure([study.student(...)])"
            raise InputError(f"the student of {row} on {task} is not trained yet; run: {how}")
        return spec

    def bank(self, spec: RunSpec) -> Bank:
        """The logits [K, views, N, C] of a student's K teachers for every view of the training part."""
        there = self.at(spec)
        logits = torch.stack([there.run(bank_of(teacher)).tensors("logits")["train"] for teacher in spec.teachers])
        by_turns = there.parameters.training.augmentation.views is not None
        return Bank(logits, there.task(spec.task).split["train"], by_turns=by_turns)

    def name_of(self, spec: RunSpec) -> str:
        """A network's architecture, and which of several of its pool it is: "mobilenet_v2 (2)" for the second."""
        pool, number = self.at(spec).parameters.teachers.architectures, spec.seed % 1000
        before = pool[:number].count(spec.architecture) if spec.role == "teacher" and number < len(pool) else 0
        return f"{spec.architecture} ({before + 1})" if before else spec.architecture

    # Which runs

    def _spec(self, role: str, task: str, architecture: str, seed: int, **which: Any) -> RunSpec:
        return RunSpec(role, task, architecture, seed, variant=self.variant, replicate=self.replicate, **which)

    def teachers(self, task: str, pool: str) -> tuple[RunSpec, ...]:
        """The k teachers of a pool: each on its own subset, or all on the full set (Section IV-B)."""
        first = 1000 * (self.parameters.seeds.teachers + 1)
        return tuple(
            self._spec("teacher", task, architecture, first + number, subset=number if pool == "subset" else None)
            for number, architecture in enumerate(self.parameters.teachers.architectures)
        )

    def student(self, task: str, row: str, architecture: str | None = None) -> RunSpec:
        """The student of a row of Table I, or one of another architecture; Baseline V and RoS-KD are the same run."""
        knobs, section = setting(row), self.parameters.distillation
        pool = section.reinforced.teacher_pool if knobs.weighting == "reinforced" else knobs.pool
        teachers = () if knobs.teachers == "none" else self.teachers(task, pool)
        if knobs.teachers == "single":
            teachers = tuple(t for t in teachers if t.architecture == section.single_teacher)[:1]
        which = {"weighting": knobs.weighting, "teachers": teachers}
        return self._spec("student", task, architecture or section.student, self.parameters.seeds.student, **which)

    def chance(self, task: str) -> RunSpec:
        """What no skill scores on a task's test part."""
        return self._spec("chance", task, "none", self.parameters.seeds.data)

    def logistic_regression(self, task: str) -> RunSpec:
        """Logistic regression on the pixels, beside Table I."""
        return self._spec("pixels", task, "logistic", self.parameters.seeds.student)

    def runs(self, artefact: str) -> list[RunSpec]:
        """The runs an artefact needs, prerequisites first, each once."""
        if artefact not in ARTEFACTS:
            raise InputError(f"artefact '{artefact}' is unknown; allowed: {', '.join(ARTEFACTS)}")
        return with_prerequisites(ARTEFACTS[artefact](self))

    def all_runs(self) -> list[RunSpec]:
        """The runs of every artefact; those that two variants share are named once for each."""
        return list(dict.fromkeys(spec for artefact in ARTEFACTS for spec in self.runs(artefact)))

    def in_order(self, artefacts: Sequence[str]) -> list[list[RunSpec]]:
        """The runs of artefacts in their order, task by task and replicate by replicate: an early end leaves whole ones."""
        groups: dict[tuple, list[RunSpec]] = defaultdict(list)
        for place, artefact in enumerate(artefacts):
            for spec in self.runs(artefact):
                groups[place, self.parameters.tasks.index(spec.task), spec.replicate].append(spec)
        return [groups[key] for key in sorted(groups)]

    def unique(self, runs: Iterable[RunSpec]) -> list[RunSpec]:
        """The runs with every key once, in their order."""
        return list({self.key(spec): spec for spec in reversed(list(runs))}.values())[::-1]

    def missing(self, runs: Iterable[RunSpec]) -> list[RunSpec]:
        """Those of the runs that the store does not hold, each once; and those whose weights it released and they need."""
        found = {spec: self.run(spec) for spec in self.unique(runs)}
        needed = {self.key(other) for spec, run in found.items() if run is None for other in weights_needed(spec)}
        return [spec for spec, run in found.items() if run is None or (run.released and self.key(spec) in needed)]

    # Making them

    def check_batches(self, runs: Iterable[RunSpec]) -> None:
        """Raises InputError, before any training, where a batch is larger than a training set, or a test part is of one group."""
        for spec in runs:
            if spec.role in TRAINED:
                task = self.at(spec).task(spec.task)
                if len(task.groups[task.split["test"]].unique()) < 2:
                    raise InputError(
                        f"{spec}: all test images of {spec.task} are of one group (lesion or patient), so how sure a difference "
                        "is could not be told; have more groups, or another split by data.fractions, seeds.data or lists"
                    )
                self.loader(spec, self.training_index(spec), shuffled=True)

    def ensure(self, runs: Sequence[RunSpec]) -> None:
        """Make the missing ones of the runs and what they need: teachers with banks, students, probes; longest first.

        Weights that nothing else is to be made from are released on the way (engine.keep_weights).
        """
        missing = self.missing(with_prerequisites(runs))
        if missing and self.made_on != self.device.type:
            raise InputError(
                f"{len(missing)} runs are missing (the first: {self.key(missing[0])}), and those that are there were made on "
                f"{self.made_on}; this machine has {self.device.type}: make all of them here, with another engine.store"
            )
        if blind := {spec.task for spec in missing if isinstance(self.task(spec.task).images, Unseen)}:
            raise NoImages(
                f"{len(missing)} runs are missing (the first: {self.key(missing[0])}), and the images of "
                f"{', '.join(sorted(blind))} that they are made from are not here; name their folder with DATA= or --data"
            )
        self.check_batches(missing)
        engine, readers = self.parameters.engine, self.readers(missing)
        place = Place(engine.address, 0 if engine.device == "cpu" else engine.gpus_per_run, engine.retries)
        how = {"backend": engine.backend, "workers": self.workers(), "place": place}
        how |= {"tell": self._told, "speed": costs.speed(self) if missing else None}
        work = {spec: costs.work(self, spec) for spec in missing}
        later = sum(work.values())
        with workers_for(engine.backend, self.workers() if len(missing) > 1 else 1) as pool:
            for name, roles in STAGES.items():
                jobs = self._jobs([spec for spec in missing if spec.role in roles], missing, readers)
                each = [sum(work[spec] for spec in job.specs) for job in jobs]
                later = max(0.0, later - sum(each))
                run_jobs(partial(make_job, self), jobs, description=name, costs=each, pool=pool, later=later, **how)
                for key, keys in readers.items():
                    if self._made(keys):
                        self.store.release(key)

    def _told(self, job: Job, ended: bool) -> str:
        """The name of a job's run, or once it has ended the loss of its last epoch where it was trained."""
        spec, run = job.specs[0], self.run(job.specs[0])
        if not ended or spec.role not in TRAINED or run is None:
            return "" if ended else str(spec)
        return f"last loss {run.table('history')['loss'].iloc[-1]:.3g}"

    def _jobs(self, wanted: list[RunSpec], missing: list[RunSpec], readers: Mapping[str, set[str]]) -> list[Job]:
        """One job for each run, a teacher's with its bank; what its weights are not needed for after it is released by it."""
        banks = {self.key(spec.teachers[0]): spec for spec in missing if spec.role == "bank"}
        jobs = []
        for spec in (spec for spec in wanted if spec.role != "bank" or self.run(spec) is None):
            key = self.key(spec)
            specs = (spec, banks[key]) if key in banks else (spec,)
            made = {self.key(each) for each in specs}
            release = (key,) if key in readers and self._made(readers[key] - made) else ()
            jobs.append(Job(specs, release, len(jobs)))
        return jobs

    def _made(self, keys: Iterable[str]) -> bool:
        return all(self.store.get(key) is not None for key in keys)

    def readers(self, runs: Iterable[RunSpec] = ()) -> dict[str, set[str]]:
        """The keys of the trained runs whose weights may go, with the keys of the runs that are made from these.

        Those of the first replicate's full-set teachers and students of Table I stay.
        """
        readers: dict[str, set[str]] = defaultdict(set)
        for spec in [*self.all_runs(), *runs] if self.parameters.engine.keep_weights == "needed" else ():
            if spec.role in TRAINED:
                readers[self.key(spec)]  # a student that nobody looks into may go at once
            for other in weights_needed(spec):
                readers[self.key(other)].add(self.key(spec))
        for there, task in ((self.for_task(task), task) for task in self.parameters.tasks):
            for spec in (*there.teachers(task, "full"), *(there.student(task, row.name) for row in SETTINGS)):
                readers.pop(self.key(spec), None)
        return dict(readers)

    # What is shown

    def watermark(self) -> str:
        """What every artefact says on its face: profile, data, pixels, epochs, and whether the paper's numbers compare."""
        p, data = self.parameters, self.parameters.data
        sources = " and ".join(dict.fromkeys(data.sources[name].source for name in p.tasks))
        kind = f"{sources} images" + (f", about {data.examples:,} a task" if data.examples else "")
        epochs = {task: self.for_task(task).parameters.training.epochs for task in p.tasks}
        own = [f"{task} {count}" for task, count in epochs.items() if count != p.training.epochs]
        long = f"{p.training.epochs} epochs" + (f" ({', '.join(own)})" if own else "")
        text = f"profile {self.label} · {kind} · {data.pixels} px · {long}"
        return text if self.as_printed() else f"{text} · not comparable with the paper"

    def as_printed(self) -> bool:
        """Whether these are params/paper.yaml's parameters, laid-over sections included; where it runs does not matter."""
        return self.shared() == Study(params.load("paper")).shared()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One command at a time writes to the folders of this study's name; the others wait, with a word."""
        with self.store.lock(f"folders-{self.label}", f"writes to {self.figures}"):
            yield

    def publish(self, item):
        """Make an item of the paper, write its tables and figures to `figures`; what a notebook shows of it."""
        return item.publish(self)

    def history(self, runs: Iterable[RunSpec]) -> pd.DataFrame:
        """The training histories of finished runs, one row per run and epoch."""
        tables = []
        for spec in runs:
            about = {"run": self.key(spec), "task": spec.task, "architecture": self.name_of(spec)}
            about |= {"trained_on": "full set" if spec.subset is None else "subset", "replicate": spec.replicate}
            tables.append(self.run(spec).table("history").assign(**about))
        return pd.concat(tables, ignore_index=True)

    def results(self) -> pd.DataFrame:
        """Every measurement of every finished run of this study: results.csv, the one source of numbers.

        The file is written anew where runs have come, where other code wrote it, or where it is not what was written last; it
        is read again where one of them is another file than it was.
        """
        path, made_from = self.output / "results.csv", digest([CODE, self._state()])
        now = made_from, size_and_time(path)  # before it is read: another process may write meanwhile
        if now != self._read[0]:
            with self.store.lock(f"results-{self.label}", f"measures for {path}"):  # one does, others wait
                self._read = now, results.current(path, made_from, self.measure)
        return self._read[1].copy()

    def measure(self) -> pd.DataFrame:
        """The same from the runs themselves, whatever results.csv says."""
        rows = [row for spec in tqdm(self.measured(), desc="measuring", leave=False) for row in rows_of(self, spec)]
        if not rows:
            raise InputError(f"no run of profile '{self.label}' is finished yet; run: make reproduce")
        return results.validate(pd.concat(rows, ignore_index=True))

    def measured(self) -> list[RunSpec]:
        """The finished runs that results are about; of banks those of the noise study, for what teachers say of the labels."""
        wanted = (spec for spec in self.all_runs() if spec.role != "bank" or spec.variant.kind in LABEL_NOISE)
        return [spec for spec in wanted if self.run(spec) is not None]

    def note(self, name: str, needs: Sequence[str], files: Iterable[Path]) -> None:
        """Note which files an item of the paper was written as, under which parameters, and from which runs."""
        made = {file.name: checksum(file) for file in files}
        about = {"needs": needs, "made_from": self._made_from(needs), "files": made, "of": [CODE, self._state()]}
        write_whole(self.output / "published" / f"{name}.json", json.dumps(about))

    def drawn(self, name: str) -> list[Path]:
        """The files of an item, where this very code wrote those that lie there, and no run or parameter is another since."""
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged note is none: the item is made again
            about = json.loads((self.output / "published" / f"{name}.json").read_bytes())
            files = {self.figures / file: made for file, made in about["files"].items()}
            if about["of"] == [CODE, self._state()] and all(checksum(file) == made for file, made in files.items()):
                return list(files)
        return []

    def noted(self) -> dict[str, dict]:
        """The notes of items that were written from the runs and parameters of now, and no others."""
        found, made_from = {}, lru_cache(None)(self._made_from)
        # what was drawn elsewhere, and needs images that are not here, stays as provenance.json tells
        for path in (self.figures / "provenance.json", *sorted((self.output / "published").glob("[!.]*.json"))):
            with suppress(OSError, ValueError, KeyError, TypeError):
                about = json.loads(path.read_bytes())
                notes = about["items"] if path.name == "provenance.json" else {path.stem: about}
                notes = {n: {key: each[key] for key in ("needs", "made_from", "files")} for n, each in notes.items()}
                found |= {n: each for n, each in notes.items() if each["made_from"] == made_from(tuple(each["needs"]))}
        return found

    def _state(self) -> str:
        """Of parameters, data and all finished runs: results are made from it, and some items look at more than they need.

        Runs are read again where one is another file than it was: a figure asks for results many times.
        """
        files = [size_and_time(self.store.root / self.key(spec) / "run.json") for spec in self.all_runs()]
        if files != self._seen[0]:
            self._seen = files, self._made_from()
        return self._seen[1]

    def _made_from(self, needs: Iterable[str] | None = None) -> str:
        """The same of the runs that some artefacts need; made again elsewhere, a run may have other files under its key."""
        specs = self.all_runs() if needs is None else [spec for name in needs for spec in self.runs(name)]
        runs = [(run.key, run.checksums()) for spec in specs if (run := self.run(spec))]
        return digest([self.shared(), [task.fingerprint for task in self.tasks().values()], runs])

    def shared(self) -> dict:
        """The parameters that decide numbers, wherever it runs."""
        return self.parameters.model_dump(exclude={"engine": True, "data": {"root"}}, mode="json")

    def archive(self, file: Path) -> int:
        """Write the finished runs into one file, without weights, and of banks the mean over views alone, where it is measured on.

        What images from raw folders are called, and their labels and groups, go with them: all that is shown but the images.
        """
        specs = [spec for spec in self.all_runs() if self.run(spec)]
        keys, measured = ({self.key(spec) for spec in some} for some in (specs, self.measured()))
        banks = (self.key(spec) for spec in specs if spec.role == "bank")
        without = {key: BANK_FILES[: 1 if key in measured else None] for key in banks}
        examples = {
            kept.put(self.store, there._recipe(task), there._source(task))
            for there, task in {(self.at(spec), spec.task) for spec in specs}
            if there.parameters.data.sources[task].source in RAW
        }
        return self.store.archive(keys | examples, file, without) - len(examples)

    def timings(self) -> pd.DataFrame:
        """Seconds of a step of each setting's training, rows like those of the results; no part of results.csv, for they vary."""
        rows = []
        for spec in self.unique(self.runs("table1")):
            run = self.run(spec) if spec.role == "student" else None
            record = run.about()["record"] if run else {}
            for row, state in settings_of(spec) if "epoch_seconds" in record else ():
                seconds = record["epoch_seconds"] - (record["averaging_seconds"] if state == "weights" else 0)
                about = {"task": spec.task, "setting": row, "student": spec.architecture, "replicate": spec.replicate}
                rows.append(about | {"metric": "seconds", "value": seconds, "run": run.key})
        return results.validate(pd.DataFrame(rows).reindex(columns=list(results.COLUMNS))) if rows else pd.DataFrame()

    def provenance(self) -> dict:
        """Where the numbers come from: parameters, data, versions and every finished run; no path and no time of writing."""
        runs = [run for spec in self.unique(self.all_runs()) if (run := self.run(spec))]
        abouts, notes, table = {run.key: run.about() for run in runs}, self.noted(), self.output / "results.csv"
        return {
            "profile": self.label,
            "parameters": self.shared(),
            "versions": versions(),
            "items": notes,
            "data": {name: _about(task) for name, task in self.tasks().items()},
            "runs": {key: about["record"] for key, about in abouts.items()},
            "recipes": {key: about["recipe"] for key, about in abouts.items()},
            "files": {name: value for about in notes.values() for name, value in about["files"].items()},
            "results.csv": checksum(table) if table.is_file() else None,
        }


def _about(task: Task) -> dict:
    found = {"images": len(task.images), "groups": len(task.groups.unique()), "noise_rate": round(task.noise_rate, 4)}
    found["fingerprint"] = task.fingerprint
    return found | {part: task.card.get(part) for part in ("source", "raw", "parts")}


@lru_cache(maxsize=2)
def _in_this_process(parameters: bytes, variant: Variant, replicate: int, label: str, kind: str) -> Study:
    return Study(pickle.loads(parameters), variant, replicate, label, kind=kind)
