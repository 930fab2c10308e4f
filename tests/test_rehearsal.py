"""The whole way of the data at a small share of its counts; benchmarks/data_path.py does it at all 137,451 files."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from rosutils.data import isic2019, nih


@pytest.fixture(scope="module")
def data_path():
    """The benchmark as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "data_path.py"
    spec = importlib.util.spec_from_file_location("data_path", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(data_path, tmp_path_factory):
    """The two official layouts with a two-hundredth of the images."""
    folder = tmp_path_factory.mktemp("rehearsal")
    data_path.make_layouts(folder / "raw", share=1 / 200)
    return folder


def test_the_layouts_are_the_official_ones(folder):
    raw = folder / "raw"
    assert len(list((raw / "isic2019" / isic2019.FOLDERS[0]).glob("*.jpg"))) == 126
    assert len(list((raw / "isic2019" / isic2019.FOLDERS[0]).glob("*_downsampled.jpg"))) == 11
    assert [path.name for path in sorted((raw / "nih").glob("images_*"))] == [f"images_{n:03d}" for n in range(1, 13)]
    assert len(list((raw / "nih").glob("images_*/images/*.png"))) == 560


@pytest.mark.parametrize(("source", "count"), [("isic2019", 126), ("nih", 560)])
def test_every_step_is_walked_with_its_time_and_memory(data_path, folder, source, count):
    rows = data_path.rehearse(source, folder)
    assert [name.split(": ")[1] for name, *_ in rows] == [
        "prepare", "open again", "split by group", "subsets", "one epoch's batches",
    ]  # fmt: skip
    assert [images for _, images, *_ in rows[:3]] == [count] * 3
    assert all(seconds > 0 and memory < 1024 for *_, seconds, memory in rows)


def test_ways_are_compared_on_the_same_files_with_the_same_pixels(data_path, folder):
    rows = data_path.compare("nih", folder / "raw", 16, folder, 1)
    assert [row[0].split(": ")[1].split(",")[0] for row in rows] == [
        "decoded into the cache", "plain Pillow loop", "`prepare` with tables and checksums", "plain Pillow loop", "decoded",
    ]  # fmt: skip
    assert all(slow > 0 and fast > 0 and ratio == slow / fast for _, _, slow, fast, ratio in rows)
    files = sorted((folder / "raw" / "nih").glob("images_001/images/*.png"))[:5]
    ours = [data_path.decoding.decode(path, 16, "L")[0][0] for path in files]
    np.testing.assert_array_equal(data_path.plain_loop(files, 16, "L"), ours)


def test_an_images_name_among_nih_patients_is_never_repeated(folder):
    entries = (folder / "raw" / "nih" / nih.REVISIONS[2020]).read_text().splitlines()[1:]
    assert len({line.split(",")[0] for line in entries}) == 560
