"""A raw folder: its tables read, its files found, and the two brought together; one reader for every source."""

import csv
import filecmp
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data.decode import size_and_time
from rosutils.store import write_whole


SHOWN = 20  # names in a message; a longer list goes to a file
WHERE = "DATA=folder (data.root) must be the folder that holds isic2019/ and nih/, --raw one of these two"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".dcm", ".dicom")
MISSING, NO_ROW, TWICE = "no file", "no row in the table", "a second file of that name"


class Raw(NamedTuple):
    """A raw folder that has been looked through, but for the images themselves."""

    tables: Sequence[Path]
    named: int  # rows in the first table
    content: dict  # sorted names of the images that have a row and a file, and what a cache holds of them
    grouped_by: str  # the column whose values no split may cut, or "image"
    paths: list[str]  # of the images, in the order of their names
    left_out: list[tuple[str, str]]  # names and reasons


def look_through(folder: Path, layout, section, *, allow_missing: bool, skip_bad: bool, out: Path) -> Raw:
    """Tables, file names and what fits together of both; no image is opened.

    Raises InputError for a table that cannot be used, and naming all that is wrong with the files: those missing (unless
    `allow_missing`), there twice (unless `skip_bad` and equal), empty. A long list is written below `out`.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; {layout.WHERE}")
    tables = {path: read_table(path, layout.REPAIR, *columns) for path, *columns in layout.tables(folder, section)}
    (path, table), *_ = tables.items()
    names = table.iloc[:, 0]
    files, unnamed = find(folder, list(names), getattr(layout, "other_names", lambda name: ()))
    there = names.isin(files).to_numpy()
    missing = sorted(names[~there])
    _refuse_files(path, missing, files, allow_missing, skip_bad, out)
    groups, grouped_by = layout.groups(*tables.values(), section)  # of all rows: a partial download numbers them alike
    labels, class_names = layout.labels(table[there], section)
    order = np.argsort(names[there].to_numpy(str), kind="stable")
    content = {"names": tuple(names[there].iloc[order]), "labels": labels[order], "groups": groups[there][order]}
    content |= {"class_names": class_names, "multilabel": labels.ndim == 2}
    left_out = [(name, MISSING) for name in missing] + [(path, NO_ROW) for path in unnamed]
    left_out += [(path, TWICE) for _, *others in files.values() for path in others]
    paths = [os.path.join(folder, files[name][0]) for name in content["names"]]
    return Raw(list(tables), len(table), content, grouped_by, paths, left_out)


def read_table(path: Path, repair: str, columns: Sequence[str], unasked: Sequence[str] = ()) -> pd.DataFrame:
    """Columns of a csv file as stripped text, the index their lines; those that are `unasked` may be absent.

    Headers are compared without spaces around them and without case. Raises InputError for a column absent or there twice,
    a row with another number of fields than the header, an image without a name or in two rows.
    """
    if not path.is_file():
        raise InputError(f"there is no {path} with the columns {', '.join(columns)}; {repair}")
    header, rows = _rows(path)
    table = pd.DataFrame(index=[line for line, _ in rows])
    for name in (*columns, *unasked):
        same = [at for at, title in enumerate(header) if title.casefold() == name.casefold()]
        if len(same) > 1:
            raise InputError(f"{path} has {len(same)} columns {header[same[0]]!r}; leave one of them, or rename them")
        if same:
            table[name] = pd.Series([row[same[0]].strip() for _, row in rows], table.index, dtype=object)
    absent = ", ".join(name for name in columns if name not in table)
    if absent or not rows:
        has = f"no column {absent}, it has {', '.join(map(repr, header))}" if absent else "no rows"
        raise InputError(f"{path} has {has}; {repair}")
    plain = table.iloc[:, 0].map(plain_name)
    refuse(path, plain.index[plain == ""], f"no {columns[0]}")
    again = plain[plain.duplicated(keep=False)]
    refuse(path, again.index, f"images named more than once ({listed(list(again.unique()))})", "keep one for each")
    return table


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the rows of a table with their lines; commas, semicolons or tabs between the fields."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            (_, header), *rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (OSError, ValueError, csv.Error) as error:
        what = f"{path} cannot be read as a csv file ({error})"
        raise InputError(f"{what}; save it as comma-separated text in UTF-8, or download it again") from error
    header = [name.strip() for name in header]
    while header and not header[-1]:  # NIH's lines of 2017 end in one comma too many
        header.pop()
    wrong = [line for line, row in rows if len(row) < len(header) or any(map(str.strip, row[len(header) :]))]
    refuse(path, wrong, f"not the {len(header)} fields of its header", "put quotes around a text that holds a comma")
    return header, rows


def refuse(table: str | Path, lines: Sequence[int], what: str, todo: str = "repair these lines") -> None:
    """Raises InputError naming the lines of a table in which something is wrong, where there are any."""
    if len(lines):
        raise InputError(f"{table} has {what} in {len(lines):,} line(s): {listed(list(map(str, lines)))}; {todo}")


def numbered(values: pd.Series, names: pd.Series) -> np.ndarray:
    """Groups int64 [N] by their values, in the order they come; where the value is empty, an image is one of its own."""
    own = "\0" + names.to_numpy(object)  # a NUL keeps it apart from any value
    return pd.factorize(np.where(values.to_numpy(object) == "", own, values.to_numpy(object)))[0].astype(np.int64)


def plain_name(name: str) -> str:
    """A name as all ways to write the same path have it: forward slashes, no ./ before it, one Unicode form."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def spellings(path: str) -> set[str]:
    """What a table may call a file: its path, its file name, and either without the suffix."""
    name = path.rpartition("/")[2]
    return {path, name, os.path.splitext(path)[0], os.path.splitext(name)[0]}


def find(folder: Path, names: Sequence[str], other_names) -> tuple[dict[str, list[str]], list[str]]:
    """The image files, at any depth, that each name of a table fits, first the one to be used; and the files without a name.

    Paths are within the folder. A name is a path, or a file name, with or without suffix; of several files that have it the
    one at that very path is meant. Raises InputError for two names of one file.
    """
    places: defaultdict[str, list[str]] = defaultdict(list)
    everything = pictures(folder)
    for path in everything:
        for key in spellings(plain_name(path)):
            places[key].append(path)
    files, names_of = {}, {}
    known, root = set(names), plain_name(os.path.abspath(folder)) + "/"
    for name in names:
        key = plain_name(name).removeprefix(root)
        keys = [key, *(other for other in other_names(key) if other not in known)]
        if found := next((places[key] for key in keys if key in places), None):
            files[name] = [path for path in found if plain_name(path) == key] or found
            if (other := names_of.setdefault(files[name][0], name)) != name:
                raise InputError(f"the table names the file {files[name][0]} twice, {other} and {name}; keep one")
    used = {path for found in files.values() for path in found}
    return files, sorted(set(everything) - used)


def pictures(folder: Path) -> list[str]:
    """Paths within the folder of its image files at any depth, told by their suffixes."""
    return [path for path in _walk(folder) if path.lower().endswith(SUFFIXES)]


def _walk(folder: Path) -> Iterator[str]:
    """Paths within the folder of all its files, but for hidden ones, which macOS leaves beside images it unpacks."""
    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back up
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        start = os.path.relpath(place, folder)
        yield from (os.path.normpath(os.path.join(start, name)) for name in sorted(files) if not name.startswith("."))


def _refuse_files(table: Path, missing: list[str], files: Mapping, allow_missing, skip_bad, out: Path) -> None:
    folder, problems = table.parent, []
    if missing and not (allow_missing and files):
        what = f"{len(missing):,} of {len(missing) + len(files):,} images named in {table} are missing (first: {missing[0]}): "
        todo = f"set data.allow_missing: true / --allow-missing to go on with the {len(files):,} present, or finish the download"
        stem = Path(plain_name(missing[0])).stem.casefold()
        if near := next((path for path in _walk(folder) if Path(plain_name(path)).stem.casefold() == stem), None):
            todo = f"but there is {near}: correct the names in the table, or save the images as {', '.join(SUFFIXES)}"
        elif not files:
            todo = f"no image was found; download the images into {folder}"
        problems.append(f"{what}{listed(missing, out / f'{folder.name}-missing.txt')}; {todo}")
    twice = {name: found for name, found in files.items() if len(found) > 1}
    for name, (path, *rest) in twice.items():
        if not (skip_bad and all(_equal(folder / path, folder / other) for other in rest)):
            problems.append(
                f"the image {name} is there twice (as are {len(twice) - 1:,} others): {' and '.join([path, *rest])}; keep one, "
                "name it by its path, or, where they are equal, set data.skip_bad: true / --skip-bad to take the first"
            )
            break
    if problems:
        empty = [name for name, (path, *_) in files.items() if size_and_time(os.path.join(folder, path))[0] == 0]
        problems += [f"{len(empty):,} file(s) are empty, 0 bytes: {listed(empty)}; fetch them again"] if empty else []
        raise InputError(". Also, ".join(problems))


def _equal(path: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:  # one that cannot be read is nobody's twin
        return False


def listed(names: Sequence[str], file: Path | None = None, between: str = ", ") -> str:
    """Names for a message: the first SHOWN of them, and the file in which all of them are then written."""
    text = between.join(names[:SHOWN])
    if len(names) <= SHOWN:
        return text
    text += f"{between}and {len(names) - SHOWN:,} more"
    with suppress(OSError):  # where nothing can be written the message itself must not be lost
        if file is not None:
            write_whole(file, ("\n".join(names) + "\n").encode(errors="surrogateescape"))
            text += f", all of them listed in {file}"
    return text
