"""Where nothing can be written: one line that names the folder, what the system says, and the bytes that are free there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from rosutils import RunError


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A block that writes below a folder; raises RunError where the system does not let it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, BrokenPipeError) or not (isinstance(error, OSError) or "os error" in str(error)):
            raise  # of another's ear, or of a content that is wrong
        raise RunError(
            f"{folder} cannot be written ({error}); {free(folder) / 1e6:,.1f} MB are free there. What is finished is kept: make "
            "room or choose another folder, and the same command goes on"
        ) from error


def allocate(file: Path) -> None:
    """Take all the room that a sparse file will need, or OSError: a page of a memory map without any would end the process."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
