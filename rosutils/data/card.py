"""The data card: what a prepared set holds, counted and checked once, when it is prepared."""

import hashlib
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd


BLOCK_BYTES = 4 << 20
LISTED = 100  # sets of duplicates, and flat images, that the card names


def describe(images, labels, groups, names, class_names, multilabel) -> dict:
    """What the data card says of the content: sizes, groups, examples per class, intensities and duplicates."""
    counts = labels.sum(axis=0) if multilabel else np.bincount(labels, minlength=len(class_names))
    card = {"shape": list(images.shape), "examples": len(names), "groups": len(np.unique(groups))}
    card |= {"class_names": list(class_names), "multilabel": bool(multilabel)}
    card["counts"] = {name: int(count) for name, count in zip(class_names, counts, strict=True)}
    if multilabel:
        card["examples_with_no_class"] = int((labels.sum(axis=1) == 0).sum())
    hashes, means, spreads = pixels_of(images)
    flat = np.flatnonzero(spreads == 0)
    card["intensity"] = {
        "mean": round(float(means.mean()), 2), "darkest": round(float(means.min()), 2),
        "brightest": round(float(means.max()), 2), "spread": round(float(spreads.mean()), 2),
        "flat": len(flat), "flat_images": [names[i] for i in flat[:LISTED]],
    }  # fmt: skip
    return card | {"duplicates": duplicates(hashes, labels, groups, names)}


def pixels_of(images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image [N, channels, H, W]: a hash of its pixels uint64 [N], their mean and standard deviation float [N]."""
    step = max(1, BLOCK_BYTES // int(np.prod(images.shape[1:])))
    parts = [_block(np.ascontiguousarray(images[start : start + step])) for start in range(0, len(images), step)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _block(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hashes = np.array([int.from_bytes(hashlib.blake2b(image, digest_size=8).digest()) for image in images], np.uint64)
    flat = images.reshape(len(images), -1).astype(np.float32)
    return hashes, flat.mean(axis=1), flat.std(axis=1)


def duplicates(hashes, labels, groups, names) -> dict:
    """Images with the very same pixels: how many sets, how many of them across groups or labels, and their names."""
    found = list(_equal(hashes))
    return {
        "sets": len(found),
        "images": sum(map(len, found)),
        "across_groups": sum(len(np.unique(groups[index])) > 1 for index in found),
        "across_labels": sum(len(np.unique(labels[index], axis=0)) > 1 for index in found),
        "listed": [[names[i] for i in index] for index in found[:LISTED]],
    }


def _equal(hashes: np.ndarray) -> Iterator[np.ndarray]:
    _, member, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    order = np.argsort(member, kind="stable")
    several = np.split(order, np.cumsum(counts)[:-1])
    yield from sorted((index for index in several if len(index) > 1), key=lambda index: index[0])


def table(card: Mapping) -> pd.DataFrame:
    """The data card as a table for people, one fact a line; what a source has nothing to say of is left out."""
    raw, options = card.get("raw", {}), card.get("options", {})
    facts = {
        "source": card.get("source"), "note": card.get("note"), "images": card.get("examples"),
        "lesions, patients or groups": card.get("groups"), "grouped by": options.get("grouped_by"),
        "without any label": card.get("examples_with_no_class"), "pixels": options.get("pixels"),
        "resize": options.get("resize"), "label files": raw.get("label_files"), "named in the table": raw.get("images_named"),
        "named, but without a file": raw.get("missing"), "files without a name": raw.get("without_row"),
        "unreadable, left out": raw.get("unreadable"), "sizes in the files": raw.get("sizes"),
        "modes in the files": raw.get("modes"), "enlarged": raw.get("enlarged"),
        **{f"intensity, {key}": value for key, value in card.get("intensity", {}).items() if key != "flat_images"},
        **{f"duplicates, {key}": value for key, value in card.get("duplicates", {}).items() if key != "listed"},
        **{f"part {part}": facts for part, facts in card.get("parts", {}).items()},
    }  # fmt: skip
    shown = {what: _text(value) for what, value in facts.items() if value not in (None, "")}
    return pd.DataFrame({"": list(shown.values())}, index=list(shown))


def equal_images(card: Mapping) -> pd.DataFrame:
    """The sets of images with the very same pixels, a line each (the first LISTED of them)."""
    listed = card.get("duplicates", {}).get("listed", [])
    return pd.DataFrame(
        {"images with equal pixels": [", ".join(names) for names in listed]}, index=range(1, len(listed) + 1)
    )


def _text(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return value[:12]
    return f"{value:,}" if isinstance(value, int) else str(value)
