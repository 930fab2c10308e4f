"""The store of runs: whole or not at all, checksummed, locked."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
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
from rosutils.store import Run, Store, digest, write_whole


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
    return pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25], "rate": [0.125, 2.0]})


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


@quick
@given(recipe=recipes, key=st.text(max_size=6), value=scalars)
def test_the_digest_changes_with_the_recipe(recipe, key, value):
    changed = recipe | {key: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(recipe, sort_keys=True)
    assert (digest(changed) == digest(recipe)) == same


def test_the_digest_is_sixteen_hex_digits_that_never_change():
    """SHA-256 of {"alpha":0.9,"seed":1}: a key of today must be found tomorrow, on another machine."""
    assert digest({"seed": 1, "alpha": 0.9}) == hashlib.sha256(b'{"alpha":0.9,"seed":1}').hexdigest()[:16]


def test_what_json_cannot_hold_is_no_recipe():
    with pytest.raises(TypeError):
        digest({"weights": torch.zeros(2)})


# Round trip


def test_what_was_put_is_what_is_got_bit_for_bit(store):
    put(store)
    run = store.get(KEY)
    assert run.key == KEY
    for name, expected in content().items():
        found = run.tensors(name)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
            assert bits(found[key]) == bits(value), key
    pd.testing.assert_frame_equal(run.table("history"), history())
    about = run.about()
    assert about["recipe"] == {"seed": 0, "alpha": 0.9} and about["record"] == {"seconds": 1.5}
    assert set(about["checksums"]) == {"weights.safetensors", "logits.safetensors", "history.csv"}
    assert store.verify() == []


def test_every_digit_of_a_table_survives(store):
    values = np.exp(np.random.default_rng(0).uniform(-300, 300, 5000))
    run = put(store, tables={"history": pd.DataFrame({"loss": values})})
    assert (run.table("history")["loss"].to_numpy() == values).all()


def test_a_run_that_does_not_exist_is_none(store):
    assert store.get(KEY) is None
    assert store.keys() == [] and store.verify() == []
    put(store)
    assert store.get("student-resnet18-fedcba9876543210") is None


def test_keys_are_those_of_finished_runs_sorted(store):
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


def test_a_run_may_have_no_tables(store):
    assert set(put(store, tables=None).about()["checksums"]) == {"weights.safetensors", "logits.safetensors"}


# Whole or not at all


@pytest.mark.parametrize("where", ["save_file", "checksum"])
def test_an_error_while_writing_leaves_nothing(store, monkeypatch, where):
    real, calls = getattr(rosutils.store, where), []

    def fails_the_second_time(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError("disk full")
        return real(*args)

    monkeypatch.setattr(rosutils.store, where, fails_the_second_time)
    with pytest.raises(OSError, match="disk full"):
        put(store)
    assert store.get(KEY) is None and store.keys() == []
    assert list(store.root.iterdir()) == []
    monkeypatch.undo()
    put(store)
    assert store.verify() == []


def test_a_recipe_that_json_cannot_hold_leaves_nothing(store):
    with pytest.raises(TypeError):
        put(store, recipe={"weights": torch.zeros(1)})
    assert list(store.root.iterdir()) == []


def test_the_checkpoint_is_removed_once_the_run_is_there_and_no_other(store):
    mine, other = store.checkpoint(KEY), store.checkpoint("student-other")
    assert mine != other
    mine.parent.mkdir(parents=True)
    for path in (mine, other):
        path.write_bytes(b"epoch 3")
    put(store)
    assert not mine.exists() and other.exists()


def test_the_checkpoint_stays_when_the_run_could_not_be_written(store, monkeypatch):
    path = store.checkpoint(KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"epoch 3")
    monkeypatch.setattr(rosutils.store, "save_file", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        put(store)
    assert path.exists()


# Damage


FILES = ["weights.safetensors", "logits.safetensors", "history.csv"]


def read(run, file):
    name, _, kind = file.partition(".")
    return run.table(name) if kind == "csv" else run.tensors(name)


@pytest.mark.parametrize("file", FILES)
def test_one_changed_bit_is_found_by_reading_and_by_verify(store, file):
    run = put(store)
    put(store, "teacher-whole")
    path = run.path / file
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"is damaged \(its checksum differs\): delete the folder") as error:
        read(run, file)
    assert str(run.path) in str(error.value)
    assert store.verify() == [f"{KEY}/{file} is damaged (its checksum differs)"]
    for other in set(FILES) - {file}:
        read(run, other)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_found_by_reading_and_by_verify(store, file):
    run = put(store)
    (run.path / file).unlink()
    with pytest.raises(InputError, match="is missing"):
        read(run, file)
    assert store.verify() == [f"{KEY}/{file} is missing"]


def test_the_format_on_disk_holds_no_pickle(store):
    run = put(store)
    assert {path.name for path in run.path.iterdir()} == {*FILES, "run.json"}
    for path in run.path.glob("*.safetensors"):
        raw = path.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        assert all({"dtype", "shape", "data_offsets"} <= set(entry) for entry in header.values())
    weights = Run(run.path).tensors("weights")["double"]
    assert np.array_equal(weights.numpy(), content()["weights"]["double"].numpy())


# Several at once


def test_processes_that_want_the_same_run_make_it_once(store, tmp_path):
    script = textwrap.dedent(
        """
        import sys, time, torch
        from rosutils.store import Store
        store, number = Store(sys.argv[1]), int(sys.argv[2])
        with store.lock("student-a"):
            if store.get("student-a") is None:
                open(sys.argv[3], "a").write(f"{number} ")
                time.sleep(0.3)
                tensors = {"weights": {"w": torch.full((1000,), float(number))}}
                store.put("student-a", recipe={"number": number}, record={}, tensors=tensors)
        """
    )
    log = tmp_path / "made.txt"
    command = [sys.executable, "-c", script, str(store.root)]
    processes = [subprocess.Popen([*command, str(number), str(log)]) for number in (1, 2)]
    assert [process.wait() for process in processes] == [0, 0]
    made = log.read_text().split()
    assert len(made) == 1
    run = store.get("student-a")
    assert run.about()["recipe"] == {"number": int(made[0])}
    assert (run.tensors("weights")["w"] == int(made[0])).all()
    assert store.verify() == []


def test_the_lock_of_a_run_keeps_others_out_and_no_other_run(store):
    with store.lock(KEY):
        with pytest.raises(filelock.Timeout):
            store.lock(KEY).acquire(timeout=0.01)
        with store.lock("student-other").acquire(timeout=1):
            pass
    with store.lock(KEY).acquire(timeout=1):
        pass
    assert store.keys() == []


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


@pytest.mark.parametrize("changes", CHANGES)
def test_a_changed_recipe_or_record_is_no_run_and_verify_names_it(store, changes):
    run = put(store)
    run_json(run, **changes)
    assert store.get(KEY) is None and store.verify()[0].startswith(f"{KEY}/run.json is damaged")
    with pytest.raises(InputError, match="make reproduce sets its folder aside"):
        run.about()


def test_a_run_under_the_key_of_another_is_told(store):
    put(store).path.rename(store.root / "student-resnet18-fedcba9876543210")
    assert store.verify()[0].endswith("(student-resnet18-fedcba9876543210 is not the key of its recipe)")


def test_run_json_of_an_earlier_version_is_held_against_its_key_alone(store):
    key = f"student-resnet18-{digest({'seed': 0, 'alpha': 0.9})}"
    path = put(store, key).path / "run.json"
    about = json.loads(path.read_text())
    del about["checksum"]
    path.write_text(json.dumps(about))
    assert store.get(key).about() == about and store.verify() == []
    path.write_text(json.dumps(about | {"recipe": {"seed": 1, "alpha": 0.9}}))
    assert store.get(key) is None and "is not the key of its recipe" in store.verify()[0]


@pytest.mark.parametrize("left", ["no run.json", "an empty run.json", "a file", "an empty folder"])
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


@pytest.mark.parametrize("text", ["{", "", "[]", "{}"])
def test_verify_reports_a_damaged_run_json_and_goes_on(tmp_path, text):
    store = Store(tmp_path)
    for key in "abc":
        store.put(key, recipe={}, record={}, tensors=TENSORS)
    (tmp_path / "a" / "run.json").write_text(text)
    (tmp_path / "c" / "w.safetensors").write_bytes(b"x")
    assert [problem.split(" ")[0] for problem in store.verify()] == ["a/run.json", "c/w.safetensors"]


def test_what_a_run_does_not_hold_is_an_input_error(tmp_path):
    run = Store(tmp_path).put("a", recipe={}, record={}, tensors=TENSORS)
    with pytest.raises(InputError, match="averaged"):
        run.tensors("averaged")


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


def test_a_lock_that_was_left_empty_is_passed_over(store):
    """By someone who died before the first word, or by an earlier version of the store: filelock would wait for ever."""
    folder = store.root / ".locks"
    folder.mkdir(parents=True)
    (folder / f"{KEY}.lock").touch()
    (folder / f"{KEY}.lease").touch()
    os.utime(folder / f"{KEY}.lease", (1, 1))
    with store.lock(KEY).acquire(timeout=5):
        pass


def test_an_empty_lock_of_this_moment_is_waited_for(store):
    (store.root / ".locks").mkdir(parents=True)
    (store.root / ".locks" / f"{KEY}.lease").touch()
    with pytest.raises(filelock.Timeout):
        store.lock(KEY).acquire(timeout=0.2)
