"""Label noise: matrices, flips and measured rates."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rosutils import InputError
from rosutils.noise import (
    KINDS,
    flip_labels,
    label_flip_rates,
    move_labels,
    noise_rate,
    noise_report,
    transition_matrix,
)


quick = settings(max_examples=40, deadline=None)
rates = st.sampled_from([0, 1]) | st.floats(0, 1)
seeds = st.integers(0, 2**32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_classes(n, n_classes, seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(n_classes, size=n))


def random_entries(n, n_classes, seed):
    return torch.from_numpy((np.random.default_rng(seed).random((n, n_classes)) < 0.3).astype(np.float32))


def is_plausible(measured, rate, n):
    """Whether n draws at this rate give the measured share, save once in a billion times on each side."""
    count = round(measured * n)
    return stats.binom.cdf(count, n, rate) > 1e-9 and stats.binom.sf(count - 1, n, rate) > 1e-9


@quick
@given(kind=st.sampled_from(KINDS), rate=rates, n_classes=st.integers(2, 12))
def test_a_label_stays_at_one_minus_the_rate_and_moves_evenly_or_to_the_next_class_cyclically(kind, rate, n_classes):
    matrix = transition_matrix(kind, rate, n_classes)
    kept, others = 1 if kind == "none" else 1 - rate, {"none": 0, "symmetric": rate / (n_classes - 1)}
    for row, column in product(range(n_classes), repeat=2):
        moved = others.get(kind, rate * (column == (row + 1) % n_classes))
        assert matrix[row, column].item() == pytest.approx(kept if row == column else moved)
    assert matrix.dtype == torch.float64 and matrix.shape == (n_classes, n_classes)


@pytest.mark.parametrize(
    ("kind", "rate", "n_classes", "message"),
    [
        ("asymmetric", 0.1, 8, "'asymmetric'.*none, symmetric, pairflip"),
        ("symmetric", 1.2, 8, r"noise rate is 1\.2; allowed are values from 0 to 1"),
        ("symmetric", -0.1, 8, r"-0\.1"),
        ("none", math.nan, 8, "nan"),
        ("symmetric", 0.1, 1, "at least 2 classes, found n_classes = 1"),
    ],
)
def test_a_wrong_matrix_is_refused_with_value_and_allowed(kind, rate, n_classes, message):
    with pytest.raises(InputError, match=message):
        transition_matrix(kind, rate, n_classes)


@quick
@given(kind=st.sampled_from(["symmetric", "pairflip"]), rate=rates, seed=seeds, n_classes=st.integers(2, 9))
def test_the_share_of_changed_labels_is_the_nominal_rate(kind, rate, seed, n_classes):
    clean = random_classes(4000, n_classes, seed)
    noisy = flip_labels(clean, transition_matrix(kind, rate, n_classes), generator=seeded(seed))
    assert noisy.dtype == torch.int64
    assert is_plausible(noise_rate(noisy, clean), rate, 4000)


def test_each_label_follows_its_own_row_of_a_free_matrix():
    matrix = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])
    clean = torch.arange(3).repeat_interleave(8000)
    noisy = flip_labels(clean, matrix, generator=seeded())
    measured = torch.stack([(noisy[clean == row][:, None] == torch.arange(3)).double().mean(0) for row in range(3)])
    torch.testing.assert_close(measured, matrix.double(), atol=0.02, rtol=0)
    assert (measured[matrix == 0] == 0).all()


class ForcedDraw(torch.overrides.TorchFunctionMode):
    """Makes every uniform draw the given number."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def __torch_function__(self, function, types, args=(), kwargs=None):
        drawn = function(*args, **(kwargs or {}))
        return torch.full_like(drawn, self.draw) if function is torch.rand else drawn


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 1), (1 - 2**-53, 4)])
def test_the_smallest_and_the_largest_draw_never_give_an_impossible_class(draw, expected):
    # 0.7 + 0.1 + 0.1 + 0.1 is below 1 in floating point; the first and the last class have probability 0
    matrix = torch.tensor([[0.0, 0.7, 0.1, 0.1, 0.1, 0.0]] * 6, dtype=torch.float64)
    with ForcedDraw(draw):
        assert flip_labels(torch.zeros(3, dtype=torch.int64), matrix, generator=seeded()).tolist() == [expected] * 3
        clean = random_entries(20, 3, 0)
        assert flip_labels(clean, label_flip_rates(0, 0, 3), generator=seeded()).equal(clean)


@quick
@given(seed=seeds, changed=st.integers(0, 99), label=st.integers(0, 7))
def test_the_draw_of_one_example_or_entry_does_not_depend_on_other_labels(seed, changed, label):
    matrices = transition_matrix("symmetric", 0.5, 8), label_flip_rates(0.4, 0.6, 3)
    for clean, matrix in zip((random_classes(100, 8, seed), random_entries(100, 3, seed)), matrices, strict=True):
        other = clean.clone()
        other[changed] = label if clean.ndim == 1 else 1 - clean[changed]
        first, second = (flip_labels(labels, matrix, generator=seeded(seed)) for labels in (clean, other))
        first[changed] = second[changed]
        assert first.equal(second) and not first.equal(flip_labels(other, matrix, generator=seeded(seed + 1)))


def test_the_input_is_never_modified():
    classes, entries = random_classes(500, 8, 0), random_entries(500, 8, 0)
    kept = classes.clone(), entries.clone()
    for rate in (0, 1):
        flip_labels(classes, transition_matrix("symmetric", rate, 8), generator=seeded()).zero_()
        flip_labels(entries, label_flip_rates(rate, rate, 8), generator=seeded()).zero_()
    assert torch.equal(classes, kept[0]) and torch.equal(entries, kept[1])


def test_flip_rates_take_one_number_for_all_or_one_per_label():
    expected = torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(label_flip_rates([0.1, 0.2, 0.3], 0, 3), expected)
    with pytest.raises(InputError, match=r"false_positives has shape \(2,\); give one number or 3"):
        label_flip_rates(0, [0.1, 0.2], 3)
    with pytest.raises(InputError, match=r"false_negatives is \[0.1, 1.5, 0.3\]"):
        label_flip_rates([0.1, 1.5, 0.3], 0, 3)


@quick
@given(lost=st.lists(rates, min_size=3, max_size=3), gained=st.lists(rates, min_size=3, max_size=3), seed=seeds)
def test_multilabel_errors_have_their_two_rates_per_label(lost, gained, seed):
    clean = random_entries(4000, 3, seed)
    noisy = flip_labels(clean, label_flip_rates(lost, gained, 3), generator=seeded(seed))
    assert noisy.dtype == clean.dtype and set(noisy.unique().tolist()) <= {0, 1}
    for label in range(3):
        changed, positive = (noisy != clean)[:, label], clean[:, label] == 1
        for among, rate in ((positive, lost[label]), (~positive, gained[label])):
            assert is_plausible(changed[among].double().mean().item(), rate, int(among.sum()))


@pytest.mark.parametrize(
    ("labels", "matrix", "message"),
    [
        (torch.tensor([0, 3]), torch.eye(3), "labels run from 0 to 3; allowed are 0 to 2"),
        (torch.tensor([0, -1]), torch.eye(3), "labels run from -1 to 0"),
        (torch.tensor([0, 1]), torch.ones(2, 2), r"sum to 1, found sums \[2.0, 2.0\]"),
        (torch.tensor([0, 1]), torch.tensor([[1.5, -0.5], [0.0, 1.0]]), "non-negative"),
        (torch.tensor([0, 1]), torch.zeros(3, 2), r"shape \(3, 2\).*transition_matrix"),
        (torch.tensor([0.0, 1.0]), torch.eye(2), r"torch.float32 with shape \(2,\); give int64"),
        (torch.tensor([[0, 1]]), torch.zeros(2, 2), "torch.int64"),
        (torch.tensor([[0.0, 1.0, 1.0]]), torch.zeros(2, 2), r"need \(3, 2\), see label_flip_rates"),
        (torch.tensor([[0.0, 0.5]]), torch.zeros(2, 2), "of 0 and 1"),
        (torch.tensor([[0.0, 1.0]]), torch.full((2, 2), 1.5), "allowed are values from 0 to 1"),
    ],
)
def test_labels_and_matrix_that_do_not_fit_are_refused(labels, matrix, message):
    with pytest.raises(InputError, match=message):
        flip_labels(labels, matrix, generator=seeded())
    if not (labels.ndim == 2 and labels.is_floating_point()):
        with pytest.raises(InputError, match="floats \\[N, C\\]"):
            move_labels(labels, matrix, generator=seeded())


def test_noise_rate_counts_labels_or_entries():
    assert noise_rate(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.25
    assert noise_rate(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])) == 0.75
    with pytest.raises(InputError, match=r"\(2,\).*\(3,\)"):
        noise_rate(torch.zeros(2), torch.zeros(3))


def test_the_report_counts_both_kinds_of_error_per_class():
    clean, noisy = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0])
    report = noise_report(noisy, clean, ["a", "b", "c"])
    assert report["class"].tolist() == ["a", "b", "c"]
    assert report["clean"].tolist() == [3, 2, 0]
    assert report["given"].tolist() == [3, 2, 0]
    assert report["false_negatives"].tolist() == [1, 1, 0]
    assert report["false_positives"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(report["false_negative_rate"], [1 / 3, 1 / 2, math.nan])
    np.testing.assert_allclose(report["false_positive_rate"], [1 / 2, 1 / 3, 0])


@quick
@given(seed=seeds)
def test_the_report_of_classes_is_the_report_of_their_indicators(seed):
    clean = random_classes(60, 4, seed)
    noisy = flip_labels(clean, transition_matrix("symmetric", 0.5, 4), generator=seeded(seed))
    entries = [torch.nn.functional.one_hot(labels, 4).float() for labels in (noisy, clean)]
    by_class, by_entry = noise_report(noisy, clean, list("abcd")), noise_report(*entries, list("abcd"))
    assert by_class.equals(by_entry)
    assert by_class["false_negatives"].sum() == (noisy != clean).sum()
    assert (by_class["given"] == by_class["clean"] - by_class["false_negatives"] + by_class["false_positives"]).all()


# Labels of multi-label images that move to other labels


@quick
@given(kind=st.sampled_from(KINDS), rate=rates, seed=seeds)
def test_moved_labels_are_the_loop_over_every_label_that_an_image_has(kind, rate, seed):
    labels, matrix = random_entries(12, 4, seed), transition_matrix(kind, rate, 4)
    moved = move_labels(labels, matrix, generator=seeded(seed))
    one_by_one = flip_labels(torch.arange(4).repeat(12), matrix, generator=seeded(seed)).view(12, 4)
    expected = torch.zeros_like(labels)
    for image, label in labels.nonzero().tolist():
        expected[image, one_by_one[image, label]] = 1
    assert moved.equal(expected) and moved.dtype == labels.dtype
