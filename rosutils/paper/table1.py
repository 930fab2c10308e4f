"""Table I: seven settings beside the paper's numbers, as a table and as dots, and RoS-KD minus each baseline."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils import intervals
from rosutils.paper import look
from rosutils.paper.cells import averaging, block, caption, counted, differences, many, measures
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.results import select
from rosutils.settings import BASELINES, CHANCE, PLAIN, PRINTED_AVERAGE, ROWS, setting
from rosutils.study.experiment import logits_of, thresholds_of


# Under the paper's settings: what reads the pixels without a network, and what no skill scores on the same test images.
BESIDE = (PLAIN, *CHANCE)
NO_SKILL = "The last rows have no skill: the best constant answer on the same test images, random scores, what 2.5 % of these reach"
OWN = {"variant": "", "attack": "", "class_": ""}  # the profile's own, nothing attacked, no single class


def table(study) -> pd.DataFrame:
    """Table I: per setting, task and metric what is published, ours (mean over replicates), std, n, difference and runs.

    Columns are (task, metric, one of these); rows that are not in the paper have no published value; tasks with several
    labels per image have their mean AUROC as well.
    """
    printed, blocks, index = published()["table1"], {}, pd.Index([*ROWS, *BESIDE], name="setting")
    rows, student = select(study.results(), **OWN, setting=list(index)), study.parameters.distillation.student
    rows = rows[rows["setting"].isin(BESIDE) | (rows["student"] == student)]
    for task, about in study.about_tasks().items():
        for title, (metric, average) in measures(about["multilabel"]).items():
            paper = {name: row[metric] for name, row in printed.get(task, {}).items() if metric in row}
            here = select(rows, task=task, average=average, metric=metric)
            blocks[task, title] = block(here, index, by=["setting"], paper=paper)
    return pd.concat(blocks, axis=1, names=["task", "metric", "column"])


def plot(study) -> Figure:
    """Table I as dots: our F1 (each replicate, mean ± std) beside the printed F1 (hollow diamonds) and no skill's (line)."""
    student = study.parameters.distillation.student
    rows = select(study.results(), **OWN, setting=ROWS, student=student, metric="f1")
    handles = {"paper": Line2D([], [], **look.PRINTED)}
    return look.f1_panels(study, rows, "Table I", _dots, handles=handles, size=(look.WIDTH, 2.65))


def _dots(ax, rows: pd.DataFrame, task: str) -> None:
    look.points(ax, rows, "setting", ROWS)
    for name, row in published()["table1"].get(task, {}).items():
        ax.plot(row["f1"], ROWS.index(name), **look.PRINTED)
    ax.grid(axis="y", color=look.PALE, lw=0.4)


def comparisons(study) -> pd.DataFrame:
    """RoS-KD minus each baseline in F1 (Table I), paired by replicate, beside the difference of the printed numbers.

    Columns are (task, "RoS-KD minus baseline", published, mean or runs), (task, "95 % over replicates", low, high or n:
    Student's t, nan for one replicate) and (task, "95 % over test groups", low or high: bootstrap). What was not run is
    blank.
    """
    blocks = {}
    for task, about in study.about_tasks().items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        rows = select(study.results(), **OWN, task=task, metric="f1", average=average)
        ours = select(rows, setting="RoS-KD")
        found = differences({baseline: (ours, select(rows, setting=baseline)) for baseline in BASELINES})
        found = found.assign(published=printed_gains(task))
        blocks[task, "RoS-KD minus baseline"] = found[["published", "mean", "runs"]]
        blocks[task, "95 % over replicates"] = found[["low", "high", "n"]]
        blocks[task, "95 % over test groups"] = _over_groups(study, task, average, about["multilabel"])
    return pd.concat(blocks, axis=1, names=["task", "interval", "column"]).rename_axis("baseline")


def printed_gains(task: str) -> pd.Series:
    """RoS-KD's printed F1 minus each baseline's (Table I), nan where the paper has none."""
    printed = {name: row["f1"] for name, row in published()["table1"].get(task, {}).items()}
    printed = pd.Series(printed, dtype=float).reindex(ROWS)
    return (printed["RoS-KD"] - printed[list(BASELINES)]).round(3)  # as many decimals as are printed


def _over_groups(study, task: str, average: str, multilabel: bool) -> pd.DataFrame:
    """The 95 % interval of RoS-KD's F1 minus each baseline's over resampled test lesions or patients: low, high."""
    how, ours, found = {"average": average, "multilabel": multilabel}, _scored(study, task, "RoS-KD"), {}
    for baseline in BASELINES:
        if ours and (theirs := _scored(study, task, baseline)):
            how |= {"resamples": 1000, "generator": torch.Generator().manual_seed(study.parameters.seeds.data)}
            found[baseline] = intervals.difference_interval(ours, theirs, **how)
    return pd.DataFrame.from_dict(found, orient="index", columns=["low", "high"]).reindex(list(BASELINES))


def _scored(study, task: str, name: str) -> list[intervals.Scored]:
    """What a setting says of each replicate's test part, with the groups of that part; nothing where one was not run."""
    state, found = setting(name).state, []
    for there in study.for_task(task).replicates:
        spec, data = there.student(task, name), there.task(task)
        if there.run(spec) is None:
            return []
        index = data.split["test"]
        said = logits_of(there, spec, state)["test"], data.labels[index], data.groups[index]
        found.append(intervals.Scored(*said, thresholds_of(there, spec, state)))
    return found


def _about_comparisons(study, frame: pd.DataFrame) -> str:
    counts = counted(frame)
    mean = f"mean over {many(counts)}, paired" if counts else "not run yet"
    one = " One replicate (n = 1) gives no interval." if 1 in counts else ""
    return (
        f"RoS-KD minus each baseline in F1. Paper: the difference of its printed numbers. Ours: {mean}. 95 % over replicates: "
        f"Student's t, how much the method varies from one to the next.{one} 95 % over test groups: bootstrap of whole lesions "
        f"or patients, how much the choice of test images matters. {averaging(study.about_tasks())} {study.watermark()}"
    )


TABLE = Item(
    "table1", "Table I", "04_tables", ("table1",), table,
    lambda study, frame: caption(f"Table I. Logistic regression reads the pixels without a network. {NO_SKILL}", frame, study),
    "table",
)  # fmt: skip
PLOT = Item(
    "table1", "Table I as dots", "04_tables", ("table1",), plot,
    "F1 on the test part beside the printed F1 (hollow); bars: one standard deviation.",
)  # fmt: skip
COMPARISONS = Item(
    "comparisons", "RoS-KD minus each baseline", "04_tables", ("table1",), comparisons, _about_comparisons, "table"
)
