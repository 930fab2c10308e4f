"""NIH ChestX-ray14 in the NIH Clinical Center's own layout: eight findings (Table III), grouped by patient."""

import numpy as np
import pandas as pd

from rosutils import InputError


CLASS_NAMES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
)  # fmt: skip
OTHER_FINDINGS = (
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Hernia", "Pleural_Thickening", "No Finding",
)  # fmt: skip
MODE = "L"
FOLDERS = ("images", "images_*/images", "images_*")
SUFFIXES = (".png",)
NAMES_HAVE_SUFFIX = True
# Alternatives (the first one present is read: the labels were revised in 2020) and the columns needed, first the
# one with the image's name.
TABLES = (
    (("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), ("Image Index", "Finding Labels", "Patient ID")),
)  # fmt: skip


def examples(entries: pd.DataFrame) -> dict:
    """Names, labels float32 [N, 8] and groups int64 [N] (patients) of the rows of the data entry file.

    A finding counts when its whole name stands between the bars; images without any of the eight are kept, as
    rows of zeros. Raises InputError naming the row with a finding or a patient that is none.
    """
    findings = [[name.strip() for name in text.split("|")] for text in entries["Finding Labels"]]
    known = {*CLASS_NAMES, *OTHER_FINDINGS}
    for line, image, names in zip(entries.index + 2, entries["Image Index"], findings, strict=True):
        if not known.issuperset(names):
            unknown = next(name for name in names if name not in known)
            raise InputError(
                f"line {line} ({image}): the finding {unknown!r} is not one of {', '.join(sorted(known))}; "
                "download the data entry file again"
            )
    labels = np.array([[name in names for name in CLASS_NAMES] for names in findings], dtype=np.float32)
    return {"names": list(entries["Image Index"]), "labels": labels, "groups": _patients(entries)}


def _patients(entries: pd.DataFrame) -> np.ndarray:
    patients = entries["Patient ID"]
    wrong = ~patients.str.fullmatch(r"\d+")
    if wrong.any():
        row = entries[wrong].iloc[0]
        raise InputError(
            f"line {row.name + 2} ({row['Image Index']}): the Patient ID {row['Patient ID']!r} is not a whole "
            "number; download the data entry file again"
        )
    return patients.astype(np.int64).to_numpy()
