"""From finished runs to rows of results.csv: scores of students and teachers, attacks, surfaces, agreement with labels."""

import math
from collections.abc import Iterable, Iterator

import pandas as pd
from torch import Tensor

from rosutils.chance import base_rate_margin, skill_margin
from rosutils.landscape import basin_area
from rosutils.metrics import agreement, evaluate
from rosutils.settings import NOISE_SETTINGS, TEACHERS
from rosutils.study.experiment import Experiment, RunSpec, labels_of, logits_of, thresholds_of
from rosutils.study.variants import LABEL_NOISE


NAN = float("nan")


def rows_of(there: Experiment, spec: RunSpec, settings: Iterable[tuple[str, str]]) -> Iterator[pd.DataFrame]:
    """The rows of one finished run; `settings` are (setting, state of the weights) that the run or its student stands for.

    `there` is the experiment with the parameters that the run was made under.
    """
    measure = {
        "teacher": _scores, "student": _scores, "attack": _attacked, "curve": _attacked, "surface": _surface,
        "curvature": _curvature, "agreement": _agreement, "bank": _teacher_agreement, "chance": _chance, "pixels": _scores,
        "checks": _nothing, "path": _nothing,
    }[spec.role]  # fmt: skip
    for rows in measure(there, spec, settings):
        yield _complete(there, spec, rows)


def _complete(there: Experiment, spec: RunSpec, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every column of the results that the measurement itself does not decide."""
    trained = spec.of or (spec.teachers[0] if spec.role == "bank" else spec)
    known = {
        "task": spec.task, "student": there.name_of(trained), "variant": spec.variant.kind,
        "variant_value": spec.variant.value, "replicate": spec.replicate,
        "attack": "", "eps": NAN, "norm": "", "class": "", "average": "", "run": there.key(spec),
    }  # fmt: skip
    return rows.assign(**{name: value for name, value in known.items() if name not in rows.columns})


def _nothing(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    yield from ()


def _chance(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    table = there.run(spec).table("chance")
    texts = {name: table[name].astype(object).where(table[name].notna(), "") for name in ("class", "average", "attack")}
    yield table.assign(student="", **texts)
    yield pd.DataFrame({"metric": ["noise_rate"], "value": [there.task(spec.task).noise_rate]}).assign(
        setting="", student=""
    )


def _scores(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    for setting, state in settings:
        yield _margins(there, spec, state).assign(setting=setting)
        if (
            spec.role == "teacher" and spec.variant.kind
        ):  # of a sweep's teachers it is enough to know that they have skill
            continue
        logits, labels = logits_of(there, spec, state)["test"], labels_of(there, spec.task, "test")
        options = {"class_names": there.task(spec.task).class_names, "thresholds": thresholds_of(there, spec, state)}
        yield evaluate(logits, labels, multilabel=there.task(spec.task).multilabel, **options).assign(setting=setting)


def _margins(there: Experiment, spec: RunSpec, state: str) -> pd.DataFrame:
    task, logits = there.task(spec.task), logits_of(there, spec, state)["validation"]
    margins = {"validation_margin": base_rate_margin(task, logits), "validation_skill": skill_margin(task, logits)}
    return pd.DataFrame({"metric": list(margins), "value": list(margins.values())})


def _attacked(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    """Before and after each attack, on the same images; before is an attack of radius 0, whatever attack and norm."""
    section, task = there.parameters.attacks, there.task(spec.task)
    labels = task.labels[there.sample(spec.task, section.examples)]
    options = {"multilabel": task.multilabel, "class_names": task.class_names, "per_class": False}
    options["thresholds"] = thresholds_of(there, spec.of, spec.state)
    found = {name: evaluate(logits, labels, **options) for name, logits in there.run(spec).tensors("logits").items()}
    before = found.pop("before")
    for (setting, _), (name, after) in ((s, pair) for s in settings for pair in found.items()):
        attack, norm, eps = name.split()
        for rows, radius in ((before, 0.0), (after, float(eps))):
            yield rows.assign(setting=setting, attack=attack, norm=norm, eps=radius)


def _surface(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    loss = there.run(spec).tensors("surface")["loss"].numpy()
    levels = there.parameters.landscape.levels
    areas = [("basin_area", f"{level:g}", basin_area(loss, level)) for level in levels]
    rows = pd.DataFrame(areas, columns=["metric", "average", "value"]).assign(**{"class": f"directions {spec.seed}"})
    for setting, _ in settings:
        yield rows.assign(setting=setting, **_landscape(spec))


def _curvature(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    table = there.run(spec).table("curvature")
    radii = ["" if math.isnan(radius) else f"{radius:g}" for radius in table["average"]]  # a csv gives numbers back
    for setting, _ in settings:
        yield table.assign(average=radii, setting=setting, **_landscape(spec))


def _landscape(spec: RunSpec) -> dict[str, str]:
    return {"variant": "landscape", "variant_value": "BatchNorm as copied" if spec.state.endswith("as copied") else ""}


def _agreement(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    """How much a student's predictions on its training part agree with the clean and with the given labels."""
    logits = there.run(spec).tensors("logits")["train"]
    for setting, _ in settings:
        if setting in NOISE_SETTINGS:
            yield _agreeing(there, spec.task, logits, thresholds_of(there, spec.of, spec.state)).assign(setting=setting)


def _teacher_agreement(there: Experiment, spec: RunSpec, settings) -> Iterator[pd.DataFrame]:
    """The same of a teacher, by the mean of its logits over the views that its bank holds; in the noise study only."""
    teacher = spec.teachers[0]
    if spec.variant.kind in LABEL_NOISE:
        logits = there.run(spec).tensors("logits")["train"].mean(dim=0)
        rows = _agreeing(there, spec.task, logits, thresholds_of(there, teacher, "weights"))
        yield rows.assign(setting=TEACHERS[teacher.subset is not None])


def _agreeing(there: Experiment, name: str, logits: Tensor, thresholds: Tensor | None) -> pd.DataFrame:
    task = there.task(name)
    train = task.split["train"]
    return agreement(
        logits, task.clean_labels[train], task.labels[train], multilabel=task.multilabel, thresholds=thresholds
    )
