"""Train, validation and test part of a task (Section IV-A): by whole lesions or patients, or as list files say."""

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from rosutils import InputError
from rosutils.data.cache import fingerprint
from rosutils.data.raw import listed, plain_name, spellings
from rosutils.store import write_whole


PARTS = ("train", "validation", "test")
BOTH = "train+validation"  # a list that names the two together, as NIH's own does

logger = logging.getLogger(__name__)


def middles(groups: Tensor, *, generator: torch.Generator) -> Tensor:
    """The groups shuffled and laid end to end: where the middle of an example's own group falls, float64 [N], in examples."""
    unique, member, counts = groups.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(unique), generator=generator)
    return (counts[order].cumsum(0) - counts[order].double() / 2)[order.argsort()][member]


def split_by_group(groups: Tensor, fractions: Sequence[float], *, eligible=None, generator) -> dict[str, Tensor]:
    """Section IV-A: shuffle groups, then fill train, validation and test to their fractions of the examples; whole groups."""
    eligible = torch.arange(len(groups)) if eligible is None else eligible
    bounds = torch.tensor(fractions, dtype=torch.float64).cumsum(0)[:-1] * len(eligible)
    part = torch.bucketize(middles(groups[eligible], generator=generator), bounds)
    split = {name: eligible[part == number] for number, name in enumerate(PARTS[: len(fractions)])}
    if empty := [name for name, index in split.items() if len(index) == 0]:
        raise InputError(
            f"the split leaves {' and '.join(empty)} empty: {len(groups[eligible].unique())} groups (lesions or patients) with "
            f"{len(eligible)} images are too few for fractions {list(fractions)}; use more images"
        )
    return split


def split_by_lists(
    lists: Mapping[str, str | Path], names: Sequence[str], groups: Tensor, eligible: Tensor, *,
    fractions: Sequence[float], generator: torch.Generator, absent: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """Parts from text files of image names, one a line; a list for train and validation together is split by `fractions`.

    Names are as in a table. Raises InputError where more of them fit no image than `absent` ones are known, for a list
    without an image that is there, and for lists that put an image, a lesion or a patient into two parts.
    """
    numbers: dict[str, int | None] = {}
    for number, name in enumerate(names):  # None where several images may be called so
        numbers |= {key: None if key in numbers else number for key in spellings(plain_name(name))}
    numbers |= {plain_name(name): number for number, name in enumerate(names)}
    found = {part: {line: _number(line, numbers) for line in _lines(part, Path(path))} for part, path in lists.items()}
    unmatched = [f"{line} ({part})" for part, lines in found.items() for line in lines if lines[line] is None]
    if len(unmatched) > absent:
        raise InputError(
            f"data lists: {len(unmatched):,} names fit none (or several) of the {len(names):,} images, and {absent:,} images "
            f"are known to be absent: {listed(unmatched)}; correct the lists, or make the images complete"
        )
    if unmatched:
        logger.warning("data lists: %s names fit no image and are left out: %s", len(unmatched), listed(unmatched))
    parts = {}
    for part, lines in found.items():
        index = torch.tensor(sorted({*lines.values()} - {None}), dtype=torch.long)
        parts[part] = index[torch.isin(index, eligible)]
        if not len(parts[part]):
            raise InputError(f"data list '{part}': none of its names is among the {len(eligible):,} images to be split")
    refuse_torn_groups(parts, groups, lists)
    if BOTH in parts:
        train, validation, _ = fractions
        shares = [train / (train + validation), validation / (train + validation)]
        parts |= split_by_group(groups, shares, eligible=parts.pop(BOTH), generator=generator)
    return {part: parts[part] for part in PARTS}


def _lines(part: str, path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"data list '{part}': the file {path} does not exist; give a text file of image names")
    try:
        return [line for text in path.read_text("utf-8-sig").splitlines() if (line := plain_name(text.strip(" \t,;")))]
    except ValueError as error:
        raise InputError(f"data list '{part}': {path} is not UTF-8 ({error}); save it as text in UTF-8") from None


def _number(line: str, numbers: Mapping[str, int | None]) -> int | None:
    first = line.replace(",", " ").split()[0]  # some public lists have the labels behind each name
    keys = (line, first, *(os.path.splitext(text)[0] for text in (line, first)))
    return next((numbers[key] for key in keys if key in numbers), None)


def refuse_torn_groups(split: Mapping[str, Tensor], groups: Tensor, lists: Mapping | None = None) -> None:
    """Raises InputError where a lesion or patient is in two parts: the test part would leak into training."""
    lists = lists or dict.fromkeys(split, "the source's own split")
    owners = {part: set(groups[index].tolist()) for part, index in split.items()}
    for first, second in combinations(owners, 2):
        if torn := [str(group) for group in sorted(owners[first] & owners[second])]:
            raise InputError(
                f"the list files put group {torn[0]} (a lesion or patient) in both {first} and {second} ({len(torn):,} of "
                f"them: {listed(torn)}): the test part would leak into training; repair {lists[first]} or {lists[second]}"
            )


def describe(split: Mapping[str, Tensor], names: Sequence[str], groups: Tensor) -> dict[str, dict]:
    """What the data card says of each part: images, groups, and the SHA-256 of its list as `write_lists` writes it."""
    return {
        part: {"images": len(index), "groups": len(groups[index].unique()), "sha256": fingerprint(_list(names, index))}
        for part, index in split.items()
    }


def write_lists(split: Mapping[str, Tensor], names: Sequence[str], folder: str | Path) -> list[Path]:
    """One text file of image names for each part: what `lists` takes, here or with other code."""
    return [write_whole(Path(folder) / f"{part}.txt", _list(names, index)) for part, index in split.items()]


def _list(names: Sequence[str], index: Tensor) -> str:
    return "".join(f"{names[number]}\n" for number in index.tolist())
