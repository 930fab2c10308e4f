"""Adversarial robustness: Table II as a picture, and F1 against the radius of the attack."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.figures.look import GREY, INK, PALE, SETTING_STYLES, WIDTH, style, subplots
from rosutils.figures.scores import NO_SKILL, chance_line, draw_means, measured_tasks, over_seeds, printed_f1
from rosutils.results import published, select, summary
from rosutils.settings import ROWS


RADIUS = 1.28 / 255
NORMS = {"l2": r"$\ell_2$, literal", "linf": r"$\ell_\infty$", "l2-scaled": r"$\ell_2\times\sqrt{CHW}$"}
ATTACKS = {"pgd": "PGD", "fgsm": "FGSM"}
# Setting in the results -> its name in the paper's Table II, both distilled from the same teachers.
COMPARED = {"Baseline III, subset teachers": "Baseline III", "RoS-KD": "RoS-KD"}


def attacked(rows: pd.DataFrame, attack: str, norm: str) -> pd.DataFrame:
    """The rows of one attack and norm, radius 0 included: it changes no image, so any attack's row of it will do."""
    own, unchanged = select(rows, attack=attack, norm=norm), select(rows, eps=0.0)
    unchanged = unchanged[unchanged["setting"].isin(own["setting"])]
    return pd.concat([own, unchanged]).drop_duplicates(["setting", "student", "replicate", "eps"])


@style()
def table2_plot(results: pd.DataFrame, *, tasks: dict[str, dict], eps: float = RADIUS) -> Figure:
    """Table II as F1 before and after PGD and FGSM for three readings of the radius, the printed F1 hollow beside ours."""
    rows = select(results, setting=tuple(COMPARED), variant="", class_="", metric="f1")
    rows = rows[rows["eps"].notna()]
    reached = select(rows, eps=eps)
    tasks, norms = measured_tasks(reached, tasks, "Table II"), [n for n in NORMS if n in set(reached["norm"])]
    size = (WIDTH, 0.9 + 1.55 * len(tasks))
    fig, axes = subplots(len(tasks), len(norms), size=size, sharey=True, sharex="row")
    counts, chance = [], None
    for line, (task, about) in zip(axes, tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        for ax, norm in zip(line, norms, strict=True):
            for place, attack in enumerate(ATTACKS):
                counts += _dumbbells(ax, attacked(here, attack, norm), place, eps)
                _paper(ax, task, attack, place)
            chance = chance_line(ax, results, task, about, attack="attacked sample", across=True) or chance
            ax.set_title(f"{task}, {NORMS[norm]}")
            ax.set_xlabel(label)
        line[0].set_yticks(range(len(ATTACKS)), ATTACKS.values())
        line[0].set_ylim(len(ATTACKS) - 0.5, -0.5)
    for ax in axes.flat:
        ax.axhline(0.5, color=PALE, lw=0.6, zorder=0)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    look = {"title": f"ours: {over_seeds(counts)}", "title_fontsize": 7, "alignment": "left", "ncols": 3}
    fig.legend(handles=_table2_legend(chance), loc="outside upper center", **look)
    return fig


def _dumbbells(ax, rows: pd.DataFrame, place: int, eps: float) -> list[int]:
    """Small marker before, large marker after the attack, joined; how many replicates each mean is over."""
    counts = []
    for setting, offset in zip(COMPARED, (-0.3, 0.1), strict=True):
        ends = [summary(select(rows, setting=setting, eps=radius), by=["setting"]) for radius in (0.0, eps)]
        if ends[1].empty:
            continue
        y, colour = [place + offset], SETTING_STYLES[setting]["color"]
        ax.plot(pd.concat(ends)["mean"], y * sum(map(len, ends)), color=colour, lw=1.5, alpha=0.35, zorder=1)
        for end, size in zip(ends, (3, 5.5), strict=True):
            if len(end):
                draw_means(ax, end["mean"], y, end, setting, across=True, ls="", ms=size, zorder=2)
                counts += end["n"].tolist()
    return counts


def _paper(ax, task: str, attack: str, place: int) -> None:
    for row in published()["table2"]["rows"]:
        if (row["task"], row["attack"]) != (task, attack):
            continue
        setting, offset = next((ours, d) for (ours, name), d in zip(COMPARED.items(), (-0.13, 0.27), strict=True)
                               if name == row["setting"])  # fmt: skip
        look = SETTING_STYLES[setting]
        x, y = np.array([row["before"]["f1"], row["after"]["f1"]]), np.full(2, place + offset)
        ax.plot(x, y, color=look["color"], lw=0.6, ls=":", zorder=1)
        for at, size in zip(x, (3, 5.5), strict=True):
            ax.plot(at, y[0], marker=look["marker"], ms=size, mfc="white", mec=look["color"], mew=0.8, ls="", zorder=2)


def _table2_legend(chance: Line2D | None) -> list[Line2D]:
    names = ("Baseline III, same teachers", "RoS-KD")
    settings = [
        Line2D([], [], **SETTING_STYLES[setting] | {"ls": ""}, ms=5.5, mew=0, label=name)
        for setting, name in zip(COMPARED, names, strict=True)
    ]
    grey = {"color": GREY, "marker": "o"}
    handles = [
        *settings,
        Line2D([], [], **grey, lw=0.8, ms=5, mew=0, label="filled: ours"),
        Line2D([], [], **grey, ls=":", lw=0.6, ms=5, mfc="white", mew=0.8, label="hollow: as printed in the paper"),
        Line2D([], [], **grey, ls="", ms=3, mew=0, label="small: before the attack"),
        Line2D([], [], **grey, ls="", ms=5.5, mew=0, label="large: after the attack"),
    ]
    return handles + ([chance] if chance else [])


@style()
def eps_curve(results: pd.DataFrame, *, tasks: dict[str, dict], norm: str, eps: float = RADIUS) -> Figure:
    """F1 under PGD against the radius (in 1/255) for every setting of Table I, and the radius of Table II as a line.

    `norm` is "linf", "l2" or "l2-scaled", else an InputError.
    """
    if norm not in NORMS:
        raise InputError(f"norm is {norm!r}; allowed are {', '.join(map(repr, NORMS))}")
    rows = select(results, setting=ROWS, variant="", class_="", metric="f1")
    rows = rows[rows["eps"].notna()]
    tasks = measured_tasks(select(rows, attack="pgd", norm=norm), tasks, f"PGD in the norm {norm}")
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 2.9))
    handles, counts = {}, []
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        here = attacked(here, "pgd", norm)
        handles["radius of Table II"] = ax.axvline(255 * eps, color=INK, lw=0.7, ls=(0, (1, 2)), zorder=0)
        for setting in [name for name in ROWS if name in set(here["setting"])]:
            ours = summary(select(here, setting=setting), by=["eps"]).sort_values("eps")
            draw_means(ax, 255 * ours["eps"], ours["mean"], ours, setting, ms=4, lw=1)
            handles[setting], counts = ax.containers[-1], counts + ours["n"].tolist()
        if line := chance_line(ax, results, task, about, attack="attacked sample"):
            handles[NO_SKILL] = line
        ax.set(title=task, xlabel=f"radius ε of PGD in {NORMS[norm]} (1/255)", ylabel=label)
    names = [name for name in (*ROWS, NO_SKILL, "radius of Table II") if name in handles]
    labels = [name.replace("of Table II", f"{255 * eps:g}/255 (Table II)") for name in names]
    title, *labels = (words.replace(" (", "\n(") for words in (over_seeds(counts), *labels))  # else a third of the page
    fig.legend(
        [handles[n] for n in names], labels, loc="outside right upper", title=title, alignment="left", borderaxespad=0
    )
    return fig
