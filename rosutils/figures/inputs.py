"""What goes in: classes, label noise, subsets, images."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rosutils.figures.look import BLUE, RED, WIDTH, architecture_name, colours, style, subplots


@style()
def class_counts(labels_by_part: dict[str, np.ndarray], class_names, multilabel: bool) -> Figure:
    """Examples per class in each part (labels int [N], or float [N, C] where one may count for several)."""
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
            ax.annotate(
                f"{bar.get_height():,.0f}",
                (bar.get_x() + bar.get_width() / 2, at),
                (0, 1),
                textcoords="offset points",
                ha="center",
                fontsize=5.5,
            )
    ax.set_ylabel("images with the label" if multilabel else "images")
    ax.legend(
        [f"{part} ({len(labels):,})" for part, labels in labels_by_part.items()],
        ncols=counts.shape[1],
        loc="lower right",
        bbox_to_anchor=(1, 1),
    )
    ax.tick_params(axis="x", length=0)
    return fig


@style()
def noise_matrix(clean: np.ndarray, noisy: np.ndarray, class_names) -> Figure:
    """What the noise did: P(given | clean label) [C, C], or per label ([N, C]) the shares missed and invented."""
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
    rates = pd.DataFrame(
        {"missed: share of true findings removed": missed, "invented: share of absent findings added": invented},
        index=list(class_names),
    )
    fig, [[ax]] = subplots(size=(WIDTH / 2, 3.0))
    rates.plot.barh(ax=ax, color=[BLUE, RED], width=0.75)
    ax.invert_yaxis()
    ax.set(
        xlim=(0, max(0.05, 1.05 * rates.to_numpy().max())),
        xlabel="share",
        title=f"{np.mean(clean != noisy):.1%} of {clean.size:,} labels differ",
    )
    ax.get_legend().remove()
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=1)
    return fig


def _heatmap(share: pd.DataFrame, ax, label: str) -> None:
    import seaborn  # here, where it is needed: it takes half a second

    seaborn.heatmap(
        share,
        ax=ax,
        vmin=0,
        vmax=1,
        cmap="Blues",
        annot=True,
        fmt=".2f",
        annot_kws={"size": 6},
        square=True,
        linewidths=0.5,
        cbar_kws={"label": label, "shrink": 0.75},
    )
    ax.tick_params(length=0)
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)


@style()
def overlap_heatmap(matrix: np.ndarray, architectures: list[str]) -> Figure:
    """Share of teacher i's subset that is also in teacher j's, |Di ∩ Dj| / |Di| [K, K] (Section III-A)."""
    labels = [f"D{i + 1}  {architecture_name(name)}" for i, name in enumerate(architectures)]
    fig, [[ax]] = subplots(size=(WIDTH / 2, 2.6))
    _heatmap(
        pd.DataFrame(np.asarray(matrix), index=labels, columns=[f"D{i + 1}" for i in range(len(labels))]),
        ax,
        "share of the row's subset",
    )
    return fig


@style()
def image_checks(sizes: dict[str, int] | None, intensities: dict[str, np.ndarray], pixels: int) -> Figure:
    """Sizes in the files ({"600x450": images}, None where they are drawn) and mean intensity per class (float [n] each)."""
    fig, [axes] = subplots(
        columns=2 if sizes else 1, size=(WIDTH if sizes else WIDTH / 2, 0.9 + 0.2 * len(intensities))
    )
    if sizes:
        axes[0].barh(list(sizes), list(sizes.values()), height=0.6, color=BLUE)
        axes[0].set(xlabel="images", title=f"width x height in the files; here {pixels} px")
        axes[0].set_ylim(max(len(sizes), 6) - 0.5, -0.5)
        axes[0].tick_params(axis="y", length=0)
    _spread({name: values for name, values in intensities.items() if len(values)}, axes[-1])
    axes[-1].set(xlim=(0, 255), xlabel="mean pixel value of a training image")
    axes[-1].set_title("intensity: median, middle half,\n90 % and extremes")
    return fig


def _spread(values: dict[str, np.ndarray], ax) -> None:
    rows = np.arange(len(values))
    quantiles = [np.quantile(here, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]) for here in values.values()]
    least, low, lower, median, upper, high, most = np.array(quantiles).T
    ax.hlines(rows, low, high, colors=BLUE, linewidths=1)
    ax.hlines(rows, lower, upper, colors=BLUE, linewidths=5)
    ax.plot(median, rows, "o", color="white", ms=2.5)
    ax.plot(np.concatenate([least, most]), np.tile(rows, 2), ".", color=RED, ms=3)
    ax.set_yticks(rows, list(values))
    ax.invert_yaxis()


@style()
def montage(images_by_class: dict[str, np.ndarray], title: str) -> Figure:
    """One row of examples per class, images uint8 [n, channels, H, W]."""
    columns = max(map(len, images_by_class.values()))
    size = min(0.7, (WIDTH - 1.2) / columns)
    fig, axes = subplots(
        len(images_by_class),
        size=(0.9 + size * columns, 0.45 + size * len(images_by_class)),
        layout="compressed",
    )
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for ax, (name, images) in zip(axes[:, 0], images_by_class.items(), strict=True):
        ax.set_axis_off()
        ax.imshow(_side_by_side(np.asarray(images), columns), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.text(-0.02, 0.5, name, transform=ax.transAxes, ha="right", va="center")
    fig.suptitle(title, fontsize=8)
    return fig


def _side_by_side(images: np.ndarray, columns: int) -> np.ndarray:
    """Images [n, channels, H, W] as one [H, about columns * W, channels]: one panel is drawn many times faster than n."""
    n, channels, height, width = images.shape
    gap = max(1, width // 24)
    strip = np.full((columns, height, width + gap, channels), 255, np.uint8)
    strip[:n, :, :width] = images.transpose(0, 2, 3, 1)
    return strip.transpose(1, 0, 2, 3).reshape(height, -1, channels)[:, :-gap].squeeze()
