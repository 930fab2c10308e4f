"""Which runs each table and figure of the paper needs, and which the studies beyond it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rosutils.params.sections import Architecture
from rosutils.settings import COMPARED, NOISE_SETTINGS, ROWS, SAME_TEACHERS, setting
from rosutils.study.experiment import RunSpec, needed_by
from rosutils.study.variants import AS_CHOSEN, LABEL_NOISE, OF_BASELINE_III, Variant, for_multilabel_only


TABLE3_STUDENT = "densenet121"


def replicates(study) -> Iterator[tuple]:
    """(study of the replicate, task) for every task, task by task."""
    for task in study.parameters.tasks:
        yield from ((there, task) for there in study.for_task(task).replicates)


def points(study, *kinds: str) -> Iterator[tuple]:
    """The same for every variant of some kinds: a task may have points of its own."""
    for task in study.parameters.tasks:
        several = study.parameters.data.sources[task].multilabel
        for variant, there in study.for_task(task).variants.items():
            if variant.kind in kinds and (several or not for_multilabel_only(variant)):
                yield from ((each, task) for each in there.replicates)


def teachers(study) -> Iterator[RunSpec]:
    """Section IV-B: the teachers of the full set and of the subsets, and what no skill scores."""
    for there, task in replicates(study):
        yield from (there.chance(task), *there.teachers(task, "full"), *there.teachers(task, "subset"))


def table1(study) -> Iterator[RunSpec]:
    """Table I: every setting and replicate; logistic regression on the pixels beside it."""
    yield from teachers(study)
    for there, task in replicates(study):
        yield from (there.logistic_regression(task), *(there.student(task, row) for row in ROWS))


def table2(study) -> Iterator[RunSpec]:
    """Table II: the two settings it attacks, with their self-checks; and F1 against the radius, for every setting of Table I."""
    for there, task in replicates(study):
        yield from (there.chance(task), *(probe_of(there, "attack", task, row) for row in SAME_TEACHERS))
        for row in SAME_TEACHERS if there.replicate == 0 else ():
            yield replace(probe_of(there, "checks", task, row), against=there.student(task, "Baseline I"))
        yield from (probe_of(there, "curve", task, row) for row in ROWS)


def table3(study) -> Iterator[RunSpec]:
    """Table III: independent runs of RoS-KD with a DenseNet-121 student, on tasks with several labels per image."""
    for there, task in points(study, "table3"):
        yield from (there.chance(task), there.student(task, "RoS-KD", TABLE3_STUDENT))


def fig2(study) -> Iterator[RunSpec]:
    """Fig. 2: five students under Baseline III and RoS-KD."""
    for there, task in points(study, "students"):
        yield there.chance(task)
        yield from (there.student(task, row, network) for row in COMPARED for network in Architecture.__args__)


def fig3(study) -> Iterator[RunSpec]:
    """Fig. 3: RoS-KD with teachers retrained at each overlap ratio, and Baseline III."""
    own = study.variants[Variant("students")].parameters.subsets.overlap
    for there, task in points(study, "overlap"):
        rows = ["RoS-KD", "Baseline III"] if there.parameters.subsets.overlap == own else ["RoS-KD"]
        yield from (there.chance(task), *(there.student(task, row) for row in rows))


def fig4(study) -> Iterator[RunSpec]:
    """Fig. 4: surfaces around Baseline III and RoS-KD of each replicate, their numbers, and the line between the two."""
    for there, task in replicates(study):
        for row in map(setting, COMPARED):
            for state in (row.state, "averaged, BatchNorm as copied") if row.averaged else (row.state,):
                for seed in study.parameters.landscape.directions:
                    yield probe_of(there, "surface", task, row.name, state=state, seed=seed)
                yield probe_of(there, "curvature", task, row.name, state=state, seed=0)
        yield replace(probe_of(there, "path", task, "RoS-KD", seed=0), against=there.student(task, "Baseline III"))


def noise(study) -> Iterator[RunSpec]:
    """The premise tested: four settings at each kind and rate of label noise, and their agreement with the labels."""
    for there, task in points(study, *LABEL_NOISE):
        yield from (there.chance(task), *(there.student(task, row) for row in NOISE_SETTINGS))
        yield from (probe_of(there, "agreement", task, row) for row in NOISE_SETTINGS)


def readings(study) -> Iterator[RunSpec]:
    """RoS-KD under each open reading of the paper, one at a time; where Baseline III is read another way, Baseline III."""
    for there, task in points(study, "reading"):
        if there.variant != OF_BASELINE_III:
            yield there.student(task, "RoS-KD")
        if there.variant in (OF_BASELINE_III, AS_CHOSEN):
            yield there.student(task, "Baseline III")


ARTEFACTS = {made.__name__: made for made in (teachers, table1, table2, table3, fig2, fig3, fig4, noise, readings)}


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
