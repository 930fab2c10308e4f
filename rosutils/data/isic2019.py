"""ISIC 2019 (task 1, training part) in the challenge's own layout: eight classes, grouped by lesion."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


CLASS_NAMES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
WHERE = raw.WHERE
MODE = "RGB"
FOLDERS = ("ISIC_2019_Training_Input", "ISIC_2019_Training_Input/ISIC_2019_Training_Input")
SUFFIXES = (".jpg", ".jpeg")
DOWNSAMPLED = "_downsampled"
TRUTH, METADATA = "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"


def mode(section) -> str:
    """Colour images."""
    return MODE


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The two csv files with the columns needed, first the one with the image's name."""
    needed = ((TRUTH, ("image", *CLASS_NAMES, "UNK")), (METADATA, ("image", "lesion_id")))
    return [(raw.first_of(folder, [name]), columns) for name, columns in needed]


def find(folder: Path, names: Sequence[str]) -> tuple[dict, dict]:
    """Image files by name, and those there twice; `_downsampled` may be at a name or at its file only."""
    files, twice = raw.scan([path for name in FOLDERS for path in [folder / name] if path.is_dir()], SUFFIXES)
    known = set(names)
    for name in known - files.keys():
        other = name.removesuffix(DOWNSAMPLED) if name.endswith(DOWNSAMPLED) else name + DOWNSAMPLED
        if other in files and other not in known:
            files[name] = files.pop(other)
    return files, twice


def examples(truth: pd.DataFrame, metadata: pd.DataFrame, section) -> dict:
    """Names, labels int64 [N] over the eight classes and groups int64 [N] (lesions), one per row of `truth`.

    An image without a lesion_id is a group of its own. Raises InputError naming the row that has not exactly
    one of the eight classes (UNK is the challenge's test-time class), or that the metadata lack.
    """
    classes = _one_hot(truth)
    lesions = metadata.set_index("image")["lesion_id"].reindex(truth["image"])
    if lesions.isna().any():
        absent = lesions.index[lesions.isna()]
        raise InputError(
            f"{METADATA} has no row for {len(absent):,} of the {len(truth):,} images in {TRUTH} "
            f"(first: {absent[0]}); download both files again"
        )
    # A NUL keeps the image's own group apart from any lesion_id.
    own_group = pd.Series(["\0" + name for name in truth["image"]], index=lesions.index)
    groups, _ = pd.factorize(lesions.where(lesions != "", own_group))
    return {
        "names": truth["image"].to_numpy().tolist(),
        "labels": classes.argmax(axis=1),
        "groups": groups.astype(np.int64),
        "class_names": CLASS_NAMES,
        "grouped_by": "lesion_id",
    }


def _one_hot(truth: pd.DataFrame) -> np.ndarray:
    columns = [*CLASS_NAMES, "UNK"]
    values = truth[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
    wrong = ~np.isin(values, (0, 1)).all(axis=1) | (values[:, :-1].sum(axis=1) != 1) | (values[:, -1] != 0)
    if wrong.any():
        row = truth[wrong].iloc[0]
        found = ", ".join(f"{name}={row[name]}" for name in columns if row[name] not in ("0", "0.0"))
        raise InputError(
            f"{TRUTH}, line {row.name + 2} ({row['image']}): {found or 'all 0'}; exactly one of "
            f"{', '.join(CLASS_NAMES)} must be 1, the others and UNK 0 ({wrong.sum():,} row(s) are not so); "
            "download the file again"
        )
    return values[:, :-1]
