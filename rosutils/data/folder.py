"""A user's own images: a folder of any depth, and a csv file with a label (or one 0/1 column per label) for each image."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
WHERE = (
    "DATA=folder (data.root, --raw) must be your folder, the one with the csv file of labels and the images below it"
)
GROUP = "group"  # the column of this name is used unasked


def mode(section) -> str:
    """Three channels unless `grey` is set."""
    return "L" if section.grey else "RGB"


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The csv file with the columns needed: image, label or labels, and group where there is one.

    Raises InputError naming the columns there are, where one that is needed is not among them.
    """
    path = folder / section.table
    if not path.is_file():
        needed = ", ".join([section.image, *(section.labels or [section.label])])
        raise InputError(f"there is no {path}: write a csv file with the columns {needed} there, or name yours: table")
    try:
        columns = list(pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a csv file ({error}); save it again as comma-separated text"
        ) from error
    labels = section.labels or [section.label]
    wanted = [section.image, *labels, *([section.group] if section.group else [])]
    absent = [name for name in wanted if name not in columns]
    if absent:
        raise InputError(
            f"{path} has no column {', '.join(absent)}, it has {', '.join(columns)}; name the columns in the source: image, "
            "and label (one class name per image) or labels (a list of 0/1 columns), and group"
        )
    unasked = [GROUP] if section.group is None and GROUP in columns and GROUP not in wanted else []
    return [(path, (*wanted, *unasked))]


def find(folder: Path, names: Sequence[str]) -> tuple[dict, dict]:
    """Image files by their names in the table: a path within the folder, or a file name that is there once."""
    places: defaultdict[str, list[Path]] = defaultdict(list)
    everything = list(_walk(folder))
    for path in everything:
        inside = path.relative_to(folder)
        for key in {inside.as_posix(), inside.with_suffix("").as_posix(), path.name, path.stem}:
            places[key].append(path)
    files: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    for name in names:
        found = _exactly(folder, name, places.get(name.replace("\\", "/").removeprefix("./"), []))
        if found:
            files[name] = str(found[0])
        if len(found) > 1:
            twice[name] = list(map(str, found))
    used = set(files.values())
    return files | {str(path.relative_to(folder)): str(path) for path in everything if str(path) not in used}, twice


def _exactly(folder: Path, name: str, found: list[Path]) -> list[Path]:
    """That very path where it is among them: a file name of its own may also be that of files deeper down."""
    return [path for path in found if path == folder / name] or found


def _walk(folder: Path):
    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if os.path.realpath(place) in seen:  # a link that leads back up
            inner.clear()
            continue
        seen.add(os.path.realpath(place))
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield Path(place, file)


def examples(table: pd.DataFrame, section) -> dict:
    """Names, labels int64 [N] (classes sorted by name) or float32 [N, C] (a column each), and groups int64 [N].

    Raises InputError naming the lines with an empty label, one that is not 0 or 1, or a single class only.
    """
    names = table[section.image]
    _refuse(table, names == "", f"no {section.image}")
    by = section.group or (GROUP if GROUP in table.columns else "image")
    # A NUL keeps the own group of an image whose group is empty apart from any name of a group.
    own = "\0" + names
    groups = pd.factorize(own if by == "image" else table[by].where(table[by] != "", own))[0].astype(np.int64)
    labels, class_names = _several(table, section) if section.labels else _one(table, section)
    return {"names": list(names), "labels": labels, "groups": groups, "class_names": class_names, "grouped_by": by}


def _one(table: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    texts = table[section.label]
    _refuse(table, texts == "", f"no {section.label}")
    class_names = sorted(
        texts.unique(), key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text)
    )
    if len(class_names) < 2:
        raise InputError(
            f"{section.table}: all images have the {section.label} {class_names[0]!r}; two are needed at least"
        )
    number = {name: position for position, name in enumerate(class_names)}
    return texts.map(number).to_numpy(np.int64), tuple(class_names)


def _several(table: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    values = table[section.labels].apply(pd.to_numeric, errors="coerce")
    wrong = ~values.isin((0, 1))
    for name in section.labels:
        _refuse(table, wrong[name], f"neither 0 nor 1 in {name}")
    return values.to_numpy(np.float32), tuple(section.labels)


def _refuse(table: pd.DataFrame, wrong: pd.Series, what: str) -> None:
    if wrong.any():
        lines = raw.listed([str(index + 2) for index in table.index[wrong]])
        raise InputError(f"the table of labels has {what} in {int(wrong.sum()):,} line(s): {lines}; repair these lines")
