"""Baseline IV where the answer is known: three teachers are planted, and the policy is to tell the good one (ours)."""

from collections import OrderedDict

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rosutils import training
from rosutils.bank import Bank
from rosutils.data import Loader, Task
from rosutils.distill import ReinforcedLoss
from rosutils.weights import ReinforcedSelector


PLANTED = ("good", "random", "misleading")


def planted_selection(*, reward: str, seed: int, epochs: int = 10, multilabel: bool = False) -> pd.DataFrame:
    """Whom Baseline IV selects where the answer is known: a small student taught by three teachers that were planted.

    One is right about nine images in ten, one tells the labels of other images, one wrong ones. Columns reward, seed, epoch,
    teacher, probability (of being selected, after that epoch, a mean over images), unselected (of `ReinforcedLoss`).
    """
    task, bank = _planted_task(seed, epochs, multilabel)
    train, student = task.split["train"], _pupil(seed)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": multilabel}
    loss = ReinforcedLoss(bank, ReinforcedSelector(32, 4), seed=seed, reward=reward, **options)
    everything, validation = (Loader(task, task.split[part], batch_size=len(train)) for part in ("train", "validation"))

    def after_epoch(model: nn.Module, epoch: int) -> dict:
        row = loss.after_epoch(_right(*training.predict(model, validation)))
        chances = loss.probabilities(model, next(iter(everything))).mean(1)
        return row | dict(zip(PLANTED, chances.tolist(), strict=True))

    loader = Loader(task, train, batch_size=32, shuffle_seed=seed)
    how = {"epochs": epochs, "learning_rate": 0.1, "seed": seed, "after_epoch": after_epoch, "progress": False}
    history = training.fit(student, loader, loss, **how)
    told = pd.DataFrame(history).melt(["epoch", "unselected"], list(PLANTED), "teacher", "probability")
    return told.assign(reward=reward, seed=seed)[["reward", "seed", "epoch", "teacher", "probability", "unselected"]]


def _pupil(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32), nn.ReLU())
        return nn.Sequential(OrderedDict(features=features, head=nn.Linear(32, 4)))


def _planted_task(seed: int, epochs: int, multilabel: bool) -> tuple[Task, Bank]:
    """Images of 8 x 8 pixels that are sums of their labels' patterns, and noise; 512 to train on, 128 for validation."""
    generator = torch.Generator().manual_seed(seed)
    present = (torch.rand(640, 4, generator=generator) < 0.5).float()
    if not multilabel:
        present = F.one_hot(torch.randint(4, (640,), generator=generator)).float()
    patterns, noise = (torch.randn(n, 3, 8, 8, generator=generator) for n in (4, 640))
    pixels = 128 + 40 * torch.einsum("nc,cxyz->nxyz", present - 0.5, patterns) + 40 * noise
    labels, train = present if multilabel else present.argmax(1), torch.arange(512)
    task = Task(
        name="planted", images=pixels.clamp(0, 255).byte().numpy(), labels=labels, clean_labels=labels,
        groups=torch.arange(640), names=(), class_names=list("abcd"), multilabel=multilabel,
        split={"train": train, "validation": torch.arange(512, 640)}, fingerprint="", noise_rate=0.0,
    )  # fmt: skip
    logits = _planted_logits(present[train], multilabel, generator)
    return task, Bank(logits[:, None].expand(-1, epochs, -1, -1), train)


def _planted_logits(present: Tensor, multilabel: bool, generator: torch.Generator) -> Tensor:
    """[3, N, C] in the order of PLANTED, from labels [N, C] in {0, 1}."""
    of_others, slips = (present[torch.randperm(len(present), generator=generator)] for _ in range(2))
    slipped = torch.rand(len(present), 1, generator=generator) < 0.1
    wrong = 1 - present if multilabel else present.roll(1, 1)
    believed = torch.stack([torch.where(slipped, slips, present), of_others, wrong])
    return 4 * (believed - 0.5) + 0.5 * torch.randn(believed.shape, generator=generator)


def _right(logits: Tensor, labels: Tensor) -> float:
    """The share of right decisions."""
    return float(((logits > 0) == labels if labels.is_floating_point() else logits.argmax(1) == labels).float().mean())
