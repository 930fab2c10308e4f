"""What a user would pick instead: the same distillation run with torchdistill, on the same images and networks.

Both train a ResNet-18 with SGD from five teachers that count equally (Baseline III), on crops and flips of 32 px.
torchdistill runs the teachers on every batch; ours looks their logits up, which needs the bank once for all students.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from loop import BATCH, STUDENTS, five_teachers, made_bank
from timing import Row, alternately, random_task, speeds
from torch import Tensor, nn
from torch.utils.data import Dataset, RandomSampler
from torchdistill.core.distillation import get_distillation_box
from torchvision.transforms import v2

from rosutils import distill, models
from rosutils.augment import View
from rosutils.data import Loader, Task
from rosutils.training import fit
from rosutils.weights import uniform_weights


TEMPERATURE, ALPHA = 0.5, 0.9


def rows(folder: Path, *, images: int = 512) -> Iterator[Row]:
    """Images per second of an epoch, with the bank at hand and with a share of making it."""
    task, view, teachers = random_task(images, 32), View(0, 2, ("horizontal",)), five_teachers()
    for count in (1, len(teachers)):
        make = lambda chosen=teachers[:count]: made_bank(task, view, chosen)  # noqa: E731
        bank, making = make(), min(alternately(make, make, rounds=1))
        ours, theirs = alternately(_ours(task, view, bank, count), _torchdistill(task, teachers[:count]), rounds=3)
        what = (
            f"an epoch of a student with {count} teacher{'s' * (count > 1)}: `fit` with the bank against torchdistill"
        )
        yield speeds(what, images, ours, theirs)
        yield speeds(f"the same with a {STUDENTS}th of making the bank", images, ours + making / STUDENTS, theirs)


def _ours(task: Task, view: View, bank, count: int) -> Callable:
    loader = Loader(task, task.split["train"], batch_size=BATCH, shuffle_seed=0, view=view)
    options = {"temperature": TEMPERATURE, "alpha": ALPHA, "multilabel": False}
    loss = distill.DistillationLoss(bank, distill.fixed(uniform_weights(count)), **options)
    model = models.create("resnet18", 8, seed=0)
    return lambda: fit(model, loader, loss, epochs=1, learning_rate=1e-3, progress=False)


def _torchdistill(task: Task, teachers: list[nn.Module]) -> Callable:
    criterion = {"student_module_path": ".", "student_module_io": "output", "teacher_module_path": ".",
                 "teacher_module_io": "output", "temperature": TEMPERATURE, "alpha": 1 - ALPHA}  # fmt: skip
    config = {
        "num_epochs": 1000,
        "train_data_loader": {
            "dataset_id": "train", "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": BATCH, "num_workers": 0, "drop_last": True},
        },
        "teacher": {"requires_grad": False, "forward_proc": "forward_batch_only"},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 2e-4}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {
            "kd": {"criterion": {"key": "KDLoss", "kwargs": criterion}, "weight": 1.0}}}},
    }  # fmt: skip
    student, device = models.create("resnet18", 8, seed=0), torch.device("cpu")
    box = get_distillation_box(Together(teachers), student, {"train": Views(task)}, config, device, None, False, 1)

    def epoch() -> None:
        box.pre_epoch_process(epoch=0)
        for images, labels, extra in box.train_data_loader:
            box.pre_forward_process()
            box.post_forward_process(loss=box.forward_process(images, labels, extra))

    return epoch


class Together(nn.Module):
    """Teachers as one: the logits whose soft targets are the mean of the teachers'."""

    def __init__(self, teachers: list[nn.Module]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        soft = torch.stack([(teacher(images) / TEMPERATURE).softmax(-1) for teacher in self.teachers])
        return TEMPERATURE * soft.mean(0).clamp_min(1e-30).log()


class Views(Dataset):
    """The same images through torchvision's transforms, one at a time, as its data sets do."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels = torch.from_numpy(task.images), task.labels
        steps = [v2.RandomCrop(task.images.shape[-1], padding=2, padding_mode="reflect"), v2.RandomHorizontalFlip()]
        self.transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[number]), self.labels[number]
