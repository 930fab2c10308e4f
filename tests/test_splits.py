"""Train, validation and test part: whole groups at 70/10/20, or what list files say, and never a group in two parts."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosutils import InputError
from rosutils.data import splits
from rosutils.data.splits import BOTH, PARTS, refuse_torn_groups, split_by_group, split_by_lists


FRACTIONS = [0.7, 0.1, 0.2]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


group_structures = st.lists(st.integers(1, 6), min_size=40, max_size=120).flatmap(
    lambda sizes: st.permutations([group for group, size in enumerate(sizes) for _ in range(size)])
)


@settings(max_examples=30)
@given(groups=group_structures, seed=st.integers(0, 2**31))
def test_a_split_is_70_10_20_by_whole_groups_and_decided_by_its_seed(groups, seed):
    groups = torch.tensor(groups)
    split, again, other = (split_by_group(groups, FRACTIONS, generator=generator(s)) for s in (seed, seed, seed + 1))
    assert all(split[part].equal(again[part]) for part in PARTS)
    assert any(not split[part].equal(other[part]) for part in PARTS)
    assert torch.cat(list(split.values())).sort().values.equal(torch.arange(len(groups)))
    refuse_torn_groups(split, groups)
    largest = int(groups.bincount().max())
    for part, fraction in zip(PARTS, FRACTIONS, strict=True):
        assert abs(len(split[part]) - fraction * len(groups)) <= largest
        assert split[part].equal(split[part].sort().values)


@settings(max_examples=20)
@given(kept=st.sets(st.integers(0, 199), min_size=60))
def test_examples_that_are_not_eligible_are_in_no_part(kept):
    groups, eligible = torch.arange(200) // 2, torch.tensor(sorted(kept))
    split = split_by_group(groups, FRACTIONS, eligible=eligible, generator=generator())
    assert torch.cat(list(split.values())).sort().values.equal(eligible)


def test_too_few_groups_for_three_parts_are_refused():
    with pytest.raises(InputError, match=r"leaves test empty: 2 groups .* 8 images"):
        split_by_group(torch.tensor([0] * 4 + [1] * 4), FRACTIONS, generator=generator())


# List files


def by_lists(folder: Path, groups, eligible=None, seed=0, names=None, absent=0, **parts) -> dict:
    paths = {part: folder / f"{part}.txt" for part in parts}
    for part, lines in parts.items():
        paths[part].write_bytes(lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode())
    eligible = torch.arange(len(groups)) if eligible is None else eligible
    options = {"fractions": FRACTIONS, "generator": generator(seed), "absent": absent}
    return split_by_lists(paths, names or named(range(len(groups))), torch.tensor(groups), eligible, **options)


def named(numbers) -> list[str]:
    return [f"image {number:04d}.png" for number in numbers]


def test_names_are_matched_as_those_of_a_table_and_labels_behind_them_are_no_part_of_them(tmp_path):
    names = ["a/0.png", "a/1.png", "b/2.png", "c/3.png", "c/4.png", "d/5.png", "6", "7"]
    lines = ["a\\0.png", "1.png 0 1 0", "b/2,0,1", "./c/3.png", "4", ",,"]
    found = by_lists(tmp_path, range(8), names=names, train=lines, validation=["5.png"], test=["6.jpg", " 7 ,"])
    assert [found[part].tolist() for part in PARTS] == [[0, 1, 2, 3, 4], [5], [6, 7]]


def test_names_that_fit_no_image_or_several_are_counted_and_refused_beyond_those_known_to_be_absent(tmp_path):
    names = ["a/0.png", "b/0.png", "1.png", "2.png", "3.png"]
    parts = {"train": ["1.png", "0.png", "x.png"], "validation": ["2.png"], "test": ["3.png"]}
    with pytest.raises(InputError, match=r"2 names fit none .* of the 5 images, and 1 images .*: 0.png .train., x.png"):
        by_lists(tmp_path, range(5), names=names, absent=1, **parts)
    assert by_lists(tmp_path, range(5), names=names, absent=2, **parts)["train"].tolist() == [2]


def test_a_list_that_is_no_text_or_names_no_image_to_be_split_is_named(tmp_path):
    parts = {"train": named([1]), "validation": named([2]), "test": named([3])}
    for content in ("L\xe4sion.png\n".encode("latin-1"), "image.png\n".encode("utf-16")):
        with pytest.raises(InputError, match="'test': .*test.txt is not UTF-8"):
            by_lists(tmp_path, range(5), **parts | {"test": content})
    with pytest.raises(InputError, match="'test': none of its names is among the 2 images to be split"):
        by_lists(tmp_path, range(5), eligible=torch.tensor([1, 2]), **parts)


def test_a_list_for_train_and_validation_together_is_split_by_group_as_the_fractions_say(tmp_path):
    groups = [number // 2 for number in range(400)]
    lists = {BOTH: named(range(300)), "test": named(range(300, 400))}
    found = by_lists(tmp_path, groups, **lists)
    assert found["test"].tolist() == list(range(300, 400))
    assert len(found["train"]) == pytest.approx(262, abs=2) and len(found["validation"]) == pytest.approx(38, abs=2)
    assert torch.cat([found["train"], found["validation"]]).sort().values.tolist() == list(range(300))
    refuse_torn_groups(found, torch.tensor(groups))
    again, other = by_lists(tmp_path, groups, **lists), by_lists(tmp_path, groups, seed=1, **lists)
    assert again["train"].equal(found["train"]) and not other["train"].equal(found["train"])


def test_every_group_that_lists_tear_apart_is_named_with_the_lists(tmp_path):
    groups = [0, 0, 1, 1, 2, 3, 4]
    says = r"group 0 .*in both train and test .2 of them: 0, 1.: .*train.txt or .*test.txt"
    with pytest.raises(InputError, match=says):
        by_lists(tmp_path, groups, train=named([0, 2]), validation=named([4]), test=named([1, 3, 5]))


# What is written down of a split


def test_the_card_tells_images_groups_and_the_sum_of_the_very_list_that_is_written_and_gives_the_split_back(tmp_path):
    groups = torch.arange(60) // 3
    split, names = split_by_group(groups, FRACTIONS, generator=generator()), named(range(60))
    card, lists = splits.describe(split, names, groups), splits.write_lists(split, names, tmp_path / "lists")
    options = {"fractions": FRACTIONS, "generator": generator(1)}
    again = split_by_lists({path.stem: path for path in lists}, names, groups, torch.arange(60), **options)
    assert all(again[part].equal(split[part]) for part in PARTS)
    for path in lists:
        part = card[path.stem]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == part["sha256"]
        assert len(path.read_text().splitlines()) == part["images"] == 3 * part["groups"]
