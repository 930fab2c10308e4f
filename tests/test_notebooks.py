"""The notebooks: static rules that keep them thin, and the smoke chain through papermill, as a user runs it."""

import ast
import base64
import io
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from conftest import smoke_engine as engine
from PIL import Image

from rosutils import paper, results, settings
from rosutils.__main__ import main
from rosutils.paper.items import Item
from rosutils.params import ROOT, SECTIONS
from rosutils.study import Study
from rosutils.study.verification import problems


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ARTEFACTS = (
    "fig1.pdf", "fig1.png", "table1.csv", "table1.md", "table1.tex", "table1.pdf", "table1.png", "teachers.csv", "teachers.md",
    "teachers.tex", "teachers.png", "class_counts_lesion.pdf", "class_counts_chest.png", "noise_lesion.png", "overlap_chest.png",
    "checks_lesion.png", "checks_chest.pdf",
    "teacher_curves_lesion.png", "soft_targets.png", "weights.png", "averaging.png", "reliability.png",
    "report.html", "provenance.json",
    *(f"{name}.{kind}" for name in ("table2", "table3", "comparisons", "landscape", "teachers") for kind in ("csv", "md", "tex")),
    *(f"{name}.{kind}" for name in ("fig2", "fig3", "fig4_lesion", "fig4_surface_chest", "readings", "table2", "eps_curve",
      "landscape", "path_lesion", "claims", "fig4_basins", "confusion_lesion", "roc_chest",
      "adversarial_lesion", "student_curves_chest",
      "noise_f1", "noise_auroc", "agreement") for kind in ("pdf", "png")), "self_checks.csv",
)  # fmt: skip


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def test_the_notebooks_of_the_issue_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_data", "02_teachers", "03_distillation", "04_tables", "05_figures", "06_adversarial", "07_loss_landscape",
        "08_label_noise", "09_report", "10_own_labels",
    ]  # fmt: skip


def test_a_notebook_is_valid_and_stripped(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(notebook))


def test_a_notebook_is_thin(notebook):
    assert len(code(notebook)) <= 12
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 12, cell.source
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(ast.parse(cell.source)))
        assert not any(word in cell.source for word in ("torch.optim", "open(", "plt.", ".backward("))


def test_the_title_says_paper_takes_gives_time(notebook):
    title = notebook.cells[0].source
    assert title.startswith("# ") and all(f"**{word}**" in title for word in ("Paper", "Takes", "Gives", "Time"))


def test_one_parameters_cell_of_literals_holds_the_profile_and_empty_sections(notebook):
    [cell] = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assignments = ast.parse(cell.source).body
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
    assert values.pop("profile") == "smoke" and set(values) <= set(SECTIONS) and not any(values.values())


def papermill(notebook, output, *arguments):
    given = f"notebooks/{notebook}.ipynb", str(output), "--cwd", "notebooks", *arguments
    return subprocess.run([sys.executable, "-m", "papermill", *given], capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def chain(smoke):
    """The whole smoke chain by the command, once."""
    return smoke[:2]


def contents(folder, *, below):
    return {path.name: path.read_bytes() for path in sorted((folder / below).rglob("*")) if path.is_file()}


def test_the_chain_makes_every_artefact(chain):
    folder, _ = chain
    made = contents(folder, below="figures/smoke")
    assert set(ARTEFACTS) <= set(made)
    assert all(len(content) > 300 for content in made.values())
    assert "published" in (folder / "figures/smoke/table1.csv").read_text()


@pytest.fixture(scope="module")
def shown(chain):
    """The outputs of each executed notebook."""
    executed = {path.stem: read(chain[0] / "smoke" / "notebooks" / path.name) for path in NOTEBOOKS}
    return {name: [output for cell in code(book) for output in cell.outputs] for name, book in executed.items()}


def test_the_chain_leaves_executed_notebooks_with_something_to_see_after_every_step(shown):
    for name, outputs in shown.items():
        assert not [each for each in outputs if each.output_type == "error" or each.get("name") == "stderr"], name
        assert len(outputs) >= 4, name


def test_figures_in_executed_notebooks_are_sharp_at_twice_the_pixels_and_nothing_there_wants_to_be_played_with(shown):
    pictures = [each for outputs in shown.values() for each in outputs if "image/png" in each.get("data", {})]
    assert len(pictures) > 20 and "widget-view" not in str(shown)
    for each in pictures:
        width = Image.open(io.BytesIO(base64.b64decode(each.data["image/png"]))).width
        assert abs(width - 2 * each.metadata["image/png"]["width"]) <= 1


def test_the_command_ends_with_table_one_beside_the_papers_and_names_the_report(chain):
    _, printed = chain
    assert "Table I" in printed and "0.716" in printed and "RoS-KD" in printed
    *_, verdict, _, last = printed.rstrip().split("\n")
    assert last.endswith("report.html") and verdict.startswith("Of the paper's ")


def test_results_hold_every_setting_for_both_tasks_and_all_seeds(chain):
    frame = results.read(chain[0] / "smoke" / "results.csv")
    for task, replicates in (("lesion", 2), ("chest", 1)):
        rows = results.select(frame, task=task, metric="f1", average="macro")
        assert set(rows["setting"]) == {*settings.ROWS, *settings.TEACHERS, *settings.CHANCE, settings.PLAIN}
        students = rows[rows["setting"].isin(settings.ROWS)]
        assert (students.groupby("setting")["replicate"].nunique() == replicates).all()


def test_a_second_time_nothing_is_to_be_made_and_what_is_drawn_has_the_same_bytes(chain, monkeypatch):
    """Of the items every third is drawn again, and the report of all of them."""
    folder, printed = chain
    write, some = Item.write, paper.ITEMS[::3]
    monkeypatch.setattr(Item, "write", lambda item, study: write(item, study) if item in some else None)
    study = Study.load("smoke", **yaml.safe_load(engine(folder)))
    assert study.missing(study.all_runs()) == []

    def everything():
        measured = (folder / "smoke/results.csv").read_bytes()
        return contents(folder, below="figures/smoke"), contents(folder, below="store"), measured

    before = everything()
    again = CliRunner().invoke(main, ["redraw", "smoke", "-y", engine(folder)])
    assert again.exit_code == 0, again.output
    assert again.stdout.split("Table I")[1] == printed.split("Table I")[1]
    assert everything() == before


def test_another_alpha_by_papermill_by_hand_and_by_y_trains_students_only_into_one_new_folder(chain, tmp_path):
    folder, _ = chain
    finished = contents(folder, below="figures/smoke"), (folder / "smoke/results.csv").read_bytes()
    before = {path.parent.name for path in (folder / "store").glob("*/run.json")}
    changes = yaml.safe_dump({"tasks": ["lesion"], "seeds": {"replicates": 1}, "distillation": {"alpha": 0.5}})
    given = changes + engine(folder, backend="inline")
    done = papermill("04_tables", tmp_path / "out.ipynb", "-p", "profile", "smoke", "-y", given)
    assert done.returncode == 0, done.stderr
    new = {path.parent.name for path in (folder / "store").glob("*/run.json")} - before
    assert {key.split("-")[0] for key in new} == {"student"}
    assert len(new) == 5  # every distilled setting but Baseline I; Baseline V and RoS-KD are one run
    played = folder / "figures" / "smoke+taskslesion+alpha0.5+replicates1"
    assert len(pd.read_csv(played / "table1.csv")) > 0 and played.name in (played / "table1.md").read_text()
    by_papermill = (played / "table1.csv").read_bytes(), (folder / played.name / "results.csv").read_bytes()

    (played / "table1.csv").unlink()
    (folder / played.name / "results.csv").unlink()
    study = Study.of_notebook({"profile": "smoke", **yaml.safe_load(given)})
    assert study.missing(study.runs("table1")) == []
    study.publish(paper.table1.TABLE)
    assert by_papermill == ((played / "table1.csv").read_bytes(), (study.output / "results.csv").read_bytes())

    # no number in the folder is another: but for the report, which nobody has asked for there
    assert list(problems(study)) == [f"{played}/provenance.json is missing; make reproduce writes it again"]
    assert finished == (contents(folder, below="figures/smoke"), (folder / "smoke/results.csv").read_bytes())


def test_a_misspelt_section_given_to_papermill_stops_the_notebook(tmp_path):
    done = papermill("01_data", tmp_path / "out.ipynb", "-p", "profile", "smoke", "-y", "{distilation: {alpha: 0.5}}")
    assert done.returncode != 0
    assert "distilation: unknown key (did you mean 'distillation'?)" in done.stderr
