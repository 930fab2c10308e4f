"""Table I, and the teachers behind it."""

import pandas as pd

from rosutils.results import PRINTED_AVERAGE, SETTINGS, TEACHERS, published, select, summary


METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


def table1(
    results: pd.DataFrame,
    *,
    tasks: dict[str, dict],
    student: str = "resnet18",
    overlap: float | None = None,
    noise: float | None = None,
) -> pd.DataFrame:
    """Table I: per setting, task and metric what is published, ours (mean over seeds), std, n, and the difference.

    Columns are (task, metric, one of published, ours, std, n, difference = ours minus published); "Baseline III, subset
    teachers" is not in the paper and has no published value. `tasks` maps names to {"multilabel": bool}; `overlap` and
    `noise` pick among several in the results; InputError if they are needed and not given.
    """
    rows = table1_rows(results, student=student, overlap=overlap, noise=noise)
    printed = published()["table1"]
    blocks = {}
    for task, about in tasks.items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        for metric, title in METRICS.items():
            ours = summary(select(rows, task=task, average=average, metric=metric), by=["setting"]).set_index("setting")
            paper = {setting: row[metric] for setting, row in printed.get(task, {}).items()}
            blocks[task, title] = beside(ours.reindex(SETTINGS), pd.Series(paper, dtype=float).reindex(SETTINGS))
    table = pd.concat(blocks, axis=1, names=["task", "metric", "column"])
    return table.rename_axis("setting")


def table1_rows(
    results: pd.DataFrame, *, student: str = "resnet18", overlap: float | None = None, noise: float | None = None
) -> pd.DataFrame:
    """The measurements that Table I is made of: its settings under the profile's own parameters, one student, no attack."""
    rows = select(results, setting=SETTINGS, variant="", student=student, attack="", class_="")
    return _pick(rows, overlap=overlap, noise=noise)


def teachers_table(results: pd.DataFrame, *, tasks: dict[str, dict], overlap: float | None = None) -> pd.DataFrame:
    """F1 of every teacher (Section IV-B), trained on the full set and on its own subset, and the difference.

    Columns are (task, "full set" or "own subset", one of ours = mean over seeds, std, n) and (task, "subset minus full",
    "difference"). `overlap` picks among several in the results; InputError if it is needed and not given.
    """
    rows = _pick(select(results, setting=TEACHERS, variant="", attack="", class_="", metric="f1"), overlap=overlap)
    architectures = list(dict.fromkeys(published()["section_4b"]["teachers"] + sorted(rows["student"].unique())))
    blocks = {}
    for task, about in tasks.items():
        here = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]])
        scores = {}
        for setting, title in zip(TEACHERS, ("full set", "own subset"), strict=True):
            ours = summary(select(here, setting=setting), by=["student"]).set_index("student").reindex(architectures)
            scores[title] = ours["mean"]
            blocks[task, title] = ours.rename(columns={"mean": "ours"}).astype({"n": "Int64"})
        blocks[task, "subset minus full"] = (scores["own subset"] - scores["full set"]).to_frame("difference")
    table = pd.concat(blocks, axis=1, names=["task", "F1", "column"]).rename_axis("teacher")
    return table.dropna(how="all")


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
