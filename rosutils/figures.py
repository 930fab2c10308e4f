"""One function per figure: plain arrays and tables in, a matplotlib Figure out."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rosutils import InputError, losses
from rosutils.results import PRINTED_AVERAGE, SETTINGS, TEACHERS, published, select, summary
from rosutils.schematic import fig1_schematic
from rosutils.style import BLUE, INK, PALE, RED, WIDTH, architecture_name, colours, style, subplots, write_figure


__all__ = [
    "averaging_path", "class_counts", "fig1_schematic", "montage", "noise_matrix", "overlap_heatmap", "soft_targets",
    "style", "table1_plot", "teacher_scores", "training_curves", "weight_draws", "write_figure",
]  # fmt: skip


@style()
def class_counts(labels_by_part: dict[str, np.ndarray], class_names, multilabel: bool) -> Figure:
    """Examples per class in each part (labels int [N], or float [N, C] where an example may count for several classes)."""
    counts = pd.DataFrame({
        part: np.asarray(labels).sum(0) if multilabel else np.bincount(np.asarray(labels), minlength=len(class_names))
        for part, labels in labels_by_part.items()
    }, index=list(class_names))  # fmt: skip
    fig, [[ax]] = subplots(size=(WIDTH, 2.3))
    counts.plot.bar(ax=ax, color=colours(counts.shape[1]), width=0.8, rot=0 if max(map(len, class_names)) < 9 else 20)
    present = counts.to_numpy()[counts.to_numpy() > 0]
    if present.size and present.max() > 50 * present.min():
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        ax.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    for bars in ax.containers:
        for bar in bars:
            at = max(bar.get_height(), ax.get_ylim()[0])  # a class with no image has no bar, but it has its 0
            ax.annotate(f"{bar.get_height():,.0f}", (bar.get_x() + bar.get_width() / 2, at), (0, 1), textcoords="offset points", ha="center", fontsize=5.5)
    ax.set_ylabel("images with the label" if multilabel else "images")
    ax.legend([f"{part} ({len(labels):,})" for part, labels in labels_by_part.items()], ncols=counts.shape[1], loc="lower right", bbox_to_anchor=(1, 1))
    ax.tick_params(axis="x", length=0)
    return fig


@style()
def noise_matrix(clean: np.ndarray, noisy: np.ndarray, class_names) -> Figure:
    """What the label noise did: P(given label | clean label) [C, C], or per label (labels [N, C]) the shares missed and invented."""
    clean, noisy = np.asarray(clean), np.asarray(noisy)
    if clean.ndim == 2:
        return _flip_rates(clean > 0.5, noisy > 0.5, class_names)
    n = len(class_names)
    counts = np.zeros((n, n))
    np.add.at(counts, (clean, noisy), 1)
    share = pd.DataFrame(counts / np.maximum(counts.sum(1, keepdims=True), 1), index=class_names, columns=class_names)
    fig, [[ax]] = subplots(size=(WIDTH / 2, 3.0))
    _heatmap(share, ax, "P(given | clean)")
    ax.set(xlabel="given label", ylabel="clean label")
    ax.set_title(f"{np.mean(clean != noisy):.1%} of {len(clean):,} labels differ")
    return fig


def _flip_rates(clean: np.ndarray, noisy: np.ndarray, class_names) -> Figure:
    missed = (clean & ~noisy).sum(0) / np.maximum(clean.sum(0), 1)
    invented = (~clean & noisy).sum(0) / np.maximum((~clean).sum(0), 1)
    rates = pd.DataFrame({"missed: share of true findings removed": missed, "invented: share of absent findings added": invented}, index=list(class_names))
    fig, [[ax]] = subplots(size=(WIDTH / 2, 3.0))
    rates.plot.barh(ax=ax, color=[BLUE, RED], width=0.75)
    ax.invert_yaxis()
    ax.set(xlabel="share", title=f"{np.mean(clean != noisy):.1%} of {clean.size:,} labels differ")
    ax.get_legend().remove()
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    return fig


def _heatmap(share: pd.DataFrame, ax, label: str) -> None:
    sns.heatmap(share, ax=ax, vmin=0, vmax=1, cmap="Blues", annot=True, fmt=".2f", annot_kws={"size": 6}, square=True, linewidths=0.5, cbar_kws={"label": label, "shrink": 0.75})
    ax.tick_params(length=0)
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)


@style()
def overlap_heatmap(matrix: np.ndarray, architectures: list[str]) -> Figure:
    """Share of teacher i's subset that is also in teacher j's, |Di ∩ Dj| / |Di| [K, K] (Section III-A)."""
    labels = [f"D{i + 1}  {architecture_name(name)}" for i, name in enumerate(architectures)]
    fig, [[ax]] = subplots(size=(WIDTH / 2, 2.6))
    _heatmap(pd.DataFrame(np.asarray(matrix), index=labels, columns=[f"D{i + 1}" for i in range(len(labels))]), ax, "share of the row's subset")
    return fig


@style()
def montage(images_by_class: dict[str, np.ndarray], title: str) -> Figure:
    """One row of examples per class, images uint8 [n, channels, H, W]."""
    columns = max(map(len, images_by_class.values()))
    size = min(0.7, (WIDTH - 1.2) / columns)
    fig, axes = subplots(len(images_by_class), columns, size=(0.9 + size * columns, 0.45 + size * len(images_by_class)), layout="compressed")
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for row, (name, images) in zip(axes, images_by_class.items(), strict=True):
        for ax in row:
            ax.set_axis_off()
        for ax, image in zip(row, np.asarray(images), strict=False):
            ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    fig.suptitle(title, fontsize=8)
    return fig


@style()
def training_curves(history: pd.DataFrame) -> Figure:
    """Per run, one small panel of losses and one of validation F1 (columns run, epoch, loss; the others where there are any)."""
    runs = list(dict.fromkeys(history["run"]))
    kinds = [[name for name in ("loss", "validation_loss") if name in history], [name for name in ("validation_f1",) if name in history]]
    kinds = [names for names in kinds if names]
    across = min(5, len(runs))
    blocks = -(-len(runs) // across)
    fig, axes = subplots(blocks * len(kinds), across, size=(max(WIDTH * across / 5, WIDTH / 2), 1.25 * blocks * len(kinds) + 0.4), sharex=True)
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
    _share_height(axes, len(kinds))
    lines = [Line2D([], [], color=BLUE, label="training"), Line2D([], [], color=RED, ls="--", label="validation"), Line2D([], [], color=PALE, lw=0.8, label="learning rate falls")]
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


def _share_height(axes: np.ndarray, period: int) -> None:
    """The same scale in every panel of one kind, so that runs can be compared by eye."""
    for kind in range(period):
        panels = [ax for ax in axes[kind::period].flat if ax.get_visible()]
        low, high = min(ax.get_ylim()[0] for ax in panels), max(ax.get_ylim()[1] for ax in panels)
        for ax in panels:
            ax.set_ylim(low, high)


@style()
def teacher_scores(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """F1 on the test part of every teacher, trained on the full set and on its own subset."""
    rows = select(results, setting=TEACHERS, attack="", class_="", metric="f1")
    known = published()["section_4b"]["teachers"]
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 0.9 + 0.24 * max(1, rows["student"].nunique())), sharey=True)
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]]
        here = summary(select(rows, task=task, average=average), by=["setting", "student"])
        table = here.pivot(index="student", columns="setting", values="mean")
        order = sorted(table.index, key=lambda name: (known.index(name) if name in known else len(known), name))
        table, y = table.reindex(index=order, columns=list(TEACHERS)), np.arange(len(order))
        ax.hlines(y, table.min(axis=1), table.max(axis=1), color=PALE, lw=2, zorder=0)
        for setting, marker, colour in zip(TEACHERS, "os", (BLUE, RED), strict=True):
            ax.plot(table[setting], y, marker, color=colour, ms=5, label=setting.removeprefix("teacher, ").replace("subset", "own subset"))
        ax.set_yticks(y, [architecture_name(name) for name in order])
        ax.set(title=task, xlabel=f"F1 ({average})", ylim=(len(order) - 0.5, -0.5))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


@style()
def soft_targets(logits, temperatures, class_names, *, multilabel: bool = False) -> Figure:
    """Eq. 3 of one example's logits [C] at several temperatures."""
    logits = torch.as_tensor(np.asarray(logits), dtype=torch.float64)
    fig, axes = subplots(1, len(temperatures), size=(min(WIDTH, 1.2 + 1.5 * len(temperatures)), 0.7 + 0.18 * len(logits)), sharey=True, sharex=True)
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
    left.set(xlabel="draw", ylabel="share of the weight", ylim=(0, 1), title="one draw per bar", xlim=(0.4, min(40, len(shares)) + 0.6))
    names = [architecture_name(name) for name in architectures] if architectures else [f"teacher {i + 1}" for i in range(k)]
    handles = [Patch(color=colour, label=name) for colour, name in zip(colours(k), names, strict=True)]
    fig.legend(handles=handles, loc="outside upper left", ncols=min(k, 6))
    right.hist(shares.max(1), bins=np.linspace(1 / k, 1, 31), color=PALE, edgecolor="white", lw=0.3)
    expected = sum(1 / i for i in range(1, k + 1)) / k
    right.axvline(expected, ymax=0.76, color=RED, label=f"expected for Exp(1): $H_{{{k}}}/{k}$ = {expected:.3f}")
    right.axvline(shares.max(1).mean(), ymax=0.76, color=BLUE, ls="--", label=f"mean of {len(shares):,} draws: {shares.max(1).mean():.3f}")
    right.set(xlabel="largest share in a draw", ylabel="draws", title="does one teacher dominate?", xlim=(1 / k, 1))
    right.set_ylim(top=right.get_ylim()[1] * 1.3)
    right.legend(loc="upper right")
    return fig


def _shares(weights) -> np.ndarray:
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 2 or (weights < 0).any() or not (weights.sum(1) > 0).all():
        raise InputError(f"weights must be [T, K] with positive sums, found shape {weights.shape}; draw one row per iteration")
    return weights / weights.sum(1, keepdims=True)


def _stack(ax, shares: np.ndarray) -> None:
    bottom = np.zeros(len(shares))
    for share, colour in zip(shares.T, colours(shares.shape[1]), strict=True):
        ax.bar(np.arange(1, len(shares) + 1), share, bottom=bottom, color=colour, width=0.9, lw=0)
        bottom += share


@style()
def averaging_path(history: pd.DataFrame) -> Figure:
    """Validation F1 of the student and of its running average (columns epoch, validation_f1, averaged_validation_f1; Eq. 1)."""
    fig, [[ax]] = subplots(size=(WIDTH / 2, 2.2))
    ax.plot(history["epoch"], history["validation_f1"], "o-", ms=3, color=BLUE, label="student M")
    ax.plot(history["epoch"], history["averaged_validation_f1"], "s-", ms=3, color=RED, label="average M$_{smooth}$")
    started = history.loc[history["averaged_validation_f1"].notna(), "epoch"]
    if len(started):
        ax.axvspan(started.min() - 0.5, history["epoch"].max() + 0.5, color=PALE, alpha=0.35, lw=0, zorder=0, label="epochs averaged")
    ax.set(xlabel="epoch", ylabel="validation F1")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(8, integer=True))
    ax.legend(loc="lower right")
    return fig


@style()
def table1_plot(results: pd.DataFrame, *, tasks: dict[str, dict], student: str = "resnet18") -> Figure:
    """Table I as dots: our F1 (each seed, and mean ± std) beside the printed F1 (hollow diamonds)."""
    rows = select(results, setting=SETTINGS, student=student, attack="", class_="", metric="f1")
    printed = published()["table1"]
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 2.5), sharey=True)
    y = dict(zip(SETTINGS, range(len(SETTINGS)), strict=True))
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]]
        here = select(rows, task=task, average=average)
        paper = printed.get(task, {})
        ax.plot([row["f1"] for row in paper.values()], [y[name] for name in paper], "D", mfc="none", mec=INK, ms=5, ls="", label="paper")
        ours = summary(here, by=["setting"])
        several = bool((ours["n"] > 1).any())
        if several:
            ax.plot(here["value"], here["setting"].map(y) + 0.27, "o", color=BLUE, alpha=0.5, ms=2.5, mew=0, label="ours, each seed")
        ax.errorbar(ours["mean"], ours["setting"].map(y), xerr=ours["std"], fmt="o", color=BLUE, ms=5, capsize=2, lw=1, label="ours, mean ± std" if several else "ours, one seed")
        ax.set(title=task, xlabel=f"F1 ({average})", ylim=(len(y) - 0.5, -0.5))
        ax.set_yticks(list(y.values()), list(y))
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6))
        ax.grid(axis="y", color=PALE, lw=0.4)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return fig
