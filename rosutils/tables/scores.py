"""Table I, and the teachers behind it."""

import pandas as pd

from rosutils.results import published, select, summary
from rosutils.settings import CHANCE, PLAIN, PRINTED_AVERAGE, ROWS, TEACHERS


METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
AUROC = "Mean AUROC"
# Under the paper's settings: what reads the pixels without a network, and what no skill scores on the same test images.
BESIDE = (PLAIN, *CHANCE)


def table1(
    results: pd.DataFrame,
    *,
    tasks: dict[str, dict],
    student: str,
    overlap: float | None = None,
    noise: float | None = None,
) -> pd.DataFrame:
    """Table I: per setting, task and metric what is published, ours (mean over replicates), std, n, and the difference.

    Columns are (task, metric, one of published, ours, std, n, difference = ours minus published); "Baseline III, subset
    teachers", logistic regression and what no skill scores are not in the paper and have no published value; tasks with several
    labels per image have their mean AUROC as well. `tasks` maps names to {"multilabel": bool}; `overlap` and
    `noise` pick among several in the results; InputError if they are needed and not given.
    """
    rows = table1_rows(results, student=student, overlap=overlap, noise=noise)
    printed, index = published()["table1"], [*ROWS, *BESIDE]
    blocks = {}
    for task, about in tasks.items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        for metric, title in METRICS.items():
            ours = summary(select(rows, task=task, average=average, metric=metric), by=["setting"]).set_index("setting")
            paper = {setting: row[metric] for setting, row in printed.get(task, {}).items()}
            blocks[task, title] = beside(ours.reindex(index), pd.Series(paper, dtype=float).reindex(index))
        if about["multilabel"]:
            ours = summary(select(rows, task=task, average="macro", metric="auroc"), by=["setting"]).set_index(
                "setting"
            )
            blocks[task, AUROC] = beside(ours.reindex(index), pd.Series(dtype=float).reindex(index))
    table = pd.concat(blocks, axis=1, names=["task", "metric", "column"])
    return table.rename_axis("setting")


def table1_rows(
    results: pd.DataFrame, *, student: str, overlap: float | None = None, noise: float | None = None
) -> pd.DataFrame:
    """The measurements of Table I: its settings under the profile's own parameters, one student, no attack; what is beside."""
    rows = select(results, variant="", attack="", class_="")
    own, others = select(rows, setting=ROWS, student=student), select(rows, setting=BESIDE)
    return _pick(pd.concat([own, others], ignore_index=True), overlap=overlap, noise=noise)


def teachers_table(results: pd.DataFrame, *, tasks: dict[str, dict], overlap: float | None = None) -> pd.DataFrame:
    """F1 of every teacher (Section IV-B), trained on the full set and on its own subset, and the difference; and no skill's.

    Columns are (task, "full set" or "own subset", one of ours = mean over replicates, std, n) and (task, "subset minus full",
    "difference"); the last rows are what no skill scores on the same test images. `overlap` picks among several in the
    results; InputError if it is needed and not given.
    """
    rows = _pick(select(results, setting=TEACHERS, variant="", attack="", class_="", metric="f1"), overlap=overlap)
    architectures = list(dict.fromkeys(published()["section_4b"]["teachers"] + sorted(rows["student"].unique())))
    blocks, index = {}, [*architectures, *CHANCE]
    for task, about in tasks.items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        here, chance = select(rows, task=task, average=average), no_skill(results, task, "f1", average)
        scores = {}
        for setting, title in zip(TEACHERS, ("full set", "own subset"), strict=True):
            ours = summary(select(here, setting=setting), by=["student"]).set_index("student").reindex(index)
            ours.update(chance.rename_axis("student"))
            scores[title] = ours["mean"]
            blocks[task, title] = ours.rename(columns={"mean": "ours"}).astype({"n": "Int64"})
        blocks[task, "subset minus full"] = (scores["own subset"] - scores["full set"]).to_frame("difference")
    table = pd.concat(blocks, axis=1, names=["task", "F1", "column"]).rename_axis("teacher")
    return table.dropna(how="all")


def no_skill(
    results: pd.DataFrame, task: str, metric: str, average: str, *, variant: str = "", attack: str = ""
) -> pd.DataFrame:
    """What no skill scores on a test part: mean, std, n over replicates by setting of results.CHANCE, as far as measured."""
    which = {"variant": variant, "attack": attack, "metric": metric, "average": average}
    return summary(select(results, task=task, setting=CHANCE, **which), by=["setting"]).set_index("setting")


def _pick(rows: pd.DataFrame, **wanted: float | None) -> pd.DataFrame:
    """Rows with the wanted overlap and noise; a row without one (a teacher of the full set) belongs to every choice."""
    for name, value in wanted.items():
        if value is not None:
            rows = select(rows, **{name: [value, float("nan")]})
    return rows


def beside(ours: pd.DataFrame, paper: pd.Series) -> pd.DataFrame:
    """The columns published, ours, std, n, difference of one group, from a `results.summary` on the index of the paper's."""
    columns = {"published": paper, "ours": ours["mean"], "std": ours["std"], "n": ours["n"].astype("Int64")}
    return pd.DataFrame({**columns, "difference": ours["mean"] - paper})
