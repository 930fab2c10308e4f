"""Which measurements stand behind a row of a table, and behind a figure."""

import re
from fnmatch import fnmatchcase

import pandas as pd

from rosutils.results import select
from rosutils.settings import CHANCE, PLAIN, PRINTED_AVERAGE, ROWS, TEACHERS
from rosutils.tables import METRICS


LANDSCAPES = ("landscape", "landscape, BatchNorm as copied")
AUROC = {"metric": "auroc", "average": "macro"}


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
    if table == "table2":
        rows = _of_the_moment(rows, words)
    if table == "table3" and not {"RoS-KD", *CHANCE} & set(words):  # other people's methods
        return rows[:0]
    for word in words:
        rows = _narrowed(rows, str(word), "RoS-KD" if table == "comparisons" else None)
    return rows


def _behind_table(table: str, rows: pd.DataFrame, multilabel: bool, student: str) -> pd.DataFrame:
    own = {"variant": "", "attack": "", "class_": ""}
    printed = {"average": PRINTED_AVERAGE[multilabel], "metric": list(METRICS)}
    settings, f1 = {"setting": ROWS, "student": student}, printed | {"metric": "f1"}
    attacked = {"attack": ["fgsm", "pgd"], "eps": [0.0, *_radius(rows)], "student": student}
    beside = {"setting": [PLAIN, *CHANCE]}
    several = {"variant": "table3", "attack": "", "metric": "auroc"}
    wanted = {
        "table1": [own | who | what for who in (settings, beside) for what in (printed, AUROC)[: 1 + multilabel]],
        "comparisons": [own | settings | f1],
        "table2": [own | printed | attacked, own | printed | {"setting": CHANCE, "attack": "attacked sample"}],
        "table3": [several | {"setting": "RoS-KD"}, several | {"setting": CHANCE} | AUROC],
        "landscape": [{"variant": LANDSCAPES}],
        "teachers": [own | f1 | {"setting": [*TEACHERS, *CHANCE]}],
    }.get(table)
    return rows[:0] if wanted is None else pd.concat([select(rows, **which) for which in wanted], ignore_index=True)


def _of_the_moment(rows: pd.DataFrame, words: tuple) -> pd.DataFrame:
    """The rows of Table II before an attack, which are the same whichever it is, after one, or of no skill."""
    if "no skill" in words:
        return select(rows, setting=CHANCE)
    rows = rows[~rows["setting"].isin(CHANCE)]
    before = "before attack" in words
    return select(rows, eps=0.0, attack="pgd", norm=rows["norm"].min()) if before else rows[rows["eps"] > 0]


def _radius(rows: pd.DataFrame) -> list[float]:
    """The radius of Table II: the one that FGSM was run at."""
    return [eps for eps in rows.loc[rows["attack"] == "fgsm", "eps"].unique() if eps > 0]


def _narrowed(rows: pd.DataFrame, word: str, always: str | None) -> pd.DataFrame:
    """The rows that a word of a table's label names; all of them where it names nothing in the results."""
    names = (*ROWS, PLAIN, *CHANCE)
    pattern = "|".join(sorted(map(re.escape, names), key=len, reverse=True))  # "Baseline III" before "Baseline I"
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
    nobody, sample = f1 | {"setting": CHANCE}, {"attack": "attacked sample", "variant": ""}
    of_noise = f1 | {"variant": noise, "setting": [*ROWS, *CHANCE]}
    shown = {
        "table1": [own | {"setting": ROWS}, nobody | {"variant": ""}],
        "teachers": [f1 | {"variant": "", "setting": [*TEACHERS, *CHANCE]}],
        "fig2": [f1 | {"variant": "students", "setting": ["Baseline III", "RoS-KD", *CHANCE]}],
        "fig3": [f1 | {"variant": "overlap", "setting": ["Baseline III", "Baseline V", "RoS-KD", *CHANCE]}],
        "readings": [f1 | {"variant": [v for v in variants if v.startswith("reading: ")], "setting": ["RoS-KD", "Baseline III"]}],
        "noise_f1": [of_noise],
        "noise_auroc": [of_noise | AUROC],
        "agreement": [{"variant": noise, "metric": ["agreement_clean", "agreement_given"]}],
        "table2": [own | {"attack": ["fgsm", "pgd"], "eps": [0.0, *_radius(results)], "metric": list(METRICS)}, nobody | sample],
        "eps_curve": [own | {"attack": "pgd"}, nobody | sample],
        "fig4_*": [{"variant": LANDSCAPES, "metric": ["loss", "basin_area"]}],
        "landscape": [{"variant": LANDSCAPES}],
    }  # fmt: skip
    wanted = next((wanted for pattern, wanted in shown.items() if fnmatchcase(name, pattern)), None)
    if wanted is None:
        return results[:0]
    rows = pd.concat([select(results, **which) for which in wanted], ignore_index=True)
    if "_" in name and name.split("_")[-1] in tasks:
        rows = select(rows, task=name.split("_")[-1])
    printed = rows["task"].map({task: PRINTED_AVERAGE[about["multilabel"]] for task, about in tasks.items()})
    return rows[~rows["metric"].isin(METRICS) | (rows["average"] == printed)]
