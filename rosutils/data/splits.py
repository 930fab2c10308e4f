"""Train, validation and test part of a task (Section IV-A): by whole lesions or patients, or as list files say."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rosutils import InputError
from rosutils.data.raw import SHOWN, listed, plain_name, spellings


PARTS = ("train", "validation", "test")
BOTH = "train+validation"  # a list that names the two together, as NIH's own does


def split_by_group(
    groups: Tensor, fractions: Sequence[float], *, eligible: Tensor | None = None, generator: torch.Generator
) -> dict[str, Tensor]:
    """Section IV-A: shuffle groups, then fill train, validation and test to their fractions of the examples; whole groups."""
    eligible = torch.arange(len(groups)) if eligible is None else eligible
    unique, member, counts = groups[eligible].unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(unique), generator=generator)
    filled = counts[order].cumsum(0) - counts[order] / 2  # a group goes where its middle falls
    bounds = torch.tensor(fractions, dtype=torch.float64).cumsum(0)[:-1] * len(eligible)
    part = torch.empty(len(unique), dtype=torch.long)
    part[order] = torch.bucketize(filled.double(), bounds)
    names = PARTS[: len(fractions)]
    split = {name: eligible[part[member] == number] for number, name in enumerate(names)}
    empty = [name for name, index in split.items() if len(index) == 0]
    if empty:
        raise InputError(
            f"the split leaves {' and '.join(empty)} empty: {len(unique)} groups (lesions or patients) with "
            f"{len(eligible)} images are too few for fractions {list(fractions)}; use more images"
        )
    return split


def split_by_lists(
    lists: Mapping[str, str | Path],
    names: Sequence[str],
    groups: Tensor,
    eligible: Tensor,
    *,
    fractions: Sequence[float],
    generator: torch.Generator,
    absent: int = 0,
) -> dict[str, Tensor]:
    """Parts from text files of image names, one a line; a list for train and validation together is split by `fractions`.

    Names are matched as those of a table: a path or a file name, with or without suffix. Raises InputError where more names
    than the `absent` images fit none, for a list without any image that is there, and for lists that put an image, a lesion
    or a patient into two parts, naming them.
    """
    numbers = _by_spelling(names)
    read = {part: _listed(part, Path(path), numbers) for part, path in lists.items()}
    unmatched = [f"{line} ({Path(lists[part]).name})" for part, (_, lines) in read.items() for line in lines]
    if len(unmatched) > absent:
        raise InputError(
            f"the split's lists have {len(unmatched):,} names that fit none or several of the {len(names):,} images, of which "
            f"{absent:,} are known to be missing: {listed(unmatched)}; correct the lists, or make the images complete"
        )
    parts = {part: index[torch.isin(index, eligible)] for part, (index, _) in read.items()}
    if empty := [part for part, index in parts.items() if not len(index)]:
        raise InputError(f"data list '{empty[0]}': none of its names is among the {len(eligible):,} images to be split")
    _refuse_torn(parts, groups, lists)
    if BOTH in parts:
        train, validation, _ = fractions
        shares = [train / (train + validation), validation / (train + validation)]
        parts |= split_by_group(groups, shares, eligible=parts.pop(BOTH), generator=generator)
    return {part: parts[part] for part in PARTS}


def _by_spelling(names: Sequence[str]) -> dict[str, int | None]:
    """The number of each image by all that a list may call it; None where several images are called so."""
    numbers: dict[str, int | None] = {}
    for number, name in enumerate(names):
        for key in spellings(plain_name(name)):
            numbers[key] = None if key in numbers else number
    return numbers | {plain_name(name): number for number, name in enumerate(names)}


def _listed(part: str, path: Path, numbers: Mapping[str, int | None]) -> tuple[Tensor, list[str]]:
    """The images of a list, sorted, and its lines that fit none."""
    try:
        lines = [line.strip(" \t,;") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        gone = f"the file {path} does not exist" if not path.is_file() else f"{path} cannot be read ({error})"
        raise InputError(
            f"data list '{part}': {gone}; give a text file in UTF-8 with an image name on each line"
        ) from None
    found = {line: _number(plain_name(line), numbers) for line in lines if line}
    index = sorted({number for number in found.values() if number is not None})
    return torch.tensor(index, dtype=torch.long), [line for line, number in found.items() if number is None]


def _number(line: str, numbers: Mapping[str, int | None]) -> int | None:
    first = line.replace(",", " ").split()[0]  # some public lists have the labels behind each name
    keys = (line, first, *(os.path.splitext(text)[0] for text in (line, first)))
    return next((numbers[key] for key in keys if key in numbers), None)


def _refuse_torn(listed: Mapping[str, Tensor], groups: Tensor, lists: Mapping[str, str | Path]) -> None:
    owners = {part: set(groups[index].tolist()) for part, index in listed.items()}
    names = list(owners)
    for first, second in ((a, b) for place, a in enumerate(names) for b in names[place + 1 :]):
        if torn := sorted(owners[first] & owners[second]):
            more = f", as {len(torn) - 1:,} others: {', '.join(map(str, torn[1:SHOWN]))}" if len(torn) > 1 else ""
            raise InputError(
                f"the list files put group {torn[0]} (a lesion or patient) in both {first} and {second}{more}: the test part "
                f"would leak into training; repair {lists[first]} or {lists[second]}"
            )


def refuse_torn_groups(split: Mapping[str, Tensor], groups: Tensor) -> None:
    """Raises InputError where a lesion or patient is in two parts: the test part would leak into training."""
    _refuse_torn(split, groups, dict.fromkeys(split, "the source's own split"))


def describe(split: Mapping[str, Tensor], names: Sequence[str], groups: Tensor) -> dict[str, dict]:
    """What the data card says of each part: images, groups, and the SHA-256 of its list as `write_lists` writes it."""
    return {
        part: {
            "images": len(index), "groups": len(groups[index].unique()),
            "sha256": hashlib.sha256(_list(names, index).encode()).hexdigest(),
        }
        for part, index in split.items()
    }  # fmt: skip


def write_lists(split: Mapping[str, Tensor], names: Sequence[str], folder: str | Path) -> list[Path]:
    """One text file of image names for each part: what `lists` takes, here or with other code."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = {part: Path(folder) / f"{part}.txt" for part in split}
    for part, path in paths.items():
        path.write_text(_list(names, split[part]), encoding="utf-8", newline="\n")
    return list(paths.values())


def _list(names: Sequence[str], index: Iterable) -> str:
    return "".join(f"{names[number]}\n" for number in index.tolist())
