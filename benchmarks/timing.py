"""What the parts of the benchmarks share: two ways timed alternately, a row of the table, random images as a task."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from rosutils.data import Task


ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121")


class Row(NamedTuple):
    """One line of results.md; `ratio` says how many times ours is faster. A number is seconds."""

    what: str
    ours: float | str
    theirs: float | str
    ratio: float


def alternately(ours: Callable, theirs: Callable, *, rounds: int = 5) -> tuple[float, float]:
    """Median seconds of both, taken in turn after one warm-up each, so that a busy machine slows both."""
    times: dict[Callable, list[float]] = {ours: [], theirs: []}
    for number in range(rounds + 1):
        for function in (ours, theirs) if number % 2 else (theirs, ours):
            start = time.perf_counter()
            function()
            times[function] += [time.perf_counter() - start] if number else []
    return statistics.median(times[ours]), statistics.median(times[theirs])


def speeds(what: str, images: int, ours: float, theirs: float) -> Row:
    """A row in images per second, from the seconds that both took for so many images."""
    return Row(what, f"{images / ours:.4g} images/s", f"{images / theirs:.4g} images/s", theirs / ours)


def random_task(n: int, pixels: int, *, n_classes: int = 8) -> Task:
    """Random images [n, 3, pixels, pixels] with labels in turn: speed depends on shapes alone."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, pixels, pixels), dtype=torch.uint8, generator=generator).numpy()
    everything, labels = torch.arange(n), torch.arange(n) % n_classes
    return Task(
        name="random", images=images, labels=labels, clean_labels=labels, groups=everything, names=[""] * n,
        class_names=list("abcdefghijklmn"[:n_classes]), multilabel=False, split={"train": everything}, fingerprint="",
        noise_rate=0.0,
    )  # fmt: skip
