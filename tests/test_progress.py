"""How far a study is, and what the plan said: finished runs, expected seconds of the others, stages beside their plan."""

import pandas as pd
import pytest

from rosutils import planning, progress
from rosutils.artefacts import ARTEFACTS
from rosutils.planning import Plan, duration


@pytest.fixture(scope="module")
def begun(load_tiny, tmp_path_factory):
    """A study whose teachers are trained, and nothing else."""
    study = load_tiny(tmp_path_factory.mktemp("begun"))
    study.ensure(study.runs("teachers"))
    return study


def planned(study, seconds: float) -> None:
    """Keep a plan by which every run takes so long."""
    specs = study.unique(study.all_runs())
    rows = [
        {"run": str(spec), "stage": planning.STAGE[spec.role], "artefacts": "", "done": False, "seconds": seconds, "disk": 0.0,
         "memory": 0.0} for spec in specs
    ]  # fmt: skip
    planning.save(Plan({}, pd.DataFrame(rows)), planning.place(study))


@pytest.fixture
def unplanned(begun):
    planning.place(begun).unlink(missing_ok=True)
    return begun


def test_what_is_done_took_what_its_record_says_and_the_rest_is_expected_in_proportion(unplanned):
    frame = progress.status(unplanned)
    done = frame[frame["done"]]
    assert set(done["role"]) == {"teacher"} and set(frame.loc[~frame["done"], "role"]) > {"student", "bank"}
    record = {key: unplanned.store.get(key).about()["record"]["seconds"] for key in done["key"]}
    assert dict(zip(done["key"], done["taken"], strict=True)) == record
    assert (done["expected"] == done["taken"]).all()
    assert frame["expected"].gt(0).all() and frame["planned"].isna().all()
    assert "table1" in frame.loc[frame["role"] == "student", "artefacts"].iloc[0].split()


def test_a_plan_is_corrected_by_what_the_done_runs_took(unplanned):
    planned(unplanned, 3.0)
    frame = progress.status(unplanned)
    done = frame[frame["done"]]
    assert frame["planned"].eq(3.0).all()
    assert frame.loc[~frame["done"], "expected"].to_numpy() == pytest.approx(done["taken"].mean())
    stage = next(line for line in progress.describe(unplanned, frame) if line.startswith("teachers "))
    off = done["taken"].sum() / (3.0 * len(done)) - 1
    assert f"{len(done)} of {len(frame[frame['stage'] == 'teachers'])} done in" in stage
    assert f"planned {duration(3.0 * len(done))} ({off:+.0%})" in stage


def test_before_anything_is_done_or_planned_status_says_how_to_plan(load_tiny, shared_folder):
    study = load_tiny(shared_folder, seeds={"teachers": 5, "students": [55]})
    frame = progress.status(study)
    assert not frame["done"].any() and frame["expected"].isna().all()
    *runs, last = progress.describe(study, frame)
    assert last.endswith("how long they should take: python -m rosutils plan smoke")
    assert runs[0].startswith("missing  ") and "about" not in runs[0]


def test_every_artefact_that_a_study_has_is_named_with_its_runs(unplanned):
    frame = progress.status(unplanned)
    assert frame["key"].is_unique
    # Table III is about tasks with several labels per image, and this study has none
    assert set(" ".join(frame["artefacts"]).split()) == set(ARTEFACTS) - {"table3"}


def test_what_is_left_is_told_with_its_workers(unplanned):
    frame = progress.status(unplanned)
    *_, last = progress.describe(unplanned, frame)
    missing = frame[~frame["done"]]
    assert f"{frame['done'].sum()} of {len(frame)} runs of profile smoke are done, {len(missing)} missing" in last
    assert f": about {duration(missing['expected'].sum())} on 1 workers" in last
