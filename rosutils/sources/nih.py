"""NIH ChestX-ray14 in the NIH's own layout: eight findings (Table III), grouped by patient."""

import numpy as np
import pandas as pd

from rosutils import InputError


CLASS_NAMES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
OTHER_FINDINGS = (
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening", "No Finding",
)  # fmt: skip
KNOWN = {*CLASS_NAMES, *OTHER_FINDINGS}
MODE = "L"
FOLDERS = ("images", "images_*/images", "images_*")
SUFFIXES = (".png",)
NAMES_HAVE_SUFFIX = True
# Alternatives (the first one present is read: the labels were revised in 2020) and the columns needed, first
# the one with the image's name.
TABLES = (
    (("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), ("Image Index", "Finding Labels", "Patient ID")),
)  # fmt: skip


def examples(entries: pd.DataFrame) -> dict:
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
    return {"names": list(entries["Image Index"]), "labels": table[texts], "groups": _patients(entries)}


def _unknown(names: set[str], rows: pd.DataFrame) -> str:
    return (
        f"{_where(rows)}: the finding {min(names)!r} is not one of {', '.join(sorted(KNOWN))}; "
        "download the data entry file again"
    )


def _where(rows: pd.DataFrame) -> str:
    return f"data entry file, line {rows.index[0] + 2} ({rows['Image Index'].iloc[0]})"


def _patients(entries: pd.DataFrame) -> np.ndarray:
    patients = entries["Patient ID"]
    wrong = ~patients.str.fullmatch(r"[0-9]+")
    if wrong.any():
        raise InputError(
            f"{_where(entries[wrong])}: the Patient ID {patients[wrong].iloc[0]!r} is not a whole number; "
            "download the data entry file again"
        )
    return patients.astype(np.int64).to_numpy()
