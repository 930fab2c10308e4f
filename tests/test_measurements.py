"""From runs to rows: attacks, surfaces and agreement with the labels, each against the numbers worked out by hand."""

import pandas as pd
import pytest
from sklearn.metrics import f1_score

from rosutils.landscape import basin_area
from rosutils.results import select
from rosutils.settings import PRINTED_AVERAGE
from rosutils.study import Study
from rosutils.study.experiment import bank_of, thresholds_of
from rosutils.study.needs import probe_of
from rosutils.study.variants import Variant


NOISY = Variant("symmetric", "0.4")


@pytest.fixture(scope="module")
def rows(probed) -> pd.DataFrame:
    """Of the first replicate."""
    return probed.results().query("replicate == 0")


@pytest.mark.parametrize("task", ["lesion", "chest"])
@pytest.mark.parametrize("setting", ["Baseline III, subset teachers", "RoS-KD"])
@pytest.mark.parametrize("name", ["before", "fgsm linf", "pgd l2-scaled"])
def test_f1_under_attack_is_scikit_learns(probed, rows, task, setting, name):
    spec, about = probe_of(probed, "attack", task, setting), probed.task(task)
    eps = probed.parameters.attacks.eps
    kept = probed.run(spec).tensors("logits")
    logits = kept["before"] if name == "before" else kept[f"{name} {eps!r}"]
    labels = about.labels[probed.sample(task, probed.parameters.attacks.examples)]
    average = PRINTED_AVERAGE[about.multilabel]
    decided = logits.argmax(1)
    if about.multilabel:
        decided = logits.double().sigmoid() >= thresholds_of(probed, spec.of, spec.state)
    expected = f1_score(labels.numpy(), decided.numpy(), average=average, zero_division=0)
    attack, norm = ("pgd", "linf") if name == "before" else name.split()
    which = {"attack": attack, "norm": norm, "eps": 0.0 if name == "before" else eps}
    found = select(rows, task=task, setting=setting, metric="f1", average=average, class_="", variant="", **which)
    assert set(found["run"]) <= {probed.key(spec), probed.key(probe_of(probed, "curve", task, setting))}
    assert found["value"].unique().tolist() == [pytest.approx(expected, abs=1e-12)]


def test_a_surface_gives_a_basin_for_each_level_and_pair_of_directions(probed, rows):
    areas = select(rows, metric="basin_area", task="lesion", setting="RoS-KD", variant="landscape", variant_value="")
    levels, directions = probed.parameters.landscape.levels, probed.parameters.landscape.directions
    assert len(areas) == len(levels) * len(directions)
    for row in areas.to_dict("records"):
        surface = probed.store.get(row["run"]).tensors("surface")["loss"].numpy()
        assert row["value"] == basin_area(surface, float(row["average"]))
    copied = select(rows, metric="basin_area", variant="landscape", variant_value="BatchNorm as copied")
    assert set(copied["setting"]) == {"RoS-KD"} and set(areas["class"]) == {f"directions {seed}" for seed in directions}


def test_agreement_of_students_and_teachers_counts_the_changed_labels(probed, rows):
    there = probed.variants[NOISY]
    task, train = there.task("lesion"), there.task("lesion").split["train"]
    given, clean = task.labels[train], task.clean_labels[train]
    changed = given != clean
    student, teacher = there.student("lesion", "Baseline I"), there.teachers("lesion", "subset")[0]
    probe = next(s for s in probed.runs("noise") if s.role == "agreement" and s.of == student)
    for setting, network, logits in (
        ("Baseline I", "mobilenet_v2", there.run(probe).tensors("logits")["train"]),
        ("teacher, subset", "mobilenet_v2", there.run(bank_of(teacher)).tensors("logits")["train"].mean(0)),
    ):
        which = {"task": "lesion", "variant": NOISY.kind, "variant_value": NOISY.value, "setting": setting}
        found = select(rows, average="changed", class_="", student=network, **which).set_index("metric")["value"]
        for name, labels in (("agreement_clean", clean), ("agreement_given", given)):
            said = logits.argmax(1)[changed] == labels[changed]
            assert found[name] == pytest.approx(float(said.double().mean()))


def test_noise_is_measured_on_the_labels_that_were_given(probed, rows):
    there = probed.variants[NOISY]
    measured = select(rows, metric="noise_rate", task="lesion")
    assert set(measured["setting"]) == {""}
    rates = {Variant(row.variant, row.variant_value): row.value for row in measured.itertuples()}
    assert rates[NOISY] == there.task("lesion").noise_rate and rates[Variant()] == probed.task("lesion").noise_rate
    assert 0.2 < there.task("lesion").noise_rate < 0.6


def test_what_is_finished_is_measured_and_nothing_else(probed, rows):
    assert set(rows["setting"]) >= {"RoS-KD", "Baseline I"}
    assert rows.loc[rows["metric"] == "f1", "value"].between(0, 1).all()
    other = Study.load("smoke", engine=probed.parameters.engine.model_dump(), distillation={"alpha": 0.5})
    missing, measured = set(other.missing(other.all_runs())), set(other.measured())
    assert missing and measured and not missing & measured
