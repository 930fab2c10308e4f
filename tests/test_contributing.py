"""CONTRIBUTING.md is true: in a copy of the kit a row, a source and an architecture are added as the page says, and used."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from rosutils.params import ROOT


ROW = '    Setting("Baseline VI", "all", "subset", "even"),\n    Setting("RoS-KD"'
WEIGHTING = '''
def even(k: int):
    """Every other teacher in even epochs, all in odd ones."""
    return lambda batch: torch.ones(k) if batch.epoch % 2 else torch.arange(k).remainder(2).float()
'''
BRANCH = """    if spec.weighting == "even":
        return distill.DistillationLoss(bank, distill.even(k), **options)
"""
SOURCE = '''"""HAM10000 as Kaggle has it: seven classes, grouped by lesion."""

from rosutils.data import raw

CLASS_NAMES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
WHERE, REPAIR = "DATA=folder must hold ham10000/", "download it from the publisher"
TABLE = "HAM10000_metadata.csv"


def tables(folder, section):
    return [(folder / TABLE, ("image_id", "lesion_id", "dx"))]


def groups(table, section):
    return raw.numbered(table["lesion_id"], table["image_id"]), "lesion_id"


def labels(table, section):
    raw.refuse(TABLE, table.index[~table["dx"].isin(CLASS_NAMES)], "a dx that is no class", REPAIR)
    return table["dx"].map(CLASS_NAMES.index).to_numpy(), CLASS_NAMES
'''
OPTIONS = '''class Ham10000(Source):
    """The folder ham10000/ as Kaggle has it."""

    source: Literal["ham10000"]


SOURCES = {'''
# file, what stands there, what is to stand there: every edit that the page names, and no other
EDITS = [
    ("settings.py", '    Setting("RoS-KD"', ROW),
    ("distill.py", "\nclass EpochGenerator", WEIGHTING + "\n\nclass EpochGenerator"),
    ("study/making.py", "    fixed = weights.", BRANCH + "    fixed = weights."),
    ("paper/look.py", '    "RoS-KD": (', '    "Baseline VI": ("#000000", "h", (2, 2)),\n    "RoS-KD": ('),
    ("params/sources.py", "SOURCES = {", OPTIONS),
    ("params/sources.py", '"folder": Folder}', '"folder": Folder, "ham10000": Ham10000}'),
    ("data/sources.py", '"folder": folder}', '"folder": folder, "ham10000": ham10000}'),
    ("data/sources.py", "import cache, decode, folder, ", "import cache, decode, folder, ham10000, "),
    ("params/sections.py", '"densenet121"]\n', '"densenet121", "shufflenet_v2_x0_5"]\n'),
    ("study/costs.py", '"densenet121": 1.2}', '"densenet121": 1.2, "shufflenet_v2_x0_5": 0.2}'),
    ("models.py", "ARCHITECTURES = {\n", 'ARCHITECTURES = {\n    "shufflenet_v2_x0_5": "fc",\n'),
]  # fmt: skip
SCRIPT = """
import json, sys
from pathlib import Path
from rosutils.data.sources import open_source
from rosutils.params import source
from rosutils.paper import table1
from rosutils.settings import ROWS
from rosutils.study import Study

folder, sections = Path(sys.argv[1]), json.loads(sys.argv[2])
found = open_source(
    source({"source": "ham10000"}), pixels=40, root=folder, allow_missing=False, cache_root=folder / "cache"
)
told = {"labels": found.labels.tolist(), "groups": found.groups.tolist(), "classes": found.class_names}
study = Study.load("smoke", **sections)
student = study.student("lesion", "Baseline VI")
study.ensure([*student.teachers, student])
told |= {"rows": ROWS, "student": study.key(student), "all": [study.key(spec) for spec in study.runs("table1")]}
told |= {"teachers": [study.run(spec).about()["recipe"]["architecture"] for spec in student.teachers]}
told |= {"table": list(table1.table(study).index.get_level_values(-1))}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory, tiny_sections) -> dict:
    """What a copy of the kit says that was changed as the page says."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("rosutils", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "rosutils/data/ham10000.py").write_text(SOURCE, encoding="utf-8")
    for name, before, after in EDITS:
        path = folder / "rosutils" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name}: {before!r} stands there {text.count(before)} times"
        path.write_text(text.replace(before, after), encoding="utf-8")
    images = folder / "ham10000" / "HAM10000_images_part_1"
    images.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (50, 40), (60 * number, 0, 0)).save(images / f"ISIC_{number}.jpg")
    rows = [f"HAM_{number // 2},ISIC_{number},{label}" for number, label in enumerate(("nv", "nv", "mel", "vasc"))]
    (folder / "ham10000/HAM10000_metadata.csv").write_text("\n".join(["lesion_id,image_id,dx", *rows, ""]))
    sections = tiny_sections(folder, teachers={"architectures": ["shufflenet_v2_x0_5", "mobilenet_v2"]})
    command = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(sections)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_row_of_table_1_is_added_as_the_page_says(told):
    assert "Baseline VI" in told["rows"] and told["student"] in told["all"]
    assert set(told["rows"]) <= set(told["table"])


def test_a_source_of_images_is_added_as_the_page_says(told):
    assert [told["classes"][label] for label in told["labels"]] == ["nv", "nv", "mel", "vasc"]
    assert told["groups"] == [0, 0, 1, 1]


def test_an_architecture_is_added_as_the_page_says(told):
    assert told["teachers"] == ["shufflenet_v2_x0_5", "mobilenet_v2"]
