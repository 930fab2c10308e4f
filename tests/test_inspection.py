"""What notebooks and report show: tables under their names, surfaces, paths, checks, intervals over test groups."""

import numpy as np
import pytest
import torch

from rosutils import InputError, tables
from rosutils.losses import task_loss
from rosutils.paper import inspection
from rosutils.results import select
from rosutils.settings import ROWS
from rosutils.study.probes import PATH_STEPS
from rosutils.study.probes import test_batch as batch_of


TASKS = pytest.mark.parametrize("task", ["lesion", "chest"])


@TASKS
def test_surfaces_are_those_of_both_settings_in_every_direction(probed, task):
    found = inspection.surfaces(probed, task)
    points, seeds = probed.parameters.landscape.points, probed.parameters.landscape.directions
    assert {(f["setting"], f["seed"]) for f in found} == {(s, d) for s in ("Baseline III", "RoS-KD") for d in seeds}
    assert all(f["loss"].shape == (points, points) and len(f["grid"]) == points for f in found)


@TASKS
def test_a_path_begins_at_baseline_iii_and_ends_at_ros_kd(probed, task):
    found = inspection.paths(probed, task)
    assert set(found) == {"replicate 1"} and len(found["replicate 1"]) == PATH_STEPS
    batch = batch_of(probed, task, probed.parameters.landscape.examples)
    for place, setting in ((0, "Baseline III"), (-1, "RoS-KD")):
        model = probed.model(probed.student(task, setting), averaged=setting == "RoS-KD")
        with torch.no_grad():
            loss = task_loss(model(batch.images), batch.labels, multilabel=task == "chest").mean()
        assert found["replicate 1"][place] == pytest.approx(float(loss), rel=1e-5)


def test_the_checks_are_made_for_each_task_setting_and_norm(probed):
    found = inspection.attack_checks(probed)
    cases = found.groupby(["task", "setting", "norm"])["check"].nunique()
    assert len(cases) == 2 * 2 * 3 and set(cases) == {9}
    assert found.loc[found["check"] == "eps 0 is the identity", "passed"].all()
    assert found.loc[found["check"] == "measured norms never exceed eps", "passed"].all()


def test_intervals_over_groups_hold_the_difference_they_are_about(probed):
    found, results = inspection.group_intervals(probed, resamples=300), probed.results()
    assert set(found) == {(task, setting) for task in ("lesion", "chest") for setting in ROWS[:-1]}
    for (task, baseline), (low, high) in found.items():
        average = "micro" if task == "chest" else "weighted"
        f1 = select(
            results, task=task, metric="f1", average=average, class_="", variant="", attack="", student="resnet18"
        )
        means = f1.groupby("setting")["value"].mean()
        assert low <= high and low - 1e-9 <= means["RoS-KD"] - means[baseline] <= high + 1e-9


def test_every_table_whose_runs_are_there_is_shown_and_the_others_are_not(probed):
    found = {exhibit.name: exhibit for exhibit in inspection.finished_tables(probed)}
    assert set(found) == {"table1", "comparisons", "table2", "landscape", "teachers", "self_checks"}, "no Table III"
    for exhibit in found.values():
        assert probed.watermark() in exhibit.caption and not exhibit.frame.empty
        assert tables.printable(exhibit.frame).map(str).to_numpy().size


def test_an_unknown_table_is_refused(probed):
    with pytest.raises(InputError, match="'table4' is unknown; allowed: table1, comparisons"):
        inspection.table(probed, "table4")


def test_table_i_of_the_exhibits_is_the_profiles_own(probed):
    frame, results = inspection.table(probed, "table1").frame, probed.results()
    own = select(
        results, variant="", task="lesion", setting="RoS-KD", metric="f1", average="weighted", attack="", class_=""
    )
    assert frame.loc["RoS-KD", ("lesion", "F1", "ours")] == pytest.approx(own["value"].mean())
    assert np.isfinite(frame["lesion"]["F1"]["ours"]).all()
