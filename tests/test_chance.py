"""What no skill scores: constants in closed form, random scores as scikit-learn measures them, base rates by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, precision_recall_fscore_support
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from rosutils import InputError
from rosutils.chance import PENALTIES, base_rate_loss, base_rate_margin, chance, logistic_regression, skill_margin
from rosutils.metrics import averagings, best_thresholds, evaluate


RATES = torch.tensor([0.45, 0.3, 0.2, 0.05])
NAMES = list("abcd")
seeds = st.integers(0, 2**32)


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def made_up(multilabel, seed=0, sizes=(80, 150)):
    g = drawn(seed)
    if multilabel:
        return [(torch.rand(n, 4, generator=g) < RATES).float() for n in sizes]
    return [torch.multinomial(RATES, n, replacement=True, generator=g) for n in sizes]


def numbers(validation, test, setting, *, draws=40, seed=0, **options):
    options = {"multilabel": test.ndim == 2, "class_names": NAMES, "generator": drawn(seed)} | options
    table = chance(validation, test, draws=draws, **options)
    rows = table[table["setting"] == setting]
    return {(row["average"], row["metric"]): row["value"] for _, row in rows.iterrows()}


@pytest.mark.parametrize("multilabel", [False, True])
def test_it_has_the_rows_of_an_evaluation_for_each_setting(multilabel):
    validation, test = made_up(multilabel)
    table = chance(validation, test, multilabel=multilabel, class_names=NAMES, draws=40, generator=drawn())
    assert list(table.columns) == ["setting", "class", "average", "metric", "value"]
    assert list(table["setting"].unique()) == ["best constant", "random scores", "random scores, 97.5 %"]
    scores = torch.randn(len(test), 4)
    measured = evaluate(scores, test, multilabel=multilabel, class_names=NAMES)
    expected = set(measured[measured["class"] == ""].set_index(["average", "metric"]).index)
    for _, rows in table.groupby("setting"):
        assert set(rows.set_index(["average", "metric"]).index) == expected and len(rows) == len(expected)
    assert (table["class"] == "").all() and table["value"].between(0, 1).all()


def test_always_the_commonest_class_in_closed_form():
    test, p = torch.tensor([1] * 12 + [0] * 5 + [2] * 3), 12 / 20
    found = numbers(test, test, "best constant")
    assert found["", "accuracy"] == found["micro", "f1"] == pytest.approx(p)
    assert found["macro", "f1"] == pytest.approx(2 * p / (1 + p) / 3)  # the fourth class does not occur
    assert found["means", "f1"] == pytest.approx(2 * (p / 3) * (1 / 3) / (p / 3 + 1 / 3))
    weighted = [found["weighted", metric] for metric in ("precision", "recall", "f1")]
    assert weighted == pytest.approx([p * p, p, p * 2 * p / (1 + p)])
    assert found["macro", "auroc"] == 0.5


@settings(max_examples=10)
@given(seed=seeds, multilabel=st.booleans(), n=st.integers(2, 40))
def test_the_best_constant_is_the_best_by_scikit_learn(seed, multilabel, n):
    validation, test = made_up(multilabel, seed, (30, n))
    found = numbers(validation, test, "best constant", seed=seed)
    commonest = sorted(range(4), key=lambda label: (-test[:, label].sum().item() if multilabel else 0, label))
    chosen = [commonest[:m] for m in (1, 2, 3, 4)] if multilabel else [[label] for label in range(4)]
    for average in averagings(multilabel):
        if average == "means":
            continue
        every = []
        for labels in chosen:
            guess = np.isin(np.arange(4), labels).astype(int)[None].repeat(n, 0) if multilabel else labels * n
            occur = np.flatnonzero(test.any(0)) if multilabel else np.unique(test)
            options = {"average": average, "labels": occur if average == "macro" and len(occur) else range(4)}
            options["zero_division"] = 0
            every.append(precision_recall_fscore_support(test, guess, **options)[:3])
        best = max(f1 for *_, f1 in every)
        equal = [prf for prf in every if prf[2] > best - 1e-12]  # which of them is taken rounding may decide
        assert any([found[average, m] for m in ("precision", "recall", "f1")] == pytest.approx(prf) for prf in equal)


def random_scores(validation, test, rule, draws, seed):
    """The same draws, measured by `evaluate`."""
    g = drawn(seed)
    for _ in range(draws):
        if test.ndim == 2:
            first, second = (torch.randn(part.shape, generator=g, dtype=torch.float64) for part in (validation, test))
            thresholds = None if rule == "fixed" else best_thresholds(first, validation, rule=rule)
            yield evaluate(second, test, multilabel=True, class_names=NAMES, thresholds=thresholds)
        else:
            rates = (torch.bincount(validation, minlength=4) + 1) / (len(validation) + 4)
            noise = torch.empty(len(test), 4, dtype=torch.float64).exponential_(generator=g).log()
            yield evaluate(rates.double().log() - noise, test, multilabel=False, class_names=NAMES)


@pytest.mark.parametrize(("multilabel", "rule"), [(False, "micro"), (True, "per-label"), (True, "fixed")])
def test_random_scores_are_measured_as_a_setting_is(multilabel, rule):
    validation, test = made_up(multilabel, 3)
    every = [
        table[table["class"] == ""].set_index(["average", "metric"])["value"]
        for table in random_scores(validation, test, rule, 40, seed=7)
    ]
    values = pd.concat(every, axis=1)
    high = values.quantile(0.975, axis=1)
    for setting, expected in (("random scores", values.mean(axis=1)), ("random scores, 97.5 %", high)):
        found = numbers(validation, test, setting, rule=rule, seed=7)
        assert found == pytest.approx(expected.to_dict(), abs=1e-9)


def test_a_single_label_is_guessed_as_often_as_it_occurs():
    validation, test = made_up(False, sizes=(5_000, 2_000))
    found, rates = numbers(validation, test, "random scores", draws=100), RATES.double()
    assert found["", "accuracy"] == pytest.approx((rates**2).sum().item(), abs=0.02)
    assert found["macro", "f1"] == pytest.approx(1 / 4, abs=0.02)
    assert found["macro", "auroc"] == pytest.approx(0.5, abs=0.01)


def test_classes_without_both_kinds_of_label_are_left_out_of_the_auroc():
    validation, test = made_up(True)
    test[:, 0], test[:, 3] = 0, 1
    assert 0.3 < numbers(validation, test, "random scores")["macro", "auroc"] < 0.7
    assert math.isnan(numbers(validation, test * 0, "random scores")["macro", "auroc"])


def test_the_generator_alone_decides():
    validation, test = made_up(False)
    state = torch.random.get_rng_state()
    one, same, other = (numbers(validation, test, "random scores", seed=seed) for seed in (1, 1, 2))
    assert one == same and one != other and torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"draws": 39}, "draws is 39; .* at least 40"),
        ({"draws": 50.0}, "draws is 50.0"),
        ({"rule": "macro"}, "rule is 'macro'; allowed are micro, per-label"),
        ({"class_names": list("abc")}, r"labels have shape \(80, 4\); need \[N, 3\]"),
        ({"multilabel": False}, r"labels have shape \(80, 4\); need \[N\]"),
        ({"validation": torch.zeros(0, 4)}, "at least one image"),
        ({"test": torch.full((5, 4), 0.5)}, "labels run from 0.5 to 0.5; allowed are the integers 0 to 1"),
        ({"multilabel": False, "validation": torch.tensor([0, 4])}, "labels run from 0 to 4; .* 0 to 3"),
    ],
)
def test_what_does_not_fit_is_said(changes, says):
    validation, test = made_up(True)
    given = {"validation": validation, "test": test, "setting": "random scores"} | changes
    with pytest.raises(InputError, match=says):
        numbers(given.pop("validation"), given.pop("test"), given.pop("setting"), **given)


def test_the_loss_of_base_rates_by_hand():
    train, validation = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2])
    # (3 + 1) / 7, (1 + 1) / 7, (0 + 1) / 7
    expected = -np.log([4 / 7, 2 / 7, 1 / 7]).mean()
    assert base_rate_loss(train, validation, multilabel=False) == pytest.approx(expected)
    train, validation = torch.tensor([[1.0, 0], [0, 0]]), torch.tensor([[1.0, 0], [1, 1]])
    expected = -np.log([2 / 4, 3 / 4, 2 / 4, 1 / 4]).mean()
    assert base_rate_loss(train, validation, multilabel=True) == pytest.approx(expected)


def test_the_loss_of_base_rates_refuses_labels_that_are_none():
    with pytest.raises(InputError, match=r"labels have shape \(0, 4\)"):
        base_rate_loss(torch.zeros(0, 4), torch.zeros(3, 4), multilabel=True)
    for one, other in ((0, 3), (3, 0)):
        with pytest.raises(InputError, match=r"labels have shape \(0,\)"):
            base_rate_loss(torch.zeros(one).long(), torch.zeros(other).long(), multilabel=False)


def test_the_margin_over_the_base_rates_is_none_for_the_base_rates_and_negative_for_worse(small_task):
    train, validation = (small_task.labels[small_task.split[part]] for part in ("train", "validation"))
    counts = train.sum(0) if small_task.multilabel else torch.bincount(train, minlength=4)
    rates = (counts + 1) / (len(train) + (2 if small_task.multilabel else 4))
    logits = (rates.logit() if small_task.multilabel else rates.log()).expand(len(validation), 4)
    assert base_rate_margin(small_task, logits) == pytest.approx(0, abs=1e-6)
    right = validation if small_task.multilabel else F.one_hot(validation, 4)
    assert base_rate_margin(small_task, 9.0 * (2 * right - 1)) > 0.4
    assert base_rate_margin(small_task, -9.0 * (2 * right - 1)) < -5


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_network_that_is_too_sure_of_itself_has_skill_all_the_same_and_noise_has_none(multilabel):
    labels, g = torch.cat(made_up(multilabel)), drawn(1)
    split = {"train": torch.arange(80), "validation": torch.arange(80, 230)}
    task = SimpleNamespace(labels=labels, split=split, n_classes=4, multilabel=multilabel)
    right = labels[80:] if multilabel else F.one_hot(labels[80:], 4)
    sure = 40.0 * (2 * right - 1) * torch.where(torch.rand(right.shape, generator=g) < 0.2, -1.0, 1.0)
    assert base_rate_margin(task, sure) < 0 < skill_margin(task, sure)
    assert skill_margin(task, -sure) < 0
    noise = [skill_margin(task, 40 * torch.randn(right.shape, generator=g)) for _ in range(100)]
    assert sum(margin > 0 for margin in noise) <= 10


# Logistic regression on pixels: scikit-learn's own pipeline, what it can and cannot see, and what training lacks

SIZES = (120, 60, 80)


def spotted(multilabel, sizes=SIZES, pixels=6, n_classes=3, seed=0):
    """Images whose class shows as a bright spot in noise, and their labels, part by part."""
    g = torch.Generator().manual_seed(seed)
    images, labels = [], []
    for n in sizes:
        found = torch.randint(0, 2, (n, n_classes), generator=g).float() if multilabel else torch.arange(n) % n_classes
        spots = found if multilabel else F.one_hot(found, n_classes)
        noisy = torch.randint(0, 160, (n, 1, pixels, pixels), generator=g)
        for number in range(n_classes):
            noisy[:, 0, 1, number] += (60 * spots[:, number]).long()
        images.append(noisy.to(torch.uint8).numpy())
        labels.append(found)
    return images, labels


def fitted(images, labels, *, seed=0, **options):
    options = {"multilabel": labels[0].ndim == 2, "seed": seed, "n_classes": 3} | options
    return logistic_regression(images[0], labels[0], images[1], labels[1], images[2], **options)


@pytest.mark.parametrize("multilabel", [False, True])
def test_it_is_scikit_learns_pipeline_with_the_best_penalty_on_validation(multilabel):
    images, labels = spotted(multilabel)
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in images]
    scaler = StandardScaler().fit(flat[0])
    pca = PCA(svd_solver="full").fit(scaler.transform(flat[0]))
    parts = [pca.transform(scaler.transform(part)) for part in flat]
    parts = [part / parts[0].std(axis=0).max() for part in parts]
    trained, validation = ([*part.T] if multilabel else [part] for part in labels[:2])
    best = (math.inf, None)
    for strength in PENALTIES:
        models = [LogisticRegression(C=strength, max_iter=5_000, tol=1e-6).fit(parts[0], each) for each in trained]
        shown = [[model.predict_proba(part) for part in parts[1:]] for model in models]
        loss = np.mean([log_loss(y, p[0]) for y, p in zip(validation, shown, strict=True)])
        best = min(best, (loss, shown), key=lambda pair: pair[0])
    found = fitted(images, labels)["test"]
    ours = found.sigmoid().T if multilabel else [found.softmax(1)]
    for mine, (_, theirs) in zip(ours, best[1], strict=True):
        np.testing.assert_allclose(mine, theirs[:, 1] if multilabel else theirs, atol=0.01)


def test_the_seed_alone_decides():
    images, labels = spotted(False)
    state = torch.random.get_rng_state()
    before = fitted(images, labels, seed=3)["test"]
    np.random.seed(1)
    assert torch.equal(before, fitted(images, labels, seed=3)["test"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_class_that_training_lacks_is_as_likely_as_one_image_more():
    images, labels = spotted(False)
    labels[0] = labels[0] % 2
    found = fitted(images, labels, n_classes=5)
    for logits in found.values():
        assert logits.shape[1] == 5 and set(logits.argmax(1).tolist()) <= {0, 1}
        torch.testing.assert_close(logits[:, 2:], torch.full_like(logits[:, 2:], -math.log(121)))
        torch.testing.assert_close(logits[:, :2].exp().sum(1), torch.ones(len(logits)))
    labels[0] = torch.zeros(120).long()
    assert (fitted(images, labels)["test"].argmax(1) == 0).all()


def test_a_label_of_one_kind_has_its_odds_for_every_image():
    images, labels = spotted(True)
    labels[0][:, 0], labels[0][:, 2] = 0, 1
    found = fitted(images, labels)["test"]
    torch.testing.assert_close(found[:, 0], torch.full((80,), -math.log(121)))
    torch.testing.assert_close(found[:, 2], torch.full((80,), math.log(121)))
    assert found[:, 1].std() > 0


@pytest.mark.parametrize("images", [np.zeros, np.ones])
def test_images_without_anything_on_them_give_the_base_rates(images):
    _, labels = spotted(False)
    found = fitted([images((n, 3, 4, 4), dtype=np.uint8) for n in SIZES], labels)["test"]
    torch.testing.assert_close(found.exp(), torch.full((80, 3), 1 / 3), atol=0.01, rtol=0)


def test_larger_images_are_averaged_down_and_fewer_images_than_components_will_do():
    small, labels = spotted(False, pixels=10, sizes=(30, 20, 10))
    found = [fitted([np.kron(part, np.ones((1, 1, k, k), np.uint8)) for part in small], labels)["test"] for k in (4, 8)]
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


def test_parts_that_do_not_fit_are_said():
    images, labels = spotted(False)
    with pytest.raises(InputError, match="the training part has 120 images and 119 labels"):
        fitted(images, [labels[0][:-1], *labels[1:]])
    with pytest.raises(InputError, match="the validation part has 0 images and 0 labels"):
        fitted([images[0], images[1][:0], images[2]], [labels[0], labels[1][:0]])
