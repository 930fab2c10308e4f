"""Fig. 1 drawn from what actually ran: the subsets, the teachers, draws of their weights, and the averaged epochs."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

from rosutils import InputError
from rosutils.figures.look import GREY, INK, PALE, WIDTH, architecture_name, colours, style, subplots


HEIGHT, TOP, BOTTOM = 3.14, 2.32, 0.78  # inches; the teachers' rows lie between BOTTOM and TOP
DATA, TEACHERS, WEIGHTS, STUDENT = (
    (0.3, 2.2),
    (2.62, 3.72),
    (4.18, 5.3),
    (5.72, 7.04),
)  # left and right edge of each column
SHARED = "#5b5b5b"


@style()
def fig1_schematic(
    subsets,
    architectures: list[str],
    weights,
    *,
    student: str,
    overlap: float,
    scheme: str,
    epochs: int,
    averaging_start: int,
    temperature: float,
    alpha: float,
) -> Figure:
    """The paper's Fig. 1 from the actual index sets, teachers, weights [T, K] and averaged epochs."""
    weights = np.asarray(weights, dtype=float)
    if not len(subsets) == len(architectures) == weights.shape[-1]:
        raise InputError(
            f"one subset, one architecture and one weight per teacher, found {len(subsets)}, {len(architectures)} and "
            f"{weights.shape[-1]}"
        )
    member = membership(subsets)
    fig, [[ax]] = subplots(size=(WIDTH, HEIGHT), layout="none")
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    ax.set_axis_off()
    rows = np.linspace(TOP, BOTTOM, len(subsets) + 1)
    for letter, title, (x, _) in zip("abcd", ("overlapping subsets", "teachers", "random weights", "student, averaged"),
                                     (DATA, TEACHERS, WEIGHTS, STUDENT), strict=True):  # fmt: skip
        ax.text(x, HEIGHT - 0.16, letter, weight="bold", size=9, va="center")
        ax.text(x + 0.14, HEIGHT - 0.16, title, size=8.5, va="center")
    _draw_subsets(ax, member, rows, f"overlap {overlap:g}, {scheme}")
    _draw_teachers(ax, member.sum(1), architectures, rows)
    _draw_weights(ax, weights / weights.sum(1, keepdims=True))
    _draw_student(ax, architecture_name(student), epochs, averaging_start)
    _draw_loss(ax, temperature, alpha)
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
    order = np.lexsort([*~member[::-1], angle, many & (member.sum(0) == 1), ~member.all(0)])
    return member[:, order]


def _runs(values: np.ndarray) -> list[tuple[int, int, int]]:
    """(start, length, value) of each run of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    starts, stops = [0, *edges], [*edges, len(values)]
    return [(int(a), int(b - a), values[a]) for a, b in zip(starts, stops, strict=True)]


def _draw_subsets(ax, member: np.ndarray, rows: np.ndarray, how: str) -> None:
    k, n = member.shape
    (left, right), palette = DATA, colours(k)
    scale, count = (right - left) / n, member.sum(0)
    # 0: not in the subset; 1: in this subset only; 2: in some others too; 3: in all.
    kinds = np.where(count == k, 3, np.where(count > 1, 2, 1)) * member
    height = min(0.2, 0.62 * (rows[0] - rows[1]))
    ax.text(left - 0.07, TOP + 0.26, "D", ha="right", va="center", weight="bold")
    owner = np.where(count == k, -1, np.where(count > 1, -2, member.argmax(0)))
    for start, length, who in _runs(owner):
        colour = SHARED if who == -1 else PALE if who == -2 else palette[who]
        ax.add_patch(Rectangle((left + start * scale, TOP + 0.16), length * scale, 0.2, fc=colour, lw=0))
    ax.text(right, TOP + 0.41, f"training set, N = {n:,}", ha="right", va="bottom", size=6.5, color=GREY)
    for i, (kind, top, bottom) in enumerate(zip(kinds, rows, rows[1:], strict=False)):
        y = (top + bottom) / 2 - height / 2
        ax.text(left - 0.07, y + height / 2, f"$D^{{{i + 1}}}$", ha="right", va="center")
        ax.add_patch(Rectangle((left, y), right - left, height, fc="none", ec=PALE, lw=0.5))
        shades = [None, palette[i], mpl.colors.to_rgba(palette[i], 0.45), SHARED]
        for start, length, value in _runs(kind):
            if value:
                ax.add_patch(Rectangle((left + start * scale, y), length * scale, height, fc=shades[value], lw=0))
    _subset_legend(ax, kinds, palette[0], k, how)


def _subset_legend(ax, kinds: np.ndarray, colour: str, k: int, how: str) -> None:
    labels = {
        3: (f"seen by all {k} teachers", SHARED),
        2: ("by several", mpl.colors.to_rgba(colour, 0.45)),
        1: ("by one", colour),
    }
    handles = [Patch(color=shade, label=label) for kind, (label, shade) in labels.items() if (kinds == kind).any()]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(DATA[0] - 0.03, BOTTOM - 0.04), bbox_transform=ax.transData,
        ncols=3, fontsize=6, handlelength=0.9, handleheight=0.8, columnspacing=0.9, borderpad=0, handletextpad=0.4,
    )  # fmt: skip
    ax.text(DATA[0], BOTTOM - 0.36, how, size=6.5, color=GREY, va="center")


def _arrow(ax, start: tuple, end: tuple, colour: str = GREY, **options) -> None:
    arrow = {
        "arrowstyle": "-|>,head_width=0.14,head_length=0.28",
        "lw": 0.8,
        "color": colour,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", end, start, arrowprops=arrow | options)


def _box(ax, edges: tuple, bottom: float, top: float, text: str, colour: str) -> None:
    left, right = edges
    patch = FancyBboxPatch((left, bottom), right - left, top - bottom, boxstyle="round,pad=0,rounding_size=0.05",
                           fc=mpl.colors.to_rgba(colour, 0.1), ec=colour, lw=0.9)  # fmt: skip
    ax.add_patch(patch)
    ax.text((left + right) / 2, (top + bottom) / 2, text, ha="center", va="center", size=6.8, linespacing=1.25)


def _draw_teachers(ax, sizes: np.ndarray, architectures: list[str], rows: np.ndarray) -> None:
    left, right = TEACHERS
    for i, (size, name, top, bottom) in enumerate(zip(sizes, architectures, rows, rows[1:], strict=False)):
        middle, half, colour = (top + bottom) / 2, min(0.15, 0.42 * (top - bottom)), colours(len(sizes))[i]
        _arrow(ax, (DATA[1] + 0.05, middle), (left - 0.03, middle), colour)
        _box(
            ax,
            TEACHERS,
            middle - half,
            middle + half,
            f"{architecture_name(name)}\n$|D^{{{i + 1}}}|$ = {size:,}",
            colour,
        )
        # Arrows converge a little, so that the eye reads "all of them feed the weighted sum".
        target = (TOP + BOTTOM) / 2 + 0.8 * (middle - (TOP + BOTTOM) / 2)
        _arrow(ax, (right + 0.03, middle), (WEIGHTS[0] - 0.05, target), colour)


def _draw_weights(ax, shares: np.ndarray) -> None:
    left, right = WEIGHTS
    width, height = (right - left) / len(shares), TOP - BOTTOM
    for t, row in enumerate(shares):
        bottoms = TOP - np.cumsum(row) * height  # the first teacher on top, as in its row
        for bottom, share, colour in zip(bottoms, row, colours(len(row)), strict=True):
            ax.add_patch(Rectangle((left + t * width, bottom), 0.86 * width, share * height, fc=colour, lw=0))
    ax.text(left, TOP + 0.06, "share of each teacher", size=6.5, va="bottom", color=GREY)
    ax.text(
        (left + right) / 2,
        BOTTOM - 0.1,
        f"iterations 1 to {len(shares)}",
        size=6.5,
        ha="center",
        va="center",
        color=GREY,
    )


def _draw_student(ax, student: str, epochs: int, averaging_start: int) -> None:
    left, right = STUDENT
    middle, line, top = (left + right) / 2, BOTTOM + 0.73, BOTTOM + 0.34
    _box(ax, STUDENT, TOP - 0.36, TOP, f"student $M$\n{student}", INK)
    _arrow(ax, (WEIGHTS[1] + 0.03, TOP - 0.18), (left - 0.03, TOP - 0.18))
    x = np.linspace(left + 0.06, right - 0.06, epochs) if epochs > 1 else np.array([middle])
    size = min(14.0, (0.7 * 72 * (right - left) / max(epochs, 2)) ** 2)
    edge = min(0.6, 0.2 * size**0.5)
    _arrow(ax, (middle, TOP - 0.39), (middle, line + 0.2))
    averaged = np.arange(1, epochs + 1) > averaging_start
    ax.plot([x[0], x[-1]], [line, line], color=GREY, lw=0.6, zorder=1)
    for start in x[averaged]:
        ax.plot([start, middle], [line, top], color=INK, lw=0.4, alpha=0.5, zorder=1)
    ax.scatter(x[~averaged], np.full((~averaged).sum(), line), s=size, fc="white", ec=INK, lw=edge, zorder=2)
    ax.scatter(x[averaged], np.full(averaged.sum(), line), s=size, fc=INK, ec=INK, lw=edge, zorder=2)
    ax.text(left, line + 0.1, "epoch 1", size=6, va="bottom", color=GREY)
    ax.text(right, line + 0.1, f"{epochs}", size=6, ha="right", va="bottom", color=GREY)
    _box(ax, STUDENT, BOTTOM, top, f"$M_{{smooth}}$, the mean of\nepochs {averaging_start + 1} to {epochs}", INK)


def _draw_loss(ax, temperature: float, alpha: float) -> None:
    """The way of the hard labels, from D over the teachers to the student, and Eq. 4 with its numbers."""
    y, x = TOP + 0.26, sum(STUDENT) / 2
    ax.plot([DATA[1] + 0.05, x], [y, y], color=GREY, lw=0.8, solid_capstyle="butt")
    _arrow(ax, (x, y), (x, TOP + 0.03))
    ax.text(TEACHERS[0], y + 0.05, "every image of D with its given label", size=6.5, color=GREY, va="bottom")
    formula = (
        rf"$\ell = {alpha:g}\,\tau^2\,\sum_m w_m\,KL(q_m \,\|\, p) + {1 - alpha:.3g}\,CE$,   $\tau = {temperature:g}$"
    )
    ax.text(
        sum((TEACHERS[0], STUDENT[1])) / 2,
        BOTTOM - 0.38,
        f"Eq. 4, for every image:   {formula}",
        ha="center",
        va="center",
        size=7.5,
    )
