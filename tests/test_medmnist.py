"""MedMNIST files, made by hand in the layout of the published ones."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from rosutils import InputError, params
from rosutils.data import make_task, nih
from rosutils.data.sources import open_source, prepare
from rosutils.params import Noise


def section(dataset):
    return params.source({"source": "medmnist", "dataset": dataset})


def write(folder, name, *, classes=7, findings=0, pixels=28):
    """The parts of 14, 4 and 6 images: in colours and of so many classes, or grey with so many findings."""
    rng, arrays = np.random.default_rng(0), {}
    for part, n in {"train": 14, "val": 4, "test": 6}.items():
        shape = (n, pixels, pixels) if findings else (n, pixels, pixels, 3)
        labels = rng.integers(0, 2, (n, findings)) if findings else np.arange(n)[:, None] % classes
        arrays[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    (folder / "medmnist").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "medmnist" / f"{name}.npz", **arrays)
    return arrays


def opened(tmp_path, dataset, pixels=28):
    how = {"root": tmp_path, "allow_missing": False, "cache_root": tmp_path / "cache"}
    return open_source(section(dataset), pixels=pixels, **how)


def test_dermamnist_keeps_images_labels_and_the_official_split(tmp_path):
    arrays = write(tmp_path, "dermamnist")
    examples = opened(tmp_path, "dermamnist")
    assert examples.images.shape == (24, 3, 28, 28) and not examples.multilabel
    assert np.array_equal(examples.images[14], arrays["val_images"][0].transpose(2, 0, 1))
    assert np.array_equal(examples.labels[18:], arrays["test_labels"][:, 0])
    task = make_task("lesion", examples, fractions=[0.7, 0.1, 0.2], noise=Noise(), seed=0)
    assert [index.tolist() for index in task.split.values()] == [list(range(14)), [14, 15, 16, 17], list(range(18, 24))]
    assert "lesion" in examples.card["note"]


def test_chestmnist_keeps_the_eight_findings_of_table_three(tmp_path):
    arrays = write(tmp_path, "chestmnist_64", findings=14, pixels=64)
    examples = opened(tmp_path, "chestmnist", pixels=64)
    assert examples.images.shape == (24, 1, 64, 64) and examples.class_names == nih.CLASS_NAMES
    assert np.array_equal(examples.labels[:14], arrays["train_labels"][:, :8])


def test_any_two_dimensional_set_is_read_with_the_packages_class_names_and_may_be_split_anew(tmp_path, monkeypatch):
    names = {str(number): f"cell {number}" for number in range(8)}
    monkeypatch.setitem(sys.modules, "medmnist", SimpleNamespace(INFO={"bloodmnist": {"label": names}}))
    write(tmp_path, "bloodmnist", classes=4)
    write(tmp_path, "retinamnist", classes=5)
    found = opened(tmp_path, "bloodmnist")
    assert found.class_names == tuple(names.values())
    assert opened(tmp_path, "retinamnist").class_names == ("0", "1", "2", "3", "4")
    anew = make_task("blood", found, fractions=[0.5, 0.25, 0.25], noise=Noise(), seed=0, split="seeded")
    assert {part: len(index) for part, index in anew.split.items()} == {"train": 12, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("array", "change", "says"),
    [
        ("train_images", lambda found: found[..., None].repeat(2, -1), "not images of a 2-D set at 28 px"),
        ("train_images", lambda found: found[:, :20, :20], "not images of a 2-D set at 28 px"),
        ("test_images", lambda found: found[..., 0], "not images of a 2-D set at 28 px in 3 channels"),
        ("val_labels", lambda found: found[:-1], "val_labels holds uint8 .3, 1. for 4 images"),
        ("val_labels", lambda found: found[:, 0], "."),
        ("val_labels", lambda found: found + 0.5, "val_labels holds float"),
        ("test_labels", lambda found: found + 7, "up to 12 for the classes AK"),
        ("test_labels", lambda found: found.astype(np.int8) - 1, "from -1 "),
        ("test_labels", lambda found: np.array([["a"]] * len(found)), "."),
        ("train_labels", lambda found: np.array([[object()]] * len(found)), "ValueError: Object arrays cannot"),
        ("train_images", lambda found: found[:0], "ValueError"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, array, change, says):
    arrays = write(tmp_path, "dermamnist")
    np.savez(tmp_path / "medmnist" / "dermamnist.npz", **arrays | {array: change(arrays[array])})
    with pytest.raises(InputError, match=f"dermamnist.npz is not a MedMNIST file .*{says}"):
        opened(tmp_path, "dermamnist")
    np.save(tmp_path / "medmnist" / "one.npy", np.zeros(3))
    (tmp_path / "medmnist" / "one.npy").rename(tmp_path / "medmnist" / "dermamnist.npz")
    with pytest.raises(InputError, match="is not a MedMNIST file .ValueError: it holds one array"):
        opened(tmp_path, "dermamnist")


def test_preparing_gives_what_opening_finds_and_a_replaced_file_is_read_again(tmp_path):
    arrays = write(tmp_path, "dermamnist")
    source = section("dermamnist")
    card = prepare("medmnist", raw=tmp_path / "medmnist", pixels=28, out=tmp_path / "cache", section=source)
    found = opened(tmp_path, "dermamnist")
    images = np.concatenate([arrays[f"{part}_images"] for part in ("train", "val", "test")])
    np.testing.assert_array_equal(found.images, images.transpose(0, 3, 1, 2))
    assert found.card == card
    arrays["train_images"][0] = 7
    np.savez(tmp_path / "medmnist" / "dermamnist.npz", **arrays)
    assert (opened(tmp_path, "dermamnist").images[0] == 7).all()


def test_a_size_that_does_not_exist_is_named_and_without_the_package_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="data.pixels is 50, but MedMNIST comes in 28, 64, 128, 224"):
        opened(tmp_path, "dermamnist", pixels=50)
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(InputError, match="dermamnist.npz does not exist; `pip install medmnist`"):
        opened(tmp_path, "dermamnist")


def test_a_download_that_fails_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    def fails(split, download, root, size):
        (tmp_path / "medmnist" / "dermamnist.npz").write_bytes(b"half")
        raise OSError("no route to host")

    package = SimpleNamespace(INFO={"dermamnist": {"python_class": "DermaMNIST"}}, DermaMNIST=fails)
    monkeypatch.setitem(sys.modules, "medmnist", package)
    with pytest.raises(InputError, match="could not be fetched .no route to host"):
        opened(tmp_path, "dermamnist")
    assert not list((tmp_path / "medmnist").iterdir())
    with pytest.raises(InputError, match="no set 'dermanist'; allowed: dermamnist"):
        opened(tmp_path, "dermanist")


def test_a_full_disk_is_not_blamed_on_the_download(tmp_path, monkeypatch):
    write(tmp_path, "dermamnist")
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: real(folder)._replace(free=100))
    with pytest.raises(InputError, match="^the prepared images need 0.0 GB"):
        opened(tmp_path, "dermamnist")


def test_a_set_of_one_class_is_refused(tmp_path):
    write(tmp_path, "dermamnist", classes=1)
    with pytest.raises(InputError, match="all 24 images are AK"):
        opened(tmp_path, "dermamnist")
