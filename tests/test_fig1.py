"""Fig. 1: the index sets, sizes, weights and epochs in it are those that ran."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from rows import WATERMARK, same_bytes

from rosutils import params
from rosutils.paper import fig1
from rosutils.paper.write import write_figure
from rosutils.subsets import overlapping_subsets


SCHEMES = pytest.mark.parametrize("scheme", ["shared-core", "own-shard", "sliding-window"])
OWN = {"subsets": {"count": 3}, "teachers": {"architectures": ["resnet18", "resnet34", "mobilenet_v2"]}}
OWN |= {"training": {"epochs": 50}, "distillation": {"single_teacher": "resnet18", "temperature": 4, "alpha": 0.7}}


def subsets(scheme="shared-core", overlap=0.4, n=100):
    return overlapping_subsets(n, 3, overlap, scheme=scheme, generator=torch.Generator().manual_seed(0))


def schematic(scheme="shared-core"):
    parameters = params.changed(params.load("paper", **OWN), {"subsets": {"scheme": scheme}})
    return fig1.schematic(subsets(scheme), np.array([[1, 1, 2.0], [3, 1, 0]]), parameters)


@SCHEMES
def test_no_words_lie_on_others_or_outside_the_page(scheme, tmp_path):
    fig = schematic(scheme)
    write_figure(fig, tmp_path, "fig1", WATERMARK)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    texts = [*fig.axes[0].texts, *fig.axes[0].get_legend().get_texts(), *fig.texts]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text().strip()]
    assert not [1 for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.padded(-1).overlaps(b.padded(-1))]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1 for box in boxes)


def test_the_same_schematic_gives_the_same_bytes(tmp_path):
    assert same_bytes(schematic, tmp_path)


def test_training_examples_are_counted_whatever_their_numbers_in_the_task():
    member = fig1.membership([np.array([10, 30]), np.array([30, 50])])
    assert member.tolist() == [[True, True, False], [True, False, True]]


@SCHEMES
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_membership_keeps_sizes_and_intersections(scheme, overlap):
    parts = [set(part.tolist()) for part in subsets(scheme, overlap)]
    member = fig1.membership(subsets(scheme, overlap))
    assert member.shape == (3, 100) and member.any(0).all()
    assert (member.astype(int) @ member.T.astype(int) == [[len(a & b) for b in parts] for a in parts]).all()


def test_the_core_comes_first_and_the_shards_follow_in_one_piece_each():
    member = fig1.membership(subsets())
    core = int(member.all(0).sum())
    assert member[:, :core].all() and (member[:, core:].sum(0) == 1).all()
    assert (np.diff(member[:, core:].argmax(0)) >= 0).all()
    windows = fig1.membership(subsets("sliding-window"))
    assert (np.abs(np.diff(windows.astype(int), axis=1)).sum(1) <= 2).all()


def test_it_tells_the_actual_sizes_weights_epochs_and_constants():
    ax = schematic().axes[0]
    words = " ".join(text.get_text() for text in ax.texts)
    assert all(f"$|D^{{{i}}}|$ = {len(part)}" in words for i, part in enumerate(subsets(), 1))
    assert "N = 100" in words and "overlap 0.4, shared-core" in words and "MobileNet-v2" in words
    assert "epochs 11 to 50" in words and r"0.7\,\tau^2" in words and "+ 0.3" in words and r"\tau = 4" in words
    assert [len(dots.get_offsets()) for dots in ax.collections[-2:]] == [10, 40]
    bars = [p for p in ax.patches if isinstance(p, Rectangle) and 4.1 < p.get_x() < 5.3]
    heights = np.array([bar.get_height() for bar in bars]).reshape(2, 3)
    assert np.allclose(heights / heights.sum(1, keepdims=True), [[0.25, 0.25, 0.5], [0.75, 0.25, 0]])
