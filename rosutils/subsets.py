"""The k overlapping subsets of the training data that the teachers learn from (Section III-A).

The paper says "k overlapping subsets with an overlap ratio of p%" and no more. Three readings of it, all with
subsets of p·N + (1-p)·N/k examples:

- shared-core: p·N examples are in every subset, the rest is split evenly;
- own-shard: each subset has its own N/k and a random share p of all others, drawn anew for each subset;
- sliding-window: windows of that size over a shuffled circle, their starts evenly spaced.

A fourth, pairwise, has smaller subsets, of which any two share p of themselves: a core of c·N examples is in each and the
rest is split evenly; c / (c + (1-c)/k) = p gives c = p / (p + k·(1-p)). For k = 5 and p = 0.4 a subset has 0.294 N.
"""

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import LongTensor, Tensor

from rosutils import InputError


SCHEMES = ("shared-core", "own-shard", "sliding-window", "pairwise")


def overlapping_subsets(
    n_examples: int, n_subsets: int, overlap: float, *, scheme: str = "shared-core", groups=None, generator: torch.Generator
) -> list[LongTensor]:  # fmt: skip
    """Ascending example indices of each of the k subsets, D = D1 ∪ … ∪ Dk (Section III-A).

    `overlap` is p, from 0 (a partition) to 1 (k copies); each scheme is described at the top of this module.
    Sizes are p·N + (1-p)·N/k to within one example, for "pairwise" with the core's share in place of p. With
    `groups` [N] (a lesion or patient per example) a group is in a subset entirely or not at all, and sizes are
    met to within one and a half times the largest group.
    """
    group_of = np.arange(n_examples) if groups is None else _number_groups(groups, n_examples)
    sizes = np.bincount(group_of)
    if not 0 <= overlap <= 1:
        raise InputError(f"overlap is {overlap}; allowed are 0 (disjoint) to 1 (every subset is all the data)")
    if scheme not in SCHEMES:
        raise InputError(f"subset scheme is {scheme!r}; allowed are {', '.join(SCHEMES)}")
    if not 1 <= n_subsets <= len(sizes):
        raise InputError(f"number of subsets is {n_subsets}; allowed are 1 to {len(sizes)}, the number of groups")
    order = torch.randperm(len(sizes), generator=generator).numpy()
    if scheme in ("shared-core", "pairwise"):
        core = overlap if scheme == "shared-core" else core_share(n_subsets, overlap)
        chosen = _shared_core(order, sizes, n_subsets, core)
    else:
        chosen = _own_and_others(order, sizes, n_subsets, overlap, generator if scheme == "own-shard" else None)
    return [torch.from_numpy(np.flatnonzero(np.isin(group_of, members))) for members in chosen]


def core_share(k: int, p: float) -> float:
    """The share c of all examples in the core of k "pairwise" subsets, any two of which share p of themselves."""
    return p / (p + k * (1 - p))


def overlap_matrix(subsets: Sequence[Tensor]) -> Tensor:
    """Share of subset i that is also in subset j, |Di ∩ Dj| / |Di|, as float64 [K, K]; the diagonal is 1."""
    member = torch.zeros(len(subsets), 1 + max(int(subset.max()) for subset in subsets), dtype=torch.float64)
    for row, subset in zip(member, subsets, strict=True):
        row[subset] = 1
    return member @ member.T / member.sum(1, keepdim=True)


def _shared_core(order: np.ndarray, sizes: np.ndarray, k: int, p: float) -> list[np.ndarray]:
    n, target = sizes.sum(), _target(sizes, k, p)

    def miss(core: int) -> float:
        smallest, left_over = divmod(n - core, k)
        return max(abs(core + smallest - target), abs(core + smallest + (left_over > 0) - target))

    length = _prefix(sizes[order], p * n, miss)
    return [np.concatenate([order[:length], part]) for part in _split_evenly(order[length:], sizes, k)]


def _own_and_others(order: np.ndarray, sizes: np.ndarray, k: int, p: float, generator) -> list[np.ndarray]:
    """Own shard plus share p of the others: drawn with the generator, or the next ones round the circle."""
    shards, target, chosen = _split_evenly(order, sizes, k), _target(sizes, k, p), []
    for i, own in enumerate(shards):
        others = np.concatenate([*shards[i + 1 :], *shards[:i], own[:0]])
        if generator is not None:
            others = others[torch.randperm(len(others), generator=generator).numpy()]
        have = sizes[own].sum()
        length = _prefix(sizes[others], p * sizes[others].sum(), lambda more, have=have: abs(have + more - target))
        chosen.append(np.concatenate([own, others[:length]]))
    return chosen


def _target(sizes: np.ndarray, k: int, p: float) -> float:
    # p·N + (1-p)·N/k, written so that p = 0, p = 1 and k = 1 come out without rounding
    n = sizes.sum()
    return float((n + p * n * (k - 1)) / k)


def _prefix(sizes: np.ndarray, aim: float, miss: Callable[[int], float]) -> int:
    """How many leading groups hold about `aim` examples: the group edge next to it that misses less."""
    edges = np.concatenate([[0], sizes.cumsum()])
    # p·N is rarely exact in floating point; edges are integers, so a millionth decides nothing but rounding
    below = int(np.searchsorted(edges, aim + 1e-6, side="right")) - 1
    above = int(np.searchsorted(edges, aim - 1e-6, side="left"))
    return min(below, above, key=lambda length: miss(int(edges[length])))


def _split_evenly(order: np.ndarray, sizes: np.ndarray, k: int) -> list[np.ndarray]:
    """Each group, in the order given, to the part with the fewest examples so far."""
    parts: list[list[int]] = [[] for _ in range(k)]
    filled = [(0, part) for part in range(k)]
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        count, part = filled[0]
        parts[part].append(group)
        heapq.heapreplace(filled, (count + size, part))
    return [np.array(part, dtype=np.int64) for part in parts]


def _number_groups(groups, n_examples: int) -> np.ndarray:
    """Groups numbered in the order they first appear, so that their names decide nothing."""
    groups = np.asarray(groups)
    if groups.shape != (n_examples,):
        raise InputError(f"groups have shape {groups.shape}; give one group for each of the {n_examples} examples")
    return pd.factorize(groups)[0]
