"""A user's own folder: images at any depth and a csv file, one label or several, and messages one can act on."""

import shutil
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image
from test_decode import dicom

from rosutils import InputError, params
from rosutils.data import make_task
from rosutils.data.sources import open_source, prepare, split_lists
from rosutils.data.splits import PARTS


def write(root, rows, header="image,label,group", files=None):
    root.mkdir(exist_ok=True)
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    for number, name in enumerate(files if files is not None else [row.split(",")[0] for row in rows]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 24), (10 * number, 0, 200)).save(root / name)
    return root


def numbered(count, suffix="png"):
    """Rows of so many images, of two classes in turn."""
    return [f"{number}.{suffix},{'xy'[number % 2]}" for number in range(count)]


def load(root, *, allow_missing=False, skip_bad=False, **options):
    section = params.source({"source": "folder", **options})
    flags = {"allow_missing": allow_missing, "skip_bad": skip_bad}
    return open_source(section, pixels=16, root=root, cache_root=root.parent / "cache", **flags)


ROWS = ["b.png,nevus,p1", "deep/er/a.png,melanoma,p2", "deep/c.jpg,nevus,p2", "d.bmp,keratosis,", "e.tif,nevus,"]


def test_one_label_for_each_image_at_any_depth(tmp_path, caplog):
    found = load(write(tmp_path / "mine", ROWS))
    assert "2 of 5 images have no group: each of these is a group of its own" in caplog.text
    assert found.names == ("b.png", "d.bmp", "deep/c.jpg", "deep/er/a.png", "e.tif")
    assert found.class_names == ("keratosis", "melanoma", "nevus") and not found.multilabel
    assert found.labels.tolist() == [2, 0, 2, 1, 2] and found.labels.dtype == np.int64
    assert found.images.shape == (5, 3, 16, 16)
    np.testing.assert_allclose(found.images[:, 0, 8, 8].astype(int), [0, 30, 20, 10, 40], atol=3)
    groups = found.groups.tolist()
    assert groups[2] == groups[3] and len(set(groups)) == 4
    assert found.card["options"]["grouped_by"] == "group" and found.card["source"] == "folder"


def test_several_labels_in_columns_of_their_own(tmp_path):
    root = write(tmp_path / "mine", ["a.png,1,0,x", "b.png,0,0,y", "c.png,1,1.0,x"], "image,mass,effusion,patient")
    found = load(root, labels=["effusion", "mass"], group="patient", grey=True)
    assert found.multilabel and found.class_names == ("effusion", "mass")
    assert found.labels.tolist() == [[0, 1], [0, 0], [1, 1]] and found.labels.dtype == np.float32
    assert found.images.shape == (3, 1, 16, 16) and found.card["examples_with_no_class"] == 1
    assert found.groups.tolist() == [0, 1, 0] and found.card["options"]["grouped_by"] == "patient"


def test_names_are_found_by_path_file_name_or_stem(tmp_path):
    absolute, other = str(tmp_path / "mine" / "b.png"), "L\u00e4sion.png"
    files = ["x/one.png", "y/two.png", "z/three.jpg", "z/one.png", "b.png", unicodedata.normalize("NFD", other)]
    names = ["x/one.png", "two.png", "three", "./z/one.png", absolute, other]
    rows = [f"{name},{'ab'[number % 2]}" for number, name in enumerate(names)]
    found = load(write(tmp_path / "mine", rows, "image,label", files))
    assert sorted(found.names, key=names.index) == names
    assert [names.index(name) for name in found.names] == (found.images[:, 0, 8, 8] // 10).tolist()
    write(tmp_path / "mine", [*rows, "y/two,b"], "image,label", [])
    with pytest.raises(InputError, match="names the file y/two.png twice, two.png and y/two; keep one"):
        load(tmp_path / "mine")


def test_class_names_that_are_numbers_are_in_their_order_and_without_groups_each_image_is_its_own(tmp_path):
    found = load(write(tmp_path / "mine", ["a.png,10", "b.png,9", "c.png,2"], "image,label"))
    assert found.class_names == ("2", "9", "10") and found.labels.tolist() == [2, 1, 0]
    assert found.groups.tolist() == [0, 1, 2] and found.card["options"]["grouped_by"] == "image"


@pytest.mark.parametrize(
    ("header", "rows", "options", "says"),
    [
        ("image,diagnosis", ["a.png,x"], {}, "has no column label, it has 'image', 'diagnosis'; name the columns"),
        ("image,label", ["a.png,x", "b.png,y"], {"group": "who"}, "has no column who"),
        ("image,label", ["a.png,x", "b.png,x"], {}, "all images have the label 'x'; two are needed"),
        ("image,label", ["a.png,x", "b.png,", "c.png,y", "d.png,"], {}, "no label in 2 line.s.: 3, 5"),
        ("image,a,b", ["a.png,1,0", "b.png,2,0", "c.png,0,"], {"labels": ["a", "b"]}, "neither 0 nor 1 in a in 1 .*: 3"),
        ("image,x", ["a.png,1", "b.png,2"], {"label": "x", "group": "x"}, "names the column 'x' for two purposes"),
        ("image,x", ["a.png,1", "b.png,2"], {"labels": ["x", "X"]}, "names the column 'x' for two purposes"),
        ("image,a,b", ["a.png,1,0", "b.png,1,1"], {"labels": ["a", "b"], "one_hot": True}, "not exactly one 1 in a, b .*: 3"),
        ("image,label", ["a.png,x", ",y"], {}, "labels.csv has no image in 1 line.s.: 3"),
        ("image,label", ["a.png,x"], {"table": "l.csv"}, "there is no .*l.csv with the columns image, label; name"),
        ("image,label", ["a.png,x"], {"path": "in"}, "no folder .*must be your folder, the one with the csv file"),
        ("image,a,b", ["a.png,1,0", "b.png,1,0"], {"labels": ["a", "b"], "one_hot": True}, "all 2 images are a; images of two"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_explained(tmp_path, header, rows, options, says):
    with pytest.raises(InputError, match=says):
        load(write(tmp_path / "mine", rows, header, files=["a.png", "b.png", "c.png", "d.png"]), **options)


def test_names_without_a_file_and_files_without_a_name_are_listed_all_at_once(tmp_path, caplog):
    files = ["1.png", "2.png", "in/4.png", "in/other.png", "._1.png"]  # the last as macOS leaves it
    root = write(tmp_path / "mine", [*numbered(7), "z.png,z"], "image,label", files)
    missing = r"5 of 8 images .* missing \(first: 0.png\): 0.png, 3.png, 5.png, 6.png, z.png; "
    with pytest.raises(InputError, match=f"{missing}.*--allow-missing.* the 3 present"):
        load(root)
    assert not (tmp_path / "cache").exists()
    found = load(root, allow_missing=True)
    assert found.names == ("1.png", "2.png", "4.png") and found.class_names == ("x", "y"), "those that are there"
    assert found.card["raw"]["missing"] == 5 and found.card["raw"]["without_row"] == 1
    assert "1 images have no row in the table and are left out" in caplog.text
    [left_out] = (tmp_path / "cache").glob("*/left_out.csv")
    told = "".join(f"{name}.png,no file\n" for name in "0356z")
    assert left_out.read_text() == f"name,reason\n{told}in/other.png,no row in the table\n"
    (root / "1.png").unlink()
    with pytest.raises(InputError, match="all images have the label 'x'; two are needed"):
        load(root, allow_missing=True)
    (root / "1.png").symlink_to("/nonexistent/object")
    shutil.copytree(root / "in", root / "again")
    with pytest.raises(InputError, match=f"{missing}.*4.png is there twice.*1 file.s. are empty, 0 bytes: 1.png"):
        load(root)


def test_a_long_list_of_missing_files_is_in_a_file_that_the_message_names(tmp_path):
    root = write(tmp_path / "mine", numbered(50), "image,label", [])
    with pytest.raises(InputError, match="50 of 50 .*all of them listed in .*mine-missing.txt; no image was found"):
        load(root, allow_missing=True)
    assert len((tmp_path / "cache" / "mine-missing.txt").read_text().splitlines()) == 50
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="50 of 50 .*and 30 more; no image was found; download the images into"):
        load(root)


def test_bad_files_are_all_named_and_left_out_if_one_decides_so(tmp_path):
    root = write(tmp_path / "mine", numbered(8), "image,label")
    whole = (root / "3.png").read_bytes()
    (root / "1.png").write_bytes(b"")
    (root / "3.png").write_bytes(whole[:60])
    (root / "6.png").write_text("<html>404</html>")
    with pytest.raises(InputError, match="(?s)^3 file.* are not readable images.*skip_bad.*1.png.*3.png.*6.png"):
        load(root)
    assert not list((tmp_path / "cache").glob("folder*"))
    found = load(root, skip_bad=True)
    assert found.names == tuple(f"{i}.png" for i in (0, 2, 4, 5, 7)) and found.labels.tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(found.images[:, 0, 8, 8].astype(int), [0, 20, 40, 50, 70], atol=3)
    assert found.card["raw"]["unreadable"] == 3 and found.card["examples"] == 5
    [left_out] = (tmp_path / "cache").glob("*/left_out.csv")
    assert left_out.read_text().splitlines()[1:] == [
        '1.png,"it is empty, 0 bytes"', "3.png,it is cut off after 60 bytes",
        "6.png,\"it is no image, 16 bytes that begin with b'<html>404</html>' (read are BMP, GIF, JPEG, PNG, TIFF, WEBP)\"",
    ]  # fmt: skip
    for bad, says in (((5, 7), "all 3 images are x; images of two classes are needed"), (range(8), "8 file")):
        for place in bad:
            (root / f"{place}.png").write_bytes(b"")
        with pytest.raises(InputError, match=says):
            load(root, skip_bad=True)


def test_what_was_left_out_is_not_left_out_where_nothing_may_be_and_repaired_files_come_back(tmp_path, caplog):
    root = write(tmp_path / "mine", numbered(8), "image,label")
    good = (root / "3.png").read_bytes()
    (root / "3.png").write_bytes(b"")
    options = {"raw": root, "pixels": 16, "out": tmp_path / "cache"}
    assert prepare("folder", **options, skip_bad=True)["examples"] == 7
    assert len(load(root, skip_bad=True).names) == 7 and "1 unreadable file(s) are left out" in caplog.text
    for opened in (lambda: prepare("folder", **options), lambda: load(root)):
        with pytest.raises(InputError, match="3.png: it is empty"):
            opened()
    (root / "3.png").write_bytes(good)
    assert len(load(root, skip_bad=True).names) == 8 == len(load(root).names)


def test_of_several_files_that_a_name_fits_the_first_is_taken_only_if_they_are_equal(tmp_path):
    root = write(tmp_path / "mine", ["one.png,a", "two.png,b"], "image,label", ["x/one.png", "y/one.png", "two.png"])
    for skip_bad in (False, True):
        with pytest.raises(InputError, match=r"one.png is there twice.*x/one.png and .*y/one.png.*--skip-bad"):
            load(root, skip_bad=skip_bad)
    (root / "y" / "one.png").unlink()
    (root / "y" / "one.png").symlink_to("/nonexistent/object")
    with pytest.raises(InputError, match="one.png is there twice"):
        load(root, skip_bad=True)
    (root / "y" / "one.png").unlink()
    (root / "y" / "one.png").write_bytes((root / "x" / "one.png").read_bytes())
    raw = load(root, skip_bad=True).card["raw"]
    assert (raw["named_twice"], raw["without_row"]) == (1, 0)
    with pytest.raises(InputError, match="one.png is there twice"):
        load(root)


# What goes wrong without a word elsewhere


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["Melanoma", "melanoma", "nevus"], "Melanoma / melanoma"),
        (["1", "1.0", "2"], "1 / 1.0"),
        (["a b", "ab", "c"], "a b / ab"),
        (["n\u00e6vus \u00e9", "n\u00e6vus e\u0301", "c"], "n\u00e6vus \u00e9 / n\u00e6vus e\u0301"),
        (["9" * 5000, "8", "c"], ""),
    ],
)
def test_a_class_in_two_spellings_or_without_a_name_is_told(tmp_path, caplog, labels, told):
    load(write(tmp_path / "mine", [f"{number}.png,{label}" for number, label in enumerate(labels)], "image,label"))
    what = "the column label has values that look like one in several spellings, or like none: "
    assert what + told in caplog.text if told else what not in caplog.text


def test_doubts_about_groups_pages_and_one_hot_columns_are_told_when_it_is_prepared(tmp_path, caplog):
    root = write(tmp_path / "mine", ["a.png,1,0", "b.png,0,1", "c.tif,1,0"], "image,x,y")
    pages = [Image.new("L", (20, 20), level) for level in (0, 90)]
    pages[0].save(root / "c.tif", save_all=True, append_images=pages[1:])
    assert load(root, labels=["x", "y"]).multilabel
    doubts = "every image is a group of its own", "1 files have several pages: the first is used", "one_hot: true"
    assert all(doubt in caplog.text for doubt in doubts)
    write(root, ["a.png,1,0,0", "b.png,0,1,0", "c.tif,1,0,0"], "image,x,y,z", [])
    single = load(root, labels=["x", "y", "z"], one_hot=True)
    assert not single.multilabel and single.class_names == ("x", "y", "z") and single.labels.tolist() == [0, 1, 0]
    assert "no image is of the class z" in caplog.text


def deep(root, values):
    """A user's folder of 16-bit greys."""
    write(root, numbered(4), "image,label")
    for number in range(4):
        greys = np.linspace(*values, 400).reshape(20, 20).round()
        Image.fromarray(greys.astype(np.uint16)).save(root / f"{number}.png")
    return root


def test_deep_greys_that_fill_a_small_part_of_their_range_need_a_window(tmp_path):
    root = deep(tmp_path / "mine", (0, 4095))
    with pytest.raises(InputError, match=r"greys from 0 to 4,095 of 0 to 65,535.*window: \[0, 4095\]"):
        load(root, grey=True)
    found = load(root, grey=True, window=[0, 4095]).images
    assert found.min() < 10 and found.max() > 245 and len(np.unique(found)) > 150
    Image.new("L", (20, 20), 9).save(root / "3.png")
    with pytest.raises(InputError, match="is for 16-bit images, but 1 have 8 bits"):
        load(root, grey=True, window=[0, 4095])
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(root / "3.png")
    with pytest.raises(InputError, match=r"greys from 0 to 4,095 .*window: \[0, 4095\]"):  # beside one of 16 bits
        load(root, grey=True)
    root = deep(tmp_path / "whole", (0, 65535))
    assert load(root, grey=True).images.max() > 245
    Image.new("L", (20, 20), 9).save(root / "3.png")
    with pytest.raises(InputError, match="3 images have 16 bits, but 1 have 8 bits: save all of them alike"):
        load(root, grey=True)


@pytest.mark.parametrize(
    ("on_disk", "named", "says"),
    [
        ("{}.png", "{}.jpg", "there is 0.png: correct the names"),
        ("{}.jpg", "{}.JPG", "there is 0.jpg"),
        ("{}.png", "mine/{}.png", "there is 0.png"),
        ("{}.jp2", "{}.jp2", "there is 0.jp2.* save the images as .png"),
    ],
)
def test_an_image_that_lies_there_under_nearly_its_name_is_told(tmp_path, on_disk, named, says):
    root = write(tmp_path / "mine", [f"{named.format(i)},{'xy'[i % 2]}" for i in range(4)], "image,label", [])
    for number in range(4):
        Image.new("RGB", (20, 20)).save(root / on_disk.format(number), format="PNG")
    with pytest.raises(InputError, match=f"4 of 4 images .*{says}"):
        load(root)


@pytest.mark.parametrize(
    ("header", "options", "groups"),
    [
        ("image,label, group", {}, [0, 0, 1]),
        ("Image,LABEL,Group", {}, [0, 0, 1]),
        ("image,group", {"label": "group"}, [0, 1, 2]),
        ("image,Group", {"label": "group"}, [0, 1, 2]),
        ("file,label,image", {"image": "file", "group": "image"}, [0, 0, 1]),
        ("image,malignant?,group", {"label": "malignant?"}, [0, 0, 1]),
    ],
)
def test_a_column_is_what_the_source_says_whatever_its_name_case_and_spaces(tmp_path, header, options, groups):
    rows = [row[: 5 + 2 * header.count(",")] for row in ("a.png,x,p", "b.png,y,p", "c.png,x,q")]
    found = load(write(tmp_path / "mine", rows, header, ["a.png", "b.png", "c.png"]), **options)
    assert found.class_names == ("x", "y") and found.labels.tolist() == [0, 1, 0] and found.groups.tolist() == groups
    alone = found.card["options"]["grouped_by"] == "image"
    assert alone == (groups == [0, 1, 2]), "a group column called image is one"


def test_the_folder_is_the_same_however_it_is_called(tmp_path, monkeypatch, caplog):
    root = write(tmp_path / "mine", ["a.png,x", "b.png,y"], "image,label")
    load(root)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(root)
    (root / "up").symlink_to(tmp_path / "link")  # is walked once
    options = {"pixels": 16, "allow_missing": False, "cache_root": tmp_path / "cache"}
    for name in ("mine", "link"):
        open_source(params.source({"source": "folder"}), root=name, **options)
    assert "prepared again" not in caplog.text and len(list((tmp_path / "cache").glob("*/card.json"))) == 1


def test_ham10000_is_read_as_kaggle_has_it_also_with_each_folder_twice(tmp_path):
    names = [f"ISIC_{number:07d}" for number in range(6)]
    rows = [f"HAM_{number // 2},{name},{('nv', 'mel')[number % 2]},histo" for number, name in enumerate(names)]
    files = [f"HAM10000_images_part_{1 + number // 3}/{name}.jpg" for number, name in enumerate(names)]
    root = write(tmp_path / "mine", rows, "lesion_id,image_id,dx,dx_type", files)
    options = {"image": "image_id", "label": "dx", "group": "lesion_id"}
    found = load(root, **options)
    assert found.names == tuple(names) and found.groups.tolist() == [0, 0, 1, 1, 2, 2]
    for part in (1, 2):
        shutil.copytree(root / f"HAM10000_images_part_{part}", root / f"ham10000_images_part_{part}")
    shutil.rmtree(tmp_path / "cache")
    raw = load(root, skip_bad=True, **options).card["raw"]
    assert (raw["named_twice"], raw["without_row"]) == (6, 0)


def test_dicom_files_are_read_or_one_line_says_what_reads_them(tmp_path, monkeypatch):
    root = write(tmp_path / "mine", numbered(4, "dcm"), "image,label", [])
    for number in range(4):
        greys = np.full((20, 20), 1000 + 200 * number, np.uint16)
        dicom(root / f"{number}.dcm", greys, WindowCenter=1300, WindowWidth=1000)
    found = load(root, grey=True)
    levels = found.images[:, 0, 8, 8].astype(int)
    np.testing.assert_allclose(levels, [(200 + 200 * n) / 1000 * 255 for n in range(4)], atol=1)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match="holds DICOM files: .*pip install 'pydicom"):
        load(root, grey=True)


def test_equal_pixels_are_found_and_told_with_groups_and_labels(tmp_path, caplog):
    root = write(tmp_path / "mine", [f"{n}.png,{label},{group}" for n, label, group in ("ax1", "bx2", "cy1", "dx3")])
    for one, other in ("ac", "bd"):
        shutil.copy(root / f"{one}.png", root / f"{other}.png")
    card, listed = load(root).card, [["a.png", "c.png"], ["b.png", "d.png"]]
    assert card["duplicates"] == {"sets": 2, "images": 4, "across_groups": 1, "across_labels": 1, "listed": listed}
    assert card["intensity"]["flat"] == 0 and "the very same pixels are in several groups 1 times" in caplog.text


def test_lists_of_a_split_are_found_in_ones_own_folder(tmp_path):
    root = write(tmp_path / "mine", numbered(8), "image,label")
    for part, numbers in {"train": range(5), "validation": [5], "test": [6, 7]}.items():
        (root / f"{part}.txt").write_text("".join(f"{i}.png\n" for i in numbers))
    section = params.source({"source": "folder", "lists": {part: f"{part}.txt" for part in PARTS}})
    lists = split_lists(section, root)
    assert lists["test"] == root / "test.txt"
    task = make_task("mine", load(root), fractions=[0.7, 0.1, 0.2], noise=params.Noise(), seed=0, lists=lists)
    assert {part: len(index) for part, index in task.split.items()} == {"train": 5, "validation": 1, "test": 2}
    elsewhere = params.source({"source": "folder", "lists": {part: str(tmp_path / part) for part in PARTS}})
    assert split_lists(elsewhere, root)["train"] == tmp_path / "train"
