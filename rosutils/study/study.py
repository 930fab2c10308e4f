"""From parameters to the runs that each table and figure needs."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm.auto import tqdm

from rosutils import InputError, params, results
from rosutils.data import Task
from rosutils.params import ROOT, Parameters
from rosutils.settings import PLAIN, SETTINGS, TEACHERS
from rosutils.settings import setting as row_of
from rosutils.store import digest
from rosutils.study import costs, variants
from rosutils.study.engine import Place, processes, run_jobs
from rosutils.study.experiment import FORMAT, Experiment, RunSpec, weights_needed
from rosutils.study.making import Job, make_job, versions
from rosutils.study.measurements import rows_of
from rosutils.study.needs import ARTEFACTS, with_prerequisites
from rosutils.study.variants import LABEL_NOISE, OWN, Variant
from rosutils.study.verification import checksums


PROBES = ("attack", "curve", "checks", "surface", "path", "curvature", "agreement")
STAGES = (("chance", "pixels", "teacher"), ("bank",), ("student",), PROBES)
STAGE_NAMES = ("teachers", "banks", "students", "probes")


class Study(Experiment):
    """An experiment and its artefacts: which runs they need, which are missing, and the results of those that exist."""

    def __init__(
        self, parameters: Parameters, variant: Variant = OWN, replicate: int = 0, opened: dict | None = None, label: str = ""
    ) -> None:  # fmt: skip
        """`variant` is what the parameters are (a profile's own, or a point of a sweep), `replicate` which repetition, from 0.

        `label` is the profile's name with what was laid over it, such as demo+alpha0.5: its folders and watermark have it.
        """
        super().__init__(parameters, opened)
        self.variant, self.replicate, self.label = variant, replicate, label or parameters.profile
        self.about: str | None = None  # the one task that it is for, or all

    @classmethod
    def load(cls, profile: str | Path, **overrides: Any) -> "Study":
        """The study of a profile (a name or a YAML file), with sections laid over it; raises InputError for wrong input."""
        parameters = params.load(profile, **overrides)
        study = cls(parameters, label=params.label(profile, parameters))
        study.check()
        return study

    @classmethod
    def of_notebook(cls, names: Mapping[str, Any]) -> "Study":
        """The study of a notebook's parameters, `globals()`: its `profile`, and whatever sections papermill or a person gave.

        Raises InputError for a section that is misspelt, beside what `load` raises.
        """
        return cls.load(names["profile"], **params.sections_in(names))

    def check(self) -> None:
        """Raises InputError for a sweep that is out of range: before anything is trained."""
        for task in self.parameters.tasks:
            variants.variants(variants.of_task(self.parameters, task))

    def _like(self, parameters: Parameters, variant: Variant, replicate: int) -> "Study":
        return type(self)(parameters, variant, replicate, self._opened, self.label)

    @cached_property
    def variants(self) -> dict[Variant, "Study"]:
        """The studies of the sweeps, first replicates: the same source under other parameters."""
        return {variant: self._like(there, variant, 0) for variant, there in variants.variants(self.parameters).items()}

    def only(self, task: str) -> "Study":
        """This study, for one task alone."""
        there = copy.copy(self)
        there.about = task
        return there

    @cached_property
    def replicates(self) -> list["Study"]:
        """The repetitions of this study: each with its own seeds, so its own split, views, teachers and students."""
        seeds = self.parameters.seeds
        shifts = [variants.replicate(self.parameters, number) for number in range(1, seeds.replicates)]
        return [self, *(self._like(there, self.variant, number) for number, there in enumerate(shifts, 1))]

    def of(self, spec: RunSpec) -> "Study":
        """The study with the parameters that a run is made under."""
        study = self.for_task(spec.task)
        if (spec.variant, spec.replicate) == (study.variant, study.replicate):
            return study
        study = study if spec.variant == study.variant else study.variants[spec.variant]
        return study.replicates[spec.replicate]

    def for_task(self, task: str) -> "Study":
        """This study with the sections that `by_task` lays over for the runs of one task."""
        return self._by_task.get(task, self)

    @cached_property
    def _by_task(self) -> dict[str, "Study"]:
        own = self.parameters
        others = {task: variants.of_task(own, task) for task in own.by_task}
        plain = {task: there.model_copy(update={"by_task": {}}) for task, there in others.items()}
        return {task: self._like(there, self.variant, self.replicate) for task, there in plain.items()}

    def key(self, spec: RunSpec) -> str:
        """The run's name in the store, under the parameters of its own variant and replicate."""
        there = self.of(spec)
        return super().key(spec) if there is self else there.key(spec)

    @property
    def figures(self) -> Path:
        """Where this profile's tables and figures go."""
        return ROOT / self.parameters.engine.artefacts / self.label

    @property
    def output(self) -> Path:
        """Where this profile's results.csv, executed notebooks and images that are not to be shared go."""
        return self.folder / self.label

    def workers(self) -> int:
        """How many runs are made at once: as many as cores, or as GPUs."""
        engine = self.parameters.engine
        if engine.backend == "inline":
            return 1
        if engine.workers != "auto":
            return engine.workers
        return torch.cuda.device_count() if self.device.type == "cuda" else joblib.cpu_count()

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
        elsewhere = {"engine": True, "data": {"root"}}
        return self.parameters.model_dump(exclude=elsewhere) == params.load("paper").model_dump(exclude=elsewhere)

    def tasks(self) -> dict[str, Task]:
        """Every task of the profile by name."""
        return {name: self.task(name) for name in self.parameters.tasks}

    def about_tasks(self) -> dict[str, dict]:
        """What tables and figures need to know of each task."""
        return {
            name: {"multilabel": task.multilabel, "class_names": task.class_names}
            for name, task in self.tasks().items()
        }

    def teachers(self, task: str, pool: str) -> tuple[RunSpec, ...]:
        """The k teachers of a pool: each on its own subset, or all on the full set (Section IV-B)."""
        first = 1000 * (self.parameters.seeds.teachers + 1)
        return tuple(
            self._spec("teacher", task, architecture, first + number, subset=number if pool == "subset" else None)
            for number, architecture in enumerate(self.parameters.teachers.architectures)
        )

    def student(self, task: str, setting: str, architecture: str | None = None) -> RunSpec:
        """The student of a row of Table I, or one of another architecture; Baseline V and RoS-KD are the same run."""
        knobs = row_of(setting)
        section = self.parameters.distillation
        pool = section.reinforced.teacher_pool if knobs.weighting == "reinforced" else knobs.pool
        teachers = self.teachers(task, pool) if knobs.teachers != "none" else ()
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

    def _spec(self, role: str, task: str, architecture: str, seed: int, **which: Any) -> RunSpec:
        return RunSpec(role, task, architecture, seed, variant=self.variant, replicate=self.replicate, **which)

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
        specs = self.unique(runs)
        found = {spec: self.run(spec) for spec in specs}
        needed = {self.key(other) for spec in specs if found[spec] is None for other in weights_needed(spec)}
        return [spec for spec, run in found.items() if run is None or (run.released and self.key(spec) in needed)]

    def check_batches(self, runs: Iterable[RunSpec]) -> None:
        """Raises InputError where a batch is larger than what a run is trained on: before hours of training, not after."""
        for spec in runs:
            if spec.role in ("teacher", "student"):
                self.of(spec).loader(spec, self.of(spec).training_index(spec), shuffled=True)

    def ensure(self, runs: Sequence[RunSpec]) -> None:
        """Make the missing ones of the runs and what they need: teachers with banks, students, probes; longest first.

        Weights that nothing else is to be made from are released on the way (engine.keep_weights).
        """
        missing = self.missing(with_prerequisites(runs))
        self.check_batches(missing)
        engine, readers = self.parameters.engine, self._readers(missing)
        place = Place(engine.address, 0 if engine.device == "cpu" else engine.gpus_per_run, engine.retries)
        with processes(engine.backend, self.workers() if len(missing) > 1 else 1) as pool:
            for roles, name in zip(STAGES, STAGE_NAMES, strict=True):
                jobs = self._jobs([spec for spec in missing if spec.role in roles], missing, readers)
                weight = [sum(costs.relative(self.of(spec), spec) for spec in job.specs) for job in jobs]
                run_jobs(
                    make_job, jobs, backend=engine.backend, workers=self.workers(), place=place, description=name,
                    costs=weight, pool=pool,
                )  # fmt: skip
                self._release(readers)

    def _jobs(self, wanted: list[RunSpec], missing: list[RunSpec], readers: Mapping[str, set[str]]) -> list[Job]:
        """One job for each run, a teacher's with its bank; what its weights are not needed for after it is released by it."""
        banks = {self.key(spec.teachers[0]): spec for spec in missing if spec.role == "bank"}
        jobs = []
        for number, spec in enumerate(wanted):
            key = self.key(spec)
            specs = (spec, banks[key]) if key in banks and spec.role == "teacher" else (spec,)
            made = {self.key(each) for each in specs}
            release = (key,) if key in readers and self._all_made(readers[key] - made) else ()
            jobs.append(Job(self.of(spec).json, specs, release, number))
        return [job for job in jobs if job.specs[0].role != "bank" or self.run(job.specs[0]) is None]

    def _readers(self, missing: list[RunSpec]) -> dict[str, set[str]]:
        """The keys of the trained runs whose weights may go, with the keys of the runs that are made from these."""
        if self.parameters.engine.keep_weights == "all":
            return {}
        readers: dict[str, set[str]] = defaultdict(set)
        for spec in [*self.all_runs(), *missing]:
            if spec.role in ("teacher", "student"):
                readers[self.key(spec)]  # a student that nobody looks into may go at once
            for other in weights_needed(spec):
                readers[self.key(other)].add(self.key(spec))
        kept = self._kept()
        return {key: keys for key, keys in readers.items() if key not in kept}

    def _kept(self) -> set[str]:
        """The keys of the runs whose weights stay: the first replicate's full-set teachers and students of Table I."""
        kept = []
        for task in self.parameters.tasks:
            there = self.for_task(task)
            kept += [*there.teachers(task, "full"), *(there.student(task, row.name) for row in SETTINGS)]
        return {self.key(spec) for spec in kept}

    def _all_made(self, keys: Iterable[str]) -> bool:
        return all(self.store.get(key) is not None for key in keys)

    def _release(self, readers: Mapping[str, set[str]]) -> None:
        for key, keys in readers.items():
            if self._all_made(keys):
                self.store.release(key)

    @cached_property
    def json(self) -> str:
        """The parameters as workers get them."""
        return self.parameters.model_dump_json()

    def history(self, runs: Iterable[RunSpec]) -> pd.DataFrame:
        """The training histories of finished runs, one row per run and epoch."""
        tables = [
            self.run(spec).table("history").assign(run=self.key(spec), task=spec.task, architecture=self.of(spec).name_of(spec),
                                                   trained_on="full set" if spec.subset is None else "subset",
                                                   replicate=spec.replicate)
            for spec in runs
        ]  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    def publish(self, item):
        """Make an item of the paper, write its tables and figures to `figures`; what a notebook shows of it."""
        return item.publish(self)

    def results(self) -> pd.DataFrame:
        """Every measurement of every finished run of this study: results.csv, the one source of numbers.

        The file is written anew where runs have come, or where it is not what was written last.
        """
        path, made_from = self.output / "results.csv", self._finished()
        with self.store.lock(f"results-{self.label}"):  # one notebook measures, others wait for it
            if not results.is_current(path, made_from):
                results.mark_current(results.write(self.measure(), path), made_from)
            return results.read(path)

    def measure(self) -> pd.DataFrame:
        """The same from the runs themselves, whatever results.csv says."""
        runs = tqdm(self._measured(), desc="measuring", leave=False)
        rows = [row for spec in runs for row in rows_of(self.of(spec), spec, self._settings_of(spec))]
        if not rows:
            raise InputError(f"no run of profile '{self.label}' is finished yet; run: make reproduce")
        return results.validate(pd.concat(rows, ignore_index=True))

    def _measured(self) -> list[RunSpec]:
        """The finished runs that results are about: teachers of the profile itself, every student and probe, the
        banks of the noise study for what their teachers say of the labels."""
        wanted = [spec for spec in self.all_runs() if spec.role != "bank" or spec.variant.kind in LABEL_NOISE]
        return [spec for spec in wanted if self.run(spec) is not None]

    def _finished(self) -> str:
        """A digest of all that decides the results: the finished runs with their variants, and how they are evaluated."""
        runs = [(spec.variant, spec.replicate, self.key(spec), spec.state) for spec in self._measured()]
        sections = self.parameters.model_dump(include={"evaluation", "landscape"})
        return digest([FORMAT, list(results.COLUMNS), runs, sections])

    def _settings_of(self, spec: RunSpec) -> list[tuple[str, str]]:
        """(setting, state of the weights) for a run: a teacher is one, the run of Baseline V and RoS-KD is two."""
        if spec.role == "teacher":
            return [(TEACHERS[spec.subset is not None], "weights")]
        if spec.role == "pixels":
            return [(PLAIN, "weights")]
        if spec.role in ("bank", "chance"):
            return []
        student, there = spec.of or spec, self.of(spec)
        found = [
            (row.name, row.state) for row in SETTINGS
            if there.student(student.task, row.name, student.architecture) == student
        ]  # fmt: skip
        return found if spec.of is None else [pair for pair in found if spec.state.startswith(pair[1])]

    def timings(self) -> pd.DataFrame:
        """Seconds of a step of each setting's training, rows like those of the results; no part of results.csv, for they vary."""
        rows = []
        for spec in self.unique(self.runs("table1")):
            run = self.run(spec) if spec.role == "student" else None
            record = run.about()["record"] if run else {}
            if "epoch_seconds" not in record:
                continue
            for setting, state in self._settings_of(spec):
                seconds = record["epoch_seconds"] - (record["averaging_seconds"] if state == "weights" else 0)
                rows.append({"task": spec.task, "setting": setting, "student": spec.architecture, "replicate": spec.replicate,
                             "metric": "seconds", "value": seconds, "run": run.key})  # fmt: skip
        return results.validate(pd.DataFrame(rows).reindex(columns=list(results.COLUMNS))) if rows else pd.DataFrame()

    def provenance(self) -> dict:
        """Where the numbers come from: parameters, data, versions and every finished run; no path and no time of writing."""
        parameters = self.parameters.model_dump(exclude={"engine": True, "data": {"root"}})
        data = {
            name: {"images": len(task.images), "groups": len(task.groups.unique()), "noise_rate": round(task.noise_rate, 4),
                   "fingerprint": task.fingerprint, "source": task.card.get("source"), "raw": task.card.get("raw"),
                   "parts": task.card.get("parts")}
            for name, task in self.tasks().items()
        }  # fmt: skip
        found = [run for spec in self.unique(self.all_runs()) if (run := self.run(spec))]
        runs = {run.key: run.about() for run in found}
        return {
            "profile": self.label,
            "parameters": parameters,
            "data": data,
            "versions": versions(),
            "runs": {key: about["record"] for key, about in runs.items()},
            "recipes": {key: about["recipe"] for key, about in runs.items()},
            "files": checksums(self.figures),
        }
