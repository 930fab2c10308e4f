"""The store of runs: whole or not at all, checksummed, locked; and what is said where the disk takes nothing."""

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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import rosutils.store
from rosutils import InputError, RunError
from rosutils.store import Store, allocate, digest, free, write_whole, writing


KEY = "student-resnet18-0123456789abcdef"
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=4), scalars, max_size=3)


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


HISTORY = pd.DataFrame({"loss": np.exp(np.random.default_rng(0).uniform(-300, 300, 500))})


def put(store, key=KEY, *, seed=0, **changes):
    options = {"recipe": {"seed": seed, "alpha": 0.9}, "record": {"seconds": 1.5}, "tensors": content(seed)}
    return store.put(key, **(options | {"tables": {"history": HISTORY}} | changes))


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).tolist() if tensor.ndim else tensor.item()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "deeper" / "store")


# Keys


@settings(max_examples=50)
@given(recipe=st.dictionaries(st.text(max_size=6), values, max_size=5), data=st.data())
def test_the_digest_does_not_depend_on_the_order_of_the_keys(recipe, data):
    shuffled = dict(data.draw(st.permutations(list(recipe.items()))))
    assert digest(shuffled) == digest(json.loads(json.dumps(recipe))) == digest(recipe)


def test_the_digest_is_sixteen_hex_digits_that_never_change():
    """SHA-256 of {"alpha":0.9,"seed":1}: a key of today must be found tomorrow, on another machine."""
    assert digest({"seed": 1, "alpha": 0.9}) == hashlib.sha256(b'{"alpha":0.9,"seed":1}').hexdigest()[:16]


# Whole or not at all


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
    pd.testing.assert_frame_equal(run.table("history"), HISTORY, check_exact=True)
    about = run.about()
    assert about["recipe"] == {"seed": 0, "alpha": 0.9} and about["record"] == {"seconds": 1.5}
    assert {"run.json", *about["checksums"]} == {path.name for path in run.path.iterdir()}, "every file has a checksum"
    assert store.verify() == []


def test_keys_are_those_of_finished_runs_sorted(store):
    assert store.get("teacher-b") is None and store.keys() == [] and store.verify() == []
    for key in ("teacher-b", "student-a", "teacher-a"):
        put(store, key)
    (store.root / ".teacher-c-half").mkdir()
    (store.root / "unfinished").mkdir()
    store.lease("teacher-d")
    assert store.keys() == ["student-a", "teacher-a", "teacher-b"]


def test_a_second_put_keeps_the_first(store):
    put(store, seed=0)
    before = (store.root / KEY / "run.json").read_bytes()
    again = put(store, seed=1)
    assert (store.root / KEY / "run.json").read_bytes() == before
    assert again.tensors("weights")["bn.num_batches_tracked"] == 17
    assert store.verify() == [] and [path.name for path in store.root.iterdir()] == [KEY]  # no temporary folder stays


def test_a_put_overtaken_by_another_process_keeps_the_first_and_does_not_fail(store, monkeypatch):
    """Between `get` and `rename` another put may land: OSError 39, Directory not empty."""
    first = put(store).about()
    real, calls = Store.get, []

    def blind_at_first(self, key):
        calls.append(key)
        return None if len(calls) == 1 else real(self, key)

    monkeypatch.setattr(Store, "get", blind_at_first)
    assert put(store, seed=1).about() == first


def full(*_):
    raise OSError("disk full")


def test_an_error_while_writing_leaves_nothing_but_the_checkpoint_and_what_is_there_removes_it(store, monkeypatch):
    mine, other = store.checkpoint(KEY), store.checkpoint("student-other")
    mine.parent.mkdir(parents=True)
    for path in (mine, other):
        path.write_bytes(b"epoch 3")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="disk full"):
        patched.setattr(rosutils.store, "checksum", full)
        put(store)
    with pytest.raises(TypeError):
        put(store, recipe={"weights": torch.zeros(1)})
    assert store.get(KEY) is None and list(store.root.iterdir()) == [mine.parent] and mine.exists()
    put(store)
    assert store.verify() == [] and not mine.exists() and other.exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "new" / "a.json", "ä")
    assert path.read_bytes() == "ä".encode()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"other")
    assert path.read_bytes() == "ä".encode() and list(path.parent.iterdir()) == [path]


def test_what_is_no_file_is_written_to_and_not_replaced_by_one(tmp_path):
    """`--out /dev/stdout`, say."""
    path, said = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: said.append(path.read_text()))
    reader.start()
    write_whole(path, "ä")
    reader.join()
    assert said == ["ä"] and path.is_fifo() and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path):
    """/dev/stdout is one, where a command's output goes to a file: it was replaced, for the whole machine."""
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "file"
    for _ in range(2):  # a dangling one first
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert write_whole(link, "ä") == link
        assert link.is_symlink() and target.read_text() == "ä" and list(target.parent.iterdir()) == [target]


# Damage


@pytest.mark.parametrize("file", ["weights.safetensors", "history.csv"])
def test_one_changed_bit_or_a_missing_file_is_found_by_reading_and_by_verify(store, file):
    run = put(store)
    put(store, "teacher-whole")
    path = run.path / file
    read = run.table if path.suffix == ".csv" else run.tensors
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=rf"{path} is damaged \(its checksum differs\): delete the folder"):
        read(path.stem)
    assert store.verify() == [f"{KEY}/{file} is damaged (its checksum differs)"]
    run.tensors("logits")
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        read(path.stem)
    assert store.verify() == [f"{KEY}/{file} is missing"]
    with pytest.raises(InputError, match="holds no averaged.safetensors; it holds"):
        run.tensors("averaged")


CHANGES = [{"recipe": {"seed": 1}}, {"record": {"seconds": 2.5}}, {"released": {}}, {"more": 1}, {"checksum": "0"}]


@pytest.mark.parametrize("changes", [*CHANGES, "{", "", "[]", "{}"])
def test_a_run_json_that_is_not_as_written_is_no_run_and_verify_names_it_and_goes_on(store, changes):
    run = put(store)
    (put(store, "teacher-whole").path / "history.csv").unlink()
    text = changes if isinstance(changes, str) else json.dumps(run.about() | changes)
    (run.path / "run.json").write_text(text)
    assert store.get(KEY) is None and store.verify()[0].startswith(f"{KEY}/run.json is damaged")
    assert store.verify()[1:] == ["teacher-whole/history.csv is missing"]
    with pytest.raises(InputError, match="make reproduce sets its folder aside"):
        run.about()


def test_a_run_under_the_key_of_another_is_told(store):
    put(store).path.rename(store.root / "student-resnet18-fedcba9876543210")
    assert store.verify()[0].endswith("(student-resnet18-fedcba9876543210 is not the key of its recipe)")


def test_a_file_without_a_checksum_is_told_and_what_a_broken_release_left_goes(store):
    run = put(store)
    weights = (run.path / "weights.safetensors").read_bytes()
    store.release(KEY)
    assert run.released and store.verify() == []
    before = (run.path / "run.json").read_bytes()
    (run.path / "weights.safetensors").write_bytes(weights)  # killed before it was deleted
    (run.path / "extra.csv").touch()
    assert store.verify() == [
        f"{KEY}/{name} is no file of that run; move it away" for name in ("extra.csv", "weights.safetensors")
    ]
    store.release(KEY)
    assert store.verify() == [f"{KEY}/extra.csv is no file of that run; move it away"]
    assert (run.path / "run.json").read_bytes() == before


@pytest.mark.parametrize("left", ["no run.json", "an empty run.json", "a file"])
def test_what_is_no_run_is_set_aside_and_the_run_is_made_again(store, caplog, left):
    """A crash without fsync left such folders: each time the run was made anew, then OSError, Directory not empty."""
    run = put(store, seed=1)
    if left == "an empty run.json":
        (run.path / "run.json").write_bytes(b"")
    elif left == "no run.json":
        (run.path / "run.json").unlink()
    else:
        shutil.rmtree(run.path)
        run.path.touch()
    state = "damaged" if left == "an empty run.json" else "missing"
    assert store.get(KEY) is None and store.verify() == [f"{KEY}/run.json is {state}"]
    again = put(store)
    assert again.tensors("weights")["bn.num_batches_tracked"] == 17 and store.verify() == []
    [aside] = (store.root / ".aside").iterdir()
    assert str(aside) in caplog.text and (aside / "logits.safetensors").exists() == (left != "a file")


def test_waste_is_what_killed_processes_left_and_what_was_set_aside(store):
    put(store)
    unfinished = store.checkpoint("other")
    old = [store.root / f".{KEY}-abc", store.root / ".aside" / f"{KEY}-1", store.checkpoint(KEY)]
    old += [unfinished.with_suffix(".partial"), unfinished.with_name(".tmpA1b2")]
    for path in (*old, unfinished):
        path.mkdir(parents=True)
        os.utime(path, (1, 1))
    (store.root / f".{KEY}-now").mkdir()
    assert sorted(store.waste()) == sorted(old), "what is being written, or will be resumed from, is none"


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
    with store.lock(KEY), store.lock("student-other"), pytest.raises(filelock.Timeout):
        store.lease(KEY).acquire(timeout=0.01)


HOLD = """
import sys, time
from rosutils.store import Store
with Store(sys.argv[1]).lock("a"):
    print(1, flush=True)
    time.sleep(60)
"""


def test_who_waits_says_once_what_for_and_the_lock_of_a_process_that_was_killed_is_free(store, caplog, monkeypatch):
    """It was silent for up to two minutes."""
    monkeypatch.setattr(rosutils.store, "SILENT", 0.1)

    def wait():
        with store.lock("a"):
            pass

    with subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        waiting = [threading.Thread(target=wait) for _ in range(2)]
        for each in waiting:
            each.start()
            each.join(0.5)
        [told] = caplog.messages
        assert f"another command that makes runs in {store.root} and holds the lock" in told
        assert "goes on by itself" in told and all(each.is_alive() for each in waiting)
        holder.kill()
    for each in waiting:
        each.join(10)
    assert not any(each.is_alive() for each in waiting)


def test_a_holder_that_is_heard_of_is_waited_for_and_a_silent_one_is_passed_over(store):
    """The marker of a machine that is gone stays in a shared folder and is never touched again."""
    with store.lease(KEY, patience=0.6) as held:
        with pytest.raises(filelock.Timeout):
            store.lease(KEY, patience=0.6).acquire(timeout=1.5)
        marker = Path(held.lock_file).read_text()
    Path(held.lock_file).write_text(marker.replace(socket.gethostname(), "elsewhere"))
    with store.lease(KEY, patience=0.6).acquire(timeout=10):
        pass


def test_a_lock_that_was_left_empty_is_passed_over_but_one_of_this_moment_is_waited_for(store):
    """By someone who died before the first word, or by an earlier version of the store: filelock would wait for ever."""
    lease = store.root / ".locks" / f"{KEY}.lease"
    lease.parent.mkdir(parents=True)
    for path in (lease, lease.with_suffix(".lock")):
        path.touch()
    with pytest.raises(filelock.Timeout):
        store.lease(KEY).acquire(timeout=0.2)
    os.utime(lease, (1, 1))
    with store.lease(KEY).acquire(timeout=5):
        pass


# The disk


def test_free_is_that_of_the_folder_that_will_hold_it(tmp_path):
    there = os.statvfs(tmp_path)
    assert abs(free(tmp_path / "not" / "yet") - there.f_bavail * there.f_frsize) < 2**30


def test_what_the_system_refuses_is_told_with_folder_and_room(tmp_path):
    with pytest.raises(RunError, match=rf"^{tmp_path} cannot be written .*No space left.*[\d,.]+ MB are free there"):
        with writing(tmp_path):
            os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    with pytest.raises(RunError, match=r"cannot be written .*os error 2"):
        with writing(tmp_path):
            save_file({"a": torch.zeros(1)}, tmp_path / "no folder" / "a.safetensors")


def test_what_is_no_matter_of_the_disk_stays_as_it_is(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SafetensorError), writing(tmp_path):
        load_file(tmp_path / "bad.safetensors")
    for error in (BrokenPipeError, ValueError):
        with pytest.raises(error), writing(tmp_path):
            raise error


def test_a_sparse_file_gets_all_its_room(tmp_path):
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(2**20)
    allocate(file)
    assert file.stat().st_blocks * 512 >= 2**20 and file.stat().st_size == 2**20
