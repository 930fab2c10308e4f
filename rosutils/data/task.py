"""A `Task`: images, labels, groups, class names, split, fingerprint; and the loader that hands it out in batches."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rosutils import InputError
from rosutils.augment import View
from rosutils.data.devices import AHEAD, Images, send
from rosutils.data.splits import PARTS, describe, refuse_torn_groups, split_by_group, split_by_lists
from rosutils.noise import flip_labels, label_flip_rates, move_labels, noise_rate, transition_matrix


@dataclass(frozen=True)
class Task:
    """One classification task (Section IV-A), split by lesion or patient, label noise on the training part only."""

    name: str
    images: np.ndarray  # uint8 [N, channels, H, W]
    labels: Tensor  # as given to training: int64 [N], or float32 [N, C]
    clean_labels: Tensor  # before the injected noise
    groups: Tensor  # int64 [N]
    names: Sequence[str]
    class_names: Sequence[str]
    multilabel: bool
    split: Mapping[str, Tensor]  # part -> example numbers, sorted
    fingerprint: str
    noise_rate: float  # measured on the training part
    card: Mapping = field(default_factory=dict)

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def summary(self) -> str:
        """One line for people: images, parts, groups, noise."""
        parts = " / ".join(f"{len(self.split[part]):,}" for part in PARTS)
        return (
            f"{self.name}: {len(self.images):,} images of {self.images.shape[-1]} px in {len(self.groups.unique()):,} groups, "
            f"split {parts} (train / validation / test), {self.n_classes} {'labels' if self.multilabel else 'classes'}, "
            f"injected label noise {self.noise_rate:.1%}"
        )


def make_task(
    name: str,
    examples,
    *,
    fractions: Sequence[float],
    noise,
    seed: int,
    lists=None,
    split: str | None = None,
    keep_unlabelled=True,
    sample: int | None = None,
) -> Task:
    """A task from a source's examples: split 70/10/20 by group (or by list files), noise on the training part.

    `lists` gives the file of each part; without it a publisher's own parts hold, unless `split` is "seeded". `sample` takes
    about that many images of whole groups before the split. The task's card tells the parts (see `splits.describe`).

    Without `keep_unlabelled` the training and the validation part lose images without any label. Raises InputError for lists
    that do not fit, and for a group that is in two parts.
    """
    labels = torch.from_numpy(np.array(examples.labels))
    groups = torch.from_numpy(np.array(examples.groups))
    eligible = torch.arange(len(labels))
    if sample is not None:
        eligible = _whole_groups(groups, eligible, sample, generator=_generator(seed, 3))
    if lists:
        parts = split_by_lists(
            lists, examples.names, groups, eligible, fractions=fractions, generator=_generator(seed, 0)
        )
    elif "split" in examples.card and split != "seeded":  # the publisher's own parts, as ranges of examples
        parts = {
            part: eligible[(eligible >= start) & (eligible < end)]
            for part, (start, end) in examples.card["split"].items()
        }
    else:
        parts = split_by_group(groups, fractions, eligible=eligible, generator=_generator(seed, 0))
    refuse_torn_groups(parts, groups)
    if examples.multilabel and not keep_unlabelled:  # the test part stays what it is, or readings could not be compared
        parts |= {part: parts[part][labels[parts[part]].sum(1) > 0] for part in ("train", "validation")}
    given = labels.clone()
    given[parts["train"]] = _noisy(labels[parts["train"]], noise, examples, generator=_generator(seed, 1))
    return Task(
        name=name, images=examples.images, labels=given, clean_labels=labels, groups=groups, names=examples.names,
        class_names=examples.class_names, multilabel=examples.multilabel, split=parts,
        fingerprint=fingerprint(examples.fingerprint, given, *(part for name in PARTS for part in (name, parts[name]))),
        noise_rate=float(noise_rate(given[parts["train"]], labels[parts["train"]])),
        card={**examples.card, "parts": describe(parts, examples.names, groups)},
    )  # fmt: skip


def _noisy(labels: Tensor, noise, examples, *, generator: torch.Generator) -> Tensor:
    n_classes, entries = len(examples.class_names), (noise.false_negatives, noise.false_positives)
    if examples.multilabel and entries != (None, None):
        return flip_labels(labels, label_flip_rates(*(rate or 0.0 for rate in entries), n_classes), generator=generator)
    move = move_labels if examples.multilabel else flip_labels
    return move(labels, transition_matrix(noise.kind, noise.rate, n_classes), generator=generator)


def _whole_groups(groups: Tensor, eligible: Tensor, count: int, *, generator: torch.Generator) -> Tensor:
    """About `count` of the eligible examples, as whole groups in random order until their middle is past it."""
    unique, member, counts = groups[eligible].unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(unique), generator=generator)
    taken = torch.zeros(len(unique), dtype=torch.bool)
    taken[order] = counts[order].cumsum(0) - counts[order] / 2 <= count
    return eligible[taken[member]]


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1009 + stream)


def examples_by_class(task: Task, per_class: int, *, part: str = "train") -> dict[str, Tensor]:
    """The first examples of each class of a part by clean label, one per lesion or patient: for looking at."""
    index = task.split[part]
    first_of_group = np.unique(task.groups[index].numpy(), return_index=True)[1]
    index = index[torch.from_numpy(np.sort(first_of_group))]
    labels = task.clean_labels[index]
    return {
        name: index[(labels[:, number] > 0) if task.multilabel else (labels == number)][:per_class]
        for number, name in enumerate(task.class_names)
    }


def intensities(task: Task, per_class: int = 500) -> dict[str, np.ndarray]:
    """Mean pixel value (0 to 255) of the first training images of each class, one per lesion or patient: float [n]."""
    chosen = examples_by_class(task, per_class)
    return {name: np.array([task.images[number].mean() for number in index.tolist()]) for name, index in chosen.items()}


def fingerprint(*parts: str | Tensor) -> str:
    """SHA-256 over strings and the bytes of tensors, in order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode() if isinstance(part, str) else part.contiguous().numpy().tobytes())
    return sha.hexdigest()


class Batch(NamedTuple):
    """What a loader yields: images float [B, channels, H, W] in [0, 1], labels, example numbers [B] (on the host), epoch."""

    images: Tensor
    labels: Tensor
    index: Tensor
    epoch: int


class Loader:
    """Batches of a task's examples; order and views of an epoch depend on (seed, epoch) alone.

    With `shuffle_seed` the order is shuffled and a smaller last batch is dropped, or there are `batches` an epoch, for which
    the examples are shuffled as often as it takes; without, the order is that of `index`.
    On an accelerator the images are gathered, cropped, flipped and scaled there, and nothing waits for it.
    """

    def __init__(
        self, task: Task, index: Tensor, *, batch_size: int, shuffle_seed: int | None = None, batches: int | None = None,
        view: View | None = None, device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        if shuffle_seed is not None and len(index) < batch_size:
            raise InputError(
                f"training.batch_size is {batch_size}, but a training set of task '{task.name}' has only {len(index)} "
                "examples: use a smaller batch_size or more images"
            )
        self.task, self.index, self.batch_size, self.batches = task, index, batch_size, batches
        self.shuffle_seed, self.view, self.device, self.epoch = shuffle_seed, view, torch.device(device), 0
        self.images = Images(task.images, self.device)
        # a processor gains nothing from several batches at once; an accelerator waits for fewer launches
        self.batches_ahead = 1 if self.device.type == "cpu" else max(1, AHEAD // batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch (from 0) whose order and views come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = len(self.index) / self.batch_size
        return math.ceil(batches) if self.shuffle_seed is None else self.batches or math.floor(batches)

    def __iter__(self) -> Iterator[Batch]:
        order = self.index
        if self.shuffle_seed is not None:
            generator = torch.Generator().manual_seed(self.shuffle_seed * 100_003 + self.epoch)
            rounds = math.ceil(len(self) * self.batch_size / len(order))
            order = torch.cat([order[torch.randperm(len(order), generator=generator)] for _ in range(rounds)])
        order, together = order[: len(self) * self.batch_size], self.batches_ahead * self.batch_size
        for start in range(0, len(order), together):
            yield from self._batches(order[start : start + together])

    def _batches(self, index: Tensor) -> Iterator[Batch]:
        """Gathered, cropped and flipped together on the device; then cut into batches."""
        on_device, labels = send(index, self.device), send(self.task.labels[index], self.device)
        images = self.images(index, on_device)
        if self.view is not None:
            images = self.view(images, on_device, self.epoch)
        parts = (tensor.split(self.batch_size) for tensor in (images, labels, index))
        for pixels, targets, numbers in zip(*parts, strict=True):
            yield Batch(pixels.float() / 255, targets, numbers, self.epoch)
