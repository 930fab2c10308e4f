"""FGSM and PGD against torchattacks and closed forms, and self-checks that notice a broken attack."""

import math

import pandas as pd
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional as F

from rosutils import InputError, attacks
from rosutils.attacks import (
    NORMS,
    SLACK,
    classification_loss,
    effective_radius,
    fgsm,
    pgd,
    random_perturbation,
    self_checks,
)


EPS = 1.28 / 255
SHAPE = (3, 8, 8)
norms = pytest.mark.parametrize("norm", NORMS)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def network(seed=0, classes=4):
    """A small network with everything that behaves differently in training: BatchNorm and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 64, classes)).eval()


def linear(classes=4, *, seed=0):
    """Logits W x + b in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SHAPE), classes, dtype=torch.float64))


def examples(n=6, classes=4, *, multilabel=False, seed=0, dtype=torch.float32, low=0.0, high=1.0):
    generator = seeded(seed)
    images = low + (high - low) * torch.rand(n, *SHAPE, generator=generator, dtype=dtype)
    if multilabel:
        return images, (torch.rand(n, classes, generator=generator) < 0.4).to(dtype)
    return images, torch.randint(classes, (n,), generator=generator)


def attack(name, model, images, labels, *, eps=EPS, norm="linf", loss_fn=classification_loss, **options):
    if name == "fgsm":
        return fgsm(model, images, labels, eps=eps, norm=norm, loss_fn=loss_fn)
    options = {"steps": 5, "step_size": eps / 2, "random_start": False, "generator": None} | options
    return pgd(model, images, labels, eps=eps, norm=norm, loss_fn=loss_fn, **options)


def lengths(delta, norm):
    return torch.linalg.vector_norm(delta.double().flatten(1), 2 if norm.startswith("l2") else math.inf, dim=1)


# torchattacks 3.5.1. Coincide: FGSM (linf), PGD (linf, with and without a random start), PGDL2 without a random start,
# and PGDL2 with one step of length eps for FGM, which it does not name. Differ: PGDL2 adds 1e-10 to the gradient's norm
# (below 1e-5 unless the gradient all but vanishes), and starts at a radius uniform in [0, eps], ours uniformly in the ball.


@pytest.mark.parametrize("eps", [EPS, 0.1])
@pytest.mark.parametrize(
    ("name", "norm", "steps", "start"),
    [("fgsm", "linf", 1, False), ("fgsm", "l2", 1, False), ("pgd", "linf", 10, True), ("pgd", "l2", 10, False)],
)
def test_attacks_agree_with_torchattacks(name, norm, steps, start, eps):
    model, (images, labels) = network(), examples()
    length = eps if name == "fgsm" else eps / 4
    theirs = torchattacks.PGDL2 if norm == "l2" else torchattacks.PGD
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = theirs(model, eps=eps, alpha=length, steps=steps, random_start=start)(images, labels)
    options = {"steps": steps, "step_size": length, "random_start": start, "generator": seeded(3)}
    found = attack(name, model, images, labels, eps=eps, norm=norm, **options)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - images).abs().max() > eps / 50, "not because nothing happened"


# Linear models: the gradient is known.


def linear_gradient(model, images, labels):
    """W^T (p - y), p being the softmax or the sigmoids."""
    logits = model(images).detach()
    if labels.ndim == 1:
        error = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    else:
        error = logits.sigmoid() - labels
    return (error @ model[1].weight.detach()).view_as(images)


def closed_form(images, gradient, eps, norm):
    _, radius = effective_radius(eps, norm, images.shape)
    if norm == "linf":
        return images + radius * gradient.sign()
    return images + radius * gradient / lengths(gradient, norm).view(-1, 1, 1, 1)


@norms
@pytest.mark.parametrize(
    "name, multilabel, classes", [("fgsm", False, 4), ("fgsm", True, 4), ("pgd", False, 2), ("pgd", True, 1)]
)
def test_attacks_on_a_linear_model_are_the_closed_form(norm, name, multilabel, classes):
    model = linear(classes)  # with two classes, or one label, the gradient changes its length only
    images, labels = examples(classes=classes, multilabel=multilabel, dtype=torch.float64, low=0.3, high=0.7)
    expected = closed_form(images, linear_gradient(model, images, labels), 0.02, norm)
    assert 0 < expected.min() and expected.max() < 1
    found = attack(name, model, images, labels, eps=0.02, norm=norm, step_size=0.02 / 3)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_random_start_in_l2_costs_what_the_comment_on_slack_says():
    # `along` the gradient and `across` it, in units of eps: a step adds to the one, the projection shrinks both
    along, across = 0.0, 1.0
    for _ in range(10):
        along += 2.5 / 10
        length = max(1, math.hypot(along, across))
        along, across = along / length, across / length
    assert along == pytest.approx(0.980, abs=5e-4) and along > 1 - SLACK
    model, (images, labels) = linear(2), examples(200, 2, dtype=torch.float64, low=0.3, high=0.7)
    gradient = linear_gradient(model, images, labels)
    options = {"steps": 10, "step_size": 0.05 / 10, "random_start": True, "generator": seeded(0)}
    gained = (attack("pgd", model, images, labels, eps=0.02, norm="l2", **options) - images) * gradient
    measured = gained.flatten(1).sum(1) / lengths(gradient, "l2") / 0.02
    assert measured.mean().item() == pytest.approx(along, abs=0.005)


# Radii, noise and random starts.


@norms
def test_random_perturbations_have_exactly_the_norm_and_no_preferred_direction(norm):
    images = torch.full((500, *SHAPE), 0.5, dtype=torch.float64)
    noise = random_perturbation(images, eps=EPS, norm=norm, generator=seeded(0)) - images
    radius = {"l2": EPS, "linf": EPS, "l2-scaled": lengths(torch.full((1, *SHAPE), EPS), "l2").item()}[norm]
    assert effective_radius(EPS, norm, images.shape) == (norm.removesuffix("-scaled"), pytest.approx(radius))
    assert effective_radius(EPS, norm, SHAPE) == effective_radius(EPS, norm, images.shape)
    torch.testing.assert_close(lengths(noise, norm), torch.full((500,), radius, dtype=torch.float64))
    assert noise.mean().abs() < 5 * noise.std() / math.sqrt(noise.numel())
    if norm == "linf":
        torch.testing.assert_close(noise.abs(), torch.full_like(noise, EPS))


@pytest.mark.parametrize("norm, shape", [("linf", SHAPE), ("l2", (3, 1, 1)), ("l2-scaled", (3, 1, 2))])
def test_random_starts_are_uniform_in_the_ball(norm, shape):
    # a constant model leaves the start where it is
    images, labels = torch.full((1000, *shape), 0.5, dtype=torch.float64), torch.zeros(1000, dtype=torch.int64)
    options = {"norm": norm, "random_start": True, "steps": 1}
    first, again, other = (attack("pgd", constant(), images, labels, generator=seeded(s), **options) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    start = first - images
    _, radius = effective_radius(EPS, norm, shape)
    if norm == "linf":
        uniform = (start.flatten() / radius + 1) / 2
    else:
        uniform = (lengths(start, norm) / radius) ** math.prod(shape)  # the share of the ball's volume
        direction = start[:, 0].flatten() / lengths(start, norm).repeat_interleave(start[0, 0].numel())
        assert direction.mean().abs() < 0.1
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 0.01


class Before(nn.Module):
    """What is done to the images before a network sees them."""

    def __init__(self, change, network=None):
        super().__init__()
        self.change, self.network = change, network or nn.Identity()

    def forward(self, images):
        return self.network(self.change(images))


def constant():
    """Two logits that depend on the images with a gradient of exactly 0."""
    return Before(lambda images: images.flatten(1)[:, :2] * 0)


# What every attack keeps.

MODEL = network()


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    eps=st.sampled_from([0.0, 1e-6, EPS, 0.1, 1.0, 10.0]),
    multilabel=st.booleans(),
    seed=st.integers(0, 2**32),
    contrast=st.sampled_from([1.0, 100.0]),  # high contrast: most pixels are 0 or 1
    random_start=st.booleans(),
)
def test_attacks_stay_in_the_ball_and_among_images(norm, eps, multilabel, seed, contrast, random_start):
    images, labels = examples(3, multilabel=multilabel, seed=seed)
    images = (0.5 + contrast * (images - 0.5)).clamp(0, 1)
    _, radius = effective_radius(eps, norm, SHAPE)
    options = {"step_size": eps / 2, "random_start": random_start, "generator": seeded(seed)}
    for found in (
        attack("fgsm", MODEL, images, labels, eps=eps, norm=norm),
        attack("pgd", MODEL, images, labels, eps=eps, norm=norm, steps=3, **options),
        random_perturbation(images, eps=eps, norm=norm, generator=seeded(seed)),
    ):
        assert 0 <= found.min() and found.max() <= 1
        assert lengths(found - images, norm).max() <= radius * (1 + 1e-6) + 2e-7 * math.sqrt(math.prod(SHAPE))
        assert torch.equal(found, images) == (eps == 0)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@norms
def test_the_batch_and_the_reduction_of_the_loss_do_not_matter(name, norm):
    model, (images, labels) = network().double(), examples(dtype=torch.float64)
    together = attack(name, model, images, labels, norm=norm)
    alone = [attack(name, model, images[[i]], labels[[i]], norm=norm) for i in range(len(images))]
    summed = attack(name, model, images, labels, norm=norm, loss_fn=lambda z, y: F.cross_entropy(z, y, reduction="sum"))
    # so small that squares of its gradient are 0 in float64
    faint = attack(name, model, images, labels, norm=norm, loss_fn=lambda z, y: 1e-200 * F.cross_entropy(z, y))
    for other in (torch.cat(alone), summed, faint):
        torch.testing.assert_close(other, together, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_the_model_is_left_as_it_was(name):
    model, (images, labels) = network().train(), examples()
    model[1].eval()  # a BatchNorm that its owner froze stays frozen
    model[0].weight.requires_grad_(False)
    model[5].bias.grad = torch.ones(4)
    during = []
    model[5].register_forward_pre_hook(
        lambda *_: during.append([model.training, *(p.requires_grad for p in model.parameters())])
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert torch.equal(attack(name, model, images, labels), attack(name, network(), images, labels))
    with pytest.raises(ZeroDivisionError):
        attack(name, model, images, labels, loss_fn=lambda z, y: 1 / 0)
    assert not any(any(flags) for flags in during)
    assert [module.training for module in model] == [True, False, True, True, True, True] and model.training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert [p.grad for p in model.parameters()][:-1] == [None] * 5 and model[5].bias.grad.tolist() == [1.0] * 4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_attacks_work_under_any_grad_mode_and_come_back_detached(name, mode):
    model, (images, labels) = network(), examples()
    expected = attack(name, model, images, labels)
    with mode():
        found = attack(name, model, images.clone(), labels.clone())
    assert torch.equal(found, expected) and not found.requires_grad
    given = images.clone().requires_grad_()
    found = attack(name, model, given, labels)
    assert torch.equal(found, expected) and not found.requires_grad and given.grad is None
    assert torch.equal(given, images)


@norms
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_images_without_a_finite_gradient_stay_and_the_others_move(name, norm):
    images, labels = examples()
    images[2] = 0  # where the square root has no slope
    found = attack(name, Before(torch.sqrt, network()), images, labels, norm=norm)
    assert torch.equal(found[2], images[2])
    assert all(not torch.equal(found[i], images[i]) for i in (0, 1, 3, 4, 5)) and found.isfinite().all()
    assert torch.equal(attack(name, constant(), images, labels % 2, norm=norm), images)


# Inputs that are wrong.


def test_the_loss_follows_the_labels():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    single, several = torch.tensor([1, 1]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2
    assert classification_loss(logits, single).item() == pytest.approx(expected)
    softplus = [math.log1p(math.exp(z)) for z in (0, 2, 1, 1)]
    assert classification_loss(logits, several).item() == pytest.approx(sum(softplus) / 4)
    for labels in (single.int(), several.long(), several[:, :1], single[:1], single.float()):
        with pytest.raises(InputError, match=r"int64 \[B\]"):
            classification_loss(logits, labels)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eps": -EPS}, "eps is -0.005"),
        ({"eps": math.nan}, "eps is nan"),
        ({"eps": math.inf}, "eps is inf"),
        ({"norm": "l1"}, "norm is 'l1'; allowed: l2, linf, l2-scaled"),
        ({"images": examples()[0] * 2 - 1}, "images run from -0.99.* to 0.99"),
        ({"images": examples()[0] * math.nan}, "images run from nan"),
        ({"images": (examples()[0] * 255).byte()}, "images are torch.uint8"),
        ({"images": examples()[0][0]}, r"images are torch.float32 \(3, 8, 8\)"),
        ({"images": examples()[0][:0]}, r"images are torch.float32 \(0, 3, 8, 8\)"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": True}, "steps is True"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"step_size": -EPS}, "step_size is -0.005"),
        ({"step_size": math.nan}, "step_size is nan"),
        ({"random_start": True}, "randomness needs a torch.Generator"),
    ],
)
def test_wrong_input_is_named(change, message):
    images, labels = examples()
    arguments = {"images": images, "eps": EPS, "norm": "linf"} | change
    with pytest.raises(InputError, match=message):
        attack("pgd", network(), labels=labels, **{"step_size": EPS} | arguments)
    if not change.keys() <= {"steps", "step_size", "random_start"}:
        with pytest.raises(InputError, match=message):
            attack("fgsm", network(), labels=labels, **arguments)
        with pytest.raises(InputError, match=message):
            random_perturbation(**arguments, generator=seeded(0))


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_model_that_hides_its_gradient_is_an_error_not_a_robust_model(name):
    with pytest.raises(InputError, match="does not depend on the images"):
        attack(name, Before(torch.detach, MODEL), *examples())


# Self-checks.

CHECKS = [
    "eps 0 is the identity", "measured norms never exceed eps", "images stay in [0, 1]", "success grows with eps",
    "success grows with steps", "PGD is at least as strong as FGSM", "random noise of the same norm is weaker",
    "gradients do not vanish", "a transfer attack is not stronger than the white-box one",
]  # fmt: skip


def patterns(multilabel, n=40):
    """Noise plus the patterns of the classes that an image shows; some pixels end at 0 and 1."""
    images, labels = examples(n, multilabel=multilabel, seed=5)
    shown = labels if multilabel else F.one_hot(labels, 4).float()
    templates = torch.randn(4, *SHAPE, generator=seeded(6))
    return (0.3 + 0.4 * images + 0.15 * torch.einsum("bc,cijk->bijk", shown, templates)).clamp(0, 1), labels


@pytest.fixture(scope="module", params=[False, True], ids=["one label", "several labels"])
def trained(request):
    """Images, labels, and two networks that learned them from different starts."""
    images, labels = patterns(request.param)
    return images, labels, *(learned(network(seed), images, labels) for seed in (1, 2))


def learned(model, images, labels):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        for _ in range(25):
            optimizer.zero_grad()
            classification_loss(model.train()(images), labels).backward()
            optimizer.step()
    return model.eval()


def verdicts(model, images, labels, surrogate, *, norm="linf", eps=EPS, steps=10, **options):
    options = {"norm": norm, "eps": eps, "steps": steps, "surrogate": surrogate, "generator": seeded(0)} | options
    table = self_checks(model, images, labels, **options)
    assert table["check"].tolist() == CHECKS and table.columns.tolist() == ["check", "passed", "detail"]
    assert table["passed"].dtype == bool and table["detail"].str.len().gt(0).all()
    return table.set_index("check")


@norms
def test_self_checks_pass_on_trained_networks_are_repeatable_and_leave_model_and_generators_alone(trained, norm):
    images, labels, model, surrogate = trained
    assert classification_loss(model(images), labels).item() < 0.5
    state = torch.get_rng_state()
    for eps in (EPS, 8 / 255):
        table = verdicts(model.train(), images, labels, surrogate, norm=norm, eps=eps)
        assert table["passed"].all(), table[~table["passed"]].to_string()
        assert torch.equal(state, torch.get_rng_state()) and model.training
    pd.testing.assert_frame_equal(table, verdicts(model.eval(), images, labels, surrogate, norm=norm, eps=eps))


def test_self_checks_need_a_radius_and_details_tell_the_losses_and_the_wrong_labels_at_the_given_thresholds():
    images, labels = patterns(multilabel=True, n=10)
    asked = network(), images, labels, network(1)
    with pytest.raises(InputError, match="eps is 0; the checks need a positive radius"):
        verdicts(*asked, eps=0)
    options = {"steps": 2, "thresholds": torch.tensor([0.1, 0.4, 0.5, 0.9], dtype=torch.float64)}
    detail, logits = verdicts(*asked, **options).detail["success grows with eps"], asked[0](images)
    loss, decided = classification_loss(logits, labels).item(), logits.sigmoid() >= options["thresholds"]
    wrong = (decided != labels.bool()).double().mean().item()
    assert detail.startswith(f"clean: loss {loss:.6g} ({wrong:.1%} wrong), PGD at eps / 2: loss ")
    assert verdicts(*asked, steps=2).detail["success grows with eps"] != detail


# What makes a network look robust: sixteen grey levels, for rounding has no slope; a gradient that points the other way, of the
# identity; a square root, which has no slope at 0.
MASKS = {
    # with eps the success does grow: the random start is noise
    "quantised": (lambda images: (images * 15).round() / 15, 16 / 255, {CHECKS[4], *CHECKS[-3:]}, "0 of 40"),
    "misleading": (lambda images: 2 * images.detach() - images, EPS, {*CHECKS[3:7], CHECKS[8]}, "40 of 40"),
    "one without": (torch.sqrt, EPS, {"gradients do not vanish"}, "39 of 40"),
}


@pytest.mark.parametrize("change, eps, failed, attackable", MASKS.values(), ids=MASKS)
def test_masked_gradients_fail_the_checks(trained, change, eps, failed, attackable):
    images, labels, model, surrogate = trained
    images = images.clamp(min=0.01).index_fill(0, torch.tensor([2]), 0)
    table = verdicts(Before(change, model), images, labels, surrogate, eps=eps)
    assert not table.passed[list(failed)].any() and table.passed[CHECKS[:3]].all(), table.to_string()
    assert table.detail["gradients do not vanish"].startswith(f"{attackable} images")


RIGHT = {"fgsm": fgsm, "pgd": pgd}
DEFECTS = [
    ("pgd", {"after": lambda found: (found * 255).round() / 255}, "eps 0 is the identity"),
    ("pgd", {"farther": 1.2}, "measured norms never exceed eps"),
    ("fgsm", {"norm": "l2-scaled"}, "measured norms never exceed eps"),
    ("pgd", {"after": lambda found: found + 1.0}, "images stay in [0, 1]"),
    ("pgd", {"eps": EPS, "step_size": EPS / 2}, "success grows with eps"),
    ("pgd", {"steps": 1}, "success grows with steps"),
    ("pgd", {"steps": 1}, "PGD is at least as strong as FGSM"),
    ("pgd", {"downhill": True}, "PGD is at least as strong as FGSM"),
    ("fgsm", {"noise": True}, "random noise of the same norm is weaker"),
    ("pgd", {"noise": True}, "random noise of the same norm is weaker"),
]


def defective(name, *, after=lambda found: found, farther=1.0, downhill=False, noise=False, **overruled):
    """An attack that goes too far or the wrong way, is only noise, has options overruled, or whose images are changed after it."""

    def run(model, images, labels, *, eps, norm, loss_fn, **options):
        if noise:
            return random_perturbation(images, eps=eps, norm=norm, generator=seeded(9))
        options |= {"eps": farther * eps, "norm": norm} | overruled
        uphill = (lambda z, y: -loss_fn(z, y)) if downhill else loss_fn
        return after(RIGHT[name](model, images, labels, loss_fn=uphill, **options))

    return run


@pytest.mark.parametrize("name, defect, check", DEFECTS)
def test_each_check_notices_the_defect_it_is_for(monkeypatch, trained, name, defect, check):
    # the same call passes without the defect: the test on repeatability holds that
    images, labels, model, surrogate = trained
    monkeypatch.setattr(attacks, name, defective(name, **defect))
    table = verdicts(model, images, labels, surrogate, steps=5)
    assert not table.passed[check], table.to_string()
