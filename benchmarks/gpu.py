"""What training does on a GPU: images/s of the five architectures at batch 64, beside a bare loop and a ceiling.

python benchmarks/gpu.py                      prints a table and writes it to $OUT/gpu.md where OUT is set
python benchmarks/gpu.py --sizes 64 --steps 50 --only resnet18

Needs a CUDA device and no notebook tools. Every line is medians of repeats taken in turn, the device waited for at the end
of each repeat only:
  fit       ours: resident uint8 images, crops and flips on the device, bfloat16, channels-last, fused SGD
  recorded  the same, passes recorded as a CUDA graph and replayed, as runs of 200 steps and more are
  compiled  the same, the network through torch.compile (with --compile; needs a C compiler)
  plain     the same in float32 (TF32 in convolutions)
  bare      a loop by hand: resident images, bfloat16, channels-last, torch's own SGD, no crops and no flips
  distil    fit with Eq. 4 from a bank of five teachers
  host      fit with the images in host memory, as where they do not fit
The ceiling is that of one H200 in bfloat16 at 224 px, estimated from published numbers (MLPerf, FFCV, DeepLearningExamples).
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import torch
from timing import ARCHITECTURES, random_task
from torch.nn import functional as F

from rosutils import distill, models
from rosutils.augment import View
from rosutils.bank import Bank
from rosutils.data import Loader
from rosutils.training import fit


BATCH = 64
CEILING = {"resnet18": 20_000, "resnet34": 12_000, "resnet50": 7_000, "mobilenet_v2": 13_000, "densenet121": 5_000}
VARIANTS = ("fit", "recorded", "compiled", "plain", "bare", "distil", "host")


@click.command()
@click.option("--sizes", multiple=True, type=int, default=(64, 224), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(ARCHITECTURES), default=ARCHITECTURES)
@click.option("--variants", multiple=True, type=click.Choice(VARIANTS))
@click.option("--steps", default=40, show_default=True, help="Batches in a repeat.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Measure torch.compile too.")
def main(sizes, only, variants, steps: int, repeats: int, compiled: bool) -> None:
    """Measure and print, one line for each architecture and size as it is done."""
    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device is here; benchmarks/run.py measures on the CPU")
    chosen = [name for name in variants or VARIANTS if name != "compiled" or compiled or variants]
    head = ["network", "px", *(f"{name}, images/s" for name in chosen), "fit / bare", "ceiling", "fit / ceiling"]
    lines = [f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batch {BATCH}", "",
             f"| {' | '.join(head)} |", "|" + "---|" * len(head)]  # fmt: skip
    click.echo("\n".join(lines))
    for pixels in sizes:
        for name in only:
            lines.append(measured(name, pixels, chosen, steps, repeats))
            click.echo(lines[-1])
    if "OUT" in os.environ:
        (Path(os.environ["OUT"]) / "gpu.md").write_text("\n".join([*lines, ""]))


def measured(name: str, pixels: int, chosen: list[str], steps: int, repeats: int) -> str:
    """A line of the table; a variant that fails says so, and the others go on."""
    task, seconds = random_task(steps * BATCH, pixels), {}
    for variant in chosen:
        try:
            with ExitStack() as stack:
                seconds[variant] = timed(variant_of(variant, name, task, stack), repeats)
        except RuntimeError as error:
            click.echo(f"{name} {pixels} px, {variant}: {str(error).splitlines()[0]}", err=True)
        torch.cuda.empty_cache()
    speed = {variant: steps * BATCH / found for variant, found in seconds.items()}
    ceiling = CEILING[name] if pixels == 224 else None
    cells = [name, str(pixels), *(number(speed.get(variant)) for variant in chosen)]
    cells += [ratio(speed.get("fit"), speed.get("bare")), number(ceiling), ratio(speed.get("fit"), ceiling)]
    return f"| {' | '.join(cells)} |"


def timed(epoch: Callable, repeats: int) -> float:
    """Median seconds of an epoch after one to warm up; the device is waited for at both ends."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        epoch()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def variant_of(variant: str, name: str, task, stack: ExitStack) -> Callable:
    """One epoch of a way to train, as a function; what it needs to be in is entered on `stack`."""
    precision = "float32" if variant == "plain" else models.precision(torch.device("cuda"))
    model = models.placed(models.create(name, 8, seed=0), "cuda", precision)
    if variant == "compiled":
        model.backbone.compile()
    if variant == "recorded":
        stack.enter_context(models.recorded(model, (BATCH, *task.images.shape[1:]), models.LEAST_STEPS))
    loader = Loader(task, task.split["train"], batch_size=BATCH, shuffle_seed=0, view=VIEW, device="cuda")
    if variant == "host":
        loader.resident = None
    loss = distilled(task) if variant == "distil" else distill.supervised_loss
    if variant == "bare":
        return bare(model, torch.from_numpy(task.images).cuda(), task.labels.cuda())
    return lambda: fit(model, loader, loss, epochs=1, learning_rate=1e-3, progress=False)


VIEW = View(0, 2, ("horizontal",))


def distilled(task) -> distill.DistillationLoss:
    """Eq. 4 from the random logits of five teachers, with exponential weights drawn for each batch."""
    logits = torch.randn(5, 1, len(task.labels), 8, generator=torch.Generator().manual_seed(0))
    bank, options = Bank(logits, task.split["train"]), {"temperature": 0.5, "alpha": 0.9, "multilabel": False}
    return distill.DistillationLoss(bank, distill.ExponentialWeights(5, seed=0), **options)


def bare(model: models.Classifier, images: torch.Tensor, labels: torch.Tensor) -> Callable:
    """A loop by hand on the same network."""

    def epoch() -> None:
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
        for index in torch.randperm(len(images), device="cuda").split(BATCH):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss = F.cross_entropy(model(images[index].float() / 255), labels[index])
            loss.backward()
            optimizer.step()

    return epoch


def number(value: float | None) -> str:
    """To three digits, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def ratio(one: float | None, other: float | None) -> str:
    """Of two speeds, or a dash."""
    return f"{one / other:.2f}" if one and other else "–"


if __name__ == "__main__":
    main()
