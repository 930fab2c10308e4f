"""Which runs each table and figure of the paper needs, and which the studies beyond it."""

from collections.abc import Iterable

from rosutils.experiment import RunSpec, bank_of
from rosutils.params.sections import Architecture
from rosutils.results import SETTINGS
from rosutils.sweeps import for_multilabel_only


NOISE_SETTINGS = ("Baseline I", "Baseline III", "Baseline V", "RoS-KD")
SAME_TEACHERS = ("Baseline III, subset teachers", "RoS-KD")  # Table II: "exactly same teacher models"
COMPARED = ("Baseline III", "RoS-KD")
TABLE3_STUDENT = "densenet121"


def teachers(study) -> list[RunSpec]:
    """Section IV-B: the teachers of the full set and of the subsets."""
    return [t for task in study.parameters.tasks for pool in ("full", "subset") for t in study.teachers(task, pool)]


def table1(study) -> list[RunSpec]:
    """Table I: every setting and seed."""
    return teachers(study) + _students(study, SETTINGS)


def table2(study) -> list[RunSpec]:
    """Table II: the two settings it attacks; and the curve of F1 against the radius, for every setting of Table I."""
    attacks = [probe_of(study, "attack", *which) for which in _which(study, SAME_TEACHERS)]
    return attacks + [probe_of(study, "curve", *which) for which in _which(study, SETTINGS)]


def table3(study) -> list[RunSpec]:
    """Table III: independent runs of RoS-KD with a DenseNet-121 student, on tasks with several labels per image."""
    there = [variant for name, variant in study.variants.items() if name.startswith("run ")]
    return [spec for variant in there for spec in _students(variant, ["RoS-KD"], [TABLE3_STUDENT])]


def fig2(study) -> list[RunSpec]:
    """Fig. 2: five students under Baseline III and RoS-KD."""
    return _students(study.variants["students"], COMPARED, Architecture.__args__)


def fig3(study) -> list[RunSpec]:
    """Fig. 3: RoS-KD with teachers retrained at each overlap ratio, and Baseline III."""
    ratios = {name: variant for name, variant in study.variants.items() if name.startswith("overlap ")}
    here = ratios[f"overlap {study.variants['students'].parameters.subsets.overlap:g}"]
    return [spec for there in ratios.values() for spec in _students(there, ["RoS-KD"])] + _students(
        here, ["Baseline III"]
    )


def fig4(study) -> list[RunSpec]:
    """Fig. 4: surfaces around Baseline III and RoS-KD of the first seed, and their numbers."""
    found = []
    for task in study.parameters.tasks:
        for setting in COMPARED:
            spec, state = study.student(task, setting, study.parameters.seeds.students[0]), _state(setting)
            directions = study.parameters.landscape.directions
            found += [_probe("surface", spec, state, seed) for seed in directions]
            found.append(_probe("curvature", spec, state, 0))
            if setting == "RoS-KD":
                copied = "averaged, BatchNorm as copied"
                found += [_probe("surface", spec, copied, seed) for seed in directions]
                found.append(_probe("curvature", spec, copied, 0))
    return found


def noise(study) -> list[RunSpec]:
    """The premise tested: four settings at each kind and rate of label noise, and their agreement with the labels."""
    found = []
    for kind, rates in study.parameters.sweeps.noise.items():
        for rate in rates:
            there = study.variants[f"{kind} {rate:g}"]
            found += _students(there, NOISE_SETTINGS)
            found += [probe_of(there, "agreement", *which) for which in _which(there, NOISE_SETTINGS)]
    return found


def readings(study) -> list[RunSpec]:
    """RoS-KD under each open reading of the paper, one at a time."""
    there = [variant for name, variant in study.variants.items() if name.startswith("reading: ")]
    return [spec for variant in there for spec in _students(variant, ["RoS-KD"])]


ARTEFACTS = {
    "teachers": teachers, "table1": table1, "table2": table2, "table3": table3, "fig2": fig2, "fig3": fig3, "fig4": fig4,
    "noise": noise, "readings": readings,
}  # fmt: skip


def probe_of(study, role: str, task: str, setting: str, seed: int) -> RunSpec:
    """A probe of a setting's student: of its averaged weights for RoS-KD, of its last ones otherwise."""
    return _probe(role, study.student(task, setting, seed), _state(setting), seed)


def with_prerequisites(runs: Iterable[RunSpec]) -> list[RunSpec]:
    """The runs and what they need before them: a probe its student, a student its teachers' banks, a bank its teacher."""
    ordered: list[RunSpec] = []
    for spec in runs:
        ordered += [*with_prerequisites(needed_by(spec)), spec]
    return list(dict.fromkeys(ordered))


def needed_by(spec: RunSpec) -> list[RunSpec]:
    """The runs that one is made from: a probe from its student, a student from banks, a bank from its teacher."""
    if spec.of is not None:
        return [spec.of]
    return [bank_of(teacher) for teacher in spec.teachers] if spec.role == "student" else list(spec.teachers)


def _state(setting: str) -> str:
    return "averaged" if setting == "RoS-KD" else "weights"


def _probe(role: str, spec: RunSpec, state: str, seed: int) -> RunSpec:
    return RunSpec(role, spec.task, spec.architecture, seed, variant=spec.variant, of=spec, state=state)


def _which(study, settings: Iterable[str]) -> list[tuple[str, str, int]]:
    seeds = study.parameters.seeds.students
    return [(task, setting, seed) for task in study.parameters.tasks for seed in seeds for setting in settings]


def _students(study, settings: Iterable[str], architectures: Iterable[str | None] = (None,)) -> list[RunSpec]:
    """The students of a study's settings, architectures and seeds, on the tasks that its variant is for."""
    several, sources = for_multilabel_only(study.name), study.parameters.data.sources
    return [
        study.student(task, setting, seed, architecture)
        for task, setting, seed in _which(study, settings) if sources[task].multilabel or not several
        for architecture in architectures
    ]  # fmt: skip
