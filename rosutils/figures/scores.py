"""What comes out: the scores of teachers and students, beside the paper's."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.figures.look import GREY, INK, PALE, SETTING_STYLES, WIDTH, architecture_name, style, subplots
from rosutils.results import published, select, summary
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS, TEACHERS


def measured_tasks(rows: pd.DataFrame, tasks: dict[str, dict], what: str) -> dict[str, dict]:
    """The tasks that have rows; InputError that names `what` is missing if none has."""
    measured = {task: about for task, about in tasks.items() if (rows["task"] == task).any()}
    if not measured:
        raise InputError(
            f"the results hold nothing for {what} of {', '.join(tasks) or 'no task'}; run its notebook first"
        )
    return measured


def printed_f1(rows: pd.DataFrame, task: str, about: dict) -> tuple[pd.DataFrame, str]:
    """The F1 rows of one task in the averaging that the paper printed, and the label of their axis."""
    average = PRINTED_AVERAGE[about["multilabel"]]
    return select(rows, task=task, metric="f1", class_="", average=average), f"F1 ({average})"


NO_SKILL = "no skill (best constant, random 97.5 %)"
CHANCE_LOOK = {"color": INK, "ls": (0, (5, 1.5, 1, 1.5, 1, 1.5)), "lw": 0.9}  # grey and dotted is Baseline I


def chance_line(
    ax, results: pd.DataFrame, task: str, about: dict, *, variant: str | Sequence[str] = "", attack: str = "",
    metric: str = "f1", across: bool = False,
):  # fmt: skip
    """The most that no skill scores on the same test images, as a line of a panel; its handle, or None where not measured."""
    average = PRINTED_AVERAGE[about["multilabel"]] if metric == "f1" else "macro"
    which = {"variant": variant, "attack": attack, "metric": metric, "average": average}
    rows = select(results, task=task, setting=CHANCE, **which)
    if rows.empty:
        return None
    highest = rows.groupby("setting")["value"].mean().max()
    return (ax.axvline if across else ax.axhline)(highest, zorder=0, label=NO_SKILL, **CHANCE_LOOK)


def over_seeds(counts) -> str:
    """What a point and its bar are, for a legend, from how many replicates the points are means of."""
    low, high = int(min(counts)), int(max(counts))
    if high == 1:
        return "one replicate"
    if low == high:
        return f"mean ± std over {high} replicates"
    return f"mean ± std over {low} to {high} replicates" + (" (one: no bar)" if low == 1 else "")


def draw_means(ax, x, y, ours: pd.DataFrame, setting: str, *, across: bool = False, **options) -> None:
    """Means at (x, y) as the setting's marker with one std (columns mean, std, n), or none where every n is 1."""
    bars = {"xerr" if across else "yerr": ours["std"].to_numpy()} if (ours["n"] > 1).any() else {}
    look = {"ms": 4.5, "mew": 0.8, "capsize": 2, "elinewidth": 0.8} | SETTING_STYLES[setting]
    ax.errorbar(np.asarray(x, dtype=float), np.asarray(y, dtype=float), **bars, **(look | options))


def legend_above(fig: Figure, handles: dict, heading: str, *, ncols: int = 4) -> None:
    """The legend (label -> handle) over the panels, headed by what points and bars are."""
    look = {"title": heading, "title_fontsize": 7, "alignment": "right", "ncols": ncols}
    fig.legend(handles.values(), handles, loc="outside upper right", **look)


def known_first(names, known) -> list[str]:
    """The names that are there, in the order of `known`, the others behind them by alphabet."""
    known = list(known)
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


@style()
def teacher_scores(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """F1 on the test part of every teacher, trained on the full set and on its own subset (Section IV-B)."""
    rows = select(results, setting=TEACHERS, variant="", attack="", class_="", metric="f1")
    tasks = measured_tasks(rows, tasks, "the teachers")
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 0.9 + 0.24 * max(1, rows["student"].nunique())), sharey=True)
    order = known_first(rows["student"], published()["section_4b"]["teachers"])
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        table = summary(here, by=["setting", "student"]).pivot(index="student", columns="setting", values="mean")
        table, y = table.reindex(index=order, columns=list(TEACHERS)), np.arange(len(order))
        ax.hlines(y, table.min(axis=1), table.max(axis=1), color=PALE, lw=2, zorder=0)
        for setting in TEACHERS:
            name = setting.removeprefix("teacher, ").replace("subset", "own subset")
            ax.plot(table[setting], y, **SETTING_STYLES[setting] | {"ls": "", "ms": 5, "mew": 0}, label=name)
        chance_line(ax, results, task, about, across=True)
        ax.set_yticks(y, [architecture_name(name) for name in order])
        ax.set(title=task, xlabel=label, ylim=(len(order) - 0.5, -0.5))
    handles = {name: handle for ax in axes[0] for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles, loc="outside upper right", ncols=3)
    return fig


@style()
def table1_plot(results: pd.DataFrame, *, tasks: dict[str, dict], student: str) -> Figure:
    """Table I as dots: our F1 (each replicate, and mean ± std) beside the printed F1 (hollow diamonds) and no skill's (line)."""
    rows = select(results, setting=ROWS, student=student, variant="", attack="", class_="", metric="f1")
    tasks, printed = measured_tasks(rows, tasks, "Table I"), published()["table1"]
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 2.65), sharey=True)
    y = {setting: place for place, setting in enumerate(ROWS)}
    counts, chance = [], None
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        paper = printed.get(task, {})
        ax.plot([row["f1"] for row in paper.values()], [y[name] for name in paper], "D", mfc="none", mec=INK, ms=5)
        for setting, ours in summary(here, by=["setting"]).groupby("setting"):
            draw_means(ax, ours["mean"], [y[setting]], ours, setting, across=True)
            values = select(here, setting=setting)["value"]
            if len(values) > 1:
                dots = {"color": SETTING_STYLES[setting]["color"], "alpha": 0.5, "ms": 2.5, "mew": 0}
                ax.plot(values, np.full(len(values), y[setting] + 0.27), "o", **dots)
            counts += ours["n"].tolist()
        chance = chance_line(ax, results, task, about, across=True) or chance
        ax.set(title=task, xlabel=label, ylim=(len(y) - 0.5, -0.5))
        ax.set_yticks(list(y.values()), list(y))
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="y", color=PALE, lw=0.4)
    legend_above(fig, _table1_legend(counts, chance), f"ours: {over_seeds(counts)}")
    return fig


def _table1_legend(counts: list[int], chance: Line2D | None) -> dict[str, Line2D]:
    grey = {"color": GREY, "marker": "o", "mew": 0}
    handles = {"paper": Line2D([], [], marker="D", mfc="none", mec=INK, ms=5, ls="")}
    handles |= {"ours, each replicate": Line2D([], [], **grey, ms=2.5, ls="")} if max(counts) > 1 else {}
    handles["ours"] = Line2D([], [], **grey, ms=4.5, lw=0.8)
    return handles | ({NO_SKILL: chance} if chance else {})
