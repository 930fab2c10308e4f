"""Run independent jobs: in this process, in local processes through loky, or as tasks of a Ray cluster over a shared folder."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from joblib.externals.loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from rosutils import InputError, RunError
from rosutils.processes import processes


BACKENDS = ("inline", "loky", "ray")
# For a Ray that is started here: nothing reported, no warning about GPUs that nobody asked for, workers as urgent as loky's.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}
OBJECT_STORE = 256 * 2**20  # bytes of Ray's own memory: runs lie in the store
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} elapsed{postfix}"
TOLD = 0.1  # of the work, once done here, tells how long the rest takes better than earlier runs do


class Place(NamedTuple):
    """Where Ray runs: null or "local" starts it on this machine, "auto" joins its cluster, or that of an address."""

    address: str | None = None
    gpus_per_run: float = 1.0
    retries: int = 3


def workers_for(backend: str, workers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Processes for several stages of jobs; None where jobs run in this process or on Ray."""
    return processes(workers) if backend == "loky" and workers > 1 else nullcontext()


def run_jobs(
    function: Callable, jobs: Sequence, *, backend: str = "inline", workers: int = 1, description: str = "",
    costs: Sequence[float] | None = None, place: Place | None = None, pool: ProcessPoolExecutor | None = None,
    tell: Callable[[Any, bool], str] | None = None, speed: float | None = None, later: float = 0.0,
) -> None:  # fmt: skip
    """Call `function(job)` for every job, the costliest first, with a progress bar in units of cost.

    The bar names what is being made and what the last one gave, by `tell(job, whether it has ended)`, and one time left: for
    these jobs and a cost of `later` ones, at `speed` (cost a second of one worker, as earlier runs had it) to begin with.

    torch has one CPU thread in each job whatever the backend, so the bits of its result do not depend on it. `pool` holds the
    processes of `workers_for`, else they are started for these jobs. The first exception of a job is raised and the others are
    given up, with the pool; InputError for an unknown backend, and what `_on_ray` raises.
    """
    if backend not in BACKENDS:
        raise InputError(f"engine.backend is {backend!r}; allowed: {', '.join(BACKENDS)}")
    if not jobs:
        return
    costs = list(costs) if costs is not None else [1.0] * len(jobs)
    order = sorted(range(len(jobs)), key=lambda number: -costs[number])
    queue, call = [jobs[number] for number in order], partial(_on_one_thread, function)
    ray = backend == "ray"
    ended = _on_ray(call, queue, place or Place(), workers) if ray else _here(call, queue, backend, workers, pool)
    with tqdm(total=sum(costs), desc=description, bar_format=_BAR) as bar:
        tell, last = tell or (lambda job, ended: ""), ""
        for done, number in enumerate(chain([None], ended)):
            if number is not None:
                last = tell(queue[number], True)
                bar.n = min(bar.n + costs[order[number]], bar.total)  # rounding must not carry the bar past its end
            now = tell(queue[done], False) if done < len(queue) else ""
            left = _left(bar, later, speed and speed * min(workers, len(jobs)))
            words = ", ".join(filter(None, [left, f"{done} of {len(jobs)} runs", now, last]))
            bar.set_postfix_str(words, refresh=done == 0 or sys.stderr.isatty())  # in a file not a line for each run
            bar.update(0)


def _left(bar: tqdm, later: float, speed: float | None) -> str:
    """How long the rest and what comes later take, as the work done so far went, or at `speed` until that tells anything."""
    if bar.n and (speed is None or bar.n > TOLD * bar.total):
        speed = bar.n / max(time.time() - bar.start_t, 1e-9)
    return f"about {tqdm.format_interval((bar.total - bar.n + later) / speed) if speed else '?'} left"


def _on_one_thread(function: Callable, job: Any) -> None:
    """Whatever adds numbers (torch, the BLAS of numpy and scipy): in another order they have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            function(job)
    finally:
        torch.set_num_threads(before)


def _here(call: Callable, jobs: Sequence, backend: str, workers: int, pool) -> Iterator[int]:
    """Jobs in this process or in others beside it; yields the places of those that ended."""
    with nullcontext(pool) if pool else workers_for(backend, min(workers, len(jobs))) as pool:
        if pool is None:
            for number, job in enumerate(jobs):
                call(job)
                yield number
            return
        numbers = {pool.submit(call, job): number for number, job in enumerate(jobs)}
        for future in as_completed(numbers):
            future.result()  # nothing is to be cancelled: where it raises, the block around kills the processes
            yield numbers[future]


def _on_ray(call: Callable, jobs: Sequence, place: Place, workers: int) -> Iterator[int]:
    """The same as Ray tasks. A job whose worker or machine is lost is tried again `place.retries` times.

    Raises InputError without Ray, without a cluster at the address, or where no machine there is large enough for a job (it
    would be waited for without end); RunError for a job lost too often.
    """
    ray = _connected(place.address, workers)
    gpus = place.gpus_per_run if ray.cluster_resources().get("GPU", 0) else 0.0
    largest = max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])
    if gpus > largest:
        raise InputError(f"engine.gpus_per_run is {gpus:g}, but the cluster's largest machine has {largest:g} GPUs")
    # Several runs a worker: to start one takes longer than a short run. A lambda, for Ray takes no partial.
    options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": place.retries, "max_calls": 20 if gpus else 0}
    task = ray.remote(**options)(lambda job: call(job))
    places = {task.remote(job): number for number, job in enumerate(jobs)}
    try:
        while places:
            [done], _ = ray.wait(list(places))
            number = places.pop(done)  # before its result is asked for: to cancel a task that just ended can end Ray
            ray.get(done)
            yield number
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(
            f"a run lost its worker in all of {place.retries + 1} attempts ({type(error).__name__}); finished runs and "
            "epochs are kept: the same command goes on from there"
        ) from error
    finally:
        for reference in places:
            ray.cancel(reference)


def _connected(address: str | None, cores: int):
    """Ray, started on this machine or joined; it stays so until this process ends, for starting it takes seconds."""
    os.environ |= {name: value for name, value in QUIET.items() if name not in os.environ}
    try:
        import ray
    except ImportError:
        raise InputError("engine.backend is 'ray', which is not installed; run: pip install 'rosutils[ray]'") from None
    if ray.is_initialized():
        return ray
    options = {"address": address or "local", "log_to_driver": False, "logging_level": "error"}
    if options["address"] == "local":
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        if options["address"] not in ("local", "auto"):  # Ray itself would try for minutes
            host, _, port = address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"engine.address is {address!r}, but no Ray cluster answers there ({error}); start one with "
            "'ray start --head', or leave engine.address out to use this machine alone"
        ) from None
    return ray
