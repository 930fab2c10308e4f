"""Opening a source: what decides whether it is prepared again, and what is wrong with a raw folder."""

import os

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError, params
from rosutils.data import synthetic
from rosutils.data.sources import open_source, prepare


HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID\n"
ENTRIES = "Data_Entry_2017_v2020.csv"


@pytest.fixture
def raw(tmp_path):
    """A folder nih/ with four small images, one of them of the second patient."""
    return write(tmp_path / "data", [1, 2, 0, 3])


def write(root, order):
    raw = root / "nih"
    (raw / "images").mkdir(parents=True)
    rows = [f"0000000{i}_000.png,{'Mass' if i % 2 else 'No Finding'},0,{i}\n" for i in order]
    (raw / ENTRIES).write_text(HEADER + "".join(rows))
    for i in order:
        Image.new("L", (20, 20), 50 * i).save(raw / "images" / f"0000000{i}_000.png")
    return raw


def load(raw, *, cache_root=None, pixels=8, **options):
    options = {"root": raw.parent, "allow_missing": False, **options}
    section = params.source({"source": "nih"})
    return open_source(section, pixels=pixels, cache_root=cache_root or raw.parent / "cache", **options)


def draw(cache_root, *, modality="dermoscopy", examples=6, seed=0, pixels=16):
    section = params.source({"source": "synthetic", "modality": modality, "examples": examples, "seed": seed})
    return open_source(section, pixels=pixels, root=None, allow_missing=False, cache_root=cache_root)


def without_reading(monkeypatch):
    """Any file that is decoded from now on is an error."""
    monkeypatch.setattr("rosutils.data.cache.decode_chunk", None)


def folders(cache_root):
    return sorted(path.name for path in cache_root.iterdir() if path.name != ".lock")


def test_opening_again_reads_no_image(raw, monkeypatch):
    first = load(raw)
    without_reading(monkeypatch)
    second = load(raw)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.fingerprint == second.fingerprint and len(folders(raw.parent / "cache")) == 1


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
    (raw / ENTRIES).write_text((raw / ENTRIES).read_text().replace("No Finding", "Nodule"))
    second = load(raw)
    assert second.card["counts"]["Nodule"] == 2 and first.fingerprint != second.fingerprint


def test_the_fingerprint_depends_neither_on_paths_nor_on_the_order_of_rows_and_files(tmp_path, raw):
    other = write(tmp_path / "elsewhere", [3, 0, 1, 2])
    assert load(other).fingerprint == load(raw).fingerprint
    assert str(tmp_path) not in str(load(raw).card)


def test_two_raw_folders_with_the_same_names_do_not_share_a_cache(tmp_path, raw):
    other = write(tmp_path / "elsewhere", [0, 1, 2, 3])
    Image.new("L", (20, 20), 222).save(other / "images" / "00000000_000.png")
    shared = tmp_path / "cache"
    assert load(raw, cache_root=shared).images[0, 0, 0, 0] == 0
    assert load(other, cache_root=shared).images[0, 0, 0, 0] == 222


def test_altered_pixels_are_noticed_and_prepared_again(raw, caplog):
    first = load(raw)
    images = raw.parent / "cache" / folders(raw.parent / "cache")[0] / "images.npy"
    content = images.read_bytes()
    images.write_bytes(content[:-1] + b"\x07")
    assert load(raw).fingerprint == first.fingerprint and "damaged" in caplog.text
    assert images.read_bytes() == content


def test_files_that_are_no_images_are_named_and_nothing_is_taken_as_whole(raw):
    for name, content in (("00000001_000.png", b""), ("00000002_000.png", b"<html>too many requests</html>")):
        (raw / "images" / name).write_bytes(content)
    with pytest.raises(InputError, match="(?s)2 file.*00000001_000.png.*00000002_000.png"):
        load(raw)
    assert [name for name in folders(raw.parent / "cache") if not name.startswith(".")] == []


def test_preparing_gives_the_folder_that_opening_looks_for(tmp_path, raw, capsys, monkeypatch):
    card = prepare("nih", raw=raw, pixels=8, out=tmp_path / "out")
    assert "4 images at 8 px" in capsys.readouterr().out
    without_reading(monkeypatch)
    assert load(raw, cache_root=tmp_path / "out").card == card
    assert prepare("nih", raw=raw, pixels=8, out=tmp_path / "out") == card


def test_an_absent_folder_is_named_with_what_to_do(tmp_path, raw):
    with pytest.raises(InputError, match=r"no folder .*nowhere.*DATA=.* holds isic2019/ and nih/"):
        load(raw, root=tmp_path / "nowhere")
    with pytest.raises(InputError, match="nih needs raw images: DATA="):
        load(raw, root=None)


def test_an_absent_label_file_is_named(raw):
    (raw / ENTRIES).unlink()
    with pytest.raises(InputError, match=f"there is no .*nih/{ENTRIES} .*download it"):
        load(raw)


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("", "cannot be read as a csv file"),
        (HEADER, "has no rows"),
        ("\x1f\x8b\x08\x00" * 9, "has no column"),
        ("image,MEL\nx,1\n", "has no column Image Index, Finding Labels, Patient ID"),
        (HEADER + "a.png,Mass,0,1\nb.png,Mass,0,1\na.png,Nodule,0,1\n", "more than once .a.png. in 2 line.s.: 2, 4"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_named(raw, text, wrong):
    (raw / ENTRIES).write_text(text)
    with pytest.raises(InputError, match=f"{ENTRIES}.*{wrong}"):
        load(raw)


def test_a_byte_order_mark_and_spaces_are_no_part_of_names(raw):
    text = (raw / ENTRIES).read_text().replace(",No Finding,", ", No Finding ,").replace("_000.png,", "_000.png ,")
    (raw / ENTRIES).write_text("\ufeff" + text, encoding="utf-8")
    assert load(raw).card["counts"]["Mass"] == 2


def test_unknown_sources_and_sizes_are_refused(tmp_path, raw):
    with pytest.raises(InputError, match="'mnist' cannot be prepared; choose one of isic2019, nih"):
        prepare("mnist", raw=raw, pixels=8, out=tmp_path / "out")
    with pytest.raises(InputError, match="0 pixels"):
        load(raw, pixels=0)


# One reader of tables for all sources


def table(raw, *lines, header=HEADER):
    (raw / ENTRIES).write_text(header + "".join(f"{line}\n" for line in lines))


ROWS = [f"0000000{i}_000.png,Mass,0,{i}" for i in range(4)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({1: "00000001_000.png,Mass,unquoted,0,1"}, "not the 4 fields of its header in 1 line.s.: 3; put quotes"),
        ({1: "00000001_000.png,Mass", 3: "00000003_000.png"}, "not the 4 fields of its header in 2 line.s.: 3, 5; put"),
        ({1: '00000001_000.png,"Mass,0,1'}, "cannot be read as a csv file"),
        ({2: "./00000001_000.png,Mass,0,1"}, "more than once .00000001_000.png. in 2 line.s.: 3, 4"),
    ],
)
def test_a_row_that_is_shifted_cut_or_there_twice_is_named(raw, change, says):
    table(raw, *(change.get(number, row) for number, row in enumerate(ROWS)))
    with pytest.raises(InputError, match=says):
        load(raw)


def test_empty_lines_and_trailing_commas_are_no_rows_and_a_quoted_comma_is_no_border(raw):
    rows = [ROWS[0].replace("Mass,0", '"Mass",", "'), ",,,", "", f"{ROWS[1]},,", *ROWS[2:]]
    table(raw, *rows, header=HEADER.replace("\n", ", ,\n"))
    assert load(raw).groups.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("between", [";", "\t"])
def test_semicolons_or_tabs_separate_and_headers_are_compared_without_spaces_and_case(raw, between):
    text = HEADER.replace("Patient ID", " patient id ").replace("Image Index", "IMAGE INDEX") + "\n".join(ROWS)
    (raw / ENTRIES).write_text(text.replace(",", between))
    assert load(raw).groups.tolist() == [0, 1, 2, 3]


def test_a_column_named_twice_is_refused(raw):
    for again in ("PATIENT ID", "Patient ID"):
        table(raw, *(f"{row},9" for row in ROWS), header=HEADER.replace("\n", f",{again}\n"))
        with pytest.raises(InputError, match="has 2 columns 'Patient ID'; leave one"):
            load(raw)


# Drawn examples


@pytest.mark.parametrize("modality", ["dermoscopy", "chest-film"])
def test_drawn_examples_are_what_the_generator_made(tmp_path, modality):
    found, made = (draw(tmp_path, modality=modality), synthetic.make(modality, examples=6, pixels=16, seed=0))
    np.testing.assert_array_equal(found.images, made["images"])
    np.testing.assert_array_equal(found.labels, made["labels"])
    np.testing.assert_array_equal(found.groups, made["groups"])
    assert found.names == tuple(made["names"]) and found.class_names == tuple(made["class_names"])
    assert found.multilabel == made["multilabel"] == (found.labels.ndim == 2)
    assert found.labels.dtype == (np.float32 if found.multilabel else np.int64)
    assert found.card["options"] == {"modality": modality, "examples": 6, "seed": 0, "pixels": 16}


def test_drawn_examples_are_drawn_once_for_each_choice(tmp_path, monkeypatch):
    first = draw(tmp_path)
    draw(tmp_path, seed=1)
    draw(tmp_path, examples=7)
    draw(tmp_path, pixels=17)
    draw(tmp_path, modality="chest-film")
    assert len(folders(tmp_path)) == 5 and {name.split("-")[1] for name in folders(tmp_path)} == {"16px", "17px"}
    monkeypatch.setattr(synthetic, "make", None)
    assert draw(tmp_path).fingerprint == first.fingerprint
