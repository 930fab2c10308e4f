"""Independent jobs, in this process and in others."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from rosutils import InputError
from rosutils.params import ROOT
from rosutils.study.engine import QUIET, Place, run_jobs, workers_for


backends = pytest.mark.parametrize("options", [{}, {"backend": "loky", "workers": 2}], ids=["inline", "loky"])


@pytest.fixture
def two_threads():
    """torch and numpy have two threads in this process, as on any machine where nobody says otherwise; the tests have one."""
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(1)


def note(job):
    """Leave a file that tells when, where and on how many threads of torch, numpy, scipy it ran; none is written twice."""
    threads = max(torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info()))
    with job.open("x") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()} {threads}")


def fail(job):
    note(job)
    if job.name == "bad":
        raise InputError("this job is wrong")


def read(folder):
    """name -> (nanoseconds, process, threads)."""
    return {path.name: tuple(map(int, path.read_text().split())) for path in folder.iterdir()}


def jobs(folder, names):
    folder.mkdir(exist_ok=True)
    return [folder / name for name in names]


def test_every_job_is_done_once_on_one_thread_the_costliest_first_and_equal_ones_in_their_order(two_threads, tmp_path):
    run_jobs(note, jobs(tmp_path, "abcde"), costs=[1.0, 5.0, 2.5, 5.0, 0.1])
    done = read(tmp_path)  # `note` refuses to write a file twice
    assert sorted(done, key=lambda name: done[name][0]) == ["b", "d", "c", "a", "e"]
    assert {tuple(place) for _, *place in done.values()} == {(os.getpid(), 1)} and torch.get_num_threads() == 2


@backends
def test_the_exception_of_a_job_is_raised_as_it_is(options, two_threads, tmp_path):
    with pytest.raises(InputError, match="this job is wrong"):
        run_jobs(fail, jobs(tmp_path, ["good", "bad", "later"]), **options)
    assert "bad" in read(tmp_path)  # another that ran beside it may have been ended
    assert torch.get_num_threads() == 2


def test_an_interruption_stops_the_rest_and_restores_the_threads(two_threads):
    seen = []

    def stop_at_two(job):
        seen.append(job)
        if job == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(stop_at_two, [1, 2, 3])
    assert seen == [1, 2]
    assert torch.get_num_threads() == 2


def test_the_bar_names_what_is_made_and_one_time_left_from_the_first_second(capfd):
    run_jobs(
        lambda job: time.sleep(0.2), [1, 2], costs=[10, 90], description="students", speed=2.0, later=40.0,
        tell=lambda job, ended: "last loss 0.5" if ended else f"student {job}",
    )  # fmt: skip
    shown = capfd.readouterr().err.split("\r")
    assert "about 01:10 left, 0 of 2 runs, student 2" in next(line for line in shown if "left" in line)
    assert not any("90%" in line and "0 of 2" in line for line in shown)
    assert "students: 100%" in shown[-1] and "left, 2 of 2 runs, last loss 0.5" in shown[-1]
    run_jobs(note, [])
    assert capfd.readouterr() == ("", ""), "no jobs is fine and silent"


def train(job):
    """A training of a few steps, whose last bits depend on the number of threads."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 300, generator=generator)
    w = torch.zeros(300, 300)
    for _ in range(5):
        w = w - 0.01 * x.T @ (x @ w - x)
    job.write_bytes(w.numpy().tobytes())


def test_an_unknown_backend_is_refused_and_not_taken_for_loky():
    with pytest.raises(InputError, match="engine.backend is 'dask'; allowed: inline, loky, ray"):
        run_jobs(print, ["x"], backend="dask")


def test_stages_share_processes_of_one_thread_whose_bits_are_those_of_this_one_and_which_end_with_the_block(
    two_threads, tmp_path
):
    with workers_for("loky", 2) as pool:
        for stage in range(6):
            names = [f"{stage}{job}" for job in range(1 + stage % 3)]
            run_jobs(note, jobs(tmp_path / "notes", names), backend="loky", workers=2, pool=pool)
        run_jobs(train, [tmp_path / "loky"], backend="loky", workers=2, pool=pool)
    done = read(tmp_path / "notes")
    used = {process for _, process, _ in done.values()}
    assert len(done) == 12 and len(used) <= 2 and os.getpid() not in used
    assert {threads for *_, threads in done.values()} == {1}
    assert not [process for process in used if psutil.pid_exists(process)]
    run_jobs(train, [tmp_path / "inline"])
    assert (tmp_path / "inline").read_bytes() == (tmp_path / "loky").read_bytes()


# Ray, on two nodes of a cluster and on this machine alone


@pytest.fixture(scope="module")
def two_nodes():
    """The address of a cluster of two nodes on the loopback device, each with room for one run."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ({"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])} | QUIET).items():
            patch.setenv(name, value)
        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20}
        nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        nodes.add_node(**node)
        yield nodes.address
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def run(two_nodes):
    return lambda function, jobs, **how: run_jobs(function, jobs, backend="ray", place=Place(two_nodes, **how))


def note_where(job):
    """Leave a file that tells on which node and on how many threads the job ran."""
    import ray

    with job.open("x") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()} {torch.get_num_threads()}")
    time.sleep(0.2)


def die_once(job):
    """The first attempt ends as a process that the system kills."""
    first = job.with_name("died")
    if not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(job)


def test_ray_does_every_job_once_on_one_thread_and_gives_both_nodes_their_share(run, tmp_path):
    names = [f"job{number}" for number in range(8)]
    run(note_where, jobs(tmp_path, names), gpus_per_run=1)  # no GPU is anywhere, so none is asked for
    done = [path.read_text().split() for path in tmp_path.iterdir()]
    assert len(done) == 8 and {threads for _, threads in done} == {"1"} and len({node for node, _ in done}) == 2


def test_the_exception_of_a_ray_task_is_raised_as_it_is_and_the_next_jobs_run_as_ever(run, tmp_path):
    with pytest.raises(InputError, match=r"^this job is wrong$"):
        run(fail, jobs(tmp_path, ["bad"]))
    run(fail, jobs(tmp_path, ["good"]))
    assert set(read(tmp_path)) == {"bad", "good"}


def test_a_job_whose_worker_is_killed_is_done_again_as_often_as_allowed(run, tmp_path):
    with pytest.raises(RuntimeError, match="lost its worker in all of 1 attempts .*WorkerCrashed.* goes on from there"):
        run(die_once, jobs(tmp_path / "lost", ["a"]), retries=0)
    run(die_once, jobs(tmp_path / "again", ["a"]))
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"died", "a"}


ALONE = """
import json, sys
from rosutils.study import Study
study = Study.load("smoke", **json.loads(sys.argv[1]))
study.ensure(study.teachers("lesion", "full")[1:])
"""


@pytest.fixture
def elsewhere():
    """A temporary folder with a short name: Ray's sockets allow no long ones."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


def test_on_this_machine_a_study_gives_the_same_bits_and_ray_says_nothing(
    load_tiny, tiny_sections, elsewhere, tmp_path
):
    pytest.importorskip("ray")
    engine = {"backend": "ray", "workers": 2}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(elsewhere)}
    sections = json.dumps(tiny_sections(tmp_path / "ray", engine=engine))
    process = [sys.executable, "-W", "error", "-c", ALONE, sections]
    found = subprocess.run(process, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stderr
    lines = [line for line in found.stderr.replace("\r", "\n").splitlines() if line.strip() and "|" not in line]
    assert found.stdout == "" and lines == []
    made, alone = load_tiny(tmp_path / "ray"), load_tiny(tmp_path / "alone")
    [teacher] = alone.teachers("lesion", "full")[1:]
    alone.ensure([teacher])
    assert made.run(teacher).checksums() == alone.run(teacher).checksums()


def test_without_ray_and_without_a_cluster_at_the_address_the_error_says_what_to_do(monkeypatch):
    told = r"not installed; run: pip install 'rosutils\[ray\]'"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=told):
        patch.setitem(sys.modules, "ray", None)
        run_jobs(print, ["x"], backend="ray")
    pytest.importorskip("ray").shutdown()
    with pytest.raises(InputError, match=r"engine.address is '127.0.0.1:1', but no Ray cluster answers there"):
        run_jobs(print, ["x"], backend="ray", place=Place("127.0.0.1:1"))
