"""What notebooks and report show of a study: its tables, surfaces, paths, attack checks, intervals over test groups."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rosutils import InputError, attacks, bootstrap, landscape, tables
from rosutils.artefacts import COMPARED, SAME_TEACHERS, fig4
from rosutils.attacks import classification_loss, self_checks
from rosutils.measurements import is_current, logits_of, mark_current, thresholds_of
from rosutils.probes import probe_loss, test_batch
from rosutils.results import PRINTED_AVERAGE, SETTINGS
from rosutils.store import digest


CHECKED_IMAGES = 64


class Exhibit(NamedTuple):
    """A table as it is shown: its file name, title, the notebook that makes it, the frame and the sentence under it."""

    name: str
    title: str
    notebook: str
    frame: pd.DataFrame
    caption: str


# Name -> title, notebook, and the artefact whose runs it needs; in the order of the report.
TABLES = {
    "table1": ("Table I", "04_tables", "table1"),
    "comparisons": ("RoS-KD minus each baseline", "04_tables", "table1"),
    "table2": ("Table II", "06_adversarial", "table2"),
    "table3": ("Table III", "04_tables", "table3"),
    "landscape": ("Numbers beside Fig. 4", "07_loss_landscape", "fig4"),
    "teachers": ("F1 of the teachers on the test part", "02_teachers", "teachers"),
    "self_checks": ("Self-checks of the attacks", "06_adversarial", "table2"),
}


def surfaces(study, task: str) -> list[dict]:
    """Fig. 4's surfaces of a task: {"setting", "seed" of the directions, "grid" [G], "loss" [G, G]} for each."""
    settings = {study.student(task, name, study.parameters.seeds.students[0]): name for name in COMPARED}
    specs = [s for s in fig4(study) if s.role == "surface" and s.task == task and s.state in ("weights", "averaged")]
    found = [(spec, study.run(spec).tensors("surface")) for spec in specs]
    return [
        {
            "setting": settings[spec.of],
            "seed": spec.seed,
            "grid": planes["grid"].numpy(),
            "loss": planes["loss"].numpy(),
        }
        for spec, planes in found
    ]


def paths(study, task: str, *, steps: int = 21) -> dict[str, np.ndarray]:
    """The loss [steps] on the straight line from Baseline III to RoS-KD, for each student seed; kept beside results.csv."""
    seeds, count = study.parameters.seeds.students, study.parameters.landscape.examples
    specs = [study.student(task, name, seed) for seed in seeds for name in COMPARED]
    code = Path(landscape.__file__).with_name("line.py").read_text()

    def make() -> pd.DataFrame:
        batch, models = test_batch(study, task, count), map(partial(_model_of, study), specs)
        ends = zip(models, models, strict=True)
        return pd.DataFrame({
            f"seed {seed}": landscape.path(start, end, batch, probe_loss, steps=steps)
            for seed, (start, end) in zip(seeds, ends, strict=True)
        })  # fmt: skip

    found = _kept(study, f"path_{task}", [_checksums(study, specs), count, steps, code], make)
    return {seed: found[seed].to_numpy() for seed in found}


def _model_of(study, spec):
    """The model of a student of COMPARED in the state that its setting reports."""
    return study.model(spec, averaged=spec.weighting == "exponential")


def _kept(study, name: str, made_from: list, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table beside results.csv, made again where what it is made from is another."""
    path, made_from = study.output / f"{name}.csv", digest(made_from)
    if not is_current(path, made_from):
        path.parent.mkdir(parents=True, exist_ok=True)
        make().to_csv(path, index=False)
        mark_current(path, made_from)
    return pd.read_csv(path, keep_default_na=False)


def _checksums(study, specs: list) -> list:
    """What tells one finished student from another."""
    runs = {spec: study.run(spec) for spec in specs}
    return [run.about()["checksums"] if run else study.key(spec) for spec, run in runs.items()]


def attack_checks(study) -> pd.DataFrame:
    """The self-checks of the attacks on both models of Table II, for each task and norm: task, setting, norm, check, ...

    They are kept beside results.csv and made again where models, images or attacks are others.
    """
    seed, settings = study.parameters.seeds.students[0], ("Baseline I", *SAME_TEACHERS)
    specs = [study.student(task, setting, seed) for task in study.parameters.tasks for setting in settings]
    section, code = study.parameters.attacks.model_dump(), Path(attacks.__file__).read_text()
    made_from = [_checksums(study, specs), section, CHECKED_IMAGES, code]
    return _kept(study, "attack_checks", made_from, lambda: _check_attacks(study))


def _check_attacks(study) -> pd.DataFrame:
    section, seed, tables = study.parameters.attacks, study.parameters.seeds.students[0], []
    count = min(section.examples or CHECKED_IMAGES, CHECKED_IMAGES)
    for task in study.parameters.tasks:
        batch = test_batch(study, task, count)
        surrogate = study.model(study.student(task, "Baseline I", seed))
        for setting in SAME_TEACHERS:
            spec, state = study.student(task, setting, seed), "averaged" if setting == "RoS-KD" else "weights"
            for norm in section.norms:
                rows = self_checks(
                    study.model_in_state(spec, state), batch.images, batch.labels, eps=section.eps, norm=norm, steps=section.steps,
                    step_factor=section.step_factor, surrogate=surrogate, generator=torch.Generator().manual_seed(seed),
                    loss_fn=classification_loss, thresholds=thresholds_of(study, spec, state),
                )  # fmt: skip
                tables.append(rows.assign(task=task, setting=setting, norm=norm))
    return pd.concat(tables, ignore_index=True)[["task", "setting", "norm", "check", "passed", "detail"]]


def group_intervals(study, *, resamples: int = 1000) -> dict[tuple[str, str], tuple[float, float]]:
    """(task, baseline) -> the 95 % interval of RoS-KD's F1 minus the baseline's over resampled test lesions or patients."""
    found = {}
    for name in study.parameters.tasks:
        task = study.task(name)
        test = task.split["test"]
        options = {"metric": "f1", "average": PRINTED_AVERAGE[task.multilabel], "multilabel": task.multilabel}
        ours = _scores(study, name, "RoS-KD")
        for baseline in SETTINGS[:-1]:
            theirs = _scores(study, name, baseline)
            interval = bootstrap.difference_interval(
                ours[0], theirs[0], task.labels[test], task.groups[test], thresholds_a=ours[1], thresholds_b=theirs[1],
                resamples=resamples, generator=torch.Generator().manual_seed(study.parameters.seeds.data), **options,
            )  # fmt: skip
            found[name, baseline] = (interval.low, interval.high)
    return found


def _scores(study, task: str, setting: str) -> tuple[list, list | None]:
    """Logits on the test part for each seed, and the thresholds that go with them."""
    state = "averaged" if setting == "RoS-KD" else "weights"
    specs = [study.student(task, setting, seed) for seed in study.parameters.seeds.students]
    thresholds = [thresholds_of(study, spec, state) for spec in specs]
    logits = [logits_of(study, spec, state)["test"] for spec in specs]
    return logits, None if thresholds[0] is None else thresholds


def table(study, name: str) -> Exhibit:
    """A table of TABLES, made from the study's results; raises InputError for an unknown name."""
    if name not in TABLES:
        raise InputError(f"table {name!r} is unknown; allowed: {', '.join(TABLES)}")
    title, notebook, _ = TABLES[name]
    frame = _frame(study, name)
    return Exhibit(name, title, notebook, frame, _caption(study, name, title, frame))


def finished_tables(study) -> Iterator[Exhibit]:
    """The tables whose runs are all in the store: what the report can show."""
    for name, (_, _, artefact) in TABLES.items():
        runs = study.runs(artefact)
        if runs and not study.missing(runs) and (name != "self_checks" or _checks_file(study).is_file()):
            yield table(study, name)


def _frame(study, name: str) -> pd.DataFrame:
    results, about, section = study.results(), study.about_tasks(), study.parameters
    make = {
        "table1": lambda: tables.table1(results, tasks=about, student=section.distillation.student),
        "comparisons": lambda: tables.comparisons(results, tasks=about, intervals=group_intervals(study)),
        "table2": lambda: tables.table2(results, tasks=about, norms=section.attacks.norms, eps=section.attacks.eps),
        "table3": lambda: tables.table3(results, task=next(task for task in about if about[task]["multilabel"])),
        "landscape": lambda: tables.landscape_table(results, tasks=about),
        "teachers": lambda: tables.teachers_table(results, tasks=about),
        "self_checks": lambda: pd.read_csv(_checks_file(study)),
    }
    return make[name]()


def _caption(study, name: str, title: str, frame: pd.DataFrame) -> str:
    mark, about = study.watermark(), study.about_tasks()
    particular = {
        "comparisons": tables.comparisons_caption, "table2": tables.table2_caption, "landscape": tables.landscape_caption,
    }  # fmt: skip
    if name in particular:
        return particular[name](frame, tasks=about, watermark=mark)
    if name == "table3":
        return tables.table3_caption(frame, watermark=mark)
    if name == "self_checks":
        return f"On {CHECKED_IMAGES} test images at most, first student seed. {mark}"
    return tables.caption(title, frame, tasks=about, watermark=mark)


def _checks_file(study):
    return study.figures / "self_checks.csv"
