"""Run independent jobs: in this process, in local processes through joblib's loky, or as tasks of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import joblib
import torch
from tqdm.auto import tqdm

from rosutils import InputError
from rosutils.study import cluster
from rosutils.study.cluster import Place


BACKENDS = ("inline", "loky", "ray")


def run_jobs(
    function: Callable,
    jobs: Sequence,
    *,
    backend: str = "inline",
    workers: int = 1,
    description: str = "",
    costs: Sequence[float] | None = None,
    place: Place | None = None,
) -> None:
    """Call `function(job)` for every job, the costliest first, with a progress bar in units of cost.

    torch has one CPU thread in each job whatever the backend, so the bits of its result do not depend on it. `place` says
    where Ray runs. The first exception of a job is raised, InputError for an unknown backend, and what `cluster.finished` raises.
    """
    if backend not in BACKENDS:
        raise InputError(f"engine.backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
    costs = list(costs) if costs is not None else [1.0] * len(jobs)
    order = sorted(range(len(jobs)), key=lambda i: -costs[i])
    queue = [jobs[i] for i in order]
    with tqdm(total=sum(costs), desc=description, disable=not jobs, bar_format=_BAR) as bar:
        if backend == "ray" and jobs:
            places = cluster.finished(_alone(function), queue, place=place or Place(), workers=workers)
        else:
            places = _here(function, queue, backend, workers)
        for done, number in enumerate(places, 1):
            bar.set_postfix_str(f"{done} of {len(jobs)} runs", refresh=False)
            bar.update(min(costs[order[number]], bar.total - bar.n))  # rounding must not carry the bar past its end


_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} elapsed, about {remaining} left{postfix}"


def _here(function: Callable, jobs: Sequence, backend: str, workers: int) -> Iterator[int]:
    """Jobs in this process or in others beside it; yields the places of those that ended."""
    calls = (joblib.delayed(_numbered)(function, job, number) for number, job in enumerate(jobs))
    options = {"n_jobs": 1} if backend == "inline" else {"n_jobs": min(workers, max(1, len(jobs))), "backend": "loky"}
    return joblib.Parallel(return_as="generator_unordered", pre_dispatch="all", **options)(calls)


def _alone(function: Callable) -> Callable:
    def call(job: Any) -> None:  # no partial, which Ray would refuse
        _on_one_thread(function, job)

    return call


def _numbered(function: Callable, job: Any, number: int) -> int:
    _on_one_thread(function, job)
    return number


def _on_one_thread(function: Callable, *arguments: Any) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(before)
