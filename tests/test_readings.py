"""What the paper leaves open, told as chosen; what a profile changes, told once."""

import pytest

from rosutils import params
from rosutils.paper.readings import STATED, departures, readings
from rosutils.params import changed


@pytest.fixture(scope="module")
def paper():
    return params.load("paper")


def told(parameters):
    return {open_point: chosen for open_point, chosen, _ in readings(parameters)}


def test_the_papers_own_profile_departs_in_nothing(paper):
    assert departures(paper, paper) == []


def test_a_departure_names_the_key_and_both_values_and_where_it_runs_is_none(paper):
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
        ({"subsets": {"scheme": "pairwise"}}, "overlap ratio (III-A)", "pairwise, 0.4"),
        ({"evaluation": {"thresholds": "per-label"}}, "threshold for several labels per image", "per label"),
        ({"evaluation": {"thresholds": "fixed"}}, "threshold for several labels per image", "0.5"),
        ({"training": {"reported": "best-validation"}}, "which epoch is reported", "best on validation"),
        ({"training": {"pretraining": "none"}}, "pre-training", "none"),
        ({"attacks": {"steps": 7, "random_start": False}}, "PGD (IV-E)", "7 steps"),
        ({"attacks": {"norms": ["linf"]}}, "attack radius (Table II)", "linf"),
        ({"landscape": {"examples": 99}}, "loss surface (Fig. 4)", "99 test images"),
    ],
)  # fmt: skip
def test_a_choice_is_told_and_no_other_changes(paper, sections, point, words):
    before, after = told(paper), told(changed(paper, sections))
    assert words in after[point]
    assert {name for name in before if before[name] != after[name]} == {point}


def test_dropped_images_are_told(paper):
    sources = {"chest": {"keep_unlabelled": False}}
    assert told(paper)["images without any finding"] == "kept"
    assert told(changed(paper, {"data": {"sources": sources}}))["images without any finding"].startswith("dropped")


def test_what_is_laid_over_for_one_task_or_for_the_sweeps_is_a_departure_too(paper):
    other = changed(
        paper, {"by_task": {"chest": {"training": {"epochs": 25}}}, "sweeps": {"scale": {"data": {"examples": 99}}}}
    )
    assert set(departures(other, paper)) == {
        ("by_task.chest.training.epochs", 50, 25), ("sweeps.scale.data.examples", None, 99)
    }  # fmt: skip
    precise = changed(paper, {"training": {"precision": {"resnet18": "bfloat16"}}})
    assert departures(precise, paper) == [("training.precision", "auto", {"resnet18": "bfloat16"})]
