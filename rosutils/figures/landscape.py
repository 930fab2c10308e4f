"""Fig. 4: the loss around two students as contours and surfaces, the numbers beside it, and the line between them."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Template
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.figures.look import SETTING_STYLES, WIDTH, colours, style, subplots
from rosutils.figures.scores import legend_above, measured_tasks
from rosutils.results import select, summary


SETTINGS = ("Baseline III", "RoS-KD")
COLOURS = "cividis"  # even in lightness, and the same to the colour-blind
FLOOR = 1e-3  # the smallest loss that a logarithmic scale shows
VARIANTS = {"landscape": "", "landscape, BatchNorm as copied": ", BatchNorm as copied"}
PANELS = {
    "sharpness": "sharpness: largest rise\nof the loss in a small ball", "hessian_eigenvalue": "largest eigenvalue\nof the Hessian",
    "hessian_trace": "trace of the Hessian", "weight_norm": "norm of the weights",
}  # fmt: skip


@style()
def fig4_contours(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as contours: above clamped at `clamp` as in the paper, below as it is; both models share levels and colours.

    `found` holds {"setting", "seed", "grid" [G], "loss" [G, G]}; the first pair of directions is drawn. Raises
    InputError where a setting's surface is missing.
    """
    planes, seed = _pair(found)
    fig, axes = subplots(2, len(SETTINGS), size=(WIDTH, 5.4), sharex=True, sharey=True)
    whole = np.concatenate([plane["loss"].ravel() for plane in planes])
    for line, (name, scale, losses) in zip(axes, _scales(whole, clamp), strict=True):
        levels = _levels(scale)
        for ax, plane in zip(line, planes, strict=True):
            _contours(ax, plane["grid"], losses(plane["loss"]), scale, levels)
            ax.set_title(f"{plane['setting']}, {name}")
        bar = fig.colorbar(ScalarMappable(scale, COLOURS), ax=line, aspect=18, pad=0.02)
        bar.set_label(f"test loss, {name}")
    for ax in axes[-1]:
        ax.set_xlabel("second direction (× the filters' norms)")
    for ax in axes[:, 0]:
        ax.set_ylabel("first direction (× the filters' norms)")
    fig.suptitle(f"{task}: same directions (draw {seed}) and test images for both; + the trained weights", fontsize=8)
    return fig


@style()
def fig4_surfaces(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as surfaces over the plane, clamped at `clamp`, one scale for both models; `found` as in `fig4_contours`."""
    planes, seed = _pair(found)
    top = min(clamp, max(_finite_max(plane["loss"]) for plane in planes))
    scale = Normalize(0, top)
    fig, axes = subplots(1, len(SETTINGS), size=(WIDTH, 3.3), subplot_kw={"projection": "3d"})
    for ax, plane in zip(axes[0], planes, strict=True):
        x, y = np.meshgrid(plane["grid"], plane["grid"])
        height = np.nan_to_num(np.minimum(plane["loss"], top), nan=top)
        ax.plot_surface(x, y, height, cmap=COLOURS, norm=scale, rstride=1, cstride=1, lw=0.2, edgecolor="#00000030")
        ax.set(zlim=(0, top), title=plane["setting"], xlabel="second direction", ylabel="first direction")
        ax.set_zlabel("test loss", labelpad=-4)
        ax.view_init(elev=32, azim=-60)
        ax.tick_params(pad=-3, labelsize=6)
        ax.set(xticks=plane["grid"][[0, len(x) // 2, -1]], yticks=plane["grid"][[0, len(x) // 2, -1]])
        ax.xaxis.labelpad = ax.yaxis.labelpad = -6
        ax.set_box_aspect(None, zoom=0.86)
    fig.colorbar(ScalarMappable(scale, COLOURS), ax=axes[0], shrink=0.6, pad=0.06).set_label(
        f"test loss, clamped at {clamp:g}"
    )
    fig.suptitle(f"{task}: directions of draw {seed}", fontsize=8)
    return fig


def turnable_surfaces(found: list[dict], *, clamp: float, task: str) -> str:
    """The same surfaces as HTML that a mouse or a finger turns, both at once; nothing is loaded from elsewhere."""
    planes, seed = _pair(found)
    top = min(clamp, max(_finite_max(plane["loss"]) for plane in planes))
    table = mpl.colormaps[COLOURS](np.linspace(0, 1, 64))[:, :3]
    data = {
        "top": round(top, 4), "colours": (255 * table).round().astype(int).tolist(),
        "grid": np.round(planes[0]["grid"], 4).tolist(),
        "planes": [
            {"title": p["setting"], "loss": np.nan_to_num(np.minimum(p["loss"], top), nan=top).round(4).tolist()} for p in planes
        ],
    }  # fmt: skip
    template = Template(Path(__file__).with_name("turnable.html.j2").read_text(encoding="utf-8"), autoescape=True)
    return template.render(task=task, seed=seed, clamp=f"{clamp:g}", data=json.dumps(data))


@style()
def basin_plot(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """The numbers beside Fig. 4: basin at each rise of the loss (a dot per pair of directions), sharpness, Hessian, norm."""
    rows = results[results["variant"].isin(VARIANTS)]
    tasks = measured_tasks(rows, tasks, "the loss landscape")
    shown = [(s, v) for s in SETTINGS for v in VARIANTS if len(select(rows, setting=s, variant=v))]
    fig, axes = subplots(
        len(tasks), 1 + len(PANELS), size=(WIDTH, 0.8 + 1.75 * len(tasks)), width_ratios=[2.2] + [1] * len(PANELS)
    )
    for line, task in zip(axes, tasks, strict=True):
        _basins(line[0], select(rows, task=task, metric="basin_area"), shown)
        line[0].set_ylabel(f"{task}\nbasin, share of the plane")
        for ax, (metric, title) in zip(line[1:], PANELS.items(), strict=True):
            _bars(ax, select(rows, task=task, metric=metric), shown)
            ax.set_title(title, fontsize=6.5, loc="center")
    handles = {f"{s}{VARIANTS[v]}": Line2D([], [], ls="", ms=5, **_look(s, v)) for s, v in shown}
    counts = select(rows, metric="basin_area").groupby(["task", "setting", "variant", "average"])["seed"].nunique()
    several = int(counts.max()) if len(counts) else 0
    heading = (
        f"one student each; basins: mean and each of {several} draws of directions"
        if several > 1
        else "one student each"
    )
    legend_above(fig, handles, heading)
    return fig


@style()
def path_plot(paths: dict[str, np.ndarray], *, task: str) -> Figure:
    """The loss on the straight line from Baseline III (0) to RoS-KD (1), one line for each student seed."""
    if not paths:
        raise InputError("there is no path to draw; train Baseline III and RoS-KD for one seed at least")
    fig, axes = subplots(size=(WIDTH / 2, 2.3))
    ax = axes[0, 0]
    for (label, losses), colour, line in zip(paths.items(), colours(len(paths)), _dashes(len(paths)), strict=True):
        ax.plot(np.linspace(0, 1, len(losses)), losses, color=colour, ls=line, marker="o", ms=2, label=label)
    ax.set(title=task, xlabel="share of the way from Baseline III (0) to RoS-KD (1)", ylabel="test loss")
    ax.legend()
    return fig


def _pair(found: list[dict]) -> tuple[list[dict], int]:
    """The surfaces of both settings in the first pair of directions, and its seed."""
    seed = min((plane["seed"] for plane in found), default=0)
    chosen = {plane["setting"]: plane for plane in found if plane["seed"] == seed}
    missing = [setting for setting in SETTINGS if setting not in chosen]
    if missing:
        raise InputError(
            f"there is no surface of {' and '.join(missing)} in direction seed {seed}; run study.runs('fig4')"
        )
    return [chosen[setting] for setting in SETTINGS], seed


def _finite_max(losses: np.ndarray) -> float:
    finite = losses[np.isfinite(losses)]
    return float(finite.max()) if finite.size else 1.0


def _scales(whole: np.ndarray, clamp: float) -> list[tuple]:
    """(name, colour scale, what is done to a loss) of both rows."""
    low, high = max(FLOOR, float(np.nanmin(whole))), _finite_max(whole)
    clamped = Normalize(0, min(clamp, high))
    as_it_is = LogNorm(low, max(high, 1.01 * low))
    return [
        (f"clamped at {clamp:g}", clamped, lambda loss: np.nan_to_num(np.minimum(loss, clamp), nan=clamp)),
        (
            "as it is (logarithmic)",
            as_it_is,
            lambda loss: np.clip(np.nan_to_num(loss, nan=high, posinf=high), low, None),
        ),
    ]


def _levels(scale: Normalize) -> np.ndarray:
    spaced = np.geomspace if isinstance(scale, LogNorm) else np.linspace
    return spaced(scale.vmin, scale.vmax, 13)


def _contours(ax, grid: np.ndarray, loss: np.ndarray, scale: Normalize, levels: np.ndarray) -> None:
    ax.contourf(grid, grid, loss, levels=levels, norm=scale, cmap=COLOURS, extend="max")
    lines = ax.contour(grid, grid, loss, levels=levels[1:-1], colors="white", linewidths=0.5)
    ax.clabel(lines, lines.levels[::3], fmt="%.2g", fontsize=5.5)
    ax.plot(0, 0, "+", color="white", ms=7, mew=1.2)
    ax.set_aspect("equal")


def _look(setting: str, variant: str) -> dict:
    look = SETTING_STYLES[setting]
    filled = {"color": look["color"], "marker": look["marker"]}
    return filled | ({"mfc": "white", "mew": 1.0} if VARIANTS[variant] else {"mew": 0})


def _basins(ax, rows: pd.DataFrame, shown: list[tuple[str, str]]) -> None:
    levels = sorted(rows["average"].unique(), key=float)
    for place, (setting, variant) in enumerate(shown):
        here = select(rows, setting=setting, variant=variant)
        if here.empty:
            continue
        ours = summary(here, by=["average"]).set_index("average").reindex(levels)
        x = np.arange(len(levels)) + 0.18 * (place - (len(shown) - 1) / 2)
        ax.plot(x, ours["mean"], ls="", ms=5, **_look(setting, variant))
        each = here["average"].map(dict(zip(levels, x, strict=True)))
        ax.plot(each, here["value"], ".", ms=2.2, color=SETTING_STYLES[setting]["color"], alpha=0.6)
    ax.set_xticks(range(len(levels)), [f"+{level}" for level in levels])
    ax.set(xlabel="rise of the loss over the centre's", ylim=(0, 1.05))


def _bars(ax, rows: pd.DataFrame, shown: list[tuple[str, str]]) -> None:
    values = [select(rows, setting=setting, variant=variant)["value"].mean() for setting, variant in shown]
    for place, ((setting, variant), value) in enumerate(zip(shown, values, strict=True)):
        colour = SETTING_STYLES[setting]["color"]
        ax.bar(place, value, width=0.7, color="white" if VARIANTS[variant] else colour, edgecolor=colour, lw=1)
    ax.set_xticks([])
    ax.locator_params(axis="y", nbins=4)
    ax.ticklabel_format(axis="y", scilimits=(-3, 4))
    ax.axhline(0, color="#222222", lw=0.6)


def _dashes(count: int) -> list:
    return [("-", "--", ":", "-.")[place % 4] for place in range(count)]
