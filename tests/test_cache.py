"""The prepared cache: images decoded once into a folder that is whole or absent, with the same bytes after any kill."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError
from rosutils.data import cache
from rosutils.data.card import describe
from rosutils.data.decode import decode
from rosutils.data.sources import prepare
from rosutils.params import ROOT


def arrays(n=5, *, multilabel=False):
    return {
        "images": np.random.default_rng(0).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8),
        "labels": np.eye(3, dtype=np.float32)[np.arange(n) % 3] if multilabel else np.arange(n) % 3,
        "groups": np.arange(n) // 2, "names": [f"image{i}" for i in range(n)],
        "class_names": ("a", "b", "c"), "multilabel": multilabel,
    }  # fmt: skip


def made(place, content=None):
    """A cache folder with fixed content, as it is opened again."""
    content = content or arrays()
    with cache.alone_in(place.parent):
        folder = cache.building(place)
        np.save(folder / "images.npy", content["images"])
        card = {"source": "by hand", "made_from": "files"} | describe(**content)
        cache.finish(folder, place, content, card, [("x", "no file")])
    return cache.opened(place, "files")


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_cache_returns_what_was_put_in(tmp_path, multilabel):
    content = arrays(multilabel=multilabel)
    found = made(tmp_path / "new" / "toy", content)
    for name in ("images", "labels", "groups"):
        np.testing.assert_array_equal(found[name], content[name])
    assert found["images"].dtype == np.uint8 and not found["images"].flags.writeable
    assert found["labels"].dtype == (np.float32 if multilabel else np.int64) and found["groups"].dtype == np.int64
    assert found["names"] == tuple(content["names"]) and found["class_names"] == ("a", "b", "c")
    assert found["multilabel"] is multilabel and found["fingerprint"] == cache.fingerprint_of(**content)
    assert found["card"]["counts"] == {"a": 2, "b": 2, "c": 1}
    assert found["card"]["groups"] == 3 and found["card"]["source"] == "by hand"
    assert (tmp_path / "new" / "toy" / "left_out.csv").read_text() == "name,reason\nx,no file\n"


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


DAMAGES = (os.remove, lambda path: path.write_bytes(path.read_bytes()[:-1]), flip_a_byte)
FILES = ("images.npy", "labels.npy", "groups.npy", "names.json", "card.json")


@pytest.mark.parametrize(("name", "damage"), [*product(FILES, DAMAGES)])
def test_a_damaged_cache_is_not_opened_but_made_again_with_a_message(tmp_path, caplog, name, damage):
    place = tmp_path / "toy"
    before = made(place)["fingerprint"]
    damage(place / name)
    assert cache.opened(place, "files") is None and f"{place} is prepared again: it" in caplog.text
    assert made(place)["fingerprint"] == before


def test_a_card_that_says_something_else_is_noticed_and_nothing_is_read_from_the_list_of_what_was_left_out(
    tmp_path, caplog
):
    place = tmp_path / "toy"
    card = made(place)["card"]
    for damage in (flip_a_byte, os.remove):  # it is for people: a spreadsheet may have rewritten it
        damage(place / "left_out.csv")
        assert cache.opened(place, "files")["card"] == card
    (place / "card.json").write_text(json.dumps(card | {"split": {"train": [0, 3]}}))
    assert cache.opened(place, "files") is None and "its card is damaged" in caplog.text


def test_a_cache_that_cannot_be_read_just_now_is_not_called_damaged(tmp_path, monkeypatch):
    """It would be prepared again, and the good one deleted."""
    made(tmp_path / "toy")
    monkeypatch.setattr(np, "load", Mock(side_effect=PermissionError("not now")))
    with pytest.raises(PermissionError):
        cache.opened(tmp_path / "toy", "files")


def test_one_process_prepares_at_a_time_and_the_other_waits_with_a_message(tmp_path, caplog):
    waited = []

    def second():
        with cache.alone_in(tmp_path):
            waited.append(time.monotonic())

    with caplog.at_level(logging.WARNING), cache.alone_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1.2)
        released = time.monotonic()
    thread.join()
    assert waited[0] >= released and "waiting for another process" in caplog.text


def test_a_cache_root_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot prepare data in .*file"), cache.alone_in(tmp_path / "file"):
        pass


def test_the_fingerprint_is_that_of_every_part_of_the_content_whatever_its_memory_layout():
    content = arrays(n=2500)
    other = np.asfortranarray(content["images"])
    assert cache.fingerprint_of(**content | {"images": other}) == cache.fingerprint_of(**content)
    other[2499, 0, 3, 3] ^= 1
    changes = {
        "images": other,
        "labels": np.zeros(2500),
        "groups": np.zeros(2500),
        "names": ["x"] * 2500,
        "class_names": "abd",
    }
    changed = [cache.fingerprint_of(**content | {name: value}) for name, value in changes.items()]
    assert len({cache.fingerprint_of(**content), *changed}) == 6


# Decoding into it


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """24 small grey images, each of one grey of its own, to be decoded in chunks of five."""
    monkeypatch.setattr(cache, "CHUNK_IMAGES", 5)
    (tmp_path / "files").mkdir()
    made = [tmp_path / "files" / f"{number:02d}.png" for number in range(24)]
    for number, path in enumerate(made):
        Image.new("L", (9 + number % 3, 9), 10 * number).save(path)
    return made


@pytest.fixture
def folder(tmp_path):
    """Where they are decoded into."""
    return tmp_path / ".toy-8px-key.building"


def fill(folder, paths):
    assert cache.building(folder.with_name("toy-8px-key")) == folder
    return cache.decode_all(list(map(str, paths)), 8, "L", None, folder=folder, title="")


def test_every_image_is_in_its_place_also_where_processes_decode_them(folder, paths, monkeypatch):
    monkeypatch.setattr(cache, "IN_PROCESS", 1)
    images, found = fill(folder, paths)
    assert images.shape == (24, 1, 8, 8) and images.dtype == np.uint8
    assert [decode(path, 8, "L")[0].tobytes() for path in paths] == [image.tobytes() for image in images]
    assert found[1] == (10, 9, "L", 1, None, None)


FOREIGN = (b"", b"5", b'["", [[1]]]', b"{}", b"\xff")


def notes(folder) -> list:
    """What the finished chunks left."""
    return sorted((folder / cache.DONE).iterdir())


@pytest.mark.parametrize(
    ("spoil", "again"),
    [
        (lambda folder, paths: None, []),
        (lambda folder, paths: [note.unlink() for note in notes(folder)], [0, 1, 2, 3, 4]),
        (lambda folder, paths: [note.unlink() for note in notes(folder)[2:]], [2, 3, 4]),
        (lambda folder, paths: [Image.new("L", (9, 9), 255).save(paths[number]) for number in (1, 12)], [0, 2]),
        (lambda folder, paths: [paths[1].write_bytes(b""), fill(folder, paths)], [0]),
        (lambda folder, paths: flip_a_byte(folder / "images.npy"), [4]),
        (lambda folder, paths: list(map(Path.write_bytes, notes(folder), FOREIGN)), [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_chunks_are_decoded_again_only_where_something_changed_or_was_bad(folder, paths, monkeypatch, spoil, again):
    fill(folder, paths)
    spoil(folder, paths)
    decoding = Mock(wraps=cache.decode_chunk)
    monkeypatch.setattr(cache, "decode_chunk", decoding)
    images, found = fill(folder, paths)
    assert [int(call.args[0][0][-6:-4]) // 5 for call in decoding.call_args_list] == again and len(found) == 24
    for path, image, seen in zip(paths, images, found, strict=True):
        assert isinstance(seen, str) and not image.any() or image.tobytes() == decode(path, 8, "L")[0].tobytes()


def test_an_earlier_state_of_the_same_source_is_cleared_away_and_that_of_another_is_not(tmp_path):
    for name in (".mine-8px-old.building", ".mine-9px-old.building", ".other-8px-old.building"):
        (tmp_path / name).mkdir()
    cache.building(tmp_path / "mine-8px-new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".mine-8px-new.building", ".mine-9px-old.building", ".other-8px-old.building",
    ]  # fmt: skip


def test_a_full_disk_is_an_input_error_before_anything_is_decoded(folder, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", Mock(return_value=Mock(free=100)))
    with pytest.raises(InputError, match="GB free"):
        fill(folder, ["none.png"] * 9)


# Killed


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A user's folder with 600 small images of two classes; where it was prepared undisturbed; and how long that took."""
    raw, rng = tmp_path_factory.mktemp("mine"), np.random.default_rng(0)
    for number in range(600):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(raw / f"{number:05d}.png")
    rows = [f"{number:05d}.png,{'ab'[number % 2]}\n" for number in range(600)]
    (raw / "labels.csv").write_text("image,label\n" + "".join(rows))
    began, out = time.monotonic(), tmp_path_factory.mktemp("unbroken")
    prepare("folder", raw=raw, pixels=24, out=out)
    return raw, out, time.monotonic() - began


def contents(folder):
    [prepared] = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return {path.name: path.read_bytes() for path in prepared.iterdir()}


def test_killed_at_a_random_moment_it_ends_with_the_bytes_of_an_unbroken_run(tmp_path, mine):
    (raw, unbroken, took), out = mine, tmp_path / "broken"
    command = [sys.executable, "-m", "rosutils", "prepare", "folder", "--raw", raw, "--size", "24", "--out", out]
    options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, start_new_session=True, **options)
    while process.poll() is None and not list(out.glob(".*.building")):
        time.sleep(0.01)
    time.sleep(random.Random(4).uniform(0, 0.6) * took)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    prepare("folder", raw=raw, pixels=24, out=out)
    assert contents(out) == contents(unbroken)
    assert sorted(path.name[0] for path in out.iterdir()) == [".", "f"]  # the lock and the folder


@pytest.mark.parametrize("moment", ["sources.describe", "cache.os.replace", "cache.shutil.rmtree", None])
def test_interrupted_while_the_folder_is_closed_it_is_not_there_and_ends_with_the_same_bytes(
    tmp_path, mine, monkeypatch, moment
):
    (raw, unbroken, _), out = mine, tmp_path / "out"
    monkeypatch.setattr(cache, "IN_PROCESS", 10**6)
    if moment:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"rosutils.data.{moment}", Mock(side_effect=KeyboardInterrupt))
            prepare("folder", raw=raw, pixels=24, out=out)
    else:  # between clearing its flags and its name
        shutil.copytree(unbroken, out)
        [made] = out.glob("folder-*")
        made.rename(made.with_name(f".{made.name}.building"))
    assert not list(out.glob("folder-*"))
    prepare("folder", raw=raw, pixels=24, out=out)
    assert contents(out) == contents(unbroken)
