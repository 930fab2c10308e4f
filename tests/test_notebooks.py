"""The notebooks: static rules that keep them thin, and the smoke chain through papermill, as a user runs it."""

import ast
import base64
import importlib
import io
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import smoke_engine as engine
from PIL import Image

from rosutils import paper, results, settings
from rosutils.params import FOLDER, SECTIONS, profiles
from rosutils.study import Study


ROOT = Path(__file__).parents[1]
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
        assert not [
            node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        assert not any(word in cell.source for word in ("torch.optim", "open(", "plt.", ".backward("))


def test_the_title_says_paper_takes_gives_time(notebook):
    title = notebook.cells[0].source
    assert title.startswith("# ") and all(f"**{word}**" in title for word in ("Paper", "Takes", "Gives", "Time"))


def test_one_parameters_cell_of_literals_holds_the_profile_and_empty_sections(notebook):
    [cell] = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assignments = ast.parse(cell.source).body
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
    assert values.pop("profile") == "smoke" and set(values) <= set(SECTIONS) and not any(values.values())


def test_every_name_of_rosutils_that_a_notebook_uses_exists(notebook):
    tree = ast.parse("\n".join(cell.source for cell in code(notebook)))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "rosutils":
            for alias in node.names:
                try:
                    modules[alias.name] = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    assert hasattr(importlib.import_module(node.module), alias.name), alias.name
    assert modules or "Study" in ast.dump(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("profile", profiles())
def test_every_key_of_a_profile_is_a_parameter_of_the_notebooks(profile):
    assert set(yaml.safe_load((FOLDER / f"{profile}.yaml").read_text())) <= {"profile", *SECTIONS}


def rosutils(*arguments):
    return subprocess.run([sys.executable, "-m", "rosutils", *arguments], capture_output=True, text=True, cwd=ROOT)


def papermill(notebook, output, *arguments):
    command = [
        sys.executable,
        "-m",
        "papermill",
        f"notebooks/{notebook}.ipynb",
        str(output),
        "--cwd",
        "notebooks",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


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


def test_the_chain_leaves_executed_notebooks_with_something_to_see_after_every_step(chain):
    for path in NOTEBOOKS:
        executed = read(chain[0] / "smoke" / "notebooks" / path.name)
        outputs = [output for cell in code(executed) for output in cell.outputs]
        assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"], (
            outputs
        )
        assert len(outputs) >= 4


def test_the_command_ends_with_table_one_beside_the_papers_and_names_the_report(chain):
    _, printed = chain
    assert "Table I" in printed and "0.716" in printed and "RoS-KD" in printed
    *_, verdict, _, last = printed.rstrip().split("\n")
    assert last.endswith("report.html") and verdict.startswith("Of the paper's ")


def test_results_hold_every_setting_for_both_tasks_and_all_seeds(chain):
    frame = results.read(chain[0] / "smoke" / "results.csv")
    for task in ("lesion", "chest"):
        rows = results.select(frame, task=task, metric="f1", average="macro")
        assert set(rows["setting"]) == {*settings.ROWS, *settings.TEACHERS, *settings.CHANCE, settings.PLAIN}
        students = rows[rows["setting"].isin(settings.ROWS)]
        assert (students.groupby("setting")["replicate"].nunique() == 2).all()


def test_a_second_run_trains_nothing_and_gives_the_same_bytes(chain):
    folder, printed = chain
    before = (
        contents(folder, below="figures/smoke"),
        contents(folder, below="store"),
        (folder / "smoke/results.csv").read_bytes(),
    )
    again = rosutils("reproduce", "smoke", "-y", engine(folder))
    assert again.returncode == 0, again.stderr
    assert "; 0 to make" in again.stdout
    assert again.stdout.split("Table I")[1] == printed.split("Table I")[1]
    after = (
        contents(folder, below="figures/smoke"),
        contents(folder, below="store"),
        (folder / "smoke/results.csv").read_bytes(),
    )
    assert after == before


def test_papermill_directly_with_a_parameter_file_gives_what_the_command_gives(chain, tmp_path):
    folder, _ = chain
    table = folder / "figures/smoke/table1.csv"
    before = table.read_bytes()
    table.unlink()
    done = papermill("04_tables", tmp_path / "out.ipynb", "-f", "params/smoke.yaml", "-y", engine(folder))
    assert done.returncode == 0, done.stderr
    assert table.read_bytes() == before


def test_another_alpha_by_papermill_by_hand_and_by_y_trains_students_only_into_one_new_folder(chain, tmp_path):
    folder, _ = chain
    finished = contents(folder, below="figures/smoke"), (folder / "smoke/results.csv").read_bytes()
    before = {path.parent.name for path in (folder / "store").glob("*/run.json")}
    changes = yaml.safe_dump({"tasks": ["lesion"], "seeds": {"replicates": 1}, "distillation": {"alpha": 0.5}})
    done = papermill(
        "04_tables", tmp_path / "out.ipynb", "-p", "profile", "smoke",
        "-y", changes + engine(folder, backend="inline"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    new = {path.parent.name for path in (folder / "store").glob("*/run.json")} - before
    assert {key.split("-")[0] for key in new} == {"student"}
    assert len(new) == 5  # every distilled setting but Baseline I; Baseline V and RoS-KD are one run
    played = folder / "figures" / "smoke+taskslesion+alpha0.5+replicates1"
    assert len(pd.read_csv(played / "table1.csv")) > 0 and played.name in (played / "table1.md").read_text()
    by_papermill = (played / "table1.csv").read_bytes(), (folder / played.name / "results.csv").read_bytes()

    (played / "table1.csv").unlink()
    (folder / played.name / "results.csv").unlink()
    study = Study.of_notebook({"profile": "smoke", **yaml.safe_load(changes + engine(folder, backend="inline"))})
    assert study.missing(study.runs("table1")) == []
    study.publish(paper.table1.TABLE)
    assert by_papermill == ((played / "table1.csv").read_bytes(), (study.output / "results.csv").read_bytes())

    checked = rosutils("verify", "smoke", "-y", changes + engine(folder, backend="inline"))
    # of the same folder, and no number in it is another: but for the report, which nobody has asked for there
    assert checked.stdout.splitlines() == [f"{played}/provenance.json is missing; make reproduce writes it again"]
    assert finished == (contents(folder, below="figures/smoke"), (folder / "smoke/results.csv").read_bytes())


def test_figures_in_executed_notebooks_are_sharp_at_twice_the_pixels(chain):
    outputs = [output for path in NOTEBOOKS for cell in code(read(chain[0] / "smoke" / "notebooks" / path.name))
               for output in cell.outputs if "image/png" in output.get("data", {})]  # fmt: skip
    assert len(outputs) > 20
    for output in outputs:
        width = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).width
        assert abs(width - 2 * output.metadata["image/png"]["width"]) <= 1


def test_nothing_that_wants_to_be_played_with_is_in_executed_notebooks(chain):
    for path in NOTEBOOKS:
        assert "widget-view" not in (chain[0] / "smoke" / "notebooks" / path.name).read_text()


def test_a_misspelt_section_given_to_papermill_stops_the_notebook(tmp_path):
    done = papermill("01_data", tmp_path / "out.ipynb", "-p", "profile", "smoke", "-y", "{distilation: {alpha: 0.5}}")
    assert done.returncode != 0
    assert "distilation: unknown key (did you mean 'distillation'?)" in done.stderr


def test_a_wrong_parameter_given_to_papermill_stops_the_notebook_with_our_sentence(tmp_path):
    done = papermill("01_data", tmp_path / "out.ipynb", "-p", "profile", "smoke", "-y", "{subsets: {overlap: 1.4}}")
    assert done.returncode != 0
    assert "subsets.overlap: 1.4 is not allowed" in done.stderr
