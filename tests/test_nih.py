"""NIH ChestX-ray14: the publisher's own folder layout, whole finding names and patients."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError, params
from rosutils.data.sources import open_source, split_lists
from rosutils.study import Study


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


def load(root, **options):
    section = params.source({"source": "nih", **options})
    return open_source(section, pixels=8, root=root, allow_missing=False, cache_root=root / "cache")


@pytest.mark.parametrize("folders", [("images_001/images", "images_012/images"), ("images",)])
def test_images_labels_and_patients_are_read_in_the_order_of_names(tmp_path, folders):
    write(tmp_path, folders=folders)
    found = load(tmp_path)
    assert found.names == tuple(sorted(EXPECTED))
    assert found.groups.tolist() == [1, 1, 2, 3, 3] and found.groups.dtype == np.int64
    assert found.labels.shape == (5, 8) and found.labels.dtype == np.float32 and found.multilabel
    assert found.images.shape == (5, 1, 8, 8) and found.images.dtype == np.uint8
    assert found.images[:, 0, 0, 0].tolist() == [40, 80, 0, 120, 160]
    assert found.class_names == tuple(
        "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax".split()
    )
    for name, row in zip(found.names, found.labels, strict=True):  # whole names only
        assert {finding for finding, there in zip(found.class_names, row, strict=True) if there} == EXPECTED[name]
    assert found.card["examples_with_no_class"] == 2 and found.card["groups"] == 3
    assert found.card["counts"]["Pneumonia"] == 1 and found.card["counts"]["Effusion"] == 0


@pytest.mark.parametrize(
    ("findings", "patient", "says"),
    [
        ("Mass|Pneumo", 4, "a finding .'Pneumo'. that is not one of Atelectasis.*"),
        ("Mass|mass", 4, "a finding .'mass'. that"),
        ("Mass|", 4, "a finding .''. that"),
        ("Mass", "4b", "no whole number .4b."),
    ],
)
def test_an_unknown_finding_and_a_patient_that_is_no_number_are_named_with_their_row(tmp_path, findings, patient, says):
    write(tmp_path, [*ROWS, ("00000004_000.png", findings, patient)])
    with pytest.raises(InputError, match=f"{says}.* in 1 line.s.: 7"):
        load(tmp_path)


@pytest.mark.parametrize("header_comma", ["", ","])
def test_the_file_of_2017_with_its_trailing_commas_is_read(tmp_path, header_comma):
    raw = write(tmp_path, year="", comma=",")
    entries = raw / "Data_Entry_2017.csv"
    entries.write_text(entries.read_text().replace(HEADER, HEADER + header_comma))
    found = load(tmp_path)
    assert found.groups.tolist() == [1, 1, 2, 3, 3]
    assert list(found.card["raw"]["label_files"]) == ["Data_Entry_2017.csv"]


def test_either_revision_of_the_labels_can_be_asked_for(tmp_path):
    raw = write(tmp_path)
    text = (raw / "Data_Entry_2017_v2020.csv").read_text()
    (raw / "Data_Entry_2017.csv").write_text(text.replace("Cardiomegaly", "Nodule"))
    newest = "Data_Entry_2017_v2020.csv"
    for revision, name, count in ((2017, "Data_Entry_2017.csv", 1), (2020, newest, 0), (None, newest, 0)):
        card = load(tmp_path, revision=revision).card
        assert list(card["raw"]["label_files"]) == [name] and card["counts"]["Nodule"] == count
    (raw / "Data_Entry_2017.csv").unlink()
    with pytest.raises(InputError, match="there is no .*nih/Data_Entry_2017.csv .*download it"):
        load(tmp_path, revision=2017)
    (raw / newest).rename(raw / "sample_labels.csv")  # Kaggle's
    assert load(tmp_path).fingerprint == load(tmp_path, revision=2017).fingerprint


def test_archives_one_to_twelve_are_read_with_greys_of_every_kind_and_the_card_counts_them(tmp_path):
    rows = [(f"{number:08d}_000.png", "Mass", number) for number in range(12)]
    raw = write(tmp_path, rows, folders=[f"images_{number + 1:03d}/images" for number in range(12)])
    Image.new("RGBA", (20, 20), (70, 70, 70, 255)).save(raw / "images_003" / "images" / "00000002_000.png")
    Image.fromarray(np.full((20, 20), 257 * 99, np.uint16)).save(raw / "images_012" / "images" / "00000011_000.png")
    found = load(tmp_path)
    assert len(found.names) == 12 and found.images[[2, 11], 0, 0, 0].tolist() == [70, 99]
    assert found.card["raw"]["modes"] == {"L": 10, "RGBA": 1, "I;16": 1}


# The publisher's split, and that of public CheXNet reproductions


def with_lists(root, folder, **lists):
    raw = write(root, [(f"{patient:08d}_00{view}.png", "Mass", patient) for patient in range(40) for view in range(2)])
    (raw / folder).mkdir(exist_ok=True)
    for name, patients in lists.items():
        lines = [f"{patient:08d}_00{view}.png\n" for patient in patients for view in range(2)]
        (raw / folder / f"{name}.txt").write_text("".join(lines))
    return raw / folder


def task(root, **options):
    data = {"root": str(root), "pixels": 33, "sources": {"chest": options}}
    study = Study.load("real", tasks=["chest"], data=data, engine={"store": str(root / "runs")})
    return study.task("chest")


def test_the_official_split_keeps_its_test_part_and_gives_validation_its_share_by_patient(tmp_path):
    folder = with_lists(tmp_path, "", train_val_list=range(30), test_list=range(30, 40))
    found = task(tmp_path, split="official")
    assert {part: len(index) for part, index in found.split.items()} == {"train": 52, "validation": 8, "test": 20}
    assert [found.names[number] for number in found.split["test"]] == (folder / "test_list.txt").read_text().split()
    assert found.card["parts"]["validation"] | {"sha256": ""} == {"images": 8, "groups": 4, "sha256": ""}


def test_the_chexnet_split_is_its_three_lists_which_are_named_where_they_are_absent_and_the_card_has_their_sums(
    tmp_path,
):
    lists = {"train_list": range(28), "val_list": range(28, 32), "test_list": range(32, 40)}
    folder = with_lists(tmp_path, "chexnet_split", **lists)
    found = task(tmp_path, split="chexnet")
    assert {part: len(index) for part, index in found.split.items()} == {"train": 56, "validation": 8, "test": 16}
    listed = (folder / "train_list.txt").read_bytes()
    assert found.card["parts"]["train"]["sha256"] == hashlib.sha256(listed).hexdigest()
    (folder / "val_list.txt").unlink()
    needs = "split: chexnet needs train_list.txt, val_list.txt, test_list.txt in .*nih/chexnet_split or "
    with pytest.raises(InputError, match=needs):
        split_lists(params.source({"source": "nih", "split": "chexnet"}), tmp_path)


def test_public_lists_that_share_a_patient_are_refused(tmp_path):
    with_lists(tmp_path, "", train_val_list=range(31), test_list=range(30, 40))
    with pytest.raises(InputError, match="group 30 .*in both train.validation and test.*test_list.txt"):
        task(tmp_path, split="official")
