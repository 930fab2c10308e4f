"""Where images come from: a generator, or a raw folder in its publisher's layout or a user's, prepared once."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from rosutils import InputError
from rosutils.data import cache, chest_film, decode, dermoscopy, filling, folder, isic2019, medmnist, nih, synthetic
from rosutils.data.raw import MISSING, NO_ROW, SHOWN, TWICE, Raw, look_through
from rosutils.params import ROOT, Source


RAW = {"isic2019": isic2019, "nih": nih, "folder": folder}
PREPARED = ("isic2019", "nih", "medmnist", "folder")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Labelled images as arrays, with the groups (lesions or patients) that a split must not cut."""

    images: np.ndarray  # uint8 [N, channels, H, W], memory-mapped read-only
    labels: np.ndarray  # int64 [N], or float32 [N, C] where an image may have several classes
    groups: np.ndarray  # int64 [N]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    multilabel: bool
    fingerprint: str
    card: dict


def open_source(
    section, *, pixels: int, root: Path | None, allow_missing: bool, cache_root: Path, skip_bad: bool = False
) -> Examples:
    """The examples that one entry of `data.sources` describes, prepared now or found in `cache_root`.

    `section` is a `params.Source`; `root` holds the raw folders isic2019/ and nih/, or is a user's own (MedMNIST's
    medmnist/ is made beside the cache where it is not given); `allow_missing` accepts a partial download, `skip_bad`
    leaves unreadable files out. Raises InputError for whatever is wrong with the raw folder.
    """
    if section.source == "synthetic":
        return _open_synthetic(section, pixels, Path(cache_root))
    if section.source == "medmnist":
        return Examples(
            **cache.open_or_build(*_plan_medmnist(section, pixels, _beside(root or cache_root), cache_root))
        )
    if section.source not in RAW:
        raise InputError(
            f"data source {section.source!r} is not known; choose one of synthetic, medmnist, {', '.join(RAW)}"
        )
    if root is None:
        raise InputError(f"the source {section.source} needs raw images: {RAW[section.source].WHERE}")
    plan = _plan(section, folder_of(section, root), pixels, Path(cache_root), allow_missing, skip_bad)
    examples = Examples(**cache.open_or_build(*plan))
    if unreadable := examples.card["raw"]["unreadable"]:
        logger.warning(
            "%s: %s unreadable file(s) were left out when it was prepared", section.source, f"{unreadable:,}"
        )
    return examples


def folder_of(section, root: str | Path) -> Path:
    """The raw folder of a source: isic2019/ or nih/ in the data folder, for a user's own the data folder or one in it."""
    return Path(root) / (section.path if section.source == "folder" else section.source)


def split_lists(section, root: str | Path | None) -> dict[str, Path] | None:
    """The list files of a source's split: the user's, a publisher's in the raw folder, or None where it needs none.

    The user's are taken from the raw folder where they are there, or else from the project's. Raises InputError naming
    the files that the raw folder lacks.
    """
    raw = None if root is None else folder_of(section, root)
    if section.lists:
        inside = {part: raw / path if raw else Path(path) for part, path in section.lists.items()}
        return {part: inside[part] if inside[part].is_file() else ROOT / path for part, path in section.lists.items()}
    if raw is None or section.source != "nih" or section.split not in nih.LISTS:
        return None
    names = nih.LISTS[section.split]
    for place in nih.LIST_FOLDERS[section.split]:
        if all((raw / place / name).is_file() for name in names.values()):
            return {part: raw / place / name for part, name in names.items()}
    where = " or ".join(str(raw / place) for place in nih.LIST_FOLDERS[section.split])
    raise InputError(
        f"split: {section.split} needs {', '.join(names.values())} in {where}; download them there, or use split: seeded"
    )


def _beside(root: str | Path) -> Path:
    return Path(root) / "medmnist"


def prepare(
    source: str, *, raw: Path, pixels: int, out: Path, allow_missing=False, skip_bad=False, section=None
) -> dict:  # fmt: skip
    """Prepare one raw folder (isic2019/ or nih/ itself, MedMNIST's npz files, your own); returns its data card.

    What it makes in `out` is the folder that `open_source` with `cache_root=out` looks for; a whole one is left as it
    is. `section` holds the source's options, as a `params.Source`.
    """
    if source not in PREPARED:
        raise InputError(f"source {source!r} cannot be prepared; choose one of {', '.join(PREPARED)}")
    if source == "medmnist":
        place, fill = _plan_medmnist(section, pixels, Path(raw), Path(out))
    else:
        section = section or (Source(source="folder") if source == "folder" else None)
        place, fill = _plan(section, Path(raw), pixels, Path(out), allow_missing, skip_bad, source=source)
    whole = cache.verify(place) is None
    if whole and not skip_bad and cache.load(place)["card"].get("raw", {}).get("unreadable"):
        whole = False  # it was prepared with --skip-bad, and this time nothing is to be left out
        (place / "card.json").unlink()
    card = cache.open_or_build(place, fill, rehash=not whole)["card"]
    print(f"{place} {'holds them already' if whole else 'is prepared'}: {card['examples']:,} images at {pixels} px")
    return card


def _open_synthetic(section, pixels: int, cache_root: Path) -> Examples:
    options = {"modality": section.modality, "examples": section.examples, "seed": section.seed}
    options["pixels"] = pixels
    # The generator's text decides its images too: a cache must not outlive a change to it.
    code = [cache.file_sha256(Path(module.__file__)) for module in (synthetic, dermoscopy, chest_film)]
    key = _short_hash(options, code)

    def fill(images_file):
        return synthetic.make(**options), {"source": "synthetic", "pixels": pixels, "options": options}

    return Examples(**cache.open_or_build(cache_root / f"synthetic-{pixels}px-{key}", fill))


def _plan_medmnist(section, pixels: int, folder: Path, cache_root: Path):
    path = medmnist.npz_file(section.dataset, pixels, folder)
    key = _short_hash(cache.FORMAT, "medmnist", section.dataset, path.stat().st_size, str(path.resolve()))
    place = Path(cache_root) / f"medmnist-{pixels}px-{key}"
    return place, lambda images_file: medmnist.read(path, section.dataset, to=images_file)


def _plan(section, raw: Path, pixels: int, cache_root: Path, allow_missing: bool, skip_bad: bool, source: str = ""):
    """The cache folder of a raw folder, and what fills it; reads tables and file names, but no image."""
    source = source or section.source
    if pixels < 1:
        raise InputError(f"images cannot be prepared at {pixels} pixels; the size must be 1 or more")
    layout = RAW[source]
    found = look_through(raw, layout, section, allow_missing=allow_missing, skip_bad=skip_bad, out=cache_root)
    content = {"class_names": found.class_names, "multilabel": found.labels.ndim == 2}
    content |= {"names": found.names, "labels": found.labels, "groups": found.groups}
    mode = layout.mode(section)
    place = cache_root / f"{source}-{pixels}px-{_key(source + mode, raw, pixels, content)}"

    def fill(images_file):
        title = f"{source} at {pixels} px"
        decoded = filling.decode_all(found.paths, pixels, mode, to=images_file, title=title)
        if decoded.bad and (not skip_bad or len(decoded.bad) == len(found.paths)):
            raise InputError(_unreadable_message(found, decoded.bad, place))
        report, bad = _report(found, decoded, pixels), sorted(decoded.bad)
        if report["without_row"]:
            logger.warning("%s: %s images have no row and are left out", raw, f"{report['without_row']:,}")
        options = {"pixels": pixels, "resize": decode.RESIZE, "mode": mode, "pillow": PIL.__version__}
        options["grouped_by"] = found.grouped_by
        left_out = [(name, reason) for reason, names in found.left_out.items() for name in names]
        left_out += [(found.names[number], decoded.bad[number]) for number in bad]
        card = {"source": source, "pixels": pixels, "options": options, "raw": report, "left_out": left_out}
        return _without(content, bad, images_file), card

    return place, fill


def _report(found: Raw, decoded: filling.Decoded, pixels: int) -> dict:
    """What the data card says of the raw folder; the names of all that is left out are in left_out.csv."""
    report = {"images_named": found.named, "unreadable": len(decoded.bad)}
    for key, reason in (("missing", MISSING), ("without_row", NO_ROW), ("named_twice", TWICE)):
        report[key], report[f"first_{key}"] = found.count(reason)
    report["label_files"] = {name: cache.file_sha256(path) for name, path in found.tables.items()}
    return report | decoded.facts(pixels)


def _without(content: Mapping, bad: list[int], images_file: Path) -> dict:
    if bad:
        # From here on the array is no longer what the journal says: killed now, it starts anew.
        images_file.with_name(filling.JOURNAL).unlink(missing_ok=True)
        filling.drop(images_file, bad)
    kept = np.setdiff1d(np.arange(len(content["names"])), bad)
    names = tuple(content["names"][number] for number in kept)
    found = {"names": names, "labels": content["labels"][kept], "groups": content["groups"][kept]}
    return {**content, **found, "images": np.load(images_file, mmap_mode="r")}


def _unreadable_message(found: Raw, bad: Mapping[int, str], place: Path) -> str:
    lines = [f"{found.paths[number]}: {bad[number]}" for number in sorted(bad)]
    shown = "\n  ".join(lines[:SHOWN])
    if len(lines) > SHOWN:
        everything = place.with_name(f"{place.name}-unreadable.txt")
        everything.write_text("\n".join(lines) + "\n", encoding="utf-8")
        shown += f"\n  ... and {len(lines) - SHOWN:,} more; all of them are listed in {everything}"
    return (
        f"{len(bad):,} file(s) are not readable images; delete and download them again, or go on without them "
        f"(data.skip_bad: true / --skip-bad):\n  {shown}"
    )


def _key(source: str, raw: Path, pixels: int, content: Mapping) -> str:
    # No image is read to find the cache: the raw folder's place stands for the content of the images, their
    # names and labels for what has been downloaded so far.
    content = cache.fingerprint(np.zeros(0, np.uint8), **content)
    return _short_hash(cache.FORMAT, source, str(raw.resolve()), pixels, content)


def _short_hash(*parts) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
