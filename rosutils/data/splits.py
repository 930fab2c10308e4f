"""Train, validation and test part of a task (Section IV-A): by whole lesions or patients, or as list files say."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rosutils import InputError


PARTS = ("train", "validation", "test")
BOTH = "train+validation"  # a list that names the two together, as NIH's own does
SHOWN = 20


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
    lists: Mapping[str, str | Path], names: Sequence[str], groups: Tensor, eligible: Tensor, *,
    fractions: Sequence[float], generator: torch.Generator,
) -> dict[str, Tensor]:  # fmt: skip
    """Parts from text files of image names, one a line; a list for train and validation together is split by `fractions`.

    Listed names that are not present are left out. Raises InputError for a list without any image that is there, and for
    lists that put an image, a lesion or a patient into two parts, naming them.
    """
    position = {name: number for number, name in enumerate(names)}
    allowed = set(eligible.tolist())
    listed = {part: _listed(part, Path(path), position, allowed) for part, path in lists.items()}
    _refuse_torn(listed, groups, lists)
    if BOTH in listed:
        train, validation, _ = fractions
        shares = [train / (train + validation), validation / (train + validation)]
        listed |= split_by_group(groups, shares, eligible=listed.pop(BOTH), generator=generator)
    return {part: listed[part] for part in PARTS}


def _listed(part: str, path: Path, position: Mapping[str, int], eligible: set[int]) -> Tensor:
    if not path.is_file():
        raise InputError(
            f"data list '{part}': the file {path} does not exist; give the path of a text file of image names"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    # Some public lists have the labels behind each name.
    numbers = {position.get(line, position.get(line.replace(",", " ").split()[0])) for line in lines}
    present = sorted((numbers - {None}) & eligible)
    if not present:
        raise InputError(
            f"data list '{part}': none of the {len(lines)} names in {path} is among the {len(position)} images"
        )
    return torch.tensor(present)


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
