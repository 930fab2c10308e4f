"""The prepared cache: what decoding does to pixels, and a folder that exists whole or not at all."""

import json
import logging
import os
import threading

import numpy as np
import pytest

from rosutils import InputError
from rosutils.data import cache


def arrays(n=5, seed=0, *, multilabel=False):
    random = np.random.default_rng(seed)
    labels = np.eye(3, dtype=np.float32)[np.arange(n) % 3] if multilabel else np.arange(n) % 3
    return {
        "images": random.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8),
        "labels": labels,
        "groups": np.arange(n) // 2,
        "names": [f"image{i}" for i in range(n)],
        "class_names": ("a", "b", "c"),
        "multilabel": multilabel,
    }


class Fill:
    """Fills a cache folder with fixed arrays and counts how often it was asked."""

    def __init__(self, content):
        self.content, self.calls = content, 0

    def __call__(self, images_file):
        self.calls += 1
        return self.content, {"source": "by hand"}


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_cache_returns_what_was_put_in(tmp_path, multilabel):
    content = arrays(multilabel=multilabel)
    found = cache.open_or_build(tmp_path / "new" / "toy", Fill(content))
    for name in ("images", "labels", "groups"):
        np.testing.assert_array_equal(found[name], content[name])
    assert found["images"].dtype == np.uint8 and not found["images"].flags.writeable
    assert found["labels"].dtype == (np.float32 if multilabel else np.int64)
    assert found["groups"].dtype == np.int64
    assert found["names"] == tuple(content["names"]) and found["class_names"] == ("a", "b", "c")
    assert found["multilabel"] is multilabel
    assert found["card"]["counts"] == {"a": 2, "b": 2, "c": 1}
    assert found["card"]["groups"] == 3 and found["card"]["source"] == "by hand"


def test_the_card_counts_images_without_any_class(tmp_path):
    content = arrays(multilabel=True)
    content["labels"][1] = 0
    content["labels"][2] = 1
    card = cache.open_or_build(tmp_path / "toy", Fill(content))["card"]
    assert card["examples_with_no_class"] == 1
    assert card["counts"] == {"a": 3, "b": 2, "c": 1}


def test_a_whole_cache_is_not_filled_again(tmp_path):
    fill = Fill(arrays())
    first = cache.open_or_build(tmp_path / "toy", fill)
    second = cache.open_or_build(tmp_path / "toy", fill)
    assert fill.calls == 1
    assert first["fingerprint"] == second["fingerprint"] == cache.fingerprint(**arrays())
    assert cache.verify(tmp_path / "toy") is None


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("name", [*cache.FILES, "card.json"])
@pytest.mark.parametrize("damage", [os.remove, truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_filled_again_with_a_message(tmp_path, caplog, name, damage):
    fill, folder = Fill(arrays()), tmp_path / "toy"
    cache.open_or_build(folder, fill)
    damage(folder / name)
    with caplog.at_level(logging.WARNING):
        found = cache.open_or_build(folder, fill)
    assert fill.calls == 2 and "damaged" in caplog.text and str(folder) in caplog.text
    np.testing.assert_array_equal(found["images"], arrays()["images"])
    assert cache.verify(folder) is None


@pytest.mark.parametrize("name", cache.FILES[1:])
def test_an_altered_label_file_is_noticed_on_opening(tmp_path, name):
    fill, folder = Fill(arrays()), tmp_path / "toy"
    cache.open_or_build(folder, fill)
    flip_last_byte(folder / name)
    assert name in cache.verify(folder)
    cache.open_or_build(folder, fill)
    assert fill.calls == 2


def test_altered_pixels_are_noticed_by_verify_and_on_rehashing(tmp_path):
    fill, folder = Fill(arrays()), tmp_path / "toy"
    cache.open_or_build(folder, fill)
    flip_last_byte(folder / "images.npy")
    assert "images.npy" in cache.verify(folder)
    cache.open_or_build(folder, fill)
    assert fill.calls == 1
    cache.open_or_build(folder, fill, rehash=True)
    assert fill.calls == 2 and cache.verify(folder) is None


def test_a_cache_of_another_format_or_shape_is_not_trusted(tmp_path):
    fill, folder = Fill(arrays()), tmp_path / "toy"
    for key, value in (("format", -1), ("shape", [5, 1, 2, 8])):
        cache.open_or_build(folder, fill)
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(card | {key: value}))
        with pytest.raises(cache.Damaged, match="format|uint8"):
            cache.load(folder)


def test_verify_names_an_absent_folder(tmp_path):
    assert str(tmp_path / "none") in cache.verify(tmp_path / "none")


def test_an_error_or_an_interrupt_leaves_nothing_but_the_lock(tmp_path):
    for error in (ValueError, KeyboardInterrupt):

        def fail(images_file, error=error):
            images_file.write_bytes(b"half")
            raise error

        with pytest.raises(error):
            cache.open_or_build(tmp_path / "toy", fail)
        assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".other.building"
    left.mkdir()
    (left / "images.npy").write_bytes(b"half")
    cache.open_or_build(tmp_path / "toy", Fill(arrays()))
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", "toy"}


def test_two_at_once_build_it_once(tmp_path):
    fill, barrier, found = Fill(arrays()), threading.Barrier(2), []

    def slow(images_file):
        threading.Event().wait(0.2)
        return fill(images_file)

    def build():
        barrier.wait()
        found.append(cache.open_or_build(tmp_path / "toy", slow)["fingerprint"])

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fill.calls == 1 and found == [cache.fingerprint(**arrays())] * 2


def test_a_cache_root_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot prepare data in .*file"):
        cache.open_or_build(tmp_path / "file" / "toy", Fill(arrays()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["images"].__setitem__((4, 0, 3, 3), content["images"][4, 0, 3, 3] ^ 1),
        lambda content: content["labels"].__setitem__(0, 2),
        lambda content: content["groups"].__setitem__(0, 7),
        lambda content: content["names"].__setitem__(0, "other"),
        lambda content: content.update(class_names=("a", "b", "d")),
    ],
)
def test_the_fingerprint_changes_with_each_part_of_the_content(change):
    content = arrays()
    change(content)
    assert cache.fingerprint(**content) != cache.fingerprint(**arrays())


def test_the_fingerprint_reads_all_images_whatever_their_memory_layout():
    content = arrays(n=2500)
    transposed = np.asfortranarray(content["images"])
    assert cache.fingerprint(**content | {"images": transposed}) == cache.fingerprint(**content)
    transposed[2499] ^= 1
    assert cache.fingerprint(**content | {"images": transposed}) != cache.fingerprint(**content)
