"""What goes in: classes, images, label noise, subsets."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from rosutils.data import intensities
from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.subsets import overlap_matrix


QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def class_counts(labels_by_part: dict[str, np.ndarray], class_names, multilabel: bool) -> Figure:
    """Examples per class in each part (labels int [N], or float [N, C] where one may count for several)."""
    parts = labels_by_part.items()
    counts = {p: y.sum(0) if multilabel else np.bincount(y, minlength=len(class_names)) for p, y in parts}
    counts = pd.DataFrame(counts, index=list(class_names))
    fig, [[ax]] = look.subplots(size=(look.WIDTH, 2.3))
    flat = max(map(len, class_names)) < 9
    counts.plot.bar(ax=ax, color=look.colours(counts.shape[1]), width=0.8, rot=0 if flat else 20)
    if counts.max(axis=None) > 50 * counts[counts > 0].min(axis=None):
        ax.set(yscale="log", ylim=(0.7, None))
        ax.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    for bar in ax.patches:  # a class with no image has no bar, but it has its 0
        at = bar.get_x() + bar.get_width() / 2, max(bar.get_height(), ax.get_ylim()[0])
        ax.annotate(f"{bar.get_height():,.0f}", at, (0, 1), textcoords="offset points", ha="center", fontsize=5.5)
    ax.set_ylabel("images with the label" if multilabel else "images")
    names = [f"{part} ({len(labels):,})" for part, labels in labels_by_part.items()]
    ax.legend(names, ncols=len(names), loc="lower right", bbox_to_anchor=(1, 1))
    ax.tick_params(axis="x", length=0)
    return fig


def noise_matrix(clean: np.ndarray, noisy: np.ndarray, class_names) -> Figure:
    """What the noise did: P(given | clean label) [C, C], or per label ([N, C]) the shares missed and invented."""
    clean, noisy = np.asarray(clean), np.asarray(noisy)
    fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 3.0))
    if clean.ndim == 1:
        share = confusion_matrix(clean, noisy, labels=range(len(class_names)), normalize="true")
        heatmap(share, ax, "P(given | clean)", rows=class_names, columns=class_names)
        ax.set(xlabel="given label", ylabel="clean label")
    else:
        there, told = pd.DataFrame(clean > 0.5, columns=list(class_names)), noisy > 0.5
        rates = pd.DataFrame({
            "missed: share of true findings removed": (there & ~told).sum() / there.sum().clip(lower=1),
            "invented: share of absent findings added": (~there & told).sum() / (~there).sum().clip(lower=1),
        })  # fmt: skip
        rates.plot.barh(ax=ax, color=[look.BLUE, look.RED], width=0.75, legend=False)
        ax.invert_yaxis()
        ax.set(xlim=(0, max(0.05, 1.05 * rates.to_numpy().max())), xlabel="share")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    ax.set_title(f"{np.mean(clean != noisy):.1%} of {clean.size:,} labels differ")
    return fig


def heatmap(share: np.ndarray, ax, label: str, *, rows, columns, bar: bool = True) -> None:
    """Shares between 0 and 1 as a map with their numbers."""
    sns.heatmap(share, ax=ax, vmin=0, vmax=1, cmap="Blues", annot=True, fmt=".2f", annot_kws={"size": 6}, square=True,
                linewidths=0.5, cbar=bar, cbar_kws={"label": label, "shrink": 0.75} if bar else None, xticklabels=columns,
                yticklabels=rows)  # fmt: skip
    ax.tick_params(length=0)
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)


def overlap_heatmap(matrix: np.ndarray, architectures: list[str]) -> Figure:
    """Share of teacher i's subset that is also in teacher j's, |Di ∩ Dj| / |Di| [K, K] (Section III-A)."""
    names = [f"D{i}" for i in range(1, len(architectures) + 1)]
    rows = [f"{name}  {look.architecture_name(of)}" for name, of in zip(names, architectures, strict=True)]
    fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 2.6))
    heatmap(np.asarray(matrix), ax, "share of the row's subset", rows=rows, columns=names)
    ax.set_aspect("auto")  # the layout cuts the names beside a square
    return fig


def sharing(subsets, architectures: list[str]) -> Figure:
    """Images of each teacher's subset by how many of the K teachers have it (Section III-A); above, what two of them share."""
    names = [f"D{n}  {look.architecture_name(of)}" for n, of in enumerate(architectures, 1)]
    seen, k = np.bincount(np.concatenate([np.asarray(subset) for subset in subsets])), len(subsets)
    counts = np.array([np.bincount(seen[np.asarray(subset)], minlength=k + 1)[1:] for subset in subsets])[:, ::-1]
    shades = mpl.colormaps["Blues"](np.linspace(0.9, 0.25, k))
    fig, [[ax]] = look.subplots(size=(look.WIDTH, 0.85 + 0.22 * k))
    for place in np.flatnonzero(counts.any(axis=0)):
        left, label = counts[:, :place].sum(1), f"{k - place} of {k}" if place else f"all {k}"
        bars = ax.barh(names, counts[:, place], left=left, color=shades[place], height=0.7, label=label)
        inside = [count if count > 0.03 * counts.sum(1).max() else "" for count in counts[:, place]]
        ax.bar_label(bars, inside, label_type="center", size=6, color="white" if place < k / 2 else look.INK)
    matrix = overlap_matrix(subsets).numpy()
    two = matrix[~np.eye(k, dtype=bool)] if k > 1 else np.ones(1)
    shared = f"two subsets share {two.min():.0%} to {two.max():.0%} of themselves"
    ax.set(xlabel="training images in the subset", title=shared)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    fig.legend(loc="outside upper right", ncols=k, title="in the subsets of", alignment="right")
    return fig


def image_checks(sizes: dict[str, int] | None, intensities: dict[str, np.ndarray], pixels: int) -> Figure:
    """Sizes in the files ({"600x450": images}, None where they are drawn) and mean intensity per class (float [n] each)."""
    size = (look.WIDTH if sizes else look.WIDTH / 2, 0.9 + 0.2 * len(intensities))
    fig, [axes] = look.subplots(1, 2 if sizes else 1, size=size)
    if sizes:
        axes[0].barh([*sizes], [*sizes.values()], height=0.6, color=look.BLUE)
        axes[0].set(xlabel="images", title=f"width x height in the files; here {pixels} px")
        axes[0].set_ylim(max(len(sizes), 6) - 0.5, -0.5)
        axes[0].tick_params(axis="y", length=0)
    found, ax = {name: np.quantile(each, QUANTILES) for name, each in intensities.items() if len(each)}, axes[-1]
    rows, (least, low, lower, median, upper, high, most) = np.arange(len(found)), np.array([*found.values()]).T
    ax.hlines(rows, low, high, colors=look.BLUE, linewidths=1)
    ax.hlines(rows, lower, upper, colors=look.BLUE, linewidths=5)
    ax.plot(median, rows, "o", color="white", ms=2.5)
    ax.plot([least, most], [rows, rows], ".", color=look.RED, ms=3)
    ax.set_yticks(rows, list(found))
    ax.invert_yaxis()
    ax.set(xlim=(0, 255), xlabel="mean pixel value of a training image")
    ax.set_title("intensity: median, middle half,\n90 % and extremes")
    return fig


@look.style()
def montage(images_by_class: dict[str, np.ndarray], title: str) -> Figure:
    """One row of examples per class, images uint8 [n, channels, H, W]."""
    columns = max(map(len, images_by_class.values()))
    size = min(0.7, (look.WIDTH - 1.2) / columns)
    page = (0.9 + size * columns, 0.45 + size * len(images_by_class))
    fig, axes = look.subplots(len(images_by_class), size=page, layout="compressed")
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for ax, (name, images) in zip(axes[:, 0], images_by_class.items(), strict=True):
        look.picture(ax, _side_by_side(np.asarray(images), columns))
        ax.text(-0.02, 0.5, name, transform=ax.transAxes, ha="right", va="center")
    fig.suptitle(title, fontsize=8)
    return fig


def _side_by_side(images: np.ndarray, columns: int) -> np.ndarray:
    """Images [n, channels, H, W] as one [channels, H, about columns * W]: one panel is drawn many times faster than n."""
    n, channels, height, width = images.shape
    gap = max(1, width // 24)
    strip = np.full((channels, height, columns, width + gap), 255, np.uint8)
    strip[:, :, :n, :width] = images.transpose(1, 2, 0, 3)
    return strip.reshape(channels, height, -1)[..., :-gap]


def _counts(study, name: str) -> Figure:
    task = study.task(name)
    labels = {part: task.clean_labels[index].numpy() for part, index in task.split.items()}
    return class_counts(labels, task.class_names, task.multilabel)


def _checks(study, name: str) -> Figure:
    task = study.task(name)
    return image_checks(task.card.get("raw", {}).get("sizes"), intensities(task), study.parameters.data.pixels)


def _noise(study, name: str) -> Figure | None:
    task, train = study.task(name), study.task(name).split["train"]
    labels = task.clean_labels[train].numpy(), task.labels[train].numpy()
    return noise_matrix(*labels, task.class_names) if task.noise_rate > 0 else None


def _overlap(study, name: str) -> Figure:
    return sharing(study.subsets(name), study.parameters.teachers.architectures)


CLASS_COUNTS, CHECKS, NOISE, OVERLAP = (
    Item(name, title, "01_data", (), make, says, each=True)
    for name, title, make, says in (
        ("class_counts", "Classes", _counts, "Images per class in each part, before any label noise."),
        ("checks", "Images", _checks, "Sizes in the files, and mean intensity of the training images by class."),
        ("noise", "Label noise", _noise, "What was done to the labels of the training part; the others keep theirs."),
        ("overlap", "Overlap", _overlap, "Images of each teacher's subset by how many teachers have them in theirs."),
    )
)
