"""Section III-A: the k overlapping subsets."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosutils import InputError
from rosutils.subsets import SCHEMES, core_share, overlap_matrix, overlapping_subsets


quick = settings(max_examples=50, deadline=None)
schemes = st.sampled_from(SCHEMES)
overlaps = st.floats(0, 1) | st.integers(0, 100).map(lambda percent: percent / 100)
seeds = st.integers(0, 2**32)
counts = st.integers(1, 6).flatmap(lambda k: st.tuples(st.integers(k, 300), st.just(k)))  # N >= k


@st.composite
def grouped(draw):
    """Groups [N] of 1 to 12 examples in shuffled order, and a number of subsets no larger than theirs."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=60))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(draw(seeds)).shuffle(groups)
    return groups, draw(st.integers(1, min(6, len(sizes))))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def core_of(scheme, k, p):
    """The share of all examples that subsets of the scheme's size would have in a common core."""
    return core_share(k, p) if scheme == "pairwise" else p


def nominal_size(scheme, n, k, p):
    c = core_of(scheme, k, p)
    return c * n + (1 - c) * n / k


def union(subsets):
    return torch.cat(subsets).unique().tolist()


@quick
@given(counts=counts, overlap=overlaps, scheme=schemes, seed=seeds)
def test_sizes_are_exact_to_one_example_and_the_union_is_everything(counts, overlap, scheme, seed):
    n, k = counts
    subsets = overlapping_subsets(n, k, overlap, scheme=scheme, generator=seeded(seed))
    assert len(subsets) == k
    assert union(subsets) == list(range(n))
    for subset in subsets:
        assert subset.dtype == torch.int64
        assert (subset.diff() > 0).all()  # ascending, no example twice
        assert abs(len(subset) - nominal_size(scheme, n, k, overlap)) <= 1 + 1e-6


def test_a_core_of_a_whole_number_of_examples_is_met_exactly():
    # many of these products are not whole in floating point: 100 * 0.29 is just below 29
    for n, k, percent in itertools.product((50, 100, 125, 200), (2, 3, 5), range(101)):
        core, rest = divmod(n * percent, 100)
        if rest == 0 and core < n:
            seen = torch.cat(overlapping_subsets(n, k, percent / 100, generator=seeded())).bincount()
            assert (seen == k).sum() == core, (n, k, percent)


@quick
@given(data=grouped(), overlap=overlaps, scheme=schemes, seed=seeds)
def test_groups_stay_whole_and_sizes_are_met_to_about_the_largest_group(data, overlap, scheme, seed):
    groups, k = data
    subsets = overlapping_subsets(len(groups), k, overlap, scheme=scheme, groups=groups, generator=seeded(seed))
    assert union(subsets) == list(range(len(groups)))
    for subset in subsets:
        inside = np.zeros(len(groups), dtype=bool)
        inside[subset.numpy()] = True
        assert not set(groups[inside]) & set(groups[~inside])
        assert (subset.diff() > 0).all()
        assert len(subset) > 0
        assert abs(len(subset) - nominal_size(scheme, len(groups), k, overlap)) <= 1.5 * np.bincount(groups).max() + 1


@quick
@given(data=grouped(), scheme=schemes, seed=seeds)
def test_overlap_zero_puts_every_group_in_one_subset_and_overlap_one_in_all(data, scheme, seed):
    groups, k = data
    n = len(groups)
    disjoint = overlapping_subsets(n, k, 0, scheme=scheme, groups=groups, generator=seeded(seed))
    for first, second in itertools.combinations(disjoint, 2):
        assert not set(groups[first.numpy()]) & set(groups[second.numpy()])
    # each group goes to the smallest subset so far, so no two differ by more than one group
    assert max(map(len, disjoint)) - min(map(len, disjoint)) <= np.bincount(groups).max()
    for subset in overlapping_subsets(n, k, 1, scheme=scheme, groups=groups, generator=seeded(seed)):
        assert subset.tolist() == list(range(n))


@quick
@given(data=grouped(), overlap=overlaps, scheme=schemes, seed=seeds)
def test_the_names_of_the_groups_decide_nothing(data, overlap, scheme, seed):
    groups, k = data
    names = np.random.default_rng(seed).permutation(10_000)[groups]
    for renamed in (names, torch.from_numpy(names), names.astype(str)):
        first, second = (
            overlapping_subsets(len(groups), k, overlap, scheme=scheme, groups=given, generator=seeded(seed))
            for given in (groups, renamed)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@quick
@given(counts=counts, overlap=overlaps, scheme=schemes, seed=seeds)
def test_a_group_per_example_is_the_same_as_no_groups(counts, overlap, scheme, seed):
    n, k = counts
    plain = overlapping_subsets(n, k, overlap, scheme=scheme, generator=seeded(seed))
    single = overlapping_subsets(n, k, overlap, scheme=scheme, groups=range(n), generator=seeded(seed))
    assert all(torch.equal(a, b) for a, b in zip(plain, single, strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_generator_state_gives_the_same_subsets_and_another_seed_others(scheme):
    first, again, other = (
        overlapping_subsets(200, 5, 0.4, scheme=scheme, generator=seeded(seed)) for seed in (7, 7, 8)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_global_random_state_is_neither_read_nor_moved():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for scheme in SCHEMES:
        overlapping_subsets(100, 5, 0.4, scheme=scheme, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state[0]) and (np.random.get_state()[1] == state[1]).all()


@quick
@given(counts=counts, overlap=overlaps, scheme=st.sampled_from(["shared-core", "pairwise"]), seed=seeds)
def test_the_core_is_in_every_subset_and_nothing_else_is_shared(counts, overlap, scheme, seed):
    n, k = counts
    if k == 1:
        return
    subsets = overlapping_subsets(n, k, overlap, scheme=scheme, generator=seeded(seed))
    seen = torch.cat(subsets).bincount(minlength=n)
    assert set(seen.tolist()) <= {1, k}
    assert abs((seen == k).sum().item() - core_of(scheme, k, overlap) * n) < 1


@quick
@given(data=grouped() | counts.map(lambda nk: (np.arange(nk[0]), nk[1])), overlap=overlaps, seed=seeds)
def test_any_two_pairwise_subsets_share_p_of_themselves(data, overlap, seed):
    """To within one example of the core and one of the subset; with groups, to about the largest of them."""
    groups, k = data
    subsets = overlapping_subsets(len(groups), k, overlap, scheme="pairwise", groups=groups, generator=seeded(seed))
    largest = np.bincount(groups).max()
    for one, other in itertools.permutations(map(set, (subset.tolist() for subset in subsets)), 2):
        allowed = 2 + 1e-6 if largest == 1 else 2.5 * largest + 2
        assert abs(len(one & other) - overlap * len(one)) <= allowed


def test_the_papers_setting_has_the_overlaps_each_reading_predicts():
    # k = 5, p = 0.4: size 0.52 N, pairwise 5/17 N, which 20,000 is no multiple of; intersections tell the readings apart
    n, off_diagonal, shared = 20_000, ~torch.eye(5, dtype=torch.bool), {}
    assert core_share(5, 0.4) == pytest.approx(2 / 17)
    for scheme in SCHEMES:
        subsets, share = (
            overlapping_subsets(n, 5, 0.4, scheme=scheme, generator=seeded()),
            nominal_size(scheme, 1, 5, 0.4),
        )
        assert [len(subset) for subset in subsets] == pytest.approx(
            [share * n] * 5, abs=1 if scheme == "pairwise" else 0
        )
        shared[scheme] = overlap_matrix(subsets) * share
    assert shared["shared-core"][off_diagonal].tolist() == pytest.approx([0.4] * 20)
    assert shared["pairwise"][off_diagonal].tolist() == pytest.approx([0.4 * 5 / 17] * 20, abs=1e-4)
    # two shards meet in each other's random shares, 2 · 0.2 · 0.4, and in the other three shards, 0.6 · 0.4²
    assert shared["own-shard"][off_diagonal].tolist() == pytest.approx([0.256] * 20, abs=0.01)
    # windows of 0.52 N starting every 0.2 N: neighbours share 0.32, the others 0.12 going round
    expected = torch.tensor([0.52, 0.32, 0.12, 0.12, 0.32]).double()
    torch.testing.assert_close(shared["sliding-window"], torch.stack([expected.roll(i) for i in range(5)]))


def test_own_shards_draw_their_shares_independently():
    subsets = overlapping_subsets(3000, 3, 0.5, scheme="own-shard", generator=seeded())
    seen = torch.cat(subsets).bincount()
    # an example is in its own subset, and in each of the two others with probability 1/2
    measured = torch.tensor([(seen == times).sum() / 3000 for times in (1, 2, 3)])
    torch.testing.assert_close(measured, torch.tensor([0.25, 0.5, 0.25]), atol=0.04, rtol=0)


def test_one_huge_group_leaves_no_subset_empty():
    groups = np.repeat(np.arange(5), [500, 1, 1, 1, 1])
    for scheme in SCHEMES:
        for seed in range(10):
            subsets = overlapping_subsets(504, 5, 0, scheme=scheme, groups=groups, generator=seeded(seed))
            assert sorted(map(len, subsets)) == [1, 1, 1, 1, 500]


@quick
@given(counts=counts, overlap=overlaps, scheme=schemes, seed=seeds)
def test_the_overlap_matrix_is_intersection_over_row_size(counts, overlap, scheme, seed):
    subsets = overlapping_subsets(*counts, overlap, scheme=scheme, generator=seeded(seed))
    matrix, sets = overlap_matrix(subsets), [set(subset.tolist()) for subset in subsets]
    expected = [[len(a & b) / len(a) for b in sets] for a in sets]
    torch.testing.assert_close(matrix, torch.tensor(expected, dtype=torch.float64))
    assert (matrix.diagonal() == 1).all()


def test_the_overlap_matrix_by_hand():
    matrix = overlap_matrix([torch.tensor([0, 1, 2, 3]), torch.tensor([3, 9])])
    assert matrix.tolist() == [[1, 0.25], [0.5, 1]]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((10, 5, 1.2), {}, r"overlap is 1\.2; allowed are 0 "),
        ((10, 5, -0.1), {}, r"overlap is -0\.1"),
        ((10, 5, float("nan")), {}, "overlap is nan"),
        ((10, 5, 0.4), {"scheme": "random"}, "'random'; allowed are shared-core, own-shard, sliding-window, pairwise"),
        ((10, 0, 0.4), {}, "number of subsets is 0; allowed are 1 to 10"),
        ((10, 11, 0.4), {}, "number of subsets is 11; allowed are 1 to 10"),
        ((10, 3, 0.4), {"groups": [0] * 5 + [1] * 5}, "number of subsets is 3; allowed are 1 to 2"),
        ((10, 2, 0.4), {"groups": [0, 1]}, r"groups have shape \(2,\); give one group for each of the 10"),
    ],
)
def test_wrong_input_is_refused_with_value_and_allowed(arguments, options, message):
    with pytest.raises(InputError, match=message):
        overlapping_subsets(*arguments, **options, generator=seeded())
