"""Notebooks run side by side: in their order where it matters, stopped together, told plainly."""

import time

import nbformat
import psutil
import pytest

from rosutils import InputError, RunError
from rosutils.notebooks import run_all


def notebook(folder, name, source):
    cells = [nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(source)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


LEAVES = """
import os
from pathlib import Path
Path(f"{number}{word}.txt").write_text(os.environ["OMP_NUM_THREADS"])
Path(f"{number}.pid").write_text(str(os.getpid()))
word, secret = "changed", 1
"""
LOOKS = """
import os
from pathlib import Path
print(sorted(map(str, Path().glob("*.txt"))), "JPY_SESSION_NAME" in os.environ, word, "secret" in globals())
print(str(os.getpid()) in [path.read_text() for path in Path().glob("*.pid")])
"""


def test_the_last_notebook_runs_after_all_others_on_one_thread_and_in_their_kernel_knows_nothing_of_them(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JPY_SESSION_NAME", "01_data.ipynb")  # the command was given in a notebook that somebody sits at
    books = [notebook(tmp_path, f"{number}", LEAVES.replace("{number}", str(number))) for number in range(2)]
    run_all(tmp_path / "out", {"word": "given"}, notebooks=[*books, notebook(tmp_path, "2", LOOKS)])
    last = nbformat.read(tmp_path / "out" / "2.ipynb", as_version=4).cells[-1]
    assert last.outputs[0].text == "['0given.txt', '1given.txt'] False given False\nTrue\n"
    assert (tmp_path / "0given.txt").read_text() == "1" and last.execution_count in (2, 3)  # counted anew


@pytest.mark.parametrize(
    "source, named, kind",
    [
        ("from rosutils import InputError\nraise InputError('alpha is 7')", "InputError: alpha is 7", InputError),
        ("import os; os._exit(1)", "its kernel died", RunError),
    ],
)
def test_a_notebook_that_stops_is_named_and_ends_the_others(tmp_path, source, named, kind):
    sleeping = notebook(tmp_path, "0_sleeps", "import time; time.sleep(600)")
    books = [sleeping, notebook(tmp_path, "1_stops", source), notebook(tmp_path, "9_report", "open('report', 'w')")]
    before = kernels()
    with pytest.raises(kind, match=f"1_stops.ipynb.*{named}.*see .*1_stops.ipynb"):
        run_all(tmp_path / "out", {}, notebooks=books)
    assert not (tmp_path / "report").exists()
    waited = time.monotonic() + 20  # a kernel looks every second whether its parent is there
    while kernels() - before and time.monotonic() < waited:
        time.sleep(0.2)
    assert kernels() - before == set()


def test_a_process_that_is_killed_ends_the_command_and_not_a_wait_without_end(tmp_path):
    books = [notebook(tmp_path, "0", "import os; os.kill(os.getppid(), 9)"), notebook(tmp_path, "9", "")]
    with pytest.raises(RunError, match="a worker process ended"):
        run_all(tmp_path / "out", {}, notebooks=books)


def kernels():
    """The kernels that run below this process, and those that nobody waits for."""
    here = {process.pid for process in psutil.Process().children(recursive=True)}
    found = [p for p in psutil.process_iter(["cmdline", "ppid"]) if "ipykernel_launcher" in (p.info["cmdline"] or [])]
    return {p.pid for p in found if p.pid in here or p.info["ppid"] == 1}
