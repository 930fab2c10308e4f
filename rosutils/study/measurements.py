"""From finished runs to rows of results.csv: scores of students and teachers, attacks, surfaces, agreement with labels."""

import math
from collections.abc import Iterator

import pandas as pd

from rosutils.chance import base_rate_margin, skill_margin
from rosutils.landscape import basin_area
from rosutils.metrics import agreement, evaluate
from rosutils.settings import NOISE_SETTINGS, TEACHERS
from rosutils.study.experiment import RunSpec, logits_of, settings_of, thresholds_of


NOTHING = {"attack": "", "eps": math.nan, "norm": "", "class": "", "average": ""}


def rows_of(study, spec: RunSpec) -> Iterator[pd.DataFrame]:
    """The rows of one finished run, with every column of the results."""
    measure = {
        "teacher": _scores, "student": _scores, "pixels": _scores, "attack": _attacked, "curve": _attacked,
        "surface": _surface, "curvature": _curvature, "agreement": _agreement, "bank": _agreement, "chance": _chance,
    }  # fmt: skip
    trained = spec.of or (spec.teachers[0] if spec.role == "bank" else spec)
    known = {"task": spec.task, "student": study.name_of(trained), "replicate": spec.replicate, "run": study.key(spec)}
    known |= {"variant": spec.variant.kind, "variant_value": spec.variant.value, **NOTHING}
    for rows in measure[spec.role](study.at(spec), spec) if spec.role in measure else ():
        yield rows.assign(**{name: value for name, value in known.items() if name not in rows.columns})


def _chance(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    """What no skill scores, and the measured share of changed labels, which has no setting."""
    table = there.run(spec).table("chance")
    texts = {name: table[name].astype(object).where(table[name].notna(), "") for name in ("class", "average", "attack")}
    yield table.assign(student="", **texts)
    rate = there.task(spec.task).noise_rate
    yield pd.DataFrame({"setting": [""], "student": "", "metric": "noise_rate", "value": rate})


def _scores(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    task = there.task(spec.task)
    for setting, state in settings_of(spec):
        logits = logits_of(there, spec, state)
        scored = {"validation_margin": base_rate_margin, "validation_skill": skill_margin}
        margins = {name: margin(task, logits["validation"]) for name, margin in scored.items()}
        yield pd.DataFrame({"metric": list(margins), "value": list(margins.values())}).assign(setting=setting)
        if spec.role == "teacher" and spec.variant.kind:
            continue  # of a sweep's teachers it is enough to know that they have skill
        how = {"class_names": task.class_names, "thresholds": thresholds_of(there, spec, state)}
        labels = task.labels[task.split["test"]]
        yield evaluate(logits["test"], labels, multilabel=task.multilabel, **how).assign(setting=setting)


def _attacked(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    """Before and after each attack, on the same images; before is an attack of radius 0, whatever attack and norm."""
    task = there.task(spec.task)
    labels = task.labels[there.sample(spec.task, there.parameters.attacks.examples)]
    how = {"multilabel": task.multilabel, "class_names": task.class_names, "per_class": False}
    how["thresholds"] = thresholds_of(there, spec.of, spec.state)
    found = {name: evaluate(logits, labels, **how) for name, logits in there.run(spec).tensors("logits").items()}
    before = found.pop("before")
    for setting, _ in settings_of(spec):
        for name, after in found.items():
            attack, norm, eps = name.split()
            yield before.assign(setting=setting, attack=attack, norm=norm, eps=0.0)
            yield after.assign(setting=setting, attack=attack, norm=norm, eps=float(eps))


def _surface(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    loss = there.run(spec).tensors("surface")["loss"].numpy()
    areas = [("basin_area", f"{level:g}", basin_area(loss, level)) for level in there.parameters.landscape.levels]
    rows = pd.DataFrame(areas, columns=["metric", "average", "value"]).assign(**{"class": f"directions {spec.seed}"})
    yield from _of_landscape(rows, spec)


def _curvature(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    table = there.run(spec).table("curvature")
    radii = ["" if math.isnan(radius) else f"{radius:g}" for radius in table["average"]]  # a csv gives numbers back
    yield from _of_landscape(table.assign(average=radii), spec)


def _of_landscape(rows: pd.DataFrame, spec: RunSpec) -> Iterator[pd.DataFrame]:
    value = "BatchNorm as copied" if spec.state.endswith("as copied") else ""
    for setting, _ in settings_of(spec):
        yield rows.assign(setting=setting, variant="landscape", variant_value=value)


def _agreement(there, spec: RunSpec) -> Iterator[pd.DataFrame]:
    """How much predictions on the training part agree with the clean and with the given labels.

    They are a student's or, in the noise study, a teacher's by the mean of its logits over the views that its bank holds.
    """
    teacher = None if spec.of else spec.teachers[0]
    trained, about, file = (teacher, teacher, "mean") if teacher else (spec.of, spec, "logits")
    logits, task = there.run(spec).tensors(file)["train"], there.task(spec.task)
    clean, given = (labels[task.split["train"]] for labels in (task.clean_labels, task.labels))
    how = {"multilabel": task.multilabel, "thresholds": thresholds_of(there, trained, spec.state)}
    for setting, _ in settings_of(about):
        if setting in (*NOISE_SETTINGS, *TEACHERS):
            yield agreement(logits, clean, given, **how).assign(setting=setting)
