"""From parameters to the runs that each table and figure needs; the settings of Table I as four knobs."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pandas as pd
from tqdm.auto import tqdm

from rosutils import InputError, costs, params, results, sweeps
from rosutils.artefacts import ARTEFACTS, needed_by, with_prerequisites
from rosutils.data import Task
from rosutils.engine import Place, Transfer, run_jobs
from rosutils.experiment import FORMAT, Experiment, RunSpec
from rosutils.measurements import LABEL_NOISE, is_current, mark_current, rows_of
from rosutils.params import ROOT, Parameters
from rosutils.readings import STATED, departures
from rosutils.runs import Files, make_from, make_job, versions
from rosutils.store import digest
from rosutils.verification import checksums


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
STAGES = (("teacher",), ("bank",), ("student",), ("attack", "curve", "surface", "curvature", "agreement"))


class Study(Experiment):
    """An experiment and its artefacts: which runs they need, which are missing, and the results of those that exist."""

    def __init__(self, parameters: Parameters, name: str = "", opened: dict | None = None) -> None:
        """`name` is the variant that the parameters are: "" for a profile's own."""
        super().__init__(parameters, opened)
        self.name = name

    @classmethod
    def load(cls, profile: str | Path, **overrides: Any) -> "Study":
        """The study of a profile (a name or a YAML file), with sections laid over it; raises InputError for wrong input."""
        study = cls(params.load(profile, **overrides))
        assert study.variants  # a sweep that is out of range is told before anything is trained
        return study

    @cached_property
    def variants(self) -> dict[str, "Study"]:
        """The studies of the sweeps by name: the same data under other parameters."""
        return {name: Study(there, name, self._opened) for name, there in sweeps.variants(self.parameters).items()}

    def of(self, spec: RunSpec) -> "Study":
        """The study with the parameters that a run is made under."""
        return self if spec.variant == self.name else self.variants[spec.variant]

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
        return max(1, joblib.cpu_count() // engine.threads) if engine.workers == "auto" else engine.workers

    def watermark(self) -> str:
        """What every artefact says on its face: profile, data, pixels, epochs, and whether the paper's numbers compare."""
        p, data = self.parameters, self.parameters.data
        sources = " and ".join(dict.fromkeys(data.sources[name].source for name in p.tasks))
        kind = f"{sources} images" + (f", about {data.examples:,} a task" if data.examples else "")
        text = f"profile {p.profile} · {kind} · {data.pixels} px · {p.training.epochs} epochs"
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
            RunSpec(
                "teacher", task, architecture, first + number, subset=number if pool == "subset" else None,
                variant=self.name,
            )
            for number, architecture in enumerate(self.parameters.teachers.architectures)
        )  # fmt: skip

    def student(self, task: str, setting: str, seed: int, architecture: str | None = None) -> RunSpec:
        """The student of a row of Table I, or one of another architecture; Baseline V and RoS-KD are the same run."""
        knobs = next(knobs for knobs in SETTINGS if knobs.name == setting)
        section = self.parameters.distillation
        pool = section.reinforced.teacher_pool if knobs.weighting == "reinforced" else knobs.pool
        teachers = {"none": (), "all": self.teachers(task, pool)}.get(
            knobs.teachers, tuple(t for t in self.teachers(task, pool) if t.architecture == section.single_teacher)[:1]
        )
        return RunSpec(
            "student", task, architecture or section.student, seed, weighting=knobs.weighting, teachers=teachers,
            variant=self.name,
        )  # fmt: skip

    def runs(self, artefact: str) -> list[RunSpec]:
        """The runs an artefact needs, prerequisites first, each once."""
        if artefact not in ARTEFACTS:
            raise InputError(f"artefact '{artefact}' is unknown; allowed: {', '.join(ARTEFACTS)}")
        return with_prerequisites(ARTEFACTS[artefact](self))

    def all_runs(self) -> list[RunSpec]:
        """The runs of every artefact; those that two variants share are named once for each."""
        return list(dict.fromkeys(spec for artefact in ARTEFACTS for spec in self.runs(artefact)))

    def unique(self, runs: Iterable[RunSpec]) -> list[RunSpec]:
        """The runs with every key once, in their order."""
        return list({self.of(spec).key(spec): spec for spec in reversed(list(runs))}.values())[::-1]

    def missing(self, runs: Iterable[RunSpec]) -> list[RunSpec]:
        """Those of the runs that the store does not hold, each once."""
        return [spec for spec in self.unique(runs) if self.of(spec).run(spec) is None]

    def check_batches(self, runs: Iterable[RunSpec]) -> None:
        """Raises InputError where a batch is larger than what a run is trained on: before hours of training, not after."""
        for spec in runs:
            if spec.role in ("teacher", "student"):
                self.of(spec).loader(spec, self.of(spec).training_index(spec), shuffled=True)

    def ensure(self, runs: Sequence[RunSpec]) -> None:
        """Make the missing ones of the runs and what they need: teachers, banks, students, probes; longest first."""
        missing = self.missing(with_prerequisites(runs))
        self.check_batches(missing)
        engine = self.parameters.engine
        place = Place(engine.address, 0 if engine.device == "cpu" else engine.gpus_per_run, engine.retries)
        transfer = (
            None if engine.shared_store or engine.backend != "ray" else Transfer(self._inputs, self._files, self._keep)
        )
        for roles in STAGES:
            wanted = [spec for spec in missing if spec.role in roles]
            run_jobs(
                make_from if transfer else make_job, [(self.of(spec).json, spec) for spec in wanted],
                backend=engine.backend, workers=self.workers(), threads=engine.threads, place=place, transfer=transfer,
                costs=[costs.relative(self.of(spec), spec) for spec in wanted],
                description="probes" if len(roles) > 1 else f"{roles[0]}s",
            )  # fmt: skip

    def _inputs(self, job: tuple[str, RunSpec]) -> list[str]:
        return [self.of(spec).key(spec) for spec in needed_by(job[1])]

    def _files(self, key: str) -> Files:
        return self.store.get(key).files()

    def _keep(self, made: tuple[str, Files]) -> None:
        self.store.adopt(*made)

    @cached_property
    def json(self) -> str:
        """The parameters as workers get them."""
        return self.parameters.model_dump_json()

    def history(self, runs: Iterable[RunSpec]) -> pd.DataFrame:
        """The training histories of finished runs, one row per run and epoch."""
        tables = [
            self.run(spec).table("history").assign(run=self.key(spec), task=spec.task, architecture=spec.architecture,
                                                   trained_on="full set" if spec.subset is None else "subset")
            for spec in runs
        ]  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    def results(self) -> pd.DataFrame:
        """Every measurement of every finished run of this study: results.csv, the one source of numbers.

        The file is written anew where runs have come, or where it is not what was written last.
        """
        path, made_from = self.output / "results.csv", self._finished()
        with self.store.lock(f"results-{self.parameters.profile}"):  # one notebook measures, others wait for it
            if not is_current(path, made_from):
                mark_current(results.write(self.measure(), path), made_from)
            return results.read(path)

    def measure(self) -> pd.DataFrame:
        """The same from the runs themselves, whatever results.csv says."""
        runs = tqdm(self._measured(), desc="measuring", leave=False)
        rows = [row for spec in runs for row in rows_of(self.of(spec), spec, self._settings_of(spec))]
        if not rows:
            raise InputError(f"no run of profile '{self.parameters.profile}' is finished yet; run: make reproduce")
        return results.validate(pd.concat(rows, ignore_index=True))

    def _measured(self) -> list[RunSpec]:
        """The finished runs that results are about: teachers of the profile itself, every student and probe, the
        banks of the noise study for what their teachers say of the labels."""
        wanted = [spec for spec in self.all_runs() if spec.role != "teacher" or spec.variant == ""]
        wanted = [spec for spec in wanted if spec.role != "bank" or spec.variant.startswith(LABEL_NOISE)]
        return [spec for spec in wanted if self.of(spec).run(spec) is not None]

    def _finished(self) -> str:
        """A digest of all that decides the results: the finished runs with their variants, and how they are evaluated."""
        runs = [(spec.variant, self.of(spec).key(spec), spec.state) for spec in self._measured()]
        sections = self.parameters.model_dump(include={"evaluation", "landscape"})
        return digest([FORMAT, list(results.COLUMNS), runs, sections])

    def _settings_of(self, spec: RunSpec) -> list[tuple[str, str]]:
        """(setting, state of the weights) for a run: a teacher is one, the run of Baseline V and RoS-KD is two."""
        if spec.role == "teacher":
            return [("teacher, full set" if spec.subset is None else "teacher, subset", "weights")]
        if spec.role == "bank":
            return []
        student, there = spec.of or spec, self.of(spec)
        found = [
            (setting.name, "averaged" if setting.averaged else "weights") for setting in SETTINGS
            if there.student(student.task, setting.name, student.seed, student.architecture) == student
        ]  # fmt: skip
        return found if spec.of is None else [pair for pair in found if spec.state.startswith(pair[1])]

    def departures(self) -> list[tuple[str, str, str]]:
        """(key, Section IV-B, here) wherever the profile departs from params/paper.yaml."""
        rows = departures(self.parameters, params.load("paper"))
        return [(key + ("" if key in STATED else " (not stated in the paper)"), str(a), str(b)) for key, a, b in rows]

    def provenance(self) -> dict:
        """Where the numbers come from: parameters, data, versions and every finished run; no path and no time of writing."""
        parameters = self.parameters.model_dump(exclude={"engine": True, "data": {"root"}})
        data = {
            name: {"images": len(task.images), "groups": len(task.groups.unique()), "noise_rate": round(task.noise_rate, 4),
                   "fingerprint": task.fingerprint, "source": task.card.get("source"), "raw": task.card.get("raw"),
                   "parts": task.card.get("parts")}
            for name, task in self.tasks().items()
        }  # fmt: skip
        found = [run for spec in self.unique(self.all_runs()) if (run := self.of(spec).run(spec))]
        runs = {run.key: run.about() for run in found}
        return {
            "profile": self.parameters.profile,
            "parameters": parameters,
            "data": data,
            "versions": versions(),
            "runs": {key: about["record"] for key, about in runs.items()},
            "recipes": {key: about["recipe"] for key, about in runs.items()},
            "files": checksums(self.figures),
        }
