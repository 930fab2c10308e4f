"""A `Task`: images, labels, groups, class names, split and fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rosutils import InputError
from rosutils.data.cache import fingerprint
from rosutils.data.splits import PARTS, describe, middles, refuse_torn_groups, split_by_group, split_by_lists
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
    resident: dict = field(default_factory=dict, repr=False)  # the images on each device that has room for them

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.class_names)

    def summary(self) -> str:
        """One line for people: images, parts, groups, noise, and the classes that a part lacks."""
        parts = " / ".join(f"{len(self.split[part]):,}" for part in PARTS)
        lacking = [f"; no {', '.join(lacks)} in {part}" for part in PARTS if (lacks := self.lacks(part))]
        groups, unused = len(self.groups.unique()), len(self.images) - sum(map(len, self.split.values()))
        lacking = [f"; {unused:,} images are in no part" if unused else "", *lacking]
        alone = " (every image is one of its own)" if groups == len(self.images) else ""
        return (
            f"{self.name}: {len(self.images):,} images of {self.images.shape[-1]} px in {groups:,} groups{alone}, "
            f"split {parts} (train / validation / test), {self.n_classes} {'labels' if self.multilabel else 'classes'}, "
            f"injected label noise {self.noise_rate:.1%}{''.join(lacking)}"
        )

    def lacks(self, part: str) -> list[str]:
        """The classes without an image in a part: no metric can tell anything of them there."""
        labels = self.clean_labels[self.split[part]]
        counts = labels.sum(0) if self.multilabel else labels.bincount(minlength=self.n_classes)
        return [name for name, count in zip(self.class_names, counts.tolist(), strict=True) if not count]


def make_task(
    name: str, examples, *, fractions, noise, seed: int, lists=None, split=None, keep_unlabelled=True, sample=None
) -> Task:
    """A task from a source's examples: split 70/10/20 by group (or by list files), noise on the training part.

    `lists` gives the file of each part; without it a publisher's own parts hold, unless `split` is "seeded". `sample` takes
    about that many images of whole groups before the split. Without `keep_unlabelled` the training and the validation part
    lose images without any label. Raises InputError for lists that do not fit, and for a group that is in two parts.
    """
    labels, groups = torch.from_numpy(np.array(examples.labels)), torch.from_numpy(np.array(examples.groups))
    for_split, for_noise, for_sample = (torch.Generator().manual_seed(seed * 1009 + stream) for stream in (0, 1, 3))
    how = {"fractions": fractions, "generator": for_split}
    eligible = torch.arange(len(labels))
    if sample is not None:
        eligible = eligible[middles(groups, generator=for_sample) <= sample]
    if lists:
        raw = examples.card.get("raw", {})
        absent = raw.get("missing", 0) + raw.get("unreadable", 0)
        parts = split_by_lists(lists, examples.names, groups, eligible, absent=absent, **how)
    elif "split" in examples.card and split != "seeded":  # the publisher's own parts, as ranges of examples
        ranges = examples.card["split"].items()
        parts = {part: eligible[(eligible >= start) & (eligible < end)] for part, (start, end) in ranges}
    else:
        parts = split_by_group(groups, eligible=eligible, **how)
    refuse_torn_groups(parts, groups)
    if examples.multilabel and not keep_unlabelled:  # the test part stays what it is, or readings could not be compared
        parts |= {part: parts[part][labels[parts[part]].sum(1) > 0] for part in ("train", "validation")}
    if empty := [part for part in PARTS if not len(parts[part])]:
        what = f"the split of task '{name}' leaves {' and '.join(empty)} empty"
        raise InputError(f"{what}; use more images, or another split")
    given, train = labels.clone(), parts["train"]
    given[train] = _noisy(labels[train], noise, examples, generator=for_noise)
    numbered = [part for name in PARTS for part in (name, parts[name])]
    same = {key: getattr(examples, key) for key in ("images", "names", "class_names", "multilabel", "resident")}
    return Task(
        name=name, labels=given, clean_labels=labels, groups=groups, split=parts, **same,
        fingerprint=fingerprint(examples.fingerprint, given, *numbered),
        noise_rate=float(noise_rate(given[train], labels[train])),
        card={**examples.card, "parts": describe(parts, examples.names, groups)},
    )  # fmt: skip


def _noisy(labels: Tensor, noise, examples, *, generator: torch.Generator) -> Tensor:
    n_classes, entries = len(examples.class_names), (noise.false_negatives, noise.false_positives)
    if examples.multilabel and entries != (None, None):
        return flip_labels(labels, label_flip_rates(*(rate or 0.0 for rate in entries), n_classes), generator=generator)
    move = move_labels if examples.multilabel else flip_labels
    return move(labels, transition_matrix(noise.kind, noise.rate, n_classes), generator=generator)


def examples_by_class(task: Task, per_class: int, *, part: str = "train") -> dict[str, Tensor]:
    """The first examples of each class of a part by clean label, one per lesion or patient: for looking at."""
    index = task.split[part]
    index = index[np.sort(np.unique(task.groups[index].numpy(), return_index=True)[1])]
    labels = task.clean_labels[index]
    has = labels.T > 0 if task.multilabel else labels == torch.arange(task.n_classes)[:, None]
    return {name: index[shown][:per_class] for name, shown in zip(task.class_names, has, strict=True)}


def intensities(task: Task, per_class: int = 500) -> dict[str, np.ndarray]:
    """Mean pixel value (0 to 255) of the first training images of each class, one per lesion or patient: float [n]."""
    chosen = examples_by_class(task, per_class)
    return {name: np.array([task.images[number].mean() for number in index.tolist()]) for name, index in chosen.items()}
