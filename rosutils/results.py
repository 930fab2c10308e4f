"""The tidy table of measurements that every table and figure is made from."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.store import checksum, write_whole


NUMBERS = {"replicate": "int64", "eps": "float64", "value": "float64"}
COLUMNS = "task setting student replicate variant variant_value attack eps norm class average metric value run".split()
COLUMNS = dict.fromkeys(COLUMNS, "str") | NUMBERS
KEYS = [name for name in COLUMNS if name not in ("value", "run")]


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its COLUMNS typed and in order, sorted by key, repeats dropped; else an InputError."""
    missing, unknown = set(COLUMNS) - set(frame.columns), set(frame.columns) - set(COLUMNS)
    if missing or unknown:
        lists = [", ".join(sorted(map(str, names))) or "none" for names in (missing, unknown)]
        allowed = f"a results table has the columns {', '.join(COLUMNS)}"
        raise InputError(f"{allowed}; missing: {lists[0]}; unknown: {lists[1]}")
    texts = [name for name in COLUMNS if name not in NUMBERS]
    frame = frame[list(COLUMNS)].copy()
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), "")
    try:
        counts = frame["replicate"].astype("float64")
        if (broken := counts[counts != counts.round()]).any():
            raise ValueError(f"a replicate is a whole number, found {broken.iloc[0]}")
        frame = frame.astype(dict.fromkeys(texts, object) | NUMBERS)
    except (TypeError, ValueError) as error:
        raise InputError(f"a results table has numbers in replicate, eps and value: {error}") from error
    frame = frame.sort_values([*KEYS, "run"], kind="stable", ignore_index=True)
    frame = frame.drop_duplicates([*KEYS, "value"], ignore_index=True)
    twice = frame[frame.duplicated(KEYS, keep=False)]
    if len(twice):
        first, second = twice.iloc[0], twice.iloc[1]
        raise InputError(
            f"one measurement has two values, {first['value']} (run {first['run']}) and {second['value']} (run "
            f"{second['run']}): {told(first)}; keep the one of this profile, or delete the table and make it again"
        )
    return frame


def told(row) -> str:
    """What a row measures, in words: its keys that are not empty."""
    return ", ".join(f"{name} {row[name]}" for name in KEYS if row[name] != "" and row[name] == row[name])


def read(path: str | Path) -> pd.DataFrame:
    """The results table at `path`, validated; InputError if it is not there or not a results table."""
    if not Path(path).is_file():
        raise InputError(f"no results at {path}; run `make reproduce`, or the notebook that trains what you need")
    # As text first: Python's float() gives back every bit, which not every pandas does.
    try:
        if not Path(path).read_bytes().endswith(b"\n"):
            raise ValueError("it is cut off")
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8").astype(object)
        numbers = [name for name in frame.columns if COLUMNS.get(name) == "float64"]
        frame[numbers] = frame[numbers].replace("", "nan")
        return validate(frame)
    except ValueError as error:  # pandas' own are ValueErrors, an InputError is one
        raise InputError(f"{path} is damaged ({error}); make reproduce writes it again") from None


def write(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write the validated table to `path` in one step, never half of it; same results, same bytes."""
    return write_whole(Path(path), validate(frame).to_csv(index=False, lineterminator="\n"))


def current(path: Path, made_from: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table at `path`, measured and written anew where it is not, byte for byte, what was last written from these runs."""
    note = path.with_suffix(".json")

    def noted() -> bytes:
        return json.dumps({"made_from": made_from, "sha256": checksum(path)}).encode()

    if not (path.is_file() and note.is_file() and note.read_bytes() == noted()):
        write(measure(), path)
        write_whole(note, noted())
    return read(path)


def select(frame: pd.DataFrame, **conditions) -> pd.DataFrame:
    """The rows where each named column has the value, or one of the values, given (`class_` for `class`)."""
    keep = np.ones(len(frame), dtype=bool)
    for name, wanted in conditions.items():
        column = name.rstrip("_")
        if column not in frame.columns:
            raise InputError(f"results have no column {column!r}; they have {', '.join(frame.columns)}")
        values = list(wanted) if isinstance(wanted, (list, tuple, set)) else [wanted]
        if frame[column].dtype.kind == "f":  # radii come from arithmetic: 0.1 + 0.2 has to find 0.3
            pairs = frame[column].to_numpy()[:, None], np.array(values, dtype=float)[None]
            keep &= np.isclose(*pairs, rtol=1e-9, atol=1e-12, equal_nan=True).any(axis=1)
        else:
            keep &= frame[column].isin(values).to_numpy()
    return frame[keep].reset_index(drop=True)


def summary(frame: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Mean, std (ddof 1; nan for one replicate), n and runs over replicates per group of `by` (by default all keys but it).

    InputError if a group has two rows of one replicate, that is, if `by` would average over something that is not a replicate.
    """
    by = [name for name in KEYS if name != "replicate"] if by is None else list(by)
    repeated = frame[frame.duplicated([*by, "replicate"], keep=False)]
    if len(repeated):
        others = [name for name in KEYS if name not in [*by, "replicate"] and repeated[name].nunique(dropna=False) > 1]
        found = "; ".join(f"{name}: {', '.join(map(str, sorted(repeated[name].unique())))}" for name in others)
        what = "a summary over replicates would mix measurements that differ in"
        raise InputError(f"{what} {found}; select one value first")
    groups = frame.groupby(by, dropna=False, sort=False)
    made = {"mean": ("value", "mean"), "std": ("value", "std"), "n": ("value", "count")}
    return groups.agg(**made, runs=("run", lambda keys: tuple(sorted(set(keys))))).reset_index()
