"""The keys of params/real.yaml's runs do not change: its study of many hours goes on while the code around it is rewritten.

The images are small PNG files written here, so that nothing but the recipes of the runs can change a key.
"""

import numpy as np
import pytest
from PIL import Image

from rosutils.settings import SETTINGS
from rosutils.store import digest
from rosutils.study import Study


# Of each artefact: the number of its trained runs, and a digest of their keys.
ARTEFACTS = {
    "table1": (130, "5ace686c461e6d0b"),
    "table3": (33, "d13bd63e7aab61af"),
    "fig2": (120, "d54cb352dfb2e70b"),
    "fig3": (176, "4dc60f5e3b6c5906"),
    "noise": (230, "8f7992810b51c2b2"),
    "readings": (304, "41ff519e9fb77ab8"),
}
PINNED = {
    "lesion, full teacher": "teacher-resnet34-b5f603d0b37d13b4",
    "lesion, subset teacher": "teacher-resnet34-031ac4d657df1b53",
    "lesion, Baseline I": "student-resnet18-9caaa7cc25c85b8b",
    "lesion, Baseline II": "student-resnet18-1d869189aaee4422",
    "lesion, Baseline III": "student-resnet18-273d6f247ceace5f",
    "lesion, Baseline III, subset teachers": "student-resnet18-1ff55a3344703f38",
    "lesion, Baseline IV": "student-resnet18-8a4f34947d39a104",
    "lesion, Baseline V": "student-resnet18-3e715d9134be0802",
    "lesion, RoS-KD": "student-resnet18-3e715d9134be0802",
    "chest, full teacher": "teacher-resnet34-e3d8d2b9bf8ab845",
    "chest, subset teacher": "teacher-resnet34-54775817ea5060db",
    "chest, Baseline I": "student-resnet18-ecc6982f1a683088",
    "chest, Baseline II": "student-resnet18-0bad332766aee7d9",
    "chest, Baseline III": "student-resnet18-0329f82d4ba05365",
    "chest, Baseline III, subset teachers": "student-resnet18-3efc142c914537bb",
    "chest, Baseline IV": "student-resnet18-88575cc904d2cd77",
    "chest, Baseline V": "student-resnet18-b2dea5902e782e23",
    "chest, RoS-KD": "student-resnet18-b2dea5902e782e23",
}


def write(folder, columns, rows) -> None:
    """A folder of 200 grey squares of 40 pixels with a table."""
    (folder / "images").mkdir(parents=True)
    lines = [",".join(["image", *columns, "group"])]
    for number in range(200):
        name = f"images/i{number:04d}.png"
        Image.fromarray(np.full((40, 40, 3), number % 251, dtype=np.uint8)).save(folder / name)
        lines.append(",".join([name, *rows(number), f"g{number // 2}"]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """The study of params/real.yaml, on the CPU, of images that stand in for the two data sets."""
    root = tmp_path_factory.mktemp("real")
    write(root / "lesions", ["label"], lambda number: [f"class{number % 8}"])
    findings = [f"finding{place}" for place in range(8)]
    write(root / "films", findings, lambda number: [str((number >> place) & 1) for place in range(8)])
    sources = {
        "lesion": {"source": "folder", "path": "lesions", "table": "labels.csv"},
        "chest": {"source": "folder", "path": "films", "table": "labels.csv", "labels": findings},
    }
    engine = {"store": str(root / "runs"), "artefacts": str(root / "figures"), "device": "cpu"}
    return Study.load("real", data={"root": str(root), "sources": sources}, engine=engine)


def trained(study, artefact) -> list[str]:
    return sorted({study.key(spec) for spec in study.runs(artefact) if spec.role in ("teacher", "bank", "student")})


@pytest.mark.parametrize("artefact", ["table1", "table3", "fig2", "fig3", "noise", "readings"])
def test_all_trained_runs_of_an_artefact_have_the_keys_that_the_study_began_with(study, artefact):
    keys = trained(study, artefact)
    assert (len(keys), digest(keys)) == ARTEFACTS[artefact]


def test_runs_of_table1_have_the_keys_that_the_study_began_with(study):
    found = {}
    for task in ("lesion", "chest"):
        there = study.for_task(task)
        found |= {f"{task}, {pool} teacher": there.teachers(task, pool)[1] for pool in ("full", "subset")}
        found |= {f"{task}, {setting.name}": there.student(task, setting.name) for setting in SETTINGS}
    assert {name: study.key(spec) for name, spec in found.items()} == PINNED
