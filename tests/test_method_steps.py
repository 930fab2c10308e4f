"""The method step by step: Eq. 3, the draws of the weights, Eq. 1, and Baseline IV's selection, as they are computed."""

import numpy as np
import pandas as pd
import pytest
import rows  # noqa: F401 (the look of figures)
import torch

from rosutils import losses
from rosutils.paper import method_steps
from rosutils.paper.planted import PLANTED


NAMES = ["resnet18", "resnet34", "mobilenet_v2"]


def test_soft_targets_are_those_of_eq_3():
    fig = method_steps.soft_targets([1.0, -2, 0], [0.5, 4], ["a", "b", "c"])
    for ax, temperature in zip(fig.axes, [0.5, 4], strict=True):
        expected = losses.soft_targets(torch.tensor([1.0, -2, 0], dtype=torch.float64), temperature)
        assert np.allclose([bar.get_width() for bar in ax.containers[0]], expected)


def test_weight_draws_are_shares_and_mark_the_expected_largest():
    draws = np.random.default_rng(0).exponential(size=(4000, 3))
    fig = method_steps.weight_draws(draws, NAMES)
    theory, mean = (line.get_xdata()[0] for line in fig.axes[1].lines)
    assert theory == pytest.approx((1 + 1 / 2 + 1 / 3) / 3) and mean == pytest.approx(theory, abs=0.01)
    heights = np.array([[bar.get_height() for bar in bars] for bars in fig.axes[0].containers])
    assert np.allclose(heights, (draws / draws.sum(1, keepdims=True))[:40].T)


def test_the_average_stands_beside_the_student_from_its_first_epoch_on():
    average = [np.nan, np.nan, 0.3, 0.4]
    history = pd.concat(
        pd.DataFrame({"epoch": range(1, 5), "validation_f1": [0.1, 0.2, 0.3, 0.2], "averaged_validation_f1": average})
        .add({"epoch": 0, "validation_f1": up, "averaged_validation_f1": up}).assign(task=task, replicate=replicate)
        for task in ("lesion", "chest") for replicate, up in ((0, 0.0), (1, 0.2))
    )  # fmt: skip
    fig = method_steps.averaging(history)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["lesion", "chest"]
    ax = fig.axes[0]
    student, mean = ([line for line in ax.lines if line.get_marker() == marker] for marker in "os")
    assert student[0].get_ydata() == pytest.approx([0.2, 0.3, 0.4, 0.3])
    assert mean[0].get_ydata()[2:] == pytest.approx([0.4, 0.5])
    assert [line.get_ydata().tolist() for line in ax.lines if line.get_lw() == 0.5][0] == [0.1, 0.2, 0.3, 0.2]
    assert [ax.patches[0].get_x(), ax.patches[0].get_width()] == [2.5, 2.0]
    assert fig.legends[0].get_title().get_text() == "mean over 2 replicates; thin: each"
    fewer = method_steps.averaging(history[(history["task"] == "lesion") | (history["replicate"] == 0)])
    assert fewer.legends[0].get_title().get_text() == "mean over 1 to 2 replicates; thin: each"


def test_a_mixture_is_as_reliable_as_it_is_by_hand():
    """Two teachers, of logits 0 and log 4 at temperature 1: the mixture is sure by (0.5 + 0.8) / 2 of the second class."""
    one = torch.tensor([0.0, float(np.log(4))])
    logits = torch.stack([torch.zeros(4, 2), one.expand(4, 2)])
    for labels, right, error in (
        (torch.tensor([1, 1, 0, 0]), 0.5, 0.15),
        (torch.tensor([[1.0, 1], [0, 0], [0, 1], [0, 0]]), 0.5, (0.25 + 0.15) / 2),
    ):
        said = {"lesion": {"test part": (logits, labels)}}
        ax = method_steps.reliability(said, (1.0,)).axes[0]
        x, y = ax.lines[0].get_xydata()[-1]
        assert (x, y) == (pytest.approx(0.65), pytest.approx(right))
        assert ax.get_legend().get_texts()[0].get_text() == f"τ = 1: ECE {error:.2f}"


def test_of_a_study_the_mixture_is_asked_on_training_images_and_on_the_test_part(probed):
    fig = method_steps.RELIABILITY.make(probed)
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    parts = ("training, given labels", "training, clean labels", "test part")
    assert titles == [f"{task}: {part}" for task in ("lesion", "chest") for part in parts]


def planted(rewards=("r2",), seeds=(0, 1, 2), epochs=4):
    """As `planted.planted_selection` tells them; seeds move every probability by 0.01."""
    sides = {"good": 1, "misleading": -1, "random": 0}
    return pd.DataFrame([
        {"reward": reward, "seed": seed, "epoch": epoch, "teacher": teacher, "probability": 0.5 + side * epoch / 10 + seed / 100}
        for reward in rewards for seed in seeds for epoch in range(1, epochs + 1) for teacher, side in sides.items()
    ])  # fmt: skip


def test_selection_curves_are_means_over_seeds_beside_each_seed_and_lines_to_reach():
    fig = method_steps.selection(planted())
    lines = fig.axes[0].lines
    assert [line.get_ydata()[0] for line in lines[:2]] == [0.2, 0.8]
    for teacher, side in (("good", 1), ("random", 0), ("misleading", -1)):
        colour, marker, _ = method_steps.PLANTED[teacher]
        alike = [line for line in lines if (line.get_marker(), line.get_color()) == (marker, colour)]
        [mean] = [line for line in alike if len(line.get_xdata())]
        assert mean.get_ydata() == pytest.approx([0.51 + side * epoch / 10 for epoch in range(1, 5)])
    assert len([line for line in lines if line.get_lw() == 0.5 and len(line.get_xdata())]) == 9
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        f"P({teacher})" for teacher in method_steps.PLANTED
    ]
    assert fig.legends[0].get_title().get_text() == "mean of 3 seeds; thin: each"
    assert tuple(method_steps.PLANTED) == PLANTED
    assert method_steps.selection(planted(seeds=(0,))).legends[0].get_title().get_text() == "one seed"
