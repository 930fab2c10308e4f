"""The tidy table of measurements that every table and figure is made from."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError


COLUMNS = {
    "task": "str", "setting": "str", "student": "str", "replicate": "int64", "variant": "str", "variant_value": "str",
    "attack": "str", "eps": "float64", "norm": "str", "class": "str", "average": "str", "metric": "str",
    "value": "float64", "run": "str",
}  # fmt: skip
KEYS = [name for name in COLUMNS if name not in ("value", "run")]


def validate(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its COLUMNS typed and in order, sorted by key, repeats dropped; else an InputError."""
    missing, unknown = set(COLUMNS) - set(frame.columns), set(frame.columns) - set(COLUMNS)
    if missing or unknown:
        raise InputError(
            f"a results table has the columns {', '.join(COLUMNS)}; missing: {', '.join(sorted(missing)) or 'none'}; "
            f"unknown: {', '.join(sorted(map(str, unknown))) or 'none'}"
        )
    texts = [name for name, kind in COLUMNS.items() if kind == "str"]
    frame = frame[list(COLUMNS)].copy()
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), "")
    try:
        counts = frame["replicate"].astype("float64")
        if not (counts == counts.round()).all():
            raise ValueError(f"a replicate is a whole number, found {counts[counts != counts.round()].iloc[0]}")
        frame = frame.astype({name: object if kind == "str" else kind for name, kind in COLUMNS.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"a results table has numbers in replicate, eps and value: {error}") from error
    frame = frame.sort_values([*KEYS, "run"], kind="stable", ignore_index=True)
    frame = frame.drop_duplicates([*KEYS, "value"], ignore_index=True)
    twice = frame[frame.duplicated(KEYS, keep=False)]
    if len(twice):
        first, second = twice.iloc[0], twice.iloc[1]
        what = ", ".join(
            f"{name}={first[name]}" for name in KEYS if first[name] not in ("",) and first[name] == first[name]
        )
        raise InputError(
            f"one measurement has two values, {first['value']} (run {first['run']}) and {second['value']} (run "
            f"{second['run']}): {what}; keep the one of this profile, or delete the table and make it again"
        )
    return frame


def read(path: str | Path) -> pd.DataFrame:
    """The results table at `path`, validated; InputError if it is not there or not a results table."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no results at {path}; run `make reproduce`, or the notebook that trains what you need")
    # As text first: Python's float() gives back every bit, which not every pandas does.
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8").astype(object)
    numbers = [name for name in frame.columns if COLUMNS.get(name) == "float64"]
    frame[numbers] = frame[numbers].replace("", "nan")
    return validate(frame)


def write(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write the validated table to `path` in one step, never half of it; same results, same bytes."""
    path = Path(path)
    text = validate(frame).to_csv(index=False, lineterminator="\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def is_current(path: Path, made_from: str) -> bool:
    """Whether the table at `path` is, byte for byte, what was last written from these runs."""
    note = path.with_suffix(".json")
    return path.is_file() and note.is_file() and json.loads(note.read_text()) == _note(path, made_from)


def mark_current(path: Path, made_from: str) -> None:
    """Note beside the table at `path` what it was made from."""
    path.with_suffix(".json").write_text(json.dumps(_note(path, made_from)))


def _note(path: Path, made_from: str) -> dict:
    return {"made_from": made_from, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def select(frame: pd.DataFrame, **conditions) -> pd.DataFrame:
    """The rows where each named column has the value, or one of the values, given (`class_` for `class`)."""
    keep = np.ones(len(frame), dtype=bool)
    for name, wanted in conditions.items():
        column = name.rstrip("_")
        if column not in frame.columns:
            raise InputError(f"results have no column {column!r}; they have {', '.join(frame.columns)}")
        values = list(wanted) if isinstance(wanted, (list, tuple, set)) else [wanted]
        keep &= _matches(frame[column], values)
    return frame[keep].reset_index(drop=True)


def _matches(column: pd.Series, values: list) -> np.ndarray:
    if column.dtype.kind != "f":
        return column.isin(values).to_numpy()
    # Ratios and radii come from arithmetic: 0.1 + 0.2 has to find 0.3.
    wanted = np.array(values, dtype=float)
    return np.isclose(column.to_numpy()[:, None], wanted[None], rtol=1e-9, atol=1e-12, equal_nan=True).any(axis=1)


def summary(frame: pd.DataFrame, by: list[str] | None = None) -> pd.DataFrame:
    """Mean, std (ddof 1; nan for one replicate), n and the runs over replicates per group of `by` (by default all keys but it).

    InputError if a group has two rows of one replicate, that is, if `by` would average over something that is not a replicate.
    """
    by = [name for name in KEYS if name != "replicate"] if by is None else list(by)
    repeated = frame[frame.duplicated([*by, "replicate"], keep=False)]
    if len(repeated):
        varying = [
            name for name in KEYS if name not in by and name != "replicate" and repeated[name].nunique(dropna=False) > 1
        ]
        found = "; ".join(f"{name}: {', '.join(map(str, sorted(repeated[name].unique())))}" for name in varying)
        raise InputError(
            f"a summary over replicates would mix measurements that differ in {found}; select one value first"
        )
    groups = frame.groupby(by, dropna=False, sort=False)
    made = {"mean": ("value", "mean"), "std": ("value", "std"), "n": ("value", "count"), "runs": ("run", _keys)}
    return groups.agg(**made).reset_index()


def _keys(runs: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(runs)))
