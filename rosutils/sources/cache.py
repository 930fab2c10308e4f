"""The prepared cache: images decoded once to uint8 arrays in one folder, which exists whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from tqdm.auto import tqdm

from rosutils import InputError


FORMAT = 1
CHANNELS = {"RGB": 3, "L": 1}
RESIZE = "shorter side to the wanted pixels (Pillow, bilinear, antialiased), then the central square"
FILES = ("images.npy", "labels.npy", "groups.npy", "names.json")
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)

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


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys at 255 on converting them; here 65535 becomes 255.
        grey = np.asarray(image).astype(np.float64).clip(0, 65535) * (255 / 65535)
        image = Image.fromarray(grey.round().astype(np.uint8))
    image.info.pop("transparency", None)
    return image.convert(mode)


def decode(path: Path, pixels: int, mode: str) -> tuple[np.ndarray, int]:
    """One image file as uint8 [channels, pixels, pixels], and the shorter side it had in the file.

    The shorter side becomes `pixels` (antialiased bilinear filter) and the central square is kept; colours
    become luminance for mode "L", 16-bit greys are scaled to 8 bits, transparency is dropped.
    """
    with Image.open(path) as image:
        shorter_side = min(image.size)
        # JPEG decodes faster at 1/2, 1/4 or 1/8; twice the wanted size leaves the filter its work.
        image.draft(mode, (2 * pixels, 2 * pixels))
        image = _in_mode(image, mode)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.resize((pixels, pixels), Image.Resampling.BILINEAR, box=box)
    return np.asarray(square).reshape(pixels, pixels, -1).transpose(2, 0, 1), shorter_side


def decode_all(paths: Sequence[Path], pixels: int, mode: str, *, to: Path, title: str):
    """Images decoded in parallel into the file `to`, uint8 [N, channels, H, W], and their shorter sides [N].

    Raises InputError naming every file that is not an image, or when the disk cannot hold the result.
    """
    shape = (len(paths), CHANNELS[mode], pixels, pixels)
    _require_space(to.parent, int(np.prod(shape)))
    images = np.lib.format.open_memmap(to, mode="w+", dtype=np.uint8, shape=shape)
    sides = np.zeros(len(paths), np.int64)

    def decode_one(index):
        try:
            images[index], sides[index] = decode(paths[index], pixels, mode)
        except UNREADABLE as error:
            return f"{paths[index]} ({type(error).__name__}: {error})"

    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        done = tqdm(pool.map(decode_one, range(len(paths))), total=len(paths), desc=title, unit=" images")
        problems = [problem for problem in done if problem]
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise InputError(_not_images(problems))
    images.flush()
    return images, sides


def _require_space(folder: Path, needed: int):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"the prepared images need {needed / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB free; "
            "make room, choose another folder, or lower data.pixels / --size"
        )


def _not_images(problems: Sequence[str]) -> str:
    shown = "\n  ".join(problems[:20])
    if len(problems) > 20:
        shown += f"\n  ... and {len(problems) - 20:,} more"
    return f"{len(problems):,} file(s) are not readable images; delete and download them again:\n  {shown}"


def open_or_build(folder: Path, fill: Callable[[Path], tuple[dict, dict]], *, rehash=False) -> dict:
    """What a cache folder holds (see `load`), built first where it is absent and again where it is damaged.

    `fill(images_file)` returns (arrays, card): arrays holds images, labels, groups, names, class_names,
    multilabel, its images in memory or in `images_file`; card holds what else the data card is to say.
    One process builds at a time in `folder.parent`; the others wait for it and then find the folder.
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
    # Nobody else builds here while we hold the lock: what lies there was left by a process that was killed.
    for abandoned in folder.parent.glob(".*.building"):
        shutil.rmtree(abandoned)
    building.mkdir()
    try:
        _write(building, *fill(building / "images.npy"))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write(folder: Path, arrays: dict, card: dict):
    if not (folder / "images.npy").exists():
        np.save(folder / "images.npy", np.asarray(arrays["images"], np.uint8))
    label_type = np.float32 if arrays["multilabel"] else np.int64
    np.save(folder / "labels.npy", np.asarray(arrays["labels"], label_type))
    np.save(folder / "groups.npy", np.asarray(arrays["groups"], np.int64))
    (folder / "names.json").write_text(json.dumps(list(arrays["names"])), encoding="utf-8")
    card = {"format": FORMAT, **card, **describe(**arrays), "fingerprint": fingerprint(**arrays)}
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    card["files"] = {name: {"bytes": sizes[name], "sha256": file_sha256(folder / name)} for name in FILES}
    (folder / "card.json").write_text(json.dumps(card, indent=2), encoding="utf-8")


def describe(images, labels, groups, names, class_names, multilabel) -> dict:
    """What the data card says of the content: sizes, groups, and examples per class."""
    counts = labels.sum(axis=0) if multilabel else np.bincount(labels, minlength=len(class_names))
    card = {"shape": list(images.shape), "examples": len(names), "groups": len(np.unique(groups))}
    card |= {"class_names": list(class_names), "multilabel": bool(multilabel)}
    card["counts"] = {name: int(count) for name, count in zip(class_names, counts, strict=True)}
    if multilabel:
        card["examples_with_no_class"] = int((labels.sum(axis=1) == 0).sum())
    return card


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
