"""Table II: F1 and its parts before and after the attacks, their self-checks, and F1 against the radius."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils.paper import look
from rosutils.paper.cells import METRICS, averaging, block, spread_over
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.results import KEYS, select
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS, SAME_TEACHERS
from rosutils.study.probes import CHECKED_IMAGES


NOTEBOOK, NEEDS = "06_adversarial", ("table2",)
# The paper's name of our setting, both distilled from "exactly same teacher models".
PAPERS = dict(zip(("Baseline III", "RoS-KD"), SAME_TEACHERS, strict=True))
ATTACKS = {"pgd": "PGD", "fgsm": "FGSM"}
SIGNS = {"l2": r"$\ell_2$, literal", "linf": r"$\ell_\infty$", "l2-scaled": r"$\ell_2\times\sqrt{CHW}$"}
BEFORE, NO_SKILL = ("", "before attack"), ("", "no skill")
LABELS = ["norm", "attack", "setting"]
SAMPLE = "attacked sample"  # what no skill scores on the images that are attacked
HOLLOW = {"mfc": "white", "mew": 0.8, "ms": 4.5}
RADIUS_LOOK = {"color": look.INK, "lw": 0.7, "ls": (0, (1, 2))}


def table(study) -> pd.DataFrame:
    """Table II: before the attack, and after each at the profile's radius in every reading of its norm; columns as in Table I.

    Rows are ("", "before attack", setting) and (norm, attack, setting). The paper's number stands beside every reading: it
    says "l2" and not in which units. Rows that were not run are blank.
    """
    norms = study.parameters.attacks.norms
    after = [(norm, attack) for norm in norms for attack in ATTACKS.values()]
    lines = [(*which, name) for which in (BEFORE, *after) for name in SAME_TEACHERS]
    index = pd.MultiIndex.from_tuples(lines + [(*NO_SKILL, name) for name in CHANCE], names=LABELS)
    rows, blocks = moments(study), {}
    for task, about in study.about_tasks().items():
        for metric, title in METRICS.items():
            here = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]], metric=metric)
            blocks[task, title] = block(here, index, by=LABELS, paper=_printed(task, metric, norms))
    return pd.concat(blocks, axis=1, names=["task", "metric", "column"])


def moments(study) -> pd.DataFrame:
    """The measurements of Table II with the table's words for norm and attack; before is the same for every attack."""
    results, section = study.results(), study.parameters.attacks
    rows = select(results, setting=SAME_TEACHERS, variant="", attack=list(ATTACKS), class_="")
    before = select(rows, eps=0.0).assign(norm=BEFORE[0], attack=BEFORE[1]).drop_duplicates(KEYS)
    after = select(rows, eps=section.eps, norm=list(section.norms)).replace({"attack": ATTACKS})
    chance = select(results, setting=CHANCE, variant="", attack=SAMPLE, class_="")
    return pd.concat([before, after, chance.assign(norm=NO_SKILL[0], attack=NO_SKILL[1])], ignore_index=True)


def _printed(task: str, metric: str, norms: list[str]) -> pd.Series:
    found = {("", "", ""): np.nan}
    for row in published()["table2"]["rows"]:
        if row["task"] == task:
            setting = PAPERS[row["setting"]]
            found[*BEFORE, setting] = row["before"][metric]
            found |= {(norm, ATTACKS[row["attack"]], setting): row["after"][metric] for norm in norms}
    return pd.Series(found)


def caption(study, frame: pd.DataFrame) -> str:
    """What the rows of the table are, at which radius, over how many replicates, and the profile's watermark."""
    printed, tasks, radius = published()["table2"], study.about_tasks(), 255 * study.parameters.attacks.eps
    slip = " Printed for chest, Baseline III before the attack, is Baseline II's row of Table I." * ("chest" in tasks)
    return (
        f"Table II, attacks of radius {radius:.4g}/255 (the paper's: {printed['eps']}), before and after on the same test "
        f"images. The paper says {printed['norm']} and not in which units, so its numbers stand beside every reading. Baseline III "
        f"here has RoS-KD's teachers, as the paper's caption says.{slip} Films are attacked in their one channel. “No skill”: on "
        f"the same images. Ours: {spread_over(frame)}. {averaging(tasks)} {study.watermark()}"
    )


def checks(study) -> pd.DataFrame:
    """The self-checks of the attacks on both models of Table II, for each task and norm: task, setting, norm, check, ..."""
    specs = [spec for spec in study.runs("table2") if spec.role == "checks"]
    tasks = study.parameters.tasks
    settings = {study.for_task(task).student(task, name): name for task in tasks for name in SAME_TEACHERS}
    tables = [study.run(spec).table("checks").assign(task=spec.task, setting=settings[spec.of]) for spec in specs]
    return pd.concat(tables, ignore_index=True)[["task", "setting", "norm", "check", "passed", "detail"]]


def plot(study) -> Figure:
    """Table II as F1 before and after PGD and FGSM for each reading of the radius, the printed F1 hollow beside ours."""
    rows, results = select(moments(study), setting=SAME_TEACHERS, metric="f1"), study.results()
    reached = rows[rows["norm"] != BEFORE[0]]
    tasks = look.measured(reached, study.about_tasks(), "Table II")
    norms = [norm for norm in SIGNS if norm in set(reached["norm"])]
    size = (look.WIDTH, 0.8 + 1.6 * len(tasks))
    fig, axes = look.subplots(len(tasks), len(norms), size=size, sharey=True, sharex="row")
    order, chance, shown = ["before attack", *ATTACKS.values()], False, []
    for line, (task, about) in zip(axes, tasks.items(), strict=True):
        here, label = look.printed_f1(rows, task, about)
        for ax, norm in zip(line, norms, strict=True):
            shown.append(select(here, norm=["", norm]))
            look.points(ax, shown[-1], "attack", order, dodge=0.3)
            for (_, attack, name), value in _printed(task, "f1", [norm]).dropna().items():
                y = order.index(attack) + (0.3 if name == "RoS-KD" else -0.3)
                ax.plot(value, y, look.MARKER[name], mec=look.COLOUR[name], **HOLLOW, zorder=1)
            chance |= look.chance_line(ax, results, task, about, attack=SAMPLE, across=True)
            ax.set(title=f"{task}, {SIGNS[norm]}", xlabel=label)
            ax.locator_params(axis="x", nbins=5)
    names = dict(zip(("Baseline III, same teachers", "RoS-KD"), SAME_TEACHERS, strict=True))
    handles = {title: look.handle(name, line=False) for title, name in names.items()}
    handles["hollow: as printed in the paper"] = Line2D([], [], marker="o", ls="", mec=look.GREY, **HOLLOW)
    look.legend(fig, handles, f"ours: {look.replicates(pd.concat(shown).drop_duplicates())}", chance=chance)
    return fig


def curve(study) -> Figure:
    """F1 under PGD against the radius (in 1/255): a panel for each setting of Table I, the others pale behind it.

    The radius of Table II is a dotted line.
    """
    norm, eps = study.parameters.attacks.curve_norm, study.parameters.attacks.eps
    results = study.results()
    rows = _along(results, norm)
    tasks = look.measured(rows, study.about_tasks(), f"PGD in the norm {norm}")
    names, chance, shown = [name for name in ROWS if name in set(rows["setting"])], False, []
    size = (look.WIDTH, 0.75 + 1.35 * len(tasks))
    fig, axes = look.subplots(len(tasks), len(names), size=size, sharex=True, sharey="row")
    for line, (task, about) in zip(axes, tasks.items(), strict=True):
        here, label = look.printed_f1(rows, task, about)
        for ax, name in zip(line, names, strict=True):
            for other in names:
                means = select(here, setting=other).groupby("radius")["value"].mean()
                ax.plot(means, color=look.PALE, lw=0.7, zorder=0)
            look.curves(ax, select(here, setting=name), "radius", ms=3.5)
            ax.axvline(255 * eps, zorder=0, **RADIUS_LOOK)
            chance |= look.chance_line(ax, results, task, about, attack=SAMPLE)
            ax.set_title(name.replace(", ", ",\n") if ax in axes[0] else "", fontsize=7)
            ax.set(xlabel="", ylabel=f"{task}\n{label}" if ax is line[0] else "")
        shown.append(here)
    axes[-1, len(names) // 2].set_xlabel(f"radius ε of PGD in {SIGNS[norm]} (1/255)")
    handles = {"the other settings": Line2D([], [], color=look.PALE, lw=0.9)}
    handles[f"radius {255 * eps:.4g}/255 (Table II)"] = Line2D([], [], **RADIUS_LOOK)
    look.legend(fig, handles, look.replicates(pd.concat(shown)), chance=chance)
    return fig


def _along(results: pd.DataFrame, norm: str) -> pd.DataFrame:
    """F1 under PGD in one norm, radius 0 included: it changes no image, so any attack's row of it will do."""
    rows = select(results, setting=ROWS, variant="", class_="", metric="f1", attack=list(ATTACKS))
    own, unchanged = select(rows, attack="pgd", norm=norm), select(rows, eps=0.0)
    unchanged = unchanged[unchanged["setting"].isin(own["setting"])].assign(attack="pgd", norm=norm)
    both = pd.concat([own, unchanged]).drop_duplicates(KEYS)
    return both.assign(radius=255 * both["eps"])


TABLE = Item("table2", "Table II", NOTEBOOK, NEEDS, table, caption, "table")
CHECKS = Item(
    "self_checks", "Self-checks of the attacks", NOTEBOOK, NEEDS, checks,
    lambda study, frame: f"On {CHECKED_IMAGES} test images at most, first replicate. {study.watermark()}", "table",
)  # fmt: skip
PLOT = Item(
    "table2", "Table II as dots", NOTEBOOK, NEEDS, plot, lambda study, made: "F1 before and after FGSM and PGD of radius "
    f"{255 * study.parameters.attacks.eps:.4g}/255, for each reading of the radius.",
)  # fmt: skip
CURVE = Item(
    "eps_curve", "F1 against the radius", NOTEBOOK, NEEDS, curve,
    lambda study, made: f"PGD at multiples of {255 * study.parameters.attacks.eps:.4g}/255, a panel for each setting of Table I.",
)  # fmt: skip
