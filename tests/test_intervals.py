"""The bootstrap over groups: each resample is the metric of its images, and the interval holds the truth as often as it says."""

from statistics import harmonic_mean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, precision_score, recall_score

from rosutils import InputError, intervals
from rosutils.metrics import precision_recall_f1


KINDS = [("macro", False), ("weighted", False), ("micro", True), ("means", True)]


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def made_up(multilabel, n_seeds=2, seed=0, n=60, n_classes=4):
    """Logits of two systems, labels and groups; class 3 and many a label are rare, so that resamples lack them."""
    g = drawn(seed)
    rates = torch.tensor([0.5, 0.3, 0.15, 0.02])
    labels = (torch.rand(n, n_classes, generator=g) < rates).float()
    labels = labels if multilabel else torch.multinomial(rates, n, replacement=True, generator=g)
    systems = [[torch.randn(n, n_classes, generator=g) for _ in range(n_seeds)] for _ in range(2)]
    groups = torch.randint(12, (n,), generator=g) * 7 - 3
    limits = [[torch.rand(n_classes, generator=g) if multilabel else None for _ in range(n_seeds)] for _ in range(2)]
    return systems, labels, groups, {"thresholds_a": limits[0], "thresholds_b": limits[1]}


def interval(systems, labels, groups, *, thresholds_a=None, thresholds_b=None, resamples=60, seed=5, **options):
    limits = [each or [None] * len(system) for each, system in zip((thresholds_a, thresholds_b), systems, strict=True)]
    sides = [
        [intervals.Scored(scores, labels, groups, limit) for scores, limit in zip(system, own, strict=True)]
        for system, own in zip(systems, limits, strict=True)
    ]
    options = {"multilabel": labels.ndim == 2, "average": "weighted"} | options
    return intervals.difference_interval(*sides, resamples=resamples, generator=drawn(seed), **options)


def by_scikit_learn(average, labels, guess):
    occur = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(0))
    options = {"average": "macro" if average == "means" else average, "zero_division": 0}
    options["labels"] = occur if options["average"] == "macro" and len(occur) else range(4)
    if average != "means":
        return f1_score(labels, guess, **options)
    both = [score(labels, guess, **options) for score in (precision_score, recall_score)]
    return 0.0 if 0 in both else harmonic_mean(both)


@pytest.mark.parametrize(("average", "multilabel"), KINDS)
def test_each_resample_is_the_metric_of_its_images_one_after_another(monkeypatch, average, multilabel):
    systems, labels, groups, thresholds = made_up(multilabel)
    monkeypatch.setattr(intervals, "percentile_interval", lambda values: values)
    found = interval(systems, labels, groups, resamples=40, seed=5, average=average, **thresholds)

    distinct = groups.unique()
    members = [torch.nonzero(groups == group)[:, 0] for group in distinct]
    draws = torch.randint(len(distinct), (40, len(distinct)), generator=drawn(5))
    indices = [torch.cat([members[group] for group in draw]) for draw in draws]
    sides = []
    for scores, limits in zip(systems, thresholds.values(), strict=True):
        guesses = [
            (one.double().sigmoid() >= limit).int() if multilabel else one.argmax(1)
            for one, limit in zip(scores, limits, strict=True)
        ]
        sides.append([[by_scikit_learn(average, labels[i], guess[i]) for guess in guesses] for i in indices])
    expected = np.mean(sides[0], axis=1) - np.mean(sides[1], axis=1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
    assert found.std() > 0


def test_replicates_with_other_test_parts_share_the_draws_of_their_groups(monkeypatch):
    made = [made_up(False, n_seeds=1, seed=seed) for seed in (0, 1)]
    groups = [made[0][2], made[1][2] + 14]  # twelve groups each, of which ten are in both
    parts = list(zip((each[0] for each in made), (each[1] for each in made), groups, strict=True))
    sides = [[intervals.Scored(systems[side][0], labels, own) for systems, labels, own in parts] for side in (0, 1)]
    monkeypatch.setattr(intervals, "percentile_interval", lambda values: values)
    options = {"average": "weighted", "multilabel": False, "resamples": 40}
    found = intervals.difference_interval(*sides, generator=drawn(5), **options)

    every = torch.cat(groups).unique()
    draw, gains = torch.randint(len(every), (40, len(every)), generator=drawn(5))[17], []
    for (one, *_), (other, *_), labels, own in zip(*sides, (each[1] for each in made), groups, strict=True):
        index = torch.cat([torch.nonzero(own == every[number])[:, 0] for number in draw])
        a, b = (precision_recall_f1(s[index], labels[index], average="weighted").f1 for s in (one, other))
        gains.append(a - b)
    assert len(every) == 14 and found[17].item() == pytest.approx(np.mean(gains), abs=1e-12)


def test_it_is_the_middle_95_percent_of_the_resamples():
    values = torch.arange(1001, dtype=torch.float64)[torch.randperm(1001, generator=drawn(0))]
    assert intervals.percentile_interval(values) == pytest.approx((25, 975))


def test_the_same_generator_gives_the_same_interval_and_another_a_near_one():
    systems, labels, groups, _ = made_up(False)
    state = torch.random.get_rng_state()
    one, same, other = (interval(systems, labels, groups, resamples=400, seed=seed) for seed in (1, 1, 2))
    assert one == same and one != other and torch.equal(torch.random.get_rng_state(), state)
    assert one == pytest.approx(other, abs=0.1)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_difference_that_no_image_changes_has_no_width(multilabel):
    systems, labels, groups, _ = made_up(multilabel, n_seeds=1)
    same = interval([systems[0], systems[0]], labels, groups)
    assert same == pytest.approx((0, 0), abs=1e-12)
    truth = labels if multilabel else torch.nn.functional.one_hot(labels, 4)
    right, wrong = 9.0 * (2 * truth - 1), -9.0 * (2 * truth - 1)
    assert interval([[right], [wrong]], labels, groups, average="micro") == pytest.approx((1, 1), abs=1e-12)


def simulated(g, n_groups=80):
    """Groups of one to eight images, all right or all wrong together: system a in 70 % of the groups, b in 60 %."""
    sizes = torch.randint(1, 9, (n_groups,), generator=g)
    truth = torch.randint(3, (n_groups,), generator=g)
    sides = []
    for share in (0.7, 0.6):
        guess = (truth + (torch.rand(n_groups, generator=g) >= share)) % 3
        sides.append([torch.nn.functional.one_hot(guess, 3).float().repeat_interleave(sizes, 0)])
    return sides, truth.repeat_interleave(sizes), torch.arange(n_groups).repeat_interleave(sizes)


def test_the_interval_holds_the_truth_as_often_as_it_says_where_an_image_wise_one_does_not():
    g, n = drawn(11), 150
    held = {"groups": 0, "images": 0}
    for trial in range(n):
        systems, labels, groups = simulated(g)
        for way, units in (("groups", groups), ("images", torch.arange(len(labels)))):
            # one label per image, averaged over images: F1 is the share that is right, 0.7 against 0.6
            found = interval(systems, labels, units, average="micro", resamples=100, seed=trial)
            held[way] += found.low <= 0.1 <= found.high
    assert 0.89 <= held["groups"] / n  # 0.95 less three standard errors of 150 trials
    assert held["images"] / n < 0.75


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b": [torch.zeros(60, 4)]}, "the systems have 2 and 1 replicates"),
        ({"a": [], "b": []}, "0 and 0 replicates; both need equally many, at least one"),
        ({"a": [torch.zeros(59, 4)] * 2}, r"labels have shape \(60, 4\); scores of shape \(59, 4\)"),
        ({"a": [torch.full((60, 4), torch.nan)] * 2}, "nan or infinite"),
        ({"groups": torch.arange(59)}, r"groups have shape \(59,\) for 60 images"),
        ({"groups": torch.zeros(60)}, r"groups are \[0.0\]; drawing whole groups takes at least two"),
        ({"thresholds_b": [torch.full((3,), 0.5)] * 2}, "thresholds are .* give one or 4"),
        ({"average": "mean"}, "average is 'mean'; allowed are macro, micro, weighted, means"),
        ({"average": None}, "average is None; allowed are macro"),
        ({"average": "samples"}, "micro, weighted, means$"),
        ({"resamples": 39}, "resamples is 39; .* at least 40"),
        ({"resamples": 100.0}, "resamples is 100.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(changes, says):
    systems, labels, groups, _ = made_up(True)
    given = {"a": systems[0], "b": systems[1], "labels": labels, "groups": groups}
    given |= {"average": "micro", "resamples": 40} | changes
    with pytest.raises(InputError, match=says):
        interval([given.pop("a"), given.pop("b")], given.pop("labels"), given.pop("groups"), **given)


@given(pairs=st.lists(st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)), min_size=2, max_size=8))
def test_the_paired_interval_and_its_p_values_are_students_t(pairs):
    a, b = np.array(pairs).T
    found = intervals.paired_difference(a, b)
    assert found.mean == pytest.approx((a - b).mean()) and found.n == len(pairs)
    if np.ptp(a - b) == 0:
        assert (found.low, found.high) == (found.mean, found.mean)
        return
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-9, atol=1e-9)
    for side, p in (("greater", found.p_above(0.1)), ("less", found.p_below(0.1))):
        assert p == pytest.approx(stats.ttest_1samp(a - b, 0.1, alternative=side).pvalue, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_smallest_difference_told_is_shown_in_four_of_five_studies(n):
    """Simulated, against Student's t by scipy; at three replicates it is 3.3 standard deviations, as params/real.yaml says."""
    found = intervals.paired_difference(np.arange(n, dtype=float), np.zeros(n))
    spread = np.arange(n).std(ddof=1)
    least = found.smallest_told() / spread
    draws = np.random.default_rng(0).normal(least, 1, (20_000, n))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)
    assert n != 3 or least == pytest.approx(3.3, abs=0.05)


def test_one_pair_has_no_interval_pairs_that_differ_alike_no_width_and_unequal_numbers_are_refused():
    one = intervals.paired_difference([0.75], [0.5])
    assert (one.mean, one.n) == (0.25, 1) and np.isnan([one.low, one.high, one.smallest_told(), one.p_above(0)]).all()
    alike = intervals.paired_difference([1.0, 2.0], [0.0, 1.0])
    assert (alike.smallest_told(), alike.p_above(0.5), alike.p_below(0.5), alike.p_above(1.0)) == (0, 0, 1, 0.5)
    with pytest.raises(InputError, match="equally many, found 2 and 1"):
        intervals.paired_difference([0.5, 0.6], [0.5])
