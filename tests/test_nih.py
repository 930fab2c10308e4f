"""NIH ChestX-ray14: the publisher's own folder layout, whole finding names and patients."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError
from rosutils.sources import open_source


HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
# name, findings, patient
ROWS = [
    ("00000002_000.png", "Pneumothorax|Mass", 2),
    ("00000001_000.png", "Cardiomegaly", 1),
    ("00000001_001.png", "No Finding", 1),
    ("00000003_000.png", "Pneumonia|Pleural_Thickening", 3),
    ("00000003_001.png", "Hernia|Edema", 3),
]
EXPECTED = {
    "00000001_000.png": {"Cardiomegaly"},
    "00000001_001.png": set(),
    "00000002_000.png": {"Pneumothorax", "Mass"},
    "00000003_000.png": {"Pneumonia"},
    "00000003_001.png": set(),
}


def write(root, rows=ROWS, folders=("images_001/images", "images_002/images"), *, year="_v2020", comma=""):
    """The folder root/nih as the publisher lays it out, the images dealt in turn to the archive folders."""
    raw = root / "nih"
    raw.mkdir()
    lines = [f"{name},{findings},0,{patient},058Y,M,PA{comma}" for name, findings, patient in rows]
    (raw / f"Data_Entry_2017{year}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    for i, (name, _, _) in enumerate(rows):
        folder = raw / folders[i % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 40 * i).save(folder / name)
    return raw


def load(root, allow_missing=False):
    section = SimpleNamespace(source="nih", modality=None, examples=None, seed=0)
    return open_source(section, pixels=8, root=root, allow_missing=allow_missing, cache_root=root / "cache")


@pytest.mark.parametrize("folders", [("images_001/images", "images_012/images"), ("images",), ("images_003",)])
def test_images_labels_and_patients_are_read_in_the_order_of_names(tmp_path, folders):
    write(tmp_path, folders=folders)
    found = load(tmp_path)
    assert found.names == tuple(sorted(EXPECTED))
    assert found.groups.tolist() == [1, 1, 2, 3, 3] and found.groups.dtype == np.int64
    assert found.labels.shape == (5, 8) and found.labels.dtype == np.float32 and found.multilabel
    assert found.images.shape == (5, 1, 8, 8) and found.images.dtype == np.uint8
    assert found.images[:, 0, 0, 0].tolist() == [40, 80, 0, 120, 160]
    assert found.class_names == (
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax",
    )  # fmt: skip


def test_findings_are_matched_by_their_whole_name(tmp_path):
    write(tmp_path)
    found = load(tmp_path)
    for name, row in zip(found.names, found.labels, strict=True):
        assert {finding for finding, there in zip(found.class_names, row, strict=True) if there} == EXPECTED[name]


def test_images_without_any_of_the_eight_are_kept_and_counted(tmp_path):
    write(tmp_path)
    card = load(tmp_path).card
    assert card["examples"] == 5 and card["examples_with_no_class"] == 2 and card["groups"] == 3
    assert card["counts"]["Pneumonia"] == 1 and card["counts"]["Pneumothorax"] == 1
    assert card["counts"]["Effusion"] == 0


@pytest.mark.parametrize("finding", ["Pneumo", "mass", "Effusions", ""])
def test_an_unknown_finding_is_named_with_its_row(tmp_path, finding):
    write(tmp_path, [*ROWS, ("00000004_000.png", f"Mass|{finding}", 4)])
    with pytest.raises(InputError, match=f"line 7 .00000004_000.png.*{finding!r} is not one of Atelectasis"):
        load(tmp_path)


def test_a_patient_that_is_no_number_is_named_with_its_row(tmp_path):
    write(tmp_path, [*ROWS, ("00000004_000.png", "Mass", "4b")])
    with pytest.raises(InputError, match="line 7 .00000004_000.png.*'4b' is not a whole number"):
        load(tmp_path)


@pytest.mark.parametrize("header_comma", ["", ","])
def test_the_file_of_2017_with_its_trailing_commas_is_read(tmp_path, header_comma):
    raw = write(tmp_path, year="", comma=",")
    entries = raw / "Data_Entry_2017.csv"
    entries.write_text(entries.read_text().replace(HEADER, HEADER + header_comma))
    found = load(tmp_path)
    assert found.groups.tolist() == [1, 1, 2, 3, 3]
    assert list(found.card["raw"]["label_files"]) == ["Data_Entry_2017.csv"]


def test_the_revised_labels_win_over_those_of_2017(tmp_path):
    raw = write(tmp_path)
    text = (raw / "Data_Entry_2017_v2020.csv").read_text()
    (raw / "Data_Entry_2017.csv").write_text(text.replace("Cardiomegaly", "Nodule"))
    found = load(tmp_path)
    assert found.card["counts"]["Cardiomegaly"] == 1 and found.card["counts"]["Nodule"] == 0
    assert list(found.card["raw"]["label_files"]) == ["Data_Entry_2017_v2020.csv"]


def test_colour_and_16_bit_files_among_the_greys_become_8_bit_greys(tmp_path):
    raw = write(tmp_path, folders=("images",))
    Image.new("RGBA", (20, 20), (70, 70, 70, 255)).save(raw / "images" / "00000001_000.png")
    Image.new("RGB", (20, 20), (255, 0, 0)).save(raw / "images" / "00000001_001.png")
    Image.fromarray(np.full((20, 20), 257 * 99, np.uint16)).save(raw / "images" / "00000002_000.png")
    assert load(tmp_path).images[:3, 0, 0, 0].tolist() == [70, 76, 99]


def test_a_partial_download_is_counted_and_refused_unless_allowed(tmp_path):
    raw = write(tmp_path)
    for path in (raw / "images_001").rglob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"3 of 5 images .*first: 00000001_001.png.*--allow-missing.*the 2 present"):
        load(tmp_path)
    found = load(tmp_path, allow_missing=True)
    assert found.names == ("00000001_000.png", "00000003_000.png")
    assert [found.class_names[i] for i in found.labels.argmax(axis=1)] == ["Cardiomegaly", "Pneumonia"]


def test_images_without_a_row_are_left_out_counted_and_told(tmp_path, caplog):
    raw = write(tmp_path, folders=("images",))
    Image.new("L", (20, 20)).save(raw / "images" / "00000009_000.png")
    (raw / "images" / "._00000001_000.png").write_bytes(b"left by macOS")
    found = load(tmp_path)
    assert len(found.names) == 5
    assert found.card["raw"]["without_row"] == 1 and found.card["raw"]["first_without_row"] == ["00000009_000.png"]
    assert "1 images have no row" in caplog.text


def test_an_image_in_two_archives_is_refused(tmp_path):
    raw = write(tmp_path)
    Image.new("L", (20, 20)).save(raw / "images_002" / "images" / "00000002_000.png")
    with pytest.raises(InputError, match="00000002_000.png is there twice"):
        load(tmp_path)
