"""Whether what lies on disk is what was computed: runs, results.csv, and the tables and figures made from it."""

import json
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from rosutils import InputError, results
from rosutils.params import flat
from rosutils.store import Store, checksum
from rosutils.study.measurements import rows_of


def unopened(study) -> str:
    """Why runs cannot be held against the study, so that nothing is measured again; "" where they can."""
    if not study.store.keys():
        return f"no run is in {study.store.root}"
    try:
        study.tasks()
    except InputError as error:
        return f"its images are not to be had ({error})"
    return ""


def problems(study) -> Iterator[str]:
    """One sentence for each thing that is not as it was computed: a damaged run, a changed number, a changed file.

    Without data or runs, as in a fresh clone, it is about the files that are there.
    """
    if unopened(study):
        yield from study.store.verify()
    else:
        for spec in study.unique(study.all_runs()):
            yield from study.store.problems(study.key(spec))
        yield from _results(study)
    yield from changed_files(study.figures)
    yield from _other_study(study)


def _results(study) -> Iterator[str]:
    """What results.csv says otherwise than the runs; those that cannot be measured are named where they are damaged."""
    specs, path, rows, untold = study.measured(), study.output / "results.csv", [], set()
    if not specs:
        return
    try:
        written = results.read(path)
    except InputError as error:
        yield str(error)
        return
    for spec in specs:
        try:
            rows += rows_of(study, spec)
        except InputError as error:
            untold.add(study.key(spec))
            if not study.store.problems(study.key(spec)):
                yield f"{study.key(spec)} cannot be measured: {error}"
    measured = results.validate(pd.concat(rows, ignore_index=True)) if rows else written.iloc[:0]
    yield from differences(written[~written["run"].isin(untold)], measured)


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


def provenance_in(folder: Path) -> dict:
    """What provenance.json in a folder of tables and figures says; raises InputError where it is missing or damaged."""
    path = folder / "provenance.json"
    try:
        found = json.loads(path.read_bytes())
        if all(isinstance(found[name], dict) for name in ("files", "parameters", "runs")):
            return found
        why = "it has another shape"
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make reproduce writes it again") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    raise InputError(f"{path} is damaged ({why}); make reproduce writes it again")


def changed_files(folder: Path) -> Iterator[str]:
    """Tables, figures and report that are not those whose checksums provenance.json holds; archives are read run by run."""
    try:
        about = provenance_in(folder)
    except InputError as error:
        yield str(error)
        return
    found = {path.name: path for path in folder.glob("[!.]*") if path.is_file() and path.name != "provenance.json"}
    listed = about["files"] | {name: about.get(name) for name in {"results.csv"} & found.keys()}
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            yield f"{name}, listed in provenance.json, is missing from {folder}"
        elif name not in listed and name.endswith(".zip"):
            yield from _archived(found[name], about["runs"])
        elif name not in listed:
            yield f"{name} in {folder} is not listed in provenance.json: the study did not make it; move it away"
        elif checksum(found[name]) != listed[name]:
            yield f"{name} in {folder} is not the file that was made: its checksum differs from provenance.json's"


def _archived(file: Path, runs: Collection[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:  # beside runs there are the examples that they are about
        store = Store(folder)
        try:
            store.adopt(file)
        except InputError as error:
            yield str(error)
        for key in store.keys():
            if key not in runs and not key.startswith("examples-"):
                yield f"{file} holds {key}, which provenance.json does not name"


def _other_study(study) -> Iterator[str]:
    """What provenance.json says otherwise of parameters and runs: tables and figures may be those of another command."""
    try:
        about = provenance_in(study.figures)
    except InputError:
        return  # told already
    said, ours = flat(about["parameters"]), flat(study.shared())
    for name in sorted(said.keys() & ours.keys()):
        if said[name] != ours[name]:
            yield f"{study.figures} is of another study: its {name} was {said[name]}, this one's is {ours[name]}"
    for key, record in sorted(about["runs"].items()):
        run = study.store.get(key)
        if run is not None and run.about()["record"] != record:
            yield f"provenance.json says otherwise than run {key} of how it was made"
