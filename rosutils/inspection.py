"""What the notebooks look at beside the results: surfaces, paths, attack checks, intervals over test groups."""

import numpy as np
import pandas as pd
import torch

from rosutils import bootstrap, landscape
from rosutils.artefacts import COMPARED, SAME_TEACHERS, fig4
from rosutils.attacks import classification_loss, self_checks
from rosutils.measurements import logits_of, thresholds_of
from rosutils.probes import probe_loss, test_batch
from rosutils.results import PRINTED_AVERAGE, SETTINGS


CHECKED_IMAGES = 64


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
    """The loss [steps] on the straight line from Baseline III to RoS-KD, for each student seed."""
    batch, found = test_batch(study, task, study.parameters.landscape.examples), {}
    for seed in study.parameters.seeds.students:
        start, end = (
            study.model(study.student(task, name, seed), averaged=name == "RoS-KD") for name in COMPARED
        )  # fmt: skip
        found[f"seed {seed}"] = landscape.path(start, end, batch, probe_loss, steps=steps)
    return found


def attack_checks(study) -> pd.DataFrame:
    """The self-checks of the attacks on both models of Table II, for each task and norm: task, setting, norm, check, ..."""
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
