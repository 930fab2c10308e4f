"""What runs cost: images counted as the code takes them, bytes as they lie on disk."""

from collections import Counter

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from rosutils import landscape, models
from rosutils.data import Loader
from rosutils.store import WEIGHTS
from rosutils.study import costs
from rosutils.study.making import make


ROLES = set("chance teacher bank student attack curve checks surface path curvature agreement".split())


@pytest.fixture(scope="module")
def made(probed):
    """A finished run of every role, and the student of RoS-KD with its average."""
    finished = [spec for spec in probed.unique(probed.all_runs()) if probed.run(spec) is not None]
    found = {spec.role: spec for spec in sorted(finished, key=lambda spec: probed.run(spec).released, reverse=True)}
    assert found.keys() >= ROLES
    return found | {"RoS-KD": probed.student("lesion", "RoS-KD")}


def work_seen(there, spec) -> float:
    """Make a run from what it needs, and add up the images of its passes by their kind."""
    seen = Counter()

    def count(module, images, logits):
        if isinstance(module, models.Classifier):
            kind = costs.GRADIENT if not module.training else 1.0
            seen[kind if torch.is_grad_enabled() else costs.FORWARD] += len(logits)

    hook = register_module_forward_hook(count)
    try:
        make(there, spec)
    finally:
        hook.remove()
    passes = sum(kind * count for kind, count in seen.items())
    epochs = there.parameters.training.epochs if seen[1.0] else 0
    return costs.RUN + costs.EPOCH * epochs + costs.TRAINING["float32"][spec.architecture] * passes


@pytest.mark.parametrize(
    ("role", "rel"), [("teacher", 0.15), ("bank", 0.15), ("attack", 0.15), ("agreement", 0.15), ("RoS-KD", 0.25)]
)
def test_as_many_images_go_through_the_network_as_counted(probed, made, role, rel, remade):
    seen = work_seen(remade(probed, made[role]).at(made[role]), made[role])
    assert costs.work(probed, made[role]) == pytest.approx(seen, rel=rel)


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
        sizes = {path.name: path.stat().st_size for path in probed.run(spec).path.iterdir()}
        heavy = sum(sizes.pop(name, 0) for name in WEIGHTS)
        small, weights = costs.disk(probed, spec, costs.sizes(probed, spec))
        assert sum(sizes.values()) == pytest.approx(small, rel=0.1, abs=6000), spec.role
        assert heavy == pytest.approx(weights, rel=0.02, abs=6000), spec.role


def test_the_longest_runs_are_known_before_anything_is_timed(probed, made):
    assert all(costs.work(probed, spec) >= costs.RUN for spec in made.values())
    assert all(costs.TRAINING[precision].keys() == set(models.ARCHITECTURES) for precision in costs.TRAINING)
    resnet18, mobilenet, *_ = (costs.work(probed, spec) for spec in probed.teachers("lesion", "full"))
    assert resnet18 > max(mobilenet, costs.work(probed, probed.teachers("lesion", "subset")[0]))
    assert costs.work(probed, made["RoS-KD"]) > costs.work(probed, probed.student("lesion", "Baseline I"))
