"""Fig. 4: the loss on a plane through both students' weights, as contours and as surfaces."""

import functools
import math
from collections.abc import Callable

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from rosutils import InputError
from rosutils.figures.look import INK, WIDTH, style, subplots


SETTINGS = ("Baseline III", "RoS-KD")
COLOURS = "cividis"  # even in lightness, and the same to the colour-blind
WIDE = 20  # a highest loss of so many times the lowest is drawn on a logarithmic scale
FLOOR = 1e-6  # what a logarithmic scale shows at most below the highest loss
UNIT = "(filter norms)"
INSIDE = 0.93  # of the way from the centre to the border; a label further out would be cut


@style()
def fig4_contours(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as contours: above clamped at `clamp` as in the paper, below as it is; both models share levels and colours.

    `found` holds {"setting", "seed" of the directions, "grid" [G], "loss" [G, G]}, rows along the first direction; the
    first seed is drawn. A loss that is not finite is drawn as the highest. Raises InputError for a clamp that is not
    positive, and where a setting's surface is missing, has another grid or no finite loss.
    """
    planes, seed = _pair(found)
    fig, axes = subplots(2, len(SETTINGS), size=(WIDTH, 6.4), sharex=True, sharey=True)
    for line, (name, scale, shown) in zip(axes, _views(planes, clamp), strict=True):
        levels = _levels(scale)
        for ax, plane in zip(line, planes, strict=True):
            _contours(ax, plane["grid"], shown(plane["loss"]), scale, levels)
            centre = plane["loss"][(len(plane["grid"]) // 2,) * 2]
            ax.set_title(f"{plane['setting']}: {centre:.3g} in the centre")
        bar = fig.colorbar(ScalarMappable(scale, COLOURS), ax=line, aspect=22, pad=0.02)
        bar.set_label(f"loss on the test images, {name}")
    for ax in axes[-1]:
        ax.set_xlabel(f"second direction {UNIT}")
    for ax in axes[:, 0]:
        ax.set_ylabel(f"first direction {UNIT}")
    fig.suptitle(f"{task}: {_same(found, seed)}; + marks the trained weights", fontsize=8)
    return fig


@style()
def fig4_surfaces(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as surfaces over the plane, clamped at `clamp` as in the paper, one scale for both; else as `fig4_contours`."""
    planes, seed = _pair(found)
    name, scale, shown = _views(planes, clamp)[0]
    fig, axes = subplots(1, len(SETTINGS), size=(WIDTH, 3.4), subplot_kw={"projection": "3d"})
    fig.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))  # the layout does not see that labels hang below the boxes
    for ax, plane in zip(axes[0], planes, strict=True):
        x, y = np.meshgrid(plane["grid"], plane["grid"])
        mesh = {"rstride": 1, "cstride": 1, "lw": 0.2, "edgecolor": "#00000030"}
        ax.plot_surface(x, y, shown(plane["loss"]), cmap=COLOURS, norm=scale, **mesh)
        ends = plane["grid"][[0, len(x) // 2, -1]]
        ax.set(zlim=(0, scale.vmax), xticks=ends, yticks=ends, zticks=_ticks(scale), title=plane["setting"])
        ax.set_xlabel(f"second direction {UNIT}", labelpad=-5, fontsize=6.5)
        ax.set_ylabel(f"first direction {UNIT}", labelpad=-5, fontsize=6.5)
        ax.set_zlabel("loss", labelpad=-7)
        ax.tick_params(pad=-3, labelsize=6)
        ax.view_init(elev=32, azim=-60)
        ax.set_box_aspect((4, 4, 3), zoom=1.05)
    bar = fig.colorbar(ScalarMappable(scale, COLOURS), ax=axes[0], shrink=0.7, pad=0.06)
    bar.set_label(f"loss on the test images, {name}")
    fig.suptitle(f"{task}: {_same(found, seed)}", fontsize=8)
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
    planes = [chosen[setting] for setting in SETTINGS]
    if not np.array_equal(*(plane["grid"] for plane in planes)):
        raise InputError(f"the surfaces of {' and '.join(SETTINGS)} have different grids; make them with the same one")
    return planes, seed


def _same(found: list[dict], seed: int) -> str:
    pairs = len({plane["seed"] for plane in found})
    return f"same images and directions for both models (seed {seed}" + (f", one of {pairs})" if pairs > 1 else ")")


def _views(planes: list[dict], clamp: float) -> list[tuple[str, Normalize, Callable]]:
    """(name, colour scale of both models, what makes a loss fit it), clamped and as it is."""
    if not 0 < clamp < math.inf:
        raise InputError(f"clamp is {clamp}; it must be a positive loss, 8 in the paper")
    losses = np.concatenate([plane["loss"].ravel() for plane in planes])
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        raise InputError("no loss on the plane is finite, so there is nothing to draw; is the model broken?")
    high = max(float(finite.max()), FLOOR)
    low = max(float(finite.min()), FLOOR * high)
    whole = ("logarithmic scale", LogNorm(low, high)) if high > WIDE * low else ("not clamped", Normalize(0, high))
    return [
        (name, scale, functools.partial(_within, scale))
        for name, scale in ((f"clamped at {clamp:g}", Normalize(0, min(clamp, high))), whole)
    ]


def _within(scale: Normalize, loss: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(loss, nan=scale.vmax), scale.vmin, scale.vmax)


def _ticks(scale: Normalize, count: int = 4) -> np.ndarray:
    """Round losses within the scale."""
    locator = (
        LogLocator(numticks=count + 3) if isinstance(scale, LogNorm) else MaxNLocator(count, steps=[1, 2, 4, 5, 10])
    )
    ticks = locator.tick_values(scale.vmin, scale.vmax)
    return ticks[(ticks >= scale.vmin) & (ticks <= scale.vmax)]


def _levels(scale: Normalize) -> np.ndarray:
    """Contours at round losses (1, 2, 5, 10, ... where the scale is logarithmic), and at both ends."""
    logarithmic = LogLocator(subs=(1, 2, 5), numticks=40)
    locator = logarithmic if isinstance(scale, LogNorm) else MaxNLocator(16)
    inner = [level for level in locator.tick_values(scale.vmin, scale.vmax) if scale.vmin < level < scale.vmax]
    return np.array([scale.vmin, *inner, scale.vmax])


def _contours(ax, grid: np.ndarray, loss: np.ndarray, scale: Normalize, levels: np.ndarray) -> None:
    """Filled and drawn contours, white on dark and dark on light."""
    filled = ax.contourf(grid, grid, loss, levels=levels, norm=scale, cmap=COLOURS)
    filled.set(edgecolor="face", linewidth=0.2)  # or a pdf shows hairlines between the bands
    drawn = ["white" if scale(level) < 0.55 else INK for level in levels[1:-1]]
    lines = ax.contour(grid, grid, loss, levels=levels[1:-1], colors=drawn, linewidths=0.4)
    _label(ax, lines, INSIDE * grid[-1])
    ax.plot(0, 0, "+", color="white", ms=7, mew=1.2)
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)


def _label(ax, lines: ContourSet, limit: float) -> None:
    """Every second contour's loss, but where matplotlib would put it across the border of the plane."""
    options = {"levels": lines.levels[1::2], "fmt": "%g", "fontsize": 5.5}
    drafts = ax.clabel(lines, inline=False, **options)
    inside = [text.get_position() for text in drafts if max(map(abs, text.get_position())) < limit]
    for text in drafts:
        text.remove()
    if inside:
        ax.clabel(lines, manual=inside, **options)
