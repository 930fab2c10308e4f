"""Run independent jobs: in this process, or in local processes through joblib's loky."""

from collections.abc import Callable, Sequence

import joblib
import torch
from tqdm.auto import tqdm

from rosutils import InputError


BACKENDS = ("inline", "loky")


def run_jobs(
    function: Callable,
    jobs: Sequence,
    *,
    backend: str = "inline",
    workers: int = 1,
    threads: int = 1,
    description: str = "",
    costs: Sequence[float] | None = None,
) -> None:
    """Call `function(job)` for every job, the costliest first, with a progress bar in units of cost.

    Each job runs on `threads` CPU threads whatever the backend, so the bits of its result do not depend on it.
    The first exception of a job is raised, and InputError for an unknown backend.
    """
    if backend not in BACKENDS:
        raise InputError(f"engine.backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
    costs = list(costs) if costs is not None else [1.0] * len(jobs)
    order = sorted(range(len(jobs)), key=lambda i: -costs[i])
    with tqdm(total=sum(costs), desc=description, disable=not jobs, bar_format=_BAR) as bar:
        calls = (joblib.delayed(_on_threads)(function, jobs[i], i, threads) for i in order)
        options = (
            {"n_jobs": 1} if backend == "inline" else {"n_jobs": min(workers, max(1, len(jobs))), "backend": "loky"}
        )
        for done, i in enumerate(
            joblib.Parallel(return_as="generator_unordered", pre_dispatch="all", **options)(calls), 1
        ):
            bar.set_postfix_str(f"{done} of {len(jobs)} runs", refresh=False)
            bar.update(min(costs[i], bar.total - bar.n))  # rounding must not carry the bar past its end


_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} elapsed, about {remaining} left{postfix}"


def _on_threads(function: Callable, job, index: int, threads: int) -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        function(job)
    finally:
        torch.set_num_threads(before)
    return index
