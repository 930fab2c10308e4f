"""A user's own images: a folder of any depth, and a csv file with a label (or one 0/1 column per label) for each image."""

import logging
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


WHERE = "DATA=folder (data.root, --raw) must be your folder, the one with the csv file of labels and the images"
REPAIR = (
    "name the columns in the source: table, image, label (a class per image) or labels (a list of 0/1 columns), group"
)
TABLE = "the table of labels"
GROUP = "group"  # the column of this name is used unasked
NOTHING = ("", "nan", "na", "n/a", "none", "null", "nil", "?", "-")

logger = logging.getLogger(__name__)


def tables(folder: Path, section) -> list[tuple[Path, list[str], list[str]]]:
    """The csv file with the columns needed: image, label or labels, and group where there is one.

    Raises InputError where one column is named for two purposes.
    """
    wanted = [section.image, *(section.labels or [section.label]), *([section.group] if section.group else [])]
    plain = [name.casefold() for name in wanted]  # as headers are compared
    if twice := [name for name in wanted if plain.count(name.casefold()) > 1]:
        raise InputError(f"the source names the column {twice[0]!r} for two purposes; {REPAIR}")
    return [(folder / section.table, wanted, [GROUP] if section.group is None and GROUP not in plain else [])]


def groups(table: pd.DataFrame, section) -> tuple[np.ndarray, str]:
    """Groups int64 [N] by the column of that name; without it, and where it is empty, an image is one of its own."""
    named = (section.image, *(section.labels or [section.label]))
    by = section.group or (GROUP if GROUP in table.columns and GROUP not in named else None)
    values = table[by] if by else pd.Series("", index=table.index)
    _tell_spellings(by, values)
    if 0 < (empty := (values == "").sum()) < len(values):
        logger.warning("%s of %s images have no %s: each of these is a group of its own", empty, len(values), by)
    # "image" says that each is alone, so a column of that name is told apart
    return raw.numbered(values, table[section.image]), {None: "image", "image": "column image"}.get(by, by)


def labels(table: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels int64 [N] (classes sorted by name) or float32 [N, C] (a column each), or int64 of `one_hot` columns.

    Raises InputError naming the lines with an empty label, one that is not 0 or 1, or a single class only.
    """
    if not section.labels:
        return _one(table, section)
    values = table[section.labels].apply(pd.to_numeric, errors="coerce")
    for name in section.labels:
        raw.refuse(TABLE, table.index[~values[name].isin((0, 1))], f"neither 0 nor 1 in {name}")
    single = values.sum(axis=1) == 1
    if section.one_hot:
        raw.refuse(TABLE, table.index[~single], f"not exactly one 1 in {', '.join(section.labels)}")
        return values.to_numpy().argmax(axis=1), tuple(section.labels)
    if single.all():
        logger.warning("every image has exactly one of the labels: one_hot: true makes them the classes of one label")
    return values.to_numpy(np.float32), tuple(section.labels)


def _one(table: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    texts = table[section.label]
    raw.refuse(TABLE, table.index[texts == ""], f"no {section.label}")
    numbers = {text: int(text) if text.isdecimal() and len(text) < 19 else None for text in texts.unique()}
    class_names = sorted(numbers, key=lambda text: (numbers[text] is None, numbers[text] or 0, text))
    if len(class_names) < 2:
        raise InputError(f"all images have the {section.label} {class_names[0]!r}; two are needed at least")
    _tell_spellings(section.label, texts)
    return texts.map({name: number for number, name in enumerate(class_names)}).to_numpy(np.int64), tuple(class_names)


def _tell_spellings(column: str, texts: pd.Series) -> None:
    """Say which values look like one in two spellings, or like none."""
    alike: dict[str, list[str]] = {}
    for text in texts[texts != ""].unique():
        try:
            key = f"{float(text):g}"
        except ValueError:
            key = "".join(unicodedata.normalize("NFKC", text).casefold().split())
        alike.setdefault("" if key in NOTHING else key, []).append(text)
    if doubtful := [" / ".join(found) for key, found in alike.items() if len(found) > 1 or key == ""]:
        what = "has values that look like one in several spellings, or like none"
        logger.warning("the column %s %s: %s", column, what, raw.listed(doubtful))
