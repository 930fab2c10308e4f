"""Metrics against scikit-learn, hand-computed cases and brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from rosutils import InputError
from rosutils.metrics import auroc_per_class, best_thresholds, evaluate, of_counts, precision_recall_f1


quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32)
NAN = math.nan


def random_classes(seed, n=60, n_classes=5):
    draw = np.random.default_rng(seed)
    scores = torch.from_numpy(draw.normal(size=(n, n_classes)) * 3).float()
    return scores, torch.from_numpy(draw.integers(n_classes, size=n))


def random_entries(seed, n=60, n_classes=4, decimals=1):
    """Rounded logits, so that equal scores occur."""
    draw = np.random.default_rng(seed)
    labels = (draw.random((n, n_classes)) < draw.random(n_classes)).astype(np.float32)
    return torch.from_numpy(draw.normal(size=(n, n_classes)).round(decimals)).float(), torch.from_numpy(labels)


def logit(probability):
    return math.log(probability / (1 - probability))


@quick
@given(seed=seeds, n=st.integers(1, 60), multilabel=st.booleans())
def test_scores_are_scikit_learns_and_the_f1_of_averages_is_made_of_them(seed, n, multilabel):
    scores, labels = random_entries(seed, n) if multilabel else random_classes(seed, n, n_classes=4)
    predicted = (scores.double().sigmoid() >= 0.5).int() if multilabel else scores.argmax(1)
    occur = np.flatnonzero(labels.any(0)) if multilabel else np.unique(labels)
    three = (precision_score, recall_score, f1_score)
    for average in ("macro", "micro", "weighted", None, *(["samples"] if multilabel else [])):
        classes = occur if average == "macro" and len(occur) else range(4)
        options = {"average": average, "labels": classes, "zero_division": 0}
        expected = [score(labels, predicted, **options) for score in three]
        found = precision_recall_f1(scores, labels, average=average, multilabel=multilabel)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        if average == "macro":
            p, r, _ = expected
            means = precision_recall_f1(scores, labels, average="means", multilabel=multilabel)
            assert means == pytest.approx((p, r, stats.hmean([p, r]) if p * r > 0 else 0), abs=1e-12)


def test_thresholds_are_probabilities_and_inclusive():
    scores, labels = np.array([[0.0, logit(0.3)], [-0.1, logit(0.2)]]), np.array([[1, 1], [0, 0]])
    perfect = np.ones(2)
    at_half = precision_recall_f1(scores, labels, average=None, multilabel=True)
    np.testing.assert_array_equal(at_half.f1, [1, 0])  # sigmoid(0) = 0.5 counts as found
    per_label = precision_recall_f1(scores, labels, average=None, multilabel=True, thresholds=[0.5, 0.25])
    np.testing.assert_array_equal(per_label.f1, perfect)
    all_found = precision_recall_f1(scores, labels, average=None, multilabel=True, thresholds=0.1)
    np.testing.assert_array_equal(all_found.recall, perfect)
    np.testing.assert_array_equal(all_found.precision, [0.5, 0.5])


def test_averages_of_several_labels_by_hand():
    labels = np.array([[1, 1, 0], [0, 1, 0]])
    scores = np.where([[1, 0, 1], [0, 1, 0]], 2.0, -2.0)
    expected = {"micro": [2 / 3] * 3, "macro": (1, 3 / 4, 5 / 6), "samples": [3 / 4] * 3, "means": (1, 3 / 4, 6 / 7)}
    for average, numbers in expected.items():  # macro over the two labels that occur; 6/7 is the harmonic mean
        assert precision_recall_f1(scores, labels, average=average, multilabel=True) == pytest.approx(tuple(numbers))
    nothing_right = precision_recall_f1(-scores, np.ones((2, 3)), average="means", multilabel=True, thresholds=1.0)
    assert nothing_right == (0, 0, 0)


@quick
@given(seed=seeds, n=st.integers(1, 60), metric=st.sampled_from(["precision", "recall", "f1"]))
def test_counts_give_the_numbers_of_scores(seed, n, metric):
    scores, labels = random_entries(seed, n)
    true, predicted = labels > 0, scores.double().sigmoid() >= 0.5
    counts = torch.stack([true & predicted, predicted, true]).double()
    for average in ("macro", "micro", "weighted", "means", "samples"):
        expected = precision_recall_f1(scores, labels, average=average, multilabel=True)._asdict()[metric]
        found = of_counts(counts.sum(2 if average == "samples" else 1), metric, average)
        assert found.item() == pytest.approx(expected, abs=1e-12)
    twice = of_counts(counts.sum(1).expand(2, 5, 3, 4), metric, "micro")
    assert twice.shape == (2, 5) and twice.unique().numel() == 1


def test_a_class_that_does_not_occur_is_left_out_of_macro_averages_as_of_the_mean_auroc():
    labels, scores = torch.tensor([0, 1, 1, 1]), 9 * torch.eye(4)[[0, 1, 1, 3]]
    assert precision_recall_f1(scores[:3], labels[:3], average="macro") == (1, 1, 1)
    assert as_numbers(evaluate(scores[:3], labels[:3], multilabel=False, class_names="abcd"))["", "macro", "auroc"] == 1
    assert precision_recall_f1(scores, labels, average=None).f1.tolist() == pytest.approx([1, 0.8, 0, 0])
    assert precision_recall_f1(scores, labels, average="macro") == pytest.approx((1, (1 + 2 / 3) / 2, 0.9))
    entries = torch.tensor([[1, 0, 0], [1, 1, 0]])
    # the third label is given to an image but belongs to none
    found = precision_recall_f1(torch.tensor([[3.0, -3, -3], [3, 3, 3]]), entries, average="macro", multilabel=True)
    assert found == (1, 1, 1)
    nothing = precision_recall_f1(scores[:2, :3], torch.zeros(2, 3), average="macro", multilabel=True)
    assert nothing == (0, 0, 0)


def test_arrays_tensors_and_half_precision_give_the_same_numbers():
    scores, labels = random_classes(3)
    scores = scores.half()
    first = precision_recall_f1(scores, labels, average="macro")
    assert first == precision_recall_f1(scores.numpy(), labels.numpy(), average="macro")
    assert first == precision_recall_f1(scores.clone().requires_grad_(), labels, average="macro")


@quick
@given(seed=seeds)
def test_auroc_is_scikit_learns_for_every_class(seed):
    scores, labels = random_classes(seed, n=100)
    probabilities = scores.double().softmax(1)
    expected = [roc_auc_score(labels == c, probabilities[:, c]) for c in range(5)]
    np.testing.assert_allclose(auroc_per_class(scores, labels), expected, rtol=1e-12)
    scores, labels = random_entries(seed, n=200)
    expected = [roc_auc_score(labels[:, c], scores[:, c]) if 0 < labels[:, c].sum() < 200 else NAN for c in range(4)]
    np.testing.assert_allclose(auroc_per_class(scores, labels), expected, rtol=1e-12)


def test_auroc_is_nan_only_where_a_class_has_one_kind_of_label_and_the_mean_leaves_it_out():
    labels = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0]])
    scores = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 5.0], [3.0, 3.0, 4.0]])
    np.testing.assert_array_equal(auroc_per_class(scores, labels), [NAN, NAN, 1])
    constant = auroc_per_class(np.zeros((4, 2)), np.array([[0, 1], [1, 0], [1, 0], [0, 0]]))
    np.testing.assert_array_equal(constant, [0.5, 0.5])
    scores, labels = torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 2.0, 0.0]]), torch.tensor([0, 1, 0])
    numbers = as_numbers(evaluate(scores, labels, multilabel=False, class_names=list("abc")))
    assert math.isnan(numbers["c", "", "auroc"])
    assert numbers["", "macro", "auroc"] == pytest.approx((numbers["a", "", "auroc"] + numbers["b", "", "auroc"]) / 2)
    nothing = evaluate(torch.eye(3)[:1], torch.zeros(1, 3), multilabel=True, class_names=list("abc"))
    assert math.isnan(as_numbers(nothing)["", "macro", "auroc"])


def test_auroc_ranks_single_label_classes_by_probability_not_by_logit():
    # by logit the second example has the most of class 0; by probability the first has
    scores, labels = torch.tensor([[1.0, 0.0], [2.0, 5.0]]), torch.tensor([0, 1])
    assert auroc_per_class(scores, labels).tolist() == [1, 1]


def f1_at(threshold, probabilities, labels):
    predicted = probabilities >= threshold
    return 2 * (predicted * labels).sum() / (predicted.sum() + labels.sum())


@quick
@given(seed=seeds, n=st.integers(1, 40), decimals=st.integers(0, 3))
def test_best_thresholds_are_the_highest_of_the_best_by_brute_force(seed, n, decimals):
    scores, labels = random_entries(seed, n, decimals=decimals)
    each, one = best_thresholds(scores, labels, rule="per-label"), best_thresholds(scores, labels)
    assert each.dtype == one.dtype == torch.float64 and each.shape == (4,) and one.shape == ()
    true, shown = labels.double().numpy(), scores.double().sigmoid().numpy()
    for found, y, p in ((one, true.ravel(), shown.ravel()), *zip(each, true.T, shown.T, strict=True)):
        if not y.any():
            assert found == 0.5
            continue
        edges = np.concatenate([[0], np.unique(p)])
        candidates = (edges[1:] + edges[:-1]) / 2
        f1 = np.array([f1_at(t, p, y) for t in candidates])
        assert found.item() == pytest.approx(candidates[f1 == f1.max()].max())
        assert f1_at(found.item(), p, y) == f1.max()
        # and no threshold at all does better, candidate or not
        assert f1.max() >= max(f1_at(t, p, y) for t in np.linspace(0, 1, 101))


def test_the_one_threshold_keeps_a_label_without_skill_from_flooding_the_rest():
    # the first label is found exactly; of the second, its lowest score is positive, so its own best is to take every image
    probabilities = np.array([[0.9, 0.4], [0.8, 0.3], [0.2, 0.2], [0.1, 0.1]])
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1]])
    scores = np.log(probabilities / (1 - probabilities))
    torch.testing.assert_close(best_thresholds(scores, labels), torch.tensor(0.6).double())
    own = best_thresholds(scores, labels, rule="per-label")
    torch.testing.assert_close(own, torch.tensor([0.5, 0.05]).double())
    one, each = (
        precision_recall_f1(scores, labels, average="micro", multilabel=True, thresholds=t).f1
        for t in (best_thresholds(scores, labels), own)
    )
    assert one == pytest.approx(4 / 5) and each == pytest.approx(6 / 9)


def test_neighbouring_floats_and_saturated_scores_still_get_the_promised_f1():
    # sigmoid(±800) is exactly 1 and 0; the two others are neighbours in float64
    half = np.nextafter(0.5, 1)
    scores, labels = np.array([[800.0, 4e-16], [-800.0, 0.0]]), np.array([[1, 1], [1, 0]])
    assert torch.tensor(scores).sigmoid()[0, 1] in (half, np.nextafter(half, 1))
    for rule, chosen in (("per-label", slice(None)), ("micro", [1, 1])):
        thresholds = best_thresholds(scores[:, chosen], labels[:, chosen], rule=rule)
        options = {"average": "macro", "multilabel": True, "thresholds": thresholds}
        assert precision_recall_f1(scores[:, chosen], labels[:, chosen], **options).f1 == 1


def as_numbers(table):
    return {(row["class"], row["average"], row["metric"]): row["value"] for _, row in table.iterrows()}


@pytest.mark.parametrize("multilabel", [False, True])
def test_evaluate_gives_every_row_once_and_uses_the_thresholds(multilabel):
    scores, labels = random_entries(1, n=200) if multilabel else random_classes(0, n=200, n_classes=4)
    options = {"multilabel": multilabel}
    options["thresholds"] = best_thresholds(scores, labels, rule="per-label") if multilabel else None
    table = evaluate(scores, labels, class_names=list("abcd"), **options)
    assert list(table.columns) == ["class", "average", "metric", "value"] and table["value"].dtype == float
    numbers, three = as_numbers(table), ("precision", "recall", "f1")
    averages = ("macro", "micro", "weighted", "means", *(["samples"] if multilabel else []))
    assert len(numbers) == len(table) == len(averages) * 3 + (1 if multilabel else 2) + 4 * 4
    for average in averages:
        expected = precision_recall_f1(scores, labels, average=average, **options)
        assert tuple(numbers["", average, m] for m in three) == tuple(expected)
    if not multilabel:
        assert numbers["", "", "accuracy"] == accuracy_score(labels, scores.argmax(1))
        assert numbers["", "micro", "f1"] == pytest.approx(numbers["", "", "accuracy"])
    auroc, per_class = auroc_per_class(scores, labels), precision_recall_f1(scores, labels, average=None, **options)
    assert numbers["", "macro", "auroc"] == pytest.approx(auroc.nanmean().item())
    for c, name in enumerate("abcd"):
        found = [numbers[name, "", m] for m in (*three, "auroc")]
        np.testing.assert_array_equal(found, [*(each[c] for each in per_class), auroc[c].item()])
    averaged = evaluate(scores, labels, class_names=list("abcd"), per_class=False, **options)
    pd.testing.assert_frame_equal(averaged, table.head(len(averaged)))
    assert len(averaged) == len(averages) * 3 + (0 if multilabel else 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": "samples"}, "'samples'; allowed are None, macro, micro, weighted, means"),
        ({"average": "mean", "multilabel": True}, "'mean'; allowed are None, macro, micro, weighted, samples, means"),
        ({"thresholds": 0.5}, "thresholds are for several labels"),
        ({"labels": [0, 1, 3]}, "labels run from 0.0 to 3.0; allowed are the integers 0 to 2"),
        ({"labels": [0, 1, 0.5]}, "integers 0 to 2"),
        ({"labels": [0, 1]}, r"labels have shape \(2,\)"),
        ({"multilabel": True}, r"labels have shape \(3,\); scores of shape \(3, 3\) need \(3, 3\)"),
        ({"scores": np.full((3, 3), NAN)}, "nan or infinite values; did the training diverge"),
        ({"scores": np.zeros((3, 1)), "labels": [0, 0, 0]}, r"scores have shape \(3, 1\)"),
        ({"scores": np.zeros((0, 3)), "labels": []}, "at least one example"),
        ({"multilabel": True, "labels": np.eye(3) / 2}, "integers 0 to 1"),
        ({"multilabel": True, "labels": np.eye(3), "thresholds": 1.5}, r"thresholds are 1\.5; give one or 3"),
        ({"multilabel": True, "labels": np.eye(3), "thresholds": [0.5, 0.5]}, r"\[0.5, 0.5\]"),
    ],
)
def test_wrong_input_is_refused_with_value_and_allowed(change, message):
    arguments = {"scores": np.eye(3), "labels": np.array([0, 1, 2]), "average": "macro"} | change
    with pytest.raises(InputError, match=message):
        precision_recall_f1(arguments.pop("scores"), np.array(arguments.pop("labels")), **arguments)


def test_an_unknown_rule_and_class_names_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="rule is 'macro'; allowed are micro, per-label"):
        best_thresholds(np.ones((2, 2)), np.zeros((2, 2)), rule="macro")
    with pytest.raises(InputError, match=r"shape \(3, 3\) but there are 2 class names"):
        evaluate(np.eye(3), np.array([0, 1, 2]), multilabel=False, class_names=["a", "b"])
