"""NIH ChestX-ray14 in the NIH's own layout: eight findings (Table III), grouped by patient."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils.data import raw


CLASS_NAMES = tuple("Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax".split())
KNOWN = {*CLASS_NAMES, "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening", "No Finding"}
ENTRIES = "the data entry file"
WHERE, REPAIR = raw.WHERE, "download it from the publisher"
# The labels were revised in 2020; the last is that of Kaggle's sample of 5,606 images.
TABLES = {"Data_Entry_2017_v2020.csv": 2020, "Data_Entry_2017.csv": 2017, "sample_labels.csv": 2017}
# Lists of image names that fix a split: the publisher's, and those of public CheXNet reproductions.
LISTS = {"official": {"train+validation": "train_val_list.txt", "test": "test_list.txt"}}
LISTS["chexnet"] = {"train": "train_list.txt", "validation": "val_list.txt", "test": "test_list.txt"}
LIST_FOLDERS = {"official": ("",), "chexnet": ("chexnet_split", "chexnet")}


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The data entry file with the columns needed: of the revision asked for, or else the newest there is."""
    paths = [folder / name for name, year in TABLES.items() if getattr(section, "revision", None) in (None, year)]
    path = next((path for path in paths if path.is_file()), paths[0])
    return [(path, ("Image Index", "Finding Labels", "Patient ID"))]


def other_names(name: str) -> list[str]:
    """Public copies hold the images as .jpg, too."""
    return [os.path.splitext(name)[0]]


def groups(entries: pd.DataFrame, section) -> tuple[np.ndarray, str]:
    """Patients int64 [N]; raises InputError naming the row with a patient that is no number."""
    patients = entries["Patient ID"]
    wrong = patients[~patients.str.fullmatch("[0-9]+")]
    what = f"a Patient ID that is no whole number ({raw.listed(list(wrong.unique()))})"
    raw.refuse(ENTRIES, wrong.index, what, REPAIR)
    return patients.astype(np.int64).to_numpy(), "Patient ID"


def labels(entries: pd.DataFrame, section) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels float32 [N, 8]; images without any of the eight are kept, as rows of zeros.

    A finding counts when its whole name stands between the bars. Raises InputError naming the row with an unknown one.
    """
    texts, distinct = pd.factorize(entries["Finding Labels"])  # 112,120 rows hold some 800 different texts
    findings = [{name.strip() for name in text.split("|")} for text in distinct]
    for number, unknown in enumerate(sorted(names - KNOWN) for names in findings):
        lines = entries.index[texts == number] if unknown else ()
        raw.refuse(ENTRIES, lines, f"a finding {unknown} that is not one of {', '.join(sorted(KNOWN))}", REPAIR)
    return np.array([[name in names for name in CLASS_NAMES] for names in findings], np.float32)[texts], CLASS_NAMES
