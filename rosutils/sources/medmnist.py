"""MedMNIST's 2-D sets as one npz file each: official split, images already square and small."""

from pathlib import Path

import numpy as np

from rosutils import InputError
from rosutils.sources import nih


PARTS = {"train": "train", "validation": "val", "test": "test"}
SIZES = (28, 64, 128, 224)
NOTES = {"dermamnist": "split by image: images of one lesion are known to be in several parts (Abhishek et al. 2025)"}
CLASS_NAMES = {"dermamnist": ("AK", "BCC", "BKL", "DF", "MEL", "NV", "VASC"), "chestmnist": nih.CLASS_NAMES}


def npz_file(dataset: str, pixels: int, root: Path) -> Path:
    """The npz file of a set at one of its sizes, in `root`/medmnist; fetched by the `medmnist` package where it is absent.

    Raises InputError for a size that does not exist, or where the file can neither be found nor fetched.
    """
    if pixels not in SIZES:
        raise InputError(f"data.pixels is {pixels}, but MedMNIST comes in {', '.join(map(str, SIZES))} px")
    folder = root / "medmnist"
    path = folder / (f"{dataset}.npz" if pixels == 28 else f"{dataset}_{pixels}.npz")
    if not path.is_file():
        _download(dataset, pixels, folder, path)
    return path


def _download(dataset: str, pixels: int, folder: Path, path: Path) -> None:
    instead = f"download {path.name} from the MedMNIST record on Zenodo into {folder} by hand"
    try:
        import medmnist
    except ModuleNotFoundError:
        raise InputError(f"{path} does not exist; `pip install medmnist` lets the kit fetch it, or {instead}") from None
    if dataset not in medmnist.INFO:
        raise InputError(f"MedMNIST has no set '{dataset}'; allowed: {', '.join(sorted(medmnist.INFO))}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        getattr(medmnist, medmnist.INFO[dataset]["python_class"])(
            split="train", download=True, root=str(folder), size=pixels
        )
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{path.name} could not be fetched ({error}); {instead}") from None


def read(path: Path, dataset: str) -> tuple[dict, dict]:
    """The arrays of an npz file and its card: the official parts as ranges of examples, each image a group of its own.

    Of ChestMNIST's fourteen labels the eight of Table III are kept. Raises InputError for a file that is not MedMNIST's.
    """
    try:
        with np.load(path) as file:
            images = [file[f"{part}_images"] for part in PARTS.values()]
            labels = np.concatenate([file[f"{part}_labels"] for part in PARTS.values()])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a MedMNIST file ({error}); delete it and download it again") from None
    ends = np.cumsum([len(part) for part in images])
    split = {name: [int(end - len(part)), int(end)] for name, part, end in zip(PARTS, images, ends, strict=True)}
    stacked = np.concatenate(images)
    stacked = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    multilabel = labels.shape[1] > 1
    n_classes = min(labels.shape[1], 8) if multilabel else int(labels.max()) + 1
    class_names = CLASS_NAMES.get(dataset, tuple(str(number) for number in range(n_classes)))
    content = {
        "images": stacked, "labels": labels[:, :8].astype(np.float32) if multilabel else labels[:, 0].astype(np.int64),
        "groups": np.arange(len(labels)), "names": tuple(f"{dataset}-{number:06d}" for number in range(len(labels))),
        "class_names": class_names, "multilabel": multilabel,
    }  # fmt: skip
    return content, {
        "source": "medmnist",
        "options": {"dataset": dataset},
        "split": split,
        "note": NOTES.get(dataset, ""),
    }
