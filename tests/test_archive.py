"""Runs on their way between stores: the same bytes for the same runs, no weights, nothing but whole runs, nothing outside."""

import json
import zipfile

import pytest
import torch

from rosutils import InputError
from rosutils.store import WEIGHTS, Store, digest


RECIPE = {"alpha": 0.9}
KEY = f"student-resnet18-{digest(RECIPE)}"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    tensors = {"weights": {"w": torch.ones(2000)}, "logits": {"test": torch.arange(8.0)}}
    store.put(KEY, recipe=RECIPE, record={"seconds": 1.5}, tensors=tensors)
    return store


@pytest.fixture
def file(store, tmp_path):
    assert store.archive([KEY, KEY], tmp_path / "runs.zip") == 1
    return tmp_path / "runs.zip"


def changed(file, name, content):
    """The archive with one file changed or added."""
    with zipfile.ZipFile(file) as archive:
        files = {each: archive.read(each) for each in archive.namelist()} | {name: content}
    with zipfile.ZipFile(file, "w") as archive:
        for each, data in files.items():
            archive.writestr(each, data)
    return file


def test_an_adopted_run_is_the_run_released_and_an_archive_of_it_is_the_same_file(store, file, tmp_path):
    other = Store(tmp_path / "other")
    assert other.adopt(file) == 1 and other.verify() == []
    run = other.get(KEY)
    assert run.released and run.tensors("logits")["test"].equal(torch.arange(8.0))
    assert run.about()["recipe"] == RECIPE and run.about()["record"] == {"seconds": 1.5}
    with pytest.raises(InputError, match="was released"):
        run.tensors("weights")
    other.archive([KEY], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_no_weights_and_no_pickle_are_in_an_archive_and_runs_without_logits_where_asked(store, file, tmp_path):
    names = zipfile.ZipFile(file).namelist()
    assert sorted(names) == [f"{KEY}/logits.safetensors", f"{KEY}/run.json"] and not set(WEIGHTS) & set(names)
    store.archive([KEY], tmp_path / "less.zip", without={KEY: ["logits.safetensors"]})
    assert zipfile.ZipFile(tmp_path / "less.zip").namelist() == [f"{KEY}/run.json"]
    other = Store(tmp_path / "other")
    assert other.adopt(tmp_path / "less.zip") == 1 and other.verify() == []


def test_a_run_that_is_there_stays_as_it_is(store, file):
    before = (store.get(KEY).path / "run.json").read_bytes()
    assert store.adopt(file) == 0 and (store.get(KEY).path / "run.json").read_bytes() == before
    assert not store.get(KEY).released


@pytest.mark.parametrize("name", ["../evil.csv", "/tmp/evil.csv", f"{KEY}/deep/logits.safetensors", f"{KEY}/x.pkl"])
def test_what_is_no_file_of_a_run_is_refused_and_nothing_is_written_anywhere(file, name, tmp_path):
    changed(file, name, b"evil")
    other = Store(tmp_path / "folder" / "other")
    with pytest.raises(InputError, match="no file of a run"):
        other.adopt(file)
    assert not list(tmp_path.rglob("evil*")) and other.keys() == []


def test_a_changed_or_foreign_file_and_another_recipe_under_a_key_are_refused(store, file, tmp_path):
    whole, other, strange = file.read_bytes(), Store(tmp_path / "other"), "student-resnet18-0123456789abcdef"
    store.put(strange, recipe=RECIPE, record={}, tensors={})  # its checksums hold
    store.archive([strange], tmp_path / "strange.zip")
    about = json.loads(zipfile.ZipFile(file).read(f"{KEY}/run.json")) | {"recipe": {"alpha": 0.1}}
    with pytest.raises(InputError, match="is not the key of its recipe"):
        other.adopt(tmp_path / "strange.zip")
    for name, content, says in (
        ("run.json", json.dumps(about), "is not the key of its recipe"),
        ("logits.safetensors", b"x", "logits.safetensors is damaged"),
        ("history.csv", b"epoch\n1\n", "history.csv is no file of that run"),
    ):
        with pytest.raises(InputError, match=says):
            other.adopt(changed(file, f"{KEY}/{name}", content))
        file.write_bytes(whole)
    assert other.keys() == [] and not list(other.root.glob(".student*"))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match="is damaged, or no archive"):
        Store(tmp_path / "store").adopt(tmp_path / "file")


def test_bit_rot_anywhere_in_an_archive_is_refused_or_touches_nothing_that_counts(file, tmp_path):
    whole, refused = file.read_bytes(), 0
    for place in range(0, len(whole), 17):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        other = Store(tmp_path / str(place))
        try:
            other.adopt(file)
        except InputError:
            refused += 1
        assert other.verify() == []
        assert all(other.get(key).tensors("logits")["test"].equal(torch.arange(8.0)) for key in other.keys())
    assert refused > len(whole) / 17 / 2


def test_an_archive_of_nothing_is_not_written_and_a_missing_folder_is_made(store, tmp_path):
    with pytest.raises(InputError, match="no run is finished"):
        store.archive([], tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()
    assert store.archive([KEY], tmp_path / "new" / "folder" / "runs.zip") == 1
