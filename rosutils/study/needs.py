"""Which runs each table and figure of the paper needs, and which the studies beyond it."""

from collections.abc import Iterable
from dataclasses import replace

from rosutils.params.sections import Architecture
from rosutils.settings import COMPARED, NOISE_SETTINGS, ROWS, SAME_TEACHERS, setting
from rosutils.study.experiment import RunSpec, bank_of
from rosutils.study.variants import AS_CHOSEN, LABEL_NOISE, Variant, about_baseline_iii, for_multilabel_only


TABLE3_STUDENT = "densenet121"


def teachers(study) -> list[RunSpec]:
    """Section IV-B: the teachers of the full set and of the subsets."""
    return chances(study) + [
        teacher
        for there, task in replicates(study) for pool in ("full", "subset") for teacher in there.teachers(task, pool)
    ]  # fmt: skip


def chances(study) -> list[RunSpec]:
    """What no skill scores on each test part."""
    return [there.chance(task) for there, task in replicates(study)]


def replicates(study) -> list[tuple]:
    """(study of the replicate, task) for every task that the study's variant is for, task by task."""
    return [(there, task) for task in tasks_of(study) for there in study.for_task(task).replicates]


def table1(study) -> list[RunSpec]:
    """Table I: every setting and replicate; logistic regression on the pixels beside it."""
    plain = [there.logistic_regression(task) for there, task in replicates(study)]
    return teachers(study) + plain + _students(study, ROWS)


def table2(study) -> list[RunSpec]:
    """Table II: the two settings it attacks, with their self-checks; and F1 against the radius, for every setting of Table I."""
    attacks = [probe_of(there, "attack", *case) for there, *case in _which(study, SAME_TEACHERS)]
    checks = [
        replace(probe_of(there, "checks", task, row), against=there.student(task, "Baseline I"))
        for there, task, row in _which(study, SAME_TEACHERS) if there.replicate == 0
    ]  # fmt: skip
    curves = [probe_of(there, "curve", *case) for there, *case in _which(study, ROWS)]
    return chances(study) + attacks + checks + curves


def table3(study) -> list[RunSpec]:
    """Table III: independent runs of RoS-KD with a DenseNet-121 student, on tasks with several labels per image."""
    found = _variants(study, "table3")
    return [spec for there in found for spec in [*chances(there), *_students(there, ["RoS-KD"], [TABLE3_STUDENT])]]


def fig2(study) -> list[RunSpec]:
    """Fig. 2: five students under Baseline III and RoS-KD."""
    found = _variants(study, "students")
    return [spec for there in found for spec in [*chances(there), *_students(there, COMPARED, Architecture.__args__)]]


def fig3(study) -> list[RunSpec]:
    """Fig. 3: RoS-KD with teachers retrained at each overlap ratio, and Baseline III."""
    found = []
    for there in _variants(study, "overlap"):
        own = there.parameters.subsets.overlap == study.variants[Variant("students")].parameters.subsets.overlap
        found += chances(there) + _students(there, ["RoS-KD", "Baseline III"] if own else ["RoS-KD"])
    return found


def fig4(study) -> list[RunSpec]:
    """Fig. 4: surfaces around Baseline III and RoS-KD of each replicate, their numbers, and the line between the two."""
    found = []
    for there, task, row in _which(study, COMPARED):
        spec, state = there.student(task, row), setting(row).state
        for seen in (state, "averaged, BatchNorm as copied") if setting(row).averaged else (state,):
            found += [_probe("surface", spec, seen, seed) for seed in study.parameters.landscape.directions]
            found.append(_probe("curvature", spec, seen, 0))
        if setting(row).averaged:
            found.append(replace(_probe("path", spec, state, 0), against=there.student(task, "Baseline III")))
    return found


def noise(study) -> list[RunSpec]:
    """The premise tested: four settings at each kind and rate of label noise, and their agreement with the labels."""
    found = []
    for there in _variants(study, *LABEL_NOISE):
        found += chances(there) + _students(there, NOISE_SETTINGS)
        found += [probe_of(each, "agreement", *case) for each, *case in _which(there, NOISE_SETTINGS)]
    return found


def readings(study) -> list[RunSpec]:
    """RoS-KD under each open reading of the paper, one at a time; where Baseline III is read another way, Baseline III."""
    found = []
    for there in _variants(study, "reading"):
        settings = ["Baseline III"] if about_baseline_iii(there.variant) else ["RoS-KD"]
        found += _students(there, [*settings, "Baseline III"] if there.variant == AS_CHOSEN else settings)
    return found


def _variants(study, *kinds: str) -> list:
    """The studies of the variants of some kinds, each for one task: a task may have points of its own."""
    several = study.parameters.data.sources
    return [
        there.only(task)
        for task in study.parameters.tasks for variant, there in study.for_task(task).variants.items()
        if variant.kind in kinds and (several[task].multilabel or not for_multilabel_only(variant))
    ]  # fmt: skip


ARTEFACTS = {
    "teachers": teachers, "table1": table1, "table2": table2, "table3": table3, "fig2": fig2, "fig3": fig3, "fig4": fig4,
    "noise": noise, "readings": readings,
}  # fmt: skip


def tasks_of(study) -> list[str]:
    """The tasks that a study's variant is for."""
    return study.parameters.tasks if study.about is None else [study.about]


def with_prerequisites(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs and what they need before them: a probe its student, a student its teachers' banks, a bank its teacher."""
    ordered: list[RunSpec] = []
    for spec in runs:
        ordered += [*with_prerequisites(needed_by(spec)), spec]
    return list(dict.fromkeys(ordered))


def needed_by(spec: RunSpec) -> list[RunSpec]:
    """The runs that one is made from: a probe from its student, a student from banks, a bank from its teacher."""
    if spec.of is not None:
        return [spec.of, *([spec.against] if spec.against else [])]
    return [bank_of(teacher) for teacher in spec.teachers] if spec.role == "student" else list(spec.teachers)


def _probe(role: str, spec: RunSpec, state: str, seed: int) -> RunSpec:
    where = {"variant": spec.variant, "replicate": spec.replicate}
    return RunSpec(role, spec.task, spec.architecture, seed, of=spec, state=state, **where)


def probe_of(study, role: str, task: str, row: str) -> RunSpec:
    """A probe of a setting's student: of its averaged weights for RoS-KD, of its last ones otherwise."""
    spec = study.student(task, row)
    return _probe(role, spec, setting(row).state, spec.seed)


def _which(study, settings: Iterable[str]) -> list[tuple]:
    """(study of the replicate, task, setting) for each."""
    return [(there, task, row) for there, task in replicates(study) for row in settings]


def _students(study, settings: Iterable[str], architectures: Iterable[str | None] = (None,)) -> list[RunSpec]:
    """The students of a study's settings, architectures and replicates."""
    return [
        there.student(task, row, architecture)
        for there, task, row in _which(study, settings) for architecture in architectures
    ]  # fmt: skip
