"""Logistic regression on pixels: scikit-learn's own pipeline, what it can and cannot see, and what training lacks."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from rosutils import InputError, pixels


SIZES = (120, 60, 80)


def made_up(multilabel, sizes=SIZES, pixels=6, n_classes=3, seed=0):
    """Images whose class shows as a bright spot in noise, and their labels, part by part."""
    g = torch.Generator().manual_seed(seed)
    images, labels = [], []
    for n in sizes:
        found = torch.randint(0, 2, (n, n_classes), generator=g).float() if multilabel else torch.arange(n) % n_classes
        spots = found if multilabel else torch.nn.functional.one_hot(found, n_classes)
        noisy = torch.randint(0, 160, (n, 1, pixels, pixels), generator=g)
        for number in range(n_classes):
            noisy[:, 0, 1, number] += (60 * spots[:, number]).long()
        images.append(noisy.to(torch.uint8).numpy())
        labels.append(found)
    return images, labels


def fitted(images, labels, *, seed=0, **options):
    options = {"multilabel": labels[0].ndim == 2, "seed": seed} | options
    return pixels.logistic_regression(images[0], labels[0], images[1], labels[1], images[2], **options)


@pytest.mark.parametrize("multilabel", [False, True])
def test_it_is_scikit_learns_pipeline_with_the_best_penalty_on_validation(multilabel):
    images, labels = made_up(multilabel)
    flat = [part.reshape(len(part), -1).astype(np.float64) for part in images]
    scaler = StandardScaler().fit(flat[0])
    pca = PCA(svd_solver="full").fit(scaler.transform(flat[0]))
    parts = [pca.transform(scaler.transform(part)) for part in flat]
    parts = [part / parts[0].std(axis=0).max() for part in parts]
    best = (math.inf, None)
    for strength in pixels.GRID:
        columns = labels[0].T if multilabel else [labels[0]]
        models = [LogisticRegression(C=strength, max_iter=5_000, tol=1e-6).fit(parts[0], each) for each in columns]
        shown = [[model.predict_proba(part) for part in parts[1:]] for model in models]
        loss = np.mean(
            [log_loss(y, p[0]) for y, p in zip(labels[1].T if multilabel else [labels[1]], shown, strict=True)]
        )
        best = min(best, (loss, shown), key=lambda pair: pair[0])
    found = fitted(images, labels)["test"]
    ours = found.sigmoid().T if multilabel else [found.softmax(1)]
    for mine, (_, theirs) in zip(ours, best[1], strict=True):
        np.testing.assert_allclose(mine, theirs[:, 1] if multilabel else theirs, atol=0.01)


def test_the_seed_alone_decides():
    images, labels = made_up(False)
    state = torch.random.get_rng_state()
    before = fitted(images, labels, seed=3)["test"]
    np.random.seed(1)
    assert torch.equal(before, fitted(images, labels, seed=3)["test"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_class_that_training_lacks_is_as_likely_as_one_image_more():
    images, labels = made_up(False)
    labels[0] = labels[0] % 2
    found = fitted(images, labels, n_classes=5)
    for logits in found.values():
        assert logits.shape[1] == 5 and set(logits.argmax(1).tolist()) <= {0, 1}
        torch.testing.assert_close(logits[:, 2:], torch.full_like(logits[:, 2:], -math.log(121)))
        torch.testing.assert_close(logits[:, :2].exp().sum(1), torch.ones(len(logits)))
    labels[0] = torch.zeros(120).long()
    assert (fitted(images, labels)["test"].argmax(1) == 0).all()


def test_a_label_of_one_kind_has_its_odds_for_every_image():
    images, labels = made_up(True)
    labels[0][:, 0], labels[0][:, 2] = 0, 1
    found = fitted(images, labels)["test"]
    torch.testing.assert_close(found[:, 0], torch.full((80,), -math.log(121)))
    torch.testing.assert_close(found[:, 2], torch.full((80,), math.log(121)))
    assert found[:, 1].std() > 0


@pytest.mark.parametrize("images", [np.zeros, np.ones])
def test_images_without_anything_on_them_give_the_base_rates(images):
    _, labels = made_up(False)
    found = fitted([images((n, 3, 4, 4), dtype=np.uint8) for n in SIZES], labels)["test"]
    torch.testing.assert_close(found.exp(), torch.full((80, 3), 1 / 3), atol=0.01, rtol=0)


def test_larger_images_are_averaged_down():
    small, labels = made_up(False, pixels=10, sizes=(30, 20, 10))
    found = [fitted([np.kron(part, np.ones((1, 1, k, k), np.uint8)) for part in small], labels)["test"] for k in (4, 8)]
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


def test_fewer_images_than_components_will_do():
    images, labels = made_up(False, sizes=(3, 3, 2))
    assert fitted(images, labels)["test"].isfinite().all()


def test_parts_that_do_not_fit_are_said():
    images, labels = made_up(False)
    with pytest.raises(InputError, match="the training part has 120 images and 119 labels"):
        fitted(images, [labels[0][:-1], *labels[1:]])
    with pytest.raises(InputError, match="the validation part has 0 images and 0 labels"):
        fitted([images[0], images[1][:0], images[2]], [labels[0], labels[1][:0]])
