"""The study of params/real.yaml as it is committed: from its archive alone everything is found and is what is shown."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rosutils import InputError, paper, results
from rosutils.intervals import paired_difference
from rosutils.paper.cells import interval, signed
from rosutils.params import ROOT
from rosutils.settings import PLAIN, ROWS
from rosutils.study import Study, verification
from rosutils.study.measurements import rows_of


FIGURES = ROOT / "figures" / "real"
SUBSETS, PIXELS = "Baseline III, RoS-KD's teachers", "logistic regression on pixels"  # as the README calls them


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """The study on a machine without its images and, but for CUDA machines, without such a device as it was made on."""
    store = tmp_path_factory.mktemp("runs")
    loaded = Study.load("real", engine={"store": str(store), "device": "cpu"})
    loaded.store.adopt(FIGURES / "runs.zip")
    return loaded.as_made()


def test_every_run_is_found_under_the_key_that_it_was_made_under(study):
    assert study.made_on == "cuda" and study.device.type == "cpu"
    assert study.missing(study.all_runs()) == [] and len(study.unique(study.all_runs())) == 898


def test_the_committed_numbers_are_those_of_the_runs(study):
    """Of every tenth run, whatever it is: `verify` measures all of them."""
    written = results.read(FIGURES / "results.csv")
    keys = sorted(set(written["run"]))[::10]
    some = [rows for spec in study.measured() if study.key(spec) in keys for rows in rows_of(study, spec)]
    both = results.validate(pd.concat(some)).merge(written, "left", results.KEYS, suffixes=("", "_written"))
    np.testing.assert_allclose(both["value"], both["value_written"], rtol=1e-12)
    assert (both["run"] == both["run_written"]).sum() == written["run"].isin(keys).sum() > 1500
    assert list(verification.changed_files(FIGURES)) == []


def test_table1_of_the_readme_is_that_of_the_study():
    rows = results.read(FIGURES / "results.csv")
    lines = [
        line.split("|")[1:-1] for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if " ± " in line
    ]
    told = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines if len(line) == 5}
    names = {name.partition(",")[0]: name for name in told if name not in (SUBSETS, PIXELS)}
    names |= {"Baseline III, subset teachers": SUBSETS, PLAIN: PIXELS}
    assert set(names) == {*ROWS, PLAIN}
    own = {"variant": "", "attack": "", "class": ""}
    for place, which in enumerate([("lesion", "f1", "weighted"), ("chest", "auroc", "macro")]):
        own |= dict(zip(("task", "metric", "average"), which, strict=True))
        found = results.select(rows, **own).pivot_table(index="replicate", columns="setting", values="value")
        for setting, name in names.items():
            mean, difference = told[name][2 * place : 2 * place + 2]
            assert mean == f"{found[setting].mean():.3f} ± {found[setting].std():.3f}"
            gap = paired_difference(found["RoS-KD"], found[setting])
            assert difference in ("", f"{signed(gap.mean)} ({interval(gap.low, gap.high)})"), setting
            assert difference or setting in ("RoS-KD", PLAIN)


def test_no_picture_of_an_image_is_committed():
    looking = tuple(item.name for item in paper.ITEMS if item.pixels)
    assert looking and not [path.name for path in FIGURES.iterdir() if path.name.startswith(looking)]
    text = (FIGURES / "report.html").read_text(encoding="utf-8")
    assert not any(f"({name}_" in text for name in looking) and "(claims)" in text  # a picture's name is in its words
    assert sum(path.stat().st_size for path in (FIGURES / "runs.zip", FIGURES / "results.csv")) < 30e6


def test_nothing_is_added_on_a_machine_of_another_kind(study):
    spec = study.student("lesion", "RoS-KD", "resnet50")
    with pytest.raises(InputError, match="missing.*made on cuda.*this machine has cpu"):
        study.ensure([spec])


def test_a_study_of_another_machine_is_shown_where_it_is_whole_and_this_machines_is_not(load_tiny, tmp_path):
    chance = {"tasks": ["lesion"], "sweeps": {"noise": {"symmetric": []}, "runs": 1, "overlaps": [0.4], "readings": []}}
    own = load_tiny(tmp_path, **chance)
    assert own.as_made() is own and own.made_on == own.device.type == "cpu"
    other = Study(own.parameters, label=own.label, kind="cuda")
    for spec in other.unique(other.all_runs()):
        recipe = other.recipe(spec)
        other.store.put(other.key(spec), recipe=recipe, record={}, tensors={"weights": {"x": torch.zeros(1)}})
    assert own.as_made().made_on == "cuda"
    first = next(
        spec for spec in own.runs("table1") if spec.role == "teacher"
    )  # one of its own does not hide a whole study
    own.store.put(own.key(first), recipe=own.recipe(first), record={}, tensors={"weights": {"x": torch.zeros(1)}})
    assert own.as_made().made_on == "cuda"
    shutil.rmtree(other.store.root / other.key(other.student("lesion", "RoS-KD")))
    assert own.as_made() is own


def test_the_committed_page_is_light():
    assert (FIGURES / "report.html").stat().st_size <= 2e6
