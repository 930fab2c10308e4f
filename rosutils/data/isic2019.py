"""ISIC 2019 (task 1, training part) in the challenge's own layout: eight classes, grouped by lesion."""

from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


CLASS_NAMES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
WHERE, REPAIR = raw.WHERE, "download it from the publisher"
TRUTH, METADATA = "ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"
DOWNSAMPLED = "_downsampled"


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The two csv files with the columns needed, first the one with the image's name."""
    needed = ((TRUTH, ("image", *CLASS_NAMES, "UNK")), (METADATA, ("image", "lesion_id")))
    return [(folder / name, columns) for name, columns in needed]


def other_names(name: str) -> list[str]:
    """`_downsampled` may be at a name or at its file only."""
    return [name.removesuffix(DOWNSAMPLED) if name.endswith(DOWNSAMPLED) else name + DOWNSAMPLED]


def groups(truth: pd.DataFrame, metadata: pd.DataFrame, section) -> tuple[np.ndarray, str]:
    """Lesions int64 [N]; an image without a lesion_id is one of its own. Raises InputError for one that the metadata lack."""
    lesions = metadata.set_index("image")["lesion_id"].reindex(truth["image"])
    if len(absent := lesions.index[lesions.isna()]):
        what = f"no row for {len(absent):,} of the {len(truth):,} images in {TRUTH} (first: {absent[0]})"
        raise InputError(f"{METADATA} has {what}; download both files again")
    return raw.numbered(lesions.reset_index(drop=True), truth["image"]), "lesion_id"


def labels(truth: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels int64 [N] over the eight classes.

    Raises InputError naming the row that has not exactly one of them (UNK is the challenge's test-time class).
    """
    columns = [*CLASS_NAMES, "UNK"]
    values = truth[columns].apply(pd.to_numeric, errors="coerce").to_numpy()
    wrong = ~np.isin(values, (0, 1)).all(axis=1) | (values[:, :-1].sum(axis=1) != 1) | (values[:, -1] != 0)
    what = f"not exactly one 1 in {', '.join(CLASS_NAMES)} with 0 in the others and UNK"
    raw.refuse(TRUTH, truth.index[wrong], what, REPAIR)
    return values[:, :-1].argmax(axis=1), CLASS_NAMES
