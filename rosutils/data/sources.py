"""Where images come from: a generator, an npz file, or a raw folder in its publisher's layout or a user's, prepared once."""

import json
import logging
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL

from rosutils import InputError
from rosutils.data import cache, decode, folder, isic2019, medmnist, nih, synthetic
from rosutils.data.card import describe
from rosutils.data.raw import MISSING, NO_ROW, TWICE, Raw, listed, look_through
from rosutils.params import ROOT, source
from rosutils.store import checksum


RAW = {"isic2019": isic2019, "nih": nih, "folder": folder}
PREPARED = (*RAW, "medmnist")
ALONE = "every image is a group of its own: no column says which of them belong together"
BRIGHT = 8192  # 16-bit greys that stay below are of 13 bits at most: most of their levels would go
logger = logging.getLogger(__name__)


class NoImages(InputError):
    """Images were asked for where only their labels are."""


@dataclass(frozen=True)
class Unseen:
    """In the place of images [N, channels, H, W] that are not here; with labels and stored logits much can be done without."""

    shape: tuple[int, int, int, int]
    nbytes = math.inf

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index):
        raise NoImages("the images themselves are not here, only their labels; name their folder with DATA= or --data")


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
    resident: dict = field(default_factory=dict)  # the images on each device that has room for them


def open_source(section, *, pixels, root, allow_missing, cache_root, skip_bad=False) -> Examples:
    """The examples that one entry of `data.sources` describes, prepared now or found in `cache_root`.

    `root` holds the raw folders isic2019/ and nih/, or is a user's own; `allow_missing` accepts a partial download,
    `skip_bad` leaves unreadable files out. Raises InputError for whatever is wrong with the raw folder.
    """
    if section.source in RAW and root is None:
        raise InputError(f"the source {section.source} needs raw images: {RAW[section.source].WHERE}")
    return _opened(section, pixels, folder_of(section, root or cache_root), Path(cache_root), allow_missing, skip_bad)


def prepare(name: str, *, raw, pixels: int, out, allow_missing=False, skip_bad=False, section=None) -> dict:
    """Prepare one raw folder (isic2019/ or nih/ itself, MedMNIST's npz files, your own); returns its data card.

    What it makes in `out` is the folder that `open_source` with `cache_root=out` looks for; a whole one is left as it is.
    """
    if name not in PREPARED:
        raise InputError(f"source {name!r} cannot be prepared; choose one of {', '.join(PREPARED)}")
    card = _opened(section or source({"source": name}), pixels, Path(raw), Path(out), allow_missing, skip_bad).card
    alone = card["options"].get("grouped_by") == "image"
    print(f"{out}: {card['examples']:,} images at {pixels} px, {name} is prepared" + f"; {ALONE}" * alone)
    return card


def folder_of(section, root: str | Path) -> Path:
    """The raw folder of a source: isic2019/ or nih/ in the data folder, for a user's own the data folder or one in it."""
    return Path(root) / (section.path if section.source == "folder" else section.source)


def split_lists(section, root: str | Path | None) -> dict[str, Path] | None:
    """The list files of a source's split: the user's (in the raw folder, or else the project's), a publisher's, or None.

    Raises InputError naming the files that the raw folder lacks.
    """
    raw = None if root is None else folder_of(section, root)
    names = nih.LISTS.get(section.split) if section.source == "nih" else None
    if raw is None and names:
        raise NoImages(f"split: {section.split} is made of list files in the data folder; name it with DATA= or --data")
    if section.lists:
        inside = {part: (raw or Path()) / path for part, path in section.lists.items()}
        return {part: path if path.is_file() else ROOT / section.lists[part] for part, path in inside.items()}
    if not names:
        return None
    places = [raw / place for place in nih.LIST_FOLDERS[section.split]]
    for place in places:
        if all((place / name).is_file() for name in names.values()):
            return {part: place / name for part, name in names.items()}
    needed, where = ", ".join(names.values()), " or ".join(map(str, places))
    raise InputError(f"split: {section.split} needs {needed} in {where}; download them there, or use split: seeded")


def _opened(section, pixels: int, raw: Path, out: Path, allow_missing: bool, skip_bad: bool) -> Examples:
    """Look (no image is read), find the cache, or make it (decode, write, finish the card), and open it."""
    if pixels < 1:
        raise InputError(f"images cannot be prepared at {pixels} pixels; the size must be 1 or more")
    key, made_from, there = _look(section, pixels, raw, out, allow_missing, skip_bad)
    place = out / f"{section.source}-{pixels}px-{cache.fingerprint(json.dumps([cache.FORMAT, *key]))[:12]}"
    found = partial(cache.opened, place, made_from, in_part=skip_bad)
    if (content := found()) is None:
        with cache.alone_in(out):  # another process may have made it by then
            if (content := found()) is None:
                building = cache.building(place)
                content, card, left_out = _made(section, pixels, there, building, skip_bad)
                card |= {"source": section.source, "pixels": pixels, "made_from": made_from, **describe(**content)}
                _tell(card, place)
                cache.finish(building, place, content, card, left_out)
                content = found()
    if unreadable := content["card"].get("raw", {}).get("unreadable"):
        logger.warning("%s: %s unreadable file(s) are left out", place, f"{unreadable:,}")
    return Examples(**content)


def _look(section, pixels: int, raw: Path, out: Path, allow_missing: bool, skip_bad: bool) -> tuple:
    """A key that names the cache, a text that changes when the files do, and what was looked through."""
    if section.source == "synthetic":
        return (synthetic.FORMAT, section.modality, section.examples, section.seed), "", None
    if section.source == "medmnist":
        path = medmnist.npz_file(section.dataset, pixels, raw)
        return (section.dataset, str(path.resolve())), cache.stamp([str(path)]), path
    raw = raw.resolve()  # however the folder was called, its files are the same
    there = look_through(raw, RAW[section.source], section, allow_missing=allow_missing, skip_bad=skip_bad, out=out)
    # the folder's place stands for the content of its images, their names and labels for what is downloaded so far
    content = cache.fingerprint_of(np.zeros(0), **there.content)
    if find_spec("pydicom") is None and any(path.lower().endswith((".dcm", ".dicom")) for path in there.paths):
        raise InputError(f"{raw} holds DICOM files: {decode.NO_PYDICOM}")
    return (*_how(section), str(raw), content), cache.stamp(there.paths), there


def _how(section) -> tuple[str, list[float] | None]:
    """How a raw folder's images are decoded: mode and window."""
    return "L" if getattr(section, "grey", section.source == "nih") else "RGB", getattr(section, "window", None)


def _made(section, pixels: int, there, building: Path, skip_bad: bool) -> tuple[dict, dict, list]:
    """What the cache is to hold, what its card says, and the names and reasons of all that is left out."""
    if section.source == "medmnist":
        return *medmnist.read(there, section.dataset, pixels, building), []
    if section.source == "synthetic":
        options = {"modality": section.modality, "examples": section.examples, "seed": section.seed, "pixels": pixels}
        content = synthetic.make(**options)
        np.save(building / "images.npy", content["images"])
        return content, {"options": options}, []
    (mode, window), names, title = _how(section), there.content["names"], f"{section.source} at {pixels} px"
    images, found = cache.decode_all(there.paths, pixels, mode, window, folder=building, title=title)
    bad = {number: why for number, why in enumerate(found) if isinstance(why, str)}
    seen = [each for each in found if not isinstance(each, str)]
    if bad and not (skip_bad and seen):
        told = [f"{there.paths[number]}: {why}" for number, why in bad.items()]
        lines = listed(told, building.parent / "unreadable.txt", "\n  ")
        raise InputError(
            f"{len(bad):,} file(s) are not readable images; delete and download them again, or go on without them "
            f"(data.skip_bad: true / --skip-bad):\n  {lines}"
        )
    _refuse_greys(seen, window, alike=section.source == "folder")  # publishers' own sets hold what they hold
    kept = np.setdiff1d(np.arange(len(names)), list(bad))
    content = there.content | {key: there.content[key][kept] for key in ("labels", "groups")}
    content |= {"names": tuple(names[number] for number in kept), "images": cache.only(building, images, kept)}
    options = {"pixels": pixels, "resize": decode.RESIZE, "mode": mode, "window": window, "pillow": PIL.__version__}
    card = {"options": options | {"grouped_by": there.grouped_by}, "raw": _report(there, seen, pixels, len(bad))}
    return content, card, [*there.left_out, *((names[number], why) for number, why in bad.items())]


def _report(raw: Raw, seen: list[decode.Seen], pixels: int, unreadable: int) -> dict:
    """What the data card says of the raw folder."""
    left_out, several = Counter(reason for _, reason in raw.left_out), sum(each.pages > 1 for each in seen)
    report = {"images_named": raw.named, "unreadable": unreadable, "missing": left_out[MISSING]}
    report |= {"without_row": left_out[NO_ROW], "named_twice": left_out[TWICE], "first_page_used": several}
    report["label_files"] = {path.name: checksum(path) for path in raw.tables}
    sides, sizes = [min(each[:2]) for each in seen], Counter(f"{each.width}x{each.height}" for each in seen)
    report["shorter_side"] = {"smallest": min(sides), "largest": max(sides)}
    report |= {"enlarged": sum(side < pixels for side in sides), "different_sizes": len(sizes)}
    report |= {"sizes": dict(sizes.most_common(12)), "modes": dict(Counter(each.mode for each in seen).most_common())}
    return report


def _tell(card: dict, place: Path) -> None:
    """Say what is doubtful about a set when it is prepared; raises InputError where all images are of one class."""
    counts, total, raw = card["counts"], card["examples"], card.get("raw", {})
    absent = [name for name, count in counts.items() if not count]
    same = not any(0 < count < total for count in counts.values())
    if same and not card["multilabel"]:
        raise InputError(
            f"all {total:,} images are {max(counts, key=counts.get)}; images of two classes are needed at least"
        )
    twins = card["duplicates"]["across_groups"]
    for doubt, holds in (
        (f"{raw.get('without_row', 0):,} images have no row in the table and are left out", raw.get("without_row")),
        (f"{raw.get('first_page_used', 0):,} files have several pages: the first is used", raw.get("first_page_used")),
        (ALONE, card["options"].get("grouped_by") == "image"),
        (f"no image is of the class {', '.join(absent)}", absent),
        ("all images have the same labels: nothing can be learnt from them", same),
        (f"{place}: the very same pixels are in several groups {twins} times, see card.json", twins),
    ):
        if holds:
            logger.warning("%s", doubt)


def _refuse_greys(seen: list[decode.Seen], window, alike: bool) -> None:
    """Raises InputError for greys that 8 bits would not tell apart, and for 16 beside 8 bits where all are to be `alike`."""
    deep = [each[4:] for each in seen if each.darkest is not None]
    if (others := len(seen) - len(deep)) and (deep and alike or window is not None):
        what = f"{len(deep):,} images have 16 bits" if window is None else f"window {window} is for 16-bit images"
        raise InputError(f"{what}, but {others:,} have 8 bits: save all of them alike")
    if window is not None or not deep:
        return
    low, highs = min(low for low, _ in deep), sorted(high for _, high in deep)
    high = highs[-1] if highs[len(highs) // 2] >= BRIGHT else highs[len(highs) // 2]  # one of 16 bits among those of 12
    if low < 0 or not BRIGHT <= high <= decode.WHITE:
        raise InputError(
            f"the 16-bit images hold greys from {low:,} to {high:,} of 0 to {decode.WHITE:,}, few of which 8 bits would tell "
            f"apart: name those that are to be black and white, such as window: [{low}, {high}] (source folder)"
        )
