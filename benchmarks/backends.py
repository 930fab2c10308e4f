"""Runs side by side: two loky workers against one process, Ray against loky, a node that is lost."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from timing import Row

from rosutils import InputError
from rosutils.study import Study
from rosutils.study.engine import QUIET


ENGINES = {
    "loky": {"backend": "loky", "workers": 2},
    "one": {"backend": "inline"},
    "ray": {"backend": "ray", "workers": 2},
}
NAMES = {"loky": "two loky workers", "ray": "two Ray workers", "one": "one process"}
ROUNDS = 3


def rows(folder: Path, *, profile: str = "demo") -> Iterator[Row]:
    """A stage of ten teachers of a profile, each backend in turn into empty stores, start-up of its workers included."""
    taken: dict[str, list[float]] = {name: [] for name in ENGINES}
    made: dict[str, dict[str, str]] = {}
    for number in range(ROUNDS):
        for name in sorted(ENGINES, reverse=bool(number % 2)):
            seconds, made[name] = _teachers(profile, folder / f"{name}{number}", ENGINES[name])
            taken[name].append(seconds)
    best = {name: min(found) for name, found in taken.items()}
    for ours, theirs in (("loky", "one"), ("ray", "loky")):
        what = f"ten teachers: {NAMES[ours]} against {NAMES[theirs]}{_alike(made[ours], made[theirs])}"
        yield Row(what, best[ours], best[theirs], best[theirs] / best[ours])
    yield _node_lost(folder)


def _teachers(profile: str, folder: Path, engine: dict) -> tuple[float, dict[str, str]]:
    """Seconds for both pools of teachers of the first task, and the checksum of every run's weights."""
    study = Study.load(profile, engine={"keep_weights": "all", **engine, "store": str(folder)})
    task = study.parameters.tasks[0]
    specs = [*study.teachers(task, "subset"), *study.teachers(task, "full")]
    study.missing(specs)  # opens the task
    begun = time.perf_counter()
    study.ensure(specs)
    seconds = time.perf_counter() - begun
    return seconds, {study.key(spec): study.run(spec).about()["checksums"]["weights.safetensors"] for spec in specs}


def _alike(ours: dict[str, str], theirs: dict[str, str]) -> str:
    same = sum(ours[key] == theirs[key] for key in ours)
    return " (same bits)" if same == len(ours) else f" (same bits in {same} of {len(ours)} runs)"


def _node_lost(folder: Path) -> Row:
    """The smoke study on two nodes started on loopback, one of them killed in the middle, against two loky workers."""
    from ray.cluster_utils import Cluster

    os.environ.update(QUIET)
    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = nodes.add_node(**node)
    study = _smoke(folder / "cluster", {"backend": "ray", "address": nodes.address})
    runs = study.all_runs()
    over = threading.Event()
    watcher = threading.Thread(target=_kill_when, args=(study, len(study.unique(runs)) // 2, second, over), daemon=True)
    watcher.start()
    lost = _seconds(study, runs)
    over.set()
    watcher.join()
    if second.any_processes_alive():
        raise InputError("the study ended before its second node was to be killed")
    import ray

    ray.shutdown()
    nodes.shutdown()
    alone = _smoke(folder / "alone", ENGINES["loky"])
    whole = _seconds(alone, runs)
    files = [there.output / "results.csv" for there in (study, alone)]
    same = "the same results.csv" if files[0].read_bytes() == files[1].read_bytes() else "another results.csv"
    what = f"the smoke study on two Ray nodes, one killed half-way ({same}), against two loky workers"
    return Row(what, lost, whole, whole / lost)


def _smoke(folder: Path, engine: dict) -> Study:
    return Study.load("smoke", engine={"store": str(folder / "runs"), "artefacts": str(folder / "figures"), **engine})


def _seconds(study: Study, runs: list) -> float:
    begun = time.perf_counter()
    study.ensure(runs)
    seconds = time.perf_counter() - begun
    study.results()
    return seconds


def _kill_when(study: Study, finished: int, node, over: threading.Event) -> None:
    while len(study.store.keys()) < finished:
        if over.wait(0.05):
            return
    kill(node)


def kill(node) -> None:
    """SIGKILL for a Ray node's raylet and all that it has started."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(raylet)], capture_output=True, text=True, check=False)
    for pid in [raylet, *map(int, workers.stdout.split())]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
