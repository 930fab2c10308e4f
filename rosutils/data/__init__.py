"""Section IV-A: from a raw folder, an npz file or a generator to a task with its split, and batches of it."""

from rosutils.data.loader import Batch, Loader
from rosutils.data.task import Task, intensities, make_task


__all__ = ["Batch", "Loader", "Task", "intensities", "make_task"]
