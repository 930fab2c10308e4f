"""Notebooks run side by side: in their order where it matters, stopped together, told plainly."""

import json
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import psutil
import pytest

from rosutils import notebooks
from rosutils.notebooks import NotebookError, run_all
from rosutils.study import Study


def notebook(folder, name, source):
    cells = [nbformat.v4.new_code_cell("", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(source)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


WRITE = "import os; from pathlib import Path; Path(f'{word}.txt').write_text(os.environ['OMP_NUM_THREADS'])"


def test_the_last_notebook_runs_after_all_others_with_the_parameters_given_on_one_thread(tmp_path):
    books = [notebook(tmp_path, f"{number}", WRITE.replace("{word}", f"{number}{{word}}")) for number in range(2)]
    books.append(notebook(tmp_path, "2", "import os; print(sorted(n for n in os.listdir() if n.endswith('.txt')))"))
    run_all(tmp_path / "out", {"word": "x"}, notebooks=books)
    executed = [nbformat.read(tmp_path / "out" / f"{number}.ipynb", as_version=4) for number in range(3)]
    assert executed[2].cells[-1].outputs[0].text == "['0x.txt', '1x.txt']\n"
    assert (tmp_path / "0x.txt").read_text() == "1"


@pytest.mark.parametrize(
    "source, named, status",
    [
        ("1 / 0", "ZeroDivisionError: division by zero", 1),
        ("from rosutils import InputError\nraise InputError('alpha is 7')", "InputError: alpha is 7", 2),
        ("import os; os._exit(1)", "its kernel died", 1),
    ],
)
def test_a_notebook_that_stops_is_named_and_ends_the_others(tmp_path, source, named, status):
    sleeping = notebook(tmp_path, "0_sleeps", "import time; time.sleep(600)")
    books = [sleeping, notebook(tmp_path, "1_stops", source), notebook(tmp_path, "9_report", "open('report', 'w')")]
    before = kernels()
    with pytest.raises(NotebookError, match=f"1_stops.ipynb.*{named}.*see .*1_stops.ipynb") as error:
        run_all(tmp_path / "out", {}, notebooks=books)
    assert error.value.status == status
    assert not (tmp_path / "report").exists()
    waited = time.monotonic() + 20  # a kernel looks every second whether its parent is there
    while kernels() - before and time.monotonic() < waited:
        time.sleep(0.2)
    assert kernels() - before == set()


def test_a_process_that_is_killed_ends_the_command_and_not_a_wait_without_end(tmp_path):
    books = [notebook(tmp_path, "0", "import os; os.kill(os.getppid(), 9)"), notebook(tmp_path, "9", "")]
    with pytest.raises(NotebookError, match="process was killed"):
        run_all(tmp_path / "out", {}, notebooks=books)


def test_of_notebooks_that_want_the_results_at_once_one_measures(load_tiny, tmp_path, monkeypatch):
    measured, measure = [], Study.measure

    def slowly(study):
        measured.append(study)
        time.sleep(0.3)
        return measure(study)

    study = load_tiny(tmp_path)
    study.ensure(study.teachers("lesion", "full")[:1])
    monkeypatch.setattr(Study, "measure", slowly)
    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(lambda _: load_tiny(tmp_path).results(), range(3)))
    assert len(measured) == 1
    assert all(table.equals(tables[0]) for table in tables)


def kernels():
    """The kernels that run below this process, and those that nobody waits for."""
    here = {process.pid for process in psutil.Process().children(recursive=True)}
    found = psutil.process_iter(["cmdline", "ppid"])
    return {
        p.pid
        for p in found
        if "ipykernel_launcher" in (p.info["cmdline"] or []) and (p.pid in here or p.info["ppid"] == 1)
    }


def test_what_took_longest_last_time_goes_first(tmp_path, monkeypatch):
    last, order = {"0": 1.5, "1": 9.0, "2": None}, []
    for name, seconds in last.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"metadata": {"papermill": {"duration": seconds}}}))
    (tmp_path / "3.ipynb").write_text("cut off")
    found = {name: notebooks._seconds_last_time(tmp_path / f"{name}.ipynb") for name in "01234"}
    assert found == {"0": 1.5, "1": 9.0, "2": 0.0, "3": 0.0, "4": 0.0}
    monkeypatch.setattr(notebooks, "_finish", lambda calls, bar: order.append(len(calls)))
    monkeypatch.setattr(
        notebooks.ProcessPoolExecutor, "submit", lambda pool, function, path, *rest: order.append(path.stem)
    )
    run_all(tmp_path, {}, notebooks=[tmp_path / f"{number}.ipynb" for number in range(4)])
    assert order == ["1", "0", "2", 3, "3", 1]


def test_where_none_was_executed_the_later_ones_go_first(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(notebooks, "_finish", lambda calls, bar: None)
    monkeypatch.setattr(
        notebooks.ProcessPoolExecutor, "submit", lambda pool, function, path, *rest: order.append(path.stem)
    )
    run_all(tmp_path, {}, notebooks=[tmp_path / f"0{number}.ipynb" for number in range(1, 5)])
    assert order == ["03", "02", "01", "04"]


def test_the_server_started_beforehand_has_papermill_and_no_network_library():
    notebooks.start()
    notebooks.start()  # as `run_all` does once more
    code = "import sys; sys.exit(0 if 'papermill' in sys.modules and 'torch' not in sys.modules else 7)"
    process = multiprocessing.get_context("forkserver").Process(target=exec, args=(code,))
    process.start()
    process.join()
    assert process.exitcode == 0
