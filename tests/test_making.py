"""How a run is made: its loss from its setting, once, and what it records of itself."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from rosutils import InputError, RunError, distill, training
from rosutils.averaging import refresh_batchnorm, update_average
from rosutils.losses import distillation_loss, task_loss
from rosutils.study import making
from rosutils.study.experiment import bank_of


@pytest.fixture(scope="module")
def study(load_tiny, tmp_path_factory):
    """Two teachers on subsets with their banks, RoS-KD and Baseline I."""
    study = load_tiny(tmp_path_factory.mktemp("runs"))
    study.ensure([study.student("lesion", "RoS-KD"), study.student("lesion", "Baseline I")])
    return study


@pytest.fixture
def plain(study):
    return study.student("lesion", "Baseline I")


@pytest.fixture
def ros_kd(study):
    return study.student("lesion", "RoS-KD")


def batch_of(study, spec):
    loader = study.loader(spec, study.training_index(spec), shuffled=True, augmented=True)
    loader.set_epoch(1)
    return next(iter(loader))


def test_without_teachers_the_loss_is_the_task_loss(study, plain):
    batch, model = batch_of(study, plain), study.model(plain)
    with torch.no_grad():
        expected = task_loss(model(batch.images), batch.labels).mean()
        assert making.loss_fn(study, plain)(model, batch).equal(expected)


@pytest.mark.parametrize(("weighting", "weights"), [("uniform", [0.5, 0.5]), ("single", [1.0, 0.0])])
def test_with_fixed_weights_the_loss_is_eq_4_with_the_teachers_run_on_the_very_batch(study, plain, weighting, weights):
    spec = dataclasses.replace(study.student("lesion", "Baseline III, subset teachers"), weighting=weighting)
    batch, student, weights = batch_of(study, spec), study.model(plain), torch.tensor(weights)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": False}
    with torch.no_grad():
        logits = torch.stack([study.model(teacher)(batch.images) for teacher in spec.teachers])
        by_hand = distillation_loss(student(batch.images), logits, batch.labels, weights, **options)
        found = making.loss_fn(study, spec)(student, batch)
    torch.testing.assert_close(found, by_hand)


def test_exponential_weights_follow_the_parameters(study, ros_kd, load_tiny):
    per_example = load_tiny(study.folder.parent, distillation={"weights": {"per": "example"}})
    batch = batch_of(study, ros_kd)
    once, each = (making.loss_fn(s, s.student("lesion", "RoS-KD")).weigh(batch) for s in (study, per_example))
    assert once.shape == (2,) and each.shape == (2, len(batch.labels))
    assert float(once.sum()) == pytest.approx(1) and torch.allclose(each.sum(0), torch.ones(len(batch.labels)))


def test_a_run_says_how_long_it_took_and_on_what(study, plain):
    record = study.run(plain).about()["record"]
    assert study.run(plain).about()["recipe"] == study.recipe(plain)
    assert record["run"] == str(plain) == "lesion: student mobilenet_v2, replicate 1" and record["seconds"] > 0
    assert record["device"].endswith("CPU")
    assert record["epoch_seconds"] > 0 and {"validation_margin", "validation_skill"} <= record.keys()
    assert record.items() >= making.versions().items()
    assert making.versions()["torch"] == torch.__version__


def test_after_an_epoch_of_warm_up_nothing_is_averaged_and_then_eq_1_is(study, plain, ros_kd):
    model, expected = study.model(plain), study.model(plain)
    watch = making.AfterEpoch(study, ros_kd, model, distill.supervised_loss)
    start = study.parameters.distillation.averaging_start
    untouched = {name: value.clone() for name, value in watch.average.model.state_dict().items()}
    nn.init.constant_(model.head.weight, 1.0)
    row = watch(model, start - 1)
    assert row["averaged_validation_f1"] != row["averaged_validation_f1"]
    assert all(value.equal(untouched[name]) for name, value in watch.average.model.state_dict().items())
    row = watch(model, start)
    update_average(expected, model, 0)
    assert watch.average.model.head.weight.equal(expected.head.weight) and 0 <= row["averaged_validation_f1"] <= 1


def test_validation_never_sees_the_test_part(study, plain, monkeypatch):
    split, seen, predict = study.task("lesion").split, [], training.predict
    monkeypatch.setattr(training, "predict", lambda model, loader: seen.append(loader.index) or predict(model, loader))
    making.validate(study, plain, study.model(plain))
    assert torch.cat(seen).equal(split["validation"]) and not torch.isin(split["validation"], split["test"]).any()


def test_every_finished_network_has_its_batchnorm_estimated_on_its_shuffled_training_images(study, plain):
    for spec in (plain, study.teachers("lesion", "subset")[0]):
        model, index = study.model(spec), study.training_index(spec)
        kept = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(spec.seed))
        refresh_batchnorm(model, study.loader(spec, index[order]))
        assert len(kept) >= 40
        for name, value in model.named_buffers():
            if "running" in name:
                torch.testing.assert_close(value, kept[name], rtol=1e-4, atol=1e-5)


def test_what_eq_1_leaves_of_batchnorm_is_kept_for_the_reading(study, ros_kd):
    averaged, copied = (study.model(ros_kd, state) for state in ("averaged", "averaged, BatchNorm as copied"))
    running = study.run(ros_kd).tensors("running")
    assert any(not value.equal(averaged.state_dict()[name]) for name, value in running.items() if "mean" in name)
    assert all(value.equal(copied.state_dict()[name]) for name, value in running.items())
    assert all(a.equal(b) for a, b in zip(averaged.parameters(), copied.parameters(), strict=True))


def test_teachers_see_views_of_their_own_and_the_bank_those_of_the_student(study, ros_kd):
    teacher = study.teachers("lesion", "subset")[0]
    index = study.training_index(teacher)
    images = torch.from_numpy(study.task("lesion").images[index.numpy()])
    seen, banked, learned = (study.view(spec)(images, index, 1) for spec in (teacher, bank_of(teacher), ros_kd))
    assert banked.equal(learned) and not seen.equal(learned)


def test_a_subsets_teacher_takes_as_many_steps_as_one_of_the_full_set_where_asked(load_tiny, tmp_path):
    for steps, same in (("own", False), ("equal", True)):
        study = load_tiny(tmp_path, teachers={"steps": steps})
        full, subset = (study.teachers("lesion", pool)[0] for pool in ("full", "subset"))
        batches = [len(list(study.loader(s, study.training_index(s), shuffled=True))) for s in (full, subset)]
        assert (batches[0] == batches[1]) is same and batches[1] > 0


def test_named_precision_is_that_of_training_passes_alone(load_tiny, tmp_path):
    study = load_tiny(tmp_path, training={"precision": {"mobilenet_v2": "bfloat16"}})
    spec = study.student("lesion", "Baseline I")
    assert study.precision(spec) == "bfloat16" and study.precision(study.teachers("lesion", "full")[0]) == "float32"
    study.ensure([spec])
    assert study.run(spec).about()["recipe"]["training"]["precision"] == "bfloat16"
    assert study.run(spec).tensors("logits")["test"].dtype == torch.float32


# Weights go when their last reader is done


def test_weights_are_released_and_made_again_with_the_same_bits_when_they_are_needed(
    study, ros_kd, load_tiny, tmp_path
):
    kept, study = study, load_tiny(tmp_path, engine={"keep_weights": "needed"})
    subset, full = (study.teachers("lesion", pool)[1] for pool in ("subset", "full"))
    study.ensure([ros_kd, full])
    assert study.run(subset).released and not study.run(full).released
    assert not study.run(ros_kd).released, "Table I's students of the first replicate stay"
    with pytest.raises(InputError, match="was released .*keep_weights: all"):
        study.model(subset)
    assert study.store.verify() == [] and study.missing([ros_kd, full]) == []
    gone = study.run(subset).about()["released"]
    shutil.rmtree(study.run(bank_of(subset)).path)  # somebody needs the teacher again
    study.ensure([bank_of(subset)])
    assert study.run(subset).about().get("released", gone) == gone
    assert kept.run(subset).about()["checksums"]["weights.safetensors"] == gone["weights.safetensors"]


def test_chance_is_measured_under_every_rule_for_thresholds(load_tiny, tmp_path):
    found = {}
    for rule in ("micro", "per-label", "fixed"):
        study = load_tiny(tmp_path, tasks=["chest"], evaluation={"thresholds": rule})
        study.ensure([study.chance("chest")])
        found[rule] = study.run(study.chance("chest")).table("chance")
    tables = list(found.values())
    assert all(len(table) == len(tables[0]) for table in tables) and not tables[0].equals(tables[2])


def test_why_a_student_diverged(load_tiny, shared_folder):
    study, cause = load_tiny(shared_folder), "lower training.learning_rate (0.02)"
    spec = study.student("lesion", "RoS-KD")
    with pytest.raises(RunError, match=re.escape(cause)), making._told_in_a_line(study, spec):
        raise FloatingPointError("the loss is nan")
    study._tasks["lesion"] = dataclasses.replace(study.task("lesion"), images=np.zeros((80, 3, 36, 36), np.uint8))
    assert "all pixels of its training images are alike" in making._why_it_diverged(study, spec)


def test_too_little_memory_is_told_as_such_and_other_errors_stay(load_tiny, shared_folder):
    study = load_tiny(shared_folder)
    told = making._told_in_a_line(study, study.student("lesion", "Baseline I"))
    with pytest.raises(RunError, match=r"lesion: student .* too little memory .*can't allocate"), told:
        torch.empty(2**60)
    told = making._told_in_a_line(study, study.student("lesion", "Baseline I"))
    with pytest.raises(RuntimeError, match="size of tensor"), told:
        torch.ones(2) + torch.ones(3)
