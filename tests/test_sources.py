"""Opening a source: what decides whether it is prepared again, and what is wrong with a raw folder or its table."""

import os

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError, params
from rosutils.data import synthetic
from rosutils.data.sources import open_source, prepare


HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID\n"
ENTRIES = "Data_Entry_2017_v2020.csv"
ROWS = [f"0000000{i}_000.png,{'Mass' if i % 2 else 'No Finding'},0,{i}" for i in range(4)]


@pytest.fixture
def raw(tmp_path):
    """A folder nih/ with four small images, each of a grey and of a patient of its own."""
    return write(tmp_path / "data", [1, 2, 0, 3])


def write(root, order):
    raw = root / "nih"
    (raw / "images").mkdir(parents=True)
    table(raw, *(ROWS[i] for i in order))
    for i in order:
        Image.new("L", (20, 20), 50 * i).save(raw / "images" / f"0000000{i}_000.png")
    return raw


def table(raw, *lines, header=HEADER):
    (raw / ENTRIES).write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def load(raw, *, cache_root=None, pixels=8, **options):
    options = {"root": raw.parent, "allow_missing": False, **options}
    section = params.source({"source": "nih"})
    return open_source(section, pixels=pixels, cache_root=cache_root or raw.parent / "cache", **options)


def folders(cache_root):
    return sorted(path.name for path in cache_root.iterdir() if path.name != ".lock")


def test_what_was_prepared_is_what_opening_looks_for_and_no_image_is_read_again(raw, tmp_path, capsys, monkeypatch):
    first, card = load(raw), prepare("nih", raw=raw, pixels=8, out=tmp_path / "out")
    assert "4 images at 8 px" in capsys.readouterr().out
    monkeypatch.setattr("rosutils.data.cache.decode_chunk", None)
    for out in (raw.parent / "cache", tmp_path / "out"):
        again = load(raw, cache_root=out)
        np.testing.assert_array_equal(first.images, again.images)
        assert again.card == card == prepare("nih", raw=raw, pixels=8, out=out) and len(folders(out)) == 1


def test_images_replaced_under_the_same_names_are_noticed(raw, caplog):
    first, place = load(raw), raw / "images" / "00000002_000.png"
    before = place.stat()
    Image.new("L", (20, 20), 222).save(place)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    second = load(raw)
    assert first.images[2, 0, 0, 0] == 100 and second.images[2, 0, 0, 0] == 222 and "have changed" in caplog.text
    assert first.fingerprint != second.fingerprint and len(folders(raw.parent / "cache")) == 1


def test_images_downloaded_since_are_noticed(raw):
    last = raw / "images" / "00000003_000.png"
    content = last.read_bytes()
    last.unlink()
    assert len(load(raw, allow_missing=True).names) == 3
    last.write_bytes(content)
    assert len(load(raw, allow_missing=True).names) == 4
    assert load(raw).fingerprint == load(raw, allow_missing=True).fingerprint


def test_changed_labels_are_noticed(raw):
    first = load(raw)
    table(raw, *(row.replace("No Finding", "Nodule") for row in ROWS))
    second = load(raw)
    assert second.card["counts"]["Nodule"] == 2 and first.fingerprint != second.fingerprint


def test_the_fingerprint_depends_neither_on_paths_nor_on_the_order_of_rows_and_files(tmp_path, raw):
    other = write(tmp_path / "elsewhere", [3, 0, 1, 2])
    assert load(other).fingerprint == load(raw).fingerprint
    assert str(tmp_path) not in str(load(raw).card)


def test_two_raw_folders_with_the_same_names_do_not_share_a_cache(tmp_path, raw):
    other = write(tmp_path / "elsewhere", [0, 1, 2, 3])
    Image.new("L", (20, 20), 222).save(other / "images" / "00000000_000.png")
    assert load(raw, cache_root=tmp_path / "cache").images[0, 0, 0, 0] == 0
    assert load(other, cache_root=tmp_path / "cache").images[0, 0, 0, 0] == 222


def test_an_absent_folder_or_table_and_an_unknown_source_or_size_are_named_with_what_to_do(tmp_path, raw):
    for says, opened in (
        (r"no folder .*nowhere.*DATA=.* holds isic2019/ and nih/", lambda: load(raw, root=tmp_path / "nowhere")),
        ("nih needs raw images: DATA=", lambda: load(raw, root=None)),
        ("0 pixels", lambda: load(raw, pixels=0)),
        ("'mnist' cannot be prepared; choose one of isic2019, nih", lambda: prepare("mnist", raw=raw, pixels=8, out=tmp_path)),
        (f"there is no .*nih/{ENTRIES} .*download it", lambda: [(raw / ENTRIES).unlink(), load(raw)]),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            opened()


# One reader of tables for all sources


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read as a csv file"),
        (HEADER, "has no rows"),
        ("\x1f\x8b\x08\x00" * 9, "has no column"),
        ("image,MEL\nx,1\n", "has no column Image Index, Finding Labels, Patient ID"),
        (HEADER + "a.png,Mass,0,1\nb.png,Mass,0,1\na.png,Nodule,0,1\n", "more than once .a.png. in 2 line.s.: 2, 4"),
        (HEADER + "a.png,Mass,0,1\nb.png,Mass,0,1\n./a.png,Mass,0,1\n", "more than once .a.png. in 2 line.s.: 2, 4"),
        (HEADER + "a.png,Mass,0,1\nb.png,Mass,in,0,1\n", "not the 4 fields of its header in 1 line.s.: 3; put quotes"),
        (HEADER + "a.png,Mass\nb.png,Mass,0,1\nc.png\n", "not the 4 fields of its header in 2 line.s.: 2, 4; put quotes"),
        (HEADER + 'a.png,"Mass,0,1\n', "cannot be read as a csv file"),
        (HEADER[:-1] + ",PATIENT ID\na.png,Mass,0,1,9\n", "has 2 columns 'Patient ID'; leave one"),
        (HEADER[:-1] + ",Patient ID\na.png,Mass,0,1,9\n", "has 2 columns 'Patient ID'; leave one"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_named_with_its_lines(raw, text, says):
    (raw / ENTRIES).write_text(text)
    with pytest.raises(InputError, match=f"{ENTRIES}.*{says}"):
        load(raw)


def test_marks_spaces_empty_lines_and_trailing_commas_are_no_part_of_it_and_a_quoted_comma_is_no_border(raw):
    rows = [
        ROWS[0].replace("Finding,0", 'Finding ," 0,"'),
        ",,,",
        "",
        ROWS[1].replace(".png,", ".png , ") + ",,",
        *ROWS[2:],
    ]
    table(raw, *rows, header="\ufeff" + HEADER.replace("\n", ", ,\n"))
    found = load(raw)
    assert found.groups.tolist() == [0, 1, 2, 3] and found.card["counts"]["Mass"] == 2


@pytest.mark.parametrize("between", [";", "\t"])
def test_semicolons_or_tabs_separate_and_headers_are_compared_without_spaces_and_case(raw, between):
    header = HEADER.replace("Patient ID", " patient id ").replace("Image Index", "IMAGE INDEX").replace(",", between)
    table(raw, *(row.replace(",", between) for row in ROWS), header=header)
    assert load(raw).groups.tolist() == [0, 1, 2, 3]


# Drawn examples


def draw(cache_root, *, pixels, **options):
    section = params.source({"source": "synthetic", **options})
    return open_source(section, pixels=pixels, root=None, allow_missing=False, cache_root=cache_root)


def test_drawn_examples_are_what_the_generator_made_once_for_each_choice(tmp_path, monkeypatch):
    usual = {"modality": "dermoscopy", "examples": 6, "pixels": 16, "seed": 0}
    for choice in ({}, {"seed": 1}, {"examples": 7}, {"pixels": 17}, {"modality": "chest-film"}):
        options = usual | choice
        found, made = draw(tmp_path, **options), synthetic.make(**options)
        for name in ("images", "labels", "groups"):
            np.testing.assert_array_equal(getattr(found, name), made[name])
        assert all(getattr(found, name) == made[name] for name in ("names", "class_names", "multilabel"))
        assert found.labels.dtype == (np.float32 if found.multilabel else np.int64)
        assert found.card["options"] == options
    assert len(folders(tmp_path)) == 5 and {name.split("-")[1] for name in folders(tmp_path)} == {"16px", "17px"}
    monkeypatch.setattr(synthetic, "make", None)
    assert draw(tmp_path, **options).fingerprint == found.fingerprint
