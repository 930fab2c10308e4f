"""Beyond the paper: methods against label noise, and whose labels they come to believe."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import InputError
from rosutils.figures.look import GREY, SETTING_STYLES, WIDTH, style, subplots
from rosutils.figures.scores import NO_SKILL, chance_line, draw_means, legend_above, measured_tasks, over_seeds
from rosutils.results import select, summary
from rosutils.settings import PRINTED_AVERAGE, TEACHERS


KINDS = {"symmetric": "symmetric", "pairflip": "class-dependent (pair flip)"}
METHODS = ("Baseline I", "Baseline III", "Baseline V", "RoS-KD")
AGREEMENTS = {"agreement_clean": "-", "agreement_given": (0, (3, 1.5))}
SPREAD = 0.4  # of the way from one rate to the next: methods stand side by side, or their bars could not be told apart


@style()
def noise_scores(results: pd.DataFrame, *, tasks: dict[str, dict], metric: str) -> Figure:
    """F1 (printed averaging) or mean AUROC of four methods against the measured label noise, per task and kind of noise.

    `metric` is "f1" or "auroc", else an InputError. Ticks are measured shares of changed labels (several labels per
    image: of changed entries), with the nominal rate in parentheses.
    """
    if metric not in ("f1", "auroc"):
        raise InputError(f"metric is {metric!r}; allowed are 'f1' and 'auroc'")
    rows = _noisy(results, metric=metric, setting=METHODS)
    tasks, kinds = measured_tasks(rows, tasks, "label noise"), _kinds(rows)
    size = (WIDTH, 0.5 + 2.05 * len(tasks))
    fig, axes = subplots(len(tasks), len(kinds), size=size, sharey="row")
    handles, counts = {}, []
    for line, (task, about) in zip(axes, tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]] if metric == "f1" else "macro"
        for ax, kind in zip(line, kinds, strict=True):
            here = _of_kind(select(rows, task=task, average=average), kind)
            counts += _methods(ax, here)
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
            _measured_ticks(ax, here, "entries" if about["multilabel"] else "labels")
            variants = list(here["variant"].unique())  # test images, and so chance, are the same at every rate
            if chance := chance_line(ax, results, task, about, variant=variants, metric=metric):
                handles[NO_SKILL] = chance
            ax.set_title(f"{task}, {KINDS[kind]}")
        line[0].set_ylabel(f"F1 ({average})" if metric == "f1" else "mean AUROC of the classes")
    handles = {name: handles[name] for name in (*METHODS, NO_SKILL) if name in handles}
    legend_above(fig, handles, over_seeds(counts), ncols=5)
    return fig


def _noisy(results: pd.DataFrame, **conditions) -> pd.DataFrame:
    """The rows of the noise variants, with the kind and the nominal rate in columns of their own."""
    rows = select(results, attack="", class_="", **conditions)
    parts = rows["variant"].str.extract(rf"^({'|'.join(KINDS)}) (\S+)$")
    rows = rows.assign(kind=parts[0], rate=pd.to_numeric(parts[1]))
    return rows[rows["kind"].notna()]


def _kinds(rows: pd.DataFrame) -> list[str]:
    """The kinds of noise that some rate above 0 was measured for (all, if there is no such rate)."""
    there = set(rows.loc[rows["rate"] > 0, "kind"]) or set(rows["kind"])
    return [kind for kind in KINDS if kind in there]


def _of_kind(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows of one kind; its rate 0 from the other kind where only that has it: no noise is of no kind."""
    mine, clean = rows["kind"] == kind, rows["rate"] == 0
    return rows[mine] if (mine & clean).any() else rows[mine | clean]


def _methods(ax, rows: pd.DataFrame) -> list[int]:
    counts = []
    for setting in METHODS:
        ours = summary(select(rows, setting=setting), by=["rate"]).sort_values("rate")
        if len(ours):
            x = 100 * ours["rate"].map(rows.groupby("rate")["noise"].mean())
            draw_means(ax, x, ours["mean"], ours, setting, label=setting)
            counts += ours["n"].tolist()
    return counts


def _measured_ticks(ax, rows: pd.DataFrame, what: str) -> None:
    measured = 100 * rows.groupby("rate")["noise"].mean()
    labels = [f"{float(f'{share:.2g}'):g}\n({100 * rate:g})" for rate, share in measured.items()]
    ax.set_xticks(measured, labels)
    ax.set_xlabel(f"changed {what} of the training part (%),\nmeasured (and nominal rate)")


@style()
def agreement(results: pd.DataFrame, *, tasks: dict[str, dict]) -> Figure:
    """Of the training labels that the noise changed, the share on which each method agrees with clean and with given.

    Students by setting; teachers as the mean over their architectures, with the std over replicates of that mean.
    """
    rows = _noisy(results, metric=tuple(AGREEMENTS), average="changed", setting=(*METHODS, *TEACHERS))
    rows = rows[rows["value"].notna()]  # without noise no label has changed
    tasks, kinds = measured_tasks(rows, tasks, "agreement with clean labels"), _kinds(rows)
    size = (WIDTH, 0.7 + 2.3 * len(tasks))
    fig, axes = subplots(len(tasks), len(kinds), size=size, sharex="col", sharey=True)
    counts = []
    for line, task in zip(axes, tasks, strict=True):
        for ax, kind in zip(line, kinds, strict=True):
            counts += _agreements(ax, select(rows, task=task, kind=kind))
            ax.set_title(f"{task}, {KINDS[kind]}")
        line[0].set(ylabel="share of the changed labels", ylim=(-0.03, 1.03))
    for ax, kind in zip(axes[-1], kinds, strict=True):
        ax.set(xlabel="nominal noise rate (%)", xticks=_percent(select(rows, kind=kind)))
    heading = f"{over_seeds(counts)}; teachers: mean over architectures"
    legend_above(fig, _agreement_legend(_present(rows)), heading)
    return fig


def _agreements(ax, rows: pd.DataFrame) -> list[int]:
    counts, settings, rates = [], _present(rows), _percent(rows)
    beside = SPREAD * min(np.diff(rates), default=10) * np.linspace(-0.5, 0.5, len(settings))
    for setting, aside in zip(settings, beside, strict=True):
        for metric, line in AGREEMENTS.items():
            here = select(rows, setting=setting, metric=metric)
            if setting in TEACHERS:
                here = here.groupby(["rate", "replicate"], as_index=False)["value"].mean()
            ours = summary(here, by=["rate"]).sort_values("rate")
            look = {"ls": line} | ({} if metric == "agreement_clean" else {"mfc": "white"})
            draw_means(ax, 100 * ours["rate"] + aside, ours["mean"], ours, setting, **look)
            counts += ours["n"].tolist()
    return counts


def _percent(rows: pd.DataFrame) -> np.ndarray:
    """The nominal rates of the noise, in order."""
    return 100 * np.sort(rows["rate"].unique())


def _present(rows: pd.DataFrame) -> list[str]:
    return [setting for setting in (*METHODS, *TEACHERS) if setting in set(rows["setting"])]


def _agreement_legend(settings: list[str]) -> dict[str, Line2D]:
    handles = {
        setting.replace("teacher,", "teachers,"): Line2D([], [], **SETTING_STYLES[setting] | {"ls": "", "ms": 4.5})
        for setting in settings
    }
    grey = {"color": GREY, "marker": "o", "ms": 4.5}
    clean, given = AGREEMENTS.values()
    handles["agrees with the clean label"] = Line2D([], [], **grey, ls=clean)
    handles["agrees with the given, wrong label"] = Line2D([], [], **grey, ls=given, mfc="white", mew=0.8)
    return handles
