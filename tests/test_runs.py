"""How a run is made: its loss from its setting, once, and what it records of itself."""

import dataclasses

import pytest
import torch
from torch import nn

from rosutils import distill, runs, training
from rosutils.averaging import update_average
from rosutils.experiment import RunSpec
from rosutils.losses import task_loss


@pytest.fixture(scope="module")
def study(load_tiny, tmp_path_factory):
    """Two teachers on subsets with their banks, and Baseline I."""
    study = load_tiny(tmp_path_factory.mktemp("runs"))
    study.ensure(
        [study.student("lesion", "Baseline III, subset teachers", 0), study.student("lesion", "Baseline I", 0)]
    )
    return study


def batch_of(study, spec):
    loader = study.loader(spec, study.training_index(spec), shuffled=True, augmented=True)
    loader.set_epoch(1)
    return next(iter(loader))


def test_without_teachers_the_loss_is_the_task_loss(study):
    spec = study.student("lesion", "Baseline I", 0)
    batch, model = batch_of(study, spec), study.model(spec)
    with torch.no_grad():
        expected = task_loss(model(batch.images), batch.labels).mean()
        assert runs.loss_fn(study, spec)(model, batch).equal(expected)


@pytest.mark.parametrize(("weighting", "weights"), [("uniform", [0.5, 0.5]), ("single", [1.0, 0.0])])
def test_with_fixed_weights_the_loss_is_eq_4_with_the_teachers_run_on_the_very_batch(study, weighting, weights):
    spec = dataclasses.replace(study.student("lesion", "Baseline III, subset teachers", 0), weighting=weighting)
    batch, student = batch_of(study, spec), study.model(study.student("lesion", "Baseline I", 0))
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": False}
    with torch.no_grad():
        logits = torch.stack([study.model(teacher)(batch.images) for teacher in spec.teachers])
        by_hand = distill.distillation_loss(
            student(batch.images), logits, batch.labels, torch.tensor(weights), **options
        )
        found = runs.loss_fn(study, spec)(student, batch)
    torch.testing.assert_close(found, by_hand)


def test_exponential_weights_follow_the_parameters(study):
    spec = study.student("lesion", "RoS-KD", 0)
    per_example = study.parameters.model_copy(
        update={"distillation": study.parameters.distillation.model_copy(
            update={"weights": study.parameters.distillation.weights.model_copy(update={"per": "example"})})}
    )  # fmt: skip
    batch = batch_of(study, spec)
    once = runs.loss_fn(study, spec).weigh(batch)
    each = runs.loss_fn(type(study)(per_example), spec).weigh(batch)
    assert once.shape == (2,) and each.shape == (2, len(batch.labels))
    assert float(once.sum()) == pytest.approx(1) and torch.allclose(each.sum(0), torch.ones(len(batch.labels)))


def test_a_finished_run_is_not_made_again(study, monkeypatch):
    spec = study.student("lesion", "Baseline I", 0)
    monkeypatch.setattr(training, "fit", None)
    assert runs.make(study, spec).key == study.key(spec)


def test_a_run_says_how_long_it_took_and_on_what(study):
    record = study.run(study.student("lesion", "Baseline I", 0)).about()["record"]
    assert record["run"] == "lesion: student resnet18, seed 0" and record["seconds"] > 0
    assert record["device"].endswith("CPU") and record["threads"] == 1
    assert record.items() >= runs.versions().items()
    assert runs.versions()["torch"] == torch.__version__


def test_after_an_epoch_of_warm_up_nothing_is_averaged_and_then_eq_1_is(study):
    spec = study.student("lesion", "RoS-KD", 0)
    model = study.model(study.student("lesion", "Baseline I", 0))
    watch = runs.AfterEpoch(study, spec, model, distill.supervised_loss)
    start = study.parameters.distillation.averaging_start
    untouched = {name: value.clone() for name, value in watch.average.model.state_dict().items()}
    nn.init.constant_(model.head.weight, 1.0)
    row = watch(model, start - 1)
    assert row["averaged_validation_f1"] != row["averaged_validation_f1"]
    assert all(value.equal(untouched[name]) for name, value in watch.average.model.state_dict().items())
    row = watch(model, start)
    expected = study.model(study.student("lesion", "Baseline I", 0))
    update_average(expected, model, 0)
    assert watch.average.model.head.weight.equal(expected.head.weight) and 0 <= row["averaged_validation_f1"] <= 1


def test_validation_never_sees_the_test_part(study, monkeypatch):
    spec = study.student("lesion", "Baseline I", 0)
    seen = []
    original = training.predict

    def predict(model, loader):
        seen.extend(loader.index.tolist())
        return original(model, loader)

    monkeypatch.setattr(training, "predict", predict)
    runs.validate(study, spec, study.model(spec))
    split = study.task("lesion").split
    assert seen == split["validation"].tolist() and not set(seen) & set(split["test"].tolist())


def test_a_bank_is_a_run_of_its_teacher_over_the_whole_training_part(study):
    [bank] = {s for s in study.runs("table1") if s.role == "bank" and s.teachers[0].subset == 0}
    logits = study.run(bank).tensors("logits")["train"]
    epochs, train = study.parameters.training.epochs, study.task("lesion").split["train"]
    assert logits.shape == (epochs, len(train), 8) and isinstance(bank, RunSpec)


def test_the_threads_of_a_run_change_no_bit_of_it(study, load_tiny, tmp_path):
    """Every kind of training: a teacher, the policy passes of Baseline IV, Eq. 1 and its BatchNorm in RoS-KD."""
    tensors = {}
    for threads in (1, 2):
        there = load_tiny(tmp_path / str(threads), engine={"threads": threads})
        wanted = [there.student("lesion", setting, 0) for setting in ("Baseline IV", "RoS-KD")]
        there.ensure(wanted)
        made = [run for spec in there.unique(there.all_runs()) if (run := there.run(spec)) is not None]
        tensors[threads] = {run.key: run.about()["checksums"] for run in made}
        assert {run.about()["record"]["threads"] for run in made} == {threads}
    assert len(tensors[1]) >= 6 and tensors[1] == tensors[2]
