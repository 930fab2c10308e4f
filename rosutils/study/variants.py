"""Which other parameters the sweeps run under: Fig. 3's overlaps, Table III's runs, label noise, and the open readings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rosutils import InputError
from rosutils.params import Parameters, changed


class Variant(NamedTuple):
    """What is other than in the profile: a kind, and its point as text, such as overlap 0.4; the profile's own is empty."""

    kind: str = ""
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.value}".strip()


OWN = Variant()  # the profile's own parameters
LABEL_NOISE = ("symmetric", "pairflip")
# Every value of what the paper leaves open: label, sections to lay over, and whether it concerns multi-label tasks only.
# A profile's own choices drop out.
READINGS: tuple[tuple[str, Mapping[str, Any], bool], ...] = (
    ("shared core", {"subsets": {"scheme": "shared-core"}}, False),
    ("own-shard", {"subsets": {"scheme": "own-shard"}}, False),
    ("sliding-window", {"subsets": {"scheme": "sliding-window"}}, False),
    ("pairwise", {"subsets": {"scheme": "pairwise"}}, False),
    ("weights normalised", {"distillation": {"weights": {"normalize": True}}}, False),
    ("weights not normalised", {"distillation": {"weights": {"normalize": False}}}, False),
    ("one draw per iteration", {"distillation": {"weights": {"per": "iteration"}}}, False),
    ("one draw per example", {"distillation": {"weights": {"per": "example"}}}, False),
    ("sigmoid per label", {"distillation": {"multilabel": "sigmoid"}}, True),
    ("literal softmax", {"distillation": {"multilabel": "softmax"}}, True),
    ("BatchNorm re-estimated", {"distillation": {"refresh_batchnorm": True}}, False),
    ("BatchNorm as copied", {"distillation": {"refresh_batchnorm": False}}, False),
    ("last epoch", {"training": {"reported": "last"}}, False),
    ("best epoch on validation", {"training": {"reported": "best-validation"}}, False),
    ("Baseline III's mean of logits", {"distillation": {"mean_of": "logits"}}, False),
    ("one threshold from validation", {"evaluation": {"thresholds": "micro"}}, True),
    ("a threshold per label", {"evaluation": {"thresholds": "per-label"}}, True),
    ("threshold 0.5", {"evaluation": {"thresholds": "fixed"}}, True),
)
_DROPPED = "images without findings dropped"
AS_CHOSEN = Variant("reading", "as chosen")
OF_BASELINE_III = Variant("reading", "Baseline III's mean of logits")  # which RoS-KD does not have


def variants(parameters: Parameters) -> dict[Variant, Parameters]:
    """The parameters of every variant, at `sweeps.scale`.

    Raises InputError where a scale or a sweep's point is out of range.
    """
    small = changed(parameters, parameters.sweeps.scale)
    found = {Variant("students"): small}
    for ratio in sorted({*small.sweeps.overlaps, small.subsets.overlap}):
        found["overlap", ratio] = changed(small, {"subsets": {"overlap": ratio}})
    found[Variant("table3")] = changed(small, {"seeds": {"replicates": parameters.sweeps.runs}})
    alone = {"false_negatives": None, "false_positives": None}
    for kind, rates in parameters.sweeps.noise.items():
        found |= {(kind, rate): changed(small, {"noise": {"kind": kind, "rate": rate} | alone}) for rate in rates}
    found[AS_CHOSEN] = small
    found |= {("reading", label): there for label, there in _readings(small).items()}
    named: dict[Variant, Parameters] = {}
    for (kind, value), there in found.items():
        variant = Variant(kind, value if isinstance(value, str) else f"{value:g}")
        if variant in named:
            raise InputError(
                f"sweeps holds two points '{variant}' that six digits do not tell apart ({value!r}); leave one out"
            )
        named[variant] = there
    return named


def replicate(parameters: Parameters, number: int) -> Parameters:
    """The parameters of a repetition: every seed moved by its number, or the student's alone (seeds.vary)."""
    seeds, shift = parameters.seeds, number if parameters.seeds.vary == "all" else 0
    moved = {"data": seeds.data + shift, "teachers": seeds.teachers + shift, "student": seeds.student + number}
    return changed(parameters, {"seeds": moved})


def of_task(parameters: Parameters, task: str) -> Parameters:
    """The parameters of one task's runs, with the sections that `by_task` lays over; raises InputError for what is not allowed."""
    sections = parameters.by_task.get(task, {})
    if wrong := sections.keys() & {"data", "engine", "by_task", "tasks"}:
        raise InputError(f"by_task.{task} holds the section '{min(wrong)}', which is the same for all tasks")
    return changed(parameters, sections).model_copy(update={"by_task": {}})


def for_multilabel_only(variant: Variant) -> bool:
    """Whether a variant is one for tasks with several labels per image: a reading of theirs, or a run of Table III."""
    several = {label for label, _, several in READINGS if several} | {_DROPPED}
    return variant.kind == "table3" or (variant.kind == "reading" and variant.value in several)


def _readings(small: Parameters) -> dict[str, Parameters]:
    wanted = small.sweeps.readings
    labels = [*(label for label, _, _ in READINGS), _DROPPED]
    if unknown := sorted(set(wanted or ()) - set(labels)):
        raise InputError(f"sweeps.readings holds '{unknown[0]}'; allowed are {', '.join(labels)}")
    found = {label: changed(small, sections) for label, sections, _ in READINGS}
    without = {name: {"keep_unlabelled": False} for name in small.data.sources}
    found[_DROPPED] = changed(small, {"data": {"sources": without}})
    return {label: there for label, there in found.items() if there != small and label in (wanted or labels)}
