"""A raw folder as its publisher lays it out: its tables read, its files found, and the two brought together."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import not_
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError


SHOWN = 20  # names in a message; a longer list goes to a file
WHERE = "DATA=folder (data.root) must be the folder that holds isic2019/ and nih/, --raw one of these two"


@dataclass
class Raw:
    """A raw folder that has been looked through, but for the images themselves."""

    tables: dict[str, Path]  # the label files that were read, by name
    class_names: tuple[str, ...]
    grouped_by: str  # the column whose values no split may cut, or "image"
    names: tuple[str, ...]  # of the images that have a row and a file, as labels, groups and paths are
    labels: np.ndarray
    groups: np.ndarray
    paths: list[str]
    named: int  # rows in the table
    left_out: dict[str, list[str]]  # by reason

    def count(self, reason: str) -> tuple[int, list[str]]:
        """How many images are left out for a reason, and the first of them."""
        return len(self.left_out[reason]), self.left_out[reason][:1]


MISSING, NO_ROW, TWICE = "no file", "no row in the table", "a second file of that name"


def look_through(raw: Path, layout, section, *, allow_missing: bool, skip_bad: bool, out: Path) -> Raw:
    """Tables, file names and what fits together of both; no image is opened.

    Raises InputError naming everything that is wrong with names and files: those missing (unless `allow_missing`),
    those there twice (unless `skip_bad`), those empty. A list too long for a message is written below `out`.
    """
    if not raw.is_dir():
        raise InputError(f"there is no folder {raw}; {layout.WHERE}")
    tables = [(path, read_table(path, columns)) for path, columns in layout.tables(raw, section)]
    rows = layout.examples(*(table for _, table in tables), section)
    about = {key: rows[key] for key in ("class_names", "grouped_by")}
    files, twice = layout.find(raw, rows["names"])
    there = [name in files for name in rows["names"]]
    missing = sorted(compress(rows["names"], map(not_, there)))
    problems = []
    if missing and not (allow_missing and len(missing) < len(rows["names"])):
        problems.append(_missing_message(missing, len(rows["names"]), tables[0][0], out))
    if twice and not skip_bad:
        problems.append(_twice_message(twice))
    if problems:
        raise InputError(". Also, ".join(problems + _empty_message(files)))
    present = _sorted_by_name(_take(rows, np.flatnonzero(there)))
    left_out = {MISSING: missing, NO_ROW: sorted(files.keys() - set(present["names"]))}
    left_out[TWICE] = [Path(path).relative_to(raw).as_posix() for paths in twice.values() for path in paths[1:]]
    return Raw(
        tables={path.name: path for path, _ in tables}, **about, **present,
        paths=[files[name] for name in present["names"]], named=len(rows["names"]), left_out=left_out,
    )  # fmt: skip


def first_of(folder: Path, names: Sequence[str]) -> Path:
    """The first of these files that is in the folder; raises InputError where none is."""
    name = next((name for name in names if (folder / name).is_file()), None)
    if name is None:
        raise InputError(f"{folder} has no {' or '.join(names)}; download it from the publisher into that folder")
    return folder / name


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The columns of a csv file as text, spaces around it dropped; raises InputError where it is not such a table."""
    # Copies of NIH's 2017 file end their rows in one comma too many: the first column is no index for that.
    options = {"dtype": object, "keep_default_na": False, "index_col": False, "encoding": "utf-8-sig"}
    try:
        table = pd.read_csv(path, usecols=lambda name: name in columns, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a csv file ({error}); repair it, or download it again") from error
    absent = [column for column in columns if column not in table.columns]
    if absent or not len(table):
        what = f"no column {', '.join(absent)}" if absent else "no rows"
        raise InputError(f"{path} has {what}; repair it, or download it again")
    table = table[list(columns)].map(str.strip).astype(object)  # 112,120 texts are looked at faster than as str
    _refuse_repeats(path, table[columns[0]])
    return table


def _refuse_repeats(path: Path, names: pd.Series):
    repeated = names[names.duplicated(keep=False)]
    if len(repeated):
        name = repeated.iloc[0]
        lines = " and ".join(str(index + 2) for index in repeated.index[repeated == name])
        others = [other for other in repeated.unique() if other != name]
        raise InputError(
            f"{path} has more than one row for {repeated.nunique():,} image(s) (first: {name}, lines {lines}"
            f"{'; also ' + listed(others) if others else ''}); keep one row for each"
        )


def _sorted_by_name(rows: dict) -> dict:
    return _take(rows, sorted(range(len(rows["names"])), key=rows["names"].__getitem__))


def _take(rows: Mapping, index: Sequence[int] | np.ndarray) -> dict:
    names = tuple(map(rows["names"].__getitem__, index))
    return {"names": names, "labels": rows["labels"][index], "groups": rows["groups"][index]}


def scan(folders: Iterable[Path], suffixes: Sequence[str], *, with_suffix: bool = False) -> tuple[dict, dict]:
    """Image files by name: {name: path}, and {name: paths} of those there more than once, the first of them taken."""
    files: dict[str, str] = {}  # as text: to make a Path of each of 112,120 takes half a second
    twice: dict[str, list[str]] = {}
    for folder in sorted(set(folders)):
        for file in sorted(os.listdir(folder)):
            stem, suffix = os.path.splitext(file)
            # Files that begin with a dot are what macOS leaves beside the images it unpacks.
            if suffix.lower() not in suffixes or file.startswith("."):
                continue
            name, path = file if with_suffix else stem, os.path.join(folder, file)
            if name in files:
                twice.setdefault(name, [files[name]]).append(path)
            else:
                files[name] = path
    return files, twice


def _missing_message(missing: list[str], total: int, table: Path, out: Path) -> str:
    present, also = total - len(missing), ""
    if len(missing) > SHOWN:
        out.mkdir(parents=True, exist_ok=True)
        everything = out / f"{table.parent.name}-missing.txt"
        everything.write_text("\n".join(missing) + "\n", encoding="utf-8")
        also = f", all of them listed in {everything}"
    elif len(missing) > 1:
        also = f", also {listed(missing[1:])}"
    what = f"{len(missing):,} of {total:,} images named in {table} are missing (first: {missing[0]}){also}"
    if not present:
        return f"{what}: no image was found; download the images into {table.parent}"
    return (
        f"{what}; set data.allow_missing: true / --allow-missing to go on with the {present:,} present, "
        "or finish the download"
    )


def _twice_message(twice: Mapping[str, Sequence[str]]) -> str:
    where = listed([" and ".join(paths) for paths in twice.values()])
    more = f", and {len(twice) - 1:,} others are" if len(twice) > 1 else ""
    return (
        f"the image {next(iter(twice))} is there twice{more}: {where}; keep one of them, or set data.skip_bad: true / "
        "--skip-bad to take the first"
    )


def _empty_message(files: Mapping[str, str]) -> list[str]:
    empty = [name for name, path in files.items() if os.stat(path).st_size == 0]
    what = f"{len(empty):,} file(s) are empty, 0 bytes, and have to be downloaded again: {listed(empty)}"
    return [what] if empty else []


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first SHOWN of them."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
