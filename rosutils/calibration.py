"""How long the steps of runs take on this machine: a few of each, timed in as many processes as work at once."""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from rosutils import attacks, deferred, distill, landscape, models, training
from rosutils.augment import View
from rosutils.bank import Bank
from rosutils.costs import ASCENT, Step
from rosutils.data import Loader, Task
from rosutils.engine import run_jobs
from rosutils.probes import probe_loss
from rosutils.store import Store
from rosutils.weights import ReinforcedSelector, uniform_weights


# A measurement is over after so many seconds; where one call takes longer than LONG, the warm-up call counts as well.
ENOUGH, LONG = 0.3, 2.0
# Pixels in a batch that is timed on the CPU: at 224 px eight images stand for a batch, for time grows with their number.
PIXELS = 2**19
CLASSES, TEACHERS, BATCHES = 8, 5, 3
TRAINED = ("supervised", "distilled", "reinforced")  # by `fit`, all of a run that more than one thread is for
DISTILLATION = {"temperature": 0.5, "alpha": 0.9, "multilabel": False}


class Rates(NamedTuple):
    """Seconds of one unit of each step; seconds that a worker takes to start, and bytes that it then has."""

    seconds: dict[Step, float]
    start: float
    process: float


def calibrate(steps: Iterable[Step], *, workers: int, threads: int, device: torch.device) -> Rates:
    """Time each of the steps in `workers` processes at once, for two busy cores are slower than one."""
    ordered = sorted(set(steps))
    with tempfile.TemporaryDirectory() as name:
        jobs = [(name, number, _rotated(ordered, number, workers), str(device), threads) for number in range(workers)]
        begun = time.time()
        run_jobs(_measure, jobs, backend="loky", workers=workers, threads=threads, description="calibrating")
        found = [json.loads(path.read_text()) for path in Path(name).glob("*.json")]
    measured = [{Step(*row[:-1]): row[-1] for row in each["rows"]} for each in found]
    mean = {step: statistics.fmean(each[step] for each in measured) for step in ordered}
    start = statistics.fmean(each["begun"] for each in found) - begun
    return Rates(mean, max(0.0, start), max(each["memory"] for each in found))


def _rotated(steps: list[Step], number: int, workers: int) -> list[Step]:
    """Each process begins elsewhere, so that as in a study different networks run side by side."""
    first = number * len(steps) // workers
    return steps[first:] + steps[:first]


def _measure(job: tuple[str, int, list[Step], str, int]) -> None:
    folder, number, steps, device, threads = job
    begun, memory = time.time(), _memory()
    rows = []
    for step in steps:
        with deferred.weight_gradients(threads if step.kind in TRAINED else 1):
            rows.append([*step, seconds(step, torch.device(device))])
    (Path(folder) / f"{number}.json").write_text(json.dumps({"begun": begun, "memory": memory, "rows": rows}))


def _memory() -> int:
    """The most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds(step: Step, device: torch.device) -> float:
    """Seconds of one unit of a step, now, in this process."""
    return {
        **dict.fromkeys(TRAINED, _fit), "forward": _forward, "gradient": _gradient, "plane": _plane, "point": _point,
        "product": _product, "ascent": _ascent, "epoch": _epoch, "run": _run,
    }[step.kind](step, device)  # fmt: skip


def _timed(work: Callable[[], object], units: float) -> float:
    """The median of calls, without the first, which pays for allocation."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken[1:]) < ENOUGH:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
        if taken[0] > LONG:
            return taken[0] / units
    return statistics.median(taken[1:]) / units


def _images(step: Step, device: torch.device) -> int:
    return step.batch if device.type != "cpu" else min(step.batch, max(2, PIXELS // step.pixels**2))


def _task(images: int, pixels: int) -> Task:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (images, 3, pixels, pixels), dtype=torch.uint8, generator=generator).numpy()
    everything, labels = torch.arange(images), torch.arange(images) % CLASSES
    return Task(
        name="calibration", images=pictures, labels=labels, clean_labels=labels, groups=everything, names=(),
        class_names=list("abcdefgh"), multilabel=False, split={"train": everything}, fingerprint="", noise_rate=0.0,
    )  # fmt: skip


def _model(step: Step, device: torch.device) -> models.Classifier:
    return models.placed(models.create(step.architecture, CLASSES, seed=0), device)


def _loader(step: Step, device: torch.device, batches: int, **options) -> Loader:
    images = _images(step, device)
    task, view = _task(images * batches, step.pixels), View(0, 2, ("horizontal",))
    return Loader(task, task.split["train"], batch_size=images, view=view, device=device, **options)


def _batch(step: Step, device: torch.device):
    return next(iter(_loader(step, device, 1)))


def _fit(step: Step, device: torch.device) -> float:
    batches = 1 if _images(step, device) < step.batch else BATCHES
    loader, model = _loader(step, device, batches, shuffle_seed=0), _model(step, device)
    loss = _loss(step, model, loader.index, device)
    options = {"after_epoch": lambda model, epoch: loss.after_epoch()} if step.kind == "reinforced" else {}
    epochs = min(2, batches)

    def work() -> None:
        training.fit(model, loader, loss, epochs=epochs, learning_rate=1e-4, progress=False, **options)

    return _timed(work, len(loader.index) * epochs)


def _loss(step: Step, model: models.Classifier, index: Tensor, device: torch.device) -> Callable:
    if step.kind == "supervised":
        return distill.supervised_loss
    bank = Bank(torch.randn(TEACHERS, 2, len(index), CLASSES, generator=torch.Generator().manual_seed(0)), index)
    if step.kind == "distilled":
        return distill.DistillationLoss(bank, distill.fixed(uniform_weights(TEACHERS)), **DISTILLATION)
    selector = ReinforcedSelector(model.head.in_features, CLASSES, learning_rate=0.1, entropy_bonus=1e-3).to(device)
    return distill.ReinforcedLoss(bank, selector, seed=0, **DISTILLATION)


def _forward(step: Step, device: torch.device) -> float:
    loader, model = _loader(step, device, 1), _model(step, device)
    return _timed(lambda: training.predict(model, loader), len(loader.index))


def _gradient(step: Step, device: torch.device) -> float:
    batch, model = _batch(step, device), _model(step, device).eval()
    options = {"eps": 0.01, "norm": "l2", "loss_fn": attacks.classification_loss, "steps": 2, "step_size": 0.01}
    work = lambda: attacks.pgd(model, batch.images, batch.labels, random_start=False, **options)  # noqa: E731
    return _timed(work, 2 * len(batch.images))


def _plane(step: Step, device: torch.device) -> float:
    return _surface_seconds(step._replace(batch=2), device, points=1)


def _point(step: Step, device: torch.device) -> float:
    begun, whole = (_surface_seconds(step, device, points=points) for points in (1, 3))
    return max(whole - begun, 0.0) / 8 / _images(step, device)


def _surface_seconds(step: Step, device: torch.device, *, points: int) -> float:
    batch, model = _batch(step, device), _model(step, device).eval()
    grid = landscape.square_grid(1.0, points)

    def work() -> None:
        directions = landscape.filter_normalized_directions(model, generator=torch.Generator().manual_seed(0))
        landscape.loss_surface(model, directions, grid, batch, probe_loss)

    return _timed(work, 1)


def _product(step: Step, device: torch.device) -> float:
    batch, model, products = _batch(step, device), _model(step, device).eval(), 4
    options = {"iterations": products, "generator": torch.Generator().manual_seed(0)}
    return _timed(
        lambda: landscape.hessian_eigenvalue(model, batch, probe_loss, **options), products * len(batch.images)
    )


def _ascent(step: Step, device: torch.device) -> float:
    batch, model = _batch(step, device), _model(step, device).eval()
    options = {"radius": 0.01, "generator": torch.Generator().manual_seed(0)}
    return _timed(lambda: landscape.sharpness(model, batch, probe_loss, **options), ASCENT * len(batch.images))


def _epoch(step: Step, device: torch.device) -> float:
    """What a checkpoint writes: by the time of a training with and without one it would not be seen."""
    state = _model(step, device).state_dict()
    tensors = {
        f"{part}/{name}": value.contiguous().clone() for part in ("model", "momentum") for name, value in state.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        return _timed(lambda: save_file(tensors, Path(folder) / "checkpoint.safetensors"), 1)


def _run(step: Step, device: torch.device) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store, numbers = Store(folder), iter(range(10**6))

        def work() -> None:
            model, key = _model(step, device), f"run-{next(numbers)}"
            run = store.put(key, recipe={}, record={}, tensors={"weights": model.state_dict()})
            model.load_state_dict(run.tensors("weights"))

        return _timed(work, 1)
