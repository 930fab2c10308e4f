"""What goes in: classes are counted, noise is measured, and every panel has something in it."""

import numpy as np
import pytest
import rows  # noqa: F401 (the look of figures)
import torch
from PIL import Image

from rosutils.paper import inputs
from rosutils.paper.write import write_figure


CLASSES = ["MEL", "NV", "BCC"]
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
MANY = np.eye(3)[LABELS]
MAKERS = {
    "counts": lambda: inputs.class_counts({"training": LABELS, "test": LABELS[:4]}, CLASSES, False),
    "counts, several": lambda: inputs.class_counts({"training": MANY}, CLASSES, True),
    "counts, far apart": lambda: inputs.class_counts({"training": np.repeat([0, 1], [1, 200])}, CLASSES, False),
    "noise": lambda: inputs.noise_matrix(LABELS, LABELS[::-1], CLASSES),
    "noise, several": lambda: inputs.noise_matrix(MANY, MANY[::-1], CLASSES),
    "overlap": lambda: inputs.overlap_heatmap(np.eye(3), ["resnet18", "resnet34", "mobilenet_v2"]),
    "sharing": lambda: inputs.sharing(
        [torch.tensor(s) for s in ([0, 1, 2], [0, 3], [0, 2])], ["a", "b", "mobilenet_v2"]
    ),
    "checks": lambda: inputs.image_checks({"600x450": 9, "20x20": 1}, {c: np.arange(5.0) for c in CLASSES}, 32),
    "checks, drawn": lambda: inputs.image_checks(None, {"a": np.arange(5.0), "none": np.array([])}, 32),
    "montage": lambda: inputs.montage({c: np.zeros((2 + i, 3, 8, 8), np.uint8) for i, c in enumerate(CLASSES)}, "t"),
    "montage, grey": lambda: inputs.montage({"Mass": np.zeros((2, 1, 8, 8), np.uint8)}, "t"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_every_panel_is_filled(make):
    assert all(ax.has_data() for ax in make().axes)


def test_classes_are_counted_and_written_on_the_bars():
    ax = MAKERS["counts"]().axes[0]
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[3, 2, 5], [3, 1, 0]]
    assert [text.get_text() for text in ax.texts] == ["3", "2", "5", "3", "1", "0"]


def test_noise_is_the_share_of_given_among_clean():
    fig = inputs.noise_matrix(np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 0]), CLASSES)
    shares = fig.axes[0].collections[0].get_array().reshape(3, 3)
    assert shares.tolist() == [[0.75, 0.25, 0], [0, 1, 0], [1, 0, 0]]
    assert "33.3% of 6" in fig.axes[0].get_title(loc="left")


def test_noise_of_several_labels_is_what_was_missed_and_invented():
    clean, noisy = np.array([[1, 0], [1, 0], [0, 0], [0, 1]]), np.array([[0, 0], [1, 1], [0, 0], [0, 1]])
    bars = inputs.noise_matrix(clean, noisy, ["a", "b"]).axes[0].containers
    assert [[bar.get_width() for bar in side] for side in bars] == [[0.5, 0], [0, pytest.approx(1 / 3)]]


def test_a_subset_is_told_by_how_many_others_have_its_images():
    ax = MAKERS["sharing"]().axes[0]
    shown = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert shown == {"all 3": [1, 1, 1], "2 of 3": [1, 0, 1], "1 of 3": [1, 1, 0]}
    assert ax.get_title(loc="left") == "two subsets share 33% to 100% of themselves"


def test_no_name_of_a_teacher_is_cut_by_the_border(tmp_path):
    for make in (MAKERS["sharing"], MAKERS["overlap"]):
        _, png = write_figure(make(), tmp_path, "figure", "mark")
        with Image.open(png) as image:
            assert np.asarray(image.convert("L"))[:, :2].min() == 255


def test_intensities_are_told_by_their_quantiles():
    ax = inputs.image_checks(None, {"a": np.arange(101.0)}, 32).axes[0]
    wide, narrow = (np.array(lines.get_segments()[0])[:, 0] for lines in ax.collections)
    assert wide.tolist() == [5, 95] and narrow.tolist() == [25, 75] and ax.lines[0].get_xdata().tolist() == [50]
