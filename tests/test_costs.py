"""What runs cost: images counted as the code takes them, bytes as they lie on disk."""

from collections import Counter

import pytest
import torch

from rosutils import attacks, landscape, models
from rosutils.data import Loader
from rosutils.store import WEIGHTS, Store
from rosutils.study import Study, costs
from rosutils.study.experiment import needed_by
from rosutils.study.making import make


ROLES = set("chance teacher bank student attack curve checks surface path curvature agreement".split())


@pytest.fixture(scope="module")
def made(probed):
    """A finished run of every role."""
    specs = probed.unique(probed.all_runs())
    return {spec.role: spec for spec in specs if probed.run(spec) is not None}


def test_every_role_costs_something(probed, made):
    assert made.keys() >= ROLES
    assert all(costs.relative(probed, spec) >= costs.RUN for spec in made.values())
    assert all(costs.TRAINING[precision].keys() == set(models.ARCHITECTURES) for precision in costs.TRAINING)


class Counting:
    """Counts images by whether a step of training, a pass forward or a gradient by the images sees them."""

    def __init__(self, monkeypatch) -> None:
        self.seen, self.inside = Counter(), False
        original, gradient = models.Classifier.forward, attacks._gradient

        def forward(model, images):
            training_pass = model.training and torch.is_grad_enabled()
            kind = "training" if training_pass else "" if self.inside else "forward"
            self.seen[kind] += len(images)
            return original(model, images)

        def counted(model, images, *arguments):
            self.seen["gradient"] += len(images)
            self.inside = True
            try:
                return gradient(model, images, *arguments)
            finally:
                self.inside = False

        monkeypatch.setattr(models.Classifier, "forward", forward)
        monkeypatch.setattr(attacks, "_gradient", counted)


def work_seen(probed, spec, tmp_path, monkeypatch) -> float:
    """Make a run of `probed` once more, from copies of what it needs, and add up what was to be done."""
    there = Study(probed.parameters, opened=probed.opened).at(spec)
    there.store = Store(tmp_path / "store")
    there.store.root.mkdir()
    for needed in needed_by(spec):
        (there.store.root / there.key(needed)).symlink_to(probed.run(needed).path)
    seen = Counting(monkeypatch).seen
    make(there, spec)
    unit = costs.TRAINING["float32"][spec.architecture]
    epochs = there.parameters.training.epochs if seen["training"] else 0
    passes = seen["training"] + costs.FORWARD * seen["forward"] + costs.GRADIENT * seen["gradient"]
    return costs.RUN + costs.EPOCH * epochs + unit * passes


@pytest.mark.parametrize("role", ["teacher", "bank", "attack", "agreement"])
def test_as_many_images_go_through_the_network_as_counted(probed, made, role, tmp_path, monkeypatch):
    spec = made[role]
    assert costs.relative(probed, spec) == pytest.approx(work_seen(probed, spec, tmp_path, monkeypatch), rel=0.15)


def test_the_student_of_ros_kd_costs_the_average_s_passes_too(probed, tmp_path, monkeypatch):
    ros_kd, alone = (probed.student("lesion", name) for name in ("RoS-KD", "Baseline I"))
    assert costs.relative(probed, ros_kd) == pytest.approx(work_seen(probed, ros_kd, tmp_path, monkeypatch), rel=0.25)
    assert costs.relative(probed, ros_kd) > costs.relative(probed, alone)


def test_sharpness_takes_as_many_gradients_as_counted(probed, monkeypatch):
    passes, original = [], landscape._gradient
    monkeypatch.setattr(landscape, "_gradient", lambda *a, **k: passes.append(1) or original(*a, **k))
    model, task = models.create("mobilenet_v2", 8, seed=0), probed.task("lesion")
    batch = next(iter(Loader(task, task.split["test"], batch_size=4)))
    loss = lambda model, batch: model(batch.images).square().mean()  # noqa: E731
    landscape.sharpness(model, batch, loss, radius=0.01, generator=torch.Generator())
    assert len(passes) == costs.ASCENT


def test_the_disk_of_every_role_is_what_its_files_take(probed, made):
    for spec in made.values():
        there = probed.at(spec)
        sizes = {path.name: path.stat().st_size for path in there.run(spec).path.iterdir()}
        heavy = sum(sizes.pop(name, 0) for name in WEIGHTS)
        small, weights = costs.disk(there, spec, costs.sizes(there, spec))
        assert sum(sizes.values()) == pytest.approx(small, rel=0.1, abs=6000), spec.role
        assert heavy == pytest.approx(weights, rel=0.02, abs=6000), spec.role


def test_weights_are_those_of_the_network():
    state = models.create("resnet18", 8, seed=0).state_dict()
    assert costs.weights("resnet18") == sum(value.numel() * value.element_size() for value in state.values())


def test_the_longest_runs_are_known_before_anything_is_timed(probed):
    teachers = {spec.architecture: costs.relative(probed, spec) for spec in probed.teachers("lesion", "full")}
    assert teachers["resnet18"] > teachers["mobilenet_v2"]
    full, subset = (probed.teachers("lesion", pool)[0] for pool in ("full", "subset"))
    assert costs.relative(probed, full) > costs.relative(probed, subset)
