"""ISIC 2019: the challenge's own folder layout, its labels and its lesions."""

import numpy as np
import pytest
from PIL import Image

from rosutils import InputError, params
from rosutils.data import isic2019
from rosutils.data.sources import open_source


TRUTH, METADATA, INPUT = isic2019.TRUTH, isic2019.METADATA, "ISIC_2019_Training_Input"
# name, class, lesion
ROWS = [
    ("ISIC_0000003", "BCC", "HAM_2"),
    ("ISIC_0000001_downsampled", "MEL", ""),
    ("ISIC_0000002", "SCC", "HAM_1"),
    ("ISIC_0000004", "NV", "HAM_2"),
    ("ISIC_0000005", "NV", ""),
]


def truth_line(name, *classes):
    return ",".join([name, *("1.0" if column in classes else "0.0" for column in (*isic2019.CLASS_NAMES, "UNK"))])


def write(root, rows=ROWS, images=INPUT, lines=None):
    """The folder root/isic2019 as the challenge publishes it, with one small JPEG per row."""
    raw = root / "isic2019"
    (raw / images).mkdir(parents=True)
    lines = lines or [truth_line(name, label) for name, label, _ in rows]
    header = ",".join(["image", *isic2019.CLASS_NAMES, "UNK"])
    (raw / TRUTH).write_text("\n".join([header, *lines]) + "\n")
    metadata = [f"{name},55,anterior torso,{lesion},female" for name, _, lesion in reversed(rows)]
    (raw / METADATA).write_text("\n".join(["image,age_approx,anatom_site_general,lesion_id,sex", *metadata]))
    (raw / INPUT / "LICENSE.txt").write_text("not an image")
    for i, (name, _, _) in enumerate(rows):
        Image.new("RGB", (40, 30), (20 * i, 100, 200)).save(raw / images / f"{name}.jpg", quality=95)
    return raw


def load(root):
    section = params.source({"source": "isic2019"})
    return open_source(section, pixels=32, root=root, allow_missing=False, cache_root=root / "cache")


@pytest.mark.parametrize("images", [INPUT, f"{INPUT}/{INPUT}"])
def test_images_labels_and_lesions_are_read_in_the_order_of_names_and_counted_in_the_card(tmp_path, images):
    write(tmp_path, images=images)
    found = load(tmp_path)
    card = found.card
    assert found.names == tuple(sorted(name for name, _, _ in ROWS))
    assert [found.class_names[label] for label in found.labels] == ["MEL", "SCC", "BCC", "NV", "NV"]
    assert found.labels.dtype == np.int64 and found.groups.dtype == np.int64 and not found.multilabel
    assert found.images.shape == (5, 3, 32, 32) and found.images.dtype == np.uint8
    assert found.groups[2] == found.groups[3] and len(set(found.groups)) == card["groups"] == 4
    # Each image is one colour whose red tells the row it was written for.
    np.testing.assert_allclose(found.images[:, 0].mean(axis=(1, 2)), [20, 40, 0, 60, 80], atol=3)
    np.testing.assert_allclose(found.images[:, 2].mean(axis=(1, 2)), 200, atol=3)
    assert card["counts"] == {"MEL": 1, "NV": 2, "BCC": 1, "AK": 0, "BKL": 0, "DF": 0, "VASC": 0, "SCC": 1}
    assert card["raw"]["images_named"] == 5 and card["raw"]["missing"] == 0 and card["raw"]["without_row"] == 0
    assert card["raw"]["shorter_side"] == {"smallest": 30, "largest": 30} and card["raw"]["enlarged"] == 5
    assert set(card["raw"]["label_files"]) == {TRUTH, METADATA}


@pytest.mark.parametrize(
    "line",
    [
        truth_line("ISIC_0000007", "MEL", "SCC"),
        truth_line("ISIC_0000007", "UNK"),
        truth_line("ISIC_0000007", "NV", "UNK"),
        truth_line("ISIC_0000007", "NV").replace("1.0", "yes"),
        truth_line("ISIC_0000007", "MEL", "NV").replace("1.0", "0.5"),
    ],
)
def test_a_row_without_exactly_one_of_the_eight_classes_is_named(tmp_path, line):
    rows = [("ISIC_0000001", "NV", ""), ("ISIC_0000007", "NV", "")]
    write(tmp_path, rows, lines=[truth_line("ISIC_0000001", "NV"), line])
    with pytest.raises(InputError, match=f"{TRUTH} has not exactly one 1 in MEL, .* in 1 line.s.: 3; download it"):
        load(tmp_path)


def test_an_image_that_the_metadata_lack_is_named(tmp_path):
    raw = write(tmp_path)
    text = (raw / METADATA).read_text()
    (raw / METADATA).write_text("\n".join(line for line in text.splitlines() if "0000004" not in line))
    with pytest.raises(InputError, match="no row for 1 of the 5 images .*first: ISIC_0000004"):
        load(tmp_path)


def test_downsampled_may_be_at_the_name_or_at_the_file_only(tmp_path):
    raw = write(tmp_path)
    folder = raw / INPUT
    (folder / "ISIC_0000001_downsampled.jpg").rename(folder / "ISIC_0000001.jpg")
    (folder / "ISIC_0000004.jpg").rename(folder / "ISIC_0000004_downsampled.jpg")
    found = load(tmp_path)
    assert found.names[0] == "ISIC_0000001_downsampled" and found.names[3] == "ISIC_0000004"
    np.testing.assert_allclose(found.images[[0, 3], 0, 8, 8], [20, 60], atol=3)
    assert found.card["raw"]["without_row"] == 0
