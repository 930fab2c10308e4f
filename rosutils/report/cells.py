"""Tables as the page shows them: published, ours ± spread, difference and verdict, each number with its way back."""

import math
from collections.abc import Callable, Hashable

import pandas as pd

from rosutils.tables import STACKED, number, signed, spread, text


FOLDED = 30  # lines of texts beyond which only their summary stands open
COLUMNS = ("published", "published std", "ours", "std", "n", "difference")
PASSED, FAILED = ("pass", "passed", "true"), ("fail", "failed", "false")


def blocks(frame: pd.DataFrame, *, tolerance: float | None, link: Callable[[str, Hashable], str]) -> list[dict]:
    """The blocks of a table of `rosutils.tables`, one per task: title, groups of heads, lines of cells.

    A number beside a published one is within or outside the `tolerance`; `link(task, row label)` is where a number of ours
    leads. A frame with plain columns (self-checks) is one block of texts.
    """
    if frame.columns.nlevels == 1:
        return [_plain_block(frame)]
    return [
        _block(frame[[task]], str(task), tolerance, link) for task in dict.fromkeys(frame.columns.get_level_values(0))
    ]


def _block(frame: pd.DataFrame, task: str, tolerance: float | None, link) -> dict:
    frame = frame.dropna(how="all")
    groups = []
    for group in dict.fromkeys(column[1:-1] for column in frame.columns):
        part = frame.loc[:, [column[1:-1] == group for column in frame.columns]].droplevel(
            list(range(frame.columns.nlevels - 1)), axis=1
        )
        columns = _columns(part, tolerance)
        groups.append({"title": ", ".join(map(str, group)), "heads": _heads(columns), "columns": columns})
    lay = _stacked if len(groups) > STACKED else _side_by_side
    rows = [(place, text(label), link(task, label)) for place, label in enumerate(frame.index)]
    return {"title": task, "corner": text(tuple(frame.index.names)), "summary": ""} | lay(groups, rows)


def _side_by_side(groups: list[dict], rows: list[tuple[int, str, str]]) -> dict:
    """Each row on one line: paper, ours, difference and verdict of the first group, then of the next."""
    lines = [
        _line(label, href, [
            cells[place] | {"first": not column}
            for group in groups for column, cells in enumerate(group["columns"].values())
        ])
        for place, label, href in rows
    ]  # fmt: skip
    return {"groups": [{"title": group["title"], "heads": group["heads"]} for group in groups], "lines": lines}


def _stacked(groups: list[dict], rows: list[tuple[int, str, str]]) -> dict:
    """Many groups: one column for each, and a row's paper, ours, difference and verdict below each other."""
    kinds, lines = list(dict.fromkeys(kind for group in groups for kind in group["columns"])), []
    empty = _cell("") | {"first": False}
    for place, label, href in rows:
        found = {
            kind: [group["columns"][kind][place] | {"first": False} if kind in group["columns"] else empty for group in groups]
            for kind in kinds
        }  # fmt: skip
        shown = {kind: cells for kind, cells in found.items() if any(cell["text"] for cell in cells)}
        lines += [_line(label if len(shown) == 1 else f"{label}, {kind}", href, cells) for kind, cells in shown.items()]
    heads = [{"text": group["title"], "kind": "", "about": ""} for group in groups]
    return {"groups": [{"title": "", "heads": heads}], "lines": lines}


def _line(label: str, href: str, cells: list[dict]) -> dict:
    return {"label": label, "own": "RoS-KD" in label, "href": href, "cells": cells}


def _heads(columns: dict[str, list[dict]]) -> list[dict]:
    """The heads of columns; what a difference is where there is a paper's number; texts are set to the left."""
    return [
        {
            "text": name, "kind": "words" if any(cell["kind"] == "words" for cell in cells) else "",
            "about": "ours minus paper" if name == "diff." and "paper" in columns else "",
        }
        for name, cells in columns.items()
    ]  # fmt: skip


def _columns(part: pd.DataFrame, tolerance: float | None) -> dict[str, list[dict]]:
    """The shown columns of one group: head -> cells."""
    columns: dict[str, list[dict]] = {}
    printed = "published" in part and part["published"].notna().any()
    if printed:
        columns["paper"] = [_cell(_paper(row)) for _, row in part.iterrows()]
    if "ours" in part:
        columns["ours"] = [_ours(row) for _, row in part.iterrows()]
    if "difference" in part and part["difference"].notna().any():
        columns["diff."] = [_cell(signed(value)) for value in part["difference"]]
    if printed and tolerance is not None and "difference" in part:
        columns["verdict"] = [within(value, tolerance) for value in part["difference"]]
    hidden = COLUMNS if "ours" in part else ("published", "published std", "difference")
    return columns | {
        str(name): [_other(value, str(name)) for value in part[name]] for name in part if name not in hidden
    }


def _paper(row: pd.Series) -> str:
    """The printed number with its spread, if it has one; signed where it is a difference, as ours beside it."""
    return signed(row["published"]) if "mean" in row else spread(row["published"], row.get("published std", math.nan))


def within(difference: float, tolerance: float) -> dict:
    """The verdict on one number: "within" or "outside" the tolerance; nothing where there is nothing to compare."""
    if pd.isna(difference):
        return _cell("")
    near = abs(difference) <= tolerance + 1e-9  # decimal numbers: 0.715 is within 0.015 of 0.700
    return _cell("within" if near else "outside", kind="verdict good" if near else "verdict bad")


def _ours(row: pd.Series) -> dict:
    once = not pd.isna(row["ours"]) and "n" in row and row["n"] == 1
    return _cell(spread(row["ours"], row.get("std", math.nan)), kind="ours", note="n = 1" if once else "")


def _plain_block(frame: pd.DataFrame) -> dict:
    """A table of texts; without an index of its own its first column names the rows. Long ones are folded."""
    frame = frame if any(frame.index.names) else frame.set_index(frame.columns[0])
    columns = {str(name): [_other(value, str(name)) for value in frame[name]] for name in frame}
    lines = [
        {"label": text(label), "own": False, "href": "",
         "cells": [cells[place] | {"first": False} for cells in columns.values()]}
        for place, label in enumerate(frame.index)
    ]  # fmt: skip
    words = [cell["text"] for line in lines for cell in line["cells"] if cell["kind"].startswith("verdict")]
    summary = (
        f"{len(lines)} rows: {words.count('pass')} pass, {words.count('fail')} fail" if len(lines) > FOLDED else ""
    )
    heads = [{"title": "", "heads": _heads(columns)}]
    return {"title": "", "corner": text(tuple(frame.index.names)), "groups": heads, "lines": lines, "summary": summary}


def _other(value: object, name: str) -> dict:
    """A check's outcome, a difference or an end of its interval (by the column's name), another number, or a text."""
    if str(value).lower() in (*PASSED, *FAILED):
        good = str(value).lower() in PASSED
        return _cell("pass" if good else "fail", kind="verdict good" if good else "verdict bad")
    if pd.isna(value):
        return _cell("")
    if isinstance(value, float) and name.split()[-1] in ("mean", "low", "high"):
        return _cell(signed(value), kind="ours" if name == "mean" else "")
    if name == "public":  # beside the paper's numbers, not ours (Table III)
        return _cell(number(value))
    return (
        _cell(f"{value:.4g}")
        if isinstance(value, float)
        else _cell(str(value), kind="words" if isinstance(value, str) else "")
    )


def _cell(words: str, *, kind: str = "", note: str = "") -> dict:
    return {"text": words, "kind": kind, "note": note}
