"""Independent jobs as plain Ray tasks: on this machine's cores and GPUs, or on those of a cluster."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rosutils import InputError
from rosutils.params import ROOT


# Runs lie in the store, so Ray's own share of the memory holds next to nothing.
OBJECT_STORE = 256 * 2**20
# For a Ray that is started here: nothing reported, no warning about GPUs that nobody asked for, workers as urgent as loky's.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}


@dataclass(frozen=True)
class Place:
    """Where Ray runs: null or "local" starts it on this machine, "auto" joins its cluster, or that of an address."""

    address: str | None = None
    gpus_per_run: float = 1.0
    retries: int = 3


def finished(function: Callable, jobs: Sequence, *, place: Place, workers: int) -> Iterator[int]:
    """Call `function(job)` for every job; yield the places of ended ones.

    Ray starts jobs in their order. A job whose worker or machine is lost is tried again `place.retries` times. The first
    exception of a job is raised as it is, and the other jobs are cancelled. Raises InputError without Ray, without a
    cluster at the address, or where no machine there is large enough for a job; RuntimeError for a job lost too often.
    """
    ray = _connected(place, workers)
    gpus = _gpus(ray, place.gpus_per_run)
    _check_fits(ray, gpus)
    # Several runs a worker: to start one takes longer than a short run. A lambda, for Ray takes no partial.
    options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": place.retries, "max_calls": 20 if gpus else 0}
    call = ray.remote(**options)(lambda job: function(job))
    places = {call.remote(job): number for number, job in enumerate(jobs)}
    try:
        while places:
            [done], _ = ray.wait(list(places))
            number = places.pop(done)  # before its result is asked for: to cancel a task that just ended can end Ray
            _result(ray, done, place.retries)
            yield number
    finally:
        for reference in places:
            ray.cancel(reference)


def _connected(place: Place, cores: int):
    """Ray, connected; it stays so until this process ends, for starting it takes seconds."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError("engine.backend is 'ray', which is not installed; run: pip install 'rosutils[ray]'") from None
    if ray.is_initialized():
        return ray
    options = {"log_to_driver": False, "logging_level": "error"}
    if place.address in (None, "local"):
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        _let_workers_find_the_code()
    try:
        _check_answers(place.address)
        ray.init(address=place.address or "local", **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(_why_not(place.address, error)) from None
    return ray


def _why_not(address: str | None, error: Exception) -> str:
    if address in (None, "local"):
        return f"engine.backend is 'ray', but Ray cannot be started on this machine: {error}"
    return (
        f"engine.address is {address!r}, but no Ray cluster answers there ({error}); start one with "
        "'ray start --head', or leave engine.address out to use this machine alone"
    )


def _check_answers(address: str | None) -> None:
    """Ray itself would try for minutes."""
    if address not in (None, "local", "auto"):
        host, _, port = address.rpartition("://")[2].rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


def _let_workers_find_the_code() -> None:
    root = str(ROOT)
    found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in found:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, *found]))


def _gpus(ray, wanted: float) -> float:
    """As many GPUs as a run is to have, or none where the cluster has none."""
    return wanted if ray.cluster_resources().get("GPU", 0) else 0.0


def _check_fits(ray, gpus: float) -> None:
    """No machine large enough would mean to wait for ever."""
    largest = max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])
    if gpus > largest:
        raise InputError(f"engine.gpus_per_run is {gpus:g}, but the cluster's largest machine has {largest:g} GPUs")


def _result(ray, reference, retries: int) -> None:
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"a run lost its worker in all of {retries + 1} attempts ({type(error).__name__}); finished runs and epochs are kept: "
            "the same command goes on from there"
        ) from error
