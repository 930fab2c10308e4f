"""The study: the settings of Section IV-C as runs, each made once, with the same bits whatever happens on the way."""

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rosutils import InputError, results
from rosutils.metrics import best_thresholds, precision_recall_f1
from rosutils.settings import CHANCE, PLAIN, ROWS, SETTINGS, TEACHERS
from rosutils.store import Store
from rosutils.study import Study
from rosutils.study.experiment import bank_of
from rosutils.study.making import make
from rosutils.study.needs import ARTEFACTS
from rosutils.study.verification import problems


@pytest.fixture(scope="module")
def trained(load_tiny, tmp_path_factory) -> Study:
    """Every run of Table I's lesion task, and for the chest task Baseline I and RoS-KD with what it needs."""
    study = load_tiny(tmp_path_factory.mktemp("trained"), tasks=["lesion", "chest"], engine={"checkpoint_seconds": 0})
    chest = [study.student("chest", setting) for setting in ("Baseline I", "RoS-KD")]
    study.ensure([spec for spec in study.runs("table1") if spec.task == "lesion"] + chest)
    return study


@pytest.fixture(scope="module")
def measured(trained) -> pd.DataFrame:
    return trained.results()


def files(study) -> dict[str, int]:
    """Every file of the store with the time it was written."""
    found = study.store.root.glob("[!.]*/*")
    return {str(path.relative_to(study.store.root)): path.stat().st_mtime_ns for path in found}


@contextmanager
def steps(last: int | None = None) -> Iterator[list]:
    """The steps of SGD that are taken meanwhile; in the one after so many the user presses Ctrl-C."""
    taken = []

    def step(optimizer, *arguments):
        if isinstance(optimizer, torch.optim.SGD):
            if len(taken) == last:
                raise KeyboardInterrupt
            taken.append(optimizer)

    hook = register_optimizer_step_pre_hook(step)
    try:
        yield taken
    finally:
        hook.remove()


def assert_same_bits(study, other, spec):
    first, second = study.run(spec), other.run(spec)
    names = {path.stem for path in first.path.glob("*.safetensors")}
    assert names == {path.stem for path in second.path.glob("*.safetensors")} and names
    for name in names:
        one, two = first.tensors(name), second.tensors(name)
        assert one.keys() == two.keys() and [key for key in one if not one[key].equal(two[key])] == []
    tables = [run.path / "history.csv" for run in (first, second)]
    assert spec.role == "bank" or tables[0].read_text() == tables[1].read_text()


# Section IV-C


def test_the_settings_are_those_of_section_iv_c():
    assert [tuple(setting) for setting in SETTINGS] == [
        # name, teachers, trained on, weighted, averaged
        ("Baseline I", "none", "full", "none", False),
        ("Baseline II", "single", "full", "single", False),
        ("Baseline III", "all", "full", "uniform", False),
        ("Baseline III, subset teachers", "all", "subset", "uniform", False),
        ("Baseline IV", "all", "full", "reinforced", False),
        ("Baseline V", "all", "subset", "exponential", False),
        ("RoS-KD", "all", "subset", "exponential", True),
    ]


@pytest.fixture(scope="module")
def paper() -> Study:
    return Study.load("paper")


def student(study, setting):
    return study.student("lesion", setting)


def test_every_student_of_the_paper_is_a_resnet18_with_the_teachers_of_its_setting(paper):
    five = ["resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121"]
    assert {student(paper, name).architecture for name in ROWS} == {"resnet18"}
    for setting in SETTINGS:
        teachers = student(paper, setting.name).teachers
        pool = {"none": [], "single": ["densenet121"], "all": five}[setting.teachers]
        assert [teacher.architecture for teacher in teachers] == pool
        subsets = range(5) if setting.pool == "subset" else [None] * len(pool)
        assert [teacher.subset for teacher in teachers] == list(subsets)
    assert student(paper, "Baseline V") == student(paper, "RoS-KD"), "one run"


def test_baseline_iii_differs_from_its_second_reading_in_the_teachers_alone(paper):
    full, subset = student(paper, "Baseline III"), student(paper, "Baseline III, subset teachers")
    assert full != subset and dataclasses.replace(full, teachers=subset.teachers) == subset
    for one, two in zip(full.teachers, subset.teachers, strict=True):
        assert dataclasses.replace(two, subset=None) == one


@pytest.mark.parametrize("profile", ["smoke", "demo"])
def test_which_tasks_have_several_labels_is_known_before_their_images_are_opened(profile):
    study = Study.load(profile)
    for name, task in study.tasks().items():
        assert study.parameters.data.sources[name].multilabel == task.multilabel


def test_the_paper_needs_what_its_tables_and_figures_show(paper):
    """Counted by hand from Section IV: two tasks, five teachers, three replicates."""
    students = {name: [s for s in paper.runs(name) if s.role == "student"] for name in ARTEFACTS}
    roles = Counter(spec.role for spec in paper.runs("table1"))
    assert [roles[role] for role in ("teacher", "bank", "student")] == [60, 60, 36], "6 students: V and RoS-KD are one"
    assert len(students["fig2"]) == 2 * 5 * 2 * 3 and len({s.architecture for s in students["fig2"]}) == 5
    assert len(students["table3"]) == 3 and {s.architecture for s in students["table3"]} == {"densenet121"}
    assert {s.task for s in students["table3"]} == {"chest"}
    assert len({s.teachers[0].seed for s in students["table3"]}) == 3
    assert len(students["fig3"]) == 2 * 3 * (6 + 1)
    teachers = [s for s in paper.runs("fig3") if s.role == "teacher" and s.subset is not None]
    assert len(teachers) == 2 * 5 * 6 * 3, "teachers are trained anew at every overlap"
    attacks = [s for s in paper.runs("table2") if s.role == "attack"]
    assert len(attacks) == 2 * 2 * 3 and {s.of.teachers[0].subset for s in attacks} == {0}, "exactly same teachers"
    curves = [s for s in paper.runs("table2") if s.role == "curve"]
    assert len(curves) == 2 * 7 * 3
    surfaces = [s for s in paper.runs("fig4") if s.role == "surface"]
    assert len(surfaces) == 2 * 3 * 3 * len(paper.parameters.landscape.directions)


def test_an_unknown_artefact_is_refused(paper):
    with pytest.raises(InputError, match="'table9' is unknown; allowed: .*table1"):
        paper.runs("table9")


def test_every_artefact_that_is_not_the_papers_says_so():
    assert "not comparable with the paper" in Study.load("smoke").watermark()
    assert "not comparable" not in Study.load("paper").watermark()
    assert "not comparable" not in Study.load("paper", data={"root": "x"}, engine={"workers": 3}).watermark()
    for sections in ({"training": {"learning_rate": 0.02}}, {"data": {"allow_missing": True}}):
        assert "not comparable" in Study.load("paper", **sections).watermark()
    altered = Study.load("real").watermark()
    assert all(part in altered for part in ("profile real", "isic2019", "nih", "px", "epochs", "not comparable"))


# Made once


def test_a_second_time_nothing_is_trained(trained):
    lesion = [spec for spec in trained.runs("table1") if spec.task == "lesion"]
    before = files(trained)
    assert len(before) >= 3 * len(lesion) and trained.missing(lesion) == []
    with steps() as taken:
        Study(trained.parameters).ensure(lesion)
    assert files(trained) == before and taken == []


def test_nothing_is_left_beside_the_finished_runs(trained):
    root = trained.store.root
    assert {path.name for path in root.iterdir()} - set(trained.store.keys()) == {".locks", ".checkpoints"}
    assert list((root / ".checkpoints").iterdir()) == [] and trained.store.verify() == []


# The same bits


def test_processes_and_this_process_give_the_same_bits(trained, load_tiny, tmp_path):
    parallel = load_tiny(tmp_path, engine={"backend": "loky", "workers": 2})
    teachers = parallel.teachers("lesion", "subset")
    parallel.ensure(list(map(bank_of, teachers)))
    for spec in [*teachers, *map(bank_of, teachers)]:
        assert_same_bits(trained, parallel, spec)


LONGER = {
    "engine": {"checkpoint_seconds": 0},
    "teachers": {"architectures": ["mobilenet_v2", "mobilenet_v2"]},
    "distillation": {"student": "mobilenet_v2", "averaging_start": 1},
    "training": {"epochs": 4, "milestones": [2], "reported": "best-validation"},
}
INTERRUPTED = ("RoS-KD", "Baseline IV")


@pytest.fixture(scope="module")
def unbroken(load_tiny, tmp_path_factory) -> Study:
    """Students of four epochs, made without a break."""
    study = load_tiny(tmp_path_factory.mktemp("unbroken"), **LONGER)
    study.ensure([study.student("lesion", setting) for setting in INTERRUPTED])
    return study


@pytest.mark.parametrize(("setting", "left"), [*((name, 2) for name in INTERRUPTED), ("RoS-KD", 0)])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    unbroken, load_tiny, setting, left, tmp_path, monkeypatch
):
    """In its third epoch of four, or when all are over and nothing is stored yet."""
    shutil.copytree(unbroken.folder, tmp_path / "runs", ignore=shutil.ignore_patterns("student-*"))
    study = load_tiny(tmp_path, **LONGER)
    spec = study.student("lesion", setting)
    batches = len(study.loader(spec, study.training_index(spec), shuffled=True))
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, steps(2 * batches + 2 if left else None):
        if not left:
            patch.setattr(Store, "put", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        make(study, spec)
    assert study.run(spec) is None and study.store.checkpoint(study.key(spec)).is_file()
    with steps() as taken:
        make(study, spec)
    assert len(taken) == left * batches
    assert_same_bits(unbroken, study, spec)
    assert not study.store.checkpoint(study.key(spec)).exists()


def test_the_average_of_the_best_epoch_is_reported_where_the_best_epoch_is(unbroken):
    run, task = unbroken.run(unbroken.student("lesion", "RoS-KD")), unbroken.task("lesion")
    history = run.table("history")["averaged_validation_f1"]
    assert history.notna().tolist() == [False, True, True, True]
    scores, labels = run.tensors("averaged_logits")["validation"], task.labels[task.split["validation"]]
    assert float(precision_recall_f1(scores, labels, average="weighted")[2]) == pytest.approx(history.max())


# What is kept with a run


def test_ros_kd_is_the_mean_of_the_epochs_after_the_warm_up(trained):
    run = trained.run(trained.student("lesion", "RoS-KD"))
    weights, averaged = run.tensors("weights"), run.tensors("averaged")
    # Two epochs, one of warm-up: one checkpoint is averaged, hence the last weights; BatchNorm is estimated anew.
    learned = [name for name in weights if "running" not in name and "num_batches" not in name]
    assert all(weights[name].equal(averaged[name]) for name in learned)
    assert all(weights[name].equal(averaged[name]) for name in weights if "running_mean" in name)


# results.csv


def kept(study, row_key: str, setting: str) -> dict[str, torch.Tensor]:
    return study.store.get(row_key).tensors("averaged_logits" if setting == "RoS-KD" else "logits")


def by_scikit_learn(scores, labels, thresholds) -> dict[str, float]:
    """Micro F1 and mean AUROC straight from scikit-learn, which test_metrics holds against in every averaging."""
    labels, several = labels.numpy().astype(int), labels.ndim == 2
    probabilities = (scores.double().sigmoid() if several else scores.double().softmax(1)).numpy()
    predicted = (probabilities >= thresholds).astype(int) if several else probabilities.argmax(1)
    one_hot = labels if several else np.eye(scores.shape[1], dtype=int)[labels]
    both = [number for number, column in enumerate(one_hot.T) if 0 < column.sum() < len(column)]
    areas = [roc_auc_score(one_hot[:, number], probabilities[:, number]) for number in both]
    return {"f1": f1_score(labels, predicted, average="micro", zero_division=0), "auroc": np.mean(areas)}


def test_results_are_what_scikit_learn_says_of_the_logits_kept(trained, measured):
    skilled = measured[~measured["setting"].isin(["", *CHANCE]) & (measured["class"] == "")]
    for (task_name, setting, key), rows in skilled.groupby(["task", "setting", "run"]):
        task, scores = trained.task(task_name), kept(trained, key, setting)
        validation, test = (task.labels[task.split[part]] for part in ("validation", "test"))
        thresholds = best_thresholds(scores["validation"], validation).numpy() if task.multilabel else None
        found = rows.set_index(["metric", "average"])["value"]
        expected = by_scikit_learn(scores["test"], test, thresholds)
        assert found["f1", "micro"] == pytest.approx(expected["f1"], abs=1e-12), setting
        assert found["auroc", "macro"] == pytest.approx(expected["auroc"], abs=1e-12), setting


def test_results_have_the_schema_and_a_row_of_every_setting_and_teacher(trained, measured):
    assert list(measured.columns) == list(results.COLUMNS)
    lesion, chest = (measured[measured["task"] == task] for task in ("lesion", "chest"))
    assert set(lesion["setting"]) == {*ROWS, *TEACHERS, *CHANCE, PLAIN, ""}
    assert set(chest["setting"]) == {"Baseline I", "Baseline V", "RoS-KD", "teacher, subset"}
    for task, rows in measured.groupby("task"):
        assert set(rows["class"]) == {"", *trained.task(task).class_names}
    pd.testing.assert_frame_equal(results.read(trained.output / "results.csv"), measured)


def test_every_number_leads_to_a_run(trained, measured):
    assert set(measured["run"]) <= set(trained.store.keys())
    v, ros_kd = (set(measured.loc[measured["setting"] == name, "run"]) for name in ("Baseline V", "RoS-KD"))
    assert v == ros_kd and len(v) == 2


def test_fixed_thresholds_are_one_half(trained):
    fixed = trained.parameters.evaluation.model_copy(update={"thresholds": "fixed"})
    study = Study(trained.parameters.model_copy(update={"evaluation": fixed}))
    task, run = study.task("chest"), study.run(study.student("chest", "Baseline I"))
    expected = by_scikit_learn(run.tensors("logits")["test"], task.labels[task.split["test"]], 0.5)
    which = {"task": "chest", "setting": "Baseline I", "average": "micro", "metric": "f1"}
    assert results.select(study.measure(), **which)["value"].item() == pytest.approx(expected["f1"])


def test_without_any_run_there_are_no_results(load_tiny, shared_folder):
    with pytest.raises(InputError, match=r"no run of profile 'smoke\S*' is finished"):
        load_tiny(shared_folder, seeds={"teachers": 9, "student": 99}).results()


def test_results_are_written_anew_when_runs_have_come_or_somebody_changed_them(trained, measured):
    path = trained.output / "results.csv"
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    trained.results()
    assert path.stat().st_mtime_ns == written, "nothing has changed, nothing is written"
    text = before.decode().splitlines()
    text[5] = text[5].replace(",f1,", ",f1,").replace(text[5].split(",")[-2], "0.123")
    path.write_text("\n".join(text) + "\n")
    pd.testing.assert_frame_equal(trained.results(), measured)
    assert path.read_bytes() == before
    fewer = Study(trained.parameters, label=trained.label)
    fewer.all_runs = lambda: [spec for spec in trained.all_runs() if spec.task == "lesion"]
    assert set(fewer.results()["task"]) == {"lesion"}
    assert path.read_bytes() != before
    trained.results()
    assert path.read_bytes() == before


def test_what_other_code_measured_is_measured_again(trained, measured, monkeypatch):
    """As when the gate's measure was taken out and put back: the table lacked it, and was taken for today's."""
    of_then = measured[~measured["metric"].str.startswith("validation_")]
    with monkeypatch.context() as then:
        then.setattr("rosutils.study.study.CODE", "of another day")
        then.setattr(Study, "measure", lambda study: of_then)
        assert len(trained.results()) == len(of_then) < len(measured)
    pd.testing.assert_frame_equal(trained.results(), measured)


def test_of_notebooks_that_want_the_results_at_once_one_measures(trained, monkeypatch):
    measured, measure = [], Study.measure

    def slowly(study):
        measured.append(study)
        time.sleep(0.3)
        return measure(study)

    (trained.output / "results.csv").unlink()
    monkeypatch.setattr(Study, "measure", slowly)
    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(lambda _: Study(trained.parameters, label=trained.label).results(), range(3)))
    assert len(measured) == 1
    assert all(table.equals(tables[0]) for table in tables)


def test_provenance_tells_the_parts_of_the_split_with_the_checksums_of_their_lists(trained):
    parts = trained.provenance()["data"]["lesion"]["parts"]
    split = trained.task("lesion").split
    assert {part: facts["images"] for part, facts in parts.items()} == {part: len(split[part]) for part in split}
    assert len({facts["sha256"] for facts in parts.values()}) == len(parts)


def test_a_number_changed_by_hand_is_named_by_verify(trained, measured):
    path = trained.output / "results.csv"
    before = path.read_text()
    row = results.select(measured, setting="Baseline I", metric="f1", average="macro").iloc[0]
    assert [problem for problem in problems(trained) if "provenance.json" not in problem] == []
    path.write_text(before.replace(f"macro,f1,{float(row['value'])!r},{row['run']}", f"macro,f1,0.987,{row['run']}"))
    assert path.read_text() != before
    [problem] = [problem for problem in problems(trained) if "provenance.json" not in problem]
    assert "0.987" in problem and row["run"] in problem and "Baseline I" in problem
    path.write_text(before)


def test_a_batch_larger_than_the_smallest_subset_is_refused_before_any_training(tmp_path):
    study = Study.load("smoke", training={"batch_size": 64}, engine={"store": str(tmp_path), "backend": "inline"})
    with pytest.raises(InputError, match="training.batch_size is 64"):
        study.ensure(study.runs("table1"))
    assert not study.store.keys()


def test_a_test_part_of_one_group_is_refused_before_any_training(load_tiny, shared_folder):
    study = load_tiny(shared_folder)
    task = study.task("lesion")
    study._tasks["lesion"] = dataclasses.replace(task, groups=torch.zeros_like(task.groups))
    with pytest.raises(InputError, match="all test images of lesion are of one group .* have more groups"):
        study.check_batches(study.runs("table1"))


def test_a_task_with_sections_of_its_own_has_them_on_every_face(load_tiny, tmp_path):
    chest = {"training": {"epochs": 3}, "seeds": {"replicates": 1}}
    study = load_tiny(tmp_path, tasks=["lesion", "chest"], seeds={"replicates": 2}, by_task={"chest": chest})
    assert "2 epochs (chest 3)" in study.watermark()
    found = [spec for spec in study.runs("table1") if spec.role == "student"]
    assert {(s.task, s.replicate) for s in found} == {("lesion", 0), ("lesion", 1), ("chest", 0)}
    alone = [spec for spec in found if spec.weighting == "none"]
    epochs = {spec.task: study.recipe(spec)["training"]["epochs"] for spec in alone}
    assert epochs == {"lesion": 2, "chest": 3}
