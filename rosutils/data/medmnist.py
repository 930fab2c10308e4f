"""MedMNIST's 2-D sets as one npz file each: official split, images already square and small."""

import zipfile
from pathlib import Path

import numpy as np

from rosutils import InputError
from rosutils.data import cache, nih


PARTS = {"train": "train", "validation": "val", "test": "test"}
SIZES = (28, 64, 128, 224)
NOTES = {"dermamnist": "split by image: images of one lesion are known to be in several parts (Abhishek et al. 2025)"}
# The paper's tasks in its words; the names of other sets are the package's.
CLASS_NAMES = {"dermamnist": ("AK", "BCC", "BKL", "DF", "MEL", "NV", "VASC"), "chestmnist": nih.CLASS_NAMES}


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
    try:
        import medmnist
    except ModuleNotFoundError:
        raise InputError(f"{path} does not exist; `pip install medmnist` lets the kit fetch it, or {instead}") from None
    if dataset not in medmnist.INFO:
        raise InputError(f"MedMNIST has no set '{dataset}'; allowed: {', '.join(sorted(medmnist.INFO))}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch = getattr(medmnist, medmnist.INFO[dataset]["python_class"])
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
        with np.load(path) as file:
            labels = [file[f"{part}_labels"] for part in PARTS.values()]
            images = _copied(file, labels, pixels, folder)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a MedMNIST file ({error}); delete it and download it again") from None
    ends, labels = np.cumsum([len(part) for part in labels]), np.concatenate(labels)
    multilabel = labels.shape[1] > 1
    names = _class_names(dataset, labels)
    if int(labels.max()) >= (2 if multilabel else len(names)):
        raise InputError(f"{path} has the label {labels.max()}, but {dataset} has the classes {', '.join(names)}")
    content = {
        "images": images,
        "labels": labels[:, : len(names)].astype(np.float32) if multilabel else labels[:, 0].astype(np.int64),
        "groups": np.arange(len(labels)),
        "names": tuple(f"{dataset}-{number:06d}" for number in range(len(labels))),
        "class_names": names,
        "multilabel": multilabel,
    }
    split = {part: [int(start), int(end)] for part, start, end in zip(PARTS, (0, *ends), ends, strict=False)}
    options = {"dataset": dataset, "grouped_by": "image", "pixels": pixels}
    return content, {"options": options, "split": split, "note": NOTES.get(dataset, "")}


def _copied(file, labels: list[np.ndarray], pixels: int, folder: Path) -> np.ndarray:
    """All images of an npz file, one part after the other, as uint8 [N, channels, H, W]."""
    images, end = None, 0
    for part, their in zip(PARTS.values(), labels, strict=True):
        block = file[f"{part}_images"]
        block = block[..., None] if block.ndim == 3 else block
        if (
            block.dtype != np.uint8
            or block.ndim != 4
            or block.shape[1:3] != (pixels, pixels)
            or block.shape[3] not in (1, 3)
        ):
            raise ValueError(f"{part}_images holds {block.dtype} {block.shape}, not images of a 2-D set at {pixels} px")
        if (
            their.ndim != 2
            or their.dtype.kind not in "iu"
            or len(their) != len(block)
            or their.shape[1:] != labels[0].shape[1:]
        ):
            raise ValueError(f"{part}_labels holds {their.dtype} {their.shape} for {len(block):,} images")
        if images is None:
            images = cache.images_in(folder, (sum(map(len, labels)), block.shape[3], pixels, pixels))
        images[end : end + len(block)] = block.transpose(0, 3, 1, 2)
        end += len(block)
    images.flush()
    return images


def _class_names(dataset: str, labels: np.ndarray) -> tuple[str, ...]:
    if dataset in CLASS_NAMES:
        return CLASS_NAMES[dataset]
    try:
        from medmnist import INFO

        return tuple(INFO[dataset]["label"].values())
    except (ModuleNotFoundError, KeyError):
        return tuple(str(number) for number in range(labels.shape[1] if labels.shape[1] > 1 else int(labels.max()) + 1))
