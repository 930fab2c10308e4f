"""Which other parameters the sweeps run under: Fig. 3's overlaps, Table III's runs, label noise, and the open readings."""

from collections.abc import Mapping
from typing import Any

from rosutils.params import Parameters, changed


# Every value of what the paper leaves open: label, sections to lay over, and whether it concerns multi-label tasks only.
# A profile's own choices drop out.
READINGS: tuple[tuple[str, Mapping[str, Any], bool], ...] = (
    ("shared core", {"subsets": {"scheme": "shared-core"}}, False),
    ("own-shard", {"subsets": {"scheme": "own-shard"}}, False),
    ("sliding-window", {"subsets": {"scheme": "sliding-window"}}, False),
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
    ("threshold from validation", {"evaluation": {"thresholds": "validation"}}, True),
    ("threshold 0.5", {"evaluation": {"thresholds": "fixed"}}, True),
)
AS_CHOSEN = "reading: as chosen"


def variants(parameters: Parameters) -> dict[str, Parameters]:
    """The parameters of every variant by name: those of the sweeps at `sweeps.scale`, Table III's at the profile's own.

    Raises InputError where a scale or a sweep's point is out of range.
    """
    small, runs = changed(parameters, parameters.sweeps.scale), range(parameters.sweeps.runs)
    return {
        "students": small,
        **{f"overlap {ratio:g}": changed(small, {"subsets": {"overlap": ratio}}) for ratio in overlaps(small)},
        **{f"run {run + 1}": _independent(parameters, run) for run in runs},
        **{
            f"{kind} {rate:g}": changed(small, {"noise": _noise(kind, rate)})
            for kind, rates in parameters.sweeps.noise.items() for rate in rates
        },
        AS_CHOSEN: small,
        **{f"reading: {label}": there for label, there in _readings(small).items()},
    }  # fmt: skip


def overlaps(parameters: Parameters) -> list[float]:
    """Fig. 3's overlap ratios, the profile's own among them."""
    return sorted({*parameters.sweeps.overlaps, parameters.subsets.overlap})


def for_multilabel_only(variant: str) -> bool:
    """Whether a variant is one for tasks with several labels per image: a reading of theirs, or a run of Table III."""
    several = {f"reading: {label}" for label, _, several in READINGS if several} | {f"reading: {_DROPPED}"}
    return variant in several or variant.startswith("run ")


def label(variant: str) -> str:
    """The variant as the results name it: the points of Fig. 3 are told apart by their overlap."""
    return "overlap" if variant.startswith("overlap ") else variant


_DROPPED = "images without findings dropped"


def _readings(small: Parameters) -> dict[str, Parameters]:
    found = {label: changed(small, sections) for label, sections, _ in READINGS}
    without = {name: {"keep_unlabelled": False} for name in small.data.sources}
    found[_DROPPED] = changed(small, {"data": {"sources": without}})
    return {label: there for label, there in found.items() if there != small}


def _independent(parameters: Parameters, run: int) -> Parameters:
    """Table III: a run with its own teachers and its own student on the same split."""
    seeds = parameters.seeds
    student = seeds.students[run] if run < len(seeds.students) else max(seeds.students) + run
    return changed(parameters, {"seeds": {"teachers": seeds.teachers + run, "students": [student]}})


def _noise(kind: str, rate: float) -> dict:
    return {"kind": kind, "rate": rate, "false_negatives": None, "false_positives": None}
