"""verify: every single number changed, taken or added is named, and so is every file."""

import json
import math
import shutil
import threading

import pytest
import torch
from rows import frame, rows

from rosutils.store import Store, checksum, digest
from rosutils.study import Study
from rosutils.study.verification import changed_files, differences, problems, unopened


def table(**changes):
    """Three measurements of one run, some of them changed."""
    found = rows("lesion", "RoS-KD", 0.5, seeds=(0, 1), step=0)
    found += rows("lesion", "RoS-KD", math.nan, seeds=(0,), metric="auroc", **{"class": "MEL"})
    return frame([row | {"run": "run-a"} | changes.get(f"row{number}", {}) for number, row in enumerate(found)])


def test_every_changed_missing_added_and_misattributed_number_is_named_and_equal_tables_are_not():
    assert list(differences(table(), table())) == []
    for changed in ("row0", "row1", "row2"):
        [problem] = differences(table(**{changed: {"value": 0.75}}), table())
        assert "0.75" in problem and "run-a" in problem and "RoS-KD" in problem
        assert ("replicate 1" in problem) == (changed == "row1") and ("MEL" in problem) == (changed == "row2")
    assert len(list(differences(table(row0={"value": math.nextafter(0.5, 1)}), table()))) == 1, "the last bit"
    [lacking] = differences(table().iloc[1:], table())
    [added] = differences(table(), table().iloc[1:])
    [other] = differences(table(row0={"run": "run-b"}), table())
    assert "lacks" in lacking and "which no finished run gives" in added and "run-b" in other and "run-a" in other


def listing(folder, **about):
    """provenance.json as a report leaves it, of the files that lie there."""
    files = {path.name: checksum(path) for path in folder.glob("*") if path.name != "provenance.json"}
    text = json.dumps({"files": files, "parameters": {}, "runs": {}} | about)
    (folder / "provenance.json").write_text(text)


def test_changed_missing_and_foreign_files_are_named(tmp_path):
    for name in ("table1.csv", "fig2.png", "report.html"):
        (tmp_path / name).write_text(name)
    [missing] = changed_files(tmp_path)
    assert "provenance.json is missing" in missing
    listing(tmp_path)
    assert list(changed_files(tmp_path)) == []
    (tmp_path / "table1.csv").write_text("table2")
    (tmp_path / "fig2.png").unlink()
    (tmp_path / "other.png").write_text("")
    (tmp_path / "report.html").write_text("other numbers")
    found = list(changed_files(tmp_path))
    names = ["fig2.png", "other.png", "report.html", "table1.csv"]
    assert len(found) == 4 and all(name in problem for name, problem in zip(names, found, strict=True))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"files": 3}', b"\xff{}", b"[" * 100_000])
def test_a_damaged_provenance_is_one_sentence(tmp_path, content):
    (tmp_path / "provenance.json").write_bytes(content)
    [problem] = changed_files(tmp_path)
    assert "provenance.json is damaged" in problem and "make reproduce" in problem


def test_an_archive_beside_the_figures_is_read_run_by_run(tmp_path):
    store, folder = Store(tmp_path / "store"), tmp_path / "figures"
    key = f"student-resnet18-{digest({})}"
    store.put(key, recipe={}, record={}, tensors={"logits": {"test": torch.arange(999.0)}})
    folder.mkdir()
    listing(folder, runs={key: {}})
    store.archive([key], folder / "runs.zip")
    whole = (folder / "runs.zip").read_bytes()
    assert list(changed_files(folder)) == []
    listing(folder, files={})
    assert list(changed_files(folder)) == [f"{folder / 'runs.zip'} holds {key}, which provenance.json does not name"]
    (folder / "runs.zip").write_bytes(whole[:200] + b"\0" + whole[201:])
    [problem] = changed_files(folder)
    assert "runs.zip" in problem


# A study of two runs, whose files get damaged


DAMAGES = {"empty": b"", "cut": None, "nothing in it": b"{}", "not UTF-8": b"\xff{}"}


@pytest.fixture(scope="module")
def finished(load_tiny, tmp_path_factory):
    """(study, its files as they were, what `problems` says of it whole)."""
    study = load_tiny(tmp_path_factory.mktemp("verified"))
    study.ensure([study.chance("lesion"), *study.teachers("lesion", "full")[:1], study.student("lesion", "Baseline I")])
    study.results()
    study.figures.mkdir(parents=True)
    (study.figures / "table1.csv").write_text("a table")
    listing(study.figures, **{name: study.provenance()[name] for name in ("parameters", "runs")})
    return study


@pytest.fixture
def study(finished, load_tiny):
    """The same, given back as it was; opened anew, as a command does."""
    folder = finished.folder.parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield load_tiny(folder)
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_a_whole_study_has_no_problems(study):
    assert list(problems(study)) == [] and unopened(study) == ""


def test_every_damaged_run_is_named_and_not_the_first_alone(study):
    keys = [key for key in study.store.keys() if not key.startswith("chance")]
    for key in keys:
        file = study.store.root / key / "logits.safetensors"
        file.write_bytes(file.read_bytes()[:-7])
    assert list(problems(study)) == [
        f"{key}/logits.safetensors is damaged (its checksum differs)" for key in sorted(keys, reverse=True)
    ]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_sentence_whatever_its_damage(study, damage):
    """run.json, results.csv, provenance.json: the command that looks for damage ended in a traceback."""
    key = study.key(study.student("lesion", "Baseline I"))
    for file in (study.store.root / key / "run.json", study.output / "results.csv", study.figures / "provenance.json"):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if DAMAGES[damage] is None else DAMAGES[damage])
        found = list(problems(study))
        assert sum(f"{file.name} is damaged" in problem for problem in found) == 1, found
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"seconds"', b'"seconbs"'), (b'"role": "student"', b'"role": "studemt"'), (b'"checksum"', b'"checksun"')],
)
def test_recipe_and_record_of_a_run_are_held_against_its_key_and_checksum(study, old, new):
    key = study.key(study.student("lesion", "Baseline I"))
    file = study.store.root / key / "run.json"
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    assert any(problem.startswith(f"{key}/run.json is damaged") for problem in problems(study))


def test_figures_of_another_study_in_the_folder_are_told(study, load_tiny):
    other = load_tiny(study.folder.parent, training={"learning_rate": 0.5})
    other.label = study.label  # as of two files with one profile name
    found = [problem for problem in problems(other) if "of another study" in problem]
    assert len(found) == 1 and "training.learning_rate was 0.02, this one's is 0.5" in found[0]


def test_without_runs_or_images_the_files_are_verified_alone(study, tmp_path):
    figures, nowhere = {"artefacts": str(study.figures.parent)}, str(tmp_path)
    without_images = {"engine": figures | {"store": str(study.folder)}, "data": {"root": nowhere}}
    for why, profile, sections in (
        ("no run is in", "smoke", {"engine": figures | {"store": nowhere}}),
        ("images are not to be had", "real", without_images),
    ):
        other = Study.load(profile, **sections)
        other.label = study.label
        assert why in unopened(other)
        assert not [problem for problem in problems(other) if "of another study" not in problem]
        (study.figures / "table1.csv").write_text("another table")
        assert any("table1.csv" in problem for problem in problems(other))
        (study.figures / "table1.csv").write_text("a table")


def other_bits(study, spec):
    """A run as another machine would make it, only more so."""
    run = study.run(spec)
    about, logits = run.about(), run.tensors("logits")
    shutil.rmtree(run.path)
    tensors = {"logits": {part: -value for part, value in logits.items()}}
    study.store.put(run.key, recipe=about["recipe"], record=about["record"], tensors=tensors)


def test_a_run_made_again_with_other_bits_is_measured_again(study):
    """results.csv kept the numbers of the run that was gone: its note held keys and no checksums."""
    before = study.results()
    other_bits(study, study.student("lesion", "Baseline I"))
    after = study.results()
    assert not after.equals(before) and after.equals(study.measure())


def test_only_files_of_the_runs_and_parameters_of_now_are_noted(study, load_tiny):
    file = study.figures / "table1.csv"
    study.note("table1-table", ("table1",), [file])
    assert study.noted()["table1-table"]["files"] == {"table1.csv": checksum(file)}
    other = load_tiny(study.folder.parent, evaluation={"thresholds": "fixed"})
    other.label = study.label
    assert other.noted() == {}
    note = study.output / "published" / "table1-table.json"
    whole = note.read_bytes()
    for damaged in (b"", b"[]", b"{}", b"\xff", b'{"made_from": 1, "needs": ["no such"]}'):
        note.write_bytes(damaged)
        assert study.noted() == {}
    note.write_bytes(whole)
    other_bits(study, study.student("lesion", "Baseline I"))
    assert study.noted() == {}


def test_one_command_at_a_time_writes_to_the_folders_of_a_name(study, load_tiny, caplog, monkeypatch):
    monkeypatch.setattr("rosutils.store.SILENT", 0.1)
    done, other = [], load_tiny(study.folder.parent)

    def second():
        with other.alone():
            done.append("second")

    thread = threading.Thread(target=second)
    with study.alone():
        thread.start()
        thread.join(1)
        assert done == [] and f"waiting for another command that writes to {study.figures}" in caplog.text
    thread.join(20)
    assert done == ["second"]
