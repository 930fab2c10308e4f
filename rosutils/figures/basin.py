"""The numbers beside Fig. 4's pictures, and the line between both students."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.figures.look import INK, SETTING_STYLES, WIDTH, colours, style, subplots
from rosutils.figures.scores import draw_means, legend_above, measured_tasks, over_seeds
from rosutils.results import KEYS, select, summary


# Label -> setting and variant in the results.
STATES = {
    "Baseline III": ("Baseline III", "landscape"),
    "RoS-KD": ("RoS-KD", "landscape"),
    "RoS-KD, BatchNorm as copied": ("RoS-KD", "landscape, BatchNorm as copied"),
}
BARS = {
    "hessian_eigenvalue": "Hessian's largest\neigenvalue",
    "hessian_trace": "trace of the\nHessian",
    "weight_norm": "norm of\nthe weights",
}


@style()
def basin_plot(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """The numbers beside Fig. 4: the basin by rise of the loss, sharpness by radius, Hessian and weight norm over replicates.

    Of several pairs of directions the mean counts, once for each replicate. The eigenvalue is the largest in magnitude; the
    trace of a single replicate has its standard error. Raises InputError where no task has been measured.
    """
    wanted = pd.MultiIndex.from_tuples(STATES.values())
    rows = results[pd.MultiIndex.from_frame(results[["setting", "variant"]]).isin(wanted)]
    tasks = measured_tasks(rows, tasks, "the loss landscape")
    shown = [state for state, (s, v) in STATES.items() if len(select(rows, setting=s, variant=v, task=tuple(tasks)))]
    size, ratios = (WIDTH, 1.0 + 1.7 * len(tasks)), [2.2, 2.0] + [0.9] * len(BARS)
    fig, axes = subplots(len(tasks), len(ratios), size=size, width_ratios=ratios)
    counts = []
    for line, task in zip(axes, tasks, strict=True):
        here = {state: _over_directions(select(rows, task=task, setting=s, variant=v))
                for state, (s, v) in STATES.items() if state in shown}  # fmt: skip
        counts += [table["replicate"].nunique() for table in here.values() if len(table)]
        _basins(line[0], here)
        line[0].set_ylabel(f"{task}\nshare of the plane (%)")
        _sharpness(line[1], here)
        for ax, metric in zip(line[2:], BARS, strict=True):
            _bars(ax, here, metric)
    titles = ("basin around the centre", "sharpness: largest rise found", *BARS.values())
    for place, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.set_title(title, fontsize=7, loc="left" if place < 2 else "center")
    axes[-1, 0].set_xlabel("reached by a rise of the loss of at most")
    axes[-1, 1].set_xlabel("radius, as a share of the norm")
    handles = {state: Line2D([], [], ls="", ms=5, **_look(state)) for state in shown}
    alone = "; bar of the trace: its standard error" if max(counts) == 1 else ""
    legend_above(fig, handles, over_seeds(counts) + alone)
    return fig


@style()
def path_plot(paths: dict[str, np.ndarray], *, task: str) -> Figure:
    """The loss on the straight line from Baseline III (0) to RoS-KD (1); `paths` holds [steps] for each replicate.

    Raises InputError where there is none.
    """
    if not paths:
        raise InputError("there is no path to draw; train Baseline III and RoS-KD for one replicate at least")
    fig, [[ax]] = subplots(size=(WIDTH / 2, 2.3))
    for place, ((label, losses), colour) in enumerate(zip(paths.items(), colours(len(paths)), strict=True)):
        look = {"color": colour, "ls": ("-", "--", ":", "-.")[place % 4]}
        x = np.linspace(0, 1, len(losses))
        ax.plot(x, losses, **look, label=label)
        for end, setting in ((0, "Baseline III"), (-1, "RoS-KD")):
            ax.plot(x[end], losses[end], SETTING_STYLES[setting]["marker"], color=colour, ms=4, mew=0)
    ax.set(
        title=f"{task}: weights and BatchNorm statistics", xlabel="share of the way", ylabel="loss on the test images"
    )
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\nBaseline III", "0.25", "0.5", "0.75", "1\nRoS-KD"])
    ax.legend()
    return fig


def _look(state: str) -> dict:
    """Marker and colour of the setting, hollow where BatchNorm is as copied."""
    look = SETTING_STYLES[STATES[state][0]]
    hollow = {"mfc": "white"} if "copied" in state else {}
    return {"color": look["color"], "marker": look["marker"], "mew": 1.0} | hollow


def _over_directions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each replicate: the mean over its pairs of directions, which are no independent repetitions."""
    alike = [name for name in KEYS if name != "class"]
    return rows.groupby(alike, dropna=False, as_index=False)["value"].mean().assign(**{"class": ""})


def _basins(ax, here: dict[str, pd.DataFrame]) -> None:
    """Mean and std of each state at each level, each replicate beside them."""
    rows = {state: select(table, metric="basin_area") for state, table in here.items()}
    levels = sorted(set(pd.concat(rows.values())["average"]), key=float)
    for place, (state, table) in enumerate(rows.items()):
        x = {level: at + 0.26 * (place - (len(rows) - 1) / 2) for at, level in enumerate(levels)}
        percent = table.assign(value=100 * table["value"])
        ours = summary(percent, by=["average"])
        if len(ours):
            look = _look(state) | {"ls": "", "mew": 0.8}
            draw_means(ax, ours["average"].map(x), ours["mean"], ours, STATES[state][0], **look)
        if len(ours) and ours["n"].max() > 1:
            dots = {"color": look["color"], "alpha": 0.5, "ms": 2.5, "mew": 0}
            ax.plot(percent["average"].map(x) + 0.09, percent["value"], "o", **dots)
    ax.set_xticks(range(len(levels)), [f"+{level}" for level in levels])
    ax.set(ylim=(0, 1.1 * max(ax.get_ylim()[1], 1e-3)))


def _sharpness(ax, here: dict[str, pd.DataFrame]) -> None:
    """Mean and std of each state by radius; what is 0 or not finite has no place on a logarithmic scale."""
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()
    for state, table in here.items():
        ours = summary(select(table, metric="sharpness"), by=["average"]).astype({"average": float})
        ours = ours[np.isfinite(ours["mean"]) & (ours["mean"] > 0)].sort_values("average")
        if len(ours):
            look = _look(state) | {"ms": 3.5, "mew": 0.8, "lw": 1}
            draw_means(ax, ours["average"], ours["mean"], ours, STATES[state][0], **look)


def _bars(ax, here: dict[str, pd.DataFrame], metric: str) -> None:
    """A bar for each state with its value written on it, and its std over replicates, or the standard error of one."""
    for place, (state, table) in enumerate(here.items()):
        colour = SETTING_STYLES[STATES[state][0]]["color"]
        values = select(table, metric=metric)["value"]
        value, error = values.mean(), values.std()
        if np.isnan(error):
            error = select(table, metric=f"{metric}_error")["value"].mean()
        if np.isnan(value):
            continue
        face = "white" if "copied" in state else colour
        bar = {"width": 0.72, "color": face, "edgecolor": colour, "lw": 1}
        ax.bar(
            place, value, yerr=None if np.isnan(error) else error, error_kw={"ecolor": INK, "elinewidth": 0.8}, **bar
        )
        end = value + np.sign(value) * np.nan_to_num(error)
        down = value < 0
        text = {"ha": "center", "va": "top" if down else "bottom", "fontsize": 6, "textcoords": "offset points"}
        ax.annotate(f"{float(f'{value:.3g}'):g}", (place, end), (0, -1.5 if down else 1.5), **text)
    ax.axhline(0, color=INK, lw=0.6)
    ax.set(xticks=[], yticks=[], xlim=(-0.6, len(here) - 0.4))
    ax.margins(y=0.12)
    ax.spines[["left", "bottom"]].set_visible(False)
