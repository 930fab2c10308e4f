"""Commands of the kit started, broken off and looked after: who is left, what was said, what lies there."""

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import yaml
from PIL import Image


ROOT = Path(__file__).parents[2]
MARK = "ROSUTILS_FAULTS"  # in the environment of a command and of all that it starts
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
TINY = {
    "tasks": ["lesion"],
    "data": {"pixels": 40, "sources": {"lesion": {"examples": 60}}},
    "subsets": {"count": 2},
    "teachers": {"architectures": ["mobilenet_v2", "mobilenet_v2"]},
    "training": {"epochs": 2, "batch_size": 16},
    "distillation": {"student": "mobilenet_v2", "single_teacher": "mobilenet_v2"},
    "seeds": {"replicates": 1},
    "attacks": {"examples": 8, "curve_multiples": [1.0], "norms": ["linf"]},
    "sweeps": {
        "scale": {},
        "overlaps": [0.4],
        "noise": {"symmetric": [0.4], "pairflip": []},
        "readings": [],
        "runs": 1,
    },
}


class Ended(NamedTuple):
    """How a command ended: its exit status, what it said, processes that it left, and seconds from the signal to its end."""

    status: int
    said: str
    left: list[int]
    seconds: float

    def faults(self, *allowed: int) -> list[str]:
        """What was wrong with that: no line or more than one, a traceback, a warning, a process that stays."""
        lines = [line for line in self.said.replace("\r", "\n").splitlines() if line.startswith("error: ")]
        wrong = [f"status {self.status}"] if self.status not in allowed else []
        if self.status >= 0:  # of one that was killed, the tracker of its semaphores tells that it clears them away
            wrong += [word for word in ("Traceback", "Warning", "Exception in thread", "leaked") if word in self.said]
        wrong += [f"{len(lines)} lines"] if len(lines) != (self.status > 0) else []
        return wrong + ([f"{len(self.left)} processes left"] if self.left else [])


def sections(folder: Path, **engine) -> str:
    """-y of the tiny study, all its files below a folder."""
    return yaml.safe_dump({**TINY, "engine": {"store": f"{folder}/runs", "artefacts": f"{folder}/figures", **engine}})


class Command:
    """One command of the kit in a session of its own."""

    def __init__(self, *arguments: str, log: Path, limit: int | None = None) -> None:
        self.mark, self.log = f"{os.getpid()}-{random.getrandbits(64)}", log
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rosutils", *map(str, arguments)], stdout=out, stderr=out, env=environment,
                cwd=ROOT, start_new_session=True, preexec_fn=prepare,
            )  # fmt: skip

    def said(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def reaches(self, text: str, seconds: float = 600) -> bool:
        """Wait until it writes a text; False where it ended before."""
        end = time.monotonic() + seconds
        while text not in self.said() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        return self.process.poll() is None

    def breaks(self, number: int, group: bool = False) -> Ended:
        """Send a signal to it, or to all of its group, and look after it."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.ended()

    def ended(self, seconds: float = 900) -> Ended:
        """Wait for its end; who is left ten seconds later stays, and is killed."""
        begun = time.monotonic()
        status = self.process.wait(seconds)
        took, end = time.monotonic() - begun, time.monotonic() + 10
        while (left := self.alive()) and time.monotonic() < end:
            time.sleep(0.2)
        for process in left:
            os.kill(process, signal.SIGKILL)
        return Ended(status, self.said(), left, took)

    def alive(self) -> list[int]:
        """The processes that have its mark: its own, and all that it started."""
        found = psutil.process_iter(["environ", "status"])
        marked = [process for process in found if (process.info["environ"] or {}).get(MARK) == self.mark]
        return [process.pid for process in marked if process.info["status"] != psutil.STATUS_ZOMBIE]


def run(*arguments: str, log: Path, limit: int | None = None) -> Ended:
    """A command that is left alone."""
    return Command(*arguments, log=log, limit=limit).ended()


def bytes_of(folder: Path, names: Sequence[str] = ("figures/**/*", "runs/smoke*/results.csv")) -> dict[str, str]:
    """SHA-256 of what a study shows, or of the files named; executed notebooks hold times, and are not among it."""
    files = (file for name in names for file in sorted(folder.glob(name)))
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files if file.is_file() and "notebooks" not in file.parts and not file.name.startswith(".")
    }  # fmt: skip


def waste(folder: Path) -> list[str]:
    """What an attempt left half-done, after a later one has ended well."""
    kinds = ("*.partial", "*.part", "*.tmp", "*.building", ".*-????????")
    found = [path.relative_to(folder) for kind in kinds for path in folder.rglob(kind)]
    return [str(path) for path in found if ".locks" not in path.parts]


def pictures(folder: Path, count: int) -> Path:
    """A raw folder of one's own with so many small pictures in two classes."""
    folder.mkdir(parents=True)
    random_pixels = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random_pixels.integers(0, 256, (90, 120, 3), np.uint8)).save(folder / f"i{number:05d}.jpg")
    rows = [f"i{number:05d}.jpg,{'ab'[number % 2]},g{number // 2}" for number in range(count)]
    (folder / "labels.csv").write_text("\n".join(["image,label,group", *rows]) + "\n")
    return folder
