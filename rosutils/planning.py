"""What a profile will take, before it is run: runs, what tables and figures share of them, time, memory, disk."""

import heapq
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rosutils import InputError, costs, notebooks
from rosutils.artefacts import ARTEFACTS
from rosutils.calibration import calibrate
from rosutils.costs import Sizes
from rosutils.dryrun import KNOWN, Unopened
from rosutils.experiment import RunSpec
from rosutils.study import STAGES, Study


MEDMNIST = {"dermamnist": (10_015, 3), "chestmnist": (112_120, 1)}
# What is beside the runs, in units of the seconds that the imports of a notebook take: those of a whole notebook, and those
# that results.csv takes for a run.
NOTEBOOK, MEASURED = 4.5, 0.004
IMPORTS = "import matplotlib.pyplot, rosutils.inspection, rosutils.figures, rosutils.report"
STAGE = {role: "probes" if len(roles) > 1 else f"{role}s" for roles in STAGES for role in roles}


class Plan(NamedTuple):
    """What is expected of a profile: its runs, one a row, and what they are computed on."""

    about: dict[str, Any]
    runs: pd.DataFrame

    def seconds(self) -> dict[str, float]:
        """Seconds that each stage of what is missing takes, the longest of its runs first on the next free worker."""
        missing, about = self.runs[~self.runs["done"]], self.about
        found = {"start": 2 * about["keys"] + (about["start"] if len(missing) else 0.0)}
        for name in dict.fromkeys(STAGE.values()):
            found[name] = makespan(missing.loc[missing["stage"] == name, "seconds"].tolist(), about["workers"])
        found["results"] = about["imports"] * MEASURED * len(self.runs)
        rounds = math.ceil((about["notebooks"] - 1) / _notebooks_at_once()) + 1
        return found | {"notebooks": rounds * NOTEBOOK * about["imports"]}


def load(profile: str | Path, **sections: Any) -> Study:
    """The study to plan: opened where its images are at hand or drawn, else with as many as are known to exist."""
    study = Study.load(profile, **sections)
    sources = [study.parameters.data.sources[task].source for task in study.parameters.tasks]
    at_hand = study.root is not None or set(sources) == {"synthetic"}
    return study if at_hand else Unopened.load(profile, **sections)


def workers(study: Study, workers: int | None = None, gpus: int | None = None) -> int:
    """How many runs are made at once: as told, by GPUs, or as `engine` says; raises InputError for both or too few."""
    if workers and gpus:
        raise InputError("--workers and --gpus say the same thing in two ways; give one of them")
    each = study.parameters.engine.gpus_per_run
    if gpus and (each == 0 or gpus < each):
        raise InputError(f"--gpus is {gpus}, but engine.gpus_per_run is {each:g}: no run could be made")
    return int(gpus / each) if gpus else workers or study.workers()


def make(study: Study, *, workers: int) -> Plan:
    """The plan of a study on `workers` workers such as this machine has; raises InputError where sizes are unknown."""
    begun = time.perf_counter()
    specs = study.unique(study.all_runs())
    done = {spec for spec in specs if study.of(spec).run(spec) is not None}
    about = {"profile": study.parameters.profile, "workers": workers, "threads": study.parameters.engine.threads,
             "device": str(study.device), "keys": time.perf_counter() - begun}  # fmt: skip
    size = {spec: expected(study, spec) for spec in specs}
    steps = {spec: costs.steps(study.of(spec), spec, size[spec]) for spec in specs}
    wanted = {step for spec in specs if spec not in done for step in steps[spec]}
    rates = calibrate(wanted, workers=_at_once(study, workers), threads=about["threads"], device=study.device)
    about |= {"start": rates.start, "process": rates.process, "imports": _import_seconds()}
    about |= {"images": _cache_bytes(study), "notebooks": len(list(notebooks.FOLDER.glob("[0-9]*.ipynb")))}
    artefacts = artefacts_of(study)
    return Plan(about, pd.DataFrame([
        {"run": str(spec), "stage": STAGE[spec.role], "artefacts": artefacts[study.of(spec).key(spec)], "done": spec in done,
         "seconds": sum(count * rates.seconds.get(step, math.nan) for step, count in steps[spec].items()),
         "disk": costs.disk(study.of(spec), spec, size[spec]), "memory": costs.memory(study.of(spec), spec, size[spec])}
        for spec in specs
    ]))  # fmt: skip


def place(study: Study) -> Path:
    """Where a study's plan is kept."""
    return study.output / "plan.json"


def save(plan: Plan, path: Path) -> None:
    """Keep a plan, so that `status` can compare what becomes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": plan.about, "runs": plan.runs.to_dict("records")}, indent=1))


def read(path: Path) -> Plan | None:
    """The plan that was kept, or None; raises InputError where the file is damaged."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return Plan(content["about"], pd.DataFrame(content["runs"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it, or plan again") from None


def expected(study: Study, spec: RunSpec) -> Sizes:
    """The images of a run: counted where the task is open, else the publisher's number in the parts of the split."""
    there = study.of(spec)
    size = costs.sizes(there, spec)
    if not isinstance(there, Unopened):
        return size
    data = there.parameters.data
    images = min(_known(there, spec.task)[0], data.examples or math.inf)
    parts = [int(images * fraction) for fraction in data.fractions]
    return Sizes(int(parts[0] * size.trained_on / size.train), *parts)


def _known(study: Study, task: str) -> tuple[int, int]:
    """Images and channels of a task that is not open."""
    source = study.parameters.data.sources[task]
    if source.source == "synthetic":
        return source.examples, 3 if source.modality == "dermoscopy" else 1
    known = KNOWN.get(source.source) or MEDMNIST.get(source.dataset or "")
    if known is None:
        raise InputError(
            f"how many images task '{task}' (source {source.source}) has is not known before they are there; give --data FOLDER"
        )
    return known


def _cache_bytes(study: Study) -> int:
    """Bytes of the prepared images of all tasks."""
    if isinstance(study, Unopened):
        sizes = [_known(study, task) for task in study.parameters.tasks]
        return sum(images * channels * study.parameters.data.pixels**2 for images, channels in sizes)
    return sum(task.images.nbytes for task in study.tasks().values())


def _at_once(study: Study, workers: int) -> int:
    """As many processes as will keep this machine busy; a GPU is timed by one, for each run has its own."""
    if study.device.type != "cpu":
        return 1
    return max(1, min(workers, (os.cpu_count() or 1) // study.parameters.engine.threads))


def _notebooks_at_once() -> int:
    """How many notebooks have a core of their own; one more is executed, which fills the time that they wait."""
    return min(notebooks.SIDE_BY_SIDE, os.cpu_count() or 1)


def _import_seconds() -> float:
    """Seconds that a notebook's imports take when as many are made at once as notebooks have a core."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command, cwd, begun = [sys.executable, "-c", IMPORTS], notebooks.FOLDER.parent, time.perf_counter()
    several = [subprocess.Popen(command, cwd=cwd, env={**os.environ, **limits}) for _ in range(_notebooks_at_once())]
    for process in several:
        process.wait()
    return time.perf_counter() - begun


def artefacts_of(study: Study) -> dict[str, str]:
    """The names of the tables and figures that need a run, by its key."""
    needed = {artefact: {study.of(spec).key(spec) for spec in study.runs(artefact)} for artefact in ARTEFACTS}
    keys = dict.fromkeys(key for keys in needed.values() for key in keys)
    return {key: " ".join(artefact for artefact in ARTEFACTS if key in needed[artefact]) for key in keys}


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of several workers is done, if the longest job goes first to whichever is free."""
    free = [0.0] * max(1, workers)
    for job in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def describe(plan: Plan) -> Iterator[str]:
    """A plan for people, a line each."""
    runs, about, seconds = plan.runs, plan.about, plan.seconds()
    yield f"{'needed for':<11}{'runs':>6}{'shared':>8}{'to make':>9}{'work':>12}  (work: seconds of one worker)"
    names = runs["artefacts"].str.split()
    for artefact in ARTEFACTS:
        own = runs[names.map(lambda found, artefact=artefact: artefact in found)]
        yield _line(artefact, own, (own["artefacts"] != artefact).sum())
    yield _line("in all", runs, names.map(len).gt(1).sum())
    yield ""
    yield f"{'stage':<11}{'to make':>8}{'work':>10}{'takes':>10}  on {_workers(about)}"
    for name, taken in seconds.items():
        missing = runs[(runs["stage"] == name) & ~runs["done"]]
        counted = f"{len(missing):>8}{duration(missing['seconds'].sum()):>10}" if name in STAGE.values() else " " * 18
        yield f"{name:<11}{counted}{duration(taken):>10}"
    yield f"{'in all':<29}{duration(sum(seconds.values())):>10}"
    yield ""
    disk, largest = runs.loc[~runs["done"], "disk"].sum(), runs["memory"].max()
    yield f"disk: {size(disk)} for the runs to make, {size(about['images'])} for prepared images"
    yield f"memory: {size(about['process'] + largest)} for the largest run, {size(about['process'])} of it for its process"


def _line(name: str, runs: pd.DataFrame, shared: int) -> str:
    missing = runs[~runs["done"]]
    work = duration(missing["seconds"].sum())
    return f"{name:<11}{len(runs):>6}{shared:>8}{len(missing):>9}{work:>12}"


def _workers(about: dict[str, Any]) -> str:
    threads = "" if about["device"] != "cpu" else f" of {about['threads']} thread" + "s" * (about["threads"] > 1)
    return f"{about['workers']} worker{'s' * (about['workers'] > 1)}{threads}, each as fast as {about['device']} here"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if not seconds >= 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86_400:,.0f} days"


def size(count: float) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
