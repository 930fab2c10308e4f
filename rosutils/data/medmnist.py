"""MedMNIST's 2-D sets as one npz file each: official split, images already square and small."""

from pathlib import Path

import numpy as np

from rosutils import InputError
from rosutils.data import cache, nih


PARTS = {"train": "train", "validation": "val", "test": "test"}
SIZES = (28, 64, 128, 224)
NOTES = {"dermamnist": "split by image: images of one lesion are known to be in several parts (Abhishek et al. 2025)"}
# The paper's tasks in its words; the names of other sets are the package's, or numbers.
CLASS_NAMES = {"dermamnist": ("AK", "BCC", "BKL", "DF", "MEL", "NV", "VASC"), "chestmnist": nih.CLASS_NAMES}


def _package():
    try:
        import medmnist
    except ModuleNotFoundError:
        return None
    return medmnist


def npz_file(dataset: str, pixels: int, folder: Path) -> Path:
    """The npz file of a set at one of its sizes, in `folder`; fetched by the `medmnist` package where it is absent.

    Raises InputError for a size that does not exist, or where the file can neither be found nor fetched.
    """
    if pixels not in SIZES:
        raise InputError(f"data.pixels is {pixels}, but MedMNIST comes in {', '.join(map(str, SIZES))} px")
    path = folder / (f"{dataset}.npz" if pixels == 28 else f"{dataset}_{pixels}.npz")
    if path.is_file():
        return path
    instead = f"download {path.name} from the MedMNIST record on Zenodo into {folder} by hand"
    if (medmnist := _package()) is None:
        raise InputError(f"{path} does not exist; `pip install medmnist` lets the kit fetch it, or {instead}")
    if dataset not in medmnist.INFO:
        raise InputError(f"MedMNIST has no set '{dataset}'; allowed: {', '.join(sorted(medmnist.INFO))}")
    folder.mkdir(parents=True, exist_ok=True)
    fetch = getattr(medmnist, medmnist.INFO[dataset]["python_class"])
    try:
        fetch(split="train", download=True, root=str(folder), size=pixels)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{path.name} could not be fetched ({error}); {instead}") from None
    return path


def read(path: Path, dataset: str, pixels: int, folder: Path) -> tuple[dict, dict]:
    """The arrays of an npz file, its images part by part into `folder`, and its card: the official parts as ranges.

    Each image is a group of its own. Of ChestMNIST's fourteen labels the eight of Table III are kept. Raises InputError
    for a file that is not one of MedMNIST's 2-D sets, or whose arrays do not fit each other.
    """
    try:
        with open(path, "rb") as stored:
            if isinstance(file := np.load(stored), np.ndarray):
                raise ValueError("it holds one array, not several by their names")
            labels = np.concatenate([file[f"{part}_labels"] for part in PARTS.values()])
            channels = 1 if file["train_images"].ndim == 3 else 3
            images, ends = cache.images_in(folder, (len(labels), channels, pixels, pixels)), [0]
            for part in PARTS.values():
                block = _images(file, part, pixels, channels, labels.shape[1])
                images[ends[-1] : ends[-1] + len(block)] = block
                ends.append(ends[-1] + len(block))
        several = labels.shape[1] > 1
        known = getattr(_package(), "INFO", {}).get(dataset, {}).get("label", {}).values()
        numbers = range(labels.shape[1] if several else int(labels.max()) + 1)
        names = CLASS_NAMES.get(dataset) or tuple(known) or tuple(map(str, numbers))
        low, high, values = labels.min(), labels.max(), 2 if several else len(names)
        if low < 0 or high >= values or several and labels.shape[1] < len(names):
            raise ValueError(f"labels {labels.shape} from {low} up to {high} for the classes {', '.join(names)}")
    except InputError:  # of the disk
        raise
    except Exception as error:  # whatever a damaged archive makes numpy, zipfile and zlib raise
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is not a MedMNIST file ({why}); delete it and download it again") from None
    content = {"names": tuple(f"{dataset}-{number:06d}" for number in range(len(labels))), "class_names": names}
    labels = labels[:, : len(names)].astype(np.float32) if several else labels[:, 0].astype(np.int64)
    content |= {"images": images, "labels": labels, "groups": np.arange(len(labels)), "multilabel": several}
    card = {"options": {"dataset": dataset, "grouped_by": "image", "pixels": pixels}, "note": NOTES.get(dataset, "")}
    return content, card | {"split": {part: list(ends[place : place + 2]) for place, part in enumerate(PARTS)}}


def _images(file, part: str, pixels: int, channels: int, columns: int) -> np.ndarray:
    """The images of a part as uint8 [n, channels, H, W]."""
    images, labels = file[f"{part}_images"], file[f"{part}_labels"]
    if images.dtype != np.uint8 or images.shape[1:] != (pixels, pixels, 3)[: 2 + channels // 2]:
        size = f"{pixels} px in {channels} channels"
        raise ValueError(f"{part}_images holds {images.dtype} {images.shape}, not images of a 2-D set at {size}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images), columns):
        raise ValueError(f"{part}_labels holds {labels.dtype} {labels.shape} for {len(images):,} images")
    return images[:, None] if channels == 1 else images.transpose(0, 3, 1, 2)
