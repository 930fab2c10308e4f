"""The README is true: every command in it exists and runs (on the smoke profile), every file and module it names is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import copy_of, smoke_engine

from rosutils.__main__ import main
from rosutils.params import FOLDER


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]


def test_the_first_screen_holds_the_two_commands_and_their_times():
    first = "\n".join(README.splitlines()[:25])
    assert "make reproduce" in first and "make test" in first and "minutes" in first and "report.html" in first
    assert not re.search(r"@[A-Z]+@", README)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_command_names_a_target(command):
    target = shlex.split(command)[1]
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"\n{target}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("command", [c for c in COMMANDS if "-m rosutils" in c])
def test_every_rosutils_command_is_understood(command):
    name, *arguments = shlex.split(command)[3:]
    with main.commands[name].make_context(name, arguments) as context:
        if profile := context.params.get("profile"):
            assert (ROOT / profile if profile.endswith(".yaml") else FOLDER / f"{profile}.yaml").is_file()


def test_the_status_command_runs(tmp_path):
    engine = f"{{engine: {{store: {tmp_path}}}}}"
    done = CliRunner().invoke(main, ["status", "smoke", "-y", engine])
    assert done.exit_code == 0, done.output
    assert re.search(r"in all +\d+ +\d+ +0 ", done.stdout)  # runs, shared, done


def test_the_papermill_command_runs_on_smoke(smoke, tmp_path):
    folder = copy_of(smoke[2], tmp_path)
    (folder / "figures" / "smoke" / "fig1.png").unlink()
    [command] = [shlex.split(c) for c in COMMANDS if "papermill" in c]
    notebook = command[1].replace("04_tables", "01_data")  # the same line, on the notebook that trains nothing
    rest = [word.replace("demo", "smoke") for word in command[3:]]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", notebook, str(tmp_path / "out.ipynb"), *rest, "-y", smoke_engine(folder)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "figures" / "smoke" / "fig1.png").is_file()


def test_every_notebook_module_profile_and_link_that_it_names_exists():
    for name in re.findall(r"`(0\d_\w+)`", README):
        assert (ROOT / "notebooks" / f"{name}.ipynb").is_file(), name
    table = README.split("## Where to find what")[1].split("##")[0]
    for name in re.findall(r"`([a-z]+)`", table):
        assert list((ROOT / "rosutils").glob(f"{name}*")), name
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
