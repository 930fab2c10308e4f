"""What the paper leaves open and what a profile chose there; and where a profile departs from what the paper states."""

from collections.abc import Mapping
from typing import Any

from rosutils import params
from rosutils.params import Parameters


# What Section IV states; every other value of params/paper.yaml is our choice.
STATED = frozenset({
    "data.fractions", "subsets.count", "subsets.overlap", "teachers.architectures", "training.epochs", "training.batch_size",
    "training.learning_rate", "training.milestones", "training.momentum", "training.weight_decay", "distillation.student",
    "distillation.single_teacher", "distillation.temperature", "distillation.alpha", "distillation.averaging_start",
    "attacks.eps", "landscape.clamp", "sweeps.runs",
})  # fmt: skip


LAID_OVER = ("by_task.", "sweeps.scale.")


def departures(parameters: Parameters, printed: Parameters) -> list[tuple[str, Any, Any]]:
    """Every (key, Section IV-B's value, value here) in which a profile departs from the printed settings."""
    ours, theirs = _flat(parameters.model_dump()), _flat(printed.model_dump())
    skipped = ("profile", "engine.", "data.root", "data.allow_missing", "data.sources.")
    keys = [key for key in theirs if not key.startswith(skipped)]
    found = [(key, theirs[key], _at(ours, key)) for key in keys if _at(ours, key) != theirs[key]]
    own = [key for key in ours if key.startswith(LAID_OVER) and key not in theirs]  # at another scale, or for one task
    return found + [(key, theirs.get(plain(key)), ours[key]) for key in own]


def named_departures(parameters: Parameters) -> list[tuple[str, str, str]]:
    """(key, Section IV-B, here) wherever a profile departs from params/paper.yaml, and whether the paper states it at all."""
    rows = departures(parameters, params.load("paper"))
    return [
        (key + ("" if plain(key) in STATED else " (not stated in the paper)"), str(a), str(b)) for key, a, b in rows
    ]


def _at(flat: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or those of the keys below it: a precision may be one, or one for each architecture."""
    below = {name.removeprefix(f"{key}."): value for name, value in flat.items() if name.startswith(f"{key}.")}
    return flat.get(key, below or None)


def plain(key: str) -> str:
    """The key that another one lays something over: training.epochs of by_task.chest.training.epochs."""
    parts = key.split(".")
    return ".".join(parts[2:]) if key.startswith(LAID_OVER) else key


def _flat(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def readings(parameters: Parameters) -> list[tuple[str, str, str]]:
    """(open point, reading chosen by these parameters, alternatives) for each of them, in the order of the paper."""
    return _of_the_method(parameters) + _of_the_evaluation(parameters) + _of_robustness(parameters)


def _of_the_method(p: Parameters) -> list[tuple[str, str, str]]:
    d = p.distillation
    return [
        (
            "overlap ratio (III-A)",
            f"{p.subsets.scheme}, {p.subsets.overlap:g}",
            "subsets.scheme: shared-core (a core of p·N seen by all, the rest split evenly), own-shard (own N/k plus a "
            "random share p of the rest), sliding-window (circular), all three of the same size; pairwise (any two subsets share "
            "p of themselves: a smaller core, smaller subsets)",
        ),
        (
            "teacher weights (III-B)",
            f"Exp(1), {'normalised to sum 1' if d.weights.normalize else 'not normalised'}, one draw per {d.weights.per}",
            "distillation.weights: {normalize: true or false, per: iteration or example}",
        ),
        ("Eq. 4's sum over the batch", "mean", "none"),
        (
            "soft targets for several labels per image",
            {"sigmoid": "per-label sigmoid, binary KL and BCE averaged over labels", "softmax": "literal softmax"}[
                d.multilabel
            ],
            "distillation.multilabel: sigmoid or softmax (Eq. 3 and 4 to the letter)",
        ),
        (
            "Baseline III's teachers",
            "trained on the full set (caption of Fig. 3); the same subset teachers (caption of Table II) are a row of their own",
            "both are reported",
        ),
        (
            "Baseline IV",
            f"our adaptation of Yuan et al. (AAAI 2021): REINFORCE, reward {d.reinforced.reward}, {d.reinforced.teacher_pool}-set "
            "teachers; the paper gives no details",
            "distillation.reinforced: {reward: r1, r2 or r3, teacher_pool: full or subset}",
        ),
        (
            "Baseline III's mean of its teachers",
            f"of their {d.mean_of}",
            "distillation.mean_of: distributions or logits",
        ),
        (
            "BatchNorm of any finished network",
            "re-estimated once at the end, on shuffled training images"
            + ("" if d.refresh_batchnorm else "; that of the average left as copied"),
            "distillation.refresh_batchnorm: true or false",
        ),
    ]


def _of_the_evaluation(p: Parameters) -> list[tuple[str, str, str]]:
    return [
        (
            "precision, recall, F1",
            "lesion weighted, chest micro (inferred from the printed numbers)",
            "macro, micro, weighted, samples are all in results.csv",
        ),
        (
            "threshold for several labels per image",
            {
                "micro": "one for all labels, best micro-F1 on validation",
                "per-label": "per label, best F1 on validation",
                "fixed": "0.5",
            }[p.evaluation.thresholds],
            "evaluation.thresholds: micro, per-label or fixed",
        ),
        (
            "images without any finding",
            "kept"
            if all(p.data.sources[name].keep_unlabelled for name in p.tasks)
            else "dropped from training and validation",
            "data.sources.<task>.keep_unlabelled: true or false",
        ),
        (
            "which epoch is reported",
            {"last": "the last", "best-validation": "best on validation"}[p.training.reported],
            "training.reported: last or best-validation; never chosen on test",
        ),
        ("pre-training", p.training.pretraining, "training.pretraining: none or imagenet"),
        (
            "augmentation",
            f"crop after padding by {p.training.augmentation.pad} px, flips: "
            f"{', '.join(p.training.augmentation.flips) or 'none'}",
            "training.augmentation: {pad, flips}",
        ),
    ]


def _of_robustness(p: Parameters) -> list[tuple[str, str, str]]:
    a, surface = p.attacks, p.landscape
    return [
        (
            "attack radius (Table II)",
            f"{255 * a.eps:g}/255 for images in [0, 1], in each of the norms {', '.join(a.norms)}",
            "attacks.norms: l2 (to the letter), linf, l2-scaled (times the root of the number of pixels)",
        ),
        (
            "PGD (IV-E)",
            f"{a.steps} steps of {a.step_factor:g}·ε/steps, {'random start' if a.random_start else 'no random start'}",
            "attacks: {steps, step_factor, random_start}",
        ),
        (
            "loss surface (Fig. 4)",
            f"{surface.examples} test images, {surface.points} points a side, up to ±{surface.span:g}, filter-normalised "
            "Gaussian directions without biases and BatchNorm",
            "landscape: {examples, points, span, directions, clamp}",
        ),
    ]
