"""Whether what lies on disk is what was computed: runs, results.csv, and the tables and figures made from it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from rosutils import results


NOT_LISTED = ("provenance.json", "report.html")  # they hold the list, and are made after it


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every table and figure of a profile by file name."""
    files = sorted(path for path in folder.glob("*") if path.is_file() and path.name not in NOT_LISTED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def problems(study) -> Iterator[str]:
    """One sentence for each thing that is not as it was computed: a damaged run, a changed number, a changed file."""
    runs = [run for spec in study.unique(study.all_runs()) if (run := study.run(spec))]
    for run in runs:
        yield from run.problems()
    path = study.output / "results.csv"
    if runs and path.is_file():
        yield from differences(results.read(path), study.measure())
    elif runs:
        yield f"{path} is missing; make reproduce writes it again"
    yield from changed_files(study.figures)


def differences(written: pd.DataFrame, measured: pd.DataFrame) -> Iterator[str]:
    """What a results table says otherwise than the runs it names: changed, missing and added numbers."""
    how = {"on": results.KEYS, "how": "outer", "suffixes": ("_measured", "_written"), "indicator": True, "sort": True}
    for row in measured.merge(written, **how).to_dict("records"):
        what = results.told(row)
        values, runs = ([row[f"{name}_{side}"] for side in ("written", "measured")] for name in ("value", "run"))
        if row["_merge"] == "left_only":
            yield f"results.csv lacks {what}: run {runs[1]} gives {values[1]}"
        elif row["_merge"] == "right_only":
            yield f"results.csv has {what}, which no finished run gives (it names {runs[0]})"
        elif values[0] != values[1] and not pd.isna(values).all():
            yield f"results.csv: {what} is {values[0]}, but run {runs[1]} gives {values[1]}"
        elif runs[0] != runs[1]:
            yield f"results.csv: {what} names the run {runs[0]}, but is of {runs[1]}"


def changed_files(folder: Path) -> Iterator[str]:
    """Tables and figures that are not those whose checksums provenance.json holds."""
    provenance = folder / "provenance.json"
    if not provenance.is_file():
        yield f"{provenance} is missing; make reproduce writes it again"
        return
    listed, found = json.loads(provenance.read_text(encoding="utf-8")).get("files", {}), checksums(folder)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            yield f"{name}, listed in provenance.json, is missing from {folder}"
        elif name not in listed:
            yield f"{name} in {folder} is not listed in provenance.json"
        elif found[name] != listed[name]:
            yield f"{name} in {folder} is not the file that was made: its checksum differs from provenance.json's"
