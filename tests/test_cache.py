"""The prepared cache: what decoding does to pixels, and a folder that exists whole or not at all."""

import json
import logging
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rosutils import InputError
from rosutils.sources import cache


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


def saved(tmp_path, pixels, name="image.png", **options):
    path = tmp_path / name
    Image.fromarray(pixels).save(path, **options)
    return path


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


def test_a_full_disk_is_an_input_error_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(InputError, match="GB free"):
        cache.decode_all([tmp_path / "none.png"] * 9, 32, "L", to=tmp_path / "images.npy", title="")
    assert not list(tmp_path.iterdir())


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


@given(value=st.integers(0, 255), width=st.integers(1, 70), height=st.integers(1, 70), pixels=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_constant_image_stays_constant_at_every_size(tmp_path_factory, value, width, height, pixels):
    path = saved(tmp_path_factory.mktemp("constant"), np.full((height, width), value, np.uint8))
    image, shorter_side = cache.decode(path, pixels, "L")
    np.testing.assert_array_equal(image, np.full((1, pixels, pixels), value))
    assert shorter_side == min(width, height)


@pytest.mark.parametrize("name, options", [("image.png", {}), ("image.jpg", {"quality": 95})])
def test_resizing_averages_instead_of_skipping_pixels(tmp_path, name, options):
    checks = np.indices((512, 512)).sum(axis=0) % 2 * 200
    image, _ = cache.decode(saved(tmp_path, checks.astype(np.uint8), name, **options), 16, "L")
    # Every 32 x 32 block is half 0 and half 200; picking pixels without averaging gives 0 or 200.
    assert np.abs(image.astype(int) - 100).max() <= 2


def test_resizing_preserves_the_mean(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    image, _ = cache.decode(saved(tmp_path, noise), 32, "RGB")
    assert np.abs(image.mean(axis=(1, 2)) - noise.mean(axis=(0, 1))).max() < 1
    # Averages of about 8 x 8 independent pixels spread far less than the pixels do.
    assert image.std() < 20 < noise.std()


@pytest.mark.parametrize("turned", [False, True])
def test_the_central_square_is_kept(tmp_path, turned):
    # Bands 30 | 40 | 30 wide: the central 40 x 40 square is all 200.
    bands = np.repeat(np.array([0, 200, 90], np.uint8), [30, 40, 30])[None].repeat(40, axis=0)
    image, _ = cache.decode(saved(tmp_path, bands.T if turned else bands), 40, "L")
    np.testing.assert_array_equal(image, np.full((1, 40, 40), 200))


@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_an_image_of_the_wanted_size_is_not_touched(tmp_path, name):
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path = saved(tmp_path, noise, name)
    image, _ = cache.decode(path, 24, "RGB")
    with Image.open(path) as expected:
        np.testing.assert_array_equal(image, np.asarray(expected).transpose(2, 0, 1))


def test_colours_become_luminance_and_transparency_is_dropped(tmp_path):
    colours = np.zeros((8, 8, 4), np.uint8)
    colours[..., :3], colours[..., 3] = (200, 100, 50), 7
    luminance = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    for channels in (3, 4):
        image, _ = cache.decode(saved(tmp_path, colours[..., :channels].copy()), 8, "L")
        np.testing.assert_array_equal(image, np.full((1, 8, 8), luminance))


def test_16_bit_greys_are_scaled_and_not_clipped(tmp_path):
    greys = np.array([[0, 257, 32768, 65535]], np.uint16).repeat(4, axis=0)
    image, _ = cache.decode(saved(tmp_path, greys), 4, "L")
    np.testing.assert_array_equal(image[0], np.array([[0, 1, 128, 255]]).repeat(4, axis=0))


def test_palette_images_with_transparency_are_read_without_a_warning(tmp_path):
    image = Image.fromarray(np.full((8, 8), 1, np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, 120, 120, 120])
    image.save(tmp_path / "image.png", transparency=b"\x00\x80")
    np.testing.assert_array_equal(cache.decode(tmp_path / "image.png", 8, "L")[0], np.full((1, 8, 8), 120))


def test_grey_files_get_three_equal_channels(tmp_path):
    greys = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    image, _ = cache.decode(saved(tmp_path, greys), 16, "RGB")
    np.testing.assert_array_equal(image, greys[None].repeat(3, axis=0))


def test_every_unreadable_file_is_named_at_once(tmp_path):
    good = saved(tmp_path, np.zeros((8, 8), np.uint8), "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.png").write_text("<html>404</html>")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-30])
    names = ["empty.png", "good.png", "page.png", "cut.png", "gone.png"]
    with pytest.raises(InputError, match="4 file") as error:
        cache.decode_all([tmp_path / name for name in names], 8, "L", to=tmp_path / "images.npy", title="")
    assert [name for name in names if name in str(error.value)] == [n for n in names if n != "good.png"]


def test_a_long_list_of_unreadable_files_is_cut_and_counted(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(25)]
    with pytest.raises(InputError, match="25 file.*\n(.*\n){20}.* 5 more"):
        cache.decode_all(paths, 8, "L", to=tmp_path / "images.npy", title="")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_cut_or_altered_file_is_decoded_or_refused_and_nothing_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("altered")
    suffix = data.draw(st.sampled_from(["png", "jpg"]))
    noise = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
    content = bytearray(saved(folder, noise, f"image.{suffix}").read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    (folder / "image").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image, _ = cache.decode(folder / "image", 8, "L")
    except cache.UNREADABLE:
        return
    assert image.shape == (1, 8, 8) and image.dtype == np.uint8
