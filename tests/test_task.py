"""A task: whole groups in one part, noise on the training part only, a fingerprint of its content."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rosutils import InputError
from rosutils.data import make_task
from rosutils.data.sources import Examples
from rosutils.data.splits import PARTS
from rosutils.data.task import examples_by_class
from rosutils.params import Noise


FRACTIONS = [0.7, 0.1, 0.2]


def examples(n=600, *, multilabel=False, n_classes=4, group_size=3, fingerprint="f", pixels=8) -> Examples:
    generator = np.random.default_rng(0)
    labels = (generator.random((n, n_classes)) < 0.3).astype(np.float32) if multilabel else np.arange(n) % n_classes
    return Examples(
        images=generator.integers(0, 256, (n, 3, pixels, pixels), dtype=np.uint8), labels=labels,
        groups=generator.permutation(n) // group_size, names=tuple(f"image{i:04d}" for i in range(n)),
        class_names=tuple("abcdefgh"[:n_classes]), multilabel=multilabel,
        fingerprint=fingerprint, card={"source": "test"},
    )  # fmt: skip


def task(found=None, *, noise=None, seed=0, **options):
    return make_task("test", found or examples(), fractions=FRACTIONS, noise=noise or Noise(), seed=seed, **options)


# The split


def test_images_without_any_finding_are_kept_or_dropped_as_asked():
    found = examples(multilabel=True)
    empty = set(np.flatnonzero(found.labels.sum(1) == 0).tolist())
    assert empty
    kept, dropped = (task(found, keep_unlabelled=keep).split for keep in (True, False))
    assert set(torch.cat(list(kept.values())).tolist()) == set(range(600))
    assert kept["test"].equal(dropped["test"]), "or readings would be compared on other test images"
    for part in ("train", "validation"):
        assert set(dropped[part].tolist()) == set(kept[part].tolist()) - empty


# List files


def lists(folder: Path, **parts) -> dict[str, str]:
    for part, names in parts.items():
        (folder / f"{part}.txt").write_text("\n".join(names) + "\n")
    return {part: str(folder / f"{part}.txt") for part in PARTS}


def named(*numbers) -> list[str]:
    return [f"image{number:04d}" for number in numbers]


def test_lists_decide_the_parts_and_as_many_names_as_images_are_missing_may_fit_none(tmp_path, caplog):
    found = examples(12, group_size=1)
    paths = lists(tmp_path, train=[*named(5, 1, 9), "absent", ""], validation=named(0), test=named(7, 2))
    with pytest.raises(InputError, match="1 names fit none"):
        task(found, lists=paths)
    partial = dataclasses.replace(found, card={"source": "test", "raw": {"missing": 1, "unreadable": 0}})
    with pytest.raises(InputError, match=r"'validation'.*nowhere does not exist"):
        task(partial, lists=paths | {"validation": "nowhere"})
    split = task(partial, lists=paths).split
    assert "1 names fit no image and are left out: absent (train)" in caplog.text
    assert [split[part].tolist() for part in PARTS] == [[1, 5, 9], [0], [2, 7]]


# Label noise


NOISES = {
    False: Noise(kind="symmetric", rate=0.3),
    True: Noise(kind="symmetric", rate=0.3, false_negatives=0.2, false_positives=0.05),
}


@pytest.mark.parametrize("multilabel", [False, True])
def test_noise_is_on_the_training_part_alone_and_the_clean_labels_are_kept(multilabel):
    found = examples(multilabel=multilabel)
    made = task(found, noise=NOISES[multilabel])
    assert made.clean_labels.equal(torch.from_numpy(np.array(found.labels)))
    for part in ("validation", "test"):
        assert made.labels[made.split[part]].equal(made.clean_labels[made.split[part]])
    train = made.split["train"]
    assert made.noise_rate == pytest.approx((made.labels[train] != made.clean_labels[train]).double().mean().item())
    assert made.noise_rate > 0 == task(found).noise_rate
    clean, given = made.clean_labels[train].bool(), made.labels[train].bool()
    if multilabel:  # lost and gained at their own rates
        assert (~given[clean]).double().mean().item() == pytest.approx(0.2, abs=0.05)
        assert given[~clean].double().mean().item() == pytest.approx(0.05, abs=0.02)
    torch.manual_seed(2)
    again, other = (task(found, noise=NOISES[multilabel], seed=seed) for seed in (0, 1))
    both = np.intersect1d(train, other.split["train"])
    assert again.labels.equal(made.labels) and not made.labels[both].equal(other.labels[both])


def test_a_rate_alone_moves_the_labels_of_images_with_several():
    made = task(examples(6000, multilabel=True), noise=Noise(kind="pairflip", rate=0.3))
    train = made.split["train"]
    clean, given = made.clean_labels[train], made.labels[train]
    one = clean.sum(1) == 1
    moved = (clean[one] != given[one]).any(1)
    assert moved.double().mean().item() == pytest.approx(0.3, abs=0.04)
    assert given[one][moved].equal(clean[one][moved].roll(1, dims=1))


# A sample of the images


@pytest.mark.parametrize("count", [30, 60, 10_000])
def test_a_sample_takes_whole_groups_of_about_that_many_images(count):
    found = examples(200, group_size=5)
    whole, made = task(found), task(found, sample=count)
    taken = torch.cat(list(made.split.values()))
    assert abs(len(taken) - min(count, 200)) <= 5
    for group in made.groups[taken].unique():
        assert (made.groups == group).sum() == (made.groups[taken] == group).sum()
    assert (made.fingerprint == whole.fingerprint) == (count == 10_000)
    same = [task(found, sample=count, seed=seed).split["train"].equal(made.split["train"]) for seed in (0, 1)]
    assert same == [True, False]


# The fingerprint


def test_the_fingerprint_is_that_of_the_content():
    assert task().fingerprint == task().fingerprint
    noises = NOISES[False], Noise(kind="symmetric", rate=0.4), Noise(kind="pairflip", rate=0.3), Noise()
    found = [task(noise=noise) for noise in noises]
    found += [task(examples(fingerprint="other"), noise=NOISES[False]), task(noise=NOISES[False], seed=1)]
    assert len({each.fingerprint for each in found}) == 6


def test_the_fingerprint_changes_with_the_split_and_with_a_border_that_moves_alone(tmp_path):
    found = examples(12, group_size=1)

    def split(*parts):
        paths = dict(zip(PARTS, (named(*part) for part in parts), strict=True))
        return task(found, lists=lists(tmp_path, **paths)).fingerprint

    ways = ((0, 1, 2), (3,), (4, 5)), ((0, 1, 3), (2,), (4, 5)), ((0, 1, 2), (3, 4), (5,)), ((0, 1, 2), (3,), (4, 5))
    assert len({split(*parts) for parts in ways}) == 3


# For people


def test_the_summary_tells_sizes_groups_and_noise_and_what_is_unused_alone_or_lacking(tmp_path):
    whole = task(noise=NOISES[False]).summary()
    assert all(part in whole for part in ("600 images", "200 groups", "420 / 60 / 120", "label noise 3"))
    assert not any(part in whole for part in ("own", "no part", "; no "))
    paths = lists(tmp_path, train=named(0, 1, 2, 3), validation=named(4, 5, 6, 7), test=named(8, 10))
    made = task(examples(12, group_size=1), lists=paths).summary()
    assert "in 12 groups (every image is one of its own)" in made
    assert made.endswith("; 2 images are in no part; no b, d in test")


def test_a_part_of_a_publishers_split_that_a_sample_leaves_empty_is_told():
    ranges = {"train": [0, 57], "validation": [57, 58], "test": [58, 60]}
    found = dataclasses.replace(examples(60, group_size=1), card={"split": ranges})
    with pytest.raises(InputError, match="the split of task 'test' leaves validation.* empty"):
        task(found, sample=3)


@pytest.mark.parametrize("multilabel", [False, True])
def test_examples_by_class_show_clean_labels_and_one_image_per_group(multilabel):
    made = task(examples(multilabel=multilabel), noise=NOISES[multilabel])
    chosen = examples_by_class(made, 5)
    assert set(chosen) == set(made.class_names)
    for class_number, name in enumerate(made.class_names):
        numbers = chosen[name]
        assert torch.isin(numbers, made.split["train"]).all()
        labels = made.clean_labels[numbers]
        assert len(numbers) == 5 and len(set(made.groups[numbers].tolist())) == 5
        assert bool((labels[:, class_number] > 0).all() if multilabel else (labels == class_number).all())
