"""Beyond the paper: methods against label noise, and whose labels they come to believe."""

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.results import select
from rosutils.settings import NOISE_SETTINGS, PRINTED_AVERAGE, TEACHERS


KINDS = {"symmetric": "symmetric", "pairflip": "class-dependent (pair flip)"}
AGREEMENTS = {"agreement_clean": {"ls": "-"}, "agreement_given": {"ls": (0, (3, 1.5)), "mfc": "white", "mew": 0.8}}
SPREAD = 0.4  # of the way from one rate to the next: methods stand side by side, or their bars could not be told apart


def _noisy(results: pd.DataFrame, **conditions) -> pd.DataFrame:
    """The rows of the noise variants, with the nominal and the measured rate in per cent, one place for all replicates."""
    rows = select(results, variant=list(KINDS), attack="", class_="", **conditions)
    where = ["task", "variant", "variant_value"]
    measured = 100 * select(results, metric="noise_rate").groupby(where)["value"].mean().rename("measured")
    return rows.assign(nominal=100 * rows["variant_value"].astype(float)).join(measured, on=where)


def _kinds(rows: pd.DataFrame) -> list[str]:
    """The kinds of noise that some rate above 0 was measured for (all, if there is no such rate)."""
    there = set(rows.loc[rows["nominal"] > 0, "variant"]) or set(rows["variant"])
    return [kind for kind in KINDS if kind in there]


def _of_kind(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows of one kind; its rate 0 from the other kind where only that has it: no noise is of no kind."""
    mine, clean = rows["variant"] == kind, rows["nominal"] == 0
    return rows[mine] if (mine & clean).any() else rows[mine | clean]


def plot(study, *, metric: str) -> Figure:
    """F1 (printed averaging) or mean AUROC of four methods against the measured label noise, per task and kind of noise.

    `metric` is "f1" or "auroc". Ticks are measured shares of changed labels (several labels per image: of changed
    entries), with the nominal rate in parentheses.
    """
    results = study.results()
    rows = _noisy(results, metric=metric, setting=NOISE_SETTINGS)
    tasks, kinds, chance, shown = look.measured(rows, study.about_tasks(), "label noise"), _kinds(rows), False, []
    fig, axes = look.subplots(len(tasks), len(kinds), size=(look.WIDTH, 0.5 + 2.05 * len(tasks)), sharey="row")
    for line, (task, about) in zip(axes, tasks.items(), strict=True):
        average = PRINTED_AVERAGE[about["multilabel"]] if metric == "f1" else "macro"
        label = f"F1 ({average})" if metric == "f1" else "mean AUROC of the classes"
        for ax, kind in zip(line, kinds, strict=True):
            here = _of_kind(select(rows, task=task, average=average), kind)
            look.curves(ax, here, "measured")
            places = here.groupby("nominal")["measured"].first()
            ax.set_xticks(places, [f"{float(f'{share:.2g}'):g}\n({rate:g})" for rate, share in places.items()])
            # Test images, and so chance, are the same at every rate.
            chance |= look.chance_line(ax, results, task, about, variant=list(here["variant"].unique()), metric=metric)
            changed = f"changed {'entries' if about['multilabel'] else 'labels'} of the training part (%),"
            ax.set(title=f"{task}, {KINDS[kind]}", xlabel=f"{changed}\nmeasured (and nominal rate)", ylabel=label)
            shown.append(here)
    shown = pd.concat(shown)
    handles = {name: look.handle(name) for name in NOISE_SETTINGS if name in set(shown["setting"])}
    look.legend(fig, handles, look.replicates(shown.drop_duplicates()), chance=chance, ncols=5)
    return fig


def agreement(study) -> Figure:
    """Of the training labels that the noise changed, the share on which each method agrees with clean and with given.

    Students by setting; teachers as the mean over their architectures, with the std over replicates of that mean.
    """
    rows = _noisy(study.results(), metric=tuple(AGREEMENTS), average="changed", setting=(*NOISE_SETTINGS, *TEACHERS))
    rows = rows.dropna(subset="value")  # without noise no label has changed
    tasks, kinds = look.measured(rows, study.about_tasks(), "agreement with clean labels"), _kinds(rows)
    alike = ["task", "variant", "variant_value", "nominal", "setting", "metric", "replicate"]
    means = rows.groupby(alike, as_index=False)["value"].mean()  # of a teacher, over architectures
    settings = [name for name in (*NOISE_SETTINGS, *TEACHERS) if name in set(rows["setting"])]
    size = (look.WIDTH, 0.7 + 2.3 * len(tasks))
    fig, axes = look.subplots(len(tasks), len(kinds), size=size, sharex="col", sharey=True)
    for line, task in zip(axes, tasks, strict=True):
        for ax, kind in zip(line, kinds, strict=True):
            _agreements(ax, select(means, task=task, variant=kind), settings)
            ax.set(title=f"{task}, {KINDS[kind]}", xlabel="nominal noise rate (%)" if ax in axes[-1] else "")
        line[0].set(ylabel="share of the changed labels", ylim=(-0.03, 1.03))
    handles = {name.replace("teacher,", "teachers,"): look.handle(name, line=False) for name in settings}
    for whom, how in zip(("clean", "given, wrong"), AGREEMENTS.values(), strict=True):
        handles[f"agrees with the {whom} label"] = Line2D([], [], color=look.GREY, marker="o", ms=4.5, **how)
    students = rows[rows["setting"].isin(NOISE_SETTINGS)]
    said = look.replicates(students if len(students) else rows)
    look.legend(fig, handles, f"{said}; teachers: mean over architectures")
    return fig


def _agreements(ax, rows: pd.DataFrame, settings: list[str]) -> None:
    rates = np.sort(rows["nominal"].unique())
    asides = SPREAD * min(np.diff(rates), default=10) * np.linspace(-0.5, 0.5, len(settings))
    for (name, aside), (metric, how) in product(zip(settings, asides, strict=True), AGREEMENTS.items()):
        here = select(rows, setting=name, metric=metric)
        how = how | {"color": look.COLOUR[name], "marker": look.MARKER[name], "ms": 4.5, "mew": 0.8}
        look.means(ax, here, here["nominal"] + aside, **how)
    ax.set(xticks=rates, xlim=(rates[0] - 10, rates[-1] + 10))


def _item(metric: str, title: str, caption: str) -> Item:
    make = partial(plot, metric=metric)
    return Item(f"noise_{metric}", title, "08_label_noise", ("noise",), make, caption)


F1 = _item("f1", "F1 against label noise", "F1 on the test part against the measured share of changed training labels.")
AUROC = _item("auroc", "AUROC against label noise", "The same, mean AUROC over the classes.")
AGREEMENT = Item(
    "agreement", "Agreement with the labels", "08_label_noise", ("noise",), agreement,
    "Teachers and students beside the clean and the given training labels.",
)  # fmt: skip
