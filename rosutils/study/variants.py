"""Which other parameters the sweeps run under: Fig. 3's overlaps, Table III's runs, label noise, and the open readings."""

from collections.abc import Mapping
from typing import Any

from rosutils import InputError
from rosutils.params import Parameters, changed


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
AS_CHOSEN = "reading: as chosen"


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """The parameters of every variant by name, at `sweeps.scale`.

    Raises InputError where a scale or a sweep's point is out of range.
    """
    small = changed(parameters, parameters.sweeps.scale)
    return {
        "students": small,
        **{f"overlap {ratio:g}": changed(small, {"subsets": {"overlap": ratio}}) for ratio in overlaps(small)},
        "table3": changed(small, {"seeds": {"replicates": parameters.sweeps.runs}}),
        **{
            f"{kind} {rate:g}": changed(small, {"noise": _noise(kind, rate)})
            for kind, rates in parameters.sweeps.noise.items() for rate in rates
        },
        AS_CHOSEN: small,
        **{f"reading: {label}": there for label, there in _readings(small).items()},
    }  # fmt: skip


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
    return changed(parameters, sections)


def overlaps(parameters: Parameters) -> list[float]:
    """Fig. 3's overlap ratios, the profile's own among them."""
    return sorted({*parameters.sweeps.overlaps, parameters.subsets.overlap})


def for_multilabel_only(variant: str) -> bool:
    """Whether a variant is one for tasks with several labels per image: a reading of theirs, or a run of Table III."""
    several = {f"reading: {label}" for label, _, several in READINGS if several} | {f"reading: {_DROPPED}"}
    return variant in several or variant == "table3"


def about_baseline_iii(variant: str) -> bool:
    """Whether a reading is one of Baseline III, which RoS-KD does not have."""
    return variant.startswith("reading: Baseline III")


def label(variant: str) -> str:
    """The variant as the results name it: the points of Fig. 3 are told apart by their overlap."""
    return "overlap" if variant.startswith("overlap ") else variant


_DROPPED = "images without findings dropped"


def _readings(small: Parameters) -> dict[str, Parameters]:
    wanted = small.sweeps.readings
    labels = [*(label for label, _, _ in READINGS), _DROPPED]
    if unknown := sorted(set(wanted or ()) - set(labels)):
        raise InputError(f"sweeps.readings holds '{unknown[0]}'; allowed are {', '.join(labels)}")
    found = {label: changed(small, sections) for label, sections, _ in READINGS}
    without = {name: {"keep_unlabelled": False} for name in small.data.sources}
    found[_DROPPED] = changed(small, {"data": {"sources": without}})
    return {label: there for label, there in found.items() if there != small and label in (wanted or labels)}


def _noise(kind: str, rate: float) -> dict:
    return {"kind": kind, "rate": rate, "false_negatives": None, "false_positives": None}
