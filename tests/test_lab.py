"""`make lab`: copies to play with, which take nothing from whoever has played, and the options that JupyterLab gets."""

import os

import nbformat
import pytest
import yaml
from click.testing import CliRunner

from rosutils import notebooks, params
from rosutils.__main__ import main
from rosutils.params import ROOT


def read(path):
    return nbformat.read(path, as_version=4)


def parameters(book) -> str:
    return next(cell.source for cell in book.cells if "parameters" in cell.metadata.get("tags", []))


def originals() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in notebooks.FOLDER.glob("*.ipynb")}


def test_copies_have_the_profile_and_the_report_and_stay_where_they_were_changed(tmp_path):
    before, folder = originals(), tmp_path
    notebooks.copies(folder, "demo", "../figures/demo/report.html")
    for name in before:
        book = read(folder / name)
        nbformat.validate(book)
        assert 'profile = "smoke"' not in parameters(book) and 'profile = "demo"  # a name' in parameters(book)
        assert "(../figures/demo/report.html)" in book.cells[0].source
    assert {path.name for path in folder.iterdir()} == set(before) and originals() == before
    # one that was only run stays until its notebook changes
    changed, run = folder / "01_data.ipynb", folder / "02_teachers.ipynb"
    for path in (changed, run):
        book = read(path)
        book.cells[1].execution_count = 7
        if path == changed:
            book.cells[2].source += "\nnoise = {'rate': 0.1}"
        nbformat.write(book, path)
    notebooks.copies(folder, "demo", "../figures/demo/report.html")
    assert read(changed).cells[2].source.endswith("{'rate': 0.1}")
    assert read(run).cells[1].execution_count == 7
    notebooks.copies(folder, "smoke", "../figures/demo/report.html")  # other cells, as after an update of the kit
    assert read(changed).cells[2].source.endswith("{'rate': 0.1}") and '"demo"' in parameters(read(changed))
    assert read(run).cells[1].execution_count is None and '"smoke"' in parameters(read(run))


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """What `lab` hands to JupyterLab in place of the process that it becomes."""
    called = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: called.append(arguments))

    def lab(*arguments):
        engine = {"store": str(tmp_path / "runs"), "artefacts": str(tmp_path / "runs" / "figures")}
        profile = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text()) | {"engine": engine}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
        return CliRunner().invoke(main, ["lab", "--profile", str(tmp_path / "mine.yaml"), *arguments]), called

    return lab


def test_jupyterlab_opens_the_first_copy_below_a_root_from_which_the_report_is_reached(lab, tmp_path):
    result, [arguments] = lab("--", "--no-browser", "--port=1234")
    assert result.exit_code == 0, result.output
    assert arguments[1:3] == ["-m", "jupyterlab"] and arguments[-2:] == ["--no-browser", "--port=1234"]
    assert f"--ServerApp.root_dir={tmp_path / 'runs'}" in arguments
    assert "--LabApp.default_url=/lab/tree/lab/01_data.ipynb" in arguments
    assert not any(word in each for each in arguments for word in ("token", "ip=", "password"))
    book = read(tmp_path / "runs" / "lab" / "01_data.ipynb")
    assert "(../figures/smoke/report.html)" in book.cells[0].source and "mine.yaml" in parameters(book)


def test_what_is_played_with_is_the_demo_where_it_was_reproduced(monkeypatch, tmp_path):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(os, "execv", lambda program, arguments: None)
    for profile in ("smoke", "demo"):
        assert CliRunner().invoke(main, ["lab"]).exit_code == 0
        assert f'profile = "{profile}"' in parameters(read(tmp_path / "runs" / "lab" / "01_data.ipynb"))
        (tmp_path / "runs" / "demo").mkdir(exist_ok=True)
        (tmp_path / "runs" / "demo" / "results.csv").touch()


def test_a_profile_that_is_not_there_is_told_and_nothing_is_started(lab, tmp_path):
    result, called = lab("--profile", "smok")
    assert result.exit_code == 2 and "profile 'smok'" in result.stderr and called == []
