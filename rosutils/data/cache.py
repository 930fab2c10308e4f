"""The prepared cache: images decoded once to uint8 arrays in one folder, which exists whole or not at all."""

import csv
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from rosutils import InputError
from rosutils.data.decode import CHANNELS, Seen, decode_chunk, size_and_time
from rosutils.processes import mapped
from rosutils.store import allocate, free, seal, write_whole, writing


FORMAT = 3
CHUNK_BYTES, CHUNK_IMAGES = 32 << 20, 128  # what one process decodes at a time
IN_PROCESS = 256  # starting processes takes longer than to decode this many
DONE = "done"  # what the files of each finished chunk hold; in the folder until it is whole

logger = logging.getLogger(__name__)


def fingerprint(*parts: str | np.ndarray | Tensor) -> str:
    """SHA-256 over strings and the bytes of arrays or tensors, in order: content, never paths."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def fingerprint_of(images, labels, groups, names, class_names, multilabel) -> str:
    """That of what a cache holds: images [N, channels, H, W], labels, groups, names and classes."""
    arrays = [np.asarray(labels, "<f4" if multilabel else "<i8"), np.asarray(groups, "<i8")]
    shapes = [images.shape, *(array.shape for array in arrays)]
    header = json.dumps([shapes, list(names), list(class_names), bool(multilabel)])
    return fingerprint(header, *arrays, *(images[start : start + 1024] for start in range(0, len(images), 1024)))


def stamp(paths: Iterable[str]) -> str:
    """A sum over the files' names, sizes and times of writing, none of them read."""
    return fingerprint(ascii([(path, *size_and_time(path)) for path in paths]))


def opened(place: Path, made_from: str, *, in_part: bool = False) -> dict | None:
    """What a cache folder holds: images (memory-mapped, read-only), labels, ..., card; None where it has to be made.

    That is where there is none, and with a message where it is not what its fingerprint says, where the files that it was
    made from have changed since, or where unreadable ones were left out and not `in_part` allows it.
    """
    if not place.is_dir():
        return None
    try:
        card = json.loads((place / "card.json").read_text(encoding="utf-8"))
        content = {"names": tuple(json.loads((place / "names.json").read_text(encoding="utf-8")))}
        content |= {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in ("images", "labels", "groups")}
        content |= {"class_names": tuple(card["class_names"]), "multilabel": card["multilabel"]}
        content |= {"fingerprint": fingerprint_of(**content), "card": card}
        wrong = {"it is of another format": card["format"] != FORMAT}
        wrong["it is damaged"] = card["fingerprint"] != content["fingerprint"]
        wrong["its card is damaged"] = card["checksum"] != seal(card)
        wrong["the files it was made from have changed"] = card["made_from"] != made_from
        wrong["unreadable files were left out"] = card.get("raw", {}).get("unreadable") and not in_part
        why = next(filter(wrong.get, wrong), None)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        why = f"it is damaged ({type(error).__name__}: {error})"
    if why:
        logger.warning("%s is prepared again: %s", place, why)
    return None if why else content


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """One process at a time prepares in a folder, the others wait; raises InputError where nobody can write there."""
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            logger.warning("waiting for another process that prepares data in %s", root)
            lock.acquire()
    except OSError as error:
        raise InputError(f"cannot prepare data in {root} ({error}); choose a writable folder") from error
    try:
        with writing(root):
            yield
    finally:
        lock.release()


def building(place: Path) -> Path:
    """The folder beside `place` in which it is made; what a killed attempt at it finished is still there."""
    folder = place.with_name(f".{place.name}.building")
    for abandoned in set(place.parent.glob(f".{place.name.rsplit('-', 1)[0]}-*.building")) - {folder}:
        shutil.rmtree(abandoned)  # an earlier state of the same source
    folder.mkdir(exist_ok=True)
    return folder


def finish(folder: Path, place: Path, content: dict, card: dict, left_out: Sequence[tuple[str, str]] = ()) -> None:
    """Write what a cache holds beside its images, then its card, and give the folder its name."""
    np.save(folder / "labels.npy", np.asarray(content["labels"], np.float32 if content["multilabel"] else np.int64))
    np.save(folder / "groups.npy", np.asarray(content["groups"], np.int64))
    (folder / "names.json").write_text(json.dumps(list(content["names"])), encoding="utf-8")
    with open(folder / "left_out.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", "reason"), *left_out])
    card = {"format": FORMAT, **card, "fingerprint": fingerprint_of(**content)}
    (folder / "card.json").write_text(json.dumps(card | {"checksum": seal(card)}, indent=2), encoding="utf-8")
    for file in folder.glob("*.*"):
        with open(file, "rb") as written:
            os.fsync(written.fileno())
    for old in (place, folder / DONE):
        shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, place)


def decode_all(
    paths: Sequence[str], pixels: int, mode: str, window, *, folder: Path, title: str
) -> tuple[np.ndarray, list]:
    """Decode files on all cores into `folder`: the images, and what each file holds, or why it is unreadable.

    Chunks that a killed attempt finished are kept where files and pixels are unchanged since. Raises InputError when the disk
    is too small.
    """
    images = images_in(folder, (len(paths), CHANNELS[mode], pixels, pixels))
    step = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // images[0].size))
    chunks = [paths[start : start + step] for start in range(0, len(paths), step)]
    flags = [folder / DONE / f"{number}-{stamp(chunk)}.json" for number, chunk in enumerate(chunks)]
    blocks = [images[start : start + step] for start in range(0, len(paths), step)]
    found = [_seen(flag, block) for flag, block in zip(flags, blocks, strict=True)]
    todo = [number for number, seen in enumerate(found) if not seen]
    left = sum(len(chunks[number]) for number in todo)
    jobs = ((chunks[number], pixels, mode, window) for number in todo)
    bar = tqdm(total=len(paths), initial=len(paths) - left, desc=title, unit=" images")
    with bar, closing(mapped(decode_chunk, jobs, joblib.cpu_count() if left >= IN_PROCESS else 1)) as decoded:
        for number, (block, seen) in zip(todo, decoded, strict=True):
            blocks[number][:] = block
            images.flush()
            write_whole(flags[number], json.dumps([fingerprint(block), seen]))
            found[number] = seen
            bar.update(len(seen))
    return images, [each for seen in found for each in seen]


def _seen(flag: Path, block: np.ndarray) -> list[Seen] | None:
    """What the files of a finished chunk hold, if all of them could be read and its pixels are those that were written."""
    with suppress(OSError, ValueError, TypeError):
        pixels, found = json.loads(flag.read_text(encoding="utf-8"))
        seen = [Seen(*each) for each in found if not isinstance(each, str)]
        return seen if len(seen) == len(block) and pixels == fingerprint(block) else None


def images_in(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """images.npy in `folder`, of that shape: the one that is there with its finished chunks, or else a new one.

    Raises InputError where the disk has no room for it.
    """
    file, size = folder / "images.npy", math.prod(shape)
    (folder / DONE).mkdir(parents=True, exist_ok=True)
    with suppress(OSError, ValueError):
        if (images := np.load(file, mmap_mode="r+")).shape == shape:
            allocate(file)
            return images
    for flag in (folder / DONE).iterdir():
        flag.unlink()
    if size > (left := free(folder)):
        raise InputError(
            f"the prepared images need {size / 1e9:.1f} GB, {folder.parent} has {left / 1e9:.1f} GB free; make room, "
            "choose another folder, or lower data.pixels / --size"
        )
    images = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    allocate(file)
    return images


def only(folder: Path, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of the images, in their place."""
    if len(rows) == len(images):
        return images
    kept = np.lib.format.open_memmap(folder / DONE / "kept.npy", "w+", np.uint8, (len(rows), *images.shape[1:]))
    allocate(folder / DONE / "kept.npy")
    for start in range(0, len(rows), CHUNK_IMAGES):
        kept[start : start + CHUNK_IMAGES] = images[rows[start : start + CHUNK_IMAGES]]
    kept.flush()
    os.replace(folder / DONE / "kept.npy", folder / "images.npy")
    return kept
