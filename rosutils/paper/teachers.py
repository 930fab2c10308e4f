"""The teachers of Section IV-B: how they learned, and what they score."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rosutils.paper import look
from rosutils.paper.cells import block, caption
from rosutils.paper.items import Item
from rosutils.paper.table1 import NO_SKILL
from rosutils.results import select
from rosutils.settings import CHANCE, PRINTED_AVERAGE, SETTINGS, TEACHERS


OWN = {"variant": "", "attack": "", "class_": "", "metric": "f1"}
FAR = 4  # a loss of more than so many times the median would flatten the others
TRAINING, VALIDATION = {"color": look.BLUE}, {"color": look.RED, "ls": "--"}
KINDS = {"loss": {"loss": TRAINING, "validation_loss": VALIDATION}, "validation F1": {"validation_f1": VALIDATION}}
FALLS = {"color": look.PALE, "lw": 0.8}


def table(study) -> pd.DataFrame:
    """F1 of every teacher (Section IV-B), trained on the full set and on its own subset, and the difference; and no skill's.

    Columns are (task, "full set" or "own subset", one of ours = mean over replicates, std, n, runs) and (task, "subset minus
    full", "difference"); the last rows are what no skill scores on the same test images.
    """
    results, blocks = study.results(), {}
    rows = select(results, **OWN, setting=TEACHERS)
    architectures = look.students(rows)
    index = pd.Index([*architectures, *CHANCE], name="student")
    for task, about in study.about_tasks().items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        chance = select(results, **OWN, task=task, setting=CHANCE, average=average)
        for setting, title in zip(TEACHERS, ("full set", "own subset"), strict=True):
            here = select(rows, task=task, average=average, setting=setting)
            both = pd.concat([here, chance.assign(student=chance["setting"])], ignore_index=True)
            blocks[task, title] = block(both, index, by=["student"])
        less = blocks[task, "own subset"]["ours"] - blocks[task, "full set"]["ours"]
        blocks[task, "subset minus full"] = less[architectures].reindex(index).to_frame("difference")
    found = pd.concat(blocks, axis=1, names=["task", "F1", "column"]).rename_axis("teacher")
    return found[found.xs("n", axis=1, level=-1).notna().any(axis=1)]


def plot(study) -> Figure:
    """F1 on the test part of every teacher, trained on the full set and on its own subset (Section IV-B)."""
    rows = select(study.results(), **OWN, setting=TEACHERS)
    order = look.students(rows)
    names = {name.removeprefix("teacher, ").replace("subset", "own subset"): name for name in TEACHERS}
    handles = {title: look.handle(name, line=False) for title, name in names.items()}

    def draw(ax, rows: pd.DataFrame, task: str) -> None:
        look.points(ax, rows, "student", order, dodge=0.25)

    size = (look.WIDTH, 0.95 + 0.3 * len(order))
    return look.f1_panels(study, rows, "the teachers", draw, handles=handles, size=size)


def curves(history: pd.DataFrame) -> Figure:
    """A column per architecture (or setting); loss and validation F1 of the teachers of the full set above those of the subsets.

    Columns of the history are architecture, trained_on, epoch, learning_rate, loss, validation_loss, validation_f1. Losses
    share a scale that an outlier does not stretch: where one is higher, its number stands at the border.
    """
    lines = list(product(history["trained_on"].unique(), KINDS))
    columns, size = list(history["architecture"].unique()), (look.WIDTH, 0.5 + 1.15 * len(lines))
    fig, axes = look.subplots(len(lines), len(columns), size=size, sharex=True, sharey="row")
    top = FAR * history[["loss", "validation_loss"]].median().max()  # a student's two losses are of two kinds
    for line, (pool, kind) in zip(axes, lines, strict=True):
        for ax, name in zip(line, columns, strict=True):
            rows = history[(history["trained_on"] == pool) & (history["architecture"] == name)]
            for epoch in rows["epoch"][rows["learning_rate"].diff() < 0]:
                ax.axvline(epoch - 0.5, **FALLS, zorder=0)
            for column, how in KINDS[kind].items():
                ax.plot(rows["epoch"], rows[column], **how)
                for epoch, value in rows.loc[(kind == "loss") & (rows[column] > top), ["epoch", column]].to_numpy():
                    where = {"xycoords": ("data", "axes fraction"), "fontsize": 5.5, "va": "top"}
                    where["ha"] = "left" if epoch == rows["epoch"].min() else "center"
                    ax.annotate(f"↑{value:.3g}", (epoch, 1), color=how["color"], **where)
            ax.set_title(look.architecture_name(name) if ax in axes[0] else "", fontsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        line[0].set_ylabel(f"{pool}\n{kind}")
        if kind == "loss":
            line[0].set_ylim(0, min(line[0].get_ylim()[1], top))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    handles = {"training": TRAINING, "validation": VALIDATION, "learning rate falls": FALLS}
    look.legend(fig, {name: Line2D([], [], **how) for name, how in handles.items()}, None)
    return fig


def _histories(study, task: str) -> Figure:
    """The curves of a task's teachers, first replicate."""
    specs = [spec for spec in study.runs("teachers") if (spec.role, spec.task, spec.replicate) == ("teacher", task, 0)]
    return curves(study.history(specs))


def _students(study, task: str) -> Figure:
    """The curves of a task's students of Table I, first replicate; RoS-KD is Baseline V's run, averaged."""
    there, tables = study.for_task(task), []
    for row in SETTINGS:
        table = study.history([there.student(task, row.name)])
        if row.averaged:
            table = table.assign(validation_f1=table["averaged_validation_f1"], validation_loss=np.nan)
        tables.append(table.assign(architecture=row.name.replace(", ", ",\n"), trained_on="students"))
    return curves(pd.concat(tables))


STUDENTS = Item(
    "student_curves", "Students in training", "04_tables", ("table1",), _students,
    "Loss of training and validation part, and validation F1, of the settings of Table I; RoS-KD's F1 is that of Baseline V's "
    "averaged epochs; first replicate.", each=True,
)  # fmt: skip
CURVES = Item(
    "teacher_curves", "Teachers in training", "02_teachers", ("teachers",), _histories,
    "Loss of training and validation part, and validation F1; first replicate.", each=True,
)  # fmt: skip
TABLE = Item(
    "teachers", "F1 of the teachers on the test part", "02_teachers", ("teachers",), table,
    lambda study, frame: caption(f"F1 of the teachers on the test part. {NO_SKILL}", frame, study), "table",
)  # fmt: skip
PLOT = Item(
    "teachers", "Teachers", "02_teachers", ("teachers",), plot,
    "F1 on the test part, trained on the full set and on the teacher's own subset.",
)  # fmt: skip
