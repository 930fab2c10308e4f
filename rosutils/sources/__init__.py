"""Where images come from: a generator, or a raw folder in its publisher's layout, prepared once."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from rosutils import InputError
from rosutils.sources import cache, isic2019, medmnist, nih, synthetic


RAW = {"isic2019": isic2019, "nih": nih}
logger = logging.getLogger(__name__)
WHERE = "DATA=folder (data.root) must be the folder that holds isic2019/ and nih/"


@dataclass(frozen=True)
class Examples:
    """Labelled images as arrays, with the groups (lesions or patients) that a split must not cut."""

    images: np.ndarray  # uint8 [N, channels, H, W], memory-mapped read-only
    labels: np.ndarray  # int64 [N], or float32 [N, C] where an image may have several classes
    groups: np.ndarray  # int64 [N]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    multilabel: bool
    fingerprint: str
    card: dict


def open_source(section, *, pixels: int, root: Path | None, allow_missing: bool, cache_root: Path) -> Examples:
    """The examples that one entry of `data.sources` describes, prepared now or found in `cache_root`.

    `section` has the attributes source ("synthetic", "isic2019", "nih" or "medmnist") and, for synthetic images,
    modality, examples and seed, for MedMNIST dataset; `root` holds the raw folders isic2019/ and nih/ (MedMNIST's
    medmnist/ is made beside the cache where it is not given); `allow_missing` accepts a partial download. Raises
    InputError for whatever is wrong with the raw folder.
    """
    if section.source == "synthetic":
        return _open_synthetic(section, pixels, Path(cache_root))
    if section.source == "medmnist":
        return _open_medmnist(section.dataset, pixels, Path(root or cache_root), Path(cache_root))
    if section.source not in RAW:
        raise InputError(
            f"data source {section.source!r} is not known; choose one of synthetic, medmnist, {', '.join(RAW)}"
        )
    if root is None:
        raise InputError(f"the source {section.source} needs raw images: {WHERE}")
    raw = Path(root) / section.source
    folder, fill = _plan(section.source, raw, pixels, allow_missing, Path(cache_root))
    return Examples(**cache.open_or_build(folder, fill))


def prepare(source: str, *, raw: Path, pixels: int, out: Path, allow_missing: bool = False) -> dict:
    """Prepare one raw folder (isic2019/ or nih/ itself) into a cache folder in `out`; returns its data card.

    It is the folder that `open_source` with `cache_root=out` looks for. A whole one is left as it is.
    """
    if source not in RAW:
        raise InputError(f"source {source!r} cannot be prepared; choose one of {', '.join(RAW)}")
    folder, fill = _plan(source, Path(raw), pixels, allow_missing, Path(out))
    whole = cache.verify(folder) is None
    card = cache.open_or_build(folder, fill, rehash=not whole)["card"]
    done = "holds them already" if whole else "is prepared"
    print(f"{folder} {done}: {card['examples']:,} images at {pixels} px")
    return card


def _open_synthetic(section, pixels: int, cache_root: Path) -> Examples:
    options = {"modality": section.modality, "examples": section.examples, "seed": section.seed}
    options["pixels"] = pixels
    # The generator's text decides its images too: a cache must not outlive a change to it.
    code = [cache.file_sha256(file) for file in sorted(Path(__file__).parent.glob("*.py"))]
    key = _short_hash(options, code)

    def fill(images_file):
        return synthetic.make(**options), {"source": "synthetic", "pixels": pixels, "options": options}

    return Examples(**cache.open_or_build(cache_root / f"synthetic-{pixels}px-{key}", fill))


def _open_medmnist(dataset: str, pixels: int, root: Path, cache_root: Path) -> Examples:
    path = medmnist.npz_file(dataset, pixels, root)
    key = _short_hash("medmnist", dataset, path.stat().st_size, str(path.resolve()))
    folder = cache_root / f"medmnist-{pixels}px-{key}"
    return Examples(**cache.open_or_build(folder, lambda images_file: medmnist.read(path, dataset)))


def _plan(source: str, raw: Path, pixels: int, allow_missing: bool, cache_root: Path):
    """The cache folder of a raw folder, and what fills it; reads tables and file names, but no image."""
    if pixels < 1:
        raise InputError(f"images cannot be prepared at {pixels} pixels; the size must be 1 or more")
    if not raw.is_dir():
        raise InputError(f"there is no folder {raw}; {WHERE}, --raw one of these two")
    layout = RAW[source]
    tables = _read_tables(raw, layout)
    rows = _sorted_by_name(layout.examples(*tables.values()))
    files = _scan(raw, layout)
    present, report = _match(rows, files, raw, next(iter(tables)), allow_missing)
    report["label_files"] = {name: cache.file_sha256(raw / name) for name in tables}
    content = {"class_names": layout.CLASS_NAMES, "multilabel": rows["labels"].ndim == 2, **present}
    key = _key(source, raw, pixels, content)

    def fill(images_file):
        title, paths = f"{source} at {pixels} px", [files[name] for name in content["names"]]
        images, sides = cache.decode_all(paths, pixels, layout.MODE, to=images_file, title=title)
        report["shorter_side"] = {"smallest": int(sides.min()), "largest": int(sides.max())}
        report["enlarged"] = int((sides < pixels).sum())
        if report["without_row"]:
            logger.warning("%s: %s images have no row and are left out", raw, f"{report['without_row']:,}")
        options = {"pixels": pixels, "resize": cache.RESIZE, "mode": layout.MODE, "pillow": PIL.__version__}
        card = {"source": source, "pixels": pixels, "options": options, "raw": report}
        return {"images": images, **content}, card

    return cache_root / f"{source}-{pixels}px-{key}", fill


def _key(source: str, raw: Path, pixels: int, content: Mapping) -> str:
    # No image is read to find the cache: the raw folder's place stands for the content of the images, their
    # names and labels for what has been downloaded so far.
    content = cache.fingerprint(np.zeros(0, np.uint8), **content)
    return _short_hash(cache.FORMAT, source, str(raw.resolve()), pixels, content)


def _short_hash(*parts) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _read_tables(raw: Path, layout) -> dict[str, pd.DataFrame]:
    tables = {}
    for alternatives, columns in layout.TABLES:
        name = next((name for name in alternatives if (raw / name).is_file()), None)
        if name is None:
            raise InputError(
                f"{raw} has no {' or '.join(alternatives)}; download it from the publisher into that folder"
            )
        tables[name] = _read_table(raw / name, columns)
    return tables


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    # Copies of NIH's 2017 file end their rows in one comma too many: the first column is no index for that.
    options = {"dtype": str, "keep_default_na": False, "index_col": False}
    try:
        table = pd.read_csv(path, usecols=lambda name: name in columns, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a csv file ({error}); download it again") from error
    absent = [column for column in columns if column not in table.columns]
    if absent or not len(table):
        what = f"no column {', '.join(absent)}" if absent else "no rows"
        raise InputError(f"{path} has {what}; download it again")
    table = table[list(columns)].fillna("").apply(lambda column: column.str.strip())
    _refuse_repeats(path, table[columns[0]])
    return table


def _refuse_repeats(path: Path, names: pd.Series):
    repeated = names[names.duplicated(keep=False)]
    if len(repeated):
        name = repeated.iloc[0]
        lines = " and ".join(str(index + 2) for index in repeated.index[repeated == name])
        raise InputError(
            f"{path} has more than one row for {repeated.nunique():,} image(s) (first: {name}, "
            f"lines {lines}); keep one row for each"
        )


def _sorted_by_name(rows: dict) -> dict:
    order = np.array(sorted(range(len(rows["names"])), key=rows["names"].__getitem__))
    return _take(rows, order)


def _take(rows: Mapping, index: np.ndarray) -> dict:
    names = tuple(rows["names"][i] for i in index)
    return {"names": names, "labels": rows["labels"][index], "groups": rows["groups"][index]}


def _scan(raw: Path, layout) -> dict[str, Path]:
    files: dict[str, Path] = {}
    folders = {folder for pattern in layout.FOLDERS for folder in raw.glob(pattern) if folder.is_dir()}
    for folder in sorted(folders):
        for file in os.listdir(folder):
            stem, suffix = os.path.splitext(file)
            # Files that begin with a dot are what macOS leaves beside the images it unpacks.
            if suffix.lower() not in layout.SUFFIXES or file.startswith("."):
                continue
            name = file if layout.NAMES_HAVE_SUFFIX else stem
            if name in files:
                where = f"{files[name]} and {folder / file}"
                raise InputError(f"the image {name} is there twice: {where}; keep one of them")
            files[name] = folder / file
    return files


def _match(rows: dict, files: Mapping, raw: Path, table: str, allow_missing: bool) -> tuple[dict, dict]:
    there = np.array([name in files for name in rows["names"]])
    missing = [name for name, found in zip(rows["names"], there, strict=True) if not found]
    if missing and not (allow_missing and there.any()):
        raise InputError(_missing_message(missing, int(there.sum()), raw, table))
    without_row = sorted(files.keys() - set(rows["names"]))
    report = {"images_named": len(there), "missing": len(missing), "first_missing": missing[:1]}
    report |= {"without_row": len(without_row), "first_without_row": without_row[:1]}
    return _take(rows, np.flatnonzero(there)), report


def _missing_message(missing: list[str], present: int, raw: Path, table: str) -> str:
    total = len(missing) + present
    what = f"{len(missing):,} of {total:,} images named in {raw / table} are missing (first: {missing[0]})"
    if not present:
        return f"{what}: no image was found; download the images into {raw}"
    return (
        f"{what}; set data.allow_missing: true / --allow-missing to go on with the {present:,} present, "
        "or finish the download"
    )
