"""The store of runs: whole or not at all, checksummed, locked."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rosutils.store
from rosutils import InputError
from rosutils.store import Store, digest, write_whole


KEY = "student-resnet18-0123456789abcdef"
quick = settings(max_examples=50, deadline=None)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
recipes = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_size=5,
)


def content(seed=0):
    """What a run holds, of every dtype that occurs."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": {
            "conv.weight": torch.randn(4, 3, 2, 2, generator=generator).to(memory_format=torch.channels_last),
            "bn.num_batches_tracked": torch.tensor(17 + seed),
            "double": torch.randn(3, generator=generator, dtype=torch.float64),
            "special": torch.tensor([torch.nan, torch.inf, -0.0, 1e-45]),
        },
        "logits": {"validation": torch.randn(5, 8, generator=generator), "test": torch.zeros(0, 8)},
    }


def history():
    return pd.DataFrame({"loss": np.exp(np.random.default_rng(0).uniform(-300, 300, 5000))})


def put(store, key=KEY, *, seed=0, **changes):
    options = {"recipe": {"seed": seed, "alpha": 0.9}, "record": {"seconds": 1.5}, "tensors": content(seed)}
    return store.put(key, **(options | {"tables": {"history": history()}} | changes))


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).tolist() if tensor.ndim else tensor.item()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "deeper" / "store")


# Keys


@quick
@given(recipe=recipes, data=st.data())
def test_the_digest_does_not_depend_on_the_order_of_the_keys(recipe, data):
    shuffled = dict(data.draw(st.permutations(list(recipe.items()))))
    assert digest(shuffled) == digest(recipe)
    assert digest(json.loads(json.dumps(recipe))) == digest(recipe)


def test_the_digest_is_sixteen_hex_digits_that_never_change():
    """SHA-256 of {"alpha":0.9,"seed":1}: a key of today must be found tomorrow, on another machine."""
    assert digest({"seed": 1, "alpha": 0.9}) == hashlib.sha256(b'{"alpha":0.9,"seed":1}').hexdigest()[:16]


# Round trip


def test_what_was_put_is_what_is_got_bit_for_bit_and_no_pickle(store):
    put(store)
    for path in (store.root / KEY).glob("*.safetensors"):
        raw = path.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        assert all({"dtype", "shape", "data_offsets"} <= set(entry) for entry in header.values())
    run = store.get(KEY)
    assert run.key == KEY
    for name, expected in content().items():
        found = run.tensors(name)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
            assert bits(found[key]) == bits(value), key
    pd.testing.assert_frame_equal(run.table("history"), history(), check_exact=True)
    about = run.about()
    assert about["recipe"] == {"seed": 0, "alpha": 0.9} and about["record"] == {"seconds": 1.5}
    assert set(about["checksums"]) == {"weights.safetensors", "logits.safetensors", "history.csv"}
    assert store.verify() == []


def test_keys_are_those_of_finished_runs_sorted(store):
    assert store.get("teacher-b") is None and store.keys() == [] and store.verify() == []
    for key in ("teacher-b", "student-a", "teacher-a"):
        put(store, key)
    (store.root / ".teacher-c-half").mkdir()
    (store.root / "unfinished").mkdir()
    store.lock("teacher-d")
    assert store.keys() == ["student-a", "teacher-a", "teacher-b"]


def test_a_second_put_keeps_the_first(store):
    put(store, seed=0)
    before = (store.root / KEY / "run.json").read_bytes()
    again = put(store, seed=1)
    assert (store.root / KEY / "run.json").read_bytes() == before
    assert again.tensors("weights")["bn.num_batches_tracked"] == 17
    assert store.verify() == []
    assert [path.name for path in store.root.iterdir()] == [KEY]  # no temporary folder stays


# Whole or not at all


def test_an_error_while_writing_leaves_nothing_but_the_checkpoint_and_what_is_there_removes_it(store, monkeypatch):
    mine, other = store.checkpoint(KEY), store.checkpoint("student-other")
    mine.parent.mkdir(parents=True)
    for path in (mine, other):
        path.write_bytes(b"epoch 3")

    def full(path):
        raise OSError("disk full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(rosutils.store, "checksum", full)
        put(store)
    with pytest.raises(TypeError):
        put(store, recipe={"weights": torch.zeros(1)})
    assert store.get(KEY) is None and list(store.root.iterdir()) == [mine.parent] and mine.exists()
    put(store)
    assert store.verify() == [] and not mine.exists() and other.exists()


# Damage


def read(run, file):
    name, _, kind = file.partition(".")
    return run.table(name) if kind == "csv" else run.tensors(name)


@pytest.mark.parametrize("file", ["weights.safetensors", "history.csv"])
def test_one_changed_bit_or_a_missing_file_is_found_by_reading_and_by_verify(store, file):
    run = put(store)
    put(store, "teacher-whole")
    path = run.path / file
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=rf"{path} is damaged \(its checksum differs\): delete the folder"):
        read(run, file)
    assert store.verify() == [f"{KEY}/{file} is damaged (its checksum differs)"]
    run.tensors("logits")
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        read(run, file)
    assert store.verify() == [f"{KEY}/{file} is missing"]
    with pytest.raises(InputError, match="holds no averaged.safetensors; it holds"):
        run.tensors("averaged")


# Several at once


def test_who_wants_the_same_run_waits_and_it_is_made_once(store):
    made = []

    def make(number):
        with store.lock(KEY):
            if store.get(KEY) is None:
                time.sleep(0.3)
                made.append(number)
                put(store, seed=number)

    threads = [threading.Thread(target=make, args=(number,)) for number in (1, 2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [store.get(KEY).about()["recipe"]["seed"]] == made and store.verify() == []
    with store.lock(KEY), store.lock("student-other").acquire(timeout=1):
        with pytest.raises(filelock.Timeout):
            store.lock(KEY).acquire(timeout=0.01)


TENSORS = {"w": {"x": torch.ones(2)}}


def test_a_put_overtaken_by_another_process_keeps_the_first_and_does_not_fail(tmp_path, monkeypatch):
    """Between `get` and `rename` another put may land: OSError 39, Directory not empty."""
    store = Store(tmp_path)
    first = store.put("a", recipe={"n": 1}, record={}, tensors=TENSORS)
    real, calls = Store.get, []

    def blind_at_first(self, key):
        calls.append(key)
        return None if len(calls) == 1 else real(self, key)

    monkeypatch.setattr(Store, "get", blind_at_first)
    assert store.put("a", recipe={"n": 2}, record={}, tensors=TENSORS).about() == first.about()
    assert first.about()["recipe"] == {"n": 1}


def run_json(run, **changes):
    """run.json with changes, its checksum as it was."""
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


CHANGES = [{"recipe": {"seed": 1}}, {"record": {"seconds": 2.5}}, {"released": {}}, {"more": 1}, {"checksum": "0"}]


@pytest.mark.parametrize("changes", [*CHANGES, "{", "", "[]", "{}"])
def test_a_run_json_that_is_not_as_written_is_no_run_and_verify_names_it_and_goes_on(store, changes):
    run = put(store)
    (put(store, "teacher-whole").path / "history.csv").unlink()
    if isinstance(changes, str):
        (run.path / "run.json").write_text(changes)
    else:
        run_json(run, **changes)
    assert store.get(KEY) is None and store.verify()[0].startswith(f"{KEY}/run.json is damaged")
    assert store.verify()[1:] == ["teacher-whole/history.csv is missing"]
    with pytest.raises(InputError, match="make reproduce sets its folder aside"):
        run.about()


def test_a_run_under_the_key_of_another_is_told(store):
    put(store).path.rename(store.root / "student-resnet18-fedcba9876543210")
    assert store.verify()[0].endswith("(student-resnet18-fedcba9876543210 is not the key of its recipe)")


@pytest.mark.parametrize("left", ["no run.json", "an empty run.json", "a file"])
def test_what_is_no_run_is_set_aside_and_the_run_is_made_again(store, caplog, left):
    """A crash without fsync left such folders: each time the run was made anew, then OSError, Directory not empty."""
    run = put(store, seed=1)
    (run.path / "run.json").write_bytes(b"")
    if left != "an empty run.json":
        (run.path / "run.json").unlink()
    if left in ("a file", "an empty folder"):
        shutil.rmtree(run.path)
        (run.path.mkdir if left == "an empty folder" else run.path.touch)()
    assert store.get(KEY) is None and store.verify() == [
        f"{KEY}/run.json is {'damaged' if 'empty run' in left else 'missing'}"
    ]
    again = put(store)
    assert again.tensors("weights")["bn.num_batches_tracked"] == 17 and store.verify() == []
    [aside] = (store.root / ".aside").iterdir()
    assert str(aside) in caplog.text and (aside / "logits.safetensors").exists() == (
        left in ("no run.json", "an empty run.json")
    )


def test_waste_is_what_killed_processes_left_and_what_was_set_aside(store):
    put(store)
    old = [store.root / f".{KEY}-abc", store.root / ".aside" / f"{KEY}-1"]
    old += [
        store.checkpoint(KEY),
        store.checkpoint("other").with_suffix(".partial"),
        store.checkpoint(KEY).parent / ".tmpA1b2",
    ]
    for path in old:
        path.mkdir(parents=True)
        os.utime(path, (1, 1))
    (store.root / f".{KEY}-now").mkdir()
    store.checkpoint("other").touch()
    os.utime(store.checkpoint("other"), (1, 1))
    assert sorted(store.waste()) == sorted(old), (
        "what is being written, and a checkpoint that will be resumed from, is none"
    )


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "new" / "a.json", "ä")
    assert path.read_bytes() == "ä".encode()

    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"other")
    assert path.read_bytes() == "ä".encode() and list(path.parent.iterdir()) == [path]


# A holder that is gone


HOLD = """
import sys, time
from rosutils.store import Store
with Store(sys.argv[1]).lock("a"):
    print(1, flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_process_that_was_killed_is_free(store):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(filelock.Timeout):
            store.lock("a").acquire(timeout=0.1)
        holder.kill()
    with store.lock("a").acquire(timeout=10):
        pass


def test_a_holder_that_is_heard_of_is_waited_for_and_a_silent_one_is_passed_over(store):
    """The marker of a machine that is gone stays in a shared folder and is never touched again."""
    with store.lock(KEY, patience=0.6) as held:
        with pytest.raises(filelock.Timeout):
            store.lock(KEY, patience=0.6).acquire(timeout=1.5)
        marker = Path(held.lock_file).read_text()
    Path(held.lock_file).write_text(marker.replace(socket.gethostname(), "elsewhere"))
    with store.lock(KEY, patience=0.6).acquire(timeout=10):
        pass


def test_a_lock_that_was_left_empty_is_passed_over_but_one_of_this_moment_is_waited_for(store):
    """By someone who died before the first word, or by an earlier version of the store: filelock would wait for ever."""
    lease = store.root / ".locks" / f"{KEY}.lease"
    lease.parent.mkdir(parents=True)
    for path in (lease, lease.with_suffix(".lock")):
        path.touch()
    with pytest.raises(filelock.Timeout):
        store.lock(KEY).acquire(timeout=0.2)
    os.utime(lease, (1, 1))
    with store.lock(KEY).acquire(timeout=5):
        pass
