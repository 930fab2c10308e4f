"""NIH ChestX-ray14 in the NIH's own layout: eight findings (Table III), grouped by patient."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


CLASS_NAMES = tuple("Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax".split())
OTHERS = ("Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening", "No Finding")
KNOWN = {*CLASS_NAMES, *OTHERS}
WHERE, REPAIR = raw.WHERE, "download it again"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
REVISIONS = {2020: "Data_Entry_2017_v2020.csv", 2017: "Data_Entry_2017.csv"}  # the labels were revised in 2020
# Lists of image names that fix a split: the publisher's, whose first list holds training and validation, and the
# one of public CheXNet reproductions.
LISTS = {
    "official": {"train+validation": "train_val_list.txt", "test": "test_list.txt"},
    "chexnet": {"train": "train_list.txt", "validation": "val_list.txt", "test": "test_list.txt"},
}
LIST_FOLDERS = {"official": ("",), "chexnet": ("chexnet_split", "chexnet")}


def mode(section) -> str:
    """Grey images."""
    return "L"


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The data entry file with the columns needed: of the revision asked for, or else the newest there is."""
    names = [REVISIONS[section.revision]] if section and section.revision else list(REVISIONS.values())
    return [(raw.first_of(folder, names), COLUMNS)]


def other_names(name: str) -> list[str]:
    """Public copies hold the images as .jpg, too."""
    return [os.path.splitext(name)[0]]


def groups(entries: pd.DataFrame, section) -> tuple[np.ndarray, str]:
    """Patients int64 [N]; raises InputError naming the row with a patient that is no number."""
    wrong = ~entries["Patient ID"].str.fullmatch(r"[0-9]+")
    if wrong.any():
        raise InputError(
            f"{_where(entries[wrong])}: the Patient ID {entries['Patient ID'][wrong].iloc[0]!r} is not a whole number; "
            "download the data entry file again"
        )
    return entries["Patient ID"].astype(np.int64).to_numpy(), "Patient ID"


def labels(entries: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels float32 [N, 8]; images without any of the eight are kept, as rows of zeros.

    A finding counts when its whole name stands between the bars. Raises InputError naming the row with an unknown one.
    """
    texts, distinct = pd.factorize(entries["Finding Labels"])  # 112,120 rows hold some 800 different texts
    findings = [{name.strip() for name in text.split("|")} for text in distinct]
    for number, names in enumerate(findings):
        if not names <= KNOWN:
            raise InputError(
                f"{_where(entries[texts == number])}: the finding {min(names - KNOWN)!r} is not one of "
                f"{', '.join(sorted(KNOWN))}; download the data entry file again"
            )
    return np.array([[name in names for name in CLASS_NAMES] for names in findings], np.float32)[texts], CLASS_NAMES


def _where(rows: pd.DataFrame) -> str:
    return f"data entry file, line {rows.index[0]} ({rows['Image Index'].iloc[0]})"
