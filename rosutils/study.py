"""From parameters to the runs that each table and figure needs; the settings of Table I as four knobs."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from rosutils import InputError, models, params, results, training
from rosutils.data import Task
from rosutils.distill import supervised_loss
from rosutils.engine import run_jobs
from rosutils.experiment import Experiment, RunSpec, bank_of
from rosutils.metrics import best_thresholds, evaluate
from rosutils.params import ROOT
from rosutils.readings import STATED, departures
from rosutils.runs import make_job, versions


class Setting(NamedTuple):
    """A row of Table I (Section IV-C): which teachers, trained on what, how weighted, averaged or not."""

    name: str
    teachers: str  # none, single, all
    pool: str  # full, subset
    weighting: str
    averaged: bool = False


SETTINGS = (
    Setting("Baseline I", "none", "full", "none"),
    Setting("Baseline II", "single", "full", "single"),
    Setting("Baseline III", "all", "full", "uniform"),
    Setting("Baseline III, subset teachers", "all", "subset", "uniform"),
    Setting("Baseline IV", "all", "full", "reinforced"),
    Setting("Baseline V", "all", "subset", "exponential"),
    Setting("RoS-KD", "all", "subset", "exponential", averaged=True),
)
STAGES = ("teacher", "bank", "student")
ARTEFACTS = ("teachers", "table1")


class Study(Experiment):
    """An experiment and its artefacts: which runs they need, which are missing, and the results of those that exist."""

    @classmethod
    def load(cls, profile: str | Path, **overrides: Any) -> "Study":
        """The study of a profile (a name or a YAML file), with sections laid over it; raises InputError for wrong input."""
        return cls(params.load(profile, **overrides))

    @property
    def figures(self) -> Path:
        """Where this profile's tables and figures go."""
        return ROOT / self.parameters.engine.artefacts / self.parameters.profile

    @property
    def output(self) -> Path:
        """Where this profile's results.csv, executed notebooks and images that are not to be shared go."""
        return self.folder / self.parameters.profile

    def workers(self) -> int:
        """How many runs are made at once."""
        engine = self.parameters.engine
        if engine.backend == "inline":
            return 1
        return os.cpu_count() or 1 if engine.workers == "auto" else engine.workers

    def watermark(self) -> str:
        """What every artefact says on its face: profile, data, pixels, epochs, and whether the paper's numbers compare."""
        data = self.parameters.data
        sources = " and ".join(dict.fromkeys(data.sources[name].source for name in self.parameters.tasks))
        kind = f"{sources} images"
        text = (
            f"profile {self.parameters.profile} · {kind} · {data.pixels} px · {self.parameters.training.epochs} epochs"
        )
        return text if self._as_printed() else f"{text} · not comparable with the paper"

    def _as_printed(self) -> bool:
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
            RunSpec("teacher", task, architecture, first + number, subset=number if pool == "subset" else None)
            for number, architecture in enumerate(self.parameters.teachers.architectures)
        )

    def student(self, task: str, setting: str, seed: int) -> RunSpec:
        """The student of a row of Table I; Baseline V and RoS-KD are the same run."""
        knobs = next(knobs for knobs in SETTINGS if knobs.name == setting)
        section = self.parameters.distillation
        pool = section.reinforced.teacher_pool if knobs.weighting == "reinforced" else knobs.pool
        teachers = {"none": (), "all": self.teachers(task, pool)}.get(
            knobs.teachers, tuple(t for t in self.teachers(task, pool) if t.architecture == section.single_teacher)[:1]
        )
        return RunSpec("student", task, section.student, seed, weighting=knobs.weighting, teachers=teachers)

    def runs(self, artefact: str) -> list[RunSpec]:
        """The runs an artefact needs, prerequisites first, each once."""
        if artefact not in ARTEFACTS:
            raise InputError(f"artefact '{artefact}' is unknown; allowed: {', '.join(ARTEFACTS)}")
        tasks = self.parameters.tasks
        if artefact == "teachers":
            return [t for task in tasks for pool in ("full", "subset") for t in self.teachers(task, pool)]
        students = [
            self.student(task, setting.name, seed)
            for task in tasks for seed in self.parameters.seeds.students for setting in SETTINGS
        ]  # fmt: skip
        return list(dict.fromkeys([*self.runs("teachers"), *_with_prerequisites(students)]))

    def all_runs(self) -> list[RunSpec]:
        """The runs of every artefact, each once."""
        return list(dict.fromkeys(spec for artefact in ARTEFACTS for spec in self.runs(artefact)))

    def missing(self, runs: Iterable[RunSpec]) -> list[RunSpec]:
        """Those of the runs that the store does not hold."""
        return [spec for spec in runs if self.run(spec) is None]

    def ensure(self, runs: Sequence[RunSpec]) -> None:
        """Make the missing ones of the runs and what they need: teachers, then banks, then students, longest first."""
        missing = self.missing(dict.fromkeys(_with_prerequisites(runs)))
        for spec in missing:  # a batch too large is told before hours of training
            self.loader(spec, self.training_index(spec), shuffled=True)
        engine, parameters = self.parameters.engine, self.parameters.model_dump_json()
        for stage in STAGES:
            here = [spec for spec in missing if spec.role == stage]
            run_jobs(
                make_job, [(parameters, spec) for spec in here], backend=engine.backend, workers=self.workers(),
                threads=engine.threads, description=f"{stage}s", costs=[self.work(spec) for spec in here],
            )  # fmt: skip

    def history(self, runs: Iterable[RunSpec]) -> pd.DataFrame:
        """The training histories of finished runs, one row per run and epoch."""
        tables = [
            self.run(spec).table("history").assign(run=self.key(spec), task=spec.task, architecture=spec.architecture,
                                                   trained_on="full set" if spec.subset is None else "subset")
            for spec in runs
        ]  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    def results(self) -> pd.DataFrame:
        """Every measurement of every finished run of this study, written to results.csv, the one source of numbers."""
        rows = [
            row for spec in self.all_runs() if spec.role != "bank" and self.run(spec) for row in self._measure(spec)
        ]
        if not rows:
            raise InputError(f"no run of profile '{self.parameters.profile}' is finished yet; run: make reproduce")
        frame = pd.concat(rows, ignore_index=True)
        results.write(frame, self.output / "results.csv")
        return results.read(self.output / "results.csv")

    def _measure(self, spec: RunSpec) -> Iterator[pd.DataFrame]:
        """The rows of one run on the test part, for each setting that it stands for."""
        for setting, logits in self._settings_of(spec):
            scores, task = self.run(spec).tensors(logits), self.task(spec.task)
            labels = {part: task.labels[task.split[part]] for part in ("validation", "test")}
            thresholds = None
            if task.multilabel and self.parameters.evaluation.thresholds == "validation":
                thresholds = best_thresholds(scores["validation"], labels["validation"])
            rows = evaluate(
                scores["test"],
                labels["test"],
                multilabel=task.multilabel,
                class_names=task.class_names,
                thresholds=thresholds,
            )
            on_subsets = spec.subset is not None or any(teacher.subset is not None for teacher in spec.teachers)
            yield rows.assign(
                task=spec.task, setting=setting, student=spec.architecture, seed=spec.seed, noise=task.noise_rate,
                overlap=self.parameters.subsets.overlap if on_subsets else float("nan"), attack="", eps=float("nan"), norm="",
                run=self.key(spec),
            )  # fmt: skip

    def _settings_of(self, spec: RunSpec) -> list[tuple[str, str]]:
        """(setting, name of its logits) for a run: a teacher is one, the run of Baseline V and RoS-KD is two."""
        if spec.role == "teacher":
            return [("teacher, full set" if spec.subset is None else "teacher, subset", "logits")]
        return [
            (setting.name, "averaged_logits" if setting.averaged else "logits")
            for setting in SETTINGS if self.student(spec.task, setting.name, spec.seed) == spec
        ]  # fmt: skip

    def departures(self) -> list[tuple[str, str, str]]:
        """(key, Section IV-B, here) wherever the profile departs from params/paper.yaml."""
        rows = departures(self.parameters, params.load("paper"))
        return [(key + ("" if key in STATED else " (not stated in the paper)"), str(a), str(b)) for key, a, b in rows]

    def provenance(self) -> dict:
        """Where the numbers come from: parameters, data, versions and every finished run; no path and no time of writing."""
        parameters = self.parameters.model_dump(exclude={"engine": True, "data": {"root"}})
        data = {
            name: {"images": len(task.images), "groups": len(task.groups.unique()), "noise_rate": round(task.noise_rate, 4),
                   "fingerprint": task.fingerprint, "source": task.card.get("source"), "raw": task.card.get("raw")}
            for name, task in self.tasks().items()
        }  # fmt: skip
        runs = {run.key: run.about()["record"] for spec in self.all_runs() if (run := self.run(spec))}
        return {
            "profile": self.parameters.profile,
            "parameters": parameters,
            "data": data,
            "versions": versions(),
            "runs": runs,
        }

    def status(self) -> pd.DataFrame:
        """Each run with its artefacts: done or missing, seconds it took or should take on one worker."""
        needed = {artefact: set(_with_prerequisites(self.runs(artefact))) for artefact in ARTEFACTS}
        rows = [
            {"artefacts": " ".join(a for a in ARTEFACTS if spec in needed[a]), "role": spec.role, "run": str(spec),
             "key": self.key(spec), "done": (run := self.run(spec)) is not None,
             "seconds": run.about()["record"]["seconds"] if run else float("nan"), "work": self.work(spec)}
            for spec in self.all_runs()
        ]  # fmt: skip
        frame = pd.DataFrame(rows)
        rate = self._seconds_per_work(frame)
        return frame.assign(seconds=frame["seconds"].fillna(frame["work"] * rate).round(1)).drop(columns="work")

    def _seconds_per_work(self, frame: pd.DataFrame) -> float:
        """From finished training runs, or else from a few steps of a ResNet-18 timed now."""
        done = frame[frame["done"] & (frame["role"] != "bank")]
        if len(done):
            return float(done["seconds"].sum() / done["work"].sum())
        if frame["done"].all():
            return float("nan")
        spec = RunSpec("student", self.parameters.tasks[0], "resnet18", 0)
        model = models.create("resnet18", self.task(spec.task).n_classes, seed=0).to(self.device)
        loader = self.loader(spec, self.training_index(spec)[: 4 * self.parameters.training.batch_size], shuffled=True)
        options = {"epochs": 1, "learning_rate": 1e-4, "progress": False}
        threads = torch.get_num_threads()
        torch.set_num_threads(self.parameters.engine.threads)
        training.fit(model, loader, supervised_loss, **options)  # the first steps pay for allocation
        start = time.perf_counter()
        training.fit(model, loader, supervised_loss, **options)
        torch.set_num_threads(threads)
        return (time.perf_counter() - start) / (len(loader) * loader.batch_size)


def _with_prerequisites(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs and what they need before them: a student its teachers' banks, a bank its teacher."""
    ordered: list[RunSpec] = []
    for spec in runs:
        needed = map(bank_of, spec.teachers) if spec.role == "student" else spec.teachers
        ordered += [*_with_prerequisites(needed), spec]
    return list(dict.fromkeys(ordered))
