"""Run independent jobs: in this process, in local processes through loky, or as tasks of a Ray cluster."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from joblib.externals.loky import ProcessPoolExecutor
from tqdm.auto import tqdm

from rosutils import InputError
from rosutils.study import cluster
from rosutils.study.cluster import Place


BACKENDS = ("inline", "loky", "ray")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} elapsed, about {remaining} left{postfix}"


@contextmanager
def processes(backend: str, workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes of loky for several stages of jobs, gone when the block ends; None where jobs run elsewhere."""
    if backend != "loky" or workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(workers, env=ONE_THREAD, initializer=end_with_parent, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def end_with_parent(parent: int) -> None:
    """End this process within a second of its parent's end, however that came."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # in the midst of a job: nothing else ends a thread that computes

    threading.Thread(target=watch, daemon=True).start()


def run_jobs(
    function: Callable, jobs: Sequence, *, backend: str = "inline", workers: int = 1, description: str = "",
    costs: Sequence[float] | None = None, place: Place | None = None, pool: ProcessPoolExecutor | None = None,
) -> None:  # fmt: skip
    """Call `function(job)` for every job, the costliest first, with a progress bar in units of cost.

    torch has one CPU thread in each job whatever the backend, so the bits of its result do not depend on it. `place` says
    where Ray runs; `pool` holds the processes of `processes`, else they are started for these jobs. The first exception of
    a job is raised, InputError for an unknown backend, and what `cluster.finished` raises.
    """
    if backend not in BACKENDS:
        raise InputError(f"engine.backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
    costs = list(costs) if costs is not None else [1.0] * len(jobs)
    order = sorted(range(len(jobs)), key=lambda i: -costs[i])
    queue = [jobs[i] for i in order]
    if not jobs:
        return
    with tqdm(total=sum(costs), desc=description, bar_format=_BAR) as bar:
        if backend == "ray":
            places = cluster.finished(partial(_on_one_thread, function), queue, place=place or Place(), workers=workers)
        else:
            places = _here(partial(_on_one_thread, function), queue, backend, workers, pool)
        for done, number in enumerate(places, 1):
            bar.set_postfix_str(f"{done} of {len(jobs)} runs", refresh=False)
            bar.update(min(costs[order[number]], bar.total - bar.n))  # rounding must not carry the bar past its end


def _here(call: Callable, jobs: Sequence, backend: str, workers: int, pool) -> Iterator[int]:
    """Jobs in this process or in others beside it; yields the places of those that ended."""
    with processes(backend if pool is None else "inline", min(workers, len(jobs))) as own:
        pool = pool or own
        if pool is None:
            for number, job in enumerate(jobs):
                call(job)
                yield number
            return
        numbers = {pool.submit(call, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(numbers):
                future.result()
                yield numbers[future]
        finally:
            for future in numbers:
                future.cancel()


def _on_one_thread(function: Callable, job: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        function(job)
    finally:
        torch.set_num_threads(before)
