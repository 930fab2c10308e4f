"""The notebooks executed through papermill, independent ones side by side; and copies of them to play with."""

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path

from jupyter_client import AsyncKernelManager
from tqdm.auto import tqdm

from rosutils import InputError, RunError
from rosutils.processes import processes


FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SIDE_BY_SIDE = 4  # at most: a kernel takes about 1 GB of memory
AS_DRAWN = {"bbox_inches": None}  # no search for white margins: figures have none, and it takes as long as to draw


def run_all(folder: Path, parameters: dict, *, notebooks: Sequence[Path] | None = None) -> None:
    """Execute copies of all notebooks into `folder`, the report (else the last) alone at the end, one thread in each.

    For the first that stops, or whose process is killed, raises RunError, or InputError where it did; it says which one, in
    which cell, and why. Those that run beside it are ended then, and no other begins.
    """
    every = sorted(FOLDER.glob("[0-9]*.ipynb"), key=lambda path: (path.stem.endswith("report"), path))
    *independent, report = every if notebooks is None else notebooks
    folder.mkdir(parents=True, exist_ok=True)
    workers = min(SIDE_BY_SIDE, os.cpu_count() or 1, max(1, len(independent)))
    with (
        tqdm(total=len(independent) + 1, desc="notebooks", unit="notebook") as bar,
        tempfile.TemporaryDirectory(prefix="kernels-") as sockets,
        processes(workers) as pool,
    ):
        for several in (independent[::-1], [report]):  # the later ones take longest: they attack and walk around
            for call in as_completed([pool.submit(_execute, path, folder, parameters, sockets) for path in several]):
                call.result()
                bar.update()


def _execute(notebook: Path, folder: Path, parameters: dict, sockets: str) -> None:
    sys.modules.setdefault("rfc3987_syntax", None)  # nothing is checked by it, and it compiles grammars for a second
    import papermill
    from nbclient.exceptions import DeadKernelError
    from nbclient.util import run_sync

    where = f"(see {folder / notebook.name})"
    logging.getLogger("papermill").setLevel(logging.ERROR)  # a notebook takes any section, declared or not
    kernel = run_sync(_kernel)(sockets, notebook.parent)
    how = {"kernel_name": "python3", "progress_bar": False, "cwd": notebook.parent, "km": kernel}
    try:
        papermill.execute_notebook(notebook, folder / notebook.name, parameters=parameters, **how)
    except papermill.PapermillExecutionError as error:
        kind = InputError if error.ename == "InputError" else RunError
        raise kind(f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue} {where}") from None
    except DeadKernelError:
        raise RunError(f"{notebook.name}: its kernel died; is there too little memory? {where}") from None
    finally:
        kernel.latest.stop_channels()


class _Kernel(AsyncKernelManager):
    """A kernel that knows its latest client: nbclient leaves that of a kernel which it did not start open."""

    def client(self, **options):
        self.latest = super().client(**options)
        return self.latest


async def _kernel(sockets: str, folder: Path) -> _Kernel:
    """The kernel of this process, emptied: imports, which take longer than most notebooks, are made once for several."""
    if not (found := _kernels.get(sockets)):
        os.environ.pop("JPY_SESSION_NAME", None)  # nobody plays with these, wherever the command was given
        os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the kernel's debugger warns about itself otherwise
        # No ports, which two kernels that start together may both take to be free.
        where = {"transport": "ipc", "ip": f"{sockets}/{os.getpid()}"} if os.name == "posix" else {}
        found = _kernels[sockets] = _Kernel(kernel_name="python3", **where)
        options = ["--log-level=50", f"--InlineBackend.print_figure_kwargs={AS_DRAWN}"]
        await found.start_kernel(extra_arguments=options, cwd=str(folder))
        return found
    client = found.client()
    client.start_channels()
    await client.wait_for_ready()
    await client.execute_interactive("get_ipython().reset(new_session=True)", silent=True)
    client.stop_channels()
    return found


_kernels: dict = {}


def copies(folder: Path, profile: str, report: str) -> None:
    """Lay copies of the notebooks into `folder` for JupyterLab, with this profile and a link to its report.

    A copy whose cells somebody has changed stays as it is; one that was only run stays until the notebook itself changes.
    """
    import nbformat  # here, for it takes seconds

    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("[0-9]*.ipynb")):
        book, copy = nbformat.read(path, as_version=4), folder / path.name
        book.cells[0].source += f"\n\n**Report** of profile {profile}: [{report}]({report}), made by notebook 9"
        for cell in book.cells:
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = cell.source.replace('profile = "smoke"', f"profile = {json.dumps(profile)}")
        book.metadata["copied"] = _sources(book)
        there = nbformat.read(copy, as_version=4) if copy.is_file() else None
        if there is None or there.metadata.get("copied") == _sources(there) != book.metadata["copied"]:
            nbformat.write(book, copy)


def _sources(book) -> str:
    return hashlib.sha256("\0".join(cell.source for cell in book.cells).encode()).hexdigest()
