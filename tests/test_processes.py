"""Worker processes: one thread each, in order, gone with their parent; Ctrl-C is the parent's, and a killed one is an error."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest
from joblib.externals.loky import ProcessPoolExecutor
from tqdm.auto import tqdm

from rosutils import InputError, RunError
from rosutils.processes import mapped, processes


SELF = Path(__file__)
ELSEWHERE = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SELF.parents[:2]))}


def wait_until(holds, seconds: float = 60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def about(number):
    """What a worker is told, and how it is set up."""
    time.sleep(0.01 * (number % 3))
    return number, os.getpid(), os.environ.get("OMP_NUM_THREADS"), signal.pthread_sigmask(signal.SIG_BLOCK, ())


def refuse(number):
    raise InputError(f"{number} is wrong")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def compute(folder):
    """A job that computes, and does not look up, for a minute."""
    (folder / str(os.getpid())).touch(exist_ok=False)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order_from_so_many_processes(count):
    numbers, used, threads, _ = zip(*mapped(about, ((number,) for number in range(12)), count), strict=True)
    assert numbers == tuple(range(12))
    assert len(set(used)) <= count and (os.getpid() in used) == (count == 1)
    assert count == 1 or set(threads) == {"1"}


def test_a_worker_never_sees_ctrl_c_not_even_as_it_starts():
    with processes(2) as pool:
        for pid in list(pool._processes):  # while they import
            os.kill(pid, signal.SIGINT)
        found = [call.result() for call in [pool.submit(about, number) for number in range(4)]]
    assert all(signal.SIGINT in blocked for *_, blocked in found)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_signal_that_comes_as_workers_start_waits_until_they_have(monkeypatch):
    monkeypatch.setattr("rosutils.processes.kill_process_tree", lambda process: ended.append(process.pid))
    ended, whole = [], ProcessPoolExecutor._adjust_process_count
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that runs tests may ignore it

    def struck(pool):
        os.kill(os.getpid(), signal.SIGINT)
        whole(pool)

    monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", struck)
    with pytest.raises(KeyboardInterrupt), processes(2):
        pytest.fail("the signal came to nothing")
    assert len(ended) == 2 and signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_an_error_of_a_job_is_raised_as_it_is():
    with pytest.raises(InputError, match=r"^3 is wrong$"):
        list(mapped(refuse, [(3,), (4,)], 2))


def test_a_worker_that_is_killed_is_one_error_that_says_how():
    told = r"a worker process ended .*\(SIGKILL\).* too little memory.* goes on from there"
    with pytest.raises(RunError, match=told), processes(2) as pool:
        pool.submit(die).result()


def test_jobs_that_wait_do_not_hold_up_the_end(tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt), processes(2) as pool:
        for _ in range(30):
            pool.submit(compute, tmp_path)
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        begun = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 15
    assert not any(psutil.pid_exists(int(path.name)) for path in tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def show_progress():
    with tqdm(total=1, disable=True):
        return multiprocessing.current_process().name


SHOWS = """
from test_processes import processes, show_progress
with processes(1) as pool:
    pool.submit(show_progress).result()
"""


def test_a_worker_that_showed_its_progress_ends_without_a_word():
    how = {"env": ELSEWHERE, "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([sys.executable, "-c", SHOWS], **how)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def grow(megabytes):
    globals().setdefault("held", []).append(bytearray(megabytes << 20))
    time.sleep(1.1)  # the check comes once in a second
    return os.getpid()


def test_a_worker_that_grows_stays_and_is_no_warning():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with processes(1) as pool:
            used = [call.result(timeout=60) for call in [pool.submit(grow, size) for size in (1, 500, 1)]]
    assert len(set(used)) == 1 and told == []


PARENT = """
import pathlib, sys
from test_processes import compute, mapped
list(mapped(compute, [(pathlib.Path(sys.argv[1]),)] * 2, 2))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, number):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], env=ELSEWHERE)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.send_signal(number)
    parent.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(psutil.pid_exists, workers)), seconds=10)
