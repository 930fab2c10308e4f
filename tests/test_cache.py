"""The prepared cache: images decoded once into a folder that is whole or absent, with the same bytes after any kill."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import product

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError
from rosutils.data import cache
from rosutils.data.decode import decode
from rosutils.data.sources import prepare
from rosutils.params import ROOT


FILES = ("images.npy", "labels.npy", "groups.npy", "names.json")


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
        cache.finish(folder, place, content, {"source": "by hand", "made_from": "files"}, [("x", "no file")])
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


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)


def edit(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split": {"train": [0, 3]}}))


DAMAGES = (os.remove, truncate, flip_a_byte)


@pytest.mark.parametrize(("name", "damage"), [*product(FILES, DAMAGES), ("card.json", DAMAGES[0]), ("card.json", edit)])
def test_a_damaged_cache_is_not_opened_but_made_again_with_a_message(tmp_path, caplog, name, damage):
    place = tmp_path / "toy"
    before = made(place)["fingerprint"]
    damage(place / name)
    assert cache.opened(place, "files") is None and f"{place} is prepared again: it" in caplog.text
    assert made(place)["fingerprint"] == before


def test_a_cache_that_cannot_be_read_just_now_is_not_called_damaged(tmp_path, monkeypatch):
    """It would be prepared again, and the good one deleted."""
    made(tmp_path / "toy")

    def refuse(*args, **options):
        raise PermissionError("not now")

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(PermissionError):
        cache.opened(tmp_path / "toy", "files")


def test_a_cache_of_other_files_is_made_again_with_a_message(tmp_path, caplog):
    made(tmp_path / "toy")
    assert cache.opened(tmp_path / "toy", "others") is None and "have changed" in caplog.text
    assert cache.opened(tmp_path / "none", "files") is None


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


def test_the_fingerprint_changes_with_each_part_of_the_content():
    other = arrays()["images"].copy()
    other[4, 0, 3, 3] ^= 1
    changes = [{"images": other}, {"labels": np.zeros(5)}, {"groups": np.full(5, 7)}, {"names": list("12345")}]
    found = {cache.fingerprint_of(**arrays() | change) for change in ({}, *changes, {"class_names": ("a", "b", "d")})}
    assert len(found) == 6


def test_the_fingerprint_reads_all_images_whatever_their_memory_layout():
    content = arrays(n=2500)
    transposed = np.asfortranarray(content["images"])
    assert cache.fingerprint_of(**content | {"images": transposed}) == cache.fingerprint_of(**content)
    transposed[2499] ^= 1
    assert cache.fingerprint_of(**content | {"images": transposed}) != cache.fingerprint_of(**content)


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


def fill(tmp_path, paths):
    folder = cache.building(tmp_path / "toy-8px-key")
    return cache.decode_all(list(map(str, paths)), 8, "L", None, folder=folder, title="")


def count_calls(monkeypatch) -> list:
    calls, real = [], cache.decode_chunk

    def counted(paths, *rest):
        calls.append(int(paths[0][-6:-4]) // 5)
        return real(paths, *rest)

    monkeypatch.setattr(cache, "decode_chunk", counted)
    return calls


@pytest.mark.parametrize("processes", [False, True])
def test_every_image_is_in_its_place(tmp_path, paths, monkeypatch, processes):
    monkeypatch.setattr(cache, "IN_PROCESS", 1 if processes else 10**6)
    images, found = fill(tmp_path, paths)
    assert images.shape == (24, 1, 8, 8) and images.dtype == np.uint8
    assert [decode(path, 8, "L")[0].tobytes() for path in paths] == [image.tobytes() for image in images]
    assert found[1] == (10, 9, "L", 1, None, None)


def test_every_bad_file_is_told_and_the_others_can_be_kept(tmp_path, paths):
    paths[3].write_bytes(b"")
    paths[7].write_text("<html>404</html>")
    paths[9].write_bytes(paths[10].read_bytes()[:-30])
    paths[12].unlink()
    images, found = fill(tmp_path, paths)
    bad = {number: why for number, why in enumerate(found) if isinstance(why, str)}
    assert list(bad) == [3, 7, 9, 12] and "0 bytes" in bad[3] and "no image" in bad[7] and "cut off" in bad[9]
    kept = np.setdiff1d(np.arange(24), list(bad))
    only = cache.only(tmp_path / ".toy-8px-key.building", images, kept)
    assert only[:, 0, 0, 0].tolist() == [10 * number for number in kept]
    np.testing.assert_array_equal(np.load(tmp_path / ".toy-8px-key.building" / "images.npy"), only)


@pytest.mark.parametrize("done", [0, 2])
def test_chunks_that_were_finished_are_not_decoded_again(tmp_path, paths, monkeypatch, done):
    whole = np.array(fill(tmp_path, paths)[0])
    flags = sorted((tmp_path / ".toy-8px-key.building" / cache.DONE).iterdir())
    for flag in flags[done:]:
        flag.unlink()
    calls = count_calls(monkeypatch)
    images, found = fill(tmp_path, paths)
    np.testing.assert_array_equal(images, whole)
    assert calls == list(range(done, 5)) and len(found) == 24


def test_chunks_with_files_that_changed_or_were_bad_are_decoded_again(tmp_path, paths, monkeypatch):
    paths[1].write_bytes(b"")
    fill(tmp_path, paths)
    Image.new("L", (9, 9), 255).save(paths[12])
    Image.new("L", (9, 9), 254).save(paths[1])
    calls = count_calls(monkeypatch)
    images, _ = fill(tmp_path, paths)
    assert calls == [0, 2] and (images[12] == 255).all() and (images[1] == 254).all()


@pytest.mark.parametrize("content", [b"", b"5", b'["", [[1]]]', b"{}", b"\xff", None])
def test_a_finished_chunk_whose_note_or_pixels_are_damaged_is_decoded_again(tmp_path, paths, monkeypatch, content):
    whole = np.array(fill(tmp_path, paths)[0])
    folder = tmp_path / ".toy-8px-key.building"
    if content is None:
        flip_a_byte(folder / "images.npy")
    else:
        next((folder / cache.DONE).glob("1-*")).write_bytes(content)
    calls = count_calls(monkeypatch)
    images, found = fill(tmp_path, paths)
    assert calls == [4 if content is None else 1] and len(found) == 24
    np.testing.assert_array_equal(images, whole)


def test_an_earlier_state_of_the_same_source_is_cleared_away_and_that_of_another_is_not(tmp_path):
    for name in (".mine-8px-old.building", ".mine-9px-old.building", ".other-8px-old.building"):
        (tmp_path / name).mkdir()
    cache.building(tmp_path / "mine-8px-new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".mine-8px-new.building", ".mine-9px-old.building", ".other-8px-old.building",
    ]  # fmt: skip


def test_a_full_disk_is_an_input_error_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(InputError, match="GB free"):
        fill(tmp_path, [tmp_path / "none.png"] * 9)


# Killed


def own_folder(root, n):
    """A user's folder with n small images of two classes."""
    raw, rng = root / "mine", np.random.default_rng(0)
    raw.mkdir()
    for number in range(n):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(raw / f"{number:05d}.png")
    rows = [f"{number:05d}.png,{'ab'[number % 2]}\n" for number in range(n)]
    (raw / "labels.csv").write_text("image,label\n" + "".join(rows))
    return raw


def contents(folder):
    [prepared] = [path for path in folder.iterdir() if path.is_dir()]
    return {path.name: path.read_bytes() for path in prepared.iterdir()}


def test_killed_at_a_random_moment_it_ends_with_the_bytes_of_an_unbroken_run(tmp_path):
    raw, out = own_folder(tmp_path, 1200), tmp_path / "broken"
    run = partial(prepare, "folder", raw=raw, pixels=24)
    began = time.monotonic()
    run(out=tmp_path / "unbroken")
    took = time.monotonic() - began
    script = tmp_path / "prepare.py"
    call = f"    prepare('folder', raw=Path({str(raw)!r}), pixels=24, out=Path({str(out)!r}))"
    imports = "from pathlib import Path\nfrom rosutils.data.sources import prepare\n"
    script.write_text(f"{imports}if __name__ == '__main__':\n{call}\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, **options)
    while process.poll() is None and not list(out.glob(".*.building")):
        time.sleep(0.01)
    time.sleep(random.Random(4).uniform(0, 0.6) * took)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(out=out)
    assert contents(out) == contents(tmp_path / "unbroken")
    assert sorted(path.name[0] for path in out.iterdir()) == [".", "f"]  # the lock and the folder


@pytest.mark.parametrize("moment", ["describe", "os.replace", "shutil.rmtree", None])
def test_interrupted_while_the_folder_is_closed_it_is_not_there_and_ends_with_the_same_bytes(
    tmp_path, monkeypatch, moment
):
    raw = own_folder(tmp_path, 20)
    run = partial(prepare, "folder", raw=raw, pixels=16)
    run(out=tmp_path / "unbroken")

    def killed(*arguments, **keywords):
        raise KeyboardInterrupt

    if moment:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"rosutils.data.cache.{moment}", killed)
            run(out=tmp_path / "out")
    else:  # between clearing its flags and its name
        run(out=tmp_path / "out")
        [made] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
        made.rename(made.with_name(f".{made.name}.building"))
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    run(out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")
