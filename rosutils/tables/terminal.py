"""A table as plain text, for the end of `make reproduce`."""

import pandas as pd

from rosutils.tables.cells import by_task, printable, text
from rosutils.tables.scores import METRICS


WIDTH = 100
PARTS = [METRICS["precision"], METRICS["recall"]]  # F1 is made of them


def side_by_side(frame: pd.DataFrame) -> str:
    """The table as plain text for a terminal, at most 100 columns wide, one block per task, the paper first.

    A task whose block would be wider (Table I with a mean AUROC) is shown without precision and recall.
    """
    return "\n\n".join(_fitting(task, printable(part)) for task, part in by_task(frame).items())


def _fitting(task: str, cells: pd.DataFrame) -> str:
    block = _block(task, cells)
    if max(map(len, block.splitlines())) <= WIDTH:
        return block
    return _block(task, cells.drop(columns=PARTS, level=0, errors="ignore"))


def _block(task: str, cells: pd.DataFrame) -> str:
    labels = [task, "", *(text(label).replace("subset teachers", "subsets") for label in cells.index)]
    sides = [_column(labels, str.ljust)]
    for group in dict.fromkeys(cells.columns.get_level_values(0)):
        part = cells[group].rename(columns={"difference": "diff"}).map(lambda cell: cell.replace(" ± ", "±"))
        columns = [_column([name, *part[name]], str.rjust) for name in part]
        rows = [" ".join(row) for row in zip(*columns, strict=True)]
        sides.append(_column([str(group).center(len(rows[0])), *rows], str.rjust))
    lines = ["  ".join(row).rstrip() for row in zip(*sides, strict=True)]
    return "\n".join([*lines[:2], "-" * max(map(len, lines)), *lines[2:]])


def _column(cells: list[str], adjust) -> list[str]:
    """The cells, padded to the width of the widest."""
    width = max(map(len, cells))
    return [adjust(cell, width) for cell in cells]
