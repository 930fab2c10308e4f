"""A study without its images: an archive of its runs is enough for every table and figure that shows none."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rosutils import InputError, paper
from rosutils.data import synthetic
from rosutils.data.sources import NoImages
from rosutils.paper import table1
from rosutils.paper.report import redraw, write_report
from rosutils.study import Study
from rosutils.study.verification import problems, provenance_in


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Forty pictures of two classes with their table, as a person has them."""
    folder = tmp_path_factory.mktemp("raw")
    content = synthetic.make(modality="dermoscopy", examples=48, seed=3, pixels=40)
    for number, image in enumerate(content["images"]):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number}.png")
    classes = [("naevus", "other")[int(label > 3)] for label in content["labels"]]
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(48)], "label": classes, "group": np.arange(48) // 2})
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def own(tiny_sections, raw, tmp_path_factory):
    """A study of that folder, and the same without the folder in another place, into which its archive came."""

    def load(place, root):
        data = {"pixels": 36, "root": root, "sources": {"lesion": {"source": "folder"}}}
        return Study.load("smoke", **tiny_sections(place) | {"data": data})

    study = load(tmp_path_factory.mktemp("here"), str(raw))
    study.ensure([*study.runs("teachers"), *study.runs("table1")])
    there = load(tmp_path_factory.mktemp("there"), None)
    with pytest.raises(InputError, match="needs raw images"):
        there.task("lesion")
    file = there.folder / "runs.zip"
    assert study.archive(file) == len([spec for spec in study.unique(study.all_runs()) if study.run(spec)])
    there.store.adopt(file)
    return study, there


def test_the_numbers_are_the_same_without_the_images(own):
    study, there = own
    assert there.task("lesion").fingerprint == study.task("lesion").fingerprint
    pd.testing.assert_frame_equal(there.results(), study.results())
    pd.testing.assert_frame_equal(table1.TABLE.make(there), table1.TABLE.make(study))


def test_everything_is_drawn_but_what_looks_at_images_and_what_was_not_run(own, monkeypatch):
    study, there = own
    wanted = {"class_counts", "checks", "soft_targets", "reliability", "weights", "table1", "fig4"}
    some = [item for item in paper.ITEMS if item.name in wanted]
    monkeypatch.setattr(paper, "ITEMS", some)
    left = dict(text.split(" is left as it was: ") for text in redraw(there))
    blind = [title for title, why in left.items() if "looks at images" in why]
    assert blind == ["Images (checks)", "Eq. 3 (soft_targets)"]
    assert any("runs are missing" in why for why in left.values())
    without_banks = [title for title, why in left.items() if "an archive leaves out" in why]
    assert without_banks == ["Reliability of the soft targets (reliability)"]
    drawn = {path.name for path in there.figures.iterdir()}
    assert drawn >= {"table1.csv", "table1.png", "class_counts_lesion.pdf", "report.html", "provenance.json"}
    assert "checks_lesion.png" not in drawn
    assert not [text for text in redraw(study) if "looks at images" in text]
    both = drawn & {path.name for path in study.figures.iterdir()} - {"report.html", "provenance.json"}
    assert both >= {"table1.csv", "table1.png", "class_counts_lesion.pdf", "weights.png"}
    for name in sorted(both):
        assert (there.figures / name).read_bytes() == (study.figures / name).read_bytes(), name
    pages = [(each.figures / "report.html").read_text() for each in own]
    first, second = (page.split("<summary>Data</summary>")[1].split("</pre>")[0] for page in pages)
    assert first == second and "images_named" in first


def test_what_was_drawn_elsewhere_stays_in_the_report_and_what_this_study_did_not_make_does_not(own):
    """A red picture that another command left was shown as Fig. 4, listed, and called "as computed"."""
    study, there = own
    shutil.copytree(study.figures, there.figures, dirs_exist_ok=True)
    Image.new("RGB", (40, 20), "red").save(there.figures / "fig4_lesion.png")
    page, files = write_report(there).read_text(), provenance_in(there.figures)["files"]
    assert "checks_lesion.png" in files and "checks-lesion" in page.replace("_", "-")
    assert "fig4_lesion.png" not in files and "fig4-lesion" not in page.replace("_", "-")
    [problem] = problems(there)
    assert "fig4_lesion.png" in problem and "the study did not make it" in problem


def test_nothing_is_trained_on_images_that_are_not_there(own):
    _, there = own
    with pytest.raises(NoImages, match=r"runs are missing .* images of lesion .* not here"):
        there.ensure(there.runs("fig4"))
    spec = there.student("lesion", "RoS-KD")
    with pytest.raises(NoImages, match="only their labels"):
        next(iter(there.loader(spec, there.training_index(spec))))
