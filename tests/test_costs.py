"""What runs cost: steps counted as the code takes them, bytes as they lie on disk."""

from collections import Counter

import pytest
import torch

from rosutils import attacks, costs, landscape, models
from rosutils.costs import KINDS, RELATIVE, Step
from rosutils.data import Loader
from rosutils.runs import make


def files_of(run) -> int:
    return sum(path.stat().st_size for path in run.path.iterdir())


def planned(study, spec) -> dict[str, float]:
    found = costs.steps(study.of(spec), spec, costs.sizes(study.of(spec), spec))
    assert {step.architecture for step in found} == {spec.architecture} and {step.pixels for step in found} == {32}
    return {step.kind: count for step, count in found.items()}


@pytest.fixture(scope="module")
def made(probed):
    """A finished run of every role."""
    specs = probed.unique(probed.all_runs())
    return {spec.role: spec for spec in specs if probed.of(spec).run(spec) is not None}


def test_every_role_has_steps_that_are_known(probed, made):
    assert set(made) == {"teacher", "bank", "student", "attack", "curve", "surface", "curvature", "agreement"}
    for spec in made.values():
        found = planned(probed, spec)
        assert found.keys() <= KINDS.keys() and min(found.values()) > 0
    assert set(RELATIVE) == set(models.ARCHITECTURES)


class Counting:
    """Counts images by whether a step of training, a pass forward or a gradient by the images sees them."""

    def __init__(self, monkeypatch) -> None:
        self.seen = Counter()
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

        self.inside = False
        monkeypatch.setattr(models.Classifier, "forward", forward)
        monkeypatch.setattr(attacks, "_gradient", counted)


def again(probed, spec, tmp_path, load_tiny, monkeypatch) -> Counter:
    """Make a run of `probed` once more, from copies of what it needs, and count."""
    from rosutils.artefacts import needed_by
    from rosutils.experiment import Experiment
    from rosutils.store import Store

    there = Experiment(probed.of(spec).parameters, probed._opened)
    there.store = Store(tmp_path / "store")
    for needed in needed_by(spec):
        there.store.adopt(there.key(needed), probed.of(needed).run(needed).files())
    counting = Counting(monkeypatch)
    make(there, spec)
    return counting.seen


@pytest.mark.parametrize("role", ["teacher", "bank", "attack", "curve", "agreement"])
def test_as_many_images_go_through_the_network_as_counted(probed, made, role, tmp_path, load_tiny, monkeypatch):
    spec, seen = made[role], again(probed, made[role], tmp_path, load_tiny, monkeypatch)
    expected = planned(probed, spec)
    assert seen["training"] == expected.get("supervised", 0)
    assert seen["forward"] == expected["forward"] and seen["gradient"] == expected.get("gradient", 0)


def test_the_student_of_ros_kd_costs_the_average_s_passes_too(probed, tmp_path, load_tiny, monkeypatch):
    spec = probed.student("lesion", "RoS-KD", 0)
    seen, expected = again(probed, spec, tmp_path, load_tiny, monkeypatch), planned(probed, spec)
    assert seen["training"] == expected["distilled"] and seen["forward"] == expected["forward"]


def test_surfaces_and_curvature_are_counted_in_passes(probed, made, monkeypatch):
    p = probed.parameters.landscape
    surface, curvature = planned(probed, made["surface"]), planned(probed, made["curvature"])
    assert surface["point"] == p.examples * p.points**2
    assert curvature["product"] == p.examples * (p.hessian_iterations + p.hessian_samples)
    passes, original = [], landscape.curvature._gradient
    monkeypatch.setattr(landscape.curvature, "_gradient", lambda *a, **k: passes.append(1) or original(*a, **k))
    model = models.create("mobilenet_v2", 8, seed=0)
    task = probed.task("lesion")
    batch = next(iter(Loader(task, task.split["test"], batch_size=4)))
    landscape.sharpness(
        model, batch, lambda m, b: m(b.images).square().mean(), radius=0.01, generator=torch.Generator()
    )
    assert len(passes) == costs.ASCENT


def test_the_disk_of_every_role_is_what_its_files_take(probed, made):
    for spec in made.values():
        there = probed.of(spec)
        expected = costs.disk(there, spec, costs.sizes(there, spec))
        assert files_of(there.run(spec)) == pytest.approx(expected, rel=0.05, abs=6000), spec.role


def test_activations_are_those_that_autograd_keeps():
    kept, model = {}, models.create("resnet18", 8, seed=0).train()
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    alive = []

    def keep(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.rand(2, 3, 32, 32))
    assert costs.activations("resnet18", 32) == pytest.approx(sum(kept.values()) / 2, rel=0.02)
    assert costs.activations("resnet18", 64) > 3 * costs.activations("resnet18", 32)
    assert costs.weights("resnet18") == sum(v.numel() * v.element_size() for v in model.state_dict().values())


def test_memory_grows_with_what_a_run_holds(probed):
    student, alone = (probed.student("lesion", name, 0) for name in ("RoS-KD", "Baseline I"))
    size = costs.sizes(probed, student)
    assert costs.memory(probed, student, size) > costs.memory(probed, alone, size) > 3 * costs.weights("resnet18")


def test_the_longest_runs_are_known_before_anything_is_timed(probed):
    teachers = {spec.architecture: costs.relative(probed, spec) for spec in probed.teachers("lesion", "full")}
    assert teachers["resnet18"] > teachers["mobilenet_v2"]
    full, subset = (probed.teachers("lesion", pool)[0] for pool in ("full", "subset"))
    assert costs.relative(probed, full) > costs.relative(probed, subset)
    assert isinstance(next(iter(costs.steps(probed, full, costs.sizes(probed, full)))), Step)
