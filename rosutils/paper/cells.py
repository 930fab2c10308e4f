"""How a table is built and printed: blocks of numbers beside the paper's, numbers as text, what a caption says of them."""

import math
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from rosutils.intervals import paired_difference
from rosutils.results import summary
from rosutils.settings import PRINTED_AVERAGE


MINUS = "\N{MINUS SIGN}"
METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
AUROC = "Mean AUROC"
STACKED = 4  # groups beyond which they are the columns, and what is said of each is stacked
WIDTH = 110  # columns of a terminal


def block(rows: pd.DataFrame, index: pd.Index | Sequence, *, by: list[str], paper: pd.Series | dict | None = None):
    """One group of columns: ours = mean over replicates, std, n and the runs behind it; what was not run is blank.

    With `paper` also the number published and the difference, ours minus published.
    """
    ours = summary(rows, by=by).set_index(by).reindex(index).rename(columns={"mean": "ours"}).astype({"n": "Int64"})
    # A mean over pairs of directions names all of its runs, a line each.
    keys = (set("\n".join(runs).split("\n")) if isinstance(runs, tuple) else () for runs in ours["runs"])
    ours["runs"] = [tuple(sorted(each)) for each in keys]
    if paper is None:
        return ours
    ours.insert(0, "published", pd.Series(paper, dtype=float).reindex(ours.index))
    ours.insert(4, "difference", ours["ours"] - ours["published"])
    return ours


def paired(better: pd.DataFrame, than: pd.DataFrame) -> dict:
    """Mean, low, high (95 %, Student's t), n and the runs of a difference over the replicates that both selections have."""
    both = better.merge(than, on="replicate", suffixes=("", "_than"), validate="one_to_one")
    if both.empty:
        return dict.fromkeys(("mean", "low", "high", "n")) | {"runs": ()}
    found = paired_difference(both["value"], both["value_than"])._asdict()
    return found | {"runs": tuple(sorted({*both["run"], *both["run_than"]}))}


def differences(pairs: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """`paired` of each pair of selections, on a line under its name."""
    found = pd.DataFrame({name: paired(*pair) for name, pair in pairs.items()}).T
    return found.astype({"mean": float, "low": float, "high": float, "n": "Int64"})


def measures(multilabel: bool) -> dict[str, tuple[str, str]]:
    """(metric, average) of F1 and its parts by their heads, as the paper prints them, and of several labels' mean AUROC."""
    printed = {title: (metric, PRINTED_AVERAGE[multilabel]) for metric, title in METRICS.items()}
    return printed | ({AUROC: ("auroc", "macro")} if multilabel else {})


def number(value: float | str) -> str:
    """Three decimals, from 10 on four digits; nothing for nan; words as they are."""
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{value:.{_decimals(value)}f}".replace("-", MINUS)


def signed(value: float | str) -> str:
    """Three decimals with a sign, four where three are zeros; nothing for nan, and no sign for what is zero in four too."""
    if isinstance(value, str) or pd.isna(value):
        return number(value)
    if abs(value) < 0.00005:
        return "0.000"
    return f"{value:+.{3 if abs(value) >= 0.0005 else 4}f}".replace("-", MINUS)


def spread(mean: float, std: float) -> str:
    """ "0.701 ± 0.012", or the mean alone where there is no std."""
    return number(mean) if pd.isna(std) else f"{number(mean)} ± {std:.{_decimals(mean)}f}"


def interval(low: float, high: float) -> str:
    """ "+0.010 to +0.052"; nothing for nan."""
    return "" if pd.isna(low) else f"{signed(low)} to {signed(high)}"


def _decimals(value: float) -> int:
    return 3 if abs(value) < 10 or math.isinf(value) else max(0, 3 - int(math.log10(abs(value))))


def text(label: Hashable) -> str:
    """A label, or a label of several parts, in words."""
    return ", ".join(str(part) for part in label if part not in ("", None)) if isinstance(label, tuple) else str(label)


def by_task(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of each task; one of no task's name where the columns are not of several tasks (Table III, self-checks)."""
    if frame.columns.nlevels <= 2:
        return {"": frame}
    return {str(task): frame[task] for task in frame.columns.unique(0)}


def escaped(frame: pd.DataFrame) -> Styler:
    """A table for a notebook: names of classes and files are a user's text, never HTML."""
    return frame.style.format(escape="html").format_index(escape="html").format_index(escape="html", axis=1)


def printable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text: ours and std in one cell ("0.701 ± 0.012"), differences signed, blank where unknown.

    More than four groups (classes of Table III) become the columns, and paper, ours and difference lines below each other.
    A table with plain columns keeps its shape.
    """
    if frame.columns.nlevels == 1:
        return frame.map(_word)
    laid, many = {}, max(part.columns.unique(0).size for part in by_task(frame).values()) > STACKED
    for task, part in by_task(frame).items():
        cells = {name: _cells(part[name]) for name in part.columns.unique(0)}
        laid[task] = _stacked(cells) if many else pd.concat(map(pd.DataFrame, cells.values()), axis=1, keys=cells)
    found = pd.concat(laid, axis=1).fillna("") if frame.columns.nlevels > 2 else laid[""]
    names = frame.columns.names[: frame.columns.nlevels - many]
    return found.rename_axis(columns=names if found.columns.nlevels > 1 else names[0])


def _cells(part: pd.DataFrame) -> dict[str, pd.Series]:
    """What is said of one group: kind -> the texts of all rows."""
    gains, blank = "mean" in part, pd.Series(math.nan, part.index)
    says = {
        "paper": (signed, "published") if gains else (spread, "published", "published std"),
        "ours": (signed, "mean") if gains else (spread, "ours", "std"),
        "difference": (signed, "difference"),
        "low to high": (interval, "low", "high"),
        "n": (_word, "n"),
        "public": (number, "public"),
    }
    found = {}
    for kind, (say, *names) in says.items():
        if names[0] in part and not (kind == "n" and "ours" in part):
            texts = map(say, *(part.get(name, blank) for name in names))
            found[kind] = pd.Series(list(texts), part.index, dtype=object)
    return found


def _stacked(groups: dict[str, dict[str, pd.Series]]) -> pd.DataFrame:
    """One line for each kind that a row has something of: "RoS-KD, paper", "RoS-KD, ours", ..."""
    kinds, lines = list(dict.fromkeys(kind for cells in groups.values() for kind in cells)), {}
    index = next(iter(next(iter(groups.values())).values())).index
    for place, label in enumerate(index):
        of = {kind: [c[kind].iloc[place] if kind in c else "" for c in groups.values()] for kind in kinds}
        shown = {kind: line for kind, line in of.items() if any(line)} or {"": [""] * len(groups)}
        for kind, line in shown.items():
            lines[text(label) if len(shown) == 1 else f"{text(label)}, {kind}"] = line
    found = pd.DataFrame.from_dict(lines, orient="index", columns=list(groups), dtype=object)
    return found.rename_axis(text(tuple(index.names)))


def _word(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def caption(what: str, frame: pd.DataFrame, study) -> str:
    """The sentence under a table: what it is, over how many replicates, which averaging, and the profile's watermark."""
    return f"{what}. Ours: {spread_over(frame)}. {averaging(study.about_tasks())} {study.watermark()}"


def averaging(tasks: dict[str, dict]) -> str:
    """Which averaging of precision, recall and F1 each task has, as the paper printed it."""
    said = [f"{task} {PRINTED_AVERAGE[about['multilabel']]}" for task, about in tasks.items()]
    return f"Averaging: {', '.join(said)}."


def spread_over(frame: pd.DataFrame, unit: str = "replicate") -> str:
    """ "mean ± standard deviation over 3 replicates", or that one gives no spread, or that none was run."""
    counts = counted(frame)
    if counts in ([], [1]):
        return f"one {unit} (n = 1), so no spread" if counts else "not run yet"
    return f"mean ± standard deviation over {many(counts, unit)}"


def many(counts: list[int], unit: str = "replicate") -> str:
    """ "3 replicates", "1 replicate" or "2 to 3 replicates"."""
    several = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{several} {unit}" if counts == [1] else f"{several} {unit}s"


def counted(frame: pd.DataFrame) -> list[int]:
    """The numbers of replicates in a table's columns named n, each once; without those of cells never measured."""
    found = frame.xs("n", axis=1, level=-1).to_numpy(dtype=float, na_value=0)
    return sorted({int(n) for n in found.ravel() if n})


def side_by_side(frame: pd.DataFrame) -> str:
    """The table as plain text for a terminal, at most 110 columns wide, one block per task, the paper first.

    A task whose block would be wider (Table I with a mean AUROC) is shown without precision and recall.
    """
    found = []
    for task, part in by_task(frame).items():
        cells = printable(part).map(lambda cell: cell.replace(" ± ", "±")).rename(columns={"difference": "diff"})
        cells = cells.rename(lambda label: text(label).replace("subset teachers", "subsets"))
        cells = cells.rename_axis(index=None, columns=[task, None])
        fewer = cells.drop(columns=["Precision", "Recall"], level=0, errors="ignore")
        texts = [each.to_string() for each in (cells, fewer)]
        found.append(next((each for each in texts if max(map(len, each.splitlines())) <= WIDTH), texts[-1]))
    return "\n\n".join(found)
