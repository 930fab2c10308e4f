"""The data card: what a prepared set holds, counted and checked once, when it is prepared."""

import hashlib
import re
from collections.abc import Mapping

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
    levels = {"mean": means.mean(), "darkest": means.min(), "brightest": means.max(), "spread": spreads.mean()}
    told = {name: round(float(level), 2) for name, level in levels.items()}
    card["intensity"] = told | {"flat": len(flat), "flat_images": [names[i] for i in flat[:LISTED]]}
    return card | {"duplicates": duplicates(hashes, labels, groups, names)}


def pixels_of(images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image [N, channels, H, W]: a hash of its pixels uint64 [N], their mean and standard deviation float [N]."""
    step = max(1, BLOCK_BYTES // int(np.prod(images.shape[1:])))
    parts = []
    for start in range(0, len(images), step):
        block = np.ascontiguousarray(images[start : start + step])
        flat = block.reshape(len(block), -1).astype(np.float32)
        hashes = [int.from_bytes(hashlib.blake2b(image, digest_size=8).digest()) for image in block]
        parts.append((np.array(hashes, np.uint64), flat.mean(axis=1), flat.std(axis=1)))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def duplicates(hashes, labels, groups, names) -> dict:
    """Images with the very same pixels: how many sets, how many of them across groups or labels, and their names."""
    alike = pd.Series(np.arange(len(hashes))).groupby(hashes).indices.values()
    found = sorted((index for index in alike if len(index) > 1), key=lambda index: index[0])
    across = {"across_groups": sum(len(np.unique(groups[index])) > 1 for index in found)}
    across["across_labels"] = sum(len(np.unique(labels[index], axis=0)) > 1 for index in found)
    listed = [[names[i] for i in index] for index in found[:LISTED]]
    return {"sets": len(found), "images": sum(map(len, found)), **across, "listed": listed}


def table(card: Mapping) -> pd.DataFrame:
    """The data card as a table for people, one fact a line; what a source has nothing to say of is left out."""
    parts = {key: card.get(key, {}) for key in ("options", "raw", "intensity", "duplicates", "parts")}
    others = (*parts, "format", "made_from", "fingerprint", "checksum", "split")
    facts = {key: value for key, value in card.items() if key not in others}
    facts |= {f"{key}: {name}": value for key, part in parts.items() for name, value in part.items()}
    shown = {key: value for key, value in facts.items() if value != "" and not isinstance(value, list)}
    return pd.DataFrame({"": list(map(_text, shown.values()))}, index=[key.replace("_", " ") for key in shown])


def equal_images(card: Mapping) -> pd.DataFrame:
    """The sets of images with the very same pixels, a line each (the first LISTED of them)."""
    lines = [", ".join(names) for names in card.get("duplicates", {}).get("listed", [])]
    return pd.DataFrame({"images with equal pixels": lines}, index=range(1, len(lines) + 1))


def _text(value) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text
