"""The notebooks executed through papermill: independent ones side by side, the report after all others."""

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

from tqdm.auto import tqdm


FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SIDE_BY_SIDE = 4  # at most: a kernel takes about 1 GB of memory
AS_DRAWN = {"bbox_inches": None}  # no search for white margins: figures have none, and it takes as long as to draw


class NotebookError(Exception):
    """A notebook stopped: which one, in which cell, and why; `status` is the exit status that goes with it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)  # both, so that it survives the way between processes
        self.message, self.status = message, status

    def __str__(self) -> str:
        return self.message


def start() -> None:
    """Start the server that forks the notebooks' processes: it imports papermill, once, beside what the caller does."""
    forkserver.set_forkserver_preload(["papermill"])
    forkserver.ensure_running()


def run_all(folder: Path, parameters: dict, *, notebooks: Sequence[Path] | None = None) -> None:
    """Execute copies of all notebooks into `folder`, the last of them alone at the end, one thread in each.

    Raises NotebookError for the first that stops; those that run beside it are ended then, and no other begins.
    """
    *independent, report = sorted(FOLDER.glob("[0-9]*.ipynb")) if notebooks is None else notebooks
    folder.mkdir(parents=True, exist_ok=True)
    # The longest first. Where none has been executed yet, the later ones: they attack and walk around trained networks.
    independent.sort(key=lambda path: (_seconds_last_time(folder / path.name), path.name), reverse=True)
    # One more than cores, for kernels wait as they start.
    workers = min(SIDE_BY_SIDE, (os.cpu_count() or 1) + 1, max(1, len(independent)))
    start()
    context = multiprocessing.get_context("forkserver")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)
    with tqdm(total=len(independent) + 1, desc="notebooks", unit="notebook") as bar:
        try:
            for several in (independent, [report]):
                _finish([pool.submit(_execute, path, folder, parameters) for path in several], bar)
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - others:  # a kernel ends itself with its parent
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise NotebookError("a notebook's process was killed; is there too little memory?", 1) from None
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _seconds_last_time(executed: Path) -> float:
    """How long a notebook took when it was last executed to its end, or 0: the longest goes first."""
    try:
        return float(json.loads(executed.read_text())["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _finish(calls: list[Future], bar: tqdm) -> None:
    for call in calls:
        call.add_done_callback(lambda done: bar.update())
    done, _ = wait(calls, return_when=FIRST_EXCEPTION)
    for call in done:
        call.result()


def _prepare() -> None:
    """What a worker hands on to its kernels. One thread in each, as in a run: numbers do not depend on the machine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself ends its workers
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the kernel's debugger warns about itself otherwise


def _execute(notebook: Path, folder: Path, parameters: dict) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    where = f"(see {folder / notebook.name})"
    logging.getLogger("papermill").setLevel(logging.ERROR)  # a notebook takes any section, declared or not
    try:
        papermill.execute_notebook(
            notebook, folder / notebook.name, parameters=parameters, cwd=notebook.parent, kernel_name="python3",
            progress_bar=False, extra_arguments=["--log-level=50", f"--InlineBackend.print_figure_kwargs={AS_DRAWN}"],
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        message = f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue} {where}"
        raise NotebookError(message, 2 if error.ename == "InputError" else 1) from None
    except DeadKernelError:
        raise NotebookError(f"{notebook.name}: its kernel died; is there too little memory? {where}", 1) from None
