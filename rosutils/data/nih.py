"""NIH ChestX-ray14 in the NIH's own layout: eight findings (Table III), grouped by patient."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rosutils import InputError
from rosutils.data import raw


CLASS_NAMES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
OTHER_FINDINGS = (
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening", "No Finding",
)  # fmt: skip
KNOWN = {*CLASS_NAMES, *OTHER_FINDINGS}
WHERE = raw.WHERE
MODE = "L"
FOLDERS = ("images", "images_*/images", "images_*")
SUFFIXES = (".png",)
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
    return MODE


def tables(folder: Path, section) -> list[tuple[Path, tuple[str, ...]]]:
    """The data entry file with the columns needed: of the revision asked for, or else the newest there is."""
    revision = getattr(section, "revision", None)
    return [(raw.first_of(folder, [REVISIONS[revision]] if revision else list(REVISIONS.values())), COLUMNS)]


def find(folder: Path, names: Sequence[str]) -> tuple[dict, dict]:
    """Image files by name, from images_001/images to images_012/images or wherever they were unpacked."""
    found = [path for pattern in FOLDERS for path in folder.glob(pattern) if path.is_dir()]
    return raw.scan(found, SUFFIXES, with_suffix=True)


def examples(entries: pd.DataFrame, section) -> dict:
    """Names, labels float32 [N, 8] and groups int64 [N] (patients) of the rows of the data entry file.

    A finding counts when its whole name stands between the bars; images without any of the eight are kept, as
    rows of zeros. Raises InputError naming the row with a finding or a patient that is none.
    """
    # 112,120 rows hold some 800 different texts.
    texts, distinct = pd.factorize(entries["Finding Labels"])
    findings = [{name.strip() for name in text.split("|")} for text in distinct]
    for number, names in enumerate(findings):
        if not names <= KNOWN:
            raise InputError(_unknown(names - KNOWN, entries[texts == number]))
    table = np.array([[name in names for name in CLASS_NAMES] for names in findings], dtype=np.float32)
    found = {"names": entries["Image Index"].to_numpy().tolist(), "labels": table[texts], "groups": _patients(entries)}
    return found | {"class_names": CLASS_NAMES, "grouped_by": "Patient ID"}


def _unknown(names: set[str], rows: pd.DataFrame) -> str:
    return (
        f"{_where(rows)}: the finding {min(names)!r} is not one of {', '.join(sorted(KNOWN))}; "
        "download the data entry file again"
    )


def _where(rows: pd.DataFrame) -> str:
    return f"data entry file, line {rows.index[0] + 2} ({rows['Image Index'].iloc[0]})"


def _patients(entries: pd.DataFrame) -> np.ndarray:
    patients = entries["Patient ID"]
    texts, distinct = pd.factorize(patients)  # each patient has several films
    wrong = ~distinct.str.fullmatch(r"[0-9]+")[texts]
    if wrong.any():
        raise InputError(
            f"{_where(entries[wrong])}: the Patient ID {patients[wrong].iloc[0]!r} is not a whole number; "
            "download the data entry file again"
        )
    return distinct.astype(np.int64).to_numpy()[texts]
