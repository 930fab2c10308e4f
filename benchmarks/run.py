"""Side-by-side timings: each line a ratio of two ways to do the same work, measured alternately in one run.

python benchmarks/run.py        writes benchmarks/results.md
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from rosutils import distill, models
from rosutils.augment import View
from rosutils.bank import Bank, view_logits
from rosutils.data import Loader, make_task
from rosutils.decoding import decode
from rosutils.params import Noise, Source
from rosutils.sources import open_source
from rosutils.training import fit
from rosutils.weights import uniform_weights


ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121")
OPTIONS = {"temperature": 0.5, "alpha": 0.9, "multilabel": False}


def ratio(slow: Callable, fast: Callable, *, rounds: int = 3) -> tuple[float, float, float]:
    """Median seconds of both, taken alternately after one warm-up each, and slow / fast."""
    times: dict[Callable, list[float]] = {slow: [], fast: []}
    for number in range(rounds + 1):
        for function in (slow, fast):
            start = time.perf_counter()
            function()
            times[function] += [time.perf_counter() - start] if number else []
    first, second = (statistics.median(times[function]) for function in (slow, fast))
    return first, second, first / second


def synthetic_task(folder: Path, examples: int = 400):
    """A synthetic lesion task at 32 px."""
    section = Source(source="synthetic", modality="dermoscopy", examples=examples)
    images = open_source(section, pixels=32, root=None, allow_missing=False, cache_root=folder)
    return make_task("lesion", images, fractions=[0.7, 0.1, 0.2], noise=Noise(), seed=0)


def bank_against_teachers_on_the_fly(folder: Path):
    """One ResNet-18 student epoch: five teachers run on every batch, against their logits looked up."""
    task, view = synthetic_task(folder), View(0, 2, ("horizontal",))
    index = task.split["train"]
    teachers = [models.create(name, 8, seed=0).eval() for name in ARCHITECTURES]
    views = [view_logits(teacher, Loader(task, index, batch_size=64, view=view), 1) for teacher in teachers]
    weigh = distill.fixed(uniform_weights(len(teachers)))

    @torch.inference_mode()
    def on_the_fly(batch):
        return torch.stack([teacher(batch.images) for teacher in teachers]).clone()

    def epoch(bank):
        loss = distill.DistillationLoss(bank, weigh, **OPTIONS)
        loader = Loader(task, index, batch_size=32, shuffle_seed=0, view=view)
        return fit(models.create("resnet18", 8, seed=0), loader, loss, epochs=1, learning_rate=0.01, progress=False)

    bank = Bank(torch.stack(views), index)
    return ratio(lambda: epoch(on_the_fly), lambda: epoch(bank))


def bare_loop_against_fit(folder: Path, architecture: str):
    """One supervised epoch: a hand-written loop, against `training.fit` on the same batches."""
    task = synthetic_task(folder)
    loader = Loader(task, task.split["train"], batch_size=32, shuffle_seed=0)

    def bare():
        model = models.create(architecture, 8, seed=0).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
        for batch in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(batch.images), batch.labels).backward()
            optimizer.step()

    def ours():
        model = models.create(architecture, 8, seed=0)
        fit(model, loader, distill.supervised_loss, epochs=1, learning_rate=0.01, progress=False)

    return ratio(bare, ours)


def decoding_against_cache(folder: Path):
    """400 JPEG images of 600 x 450 to 32 px: decoded from the files, against gathered from the prepared cache."""
    rng = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(400)]
    for file in files:
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC).save(file, quality=90)
    stored = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(400, 3, 32, 32))
    order = rng.permutation(400)
    return ratio(lambda: [decode(file, 32, "RGB") for file in files], lambda: stored[order].astype(np.float32))


def main() -> None:
    """Run every comparison and write the table."""
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [
            ("teachers on the fly", "bank", bank_against_teachers_on_the_fly, ()),
            ("decoding JPEG files", "prepared cache", decoding_against_cache, ()),
            *(("bare loop", f"`fit`, {name}", bare_loop_against_fit, (name,)) for name in ARCHITECTURES),
        ]
        for slow, fast, case, arguments in cases:
            first, second, times = case(folder, *arguments)
            lines.append(f"| {slow} | {fast} | {first:.3g} | {second:.3g} | {times:.2f} |")
            print(lines[-1], flush=True)
    head = f"Made by `make bench`: {platform.machine()} CPU, 1 thread, torch {torch.__version__}, 32 px, medians of 3."
    table = ["| this | against | s | s | ratio |", "|---|---|---|---|---|", *lines]
    Path(__file__).with_name("results.md").write_text("\n".join(["# Side by side", "", head, "", *table, ""]))


if __name__ == "__main__":
    main()
