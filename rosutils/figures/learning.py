"""How teachers and student learn: curves, soft targets, random weights, the average."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rosutils import InputError, losses
from rosutils.figures.look import BLUE, GREY, PALE, RED, WIDTH, architecture_name, colours, style, subplots


# Teachers that were planted: colour, marker and line.
PLANTED_STYLES = {
    "good": {"color": BLUE, "marker": "o", "ls": "-"},
    "random": {"color": GREY, "marker": "s", "ls": ":"},
    "misleading": {"color": RED, "marker": "^", "ls": "--"},
}


@style()
def training_curves(history: pd.DataFrame) -> Figure:
    """Per run, one small panel of losses and one of validation F1 (columns run, epoch, loss; others where given)."""
    runs = list(dict.fromkeys(history["run"]))
    kinds = [
        [name for name in ("loss", "validation_loss") if name in history],
        [name for name in ("validation_f1",) if name in history],
    ]
    kinds = [names for names in kinds if names]
    across = min(5, len(runs))
    blocks = -(-len(runs) // across)
    fig, axes = subplots(
        blocks * len(kinds),
        across,
        size=(max(WIDTH * across / 5, WIDTH / 2), 1.25 * blocks * len(kinds) + 0.4),
        sharex=True,
    )
    for ax in axes.flat:
        ax.set_visible(False)
    for place, run in enumerate(runs):
        rows = history[history["run"] == run].sort_values("epoch")
        for kind, names in enumerate(kinds):
            ax = axes[place // across * len(kinds) + kind, place % across]
            _curve(ax, rows, names)
            ax.set_title(run if kind == 0 else "", fontsize=7)
            ax.tick_params(labelleft=place % across == 0)
            ax.set_ylabel(("loss" if names[0] == "loss" else "validation F1") if place % across == 0 else "")
            ax.set_xlabel("epoch" if kind == len(kinds) - 1 else "")
    if "loss" in kinds[0] and _has_outlier(history[kinds[0]].to_numpy()):
        for ax in axes[:: len(kinds)].flat:
            ax.set_yscale("log")
    _share_height(axes, len(kinds))
    lines = [
        Line2D([], [], color=BLUE, label="training"),
        Line2D([], [], color=RED, ls="--", label="validation"),
        Line2D([], [], color=PALE, lw=0.8, label="learning rate falls"),
    ]
    fig.legend(handles=lines, loc="outside upper right", ncols=3)
    return fig


def _curve(ax, rows: pd.DataFrame, names: list[str]) -> None:
    ax.set_visible(True)
    if "learning_rate" in rows:
        for epoch in rows["epoch"][rows["learning_rate"].diff() < 0]:
            ax.axvline(epoch - 0.5, color=PALE, lw=0.8, zorder=0)
    for name in names:
        validation = name.startswith("validation")
        ax.plot(rows["epoch"], rows[name], color=RED if validation else BLUE, ls="--" if validation else "-")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))


def _has_outlier(losses: np.ndarray) -> bool:
    """Whether one loss is so far above the others that a linear scale would flatten all curves."""
    losses = losses[np.isfinite(losses)]
    return len(losses) > 0 and losses.min() > 0 and losses.max() > 10 * np.median(losses)


def _share_height(axes: np.ndarray, period: int) -> None:
    """The same scale in every panel of one kind, so that runs can be compared by eye."""
    for kind in range(period):
        panels = [ax for ax in axes[kind::period].flat if ax.get_visible()]
        low, high = min(ax.get_ylim()[0] for ax in panels), max(ax.get_ylim()[1] for ax in panels)
        for ax in panels:
            ax.set_ylim(low, high)


@style()
def soft_targets(logits, temperatures, class_names, *, multilabel: bool = False) -> Figure:
    """Eq. 3 of one example's logits [C] at several temperatures."""
    logits = torch.as_tensor(np.asarray(logits), dtype=torch.float64)
    fig, axes = subplots(
        1,
        len(temperatures),
        size=(min(WIDTH, 1.2 + 1.5 * len(temperatures)), 0.7 + 0.18 * len(logits)),
        sharey=True,
        sharex=True,
    )
    for ax, temperature in zip(axes[0], temperatures, strict=True):
        values = losses.soft_targets(logits, temperature, multilabel=multilabel).numpy()
        ax.barh(list(class_names), values, color=BLUE, height=0.7)
        ax.set(title=f"τ = {temperature:g}", xlim=(0, 1), xlabel="soft target q")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].invert_yaxis()
    return fig


@style()
def weight_draws(weights, architectures: list[str] | None = None) -> Figure:
    """The first draws of the teacher weights [T, K] as shares, and how large the largest share is (Section III-B)."""
    shares = _shares(weights)
    k = shares.shape[1]
    fig, [[left, right]] = subplots(1, 2, size=(WIDTH, 2.3), width_ratios=(3, 2))
    _stack(left, shares[:40])
    left.set(
        xlabel="draw",
        ylabel="share of the weight",
        ylim=(0, 1),
        title="one draw per bar",
        xlim=(0.4, min(40, len(shares)) + 0.6),
    )
    names = (
        [architecture_name(name) for name in architectures] if architectures else [f"teacher {i + 1}" for i in range(k)]
    )
    handles = [Patch(color=colour, label=name) for colour, name in zip(colours(k), names, strict=True)]
    fig.legend(handles=handles, loc="outside upper left", ncols=min(k, 6))
    right.hist(shares.max(1), bins=np.linspace(1 / k, 1, 31), color=PALE, edgecolor="white", lw=0.3)
    expected = sum(1 / i for i in range(1, k + 1)) / k
    right.axvline(expected, ymax=0.76, color=RED, label=f"expected for Exp(1): $H_{{{k}}}/{k}$ = {expected:.3f}")
    right.axvline(
        shares.max(1).mean(),
        ymax=0.76,
        color=BLUE,
        ls="--",
        label=f"mean of {len(shares):,} draws: {shares.max(1).mean():.3f}",
    )
    right.set(xlabel="largest share in a draw", ylabel="draws", title="does one teacher dominate?", xlim=(1 / k, 1))
    right.set_ylim(top=right.get_ylim()[1] * 1.3)
    right.legend(loc="upper right")
    return fig


def _shares(weights) -> np.ndarray:
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 2 or (weights < 0).any() or not (weights.sum(1) > 0).all():
        raise InputError(
            f"weights must be [T, K] with positive sums, found shape {weights.shape}; draw one row per iteration"
        )
    return weights / weights.sum(1, keepdims=True)


def _stack(ax, shares: np.ndarray) -> None:
    bottom = np.zeros(len(shares))
    for share, colour in zip(shares.T, colours(shares.shape[1]), strict=True):
        ax.bar(np.arange(1, len(shares) + 1), share, bottom=bottom, color=colour, width=0.9, lw=0)
        bottom += share


@style()
def averaging_path(history: pd.DataFrame) -> Figure:
    """Eq. 1: validation F1 of student and average (columns epoch, validation_f1, averaged_validation_f1)."""
    fig, [[ax]] = subplots(size=(WIDTH / 2, 2.2))
    ax.plot(history["epoch"], history["validation_f1"], "o-", ms=3, color=BLUE, label="student M")
    ax.plot(history["epoch"], history["averaged_validation_f1"], "s-", ms=3, color=RED, label="average M$_{smooth}$")
    started = history.loc[history["averaged_validation_f1"].notna(), "epoch"]
    if len(started):
        ax.axvspan(
            started.min() - 0.5,
            history["epoch"].max() + 0.5,
            color=PALE,
            alpha=0.35,
            lw=0,
            zorder=0,
            label="epochs averaged",
        )
    ax.set(xlabel="epoch", ylabel="validation F1")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(8, integer=True))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return fig


@style()
def selection_curves(frame: pd.DataFrame) -> Figure:
    """Baseline IV on planted teachers, a panel for each reward: means over seeds, and thin each seed.

    Columns reward, seed, epoch, teacher (good, random, misleading), probability: of `distill.planted_selection`.
    """
    rewards = list(dict.fromkeys(frame["reward"]))
    fig, axes = subplots(1, len(rewards), size=(min(WIDTH, 1.4 + 2 * len(rewards)), 2.4), sharey=True)
    for ax, reward in zip(axes[0], rewards, strict=True):
        _selection(ax, frame[frame["reward"] == reward])
        ax.set(title=f"reward {reward}" if len(rewards) > 1 else "", xlabel="epoch", ylim=(0, 1))
    axes[0, 0].set_ylabel("probability of selection")
    seeds = frame["seed"].nunique()
    told = f"mean of {seeds} seeds; thin: each" if seeds > 1 else "one seed"
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=3, title=told, alignment="left")
    return fig


def _selection(ax, rows: pd.DataFrame) -> None:
    for threshold in (0.2, 0.8):
        ax.axhline(threshold, color=PALE, lw=0.8, zorder=0)
    for teacher, look in PLANTED_STYLES.items():
        chances = rows[rows["teacher"] == teacher].pivot(index="epoch", columns="seed", values="probability")
        ax.plot(chances.index, chances, color=look["color"], ls=look["ls"], lw=0.5, alpha=0.6)
        ax.plot(chances.index, chances.mean(axis=1), ms=3.5, label=f"P({teacher})", **look)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
