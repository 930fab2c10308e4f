"""From raw folders to batches: decoding on one core and on all, against a plain Pillow loop and against the prepared cache.

JPEG files are decoded at reduced size where that leaves twice the wanted pixels. For PNG files torchvision.io was as fast as Pillow
(4,090 against 4,084 images/s at 128 px, 140 against 133 at 1024 px, one core), for the same pixels: not worth a second decoder.

python benchmarks/data_path.py --data DIR      the ISIC-2019 and NIH folders in DIR, side by side, median of alternating rounds
python benchmarks/data_path.py --rehearse      25,331 and 112,120 tiny files in the official layouts, all the way to one epoch
"""

import argparse
import io
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image

from rosutils.data import Loader, decode, isic2019, make_task, nih
from rosutils.data.cache import decode_all
from rosutils.data.raw import look_through
from rosutils.data.sources import open_source, prepare
from rosutils.params import Noise
from rosutils.params import source as described
from rosutils.subsets import overlapping_subsets


SOURCES = {"isic2019": isic2019, "nih": nih}
MODES = {"isic2019": "RGB", "nih": "L"}
FULL = {"isic2019": (25_331, 13_931), "nih": (112_120, 30_805)}  # images; lesions or patients


def alternately(functions: Sequence[Callable], rounds: int) -> list[float]:
    """Median seconds of each, taken in turn after one warm-up."""
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 1):
        for taken, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            taken += [time.perf_counter() - start] if number else []
    return [statistics.median(taken) for taken in times]


def on_cores(count: int, function: Callable) -> None:
    """Call a function while this process, and all that it starts, may use so many cores."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(cores)[:count]))
    try:
        function()
    finally:
        os.sched_setaffinity(0, cores)


def plain_loop(paths: Sequence[Path], pixels: int, mode: str) -> np.ndarray:
    """What one writes first: open, convert, crop, resize, one file after the other."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            image = image.convert(mode)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side)).resize((pixels, pixels), Image.Resampling.BILINEAR)
        images.append(np.asarray(square))
    return np.stack(images)


def compare(
    source: str, root: Path, pixels: int, folder: Path, rounds: int
) -> list[tuple[str, str, float, float, float]]:
    """Rows (this, against, seconds, seconds, ratio) for one raw folder; the processes that decode are started before."""
    layout, out = SOURCES[source], folder / source
    found = look_through(root / source, layout, None, allow_missing=True, skip_bad=False, out=out)
    mode, cores = MODES[source], len(os.sched_getaffinity(0))

    def decoded() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        decode_all(found.paths, pixels, mode, None, folder=out, title=source)

    def prepared() -> None:
        shutil.rmtree(out, ignore_errors=True)
        prepare(source, raw=root / source, pixels=pixels, out=out, allow_missing=True)

    ways = [partial(on_cores, count, function) for function in (decoded, prepared) for count in (1, cores)]
    one, several, whole_one, whole, plain = alternately([*ways, partial(plain_loop, found.paths, pixels, mode)], rounds)
    name, many = f"{source}, {len(found.paths):,} files to {pixels} px", f"{cores} cores"
    return [
        (f"{name}: decoded into the cache, 1 core", many, one, several, one / several),
        (f"{name}: plain Pillow loop", f"decoded into the cache, {many}", plain, several, plain / several),
        (f"{name}: `prepare` with tables and checksums, 1 core", many, whole_one, whole, whole_one / whole),
        (f"{name}: plain Pillow loop", f"`prepare` with tables and checksums, {many}", plain, whole, plain / whole),
        _epoch(source, root, pixels, out, dict(zip(found.content["names"], found.paths, strict=True)), rounds),
    ]


def _epoch(source: str, root: Path, pixels: int, cache_root: Path, paths: dict[str, Path], rounds: int):
    options = {"pixels": pixels, "root": root, "allow_missing": True, "cache_root": cache_root}
    opened = open_source(described({"source": source}), **options)
    task = make_task(source, opened, fractions=[0.7, 0.1, 0.2], noise=Noise(), seed=0)
    loader = Loader(task, task.split["train"], batch_size=64, shuffle_seed=0)
    files, mode = [paths[task.names[number]] for number in task.split["train"].tolist()], MODES[source]
    ways = [lambda: [decode.decode(path, pixels, mode) for path in files], lambda: [None for _ in loader]]
    decoded, read = alternately(ways, rounds)
    return (
        f"{source}, an epoch of {len(files):,}: decoded, 1 core",
        "read from the cache",
        decoded,
        read,
        decoded / read,
    )


def make_layouts(root: Path, *, share: float = 1.0) -> None:
    """The two data sets in their official layouts, every file a few pixels: a share of their images and groups."""
    rng = np.random.default_rng(0)
    _make_isic2019(root / "isic2019", rng, share)
    _make_nih(root / "nih", rng, share)


def _make_isic2019(raw: Path, rng: np.random.Generator, share: float) -> None:
    count, lesions = (int(number * share) for number in FULL["isic2019"])
    images, contents = raw / "ISIC_2019_Training_Input", _contents(rng, "JPEG", (20, 24, 3))
    images.mkdir(parents=True)
    names = [f"ISIC_{number:07d}{'_downsampled' if number % 12 == 5 else ''}" for number in range(count)]
    truth = pd.DataFrame(np.eye(9)[rng.integers(0, 8, count)], columns=[*isic2019.CLASS_NAMES, "UNK"])
    truth.insert(0, "image", names)
    truth.to_csv(raw / isic2019.TRUTH, index=False)
    lesion = [f"L{number}" for number in rng.integers(0, lesions, count)]
    pd.DataFrame({"image": names, "lesion_id": lesion}).to_csv(raw / isic2019.METADATA, index=False)
    for number, name in enumerate(names):
        (images / f"{name}.jpg").write_bytes(contents[number % len(contents)])


def _make_nih(raw: Path, rng: np.random.Generator, share: float) -> None:
    count, people = (int(number * share) for number in FULL["nih"])
    contents = _contents(rng, "PNG", (20, 20))
    patients = np.sort(np.concatenate([np.arange(people), rng.integers(0, people, count - people)])) + 1
    view = np.arange(count) - np.searchsorted(patients, patients)
    names = [f"{patient:08d}_{number:03d}.png" for patient, number in zip(patients, view, strict=True)]
    findings = ["No Finding", *nih.CLASS_NAMES, "|".join(nih.CLASS_NAMES[:3])]
    entries = {"Image Index": names, "Finding Labels": rng.choice(findings, count), "Patient ID": patients}
    raw.mkdir(parents=True)
    pd.DataFrame(entries).to_csv(raw / next(iter(nih.TABLES)), index=False)
    for number, name in enumerate(names):
        images = raw / f"images_{1 + number * 12 // count:03d}" / "images"
        images.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(contents[number % len(contents)])


def _contents(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> list[bytes]:
    buffers = [io.BytesIO() for _ in range(64)]
    for buffer in buffers:
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(buffer, kind)
    return [buffer.getvalue() for buffer in buffers]


class Meter:
    """Seconds and memory of one step after the other: of this process and those it starts, without mapped files."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, float, float]] = []  # step, images, seconds, MiB more than before it, at most

    def step(self, name: str, images: int, function: Callable):
        """What the function returns; a line is added to the rows."""
        stop, peak, before = threading.Event(), [0.0], _memory()

        def watch():
            while not stop.wait(0.02):
                peak[0] = max(peak[0], _memory() - before)

        thread = threading.Thread(target=watch)
        thread.start()
        start = time.perf_counter()
        try:
            result = function()
        finally:
            seconds = time.perf_counter() - start
            stop.set()
            thread.join()
        self.rows.append((name, images, seconds, peak[0]))
        return result


def _memory() -> float:
    here = psutil.Process()
    found = 0
    for process in (here, *here.children(recursive=True)):
        try:
            info = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        found += info.rss - info.shared
    return found / 2**20


def rehearse(source: str, folder: Path, pixels: int = 16) -> list[tuple[str, int, float, float]]:
    """One set of `make_layouts` from raw folder to one epoch: (step, images, seconds, MiB beyond the mapped files)."""
    meter, raw = Meter(), folder / "raw"
    step = partial(prepare, source, raw=raw / source, pixels=pixels, out=folder / "cache")
    count = meter.step(f"{source}: prepare", _rows(raw / source), step)["examples"]
    options = {"pixels": pixels, "root": raw, "allow_missing": False, "cache_root": folder / "cache"}
    opened = meter.step(f"{source}: open again", count, partial(open_source, described({"source": source}), **options))
    step = partial(make_task, source, opened, fractions=[0.7, 0.1, 0.2], noise=Noise(), seed=0)
    task = meter.step(f"{source}: split by group", count, step)
    train = task.split["train"]
    generator = torch.Generator().manual_seed(0)
    step = partial(overlapping_subsets, len(train), 5, 0.4, groups=task.groups[train], generator=generator)
    subsets = meter.step(f"{source}: subsets", len(train), step)
    assert len(torch.cat(subsets).unique()) == len(train)
    loader = Loader(task, train, batch_size=64, shuffle_seed=0)
    shown = meter.step(f"{source}: one epoch's batches", len(train), lambda: [batch.index for batch in loader])
    assert len(torch.cat(shown).unique()) == len(loader) * 64
    return meter.rows


def _rows(raw: Path) -> int:
    table = next(raw.glob("*Truth.csv"), raw / next(iter(nih.TABLES)))
    return len(table.read_text().splitlines()) - 1


def main() -> None:
    """Print the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds isic2019/ and nih/")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rehearse", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.data:
            for source in SOURCES:
                for row in compare(source, arguments.data, arguments.size, folder, arguments.rounds):
                    print("| {} | {} | {:.3g} | {:.3g} | {:.2f} |".format(*row), flush=True)
        if arguments.rehearse:
            make_layouts(folder / "raw")
            for source in SOURCES:
                for row in rehearse(source, folder):
                    print("| {} | {:,} | {:.2f} | {:.0f} |".format(*row), flush=True)


if __name__ == "__main__":
    main()
