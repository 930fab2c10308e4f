"""What the widgets' pictures are put together from: images with their labels, bars."""

import textwrap
from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import Tensor

from rosutils.data import Task
from rosutils.paper import look


def picture(ax, pixels) -> None:
    """Pixels [channels, H, W], uint8 or in [0, 1]."""
    pixels = np.moveaxis(np.asarray(pixels), 0, -1).squeeze()
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255 if pixels.dtype == np.uint8 else 1, interpolation="nearest")
    ax.axis("off")


def title(write: Callable, data: Task, number: int, *, width: int = 16, **how) -> None:
    """What an image was given and, in red, what it is in truth where that is something else."""
    given, clean = (words(data, labels[number]) for labels in (data.labels, data.clean_labels))
    lines = textwrap.wrap(given, width) + (textwrap.wrap(f"in truth {clean}", width) if given != clean else [])
    write("\n".join(lines), color=look.INK if given == clean else look.RED, **how)


def words(data: Task, label: Tensor) -> str:
    """The class of a label, or the findings of several."""
    if not data.multilabel:
        return data.class_names[int(label)]
    return ", ".join(data.class_names[i] for i in label.nonzero()[:, 0].tolist()) or "no finding"


def bars(ax, values: dict, index, colours: list[str], **how) -> None:
    """Bars side by side for each name of `values`, or stacked, from the top."""
    pd.DataFrame(values, index=list(index)).plot.barh(ax=ax, color=colours, width=0.8, lw=0, **{"legend": False} | how)
    ax.invert_yaxis()
