"""Fig. 1 drawn from what actually ran: the subsets, the teachers, draws of their weights, and the averaged epochs."""

from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.params import Parameters
from rosutils.weights import exponential_weights


HEIGHT, TOP, BOTTOM = 3.14, 2.32, 0.78  # inches; the teachers' rows lie between BOTTOM and TOP
DATA, TEACHERS, WEIGHTS, STUDENT = (0.3, 2.2), (2.62, 3.72), (4.18, 5.3), (5.72, 7.04)  # edges of the columns
TITLES = {"overlapping subsets": DATA, "teachers": TEACHERS, "random weights": WEIGHTS, "student, averaged": STUDENT}
SHARED, DRAWS = "#5b5b5b", 8
SMALL = {"size": 6.5, "color": look.GREY}


def schematic(subsets, weights, parameters: Parameters) -> Figure:
    """The paper's Fig. 1 from the actual index sets, weights [T, K], teachers, overlap, averaged epochs and constants."""
    weights, p, how = np.asarray(weights, dtype=float), parameters, parameters.distillation
    fig, [[ax]] = look.subplots(size=(look.WIDTH, HEIGHT), layout="none")
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, look.WIDTH), ylim=(0, HEIGHT))
    ax.set_axis_off()
    for letter, (title, (x, _)) in zip("abcd", TITLES.items(), strict=True):
        ax.text(x, HEIGHT - 0.16, letter, weight="bold", size=9, va="center")
        ax.text(x + 0.14, HEIGHT - 0.16, title, size=8.5, va="center")
    member, rows = membership(subsets), np.linspace(TOP, BOTTOM, len(subsets) + 1)
    _draw_subsets(ax, member, rows, f"overlap {p.subsets.overlap:g}, {p.subsets.scheme}")
    _draw_teachers(ax, member.sum(1), p.teachers.architectures, (rows[:-1] + rows[1:]) / 2, rows[0] - rows[1])
    _draw_weights(ax, weights / weights.sum(1, keepdims=True))
    _draw_student(ax, look.architecture_name(how.student), np.arange(1, p.training.epochs + 1), how.averaging_start)
    _draw_loss(ax, how.temperature, how.alpha)
    return fig


def membership(subsets) -> np.ndarray:
    """Which subsets each of the N examples of their union is in, bool [K, N]; examples in the same subsets lie together."""
    union = np.unique(np.concatenate([np.asarray(subset) for subset in subsets]))
    member = np.stack([np.isin(union, np.asarray(subset)) for subset in subsets])
    # The core first, then round the circle of teachers: shards lie in turn, and windows in one piece. Where chance
    # has made many kinds of overlap, what one teacher alone has comes last instead of lying scattered.
    angle = 2 * np.pi * (np.arange(len(member)) + 0.5) / len(member)
    x, y = np.round(np.cos(angle) @ member, 9) + 0.0, np.round(np.sin(angle) @ member, 9) + 0.0
    angle = np.round(np.arctan2(y, x) % (2 * np.pi), 9)
    many = np.unique(member, axis=1).shape[1] > 2 * len(member) + 1
    return member[:, np.lexsort([*~member[::-1], angle, many & (member.sum(0) == 1), ~member.all(0)])]


def _strip(ax, values: np.ndarray, y: float, height: float, shades: dict) -> None:
    """A bar along the examples: each run of equal values in its shade, nothing where it has none."""
    starts, scale = [0, *(np.flatnonzero(np.diff(values)) + 1)], (DATA[1] - DATA[0]) / len(values)
    for start, stop in pairwise([*starts, len(values)]):
        if colour := shades.get(values[start]):
            ax.add_patch(Rectangle((DATA[0] + start * scale, y), (stop - start) * scale, height, fc=colour, lw=0))


def _draw_subsets(ax, member: np.ndarray, rows: np.ndarray, how: str) -> None:
    k, palette, count = len(member), look.colours(len(member)), member.sum(0)
    kinds = np.select([count == k, count > 1], [3, 2], 1) * member  # 1: in one subset, 2: in some, 3: in all
    shades = [{1: colour, 2: (colour, 0.45), 3: SHARED} for colour in palette]
    height = min(0.2, 0.62 * (rows[0] - rows[1]))
    owner = np.select([count == k, count > 1], [-1, -2], member.argmax(0))
    _strip(ax, owner, TOP + 0.16, 0.2, {-1: SHARED, -2: look.PALE} | dict(enumerate(palette)))
    ax.text(DATA[0] - 0.07, TOP + 0.26, "D", ha="right", va="center", weight="bold")
    ax.text(DATA[1], TOP + 0.41, f"training set, N = {member.shape[1]:,}", ha="right", va="bottom", **SMALL)
    for i, (kind, middle) in enumerate(zip(kinds, (rows[:-1] + rows[1:]) / 2, strict=True)):
        ax.text(DATA[0] - 0.07, middle, f"$D^{{{i + 1}}}$", ha="right", va="center")
        frame = {"fc": "none", "ec": look.PALE, "lw": 0.5}
        ax.add_patch(Rectangle((DATA[0], middle - height / 2), DATA[1] - DATA[0], height, **frame))
        _strip(ax, kind, middle - height / 2, height, shades[i])
    names = {3: f"seen by all {k} teachers", 2: "by several", 1: "by one"}
    handles = [Patch(color=shades[0][kind], label=name) for kind, name in names.items() if (kinds == kind).any()]
    where = {"loc": "upper left", "bbox_to_anchor": (DATA[0] - 0.03, BOTTOM - 0.04), "bbox_transform": ax.transData}
    tight = {"handlelength": 0.9, "handleheight": 0.8, "columnspacing": 0.9, "borderpad": 0, "handletextpad": 0.4}
    ax.legend(handles=handles, ncols=3, fontsize=6, **where, **tight)
    ax.text(DATA[0], BOTTOM - 0.36, how, va="center", **SMALL)


def _arrow(ax, start: tuple, end: tuple, colour: str = look.GREY) -> None:
    head = "-|>,head_width=0.14,head_length=0.28"
    ax.annotate("", end, start, arrowprops={"arrowstyle": head, "lw": 0.8, "color": colour, "shrinkA": 0, "shrinkB": 0})


def _box(ax, edges: tuple, bottom: float, top: float, text: str, colour: str) -> None:
    rounded = {"boxstyle": "round,pad=0,rounding_size=0.05", "fc": (colour, 0.1), "ec": colour, "lw": 0.9}
    ax.add_patch(FancyBboxPatch((edges[0], bottom), edges[1] - edges[0], top - bottom, **rounded))
    ax.text(sum(edges) / 2, (top + bottom) / 2, text, ha="center", va="center", size=6.8, linespacing=1.25)


def _draw_teachers(ax, sizes: np.ndarray, architectures: list[str], middles: np.ndarray, height: float) -> None:
    half, centre = min(0.15, 0.42 * height), (TOP + BOTTOM) / 2
    drawn = zip(sizes, architectures, middles, look.colours(len(sizes)), strict=True)
    for i, (size, name, middle, colour) in enumerate(drawn, 1):
        _arrow(ax, (DATA[1] + 0.05, middle), (TEACHERS[0] - 0.03, middle), colour)
        said = f"{look.architecture_name(name)}\n$|D^{{{i}}}|$ = {size:,}"
        _box(ax, TEACHERS, middle - half, middle + half, said, colour)
        # Arrows converge a little, so that the eye reads "all of them feed the weighted sum".
        _arrow(ax, (TEACHERS[1] + 0.03, middle), (WEIGHTS[0] - 0.05, centre + 0.8 * (middle - centre)), colour)


def _draw_weights(ax, shares: np.ndarray) -> None:
    width, height = (WEIGHTS[1] - WEIGHTS[0]) / len(shares), TOP - BOTTOM
    for t, row in enumerate(shares):
        bottoms = TOP - np.cumsum(row) * height  # the first teacher on top, as in its row
        for bottom, share, colour in zip(bottoms, row, look.colours(len(row)), strict=True):
            ax.add_patch(Rectangle((WEIGHTS[0] + t * width, bottom), 0.86 * width, share * height, fc=colour, lw=0))
    ax.text(WEIGHTS[0], TOP + 0.06, "share of each teacher", va="bottom", **SMALL)
    ax.text(sum(WEIGHTS) / 2, BOTTOM - 0.1, f"iterations 1 to {len(shares)}", ha="center", va="center", **SMALL)


def _draw_student(ax, student: str, epochs: np.ndarray, averaging_start: int) -> None:
    (left, right), n = STUDENT, len(epochs)
    middle, line, top = (left + right) / 2, BOTTOM + 0.73, BOTTOM + 0.34
    _box(ax, STUDENT, TOP - 0.36, TOP, f"student $M$\n{student}", look.INK)
    _arrow(ax, (WEIGHTS[1] + 0.03, TOP - 0.18), (left - 0.03, TOP - 0.18))
    _arrow(ax, (middle, TOP - 0.39), (middle, line + 0.2))
    x = np.linspace(left + 0.06, right - 0.06, n) if n > 1 else np.array([middle])
    size = min(14.0, (0.7 * 72 * (right - left) / max(n, 2)) ** 2)
    ax.plot([x[0], x[-1]], [line, line], color=look.GREY, lw=0.6, zorder=1)
    for averaged, face in ((False, "white"), (True, look.INK)):
        here = x[(epochs > averaging_start) == averaged]
        dots = {"s": size, "fc": face, "ec": look.INK, "lw": min(0.6, 0.2 * size**0.5), "zorder": 2}
        ax.scatter(here, np.full(len(here), line), **dots)
        for start in here[: len(here) * averaged]:
            ax.plot([start, middle], [line, top], color=look.INK, lw=0.4, alpha=0.5, zorder=1)
    ax.text(left, line + 0.1, "epoch 1", va="bottom", **SMALL | {"size": 6})
    ax.text(right, line + 0.1, f"{n}", ha="right", va="bottom", **SMALL | {"size": 6})
    _box(ax, STUDENT, BOTTOM, top, f"$M_{{smooth}}$, the mean of\nepochs {averaging_start + 1} to {n}", look.INK)


def _draw_loss(ax, temperature: float, alpha: float) -> None:
    """The way of the hard labels, from D over the teachers to the student, and Eq. 4 with its numbers."""
    y, x = TOP + 0.26, sum(STUDENT) / 2
    ax.plot([DATA[1] + 0.05, x], [y, y], color=look.GREY, lw=0.8, solid_capstyle="butt")
    _arrow(ax, (x, y), (x, TOP + 0.03))
    ax.text(TEACHERS[0], y + 0.05, "every image of D with its given label", va="bottom", **SMALL)
    loss = rf"$\ell = {alpha:g}\,\tau^2\,\sum_m w_m\,KL(q_m \,\|\, p) + {1 - alpha:.3g}\,CE$"
    said = rf"Eq. 4, for every image:   {loss},   $\tau = {temperature:g}$"
    ax.text((TEACHERS[0] + STUDENT[1]) / 2, BOTTOM - 0.38, said, ha="center", va="center", size=7.5)


def _of(study) -> Figure:
    """That of a study's first task."""
    task = study.parameters.tasks[0]
    there = study.for_task(task)
    generator = torch.Generator().manual_seed(there.parameters.seeds.student)
    draws = [exponential_weights(there.parameters.subsets.count, generator=generator) for _ in range(DRAWS)]
    return schematic(there.subsets(task), torch.stack(draws), there.parameters)


FIGURE = Item(
    "fig1", "Fig. 1, drawn from what ran", "01_data", (), _of,
    "Actual index sets, draws of the weights and (filled) averaged epochs.",
)  # fmt: skip
