"""The training loop against a bare one written by hand, and the teacher-logit bank against teachers run on every batch."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from timing import ARCHITECTURES, Row, alternately, random_task, speeds
from torch.nn import functional as F

from rosutils import distill, models
from rosutils.augment import View
from rosutils.bank import Bank, view_logits
from rosutils.data import Loader
from rosutils.training import fit
from rosutils.weights import uniform_weights


BATCH = 64
SIZES = (32, 64)
STUDENTS = 12  # in the main experiments about so many share one set of teachers


def rows(folder: Path, *, images: int = 256) -> Iterator[Row]:
    """`fit` with its loader, against the loop that anyone would write, on the same network and the same images."""
    for pixels in SIZES:
        task = random_task(images, pixels)
        for name in ARCHITECTURES:
            model = models.create(name, 8, seed=0)
            loader = Loader(task, task.split["train"], batch_size=BATCH, shuffle_seed=0)
            times = alternately(_fit(model, loader), _bare(model, torch.from_numpy(task.images), task.labels))
            yield speeds(f"an epoch of {name} at {pixels} px: `fit` against a bare loop", images, *times)


def _fit(model, loader, loss=distill.supervised_loss) -> Callable:
    return lambda: fit(model, loader, loss, epochs=1, learning_rate=1e-3, progress=False)


def _bare(model, images, labels) -> Callable:
    """Shuffle, index, scale, forward, backward, step."""

    def epoch():
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
        for index in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[index].float() / 255), labels[index]).backward()
            optimizer.step()

    return epoch


def bank_rows(folder: Path, *, images: int = 512) -> Iterator[Row]:
    """An epoch of a ResNet-18 student at 32 px with the bank, and with five teachers in eval mode on every batch."""
    task, view, teachers = random_task(images, 32), View(0, 2, ("horizontal",)), five_teachers()
    index = task.split["train"]
    make = lambda: made_bank(task, view, teachers)  # noqa: E731
    bank, making = make(), min(alternately(make, make, rounds=1))

    @torch.inference_mode()
    def on_the_fly(batch):
        return torch.stack([teacher(batch.images) for teacher in teachers]).clone()

    loader = Loader(task, index, batch_size=BATCH, shuffle_seed=0, view=view)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": False}
    weigh = distill.fixed(uniform_weights(len(teachers)))
    sides = [distill.DistillationLoss(look, weigh, **options) for look in (bank, on_the_fly)]
    apart = difference(models.create("resnet18", 8, seed=0), loader, *sides)
    students = [_fit(models.create("resnet18", 8, seed=0), loader, side) for side in sides]
    ours, theirs = alternately(*students, rounds=9)
    what = f"a student's epoch: bank against five teachers on the fly (largest difference of a loss {apart:.1e})"
    yield Row(what, ours, theirs, theirs / ours)
    shared = ours + making / STUDENTS
    what = f"the same with a {STUDENTS}th of making the bank, which took {making:.3g} s"
    yield Row(what, shared, theirs, theirs / shared)


@torch.no_grad()
def difference(student, loader, ours, theirs) -> float:
    """The largest difference between two losses of the same student on the batches of an epoch."""
    return max(abs(float(ours(student, batch) - theirs(student, batch))) for batch in loader)


def five_teachers() -> list[models.Classifier]:
    """One network of each kind in eval mode, its BatchNorm statistics settled, so that its logits are ordinary."""
    teachers = [models.create(name, 8, seed=number).train() for number, name in enumerate(ARCHITECTURES)]
    images = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for teacher in teachers:
            for _ in range(20):
                teacher(images)
    return [teacher.eval().requires_grad_(False) for teacher in teachers]


def made_bank(task, view: View, teachers: list[models.Classifier]) -> Bank:
    """The bank of one epoch's views."""
    index = task.split["train"]
    logits = [view_logits(teacher, Loader(task, index, batch_size=256, view=view), 1) for teacher in teachers]
    return Bank(torch.stack(logits), index)
