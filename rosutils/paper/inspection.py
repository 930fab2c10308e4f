"""What notebooks and report show of a study: its tables, surfaces, paths, attack checks, intervals over test groups."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rosutils import InputError, intervals, tables
from rosutils.settings import PRINTED_AVERAGE, ROWS
from rosutils.study.experiment import logits_of, thresholds_of
from rosutils.study.needs import COMPARED, SAME_TEACHERS, fig4
from rosutils.study.probes import CHECKED_IMAGES


_CHANCE = "The last rows have no skill: the best constant answer on the same test images, random scores, what 2.5 % of these reach"
NO_SKILL = {"table1": f"Logistic regression reads the pixels without a network. {_CHANCE}", "teachers": _CHANCE}


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
    """Fig. 4's surfaces of a task, first replicate: {"setting", "seed" of the directions, "grid" [G], "loss" [G, G]} for each."""
    settings = {study.for_task(task).student(task, name): name for name in COMPARED}
    specs = [s for s in fig4(study) if s.role == "surface" and s.of in settings and s.state in ("weights", "averaged")]
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


def paths(study, task: str) -> dict[str, np.ndarray]:
    """The loss on the straight line from Baseline III to RoS-KD, for each replicate."""
    specs = [spec for spec in fig4(study) if spec.role == "path" and spec.task == task]
    return {f"replicate {s.replicate + 1}": study.run(s).tensors("path")["loss"].numpy() for s in specs}


def attack_checks(study) -> pd.DataFrame:
    """The self-checks of the attacks on both models of Table II, for each task and norm: task, setting, norm, check, ..."""
    specs = [spec for spec in study.runs("table2") if spec.role == "checks"]
    tasks = study.parameters.tasks
    settings = {study.for_task(task).student(task, name): name for task in tasks for name in SAME_TEACHERS}
    tables = [study.run(s).table("checks").assign(task=s.task, setting=settings[s.of]) for s in specs]
    return pd.concat(tables, ignore_index=True)[["task", "setting", "norm", "check", "passed", "detail"]]


def group_intervals(study, *, resamples: int = 1000) -> dict[tuple[str, str], tuple[float, float]]:
    """(task, baseline) -> the 95 % interval of RoS-KD's F1 minus the baseline's over resampled test lesions or patients."""
    found = {}
    for name in study.parameters.tasks:
        several = study.task(name).multilabel
        options = {"metric": "f1", "average": PRINTED_AVERAGE[several], "multilabel": several, "resamples": resamples}
        ours = _scores(study, name, "RoS-KD")
        for baseline in ROWS[:-1]:
            generator = torch.Generator().manual_seed(study.parameters.seeds.data)
            interval = intervals.difference_interval(
                ours, _scores(study, name, baseline), generator=generator, **options
            )
            found[name, baseline] = (interval.low, interval.high)
    return found


def _scores(study, task: str, setting: str) -> list[intervals.Scored]:
    """What a setting says of each replicate's test part, with the groups of that part."""
    state, found = "averaged" if setting == "RoS-KD" else "weights", []
    for there in study.for_task(task).replicates:
        spec, index = there.student(task, setting), there.task(task).split["test"]
        logits, thresholds = logits_of(there, spec, state)["test"], thresholds_of(there, spec, state)
        found.append(
            intervals.Scored(logits, there.task(task).labels[index], there.task(task).groups[index], thresholds)
        )
    return found


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
        if runs and not study.missing(runs):
            yield table(study, name)


def _frame(study, name: str) -> pd.DataFrame:
    results, about, section = study.results(), study.about_tasks(), study.parameters
    make = {
        "table1": lambda: tables.table1(results, tasks=about, student=section.distillation.student),
        "comparisons": lambda: tables.comparisons(results, tasks=about, intervals=group_intervals(study)),
        "table2": lambda: tables.table2(results, tasks=about, norms=section.attacks.norms, eps=section.attacks.eps),
        "table3": lambda: tables.table3(results, task=next(task for task in about if about[task]["multilabel"])),
        "landscape": lambda: tables.landscape_table(results, tasks=about, radius=section.landscape.sharpness_radius),
        "teachers": lambda: tables.teachers_table(results, tasks=about),
        "self_checks": lambda: attack_checks(study),
    }
    return make[name]()


def _caption(study, name: str, title: str, frame: pd.DataFrame) -> str:
    mark, about = study.watermark(), study.about_tasks()
    particular = {
        "comparisons": tables.comparisons_caption, "landscape": tables.landscape_caption,
        "table2": partial(tables.table2_caption, eps=study.parameters.attacks.eps),
    }  # fmt: skip
    if name in particular:
        return particular[name](frame, tasks=about, watermark=mark)
    if name == "table3":
        return tables.table3_caption(frame, watermark=mark)
    if name == "self_checks":
        return f"On {CHECKED_IMAGES} test images at most, first replicate. {mark}"
    what = f"{title}. {NO_SKILL[name]}" if name in NO_SKILL else title
    return tables.caption(what, frame, tasks=about, watermark=mark)
