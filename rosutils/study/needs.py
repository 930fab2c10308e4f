"""Which runs each table and figure of the paper needs, and which the studies beyond it."""

from collections.abc import Iterable
from dataclasses import replace

from rosutils.params.sections import Architecture
from rosutils.settings import COMPARED, NOISE_SETTINGS, ROWS, SAME_TEACHERS, setting
from rosutils.study.experiment import RunSpec, needed_by
from rosutils.study.variants import AS_CHOSEN, LABEL_NOISE, Variant, about_baseline_iii, for_multilabel_only


TABLE3_STUDENT = "densenet121"


def replicates(study) -> list[tuple]:
    """(study of the replicate, task) for every task, task by task."""
    return [(there, task) for task in study.parameters.tasks for there in study.for_task(task).replicates]


def points(study, *kinds: str) -> list[tuple]:
    """The same for every variant of some kinds: a task may have points of its own."""
    found = []
    for task in study.parameters.tasks:
        several = study.parameters.data.sources[task].multilabel
        for variant, there in study.for_task(task).variants.items():
            if variant.kind in kinds and (several or not for_multilabel_only(variant)):
                found += [(each, task) for each in there.replicates]
    return found


def teachers(study) -> list[RunSpec]:
    """Section IV-B: the teachers of the full set and of the subsets, and what no skill scores."""
    found = []
    for there, task in replicates(study):
        found += [there.chance(task), *there.teachers(task, "full"), *there.teachers(task, "subset")]
    return found


def table1(study) -> list[RunSpec]:
    """Table I: every setting and replicate; logistic regression on the pixels beside it."""
    found = teachers(study)
    for there, task in replicates(study):
        found += [there.logistic_regression(task), *(there.student(task, row) for row in ROWS)]
    return found


def table2(study) -> list[RunSpec]:
    """Table II: the two settings it attacks, with their self-checks; and F1 against the radius, for every setting of Table I."""
    found = []
    for there, task in replicates(study):
        found += [there.chance(task), *(probe_of(there, "attack", task, row) for row in SAME_TEACHERS)]
        checks = [probe_of(there, "checks", task, row) for row in SAME_TEACHERS] if there.replicate == 0 else []
        found += [replace(spec, against=there.student(task, "Baseline I")) for spec in checks]
        found += [probe_of(there, "curve", task, row) for row in ROWS]
    return found


def table3(study) -> list[RunSpec]:
    """Table III: independent runs of RoS-KD with a DenseNet-121 student, on tasks with several labels per image."""
    found = []
    for there, task in points(study, "table3"):
        found += [there.chance(task), there.student(task, "RoS-KD", TABLE3_STUDENT)]
    return found


def fig2(study) -> list[RunSpec]:
    """Fig. 2: five students under Baseline III and RoS-KD."""
    found = []
    for there, task in points(study, "students"):
        found += [there.chance(task), *(there.student(task, row, a) for row in COMPARED for a in Architecture.__args__)]
    return found


def fig3(study) -> list[RunSpec]:
    """Fig. 3: RoS-KD with teachers retrained at each overlap ratio, and Baseline III."""
    own, found = study.variants[Variant("students")].parameters.subsets.overlap, []
    for there, task in points(study, "overlap"):
        rows = ["RoS-KD", "Baseline III"] if there.parameters.subsets.overlap == own else ["RoS-KD"]
        found += [there.chance(task), *(there.student(task, row) for row in rows)]
    return found


def fig4(study) -> list[RunSpec]:
    """Fig. 4: surfaces around Baseline III and RoS-KD of each replicate, their numbers, and the line between the two."""
    found, directions = [], study.parameters.landscape.directions
    for there, task in replicates(study):
        for row in map(setting, COMPARED):
            for state in (row.state, "averaged, BatchNorm as copied") if row.averaged else (row.state,):
                found += [probe_of(there, "surface", task, row.name, state=state, seed=seed) for seed in directions]
                found.append(probe_of(there, "curvature", task, row.name, state=state, seed=0))
        path = probe_of(there, "path", task, "RoS-KD", seed=0)
        found.append(replace(path, against=there.student(task, "Baseline III")))
    return found


def noise(study) -> list[RunSpec]:
    """The premise tested: four settings at each kind and rate of label noise, and their agreement with the labels."""
    found = []
    for there, task in points(study, *LABEL_NOISE):
        found += [there.chance(task), *(there.student(task, row) for row in NOISE_SETTINGS)]
        found += [probe_of(there, "agreement", task, row) for row in NOISE_SETTINGS]
    return found


def readings(study) -> list[RunSpec]:
    """RoS-KD under each open reading of the paper, one at a time; where Baseline III is read another way, Baseline III."""
    found = []
    for there, task in points(study, "reading"):
        rows = ["Baseline III"] if about_baseline_iii(there.variant) else ["RoS-KD"]
        rows += ["Baseline III"] if there.variant == AS_CHOSEN else []
        found += [there.student(task, row) for row in rows]
    return found


ARTEFACTS = {
    function.__name__: function for function in (teachers, table1, table2, table3, fig2, fig3, fig4, noise, readings)
}


def probe_of(there, role: str, task: str, row: str, *, state: str | None = None, seed: int | None = None) -> RunSpec:
    """A probe of a setting's student: of its averaged weights for RoS-KD, of its last ones otherwise."""
    spec = there.student(task, row)
    where = {"variant": spec.variant, "replicate": spec.replicate, "state": state or setting(row).state}
    return RunSpec(role, task, spec.architecture, spec.seed if seed is None else seed, of=spec, **where)


def with_prerequisites(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs and what they need before them, each once: a probe its student, a student its banks, a bank its teacher."""
    ordered: list[RunSpec] = []
    for spec in runs:
        ordered += [*with_prerequisites(needed_by(spec)), spec]
    return list(dict.fromkeys(ordered))
