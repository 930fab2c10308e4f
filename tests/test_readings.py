"""What the paper leaves open, told as chosen, and by how much it matters; what a profile changes, told once."""

import numpy as np
import pytest
from rows import SEEDS, TASKS, frame, rows, said, study_of
from scipy import stats

from rosutils import InputError, params
from rosutils.paper.readings import STATED, departures, plot, readings
from rosutils.params import changed


@pytest.fixture(scope="module")
def paper():
    return params.load("paper")


def told(parameters):
    return {open_point: chosen for open_point, chosen, _ in readings(parameters)}


def test_a_departure_names_the_key_and_both_values_and_where_it_runs_is_none(paper):
    assert departures(paper, paper) == []
    other = changed(paper, {"training": {"epochs": 51}, "engine": {"workers": 3}, "data": {"root": "x"}})
    assert departures(other, paper) == [("training.epochs", 50, 51)]


def test_every_stated_value_is_a_parameter_of_the_profiles(paper):
    tree = paper.model_dump()
    for name in STATED:
        section, key = name.split(".")
        assert key in tree[section], name


@pytest.mark.parametrize(
    ("sections", "point", "words"),
    [
        ({"subsets": {"scheme": "own-shard"}}, "overlap ratio (III-A)", "own-shard, 0.4"),
        ({"distillation": {"weights": {"normalize": False}}}, "teacher weights (III-B)", "not normalised"),
        ({"distillation": {"weights": {"per": "example"}}}, "teacher weights (III-B)", "one draw per example"),
        ({"distillation": {"multilabel": "softmax"}}, "soft targets for several labels per image", "literal softmax"),
        ({"distillation": {"refresh_batchnorm": False}}, "BatchNorm of any finished network", "left as copied"),
        ({"distillation": {"mean_of": "logits"}}, "Baseline III's mean of its teachers", "logits"),
        ({"evaluation": {"thresholds": "per-label"}}, "threshold for several labels per image", "per label"),
        ({"evaluation": {"thresholds": "fixed"}}, "threshold for several labels per image", "0.5"),
        ({"training": {"reported": "best-validation"}}, "which epoch is reported", "best on validation"),
        ({"training": {"pretraining": "none"}}, "pre-training", "none"),
        ({"attacks": {"steps": 7, "random_start": False}}, "PGD (IV-E)", "7 steps"),
        ({"attacks": {"norms": ["linf"]}}, "attack radius (Table II)", "linf"),
        ({"landscape": {"examples": 99}}, "loss surface (Fig. 4)", "99 test images"),
        ({"data": {"sources": {"chest": {"keep_unlabelled": False}}}}, "images without any finding", "dropped"),
    ],
)  # fmt: skip
def test_a_choice_is_told_and_no_other_changes(paper, sections, point, words):
    before, after = told(paper), told(changed(paper, sections))
    assert words in after[point]
    assert {name for name in before if before[name] != after[name]} == {point}


def test_what_is_laid_over_for_one_task_or_for_the_sweeps_is_a_departure_too(paper):
    sections = {"by_task": {"chest": {"training": {"epochs": 25}}}, "sweeps": {"scale": {"data": {"examples": 99}}}}
    other = changed(paper, sections)
    assert set(departures(other, paper)) == {
        ("by_task.chest.training.epochs", 50, 25), ("sweeps.scale.data.examples", None, 99)
    }  # fmt: skip
    precise = changed(paper, {"training": {"precision": {"resnet18": "bfloat16"}}})
    assert departures(precise, paper) == [("training.precision", "auto", {"resnet18": "bfloat16"})]


# by how much it matters


CHOSEN = {"variant": "reading", "variant_value": "as chosen"}
SHIFTS = {"own-shard": (0.02, 0.02, 0.02), "literal softmax": (-0.06, -0.05, -0.01)}  # by replicate


def measured(seeds=SEEDS, tasks=TASKS):
    """F1 as chosen 0.6 and the reading's more in each replicate; 0.1 less in the macro average."""
    found = []
    for task in tasks:
        for setting in ("RoS-KD", "Baseline III"):
            found += rows(task, setting, 0.6, **CHOSEN, seeds=seeds)
            found += rows(task, setting, 0.5, **CHOSEN, seeds=seeds, average="macro")
        for label, shifts in SHIFTS.items():
            made = rows(task, "RoS-KD", 0.6, variant="reading", variant_value=label, seeds=seeds)
            found += [row | {"value": row["value"] + shifts[row["replicate"]]} for row in made]
    return found


def labels(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_bars_are_paired_differences_the_largest_first_with_their_t_interval():
    fig = plot(study_of(frame(measured())))
    ax, below = fig.axes[0], fig.axes[2]
    assert labels(ax) == ["literal softmax", "own-shard"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([-0.04, 0.02])
    half = stats.t.ppf(0.975, 2) * np.std([-0.06, -0.05, -0.01], ddof=1) / 3**0.5
    drawn = [np.array(segment)[:, 0] for segment in ax.collections[0].get_segments()]
    reach = ax.get_xlim()[1]
    assert drawn[0] == pytest.approx([max(-0.04 - half, -reach), -0.04 + half])
    assert drawn[1] == pytest.approx([0.02, 0.02])
    assert labels(below) == ["macro"] and below.patches[0].get_width() == pytest.approx(-0.1)
    assert ax.get_title(loc="left") == "lesion, F1 (weighted)\nas chosen: 0.600 ± 0.010"
    assert said(fig)[0] == "RoS-KD, paired over 3 replicates"


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow_and_the_legend_says_so():
    wide = [row | {"value": row["value"] + 0.3 * (row["replicate"] - 1)} if row["variant_value"] == "own-shard" else row
            for row in measured()]  # fmt: skip
    fig = plot(study_of(frame(wide)))
    ax = fig.axes[0]
    arrows = [line for line in ax.lines if line.get_marker() in "<>" and np.isfinite(line.get_xdata()).any()]
    assert len(arrows) == 2 and all(np.nanmax(np.abs(line.get_xdata())) <= ax.get_xlim()[1] for line in arrows)
    assert "it goes on beyond the axis" in said(fig)
    assert not [line for line in fig.axes[2].lines if line.get_marker() in "<>" and np.isfinite(line.get_xdata()).any()]


def test_replicates_are_paired_and_readings_without_a_common_one_refused():
    fewer = [row for row in measured() if (row["variant_value"], row["replicate"]) != ("literal softmax", 2)]
    fig = plot(study_of(frame(fewer)))
    assert fig.axes[0].patches[0].get_width() == pytest.approx(-0.055)
    assert said(fig)[0] == "RoS-KD, paired over 2 to 3 replicates"
    apart = [row for row in measured() if (row["variant_value"] == "own-shard") == (row["replicate"] == 2)]
    with pytest.raises(InputError, match="own-shard.*no replicate in common"):
        plot(study_of(frame(apart)))


def test_a_reading_about_baseline_iii_is_set_against_baseline_iii_as_chosen():
    name = "Baseline III's mean of logits"
    about = rows("lesion", "Baseline III", 0.57, variant="reading", variant_value=name)
    ax = plot(study_of(frame(measured(), about))).axes[0]
    assert labels(ax) == ["literal softmax", name, "own-shard"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([-0.04, -0.03, 0.02])


def test_a_task_with_no_reading_but_the_one_chosen_has_an_empty_panel():
    fig = plot(
        study_of(frame(row for row in measured() if row["task"] == "chest" or row["variant_value"] == "as chosen"))
    )
    assert [len(ax.patches) for ax in fig.axes] == [0, 2, 1, 1]


def test_one_replicate_has_no_interval():
    results = frame(measured(seeds=(0,), tasks=["chest"]))
    fig = plot(study_of(results))
    assert said(fig) == ["RoS-KD, one replicate", "mean paired difference"] and len(fig.axes) == 2
    with pytest.raises(InputError, match="the readings of lesion; run its notebook"):
        plot(study_of(results, {"lesion": TASKS["lesion"]}))
