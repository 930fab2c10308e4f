"""What comes out: the scores of teachers and students, beside the paper's."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rosutils.figures.look import BLUE, INK, PALE, RED, WIDTH, architecture_name, style, subplots
from rosutils.results import PRINTED_AVERAGE, SETTINGS, TEACHERS, published, select, summary


@style()
def teacher_scores(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """F1 on the test part of every teacher, trained on the full set and on its own subset."""
    rows = select(results, setting=TEACHERS, attack="", class_="", metric="f1")
    known = published()["section_4b"]["teachers"]
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 0.9 + 0.24 * max(1, rows["student"].nunique())), sharey=True)
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]]
        here = summary(select(rows, task=task, average=average), by=["setting", "student"])
        table = here.pivot(index="student", columns="setting", values="mean")
        order = sorted(table.index, key=lambda name: (known.index(name) if name in known else len(known), name))
        table, y = table.reindex(index=order, columns=list(TEACHERS)), np.arange(len(order))
        ax.hlines(y, table.min(axis=1), table.max(axis=1), color=PALE, lw=2, zorder=0)
        for setting, marker, colour in zip(TEACHERS, "os", (BLUE, RED), strict=True):
            ax.plot(
                table[setting],
                y,
                marker,
                color=colour,
                ms=5,
                label=setting.removeprefix("teacher, ").replace("subset", "own subset"),
            )
        ax.set_yticks(y, [architecture_name(name) for name in order])
        ax.set(title=task, xlabel=f"F1 ({average})", ylim=(len(order) - 0.5, -0.5))
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return fig


@style()
def table1_plot(results: pd.DataFrame, *, tasks: dict[str, dict], student: str = "resnet18") -> Figure:
    """Table I as dots: our F1 (each seed, and mean ± std) beside the printed F1 (hollow diamonds)."""
    rows = select(results, setting=SETTINGS, student=student, attack="", class_="", metric="f1")
    printed = published()["table1"]
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 2.5), sharey=True)
    y = dict(zip(SETTINGS, range(len(SETTINGS)), strict=True))
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]]
        here = select(rows, task=task, average=average)
        paper = printed.get(task, {})
        ax.plot(
            [row["f1"] for row in paper.values()],
            [y[name] for name in paper],
            "D",
            mfc="none",
            mec=INK,
            ms=5,
            ls="",
            label="paper",
        )
        ours = summary(here, by=["setting"])
        several = bool((ours["n"] > 1).any())
        if several:
            ax.plot(
                here["value"],
                here["setting"].map(y) + 0.27,
                "o",
                color=BLUE,
                alpha=0.5,
                ms=2.5,
                mew=0,
                label="ours, each seed",
            )
        ax.errorbar(
            ours["mean"],
            ours["setting"].map(y),
            xerr=ours["std"],
            fmt="o",
            color=BLUE,
            ms=5,
            capsize=2,
            lw=1,
            label="ours, mean ± std" if several else "ours, one seed",
        )
        ax.set(title=task, xlabel=f"F1 ({average})", ylim=(len(y) - 0.5, -0.5))
        ax.set_yticks(list(y.values()), list(y))
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6))
        ax.grid(axis="y", color=PALE, lw=0.4)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return fig
