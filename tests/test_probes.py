"""Probes of trained students: what they see, and that they see it as the functions they call do by themselves."""

import numpy as np
import pytest
import torch

from rosutils import attacks, landscape, training
from rosutils.losses import task_loss
from rosutils.settings import STATES
from rosutils.study import probes
from rosutils.study.needs import fig4, probe_of


TASKS = pytest.mark.parametrize("task", ["lesion", "chest"])


def one(study, role, task, state):
    return next(spec for spec in study.all_runs() if (spec.role, spec.task, spec.state) == (role, task, state))


@TASKS
@pytest.mark.parametrize("setting", ["Baseline III, subset teachers", "RoS-KD"])
def test_before_the_attack_the_logits_are_those_kept_with_the_student(probed, task, setting):
    spec = probe_of(probed, "attack", task, setting)
    test, sample = probed.task(task).split["test"], probed.sample(task, probed.parameters.attacks.examples)
    kept = probed.run(spec.of).tensors("averaged_logits" if setting == "RoS-KD" else "logits")["test"]
    before = probed.run(spec).tensors("logits")["before"]
    torch.testing.assert_close(before, kept[torch.isin(test, sample)])
    assert len(sample) == 8 and torch.isin(sample, test).all()


@TASKS
def test_fgsm_is_that_of_the_attacks_on_the_true_labels_of_test_images(probed, task):
    section, spec = probed.parameters.attacks, probe_of(probed, "attack", task, "RoS-KD")
    batch = probes.test_batch(probed, task, section.examples)
    assert batch.labels.equal(probed.task(task).clean_labels[batch.index])
    model = probed.model(spec.of, "averaged")
    for norm in section.norms:
        options = {"eps": section.eps, "norm": norm, "loss_fn": attacks.classification_loss}
        moved = attacks.fgsm(model, batch.images, batch.labels, **options)
        with torch.no_grad():
            expected = model(moved)
        found = probed.run(spec).tensors("logits")[f"fgsm {norm} {section.eps!r}"]
        torch.testing.assert_close(found, expected)


@TASKS
def test_every_attack_of_table_ii_and_every_radius_of_the_curve_is_kept(probed, task):
    section = probed.parameters.attacks
    attack = probed.run(probe_of(probed, "attack", task, "RoS-KD")).tensors("logits").keys()
    curve = probed.run(probe_of(probed, "curve", task, "Baseline II")).tensors("logits").keys()
    assert attack == {"before", *(f"{a} {norm} {section.eps!r}" for a in ("fgsm", "pgd") for norm in section.norms)}
    assert curve == {"before", *(f"pgd linf {m * section.eps!r}" for m in section.curve_multiples)}


@TASKS
@pytest.mark.parametrize("state", STATES)
def test_the_centre_of_a_surface_is_the_loss_of_the_model_in_its_state(probed, task, state):
    surface = one(probed, "surface", task, state)
    found = probed.run(surface).tensors("surface")
    middle = len(found["grid"]) // 2
    batch = probes.test_batch(probed, task, probed.parameters.landscape.examples)
    with torch.no_grad():
        logits = probed.model(surface.of, state)(batch.images)
    expected = task_loss(logits, batch.labels, multilabel=task == "chest").mean()
    assert found["grid"][middle] == 0
    assert float(found["loss"][middle, middle]) == pytest.approx(float(expected), rel=1e-6)
    table = probed.run(one(probed, "curvature", task, state)).table("curvature")
    curvature = table[table["average"].isna()].set_index("metric")["value"]
    assert curvature["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert curvature["weight_norm"] == pytest.approx(landscape.weight_norm(probed.model(surface.of, state)))
    assert np.isfinite(table["value"]).all()


@TASKS
def test_sharpness_is_measured_at_every_radius_from_the_same_draws(probed, task):
    section, spec = probed.parameters.landscape, one(probed, "curvature", task, "averaged")
    rows = probed.run(spec).table("curvature").query("metric == 'sharpness'")
    assert rows["average"].tolist() == section.sharpness_radii and (rows["value"] >= 0).all()
    model, batch = probed.model(spec.of, "averaged"), probes.test_batch(probed, task, section.examples)
    for radius, value in rows[["average", "value"]].iloc[[0, -1]].to_numpy():
        generator = torch.Generator().manual_seed(spec.seed)
        assert landscape.sharpness(model, batch, probes.probe_loss, radius=radius, generator=generator) == value


@TASKS
def test_a_surface_is_walked_along_the_draws_of_its_seed(probed, task):
    first = [spec for spec in fig4(probed) if (spec.role, spec.task, spec.replicate) == ("surface", task, 0)]
    surfaces = [spec for spec in first if spec.state == "weights"]
    losses = {spec.seed: probed.run(spec).tensors("surface")["loss"] for spec in surfaces}
    assert set(losses) == set(probed.parameters.landscape.directions)
    assert not losses[0].equal(losses[1])
    model, generator = probed.model(surfaces[0].of), torch.Generator().manual_seed(surfaces[0].seed)
    directions = landscape.filter_normalized_directions(model, generator=generator)
    grid = landscape.square_grid(probed.parameters.landscape.span, probed.parameters.landscape.points)
    batch = probes.test_batch(probed, task, probed.parameters.landscape.examples)
    again = landscape.loss_surface(model, directions, grid, batch, probes.probe_loss)
    np.testing.assert_array_equal(losses[surfaces[0].seed].numpy(), again)


def test_agreement_is_about_the_training_part_without_augmentation(probed, remade):
    spec = one(probed, "agreement", "lesion", "averaged")
    loader = probed.loader(spec.of, probed.at(spec).task("lesion").split["train"])
    expected, _ = training.predict(remade(probed, spec).model(spec.of, "averaged"), loader)
    assert probed.run(spec).tensors("logits")["train"].equal(expected)
