"""What a run is, what it is made from, and its recipe: everything that decides its result, whose hash is its key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from rosutils.data.decode import RESIZE
from rosutils.data.task import fingerprint
from rosutils.metrics import best_thresholds
from rosutils.settings import PLAIN, SETTINGS, TEACHERS
from rosutils.study.variants import OWN, Variant


# Part of every key: raise it when the same recipe would train to other numbers, or a bank, a probe or chance would find others.
FORMAT, BANK_FORMAT, PROBE_FORMAT, CHANCE_FORMAT = 2, 3, 3, 4
EVALUATION_BATCH = 256
DRAWS = 200  # of random scores, for what chance alone scores
TRAINED = ("teacher", "student")
LOGITS = {"weights": "logits", "averaged": "averaged_logits"}  # the file of a run for each state of its weights


@dataclass(frozen=True)
class RunSpec:
    """What a run is: a teacher (on a subset, or on the full set), a teacher's bank, a student, a probe of a student, or what a
    predictor without any network scores (roles chance and pixels).

    `variant` says which parameters it runs under: the profile's own, or those of one of `variants.variants`; `replicate`
    counts the repetitions of the whole study from 0. A probe is `of` a student; some set it `against` another.
    """

    role: str
    task: str
    architecture: str
    seed: int
    subset: int | None = None
    weighting: str = "none"
    teachers: tuple["RunSpec", ...] = ()
    variant: Variant = OWN
    replicate: int = 0
    of: "RunSpec | None" = None
    state: str = "weights"
    against: "RunSpec | None" = None

    def __str__(self) -> str:
        on = "" if self.subset is None else f" on subset {self.subset + 1}"
        how = "" if self.weighting == "none" else f", {self.weighting} weights"
        student = self.of and (self.of.weighting if self.of.teachers else "undistilled")
        of = f" of the {student} student, {self.state}" if self.of else ""
        where = f" ({self.variant})" if self.variant.kind else ""
        return f"{self.task}: {self.role} {self.architecture}{on}{how}{of}, replicate {self.replicate + 1}{where}"


def bank_of(teacher: RunSpec) -> RunSpec:
    """The bank of one teacher: its logits for every view of the whole training part."""
    return replace(teacher, role="bank", subset=None, teachers=(teacher,))


def weights_needed(spec: RunSpec) -> list[RunSpec]:
    """The runs whose weights (not only their logits or banks) a run is made from: a bank's teacher, a probe's students."""
    if spec.role == "bank":
        return list(spec.teachers)
    return [student for student in (spec.of, spec.against) if student is not None]


def needed_by(spec: RunSpec) -> list[RunSpec]:
    """The runs that one is made from: a probe from its students, a student from banks, a bank from its teacher."""
    return [bank_of(teacher) for teacher in spec.teachers] if spec.role == "student" else weights_needed(spec)


def settings_of(spec: RunSpec) -> list[tuple[str, str]]:
    """(setting, state of the weights) for a run: a teacher is one, the student of Baseline V and RoS-KD is two."""
    if spec.role == "teacher":
        return [(TEACHERS[spec.subset is not None], "weights")]
    if spec.role in ("bank", "chance", "pixels"):
        return [(PLAIN, "weights")] if spec.role == "pixels" else []
    student = spec.of or spec
    pool = "subset" if any(teacher.subset is not None for teacher in student.teachers) else "full"
    rows = [row for row in SETTINGS if row.weighting == student.weighting]
    found = [(row.name, row.state) for row in rows if row.weighting != "uniform" or row.pool == pool]
    return found if spec.of is None else [pair for pair in found if spec.state.startswith(pair[1])]


def recipe(there, spec: RunSpec) -> dict:
    """Everything that decides a run's result, JSON-able; `there` is the study under the run's own parameters."""
    p, training = there.parameters, there.parameters.training
    found = {"role": spec.role, "task": spec.task, "data": there.task(spec.task).fingerprint, "seed": spec.seed}
    found["format"] = PROBE_FORMAT if spec.of or spec.role == "pixels" else FORMAT
    if spec.role == "chance":
        found |= {"format": CHANCE_FORMAT, "draws": DRAWS}
        return found | {"rule": p.evaluation.thresholds, "sample": p.attacks.examples}
    found |= {"architecture": spec.architecture, "device": there.made_on}
    found |= {"examples": fingerprint(there.training_index(spec)), "pixels": p.data.pixels}
    if spec.of is not None:
        return found | _probe(there, spec)
    if spec.role in TRAINED:
        found["training"] = training.model_dump(exclude={"precision"}) | {"precision": there.precision(spec)}
        found |= {"view_seed": there.view(spec).seed, "batches": there.batches(spec)}
    if spec.role == "bank":
        found |= {"format": BANK_FORMAT, "views": there.views, "view_seed": there.view(spec).seed}
        found["augmentation"] = training.augmentation.model_dump(exclude={"views"})
    if spec.teachers:
        found["teachers"] = [there.key(teacher) for teacher in spec.teachers]
    if spec.role == "student" and spec.weighting != "none":
        found["distillation"] = _distillation(there, spec)
    return found


def _probe(there, spec: RunSpec) -> dict:
    """What a probe looks at, and the parameters that decide what it sees."""
    attacks, landscape = there.parameters.attacks, there.parameters.landscape
    curvature = {"examples", "sharpness_radii", "hessian_iterations", "hessian_samples"}
    attack = attacks.model_dump(exclude={"curve_norm", "curve_multiples"})
    sections = {
        "attack": attack,
        "curve": attacks.model_dump(exclude={"norms"}),
        "checks": attack | {"thresholds": there.parameters.evaluation.thresholds},
        "surface": landscape.model_dump(include={"span", "points", "examples"}),
        "path": landscape.model_dump(include={"examples"}),
        "curvature": landscape.model_dump(include=curvature),
    }
    found = {"model": there.key(spec.of), "state": spec.state, "parameters": sections.get(spec.role, {})}
    return found if spec.against is None else found | {"against": there.key(spec.against)}


def _distillation(there, spec: RunSpec) -> dict:
    """The parameters of the distillation that this weighting uses, and no other."""
    section = there.parameters.distillation.model_dump()
    keys = ["temperature", "alpha"] + (["multilabel"] if there.task(spec.task).multilabel else [])
    random = ["weights", "averaging_start", "refresh_batchnorm"]
    keys += {"exponential": random, "reinforced": ["reinforced"], "uniform": ["mean_of"]}.get(spec.weighting, [])
    return {"weighting": spec.weighting} | {key: section[key] for key in keys}


def logits_of(study, spec: RunSpec, state: str) -> dict[str, Tensor]:
    """A run's logits on the validation and the test part, of its last or of its averaged weights."""
    return study.run(spec).tensors(LOGITS.get(state, "averaged_logits"))


def thresholds_of(study, spec: RunSpec, state: str) -> Tensor | None:
    """The decision threshold of a run, chosen on validation: one for all labels, or [C]; None is 0.5 (and single-label)."""
    there = study.at(spec)
    return _thresholds(there, spec, logits_of(there, spec, state)["validation"])


def _thresholds(there, spec: RunSpec, validation: Tensor) -> Tensor | None:
    rule, task = there.parameters.evaluation.thresholds, there.task(spec.task)
    if not task.multilabel or rule == "fixed":
        return None
    return best_thresholds(validation, task.labels[task.split["validation"]], rule=rule)


def described(there, spec: RunSpec, validation: Mapping[str, Tensor]) -> dict:
    """What a prediction with a run's network needs to know of its study, JSON-able and no part of its key.

    `validation` has its logits [N, C] on the validation part for each state of its weights.
    """
    task, data = there.task(spec.task), there.parameters.data
    found = {"task": spec.task, "classes": list(task.class_names), "multilabel": task.multilabel, "resize": RESIZE}
    found |= {"pixels": task.images.shape[-1], "mode": "L" if task.images.shape[1] == 1 else "RGB"}
    found["window"] = getattr(data.sources[spec.task], "window", None)
    limits = {state: _thresholds(there, spec, logits) for state, logits in validation.items()}
    return found | {"thresholds": {state: None if each is None else each.tolist() for state, each in limits.items()}}
