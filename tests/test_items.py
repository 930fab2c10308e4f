"""Items: each has what a notebook and the report ask of it, and is written where it belongs."""

from pathlib import Path
from types import ModuleType

import matplotlib
import PIL.Image
import pytest
from rows import WATERMARK, study_of

from rosutils import paper
from rosutils.paper import look, teachers
from rosutils.paper.items import Item
from rosutils.settings import ROWS, TEACHERS
from rosutils.study.needs import ARTEFACTS


NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("item", paper.ITEMS, ids=lambda item: f"{item.name} {item.kind}")
def test_an_item_has_runs_that_the_study_knows_and_a_notebook_that_publishes_it(item):
    assert set(item.needs) <= set(ARTEFACTS) and item.kind in ("figure", "table")
    text = (NOTEBOOKS / f"{item.notebook}.ipynb").read_text(encoding="utf-8")
    modules = {name: vars(module) for name, module in vars(paper).items() if isinstance(module, ModuleType)}
    calls = [
        f"publish(paper.{module}.{name})" for module, names in modules.items() for name in names if names[name] is item
    ]
    assert item.notebook == "09_report" or any(call in text for call in calls)


def test_names_are_given_once_for_each_kind():
    names = [(item.name, item.kind) for item in paper.ITEMS]
    assert len(set(names)) == len(names)


def test_every_setting_and_kind_of_teacher_has_a_colour_marker_and_dashes_of_its_own():
    assert set(look.LOOK) == {*ROWS, *TEACHERS}
    for part in range(3):
        assert len({each[part] for each in look.LOOK.values()}) == len(look.LOOK)
    assert [len(set(look.colours(n))) for n in (2, 6, 9)] == [2, 6, 9]


def test_a_table_and_the_figures_of_each_task_are_published_under_their_names(probed):
    shown = probed.publish(teachers.TABLE)
    assert (
        "white-space: nowrap" in shown.to_html() and probed.watermark() in (probed.figures / "teachers.md").read_text()
    )
    assert probed.publish(teachers.CURVES) is None
    assert teachers.CURVES.pictures(probed) == ["teacher_curves_lesion", "teacher_curves_chest"]
    picture = probed.publish(teachers.PLOT)  # two of the file's pixels for one of the page's: sharp on dense displays
    with PIL.Image.open(probed.figures / "teachers.png") as image:
        assert image.width // 2 == picture.width and image.format == "PNG"
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # the look is the item's own, wherever it is written
        [figure] = teachers.PLOT.write(probed).values()
    assert figure.get_supxlabel() == probed.watermark() and figure.axes[0].xaxis.label.get_size() == 7.5
    assert teachers.PLOT.pictures(probed) == ["teachers"]


def test_a_figure_is_drawn_again_only_where_it_is_not_what_would_be_drawn(probed, monkeypatch):
    """Runs, parameters, code and the files themselves decide; a warm run of the notebooks was mostly drawing."""
    drawn, write, results = [], Item.write, probed.results()
    monkeypatch.setattr(Item, "write", lambda item, study: drawn.append(item.name) or write(item, study))
    monkeypatch.setattr(type(probed), "results", lambda study: results)  # or all is measured for other code
    first = probed.publish(teachers.PLOT)
    picture = probed.figures / "teachers.png"
    whole, drawn[:] = picture.read_bytes(), []
    assert probed.publish(teachers.PLOT).data == first.data and drawn == []
    picture.write_bytes(whole[:-1])
    assert probed.publish(teachers.PLOT).data == first.data == picture.read_bytes() and drawn == ["teachers"]
    monkeypatch.setattr("rosutils.study.study.CODE", "other code")
    probed.publish(teachers.PLOT)
    probed.publish(teachers.PLOT)
    assert drawn == ["teachers"] * 2
    monkeypatch.setattr(type(probed), "_state", lambda study: "another run, of whatever item")
    probed.publish(teachers.PLOT)
    assert drawn == ["teachers"] * 3
    (probed.output / "published" / "teachers-figure.json").write_text("{}")  # damaged
    probed.publish(teachers.PLOT)
    assert drawn == ["teachers"] * 4


def test_a_sweep_says_the_sweeps_scale_on_its_face():
    small, study = study_of(None), study_of(None)
    small.watermark = lambda: "at the sweeps' scale"
    study.variants = {("students", ""): small}
    marks = {item.name: item.watermark(study) for item in paper.ITEMS}
    sweeps = {name for name, mark in marks.items() if mark != WATERMARK}
    assert sweeps == {"fig2", "fig3", "table3", "readings", "noise_f1", "noise_auroc", "agreement"}
