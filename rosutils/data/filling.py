"""Thousands of image files into one array on disk: in parallel, with a progress bar, and going on after a kill."""

import hashlib
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from tqdm.auto import tqdm

from rosutils import InputError
from rosutils.data.decode import CHANNELS, decode_into, stamp


JOURNAL = "journal.jsonl"  # which chunks of images.npy are done; it lies beside it until the folder is whole
RESUMABLE = 1024  # fewer images than this are decoded again sooner than they are checked
CHUNK_BYTES, CHUNK_IMAGES = 32 << 20, 128  # what one process decodes at a time
IN_PROCESS = 256  # starting processes takes longer than to decode this many


@dataclass(frozen=True)
class Decoded:
    """What came of decoding: the array's file, and what each file was: [width, height, mode], or [why] it is unreadable."""

    file: Path
    found: list[list]

    @property
    def bad(self) -> dict[int, str]:
        """Number of each unreadable file, and what is wrong with it."""
        return {number: seen[0] for number, seen in enumerate(self.found) if len(seen) == 1}

    def facts(self, pixels: int) -> dict:
        """What the data card says of the files: their sizes and modes, and how many had to be enlarged."""
        good = [seen for seen in self.found if len(seen) == 3]
        sides = [min(width, height) for width, height, _ in good]
        sizes = Counter(f"{width}x{height}" for width, height, _ in good)
        return {
            "shorter_side": {"smallest": min(sides), "largest": max(sides)},
            "enlarged": sum(side < pixels for side in sides),
            "sizes": dict(sizes.most_common(12)), "different_sizes": len(sizes),
            "modes": dict(Counter(mode for _, _, mode in good).most_common()),
        }  # fmt: skip


def decode_all(paths: Sequence[str], pixels: int, mode: str, *, to: Path, title: str) -> Decoded:
    """Decode files on all cores into `to`, uint8 [N, channels, H, W]; chunks that a killed attempt finished are kept.

    Raises InputError when the disk cannot hold the result. Unreadable files are told in the answer, all of them.
    """
    shape = (len(paths), CHANNELS[mode], pixels, pixels)
    start = _allocate(to, shape)
    each = int(np.prod(shape[1:]))
    step = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // each))
    chunks = [paths[first : first + step] for first in range(0, len(paths), step)]
    journal = Journal(to.with_name(JOURNAL)) if len(paths) >= RESUMABLE else None
    done = journal.done(to, start, step * each, chunks) if journal else {}
    jobs = [
        (to, number, start + number * step * each, list(chunk), pixels, mode, os.getpid())
        for number, chunk in enumerate(chunks) if number not in done
    ]  # fmt: skip
    with tqdm(total=len(paths), initial=sum(map(len, done.values())), desc=title, unit=" images") as bar:
        for result in _in_parallel(jobs, len(paths)):
            if journal:
                journal.add(result)
            done[result["chunk"]] = result["found"]
            bar.update(len(result["found"]))
    return Decoded(to, [seen for number in range(len(chunks)) for seen in done[number]])


def _in_parallel(jobs: Sequence[tuple], images: int) -> Iterator[dict]:
    options = {"n_jobs": 1} if images < IN_PROCESS else {"n_jobs": joblib.cpu_count(), "backend": "loky"}
    return joblib.Parallel(return_as="generator_unordered", **options)(
        joblib.delayed(decode_into)(*job) for job in jobs
    )


def _allocate(file: Path, shape: tuple[int, ...]) -> int:
    """Make `file` an npy of that shape, unless it is one; returns where its pixels begin."""
    header = npy_header(shape)
    size = len(header) + int(np.prod(shape))
    if file.is_file() and file.stat().st_size == size:
        return len(header)
    require_space(file.parent, size)
    with open(file, "wb") as opened:
        opened.write(header)
        opened.truncate(size)
    return len(header)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of an npy file of uint8 numbers."""
    opened = io.BytesIO()
    np.lib.format.write_array_header_1_0(opened, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return opened.getvalue()


def require_space(folder: Path, needed: int) -> None:
    """Raises InputError where the disk has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the prepared images need {needed / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB free; "
            "make room, choose another folder, or lower data.pixels / --size"
        )


def drop(file: Path, rows: Sequence[int]) -> None:
    """Take rows out of an npy file of uint8 images in place, the others closing up in order."""
    images = np.load(file, mmap_mode="r+")
    kept = np.setdiff1d(np.arange(len(images)), rows)
    # Rows only move towards the beginning, so none is written over before it has moved.
    for new, old in enumerate(kept):
        if new != old:
            images[new] = images[old]
    images.flush()
    header = npy_header((len(kept), *images.shape[1:]))
    size = len(header) + len(kept) * int(np.prod(images.shape[1:]))
    del images
    with open(file, "r+b") as opened:
        opened.write(header)  # as long as before: npy leaves room for the first axis to change
        opened.truncate(size)


class Journal:
    """The finished chunks of an array, one line each: what their files were like, and the SHA-256 of their pixels."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, result: dict) -> None:
        """Note a finished chunk, as `decode_into` tells of it."""
        with open(self.file, "a", encoding="utf-8") as opened:
            opened.write(json.dumps(result) + "\n")

    def done(self, array: Path, start: int, each: int, chunks: Sequence[Sequence[str]]) -> dict[int, list]:
        """What was found in each chunk that needs no decoding: files unchanged, none of them bad, pixels as noted."""
        good = []
        with open(array, "rb") as opened:
            for line in self._lines():
                if line["chunk"] < len(chunks) and line["stamp"] == stamp(chunks[line["chunk"]]) and _all_good(line):
                    opened.seek(start + line["chunk"] * each)
                    good += [line] if hashlib.sha256(opened.read(each)).hexdigest() == line["sha256"] else []
        temporary = self.file.with_suffix(".part")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in good), encoding="utf-8")
        os.replace(temporary, self.file)
        return {line["chunk"]: line["found"] for line in good}

    def _lines(self) -> Iterator[dict]:
        if self.file.is_file():
            for text in self.file.read_text(encoding="utf-8").splitlines():
                try:
                    yield json.loads(text)
                except ValueError:  # the line that was being written when the process was killed
                    continue


def _all_good(line: dict) -> bool:
    return all(len(seen) == 3 for seen in line["found"])
