"""Independent jobs, in this process and in others."""

import os
import subprocess
import sys
import time

import pytest
import torch

from rosutils import InputError
from rosutils.params import ROOT
from rosutils.study.engine import processes, run_jobs


backends = pytest.mark.parametrize("options", [{}, {"backend": "loky", "workers": 2}], ids=["inline", "loky"])


@pytest.fixture
def two_threads():
    """torch has two threads in this process, as on any machine where nobody says otherwise; the tests have one."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def note(job):
    """Leave a file that tells when, where and on how many threads the job ran; no file is written twice."""
    folder, name = job
    with open(os.path.join(folder, name), "x") as file:
        file.write(f"{time.monotonic_ns()} {os.getpid()} {torch.get_num_threads()}")


def fail(job):
    note(job)
    if job[1] == "bad":
        raise InputError("this job is wrong")


def read(folder):
    """name -> (nanoseconds, process, threads)."""
    return {path.name: tuple(map(int, path.read_text().split())) for path in folder.iterdir()}


def jobs(folder, names):
    return [(str(folder), name) for name in names]


@backends
def test_every_job_is_done_once_on_one_thread_and_the_count_is_restored(options, two_threads, tmp_path):
    names = [f"job{number}" for number in range(7)]
    run_jobs(note, jobs(tmp_path, names), **options)
    done = read(tmp_path)
    assert set(done) == set(names)  # `note` refuses to write a file twice
    assert {used for _, _, used in done.values()} == {1}
    assert torch.get_num_threads() == 2


def test_inline_stays_in_this_process_and_loky_leaves_it(tmp_path):
    (tmp_path / "inline").mkdir()
    (tmp_path / "loky").mkdir()
    run_jobs(note, jobs(tmp_path / "inline", "ab"))
    run_jobs(note, jobs(tmp_path / "loky", "ab"), backend="loky", workers=2)
    assert {process for _, process, _ in read(tmp_path / "inline").values()} == {os.getpid()}
    assert os.getpid() not in {process for _, process, _ in read(tmp_path / "loky").values()}


@pytest.mark.parametrize("options", [{}, {"backend": "loky", "workers": 1}], ids=["inline", "loky"])
def test_the_costliest_job_comes_first_and_equal_ones_keep_their_order(options, tmp_path):
    names, costs = ["a", "b", "c", "d", "e"], [1.0, 5.0, 2.5, 5.0, 0.1]
    run_jobs(note, jobs(tmp_path, names), costs=costs, **options)
    done = read(tmp_path)
    assert sorted(done, key=lambda name: done[name][0]) == ["b", "d", "c", "a", "e"]


def test_without_costs_the_order_is_kept():
    order = []
    run_jobs(order.append, list("dacb"))
    assert order == list("dacb")


@backends
def test_the_exception_of_a_job_is_raised_as_it_is(options, two_threads, tmp_path):
    with pytest.raises(InputError, match="this job is wrong"):
        run_jobs(fail, jobs(tmp_path, ["good", "bad", "later"]), **options)
    assert "good" in read(tmp_path)
    assert torch.get_num_threads() == 2


@backends
def test_after_a_failure_the_next_jobs_run_as_ever(options, tmp_path):
    with pytest.raises(InputError):
        run_jobs(fail, jobs(tmp_path, ["bad"]), **options)
    run_jobs(fail, jobs(tmp_path, ["good"]), **options)
    assert set(read(tmp_path)) == {"bad", "good"}


def interrupt(job):
    raise KeyboardInterrupt


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


@backends
def test_no_jobs_is_fine_and_silent(options, capfd):
    run_jobs(note, [], **options)
    assert capfd.readouterr() == ("", "")


def test_the_progress_bar_is_in_units_of_cost_and_ends_at_its_end(capfd):
    run_jobs(lambda job: None, [1, 2, 3], costs=[0.1, 0.2, 0.3], description="teachers")
    shown = capfd.readouterr().err
    assert "teachers: 100%" in shown and "3 of 3 runs" in shown


@pytest.mark.parametrize("workers", [1, 8])
def test_more_workers_than_jobs_and_a_single_one_do(workers, tmp_path):
    run_jobs(note, jobs(tmp_path, "a"), backend="loky", workers=workers)
    assert set(read(tmp_path)) == {"a"}


def train(job):
    """A training of a few steps, whose last bits depend on the number of threads."""
    folder, name = job
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 300, generator=generator)
    w = torch.zeros(300, 300)
    for _ in range(5):
        w = w - 0.01 * x.T @ (x @ w - x)
    (folder / name).write_bytes(w.numpy().tobytes())


def test_the_bits_of_a_result_do_not_depend_on_the_backend_nor_on_the_threads_around_it(two_threads, tmp_path):
    run_jobs(train, [(tmp_path, "inline")])
    run_jobs(train, [(tmp_path, "loky")], backend="loky", workers=2)
    assert (tmp_path / "inline").read_bytes() == (tmp_path / "loky").read_bytes()


def test_an_unknown_backend_is_refused_and_not_taken_for_loky():
    with pytest.raises(InputError, match="engine.backend is 'dask'; allowed: inline, loky, ray"):
        run_jobs(print, ["x"], backend="dask")


def count(job):
    folder, name = job
    (folder / f"{name} {os.getpid()}").touch()


def test_stages_share_their_processes_which_end_with_the_block(tmp_path):
    with processes("loky", 2) as pool:
        for stage in range(6):
            run_jobs(
                count,
                [(tmp_path, f"{stage}{job}") for job in range(1 + stage % 3)],
                backend="loky",
                workers=2,
                pool=pool,
            )
    used = {int(path.name.split()[1]) for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 12 and len(used) <= 2 and os.getpid() not in used
    assert not [process for process in used if alive(process)]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from test_engine import wait_long
from rosutils.study.engine import run_jobs
run_jobs(wait_long, [{folder!r}] * 2, backend="loky", workers=2)
"""


def wait_long(folder):
    open(os.path.join(folder, str(os.getpid())), "x").close()
    end = time.monotonic() + 60
    while time.monotonic() < end:  # a job that computes, and does not look up
        pass


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = PARENT.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(alive, workers)), seconds=10)


def wait_until(holds, seconds: float = 60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
