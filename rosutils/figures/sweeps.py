"""What changes when one thing changes: the student (Fig. 2), the overlap (Fig. 3), a reading of the paper."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rosutils import InputError
from rosutils.figures.look import BLUE, GREY, INK, PALE, SETTING_STYLES, WIDTH, architecture_name, style, subplots
from rosutils.figures.scores import (
    NO_SKILL,
    chance_line,
    draw_means,
    known_first,
    legend_above,
    measured_tasks,
    over_seeds,
    printed_f1,
)
from rosutils.metrics import paired_difference
from rosutils.results import published, select, summary
from rosutils.settings import PRINTED_AVERAGE


READING, AS_CHOSEN = "reading: ", "reading: as chosen"


@style()
def fig2_students(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """Fig. 2: F1 of five student architectures under Baseline III and RoS-KD, mean ± std, and each replicate as a dot."""
    rows = select(results, variant="students", setting=("Baseline III", "RoS-KD"), attack="", class_="", metric="f1")
    tasks = measured_tasks(rows, tasks, "Fig. 2")
    order = known_first(rows["student"], published()["section_4b"]["teachers"])
    y = {student: place for place, student in enumerate(order)}
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 0.95 + 0.36 * len(order)), sharey=True)
    counts, chance = [], None
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        counts += _students(ax, here, y)
        chance = chance_line(ax, results, task, about, variant="students", across=True) or chance
        ax.set_yticks(list(y.values()), [architecture_name(student) for student in order])
        ax.set(title=task, xlabel=label, ylim=(len(order) - 0.5, -0.5))
        ax.tick_params(axis="y", length=0)
        for between in np.arange(len(order) - 1) + 0.5:
            ax.axhline(between, color=PALE, lw=0.4, zorder=0)
    legend_above(fig, _students_legend(counts, chance), over_seeds(counts))
    return fig


def _students(ax, rows: pd.DataFrame, y: dict[str, int]) -> list[int]:
    """Draw the settings, one above the other; how many replicates each mean is over."""
    counts = []
    for setting, offset in (("Baseline III", -0.17), ("RoS-KD", 0.17)):
        here = select(rows, setting=setting)
        ours = summary(here, by=["student"])
        draw_means(ax, ours["mean"], ours["student"].map(y) + offset, ours, setting, across=True, ls="")
        several = here[here["student"].map(ours.set_index("student")["n"]) > 1]
        dots = {"color": SETTING_STYLES[setting]["color"], "alpha": 0.55, "ms": 2.2, "mew": 0}
        ax.plot(several["value"], several["student"].map(y) + offset + 0.14, "o", **dots)
        counts += ours["n"].tolist()
    return counts


def _students_legend(counts: list[int], chance: Line2D | None) -> dict[str, Line2D]:
    look = {"ls": "-", "lw": 0.8, "ms": 4.5}
    handles = {setting: Line2D([], [], **SETTING_STYLES[setting] | look) for setting in ("Baseline III", "RoS-KD")}
    several = {"each replicate": Line2D([], [], marker="o", color=GREY, ls="", ms=2.2, mew=0)}
    handles |= several if max(counts) > 1 else {}
    return handles | ({NO_SKILL: chance} if chance else {})


@style()
def fig3_overlap(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """Fig. 3: F1 against the overlap ratio of the teachers' subsets (%), and Baseline III, which has none, as a band."""
    rows = select(results, variant="overlap", attack="", class_="", metric="f1")
    tasks = measured_tasks(rows, tasks, "Fig. 3")
    fig, axes = subplots(1, len(tasks), size=(WIDTH, 2.5))
    handles, counts = {}, []
    for ax, (task, about) in zip(axes[0], tasks.items(), strict=True):
        here, label = printed_f1(rows, task, about)
        band = summary(select(here, setting="Baseline III"), by=["setting"])
        if len(band):
            handles["Baseline III (no subsets)"] = _band(ax, band)
            counts += band["n"].tolist()
        for setting, look in (("Baseline V", {"lw": 0.7, "ms": 3, "elinewidth": 0.5}), ("RoS-KD", {})):
            on_subsets = select(here[here["overlap"].notna()], setting=setting)
            ours = summary(on_subsets, by=["overlap"]).sort_values("overlap")
            if len(ours):
                draw_means(ax, 100 * ours["overlap"], ours["mean"], ours, setting, **look)
                ax.set_xticks(100 * ours["overlap"])
                handles[setting] = ax.containers[-1]
                counts += ours["n"].tolist()
        if line := chance_line(ax, results, task, about, variant="overlap"):
            handles[NO_SKILL] = line
        ax.set(title=task, xlabel="overlap ratio of the teachers' subsets (%)", ylabel=label)
    legend_above(fig, handles, over_seeds(counts))
    return fig


def _band(ax, ours: pd.DataFrame):
    """Mean and mean ± std over replicates across the whole panel (only the mean for one replicate); the legend's handle."""
    mean, std, n = ours.loc[0, ["mean", "std", "n"]]
    color, ls = SETTING_STYLES["Baseline III"]["color"], SETTING_STYLES["Baseline III"]["ls"]
    line = ax.axhline(mean, color=color, ls=ls, lw=1, zorder=1)
    return (ax.axhspan(mean - std, mean + std, color=color, alpha=0.15, lw=0, zorder=0), line) if n > 1 else line


@style()
def readings_tornado(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """By how much each open reading of the paper changes RoS-KD's F1, one at a time, paired by replicate (t interval, 95 %).

    The averagings of F1 stand below on a scale of their own: they change the number by definition, not the student.
    InputError where a reading and the one chosen have no replicate in common.
    """
    rows = select(results, setting=["RoS-KD", "Baseline III"], attack="", class_="", metric="f1")
    rows = rows[rows["variant"].str.startswith(READING)]
    tasks = measured_tasks(rows, tasks, "the readings")
    found = {task: reading_differences(rows, task, about) for task, about in tasks.items()}
    groups = ("reading", "averaging")
    heights = [max(1, *((table["group"] == group).sum() for table in found.values())) for group in groups]
    size = (WIDTH, 1.8 + 0.2 * sum(heights))
    fig, axes = subplots(2, len(tasks), size=size, height_ratios=[height + 1 for height in heights])
    for column, (task, table) in zip(axes.T, found.items(), strict=True):
        base, label = printed_f1(select(rows, variant=AS_CHOSEN, setting="RoS-KD"), task, tasks[task])
        for ax, group, height in zip(column, groups, heights, strict=True):
            _tornado(ax, table[table["group"] == group], height, BLUE if group == "reading" else GREY)
            ax.set_xlabel("F1 minus F1 as chosen")
        column[0].set_title(f"{task}, {label}\nas chosen: {_mean(base['value'])}")
        column[1].set_title("other averagings (own scale)")
    handles = {"mean paired difference": Patch(color=BLUE), "95 % t interval": Line2D([], [], color=INK, lw=0.8)}
    counts = pd.concat(found.values())["n"]
    if counts.max() == 1:
        handles.popitem()
    legend_above(fig, handles, _seeds(counts))
    return fig


def _mean(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else ", one replicate")


def _seeds(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    if high == 1:
        return "RoS-KD, one replicate: no interval"
    return f"RoS-KD, paired over {high if low == high else f'{low} to {high}'} replicates"


def reading_differences(rows: pd.DataFrame, task: str, about: dict) -> pd.DataFrame:
    """RoS-KD's F1 under each reading minus as chosen: columns group, label, mean, low, high, n; the largest first."""
    here, printed = select(rows, task=task), PRINTED_AVERAGE[about["multilabel"]]
    base = select(here, variant=AS_CHOSEN, average=printed)
    others = [("reading", v.removeprefix(READING), _of_its_setting(select(here, variant=v, average=printed)))
              for v in sorted(here["variant"].unique()) if v != AS_CHOSEN]  # fmt: skip
    others += [("averaging", average, select(here, variant=AS_CHOSEN, average=average, setting="RoS-KD"))
               for average in sorted(here["average"].unique()) if average not in ("", printed)]  # fmt: skip
    table = [(group, label, *_paired(base, other, f"{task}, {label}")) for group, label, other in others]
    table = pd.DataFrame(table, columns=["group", "label", "mean", "low", "high", "n"])
    return table.sort_values("mean", key=lambda mean: -mean.abs(), kind="stable", ignore_index=True)


def _of_its_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the setting that a reading is about: RoS-KD, or Baseline III where RoS-KD does not have it."""
    return select(rows, setting="RoS-KD" if (rows["setting"] == "RoS-KD").any() else "Baseline III")


def _paired(base: pd.DataFrame, other: pd.DataFrame, what: str):
    pairs = other.merge(base, on=["setting", "replicate"], suffixes=("", "_base"), validate="one_to_one")
    if pairs.empty:
        raise InputError(
            f"{what}: no replicate in common with '{AS_CHOSEN}', so no paired difference; train both for one replicate"
        )
    return paired_difference(pairs["value"], pairs["value_base"])


def _tornado(ax, table: pd.DataFrame, height: int, colour: str) -> None:
    y, several = np.arange(len(table)), (table["n"] > 1).to_numpy()
    ax.barh(y, table["mean"], color=colour, height=0.6, lw=0)
    if several.any():
        whiskers = np.stack([table["mean"] - table["low"], table["high"] - table["mean"]])[:, several]
        look = {"fmt": "none", "ecolor": INK, "elinewidth": 0.8, "capsize": 2}
        ax.errorbar(table["mean"][several], y[several], xerr=whiskers, **look)
    ax.axvline(0, color=INK, lw=0.8)
    reach = 1.08 * np.nanmax(np.abs([1e-3, *table["mean"], *table["low"], *table["high"]]))
    ax.set(xlim=(-reach, reach), ylim=(height - 0.4, -0.6))
    ax.set_yticks(y, table["label"])
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    ax.spines["left"].set_visible(False)
