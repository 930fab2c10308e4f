"""Jobs as Ray tasks: on this machine, on two nodes of a cluster, and when one of the nodes is lost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open

from rosutils import InputError
from rosutils.params import ROOT
from rosutils.study import cluster
from rosutils.study.cluster import Place
from rosutils.study.engine import run_jobs


ray = pytest.importorskip("ray")


def quiet(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    for name, value in cluster.SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def two_nodes():
    """A cluster of two nodes on the loopback device, each with room for one run."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        quiet(patch)
        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        second = nodes.add_node(**node)
        yield nodes, second
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def run(two_nodes):
    """`run_jobs` on the two nodes."""
    place = Place(two_nodes[0].address)
    return lambda function, jobs, **options: run_jobs(function, jobs, backend="ray", place=place, **options)


def note(job):
    """Leave a file that tells when, where and on how many threads the job ran; no file is written twice."""
    folder, name = job
    node = ray.get_runtime_context().get_node_id()
    with open(os.path.join(folder, name), "x") as file:
        file.write(f"{time.monotonic_ns()} {node} {torch.get_num_threads()}")
    time.sleep(0.2)


def fail(job):
    note(job)
    if job[1] == "bad":
        raise InputError("this job is wrong")


def die_once(job):
    """The first attempt ends as a process that the system kills."""
    first = os.path.join(job[0], "died")
    if not os.path.exists(first):
        open(first, "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    note(job)


def jobs(folder, names):
    return [(str(folder), name) for name in names]


def read(folder):
    """name -> (nanoseconds, node, threads)."""
    return {path.name: path.read_text().split() for path in folder.iterdir()}


def test_every_job_is_done_once_on_one_thread_and_both_nodes_have_their_share(run, tmp_path):
    names = [f"job{number}" for number in range(8)]
    run(note, jobs(tmp_path, names))
    done = read(tmp_path)
    assert set(done) == set(names)  # `note` refuses to write a file twice
    assert {threads for _, _, threads in done.values()} == {"1"}
    assert len({node for _, node, _ in done.values()}) == 2


def test_the_costliest_jobs_come_first(run, tmp_path):
    costs = {"a": 1.0, "b": 5.0, "c": 2.5, "d": 4.0, "e": 0.1, "f": 3.0}
    run(note, jobs(tmp_path, costs), costs=list(costs.values()))
    done = read(tmp_path)
    order = sorted(done, key=lambda name: int(done[name][0]))
    assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{"b", "d"}, {"f", "c"}, {"a", "e"}]


def test_the_exception_of_a_job_is_raised_as_it_is_and_the_next_jobs_run_as_ever(run, tmp_path):
    with pytest.raises(InputError, match=r"^this job is wrong$"):
        run(fail, jobs(tmp_path, ["bad"]))
    run(fail, jobs(tmp_path, ["good"]))
    assert set(read(tmp_path)) == {"bad", "good"}


def test_what_has_ended_is_not_cancelled(run, tmp_path, monkeypatch):
    cancelled = []
    monkeypatch.setattr(ray, "cancel", cancelled.append)
    with pytest.raises(InputError, match="this job is wrong"):
        run(fail, jobs(tmp_path, ["bad"]))
    assert cancelled == []


def test_a_job_whose_worker_is_killed_is_done_again(run, tmp_path):
    run(die_once, jobs(tmp_path, ["a"]))
    assert {path.name for path in tmp_path.iterdir()} == {"died", "a"}


def test_a_job_that_kills_every_worker_ends_in_an_error(two_nodes, tmp_path):
    with pytest.raises(
        RuntimeError, match="lost its worker in all of 1 attempts .*WorkerCrashedError.* goes on from there"
    ):
        run_jobs(die_once, jobs(tmp_path, ["a"]), backend="ray", place=Place(two_nodes[0].address, retries=0))


def test_without_a_gpu_anywhere_none_is_asked_for(run, two_nodes, tmp_path):
    place = Place(two_nodes[0].address, gpus_per_run=1)
    run_jobs(note, jobs(tmp_path, ["a"]), backend="ray", place=place)
    assert set(read(tmp_path)) == {"a"}


class Gpus:
    """A Ray of two machines with a GPU each."""

    @staticmethod
    def nodes():
        return [{"Alive": True, "Resources": {"GPU": 1.0}}, {"Alive": False, "Resources": {"GPU": 8.0}}]


def test_more_gpus_than_a_machine_has_are_refused_instead_of_waited_for():
    cluster._check_fits(Gpus, 1.0)
    with pytest.raises(InputError, match="engine.gpus_per_run is 2, but the cluster's largest machine has 1 GPUs"):
        cluster._check_fits(Gpus, 2.0)


class Watcher(threading.Thread):
    """Sees how many epochs each run in progress has finished; kills the second node once every one has begun."""

    def __init__(self, folder, kill) -> None:
        super().__init__(daemon=True)
        self.folder, self.kill, self.seen, self.killed, self.over = folder, kill, {}, None, False

    def run(self) -> None:
        while not self.over:
            for path in self.folder.glob("teacher-*.safetensors"):
                self.note(path)
            if self.killed is None and sum(len(epochs) > 0 for epochs in self.seen.values()) == 2:
                self.killed = {name: epochs[-1] for name, epochs in self.seen.items()}
                self.kill()
            time.sleep(0.005)

    def note(self, path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                epochs = len(json.loads(file.metadata()["history"]))
        except (OSError, RuntimeError, SafetensorError):  # replaced while it was read
            return
        seen = self.seen.setdefault(path.name, [])
        if seen[-1:] != [epochs]:
            seen.append(epochs)


LONG = {"training": {"epochs": 8, "milestones": [6]}}


def alive_within(seconds):
    """How many nodes live, once Ray has noticed that one does not: its heart beats are counted for a while."""
    until = time.monotonic() + seconds
    while (alive := len([node for node in ray.nodes() if node["Alive"]])) > 1 and time.monotonic() < until:
        time.sleep(0.5)
    return alive


def test_a_node_killed_in_the_middle_costs_its_epoch_and_changes_no_result(benchmarks, two_nodes, load_tiny, tmp_path):
    """The last test of the cluster: it loses a node."""
    import backends

    nodes, second = two_nodes
    alone = load_tiny(tmp_path / "alone", **LONG)
    study = load_tiny(tmp_path / "cluster", engine={"backend": "ray", "address": nodes.address}, **LONG)
    watcher = Watcher(study.store.root / ".checkpoints", partial(backends.kill, second))
    watcher.start()
    study.ensure([study.student("lesion", "RoS-KD")])
    watcher.over = True
    watcher.join()
    assert watcher.killed and max(watcher.killed.values()) < 8, "the node was lost while teachers were trained"
    assert alive_within(60) == 1
    for epochs in watcher.seen.values():
        assert epochs == sorted(epochs), "nothing was trained from the start again"
    alone.ensure([alone.student("lesion", "RoS-KD")])
    alone.results(), study.results()
    assert (study.output / "results.csv").read_bytes() == (alone.output / "results.csv").read_bytes()


# On this machine alone


ALONE = """
import json, sys
from rosutils.study import Study
study = Study.load("smoke", **json.loads(sys.argv[1]))
study.ensure([study.student("lesion", "RoS-KD")])
study.results()
"""


@pytest.fixture
def elsewhere():
    """A temporary folder with a short name: Ray's sockets allow no long ones."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


def test_on_this_machine_a_study_gives_the_same_results_and_ray_says_nothing(
    load_tiny, tiny_sections, elsewhere, tmp_path
):
    engine = {"backend": "ray", "workers": 2}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(elsewhere)}
    sections = json.dumps(tiny_sections(tmp_path / "ray", engine=engine))
    process = [sys.executable, "-W", "error", "-c", ALONE, sections]
    found = subprocess.run(process, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr
    lines = [line for line in found.stderr.replace("\r", "\n").splitlines() if line.strip() and "|" not in line]
    assert found.stdout == "" and lines == []
    alone = load_tiny(tmp_path / "alone")
    alone.ensure([alone.student("lesion", "RoS-KD")])
    alone.results()
    [made] = (tmp_path / "ray").rglob("results.csv")
    assert made.read_bytes() == (alone.output / "results.csv").read_bytes()


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed; run: pip install 'rosutils\[ray\]'"):
        run_jobs(print, ["x"], backend="ray")


def test_an_address_without_a_cluster_is_refused():
    ray.shutdown()
    with pytest.raises(InputError, match=r"engine.address is '127.0.0.1:1', but no Ray cluster answers there"):
        run_jobs(print, ["x"], backend="ray", place=Place("127.0.0.1:1"))
