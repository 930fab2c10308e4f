"""The prepared cache: images decoded once to uint8 arrays in one folder, which exists whole or not at all."""

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from rosutils import InputError
from rosutils.data.card import describe
from rosutils.data.filling import JOURNAL


FORMAT = 2
FILES = ("images.npy", "labels.npy", "groups.npy", "names.json", "left_out.csv")

logger = logging.getLogger(__name__)


class Damaged(Exception):
    """A cache folder is not what its card says."""


def fingerprint(images, labels, groups, names, class_names, multilabel) -> str:
    """SHA-256 over images [N, channels, H, W], labels, groups, names and classes: content, never paths."""
    arrays = [np.asarray(labels, "<f4" if multilabel else "<i8"), np.asarray(groups, "<i8")]
    shapes = [images.shape, *(array.shape for array in arrays)]
    header = [shapes, list(names), list(class_names), bool(multilabel)]
    digest = hashlib.sha256(json.dumps(header).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_or_build(folder: Path, fill: Callable[[Path], tuple[dict, dict]], *, rehash=False) -> dict:
    """What a cache folder holds (see `load`), built first where it is absent and again where it is damaged.

    `fill(images_file)` returns (arrays, card): arrays holds images, labels, groups, names, class_names,
    multilabel, its images in memory or in `images_file`; card holds what else the data card is to say, and may hold
    left_out, the (name, reason) of what the set lacks. One process builds at a time in `folder.parent`; the others
    wait for it and then find the folder. A build that was killed goes on where it was, if its fill keeps a journal.
    """
    with suppress(Damaged, FileNotFoundError):
        return load(folder, rehash=rehash)
    with _alone_in(folder.parent):
        try:
            return load(folder, rehash=rehash)
        except Damaged as problem:
            logger.warning("%s is damaged (%s) and is prepared again", folder, problem)
        except FileNotFoundError:
            pass
        _build(folder, fill)
    return load(folder)


@contextmanager
def _alone_in(root: Path):
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
        yield
    finally:
        lock.release()


def _build(folder: Path, fill):
    building = folder.with_name(f".{folder.name}.building")
    _clear_abandoned(folder, building)
    whole = verify(building) is None  # so it is where the last attempt was killed just before its renaming
    if not whole and not (building / JOURNAL).exists():
        shutil.rmtree(building, ignore_errors=True)
    building.mkdir(exist_ok=True)
    try:
        if not whole:
            _write(building, *fill(building / "images.npy"))
        (building / JOURNAL).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(building, folder)
    finally:
        if not (building / JOURNAL).exists():
            shutil.rmtree(building, ignore_errors=True)


def _clear_abandoned(folder: Path, building: Path):
    # Nobody else builds here while we hold the lock: what lies there was left by a process that was killed. What has
    # a journal is worth going on with, unless it was to be an earlier state of the same folder.
    for abandoned in set(folder.parent.glob(".*.building")) - {building}:
        superseded = abandoned.name.rsplit("-", 1)[0] == building.name.rsplit("-", 1)[0]
        if superseded or not (abandoned / JOURNAL).exists():
            shutil.rmtree(abandoned)


def _write(folder: Path, arrays: dict, card: dict):
    if not (folder / "images.npy").exists():
        np.save(folder / "images.npy", np.asarray(arrays["images"], np.uint8))
    label_type = np.float32 if arrays["multilabel"] else np.int64
    np.save(folder / "labels.npy", np.asarray(arrays["labels"], label_type))
    np.save(folder / "groups.npy", np.asarray(arrays["groups"], np.int64))
    (folder / "names.json").write_text(json.dumps(list(arrays["names"])), encoding="utf-8")
    with open(folder / "left_out.csv", "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows([("name", "reason"), *card.pop("left_out", [])])
    card = {"format": FORMAT, **card, **describe(**arrays), "fingerprint": fingerprint(**arrays)}
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    card["files"] = {name: {"bytes": sizes[name], "sha256": file_sha256(folder / name)} for name in FILES}
    _sync(folder / "images.npy")
    # With its card the folder is whole, so the card appears at once or not at all.
    (folder / "card.part").write_text(json.dumps(card, indent=2), encoding="utf-8")
    os.replace(folder / "card.part", folder / "card.json")


def _sync(file: Path):
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())


def load(folder: Path, *, rehash: bool = False) -> dict:
    """What a cache folder holds: images (memory-mapped, read-only), labels, ..., fingerprint and card.

    Sizes, shapes and checksums are checked, that of the images only with `rehash`. Raises FileNotFoundError
    where there is no folder, Damaged where it is not what its card says.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        _check_files(folder, card, FILES if rehash else FILES[1:])
        images, labels, groups = (np.load(folder / name, mmap_mode="r") for name in FILES[:3])
        if (list(images.shape), images.dtype) != (card["shape"], np.uint8):
            raise Damaged(f"images.npy holds {images.dtype} {images.shape}, its card says {card['shape']}")
        names = tuple(json.loads((folder / "names.json").read_text(encoding="utf-8")))
        content = {"images": images, "labels": np.array(labels), "groups": np.array(groups), "names": names}
        content |= {"class_names": tuple(card["class_names"]), "multilabel": card["multilabel"]}
        return content | {"fingerprint": card["fingerprint"], "card": card}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _check_files(folder: Path, card: dict, hashed: Sequence[str]):
    if card["format"] != FORMAT:
        raise Damaged(f"its format is {card['format']}, this version reads {FORMAT}")
    for name in FILES:
        size, said = (folder / name).stat().st_size, card["files"][name]
        if size != said["bytes"]:
            raise Damaged(f"{name} has {size:,} bytes, not {said['bytes']:,}")
        if name in hashed and file_sha256(folder / name) != said["sha256"]:
            raise Damaged(f"{name} does not match its checksum")


def verify(folder: Path) -> str | None:
    """What is wrong with a cache folder, every file hashed again; None when it is whole."""
    try:
        load(folder, rehash=True)
    except FileNotFoundError:
        return f"there is no folder {folder}"
    except Damaged as problem:
        return str(problem)
