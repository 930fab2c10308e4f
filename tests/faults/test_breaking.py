"""A few commands broken off on purpose: the next one ends with the same bytes. `make faults` does it by the hundred."""

import random
import signal
import time

import pytest
from breaking import STATUS, Command, bytes_of, pictures, run, sections, waste


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("raw") / "zwölf Bilder", 800)


def test_prepare_is_killed_and_interrupted_and_ends_with_the_same_bytes(raw, tmp_path):
    def command(out):
        return ("prepare", "folder", "--raw", raw, "--size", 32, "--out", tmp_path / out)

    assert run(*command("whole"), log=tmp_path / "log").faults(0) == []
    for number, group in ((signal.SIGKILL, False), (signal.SIGINT, True)):
        broken = Command(*command("broken"), log=tmp_path / "log")
        if broken.reaches("images/s"):
            assert broken.breaks(number, group).faults(STATUS[number], 0) == []
    assert run(*command("broken"), log=tmp_path / "log").faults(0) == []
    assert bytes_of(tmp_path / "broken", ["**/*"]) == bytes_of(tmp_path / "whole", ["**/*"])
    assert waste(tmp_path / "broken") == []


def test_a_full_disk_is_one_line(raw, tmp_path):
    command = ("prepare", "folder", "--raw", raw, "--size", 32, "--out", tmp_path / "out")
    full = run(*command, log=tmp_path / "log", limit=1_000_000)
    assert full.faults(1) == [] and f"{tmp_path}/out cannot be written" in full.said


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["Ctrl-C", "terminated", "batch job ended"],
)
def test_a_training_that_is_broken_off_leaves_no_process_and_one_line(tmp_path_factory, tmp_path, number, group):
    folder = tmp_path_factory.getbasetemp() / "one store"
    training = Command("reproduce", "smoke", "-y", sections(folder), log=tmp_path / "log")
    assert training.reaches("teachers: ")
    time.sleep(2 * random.Random(number).random())
    assert training.breaks(number, group).faults(STATUS[number]) == []
