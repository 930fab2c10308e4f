"""Which measurements stand behind a row of a table, and behind a figure."""

import re
from fnmatch import fnmatchcase

import pandas as pd

from rosutils.results import PRINTED_AVERAGE, SETTINGS, TEACHERS, select
from rosutils.tables import METRICS


LANDSCAPES = ("landscape", "landscape, BatchNorm as copied")


def rows_behind(
    table: str, results: pd.DataFrame, task: str, label: object, *, multilabel: bool, student: str
) -> pd.DataFrame:
    """The measurements behind one row of a table of one task; none where the table is not made of results.csv.

    `label` is the row's label, or its labels, in words of the results (a setting, a student, an attack, a norm, ...).
    """
    rows = _behind_table(table, select(results, task=task), multilabel, student)
    words = label if isinstance(label, tuple) else (label,)
    if table == "landscape":
        rows = select(rows, variant=LANDSCAPES["copied" in " ".join(map(str, words))])
    if table == "table2":  # before the attack is the same whichever it is
        before = "before attack" in words
        rows = select(rows, eps=0.0, attack="pgd", norm=rows["norm"].min()) if before else rows[rows["eps"] > 0]
    if table == "table3" and "RoS-KD" not in words:  # other people's methods
        return rows[:0]
    for word in words:
        rows = _narrowed(rows, str(word), "RoS-KD" if table == "comparisons" else None)
    return rows


def _behind_table(table: str, rows: pd.DataFrame, multilabel: bool, student: str) -> pd.DataFrame:
    average = PRINTED_AVERAGE[multilabel]
    own = {"variant": "", "attack": "", "class_": "", "average": average, "metric": list(METRICS)}
    which = {
        "table1": own | {"setting": SETTINGS, "student": student},
        "comparisons": own | {"setting": SETTINGS, "student": student, "metric": "f1"},
        "table2": own | {"attack": ["fgsm", "pgd"], "eps": [0.0, *_radius(rows)], "student": student},
        "table3": {"variant": "table3", "setting": "RoS-KD", "attack": "", "metric": "auroc"},
        "landscape": {"variant": LANDSCAPES},
        "teachers": own | {"setting": TEACHERS, "metric": "f1"},
    }.get(table)
    return rows[:0] if which is None else select(rows, **which)


def _radius(rows: pd.DataFrame) -> list[float]:
    """The radius of Table II: the one that FGSM was run at."""
    return [eps for eps in rows.loc[rows["attack"] == "fgsm", "eps"].unique() if eps > 0]


def _narrowed(rows: pd.DataFrame, word: str, always: str | None) -> pd.DataFrame:
    """The rows that a word of a table's label names; all of them where it names nothing in the results."""
    pattern = "|".join(sorted(map(re.escape, SETTINGS), key=len, reverse=True))  # "Baseline III" before "Baseline I"
    if named := re.findall(pattern, word):
        rows = select(rows, setting=[*named, *([always] if always else [])])
    for column in ("student", "variant", "attack", "norm", "class"):
        named = rows[column].str.lower() == word.lower()
        if named.any() and word:
            return rows[named]
    return rows


def rows_in_figure(name: str, results: pd.DataFrame, tasks: dict[str, dict], *, student: str) -> pd.DataFrame:
    """The measurements that a figure (file name without suffix) shows; none for a figure that shows no measurement."""
    variants = results["variant"].unique()
    noise = [v for v in variants if v.startswith(("symmetric ", "pairflip "))]
    own = {"variant": "", "attack": "", "class_": "", "student": student, "metric": "f1"}
    f1 = {"attack": "", "class_": "", "metric": "f1"}
    shown = {
        "table1": own | {"setting": SETTINGS},
        "teachers": f1 | {"variant": "", "setting": TEACHERS},
        "fig2": f1 | {"variant": "students", "setting": ["Baseline III", "RoS-KD"]},
        "fig3": f1 | {"variant": "overlap", "setting": ["Baseline III", "RoS-KD"]},
        "readings": f1 | {"variant": [v for v in variants if v.startswith("reading: ")], "setting": "RoS-KD"},
        "noise_f1": f1 | {"variant": noise, "setting": SETTINGS},
        "noise_auroc": f1 | {"variant": noise, "setting": SETTINGS, "metric": "auroc"},
        "agreement": {"variant": noise, "metric": ["agreement_clean", "agreement_given"]},
        "table2": own | {"attack": ["fgsm", "pgd"], "eps": [0.0, *_radius(results)], "metric": list(METRICS)},
        "eps_curve": own | {"attack": "pgd"},
        "fig4_*": {"variant": LANDSCAPES, "metric": ["loss", "basin_area"]},
        "landscape": {"variant": LANDSCAPES},
    }  # fmt: skip
    which = next((which for pattern, which in shown.items() if fnmatchcase(name, pattern)), None)
    if which is None:
        return results[:0]
    rows = select(results, **which)
    if "_" in name and name.split("_")[-1] in tasks:
        rows = select(rows, task=name.split("_")[-1])
    printed = rows["task"].map({task: PRINTED_AVERAGE[about["multilabel"]] for task, about in tasks.items()})
    return rows[~rows["metric"].isin(METRICS) | (rows["average"] == printed)]
