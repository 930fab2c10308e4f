"""The method step by step: soft targets (Eq. 3), random weights, the average (Eq. 1), and whom Baseline IV selects."""

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rosutils import InputError, distill, losses
from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.weights import exponential_weights


NOTEBOOK = "03_distillation"
# Teachers that were planted: colour, marker and dashes.
PLANTED = {"good": (look.BLUE, "o", ""), "random": (look.GREY, "s", (1, 2)), "misleading": (look.RED, "^", (4, 2))}
REWARDS, SEEDS = ("r1", "r2", "r3"), 3
STACKED, DRAWS = 40, 2000


@look.style()
def soft_targets(logits, temperatures, class_names, *, multilabel: bool = False) -> Figure:
    """Eq. 3 of one example's logits [C] at several temperatures."""
    logits = torch.as_tensor(np.asarray(logits), dtype=torch.float64)
    size = (min(look.WIDTH, 1.2 + 1.5 * len(temperatures)), 0.7 + 0.18 * len(logits))
    fig, [axes] = look.subplots(1, len(temperatures), size=size, sharey=True, sharex=True)
    for ax, temperature in zip(axes, temperatures, strict=True):
        soft = losses.soft_targets(logits, temperature, multilabel=multilabel).numpy()
        ax.barh(list(class_names), soft, color=look.BLUE, height=0.7)
        ax.set(title=f"τ = {temperature:g}", xlim=(0, 1), xlabel="soft target q")
        ax.tick_params(axis="y", length=0)
    axes[0].invert_yaxis()
    return fig


@look.style()
def weight_draws(weights, architectures: list[str]) -> Figure:
    """The first draws of the teacher weights [T, K] as shares, and how large the largest share is (Section III-B)."""
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 2 or (weights < 0).any() or not (weights.sum(1) > 0).all():
        raise InputError(f"weights are [T, K] with positive sums, found {weights.shape}; draw one row per iteration")
    shares, k = weights / weights.sum(1, keepdims=True), weights.shape[1]
    fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 2.3), width_ratios=(3, 2))
    first, places = shares[:STACKED], np.arange(1, min(STACKED, len(shares)) + 1)
    for share, bottom, colour in zip(first.T, np.cumsum(first, axis=1).T - first.T, look.colours(k), strict=True):
        left.bar(places, share, bottom=bottom, color=colour, width=0.9, lw=0)
    left.set(xlabel="draw", ylabel="share of the weight", title="one draw per bar")
    left.set(ylim=(0, 1), xlim=(0.4, places[-1] + 0.6))
    names = map(look.architecture_name, architectures)
    handles = [Patch(color=colour, label=name) for colour, name in zip(look.colours(k), names, strict=True)]
    fig.legend(handles=handles, loc="outside upper left", ncols=min(k, 6))
    largest, expected = shares.max(1), sum(1 / i for i in range(1, k + 1)) / k
    right.hist(largest, bins=np.linspace(1 / k, 1, 31), color=look.PALE, edgecolor="white", lw=0.3)
    right.axvline(expected, ymax=0.76, color=look.RED, label=f"expected for Exp(1): $H_{{{k}}}/{k}$ = {expected:.3f}")
    said = f"mean of {len(shares):,} draws: {largest.mean():.3f}"
    right.axvline(largest.mean(), ymax=0.76, color=look.BLUE, ls="--", label=said)
    right.set(xlabel="largest share in a draw", ylabel="draws", title="does one teacher dominate?", xlim=(1 / k, 1))
    right.set_ylim(top=right.get_ylim()[1] * 1.3)
    right.legend(loc="upper right")
    return fig


@look.style()
def averaging(history: pd.DataFrame) -> Figure:
    """Eq. 1: validation F1 of student and average (columns epoch, validation_f1, averaged_validation_f1)."""
    fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 2.2))
    epochs, student, average = (history[name] for name in ("epoch", "validation_f1", "averaged_validation_f1"))
    ax.plot(epochs, student, "o-", ms=3, color=look.BLUE, label="student M")
    ax.plot(epochs, average, "s-", ms=3, color=look.RED, label="average M$_{smooth}$")
    started = history.loc[history["averaged_validation_f1"].notna(), "epoch"]
    if len(started):
        span = (started.min() - 0.5, history["epoch"].max() + 0.5)
        ax.axvspan(*span, color=look.PALE, alpha=0.35, lw=0, zorder=0, label="epochs averaged")
    ax.set(xlabel="epoch", ylabel="validation F1")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return fig


@look.style()
def selection(frame: pd.DataFrame) -> Figure:
    """Baseline IV on planted teachers, a panel for each reward: means over seeds, and thin each seed.

    Columns reward, seed, epoch, teacher (good, random, misleading), probability: of `distill.planted_selection`.
    """
    rewards, seeds = list(dict.fromkeys(frame["reward"])), frame["seed"].nunique()
    colour, marker, dashes = ({teacher: how[part] for teacher, how in PLANTED.items()} for part in range(3))
    fig, [axes] = look.subplots(1, len(rewards), size=(min(look.WIDTH, 1.4 + 2 * len(rewards)), 2.4), sharey=True)
    for ax, reward in zip(axes, rewards, strict=True):
        rows = frame[frame["reward"] == reward]
        for threshold in (0.2, 0.8):
            ax.axhline(threshold, color=look.PALE, lw=0.8, zorder=0)
        where = {"x": "epoch", "y": "probability", "hue": "teacher", "style": "teacher", "palette": colour, "dashes": dashes,
                 "hue_order": list(PLANTED), "style_order": list(PLANTED), "errorbar": None, "ax": ax}  # fmt: skip
        if seeds > 1:
            sns.lineplot(rows, **where, units="seed", estimator=None, legend=False, lw=0.5, alpha=0.6)
        sns.lineplot(rows, **where, markers=marker, ms=3.5, mew=0, legend=ax is axes[0])
        ax.set(title=f"reward {reward}", xlabel="epoch", ylim=(0, 1), ylabel="probability of selection")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    told = f"mean of {seeds} seeds; thin: each" if seeds > 1 else "one seed"
    labels = [f"P({label})" for label in labels]
    fig.legend(handles, labels, loc="outside upper left", ncols=3, title=told, alignment="left")
    return fig


def _first(study):
    """The study of the first task, and its student of RoS-KD, trained or found."""
    there = study.for_task(study.parameters.tasks[0])
    student = there.student(study.parameters.tasks[0], "RoS-KD")
    study.ensure([student])
    return there, student


def _soft_targets(study) -> Figure:
    """Of the first teacher, for the first image of the student's first batch."""
    there, student = _first(study)
    task, index = there.task(student.task), there.training_index(student)
    batch = next(iter(there.loader(student, index, shuffled=True, augmented=True)))
    temperatures = (there.parameters.distillation.temperature, 1.0, 4.0)
    return soft_targets(there.bank(student)(batch)[0, 0], temperatures, task.class_names, multilabel=task.multilabel)


def _weights(study) -> Figure:
    generator = torch.Generator().manual_seed(study.parameters.seeds.student)
    names = study.parameters.teachers.architectures
    draws = [exponential_weights(len(names), generator=generator) for _ in range(DRAWS)]
    return weight_draws(torch.stack(draws), names)


def _averaging(study) -> Figure:
    return averaging(study.history([_first(study)[1]]))


def _selection(study) -> Figure:
    planted = [distill.planted_selection(reward=reward, seed=seed) for reward in REWARDS for seed in range(SEEDS)]
    return selection(pd.concat(planted))


SOFT_TARGETS = Item(
    "soft_targets", "Eq. 3", NOTEBOOK, (), _soft_targets, lambda study, made: "One teacher's soft targets for one training image; "
    f"τ = {study.parameters.distillation.temperature:g} is used, the paper has 0.5.",
)  # fmt: skip
WEIGHTS = Item(
    "weights", "Random weights", NOTEBOOK, (), _weights,
    "The paper says that one teacher at a time matters; how often the draws agree.",
)  # fmt: skip
AVERAGING = Item(
    "averaging", "Eq. 1", NOTEBOOK, (), _averaging,
    "Validation F1 of the student (Baseline V) and of the average of its epochs (RoS-KD).",
)  # fmt: skip
SELECTION = Item(
    "selection", "Baseline IV, planted teachers", NOTEBOOK, (), _selection,
    "Whom it selects where one teacher of three is good; lines: 0.2, 0.8.",
)  # fmt: skip
