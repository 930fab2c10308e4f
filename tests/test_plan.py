"""Estimates before a run and on the way: runs counted as they are made, time by finished runs, disk as an upper bound, doubts."""

import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rosutils import InputError, params
from rosutils.__main__ import main
from rosutils.store import Store
from rosutils.study import costs, plan
from rosutils.study.needs import ARTEFACTS, probe_of, with_prerequisites
from rosutils.study.plan import Unopened, duration, sizes, survey, takes, walk
from rosutils.study.variants import Variant
from rosutils.subsets import overlapping_subsets


@pytest.fixture(scope="module")
def begun(load_tiny, tmp_path_factory):
    """A study whose teachers are trained, and nothing else."""
    study = load_tiny(tmp_path_factory.mktemp("begun"))
    study.ensure(study.runs("teachers"))
    return study


@pytest.fixture
def measured(monkeypatch):
    """A machine of 100 images a second, whatever it is."""
    monkeypatch.setattr(plan, "measured_speed", lambda study, workers: 100.0)


def row(lines, name) -> list[str]:
    """Of a line of the table: runs, shared, done, took, to make, images, take."""
    [line] = [line for line in lines if line.startswith(f"{name:<14}") and not line.startswith("  ")]
    cells = re.fullmatch(r" *(\d+) +(\d+) +(\d+) +(.+? .+?) +(\d+) +([\d,]+) +(.+)", line.removeprefix(name))
    return list(cells.groups())


# Time


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1e4)), min_size=1, max_size=30), st.integers(1, 8))
def test_stages_come_one_after_another_and_none_is_faster_than_possible(jobs, workers):
    runs = pd.DataFrame(jobs, columns=["stage", "work"])
    stages = [[work for stage, work in jobs if stage == name] for name in "ab"]
    best = sum(max(sum(stage) / workers, max(stage, default=0)) for stage in stages)
    assert takes(runs, workers, 2.0) == pytest.approx(best / 2)
    assert takes(runs[:0], workers, 2.0) == 0


def test_the_speed_is_what_the_finished_networks_had(begun, load_tiny, shared_folder):
    trained = [spec for spec in begun.unique(begun.runs("teachers")) if spec.role == "teacher"]
    seconds = sum(begun.run(spec).about()["record"]["seconds"] for spec in trained)
    assert costs.speed(begun) == pytest.approx(sum(costs.work(begun, spec) for spec in trained) / seconds)
    assert costs.speed(load_tiny(shared_folder)) is None


def test_a_speed_is_measured_by_training_a_network(load_tiny, shared_folder, monkeypatch):
    monkeypatch.setattr(plan, "SECONDS", 0.1)
    assert 0.5 < plan.measured_speed(load_tiny(shared_folder), 1) < 1e5


# Plans


def test_a_plan_counts_what_is_made_and_what_tables_share(load_tiny, tmp_path, measured):
    study = load_tiny(tmp_path)
    lines, specs = list(plan.plan(study, 2)), study.unique(study.all_runs())
    of_table1 = {study.key(spec) for spec in study.runs("table1")}
    others = {study.key(spec) for name in ARTEFACTS if name != "table1" for spec in study.runs(name)}
    runs, shared, done, took, to_make, *_ = row(lines, "table1")
    assert (int(runs), int(shared), int(to_make)) == (len(of_table1), len(of_table1 & others), len(of_table1))
    assert done == "0" and row(lines, "in all")[0] == row(lines, "in all")[4] == str(len(specs))
    work = [costs.work(study, spec) for spec in specs if spec.role == "student"]
    seconds = duration(max(sum(work) / 2, max(work)) / 100)
    assert row(lines, "all students")[4:] == [str(len(work)), f"{sum(work):,.0f}", seconds]
    assert "workers: 2, each of 100 images a second, measured now" in lines


def test_finished_runs_take_nothing_and_tell_the_speed_unless_one_is_told(begun):
    lines, runs = list(plan.plan(begun, 1)), survey(begun)
    found, _, done, _, to_make, images, seconds = row(lines, "teachers")
    assert int(found) == int(done) > 0 and (to_make, images, seconds) == ("0", "0", "0 s")
    assert any(line.endswith("images a second, by what finished runs took") for line in lines)
    lines = list(plan.plan(begun, 3, speed=7.0))
    assert row(lines, "in all")[-1] == duration(takes(runs[~runs["done"]], 3, 7.0))
    assert "workers: 3, each of 7 images a second, as told" in lines


def test_work_is_told_in_floating_point_operations_too(begun):
    """A ResNet-18 takes 1.8 billion multiply-adds for an image of 224 px (torchvision's model card)."""
    assert plan.flops(224) == pytest.approx(3 * 2 * 1.814e9, rel=0.01)
    [line] = [line for line in plan.plan(begun, 1) if line.startswith("images: ")]
    runs = survey(begun)
    assert f"{plan.flops(36) * runs.loc[~runs['done'], 'work'].sum():.2g} in all" in line


def test_the_paper_is_planned_without_its_images_at_their_known_counts():
    study = plan.load("paper")
    assert isinstance(study, Unopened)
    size = sizes(study, study.student("lesion", "Baseline I"))
    assert size == pytest.approx((25_331 * 0.7, 25_331 * 0.7, 25_331 * 0.1, 25_331 * 0.2), abs=1)
    on_subset = sizes(study, study.teachers("chest", "subset")[0])
    assert on_subset.trained_on / on_subset.train == pytest.approx(0.4 + 0.6 / 5, abs=0.01)
    runs = survey(study)
    assert np.isfinite(runs[["work", "small", "weights"]].to_numpy()).all()


def test_a_gpu_that_is_not_there_has_no_speed_unless_it_is_told():
    study = plan.load("paper", engine={"device": "cpu"})
    lines = list(plan.plan(study, 8, gpus=True))
    assert row(lines, "in all")[-1] == "?" and int(row(lines, "in all")[-2].replace(",", "")) > 1e8
    [about] = [line for line in lines if line.startswith("workers: 8")]
    assert "not known without one; give it by --speed" in about
    assert not any("days" in line for line in lines)


def test_workers_are_those_told_or_as_many_as_the_gpus_hold(tiny_sections, shared_folder):
    def planned(*arguments, **engine):
        sections = tiny_sections(shared_folder, engine=engine)
        return CliRunner().invoke(main, ["plan", "smoke", "-y", str(sections), "--speed", "100", *arguments])

    assert "workers: 1, each of 100 images" in planned().output
    assert "workers: 6, each of 100 images" in planned("--workers", "6").output
    assert "workers: 8, each of 100 images" in planned("--gpus", "4", gpus_per_run=0.5).output
    assert "give one of them" in planned("--gpus", "2", "--workers", "2").stderr
    assert "--gpus is 1, but engine.gpus_per_run is 2" in planned("--gpus", "1", gpus_per_run=2).stderr


def test_a_folder_of_unknown_size_must_be_there():
    with pytest.raises(InputError, match="how many images task 'mine' has is not known .* --data FOLDER"):
        list(plan.plan(plan.load("my-data"), 1))


# Disk


def test_the_disk_holds_what_was_said_at_the_end_and_no_more_on_the_way(load_tiny, tmp_path, monkeypatch):
    sweeps = {"scale": {"training": {"epochs": 2}}, "noise": {"symmetric": [0.4], "pairflip": []}}
    study, seen = load_tiny(tmp_path, sweeps=sweeps, engine={"keep_weights": "needed", "checkpoint_seconds": 0}), []

    def used() -> int:
        return sum(path.stat().st_size for path in study.store.root.rglob("*") if path.is_file())

    def looked_at(function):
        def call(*arguments, **options):
            before, found, after = used(), function(*arguments, **options), used()
            seen.extend([before, after])
            return found

        return call

    for name in ("put", "release"):
        monkeypatch.setattr(Store, name, looked_at(getattr(Store, name)))
    noisy = study.variants[Variant("symmetric", "0.4")]
    asked = [probe_of(noisy, "agreement", "lesion", row) for row in ("Baseline V", "RoS-KD")]
    wanted = with_prerequisites([*asked, study.student("lesion", "Baseline I")])  # the last alone keeps its weights
    keys, runs = {study.key(spec) for spec in wanted}, survey(study)
    end, most, images = plan.disk_of(study, runs[runs["key"].isin(keys)], 1)
    assert images == study.task("lesion").images.nbytes
    study.ensure(wanted)
    assert max(seen) <= most < 4 * max(seen)
    assert used() == pytest.approx(end, rel=0.05)


def test_too_little_free_disk_is_told_before_anything_is_trained(load_tiny, shared_folder, monkeypatch):
    study = load_tiny(shared_folder)
    assert not any("disk" in doubt for doubt in plan.lacking(study))
    monkeypatch.setattr(plan, "free", lambda folder: 10**6)
    [doubt] = [doubt for doubt in plan.lacking(study) if "disk" in doubt]
    assert re.fullmatch(r"the runs to make take up to [\d.]+[MG]B more disk, and 1.00MB are free", doubt)


# Status


def test_status_says_what_is_done_and_how_long_the_rest_takes(begun):
    runs, lines = survey(begun), list(plan.status(begun))
    done, own = runs[runs["done"]], runs[runs["stage"] == "students"]
    assert set(done["role"]) == {"teacher", "chance"} and set(runs.loc[~runs["done"], "role"]) > {"student", "bank"}
    assert row(lines, "all students")[2:5] == ["0", "0 s", str(len(own))]
    assert row(lines, "all students")[-1] == duration(takes(own, 1, costs.speed(begun)))
    assert row(lines, "in all")[2:4] == [str(len(done)), duration(done["took"].sum())]


def test_status_tells_what_killed_runs_left(begun):
    left = begun.store.root / ".teacher-resnet18-0-half"
    left.mkdir()
    os.utime(left, (1, 1))
    assert left.name in list(plan.status(begun))[-1]
    left.rmdir()
    assert not any("left by killed runs" in line for line in plan.status(begun))


def test_networks_that_say_less_than_the_base_rates_are_named_up_to_five(begun, monkeypatch):
    runs = survey(begun)
    networks = runs[runs["margin"].notna()]
    said = (
        f"{len(networks)} of {len(networks)} networks have a higher validation loss than the base rates alone, such as:"
    )
    monkeypatch.setattr(plan, "survey", lambda study: runs.assign(margin=runs["margin"].abs()))
    assert said not in plan.status(begun)
    monkeypatch.setattr(plan, "survey", lambda study: runs.assign(margin=-runs["margin"].abs()))
    lines = list(plan.status(begun))
    assert lines[lines.index(said) + 1 :] == [f"  {run}" for run in networks["run"][:5]]


# Dry runs


def walked(profile, **sections) -> str:
    return "\n".join(walk(Unopened.load(profile, **sections)))


def test_it_counts_the_runs_that_the_opened_study_has(load_tiny, shared_folder, tiny_sections):
    three = {"subsets": {"count": 3}, "teachers": {"architectures": ["resnet18", "mobilenet_v2", "resnet34"]}}
    changes = three | {"sweeps": {"scale": three}}  # of two subsets, sliding windows are those with a shared core
    opened = load_tiny(shared_folder, **changes)
    unopened = Unopened.load("smoke", **tiny_sections(shared_folder, **changes))
    for artefact in ARTEFACTS:
        counts = [len(study.unique(study.runs(artefact))) for study in (opened, unopened)]
        assert counts[0] == counts[1], artefact
    assert len(opened.unique(opened.all_runs())) == len(unopened.unique(unopened.all_runs()))


@pytest.mark.parametrize("profile", params.profiles())
def test_every_profile_is_walked_without_data_and_nothing_is_written(profile, tmp_path):
    text = walked(profile, engine={"store": str(tmp_path / "runs"), "artefacts": str(tmp_path / "figures")})
    assert all(f"  {artefact} " in text for artefact in ARTEFACTS)
    assert list(tmp_path.iterdir()) == []


def test_the_paper_is_walked_with_what_it_needs_and_what_is_not_there(tmp_path):
    text = walked("paper", data={"root": str(tmp_path)})
    for part in (
        "25,331 images when whole", "112,120 images when whole", "take 3.8 GB", "take 5.6 GB", 
        f"{tmp_path}/nih, which is not there",
        "challenge.isic-archive.com", "split: seeded, 70% / 10% / 20%", f"lesion: no images at {tmp_path}/isic2019",
    ):  # fmt: skip
        assert part in text
    (tmp_path / "isic2019").mkdir(), (tmp_path / "nih").mkdir()
    assert walked("paper", data={"root": str(tmp_path)}).endswith("the parameters are consistent")


def test_what_would_only_fail_late_is_told(tmp_path):
    lists = {part: str(tmp_path / f"{part}.txt") for part in ("train", "validation", "test")}
    sources = {"lesion": {"examples": 120}, "chest": {"lists": lists}}
    text = walked("smoke", data={"sources": sources}, training={"batch_size": 64, "milestones": [1, 9]})
    assert "training.milestones has [9], but training ends after 2 epochs" in text
    assert "distillation.averaging_start is 1 of 2 epochs: the average is of one epoch alone" in text
    assert "lesion: a teacher's subset has about 50 images, fewer than training.batch_size 64" in text
    assert f"chest: the list of the train part, {tmp_path}/train.txt, is not there" in text


def test_the_subset_that_is_doubted_is_that_of_the_scheme(load_tiny, shared_folder):
    """Pairwise subsets are smaller: p of another one, not p of all."""
    subsets = {"count": 5, "overlap": 0.4, "scheme": "pairwise"}
    architectures = {"architectures": ["resnet18"] * 4 + ["mobilenet_v2"]}
    study = load_tiny(shared_folder, subsets=subsets, teachers=architectures, training={"batch_size": 32})
    [doubt] = [doubt for doubt in plan.doubts(study) if "subset" in doubt]
    how = {"scheme": "pairwise", "generator": torch.Generator()}
    sizes_of = [len(subset) for subset in overlapping_subsets(56, 5, 0.4, **how)]
    assert f"about {np.mean(sizes_of):.0f} images, fewer than training.batch_size 32" in doubt


def test_doubts_are_about_a_tasks_own_parameters_and_of_an_opened_study_about_its_images(load_tiny, shared_folder):
    text = walked("smoke", by_task={"chest": {"training": {"epochs": 5, "milestones": [7]}}})
    assert "training.milestones has [7], but training ends after 5 epochs" in text
    assert "averaging_start is 1 of 2 epochs" in text and text.count("averaging_start") == 1
    study = load_tiny(shared_folder, training={"batch_size": 64})
    assert any("lesion: a teacher's subset has about 39 images" in doubt for doubt in plan.doubts(study))


def test_the_command_needs_no_data():
    result = CliRunner().invoke(main, ["reproduce", "paper", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "expected in DATA=folder, which is not given" in result.output
    assert "01_data" in result.output.splitlines()[-1]
    wrong = CliRunner().invoke(main, ["reproduce", "paper", "--dry-run", "-y", "{subsets: {overlap: 1.4}}"])
    assert wrong.exit_code == 2 and "subsets.overlap: 1.4 is not allowed" in wrong.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (400_000, "5 days")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
