"""Section IV-A: from a raw folder, an npz file or a generator to a task with its split, and batches of it.

Names are looked up when they are asked for: a process that only decodes files must not load torch, 350 MB of it, on its way.
"""

from importlib import import_module
from typing import Any


FACE = {"Batch": "loader", "Loader": "loader", "Task": "task", "intensities": "task", "make_task": "task"}


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"rosutils.data has no {name!r}; it has {', '.join(FACE)} and its modules")
    return getattr(import_module(f"rosutils.data.{FACE[name]}"), name)
