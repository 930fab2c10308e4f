"""PGD against torchattacks, and the loss surface against loss-landscapes: the same work, alternately."""

from collections.abc import Iterator
from pathlib import Path

import loss_landscapes
import numpy as np
import torch
import torchattacks
from loss_landscapes.metrics import Loss
from timing import Row, alternately, random_task
from torch import nn

from rosutils import attacks, landscape, models
from rosutils.data import Loader
from rosutils.study.probes import probe_loss


STEPS, EPS = 10, 8 / 255
POINTS = 13


def rows(folder: Path, *, images: int = 128) -> Iterator[Row]:
    """A ResNet-18 in eval mode at 32 px: PGD in both norms, then a plane of the loss."""
    task = random_task(images, 32)
    batch = next(iter(Loader(task, task.split["train"], batch_size=images)))
    model = models.create("resnet18", 8, seed=0).eval()
    # As after training: loss-landscapes divides by the norm of each parameter, and some start at 0.
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    yield from _attacks(model, batch)
    yield _surface(model, batch)


def _attacks(model: nn.Module, batch) -> Iterator[Row]:
    peers = {
        "linf": torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=True),
        "l2": torchattacks.PGDL2(model, eps=1.0, alpha=0.25, steps=STEPS, random_start=True),
    }
    for norm, peer in peers.items():
        eps = EPS if norm == "linf" else 1.0
        options = {"eps": eps, "norm": norm, "step_size": eps / 4, "steps": STEPS, "random_start": True}
        options |= {"loss_fn": attacks.classification_loss, "generator": torch.Generator().manual_seed(0)}
        ours = lambda options=options: attacks.pgd(model, batch.images, batch.labels, **options)  # noqa: E731
        theirs = lambda peer=peer: peer(batch.images, batch.labels)  # noqa: E731
        seconds = alternately(ours, theirs)
        yield Row(f"PGD-{STEPS} in {norm} on {len(batch.images)} images: ours against torchattacks",
                  *seconds, seconds[1] / seconds[0])  # fmt: skip


def _surface(model: nn.Module, batch) -> Row:
    metric = Loss(nn.functional.cross_entropy, batch.images, batch.labels)

    def ours() -> np.ndarray:
        directions = landscape.filter_normalized_directions(model, generator=torch.Generator().manual_seed(0))
        return landscape.loss_surface(model, directions, landscape.square_grid(1.0, POINTS), batch, probe_loss)

    def theirs() -> np.ndarray:
        options = {"distance": 1, "steps": POINTS, "normalization": "filter", "deepcopy_model": True}
        return loss_landscapes.random_plane(model, metric, **options)

    seconds = alternately(ours, theirs)
    what = f"a surface of {POINTS} x {POINTS} points on {len(batch.images)} images: ours against loss-landscapes"
    return Row(what, *seconds, seconds[1] / seconds[0])
