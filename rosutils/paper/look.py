"""The one look of all figures: colours and markers, points and curves with their spread, chance lines, legends."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.paper.published import published
from rosutils.results import KEYS, select
from rosutils.settings import CHANCE, PRINTED_AVERAGE


INK, GREY, PALE = "#222222", "#7a7a7a", "#d9d9d9"
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
# Okabe and Ito's colours, ordered so that neighbours differ in lightness too; their yellow is too pale for lines.
OKABE_ITO = (BLUE, "#E69F00", GREEN, "#CC79A7", RED, "#56B4E9")
WIDTH = 7.16  # inches, the two-column width of an IEEE page
# One colour, marker and dashes per setting and kind of teacher in every figure; they differ where printed in grey.
LOOK = {
    "Baseline I": (GREY, "X", (1, 1.65)),
    "Baseline II": (GREEN, "^", (5, 1, 1, 1)),
    "Baseline III": (BLUE, "s", (3.7, 1.6)),
    "Baseline III, subset teachers": ("#56B4E9", "D", (3, 1)),
    "Baseline IV": ("#CC79A7", "v", (1, 1)),
    "Baseline V": ("#E69F00", "P", (6.4, 1.6, 1, 1.6)),
    "RoS-KD": (RED, "o", ""),
    "teacher, full set": (INK, "p", (6, 2)),
    "teacher, subset": ("#6A3D9A", "*", (4, 1, 1, 1, 1, 1)),
}
COLOUR, MARKER, DASHES = ({name: look[part] for name, look in LOOK.items()} for part in range(3))
LINES = {name: (0, dashes) if dashes else "-" for name, dashes in DASHES.items()}  # dashes as matplotlib takes them
NO_SKILL = "no skill (best constant, random 97.5 %)"
CHANCE_LOOK = {"color": INK, "ls": (0, (5, 1.5, 1, 1.5, 1, 1.5)), "lw": 0.9}  # grey and dotted is Baseline I
PRINTED = {"marker": "D", "mfc": "none", "mec": INK, "ms": 5, "ls": ""}  # a number of the paper
BARS = {"errorbar": "sd", "legend": False}
_NAMES = {
    "resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNet-v2",
    "densenet121": "DenseNet-121",
}  # fmt: skip
# Fonts, lines and colours of every figure; fonts are embedded as text, not as outlines.
STYLE = sns.axes_style("ticks") | {
    "font.family": "DejaVu Sans", "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.title_fontsize": 7,
    "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
    "axes.titlelocation": "left", "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "lines.linewidth": 1.2, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "patch.edgecolor": "w",
    "figure.dpi": 120, "savefig.dpi": 200, "pdf.fonttype": 42, "savefig.facecolor": "white",
}  # fmt: skip


def style():
    """The look of every figure, as a context or a decorator."""
    return mpl.rc_context(STYLE)


def colours(n: int) -> list[str]:
    """n colours that colour-blind readers can tell apart (n up to 6: Okabe and Ito's)."""
    return list(OKABE_ITO[:n]) if n <= len(OKABE_ITO) else sns.husl_palette(n, l=0.55).as_hex()


def architecture_name(architecture: str) -> str:
    """The name as the paper prints it."""
    base, bracket, number = architecture.partition(" (")  # of several in a pool
    return _NAMES.get(base, base) + bracket + number


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options) -> tuple[Figure, np.ndarray]:
    """Figure and axes [rows, columns], already forgotten by pyplot: a notebook shows it once, and none pile up."""
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **{"layout": "constrained", **options})
    plt.close(fig)
    return fig, axes


def picture(ax, pixels) -> None:
    """Pixels [channels, H, W], uint8 or in [0, 1], without axes."""
    pixels = np.moveaxis(np.asarray(pixels), 0, -1).squeeze()
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255 if pixels.dtype == np.uint8 else 1, interpolation="nearest")
    ax.set_axis_off()


def measured(rows: pd.DataFrame, tasks: dict[str, dict], what: str) -> dict[str, dict]:
    """The tasks that have rows; InputError that names `what` is missing if none has."""
    found = {task: about for task, about in tasks.items() if (rows["task"] == task).any()}
    if not found:
        names = ", ".join(tasks) or "no task"
        raise InputError(f"the results hold nothing for {what} of {names}; run its notebook first")
    return found


def printed_f1(rows: pd.DataFrame, task: str, about: dict) -> tuple[pd.DataFrame, str]:
    """The F1 rows of one task in the averaging that the paper printed, and the label of their axis."""
    average = PRINTED_AVERAGE[about["multilabel"]]
    return select(rows, task=task, metric="f1", class_="", average=average), f"F1 ({average})"


def students(rows: pd.DataFrame) -> list[str]:
    """The architectures that are there, in the order of the paper, the others behind them by alphabet."""
    known = published()["section_4b"]["teachers"]
    return sorted(set(rows["student"]), key=lambda name: (known.index(name) if name in known else len(known), name))


def points(ax, rows: pd.DataFrame, y: str, order: Sequence[str], *, dodge: float = 0.0) -> None:
    """Mean and std of each setting as its marker at the places of `order`, and small below it each of several replicates."""
    settings = [name for name in LOOK if name in set(rows["setting"])]
    where = {"x": "value", "y": y, "hue": "setting", "order": order, "hue_order": settings, "palette": COLOUR, "ax": ax}
    markers = [MARKER[name] for name in settings]
    sns.pointplot(rows, **where, **BARS, dodge=dodge or False, markers=markers, ms=4.5, mew=0, ls="", capsize=0.08,
                  err_kws={"lw": 0.8})  # fmt: skip
    asides = dodge * np.linspace(-0.5, 0.5, len(settings)) if len(settings) > 1 else [0]
    for setting, aside in zip(settings, asides, strict=True):
        here = rows[rows["setting"] == setting]
        several = here[here.groupby(y)["value"].transform("size") > 1]
        places = several[y].map({name: place for place, name in enumerate(order)}) + aside + (0.15 if dodge else 0.27)
        ax.plot(several["value"], places, "o", color=COLOUR[setting], alpha=0.5, ms=2.3, mew=0)
    ax.set_yticks(range(len(order)), map(architecture_name, order))
    ax.set(ylim=(len(order) - 0.5, -0.5), ylabel="")
    ax.tick_params(axis="y", length=0)


def curves(ax, rows: pd.DataFrame, x: str, **look) -> None:
    """The mean of each setting against `x` in its look, with one std over replicates."""
    settings = [name for name in LOOK if name in set(rows["setting"])]
    options = {"ms": 4.5, "mew": 0, "err_kws": {"capsize": 2, "elinewidth": 0.8}} | look
    sns.lineplot(rows, x=x, y="value", hue="setting", style="setting", hue_order=settings, style_order=settings,
                 palette=COLOUR, markers=MARKER, dashes=DASHES, err_style="bars", ax=ax, **BARS | options)  # fmt: skip


def means(ax, rows: pd.DataFrame, at: pd.Series, **how) -> None:
    """The mean at each place, with one std where there are several values."""
    ours = rows.groupby(at.astype(float))["value"].agg(["mean", "std"])
    bars = None if ours["std"].isna().all() else ours["std"]
    ax.errorbar(ours.index, ours["mean"], yerr=bars, capsize=2, elinewidth=0.8, **how)


def f1_panels(study, rows: pd.DataFrame, what: str, draw: Callable, *, handles: dict, across=True, variant="", **size):
    """The figure with a panel for each task: `draw(ax, its F1 rows in the printed averaging, task)`, no skill's line, a legend.

    `size` is the figure's size and what `legend` takes.
    """
    tasks, chance, shown = measured(rows, study.about_tasks(), what), False, []
    results = study.results()
    fig, [axes] = subplots(1, len(tasks), size=size.pop("size"), sharey=across)
    for ax, (task, about) in zip(axes, tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        draw(ax, here, task)
        chance |= chance_line(ax, results, task, about, across=across, variant=variant)
        ax.set(title=task, **{"xlabel" if across else "ylabel": label})
        shown.append(here)
    said = replicates(pd.concat(shown))
    dots = {"each replicate": Line2D([], [], color=GREY, marker="o", ls="", ms=2.3, mew=0)}
    legend(fig, handles | (dots if across and said != "one replicate" else {}), said, chance=chance, **size)
    return fig


def chance_line(ax, results: pd.DataFrame, task: str, about: dict, *, across=False, metric="f1", **which) -> bool:
    """The most that no skill scores on the same test images, as a line of a panel; whether it was measured.

    `which` is a variant or an attack; without them, the profile's own test part.
    """
    average = PRINTED_AVERAGE[about["multilabel"]] if metric == "f1" else "macro"
    where = {"variant": "", "attack": ""} | which
    rows = select(results, task=task, setting=CHANCE, metric=metric, average=average, **where)
    if len(rows):
        highest = rows.groupby("setting")["value"].mean().max()
        (ax.axvline if across else ax.axhline)(highest, zorder=0, label=NO_SKILL, **CHANCE_LOOK)
    return len(rows) > 0


def replicates(rows: pd.DataFrame) -> str:
    """What a point and its bar are, for a legend, from how many replicates the rows have of each measurement."""
    counts = rows.groupby([key for key in KEYS if key != "replicate"], dropna=False).size()
    low, high = counts.min(), counts.max()
    if high == 1:
        return "one replicate"
    several = f"{low} to {high}" if low < high else f"{high}"
    return f"mean ± std over {several} replicates" + (" (one: no bar)" if low == 1 else "")


def handle(setting: str, *, line: bool = True, marker: bool = True) -> Line2D:
    """A setting's line and marker, or one of the two, for a legend."""
    how = {"marker": MARKER[setting] if marker else "", "ls": LINES[setting] if line else ""}
    return Line2D([], [], color=COLOUR[setting], ms=4.5, mew=0, **how)


def legend(fig: Figure, handles: dict[str, Line2D], heading: str | None, *, chance: bool = False, **look) -> None:
    """The legend (label -> handle) over the panels, headed by what points and bars are; no skill's line comes last."""
    handles = handles | ({NO_SKILL: Line2D([], [], **CHANCE_LOOK)} if chance else {})
    where = {"loc": "outside upper right", "alignment": "right", "ncols": 4, "title": heading}
    fig.legend(handles.values(), handles, **where | look)
