"""Table III: our runs beside every method of the paper, and beside public networks that are marked as added."""

import pytest
from rows import SEEDS, STEP, frame, rows, study_of

from rosutils.paper import table3
from rosutils.paper.cells import printable
from rosutils.paper.published import published
from rosutils.settings import CHANCE


CLASSES = published()["table3"]["classes"]
NO_SKILL = dict(zip(CHANCE, (0.2, 0.1, 0.3), strict=True))


@pytest.fixture(autouse=True)
def scale(monkeypatch):
    monkeypatch.setattr(type(table3.TABLE), "watermark", lambda item, study: study.watermark())


def runs(seeds=SEEDS):
    """AUROC of class number i is 0.7 + i / 100, their mean 0.735; of no skill as it is, and 0.05 more elsewhere."""
    which = {"variant": "table3", "metric": "auroc", "student": "densenet121", "seeds": seeds}
    found = rows("chest", "RoS-KD", 0.735, **which, average="macro")
    for place, name in enumerate(CLASSES):
        found += rows("chest", "RoS-KD", 0.7 + place / 100, **which, average="", **{"class": name})
    for name, value in NO_SKILL.items():
        nobody = which | {"student": "", "average": "macro"}
        found += rows("chest", name, value, **nobody) + rows("chest", name, value + 0.05, **nobody | {"variant": ""})
    return found


def table(found=None, tasks=None):
    study = study_of(frame(runs() if found is None else found), tasks or {"chest": {"multilabel": True}})
    made = table3.table(study)
    return made, table3.TABLE.caption(study, made)


def test_it_is_mean_and_std_over_runs_beside_every_method_of_the_paper():
    found, caption = table()
    assert list(found.columns.unique(0)) == [*CLASSES, "Mean"]
    ours = found["Effusion"].loc["RoS-KD"]
    values = [ours[name] for name in ("published", "published std", "ours", "std", "n", "difference")]
    assert values == pytest.approx([0.89, 0.01, 0.72, STEP, 3, 0.72 - 0.89])
    assert ours["runs"] == tuple(f"RoS-KD-{s}" for s in SEEDS)
    printed = {method["method"]: method for method in published()["table3"]["methods"]}
    assert list(found.index[:8]) == list(printed) and found["Mass"].drop("RoS-KD")["ours"].isna().all()
    for name, method in printed.items():
        assert found.xs("published", axis=1, level=1).loc[name].tolist() == [*method["auroc"], method["mean"]]
    assert "over 3 independent runs" in caption


def test_no_skills_mean_stands_under_the_papers_methods_and_nothing_of_it_in_the_classes():
    found, _ = table()
    part = found.iloc[8 : 8 + len(CHANCE)]
    assert list(part.index) == list(CHANCE) and part["Mean"]["ours"].tolist() == pytest.approx(list(NO_SKILL.values()))
    assert printable(found).loc[CHANCE[0]].tolist() == [*[""] * len(CLASSES), "0.200 ± 0.010"]


def test_what_we_add_is_marked_and_on_which_split():
    found, caption = table()
    anchors = published()["table3"]["anchors"]
    added = found[found.index.str.startswith("added (")]
    assert len(added) == len(anchors) and added.index.is_unique
    assert added.loc[:, (slice(None), ["published", "ours", "difference"])].isna().all(axis=None)
    for (label, row), anchor in zip(added.xs("public", axis=1, level=1).iterrows(), anchors, strict=True):
        assert anchor["method"] in label and label.endswith("public split") == anchor["same_split"]
        assert row[CLASSES].tolist() == anchor["auroc"] and anchor["source"] in caption
        assert row["Mean"] == pytest.approx(sum(anchor["auroc"]) / 8)
    assert "not in the paper" in caption


def test_a_task_that_is_not_the_papers_has_our_row_and_no_skills_alone():
    own = [row | {"task": "retina", "class": row["class"].upper()} for row in runs()]
    found, caption = table(own, {"retina": {"multilabel": True}})
    assert list(found.index) == ["RoS-KD", *CHANCE] and found["EFFUSION"].loc["RoS-KD", "ours"] == pytest.approx(0.72)
    assert found["Mean"]["published"].isna().all() and "Added by us" not in caption


def test_classes_are_columns_and_what_is_said_of_them_lines():
    text = printable(table()[0])
    assert list(text.columns) == [*CLASSES, "Mean"] and text.index.is_unique
    kinds = [label.partition("RoS-KD, ")[2] for label in text.index if "RoS-KD" in label]
    assert kinds == ["paper", "ours", "difference"]
    assert text.loc["RoS-KD, ours", "Nodule"] == "0.750 ± 0.010" and text.loc["Yao et al. [4]", "Mean"] == "0.786"


def test_nothing_run_is_a_blank_table_that_says_so():
    found, caption = table([])
    assert found.xs("ours", axis=1, level=1).isna().all(axis=None) and "not run yet" in caption
