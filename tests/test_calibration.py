"""The time of steps on this machine: every kind is timed in units of its own, medians without the first call, on all workers."""

import pytest
import torch

from rosutils import calibration
from rosutils.calibration import calibrate, seconds
from rosutils.costs import KINDS, Step


CPU = torch.device("cpu")


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(calibration, "ENOUGH", 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_step_is_timed(kind, brief):
    assert 0 <= seconds(Step(kind, "mobilenet_v2", 4, 32), CPU) < 60


def test_the_median_is_of_all_calls_but_the_first(monkeypatch):
    clock = iter([0.0, 1.9, 10.0, 10.4, 20.0, 20.1, 30.0, 30.2])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(clock))
    assert calibration._timed(lambda: None, 2.0) == pytest.approx(0.25 / 2)


def test_a_call_that_takes_long_is_not_repeated(monkeypatch):
    clock, calls = iter([0.0, 5.0]), []
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(clock))
    assert calibration._timed(lambda: calls.append(1), 10.0) == 0.5 and calls == [1]


def test_large_images_are_timed_in_few_on_the_cpu_and_in_whole_batches_elsewhere():
    step = Step("supervised", "resnet18", 64, 224)
    assert calibration._images(step, CPU) == 10 and calibration._images(step, torch.device("cuda")) == 64
    assert calibration._images(step._replace(pixels=32), CPU) == 64
    assert calibration._images(step._replace(pixels=1024), CPU) == 2


def test_processes_begin_at_different_steps_and_none_leaves_one_out():
    steps = [Step("run", "resnet18", number, 32) for number in range(5)]
    orders = [calibration._rotated(steps, number, 2) for number in range(2)]
    assert orders[0][0] != orders[1][0] and all(sorted(order) == steps for order in orders)


def test_two_processes_time_the_same_steps_beside_each_other(capfd):
    steps = [Step("forward", "mobilenet_v2", 4, 32), Step("epoch", "mobilenet_v2", 1, 32)]
    rates = calibrate(steps, workers=2, threads=1, device=CPU)
    assert set(rates.seconds) == set(steps) and min(rates.seconds.values()) > 0
    assert rates.start >= 0 and rates.process > 100e6, "bytes of a process that has torch in it"


def test_a_second_thread_is_for_trainings_alone(brief):
    """Second derivatives would be refused with it."""
    steps = [Step("supervised", "mobilenet_v2", 4, 32), Step("product", "mobilenet_v2", 4, 32)]
    assert set(calibrate(steps, workers=1, threads=2, device=CPU).seconds) == set(steps)


def test_the_memory_is_that_of_this_process():
    before = calibration._memory()
    held = torch.ones(64 * 2**20)
    assert calibration._memory() >= max(before, held.nbytes)
