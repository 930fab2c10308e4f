"""What the paper leaves open and what a profile chose there; and where a profile departs from what the paper states."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rosutils import InputError, params
from rosutils.paper import look
from rosutils.paper.cells import many, paired
from rosutils.paper.items import Item
from rosutils.params import Parameters, flat
from rosutils.results import select
from rosutils.settings import COMPARED, PRINTED_AVERAGE


CHOSEN, EFFECTS = "as chosen", ["label", "mean", "low", "high", "n", "runs"]

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
    ours, theirs = flat(parameters.model_dump()), flat(printed.model_dump())
    skipped = ("profile", "engine.", "data.root", "data.allow_missing", "data.sources.")
    keys = [key for key in theirs if not key.startswith(skipped)]
    found = [(key, theirs[key], _at(ours, key)) for key in keys if _at(ours, key) != theirs[key]]
    own = [key for key in ours if key.startswith(LAID_OVER) and key not in theirs]  # at another scale, or for one task
    return found + [(key, theirs.get(plain(key)), ours[key]) for key in own]


def named_departures(parameters: Parameters) -> list[tuple[str, str, str]]:
    """(key, Section IV-B, here) wherever a profile departs from params/paper.yaml; what the paper does not state has no value."""
    rows = departures(parameters, params.load("paper"))
    return [(key, str(a) if plain(key) in STATED else "not stated", str(b)) for key, a, b in rows]


def _at(flat: Mapping[str, Any], key: str) -> Any:
    """The value of a key, or those of the keys below it: a precision may be one, or one for each architecture."""
    below = {name.removeprefix(f"{key}."): value for name, value in flat.items() if name.startswith(f"{key}.")}
    return flat.get(key, below or None)


def plain(key: str) -> str:
    """The key that another one lays something over: training.epochs of by_task.chest.training.epochs."""
    parts = key.split(".")
    return ".".join(parts[2:]) if key.startswith(LAID_OVER) else key


def readings(parameters: Parameters) -> list[tuple[str, str, str]]:
    """(open point, reading chosen by these parameters, alternatives) for each of them, in the order of the paper."""
    return [(point, chosen(parameters), alternatives) for point, chosen, alternatives in OPEN]


WORDS = {
    "sigmoid": "per-label sigmoid, binary KL and BCE averaged over labels", "softmax": "literal softmax",
    "micro": "one for all labels, best micro-F1 on validation", "per-label": "per label, best F1 on validation",
    "fixed": "0.5", "last": "the last", "best-validation": "best on validation",
}  # fmt: skip
OPEN = (
    ("overlap ratio (III-A)", lambda p: f"{p.subsets.scheme}, {p.subsets.overlap:g}",
     "subsets.scheme: shared-core (a core of p·N seen by all, the rest split evenly), own-shard (own N/k plus a random share p "
     "of the rest), sliding-window (circular), all three of the same size; pairwise (any two subsets share p of themselves: a "
     "smaller core, smaller subsets)"),
    ("teacher weights (III-B)", lambda p: "Exp(1), "
     f"{'normalised to sum 1' if p.distillation.weights.normalize else 'not normalised'}, "
     f"one draw per {p.distillation.weights.per}",
     "distillation.weights: {normalize: true or false, per: iteration or example}"),
    ("Eq. 4's sum over the batch", lambda p: "mean", "none"),
    ("soft targets for several labels per image", lambda p: WORDS[p.distillation.multilabel],
     "distillation.multilabel: sigmoid or softmax (Eq. 3 and 4 to the letter)"),
    ("Baseline III's teachers", lambda p: "trained on the full set (caption of Fig. 3); the same subset teachers (caption of "
     "Table II) are a row of their own", "both are reported"),
    ("Baseline IV", lambda p: f"our adaptation of Yuan et al. (AAAI 2021): REINFORCE, reward {p.distillation.reinforced.reward}, "
     f"{p.distillation.reinforced.teacher_pool}-set teachers; the paper gives no details",
     "distillation.reinforced: {reward: r1, r2 or r3, teacher_pool: full or subset}"),
    ("Baseline III's mean of its teachers", lambda p: f"of their {p.distillation.mean_of}",
     "distillation.mean_of: distributions or logits"),
    ("BatchNorm of any finished network", lambda p: "re-estimated once at the end, on shuffled training images"
     f"{'' if p.distillation.refresh_batchnorm else '; that of the average left as copied'}",
     "distillation.refresh_batchnorm: true or false"),
    ("precision, recall, F1", lambda p: "lesion weighted, chest micro (inferred from the printed numbers)",
     "macro, micro, weighted, samples are all in results.csv"),
    ("threshold for several labels per image", lambda p: WORDS[p.evaluation.thresholds],
     "evaluation.thresholds: micro, per-label or fixed"),
    ("images without any finding",
     lambda p: "kept" if all(p.data.sources[task].keep_unlabelled for task in p.tasks) else "dropped from training and validation",
     "data.sources.<task>.keep_unlabelled: true or false"),
    ("which epoch is reported", lambda p: WORDS[p.training.reported],
     "training.reported: last or best-validation; never chosen on test"),
    ("pre-training", lambda p: p.training.pretraining, "training.pretraining: none or imagenet"),
    ("augmentation", lambda p: f"crop after padding by {p.training.augmentation.pad} px, flips: "
     f"{', '.join(p.training.augmentation.flips) or 'none'}", "training.augmentation: {pad, flips}"),
    ("attack radius (Table II)", lambda p: f"{255 * p.attacks.eps:g}/255 for images in [0, 1], in each of the norms "
     f"{', '.join(p.attacks.norms)}",
     "attacks.norms: l2 (to the letter), linf, l2-scaled (times the root of the number of pixels)"),
    ("PGD (IV-E)", lambda p: f"{p.attacks.steps} steps of {p.attacks.step_factor:g}·ε/steps, "
     f"{'' if p.attacks.random_start else 'no '}random start", "attacks: {steps, step_factor, random_start}"),
    ("loss surface (Fig. 4)", lambda p: f"{p.landscape.examples} test images, {p.landscape.points} points a side, up to "
     f"±{p.landscape.span:g}, filter-normalised Gaussian directions without biases and BatchNorm",
     "landscape: {examples, points, span, directions, clamp}"),
)  # fmt: skip


def plot(study) -> Figure:
    """By how much each open reading of the paper changes RoS-KD's F1, one at a time, paired by replicate (t interval, 95 %).

    The averagings of F1 stand below on a scale of their own: they change the number by definition, not the student. An
    interval that leaves its panel ends in an arrow. InputError where a reading has no replicate in common with the one chosen.
    """
    rows = select(study.results(), setting=COMPARED, variant="reading", attack="", class_="", metric="f1")
    tasks = look.measured(rows, study.about_tasks(), "the readings")
    found = {task: [effects(rows, task, about), averagings(rows, task, about)] for task, about in tasks.items()}
    heights = [max(len(both[group]) for both in found.values()) for group in (0, 1)]
    size, ratios = (look.WIDTH, 1.8 + 0.2 * sum(heights)), [max(height, 1) + 1 for height in heights]
    fig, axes = look.subplots(2, len(tasks), size=size, height_ratios=ratios)
    clipped = False
    for column, (task, both) in zip(axes.T, found.items(), strict=True):
        for ax, table, height, colour in zip(column, both, heights, (look.BLUE, look.GREY), strict=True):
            clipped |= _tornado(ax, table, max(height, 1), colour)
        base, label = look.printed_f1(select(rows, variant_value=CHOSEN, setting="RoS-KD"), task, tasks[task])
        spread = f" ± {base['value'].std():.3f}" if len(base) > 1 else ", one replicate"
        column[0].set_title(f"{task}, {label}\nas chosen: {base['value'].mean():.3f}{spread}")
        column[1].set_title("other averagings (own scale)")
    counts = pd.concat([table for both in found.values() for table in both])["n"]
    handles = {"mean paired difference": Patch(color=look.BLUE)}
    if counts.max() > 1:
        handles["95 % t interval"] = Line2D([], [], color=look.INK, lw=0.8)
    if clipped:
        handles["it goes on beyond the axis"] = Line2D([], [], color=look.INK, marker=">", ls="", ms=4)
    paired_over = f"paired over {many(sorted({counts.min(), counts.max()}))}"
    look.legend(fig, handles, f"RoS-KD, {'one replicate' if counts.max() == 1 else paired_over}")
    return fig


def effects(rows: pd.DataFrame, task: str, about: dict) -> pd.DataFrame:
    """F1 of each reading minus F1 as chosen, the largest first: label, mean, low, high, n, runs."""
    here, _ = look.printed_f1(rows, task, about)
    found = {}
    for label, other in here[here["variant_value"] != CHOSEN].groupby("variant_value"):
        setting = "RoS-KD" if (other["setting"] == "RoS-KD").any() else "Baseline III"  # a reading may be of that alone
        found[label] = select(other, setting=setting), select(here, variant_value=CHOSEN, setting=setting)
    return _largest_first(found)


def averagings(rows: pd.DataFrame, task: str, about: dict) -> pd.DataFrame:
    """F1 as chosen in the other averagings minus that in the printed one, the largest first."""
    printed = PRINTED_AVERAGE[about["multilabel"]]
    here = select(rows, task=task, variant_value=CHOSEN, setting="RoS-KD")
    others = here[~here["average"].isin(["", printed])].groupby("average")
    return _largest_first({name: (other, select(here, average=printed)) for name, other in others})


def _largest_first(pairs: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    found = pd.DataFrame([{"label": label} | paired(*both) for label, both in pairs.items()], columns=EFFECTS)
    if apart := found.loc[found["mean"].isna(), "label"].tolist():
        raise InputError(f"{apart[0]}: no replicate in common with '{CHOSEN}'; train both for one replicate at least")
    numbers = found.astype({"mean": float, "low": float, "high": float})
    return numbers.sort_values("mean", key=lambda mean: -mean.abs(), kind="stable", ignore_index=True)


def _tornado(ax, table: pd.DataFrame, height: int, colour: str) -> bool:
    """Bars with their intervals; whether one is longer than the axis, whose reach the means decide."""
    y, means = np.arange(len(table)), max([1e-3, *table["mean"].abs()])
    reach = 1.08 * min(np.nanmax([means, *table["low"].abs(), *table["high"].abs()]), 2.5 * means)
    ax.barh(y, table["mean"], color=colour, height=0.6, lw=0)
    ends, beyond = table[["low", "high"]].clip(-reach, reach), table[["low", "high"]].abs() > reach
    ax.hlines(y, ends["low"], ends["high"], color=look.INK, lw=0.8)
    for side, marker in (("low", "<"), ("high", ">")):
        ax.plot(ends[side].where(~beyond[side]), y, "|", color=look.INK, ms=4)
        ax.plot(0.98 * ends[side].where(beyond[side]), y, marker, color=look.INK, ms=3.5)
    ax.axvline(0, color=look.INK, lw=0.8)
    ax.set(xlim=(-reach, reach), ylim=(height - 0.4, -0.6), xlabel="F1 minus F1 as chosen")
    ax.set_yticks(y, table["label"])
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    ax.spines["left"].set_visible(False)
    return bool(beyond.any(axis=None))


FIGURE = Item(
    "readings", "Readings, one at a time", "05_figures", ("readings",), plot,
    "How far each reading moves RoS-KD's F1 from the one chosen here.",
)  # fmt: skip
