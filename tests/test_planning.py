"""The plan of a profile: runs counted as they are made, stages scheduled as the engine does, sizes of images not yet there."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosutils import InputError, costs, planning
from rosutils.calibration import Rates
from rosutils.costs import KINDS, RELATIVE
from rosutils.dryrun import Unopened
from rosutils.planning import duration, expected, makespan, size


@pytest.fixture
def known_rates(monkeypatch):
    """A machine whose every step takes as long as `costs` guesses, in milliseconds; nothing is timed."""
    asked = []

    def rates(steps, **options):
        asked.append((set(steps), options))
        found = {step: KINDS[step.kind][1] * RELATIVE[step.architecture] / 1000 for step in steps}
        return Rates(found, start=2.0, process=5e8)

    monkeypatch.setattr(planning, "calibrate", rates)
    monkeypatch.setattr(planning, "_import_seconds", lambda: 4.0)
    return asked


# Schedules


@given(st.lists(st.floats(0, 1e4), max_size=30), st.integers(1, 8))
def test_a_schedule_is_never_better_than_possible_and_within_the_known_bound(jobs, workers):
    total, longest = sum(jobs), max(jobs, default=0.0)
    best = max(total / workers, longest)
    assert best - 1e-6 <= makespan(jobs, workers) <= total / workers + longest + 1e-6  # Graham 1966


def test_the_longest_job_goes_first_to_whoever_is_free():
    assert makespan([3, 3, 2, 2, 2], 2) == 7  # Graham's example, where the best is 6
    assert makespan([1, 5, 1, 1], 2) == 5 and makespan([1, 2], 1) == 3 and makespan([], 3) == 0


# Plans


def test_a_plan_counts_what_is_made_and_what_tables_share(load_tiny, tmp_path, known_rates):
    study = load_tiny(tmp_path)
    plan = planning.make(study, workers=2)
    specs = study.unique(study.all_runs())
    assert plan.runs["run"].tolist() == [str(spec) for spec in specs] and not plan.runs["done"].any()
    of_table1 = {study.key(spec) for spec in study.runs("table1")}
    assert plan.runs["artefacts"].str.split().map(lambda names: "table1" in names).sum() == len(of_table1)
    guess = [costs.relative(study.of(spec), spec) / 1000 for spec in specs]
    assert plan.runs["seconds"].tolist() == pytest.approx(guess)
    seconds = plan.seconds()
    of_teachers = plan.runs.loc[plan.runs["stage"] == "teachers", "seconds"].tolist()
    assert seconds["teachers"] == makespan(of_teachers, 2)
    lines = "\n".join(planning.describe(plan))
    assert f"in all     {len(specs):>6}" in lines and "on 2 workers of 1 thread" in lines and "disk: " in lines


def test_finished_runs_cost_nothing_and_are_not_timed(load_tiny, tmp_path, known_rates):
    study = load_tiny(tmp_path)
    before = planning.make(study, workers=2)
    study.ensure(study.runs("teachers"))
    after = planning.make(study, workers=2)
    assert after.runs["done"].sum() == len(study.unique(study.runs("teachers"))) > 0
    assert sum(after.seconds().values()) < sum(before.seconds().values())
    assert known_rates[1][0] <= known_rates[0][0]


def test_more_workers_shorten_the_plan_but_none_below_its_longest_run(load_tiny, shared_folder, known_rates):
    study = load_tiny(shared_folder)
    taken = [planning.make(study, workers=workers).seconds()["students"] for workers in (1, 2, 1000)]
    plan = planning.make(study, workers=1)
    assert taken[0] > taken[1] > taken[2] == plan.runs.loc[plan.runs["stage"] == "students", "seconds"].max()


def test_the_paper_is_planned_without_its_images_at_their_known_counts(known_rates):
    study = planning.load("paper")
    assert isinstance(study, Unopened)
    sizes = expected(study, study.student("lesion", "Baseline I", 0))
    assert sizes == (int(25_331 * 0.7), int(25_331 * 0.7), int(25_331 * 0.1), int(25_331 * 0.2))
    on_subset = expected(study, study.teachers("chest", "subset")[0])
    assert on_subset.trained_on / on_subset.train == pytest.approx(0.4 + 0.6 / 5, abs=0.01)
    plan = planning.make(study, workers=8)
    assert plan.about["images"] == (25_331 * 3 + 112_120) * 224**2
    assert np.isfinite(plan.runs[["seconds", "disk", "memory"]].to_numpy()).all()


def test_a_folder_of_unknown_size_must_be_there():
    with pytest.raises(InputError, match="task 'mine' .source folder. has is not known .* --data FOLDER"):
        planning.make(planning.load("my-data"), workers=1)


def test_workers_are_those_told_or_as_many_as_the_gpus_hold(load_tiny, shared_folder):
    study = load_tiny(shared_folder, engine={"gpus_per_run": 0.5})
    assert planning.workers(study) == 1 and planning.workers(study, 6) == 6 and planning.workers(study, None, 4) == 8
    with pytest.raises(InputError, match="give one of them"):
        planning.workers(study, 2, 2)
    with pytest.raises(InputError, match="--gpus is 1, but engine.gpus_per_run is 2"):
        planning.workers(load_tiny(shared_folder, engine={"gpus_per_run": 2}), None, 1)


def test_imports_are_timed_in_processes_of_their_own():
    assert 0.1 < planning._import_seconds() < 120


# On disk, and for people


def test_a_plan_is_kept_whole_and_a_damaged_one_is_told(load_tiny, tmp_path, known_rates):
    study = load_tiny(tmp_path)
    path = planning.place(study)
    assert planning.read(path) is None
    plan = planning.make(study, workers=2)
    planning.save(plan, path)
    kept = planning.read(path)
    assert kept.about == json.loads(json.dumps(plan.about))
    pd.testing.assert_frame_equal(kept.runs, plan.runs)
    path.write_text('{"about": {}}')
    with pytest.raises(InputError, match="is damaged .*; delete it, or plan again"):
        planning.read(path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (400_000, "5 days")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_sizes_read_as_people_say_them():
    assert (size(1.5e9), size(2.4e6)) == ("1.5 GB", "2 MB")
