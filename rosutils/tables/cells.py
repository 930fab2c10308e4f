"""How a table reads: numbers as text, the paper's beside ours, many groups stacked so that the table fits a page."""

import math
from collections.abc import Hashable

import numpy as np
import pandas as pd


MINUS = "\N{MINUS SIGN}"
STACKED = 4  # groups beyond which they are the columns, and what is said of each is stacked


def number(value: float) -> str:
    """Three decimals, from 10 on four digits; nothing for nan."""
    return "" if pd.isna(value) else f"{value:.{_decimals(value)}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Three decimals with a sign; nothing for nan."""
    return "" if pd.isna(value) else f"{round(value, 3) + 0.0:+.3f}".replace("-", MINUS)


def spread(mean: float, std: float) -> str:
    """ "0.701 ± 0.012", or the mean alone where there is no std."""
    return number(mean) if pd.isna(std) else f"{number(mean)} ± {std:.{_decimals(mean)}f}"


def interval(low: float, high: float) -> str:
    """ "+0.010 to +0.052"."""
    return f"{signed(low)} to {signed(high)}"


def _decimals(value: float) -> int:
    return 3 if abs(value) < 10 or math.isinf(value) else max(0, 3 - int(math.log10(abs(value))))


def text(label: Hashable) -> str:
    """A label, or a label of several parts, in words."""
    return ", ".join(str(part) for part in label if part not in ("", None)) if isinstance(label, tuple) else str(label)


def by_task(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The table of each task; one of no task's name where the columns are not of several tasks (Table III)."""
    if frame.columns.nlevels == 2:
        return {"": frame}
    return {str(task): frame[task] for task in dict.fromkeys(frame.columns.get_level_values(0))}


def printable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text: ours and std in one cell ("0.701 ± 0.012"), differences signed, blank where unknown.

    More than four groups (classes of Table III) become the columns, and paper, ours and difference lines below each other.
    A table with plain columns keeps its shape.
    """
    if frame.columns.nlevels == 1:
        return frame.map(_word)
    tasks, names = by_task(frame), list(frame.columns.names)
    groups = {task: {group: _cells(part[group]) for group in _groups(part)} for task, part in tasks.items()}
    if max(map(len, groups.values())) > STACKED:
        laid, names = {task: _stacked(cells, frame.index) for task, cells in groups.items()}, names[:-1]
    else:
        laid = {
            task: pd.concat(map(pd.DataFrame, cells.values()), axis=1, keys=cells) for task, cells in groups.items()
        }
    found = pd.concat(laid, axis=1).fillna("") if frame.columns.nlevels > 2 else laid[""]
    return found.rename_axis(columns=names if found.columns.nlevels > 1 else names[0])


def _groups(part: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(part.columns.get_level_values(0)))


def _cells(part: pd.DataFrame) -> dict[str, pd.Series]:
    """What is said of one group: kind -> the texts of all rows."""
    found, n = {}, len(part)
    if "published" in part:
        stds = part.get("published std", [math.nan] * n)
        found["paper"] = part["published"].map(signed) if "mean" in part else _spreads(part["published"], stds)
    if "ours" in part:
        found["ours"] = _spreads(part["ours"], part["std"] if "std" in part else [math.nan] * n)
    if "mean" in part:
        found["ours"] = part["mean"].map(signed)
    if "difference" in part:
        found["difference"] = part["difference"].map(signed)
    if "low" in part:
        found["low to high"] = _ends(part)
    if "n" in part and "ours" not in part:
        found["n"] = part["n"].map(_word)
    if "public" in part:
        found["public"] = part["public"].map(number)
    return found


def _spreads(means: pd.Series, stds) -> pd.Series:
    return pd.Series([spread(*pair) for pair in zip(means, stds, strict=True)], index=means.index, dtype=object)


def _ends(part: pd.DataFrame) -> pd.Series:
    ends = zip(part["low"], part["high"], strict=True)
    return pd.Series(["" if pd.isna(low) else interval(low, high) for low, high in ends], index=part.index)


def _stacked(groups: dict[str, dict[str, pd.Series]], index: pd.Index) -> pd.DataFrame:
    """One line for each kind that a row has something of: "RoS-KD, paper", "RoS-KD, ours", ..."""
    kinds, lines = list(dict.fromkeys(kind for cells in groups.values() for kind in cells)), {}
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
