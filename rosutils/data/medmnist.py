"""MedMNIST's 2-D sets as one npz file each: official split, images already square and small."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from rosutils import InputError
from rosutils.data import filling, nih


PARTS = {"train": "train", "validation": "val", "test": "test"}
SIZES = (28, 64, 128, 224)
NOTES = {"dermamnist": "split by image: images of one lesion are known to be in several parts (Abhishek et al. 2025)"}
ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
CLASS_NAMES = {
    "dermamnist": ("AK", "BCC", "BKL", "DF", "MEL", "NV", "VASC"),
    "chestmnist": nih.CLASS_NAMES,
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa", "stroma",
        "adenocarcinoma",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil", "platelet",
    ),
    "organamnist": ORGANS, "organcmnist": ORGANS, "organsmnist": ORGANS,
}  # fmt: skip


def npz_file(dataset: str, pixels: int, folder: Path) -> Path:
    """The npz file of a set at one of its sizes, in `folder`; fetched by the `medmnist` package where it is absent.

    Raises InputError for a size that does not exist, or where the file can neither be found nor fetched.
    """
    if pixels not in SIZES:
        raise InputError(f"data.pixels is {pixels}, but MedMNIST comes in {', '.join(map(str, SIZES))} px")
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


def read(path: Path, dataset: str, *, to: Path) -> tuple[dict, dict]:
    """The arrays of an npz file, its images block by block into `to`, and its card: the official parts as ranges.

    Each image is a group of its own. Of ChestMNIST's fourteen labels the eight of Table III are kept. Raises InputError
    for a file that is not one of MedMNIST's 2-D sets.
    """
    try:
        with np.load(path) as file:
            labels = np.concatenate([file[f"{part}_labels"] for part in PARTS.values()])
        sizes = _copy(path, to, title=f"{dataset}, {path.name}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a MedMNIST file ({error}); delete it and download it again") from None
    ends = np.cumsum(sizes)
    split = {name: [int(end - size), int(end)] for name, size, end in zip(PARTS, sizes, ends, strict=True)}
    multilabel = labels.shape[1] > 1
    n_classes = min(labels.shape[1], 8) if multilabel else int(labels.max()) + 1
    content = {
        "images": np.load(to, mmap_mode="r"),
        "labels": labels[:, :8].astype(np.float32) if multilabel else labels[:, 0].astype(np.int64),
        "groups": np.arange(len(labels)), "names": tuple(f"{dataset}-{number:06d}" for number in range(len(labels))),
        "class_names": CLASS_NAMES.get(dataset, tuple(str(number) for number in range(n_classes))),
        "multilabel": multilabel,
    }  # fmt: skip
    options = {"dataset": dataset, "grouped_by": "image", "pixels": content["images"].shape[-1]}
    return content, {"source": "medmnist", "options": options, "split": split, "note": NOTES.get(dataset, "")}


def _copy(path: Path, to: Path, *, title: str) -> list[int]:
    """All images of an npz file, one part after the other, as one npy file [N, channels, H, W]; how many each part has."""
    with zipfile.ZipFile(path) as archive:
        shapes = [_shape(archive, part) for part in PARTS.values()]
        sizes = [shape[0] for shape in shapes]
        _, *size = shapes[0]
        header = filling.npy_header((sum(sizes), *((1, *size) if len(size) == 2 else (size[2], *size[:2]))))
        filling.require_space(to.parent, len(header) + sum(sizes) * int(np.prod(size)))
        with open(to, "wb") as file, tqdm(total=sum(sizes), desc=title, unit=" images") as bar:
            file.write(header)
            for part in PARTS.values():
                for block in _blocks(archive, part):
                    file.write(np.ascontiguousarray(block if block.ndim == 3 else block.transpose(0, 3, 1, 2)))
                    bar.update(len(block))
    return sizes


def _opened(archive: zipfile.ZipFile, part: str):
    file = archive.open(f"{part}_images.npy")
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if fortran or dtype != np.uint8 or not (len(shape) == 3 or len(shape) == 4 and shape[3] == 3):
        raise ValueError(f"{part}_images holds {dtype} {shape}, not images of a 2-D set")
    return file, shape


def _shape(archive: zipfile.ZipFile, part: str) -> tuple[int, ...]:
    file, shape = _opened(archive, part)
    file.close()
    return shape


def _blocks(archive: zipfile.ZipFile, part: str) -> Iterator[np.ndarray]:
    file, shape = _opened(archive, part)
    each = int(np.prod(shape[1:]))
    step = max(1, filling.CHUNK_BYTES // each)
    with file:
        for start in range(0, shape[0], step):
            content = file.read(min(step, shape[0] - start) * each)
            yield np.frombuffer(content, np.uint8).reshape(-1, *shape[1:])
