"""Thousands of files into one array: in parallel, with every bad file told, and the same bytes after any kill."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError
from rosutils.data import cache, filling
from rosutils.data import decode as decoding
from rosutils.data.decode import decode
from rosutils.data.sources import prepare
from rosutils.params import ROOT


@pytest.fixture
def paths(tmp_path):
    """24 small grey images, each of one grey of its own."""
    (tmp_path / "files").mkdir()
    made = [tmp_path / "files" / f"{number:02d}.png" for number in range(24)]
    for number, path in enumerate(made):
        Image.new("L", (9 + number % 3, 9), 10 * number).save(path)
    return made


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of five images, and a journal however few there are."""
    monkeypatch.setattr(filling, "CHUNK_IMAGES", 5)
    monkeypatch.setattr(filling, "RESUMABLE", 1)


def fill(tmp_path, paths, **options):
    return filling.decode_all(list(map(str, paths)), 8, "L", to=tmp_path / "images.npy", title="", **options)


def count_calls(monkeypatch) -> list:
    calls = []
    real = filling.decode_into

    def counted(file, chunk, *rest):
        calls.append(chunk)
        return real(file, chunk, *rest)

    monkeypatch.setattr(filling, "decode_into", counted)
    return calls


def test_every_image_is_in_its_place(tmp_path, paths, small_chunks):
    decoded = fill(tmp_path, paths)
    images = np.load(decoded.file)
    assert images.shape == (24, 1, 8, 8) and images.dtype == np.uint8
    assert [decode(path, 8, "L")[0].tobytes() for path in paths] == [image.tobytes() for image in images]
    assert decoded.found[1] == [10, 9, "L"] and decoded.bad == {}
    assert decoded.facts(16) == {
        "shorter_side": {"smallest": 9, "largest": 9}, "enlarged": 24, "sizes": {"9x9": 8, "10x9": 8, "11x9": 8},
        "different_sizes": 3, "modes": {"L": 24},
    }  # fmt: skip


def test_many_images_are_decoded_by_several_processes_to_the_same_bytes(tmp_path, paths, monkeypatch):
    alone = np.load(fill(tmp_path, paths * 4).file)
    (tmp_path / "images.npy").unlink()
    monkeypatch.setattr(filling, "IN_PROCESS", 1)
    monkeypatch.setattr(filling, "CHUNK_IMAGES", 7)
    np.testing.assert_array_equal(np.load(fill(tmp_path, paths * 4).file), alone)


def test_every_bad_file_is_told_and_leaves_the_others_alone(tmp_path, paths):
    paths[3].write_bytes(b"")
    paths[7].write_text("<html>404</html>")
    paths[9].write_bytes(paths[10].read_bytes()[:-30])
    paths[12].unlink()
    decoded = fill(tmp_path, paths)
    assert list(decoded.bad) == [3, 7, 9, 12]
    assert "0 bytes" in decoded.bad[3] and "no image" in decoded.bad[7] and "cut off" in decoded.bad[9]
    assert "cannot be opened" in decoded.bad[12]
    filling.drop(decoded.file, list(decoded.bad))
    kept = np.load(decoded.file)
    assert kept[:, 0, 0, 0].tolist() == [10 * number for number in range(24) if number not in decoded.bad]
    assert decoded.file.stat().st_size == len(filling.npy_header(kept.shape)) + kept.size


@pytest.mark.parametrize("rows", [[], [0], [23], [0, 1, 2, 22, 23], list(range(23))])
def test_rows_are_dropped_in_place(tmp_path, rows):
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    filling.drop(tmp_path / "images.npy", rows)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), np.delete(images, rows, axis=0))


# Going on


def test_what_was_done_is_not_done_again_and_what_was_bad_or_has_changed_is(tmp_path, paths, small_chunks, monkeypatch):
    paths[6].write_bytes(b"")
    calls = count_calls(monkeypatch)
    assert list(fill(tmp_path, paths).bad) == [6] and calls == [0, 1, 2, 3, 4]
    Image.new("L", (9, 9), 255).save(paths[6])
    Image.new("L", (9, 9), 254).save(paths[22])
    calls.clear()
    decoded = fill(tmp_path, paths)
    assert calls == [1, 4] and decoded.bad == {}
    assert np.load(decoded.file)[[6, 22, 5], 0, 0, 0].tolist() == [255, 254, 50]
    calls.clear()
    again = fill(tmp_path, paths)
    assert calls == [] and again == decoded


def test_a_file_replaced_while_it_was_decoded_is_decoded_again(tmp_path, paths, small_chunks, monkeypatch):
    real = decoding.decode

    def replaced(path, pixels, mode):
        found = real(path, pixels, mode)
        if path == str(paths[7]):
            Image.new("L", (9, 9), 255).save(path)
        return found

    monkeypatch.setattr(decoding, "decode", replaced)
    fill(tmp_path, paths)
    monkeypatch.setattr(decoding, "decode", real)
    calls = count_calls(monkeypatch)
    images = np.load(fill(tmp_path, paths).file)
    assert calls == [1] and (images[7] == 255).all()


@pytest.mark.parametrize("cut", [1, 20, 300, 10**6])
def test_a_journal_that_was_being_written_counts_as_far_as_it_goes(tmp_path, paths, small_chunks, monkeypatch, cut):
    whole = np.load(fill(tmp_path, paths).file)
    journal = tmp_path / filling.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-cut])
    calls = count_calls(monkeypatch)
    np.testing.assert_array_equal(np.load(fill(tmp_path, paths).file), whole)
    assert len(calls) == {1: 0, 20: 1, 300: 2}.get(cut, 5)
    assert sorted(json.loads(line)["chunk"] for line in journal.read_text().splitlines()) == [0, 1, 2, 3, 4]


def test_pixels_that_are_not_as_noted_are_decoded_again(tmp_path, paths, small_chunks, monkeypatch):
    whole = fill(tmp_path, paths).file.read_bytes()
    (tmp_path / "images.npy").write_bytes(whole[:-1] + b"\x07")
    calls = count_calls(monkeypatch)
    assert fill(tmp_path, paths).file.read_bytes() == whole and calls == [4]


def test_an_array_of_another_shape_is_begun_anew(tmp_path, paths, small_chunks):
    fill(tmp_path, paths[:9])
    assert np.load(fill(tmp_path, paths).file).shape == (24, 1, 8, 8)


def test_few_images_leave_no_journal(tmp_path, paths):
    fill(tmp_path, paths)
    assert not (tmp_path / filling.JOURNAL).exists()


def test_a_full_disk_is_an_input_error_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(filling.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(InputError, match="GB free"):
        fill(tmp_path, [tmp_path / "none.png"] * 9)
    assert not list(tmp_path.iterdir())


# Killed


def own_folder(root, n=3000):
    """A user's folder with n small images of two classes."""
    raw = root / "mine"
    raw.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(raw / f"{number:05d}.png")
    rows = [f"{number:05d}.png,{'ab'[number % 2]}\n" for number in range(n)]
    (raw / "labels.csv").write_text("image,label\n" + "".join(rows))
    return raw


def start(raw, out):
    command = [sys.executable, "-m", "rosutils", "prepare", "folder", "--raw", raw, "--size", 24, "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        start_new_session=True,
        args=list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def contents(folder):
    [prepared] = [path for path in folder.iterdir() if path.is_dir()]
    return {path.name: path.read_bytes() for path in prepared.iterdir()}


def wait_until_it_decodes(process, out):
    while process.poll() is None and not list(out.glob(".*.building")):
        time.sleep(0.01)
    return time.monotonic()


def test_killed_at_ten_random_moments_it_ends_with_the_bytes_of_an_unbroken_run(tmp_path):
    raw, moments = own_folder(tmp_path), random.Random(4)
    process = start(raw, tmp_path / "unbroken")
    began = wait_until_it_decodes(process, tmp_path / "unbroken")
    assert b"is prepared" in process.communicate()[0]
    took = time.monotonic() - began
    for _ in range(10):
        process = start(raw, tmp_path / "broken")
        wait_until_it_decodes(process, tmp_path / "broken")
        time.sleep(moments.uniform(0, 0.6) * took)
        # The whole group: a worker that outlives its parent may wait for it for ever, with the pipe's end in its hand.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    final = start(raw, tmp_path / "broken")
    assert "3,000 images at 24 px" in final.communicate()[0].decode() and final.returncode == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
    assert sorted(path.name[0] for path in (tmp_path / "broken").iterdir()) == [".", "f"]  # the lock and the folder


@pytest.mark.parametrize("moment", ["_write", "describe", "_sync"])
def test_killed_while_the_folder_is_closed_it_goes_on_without_decoding(tmp_path, monkeypatch, small_chunks, moment):
    raw = own_folder(tmp_path, 20)
    options = {"raw": raw, "pixels": 16, "out": tmp_path / "out"}
    real = getattr(cache, moment)

    def killed(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", **options)
    monkeypatch.setattr(cache, moment, real)
    calls = count_calls(monkeypatch)
    prepare("folder", **options)
    prepare("folder", raw=raw, pixels=16, out=tmp_path / "unbroken")
    assert calls == [0, 1, 2, 3]  # those of the unbroken one
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")


def test_killed_just_before_its_renaming_a_whole_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    raw = own_folder(tmp_path, 20)
    options = {"raw": raw, "pixels": 16, "out": tmp_path / "out"}
    prepare("folder", **options)
    [made] = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
    before = contents(tmp_path / "out")
    made.rename(made.with_name(f".{made.name}.building"))
    monkeypatch.setattr(filling, "decode_into", None)
    prepare("folder", **options)
    assert contents(tmp_path / "out") == before
