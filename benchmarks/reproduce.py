"""The command as a user runs it, cold and warm: everything trained, then everything found in the store."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from timing import Row

from rosutils.params import ROOT


def rows(folder: Path, *, profile: str = "demo") -> Iterator[Row]:
    """`python -m rosutils reproduce demo` into an empty store, then twice more: the better of the two is the warm one."""
    cold, *warm = (_seconds(profile, folder) for _ in range(3))
    what = f"`python -m rosutils reproduce {profile}`: warm (the store holds every run) against cold"
    yield Row(what, min(warm), cold, cold / min(warm))


def _seconds(profile: str, folder: Path) -> float:
    place = yaml.safe_dump({"engine": {"store": str(folder / "runs"), "artefacts": str(folder / "figures")}})
    start = time.perf_counter()
    command = [sys.executable, "-m", "rosutils", "reproduce", profile, "-y", place]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start
