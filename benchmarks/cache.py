"""The prepared cache against decoding files in every epoch, and preparing it against a plain Pillow loop where data are given.

With DATA=folder (make bench DATA=folder) the ISIC-2019 and NIH files in that folder are prepared and compared too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import data_path
import numpy as np
from PIL import Image
from timing import Row, alternately

from rosutils.data import Loader, make_task
from rosutils.data.decode import decode
from rosutils.data.sources import Examples
from rosutils.params import Noise


FILES, PIXELS = 400, 32


def rows(folder: Path) -> Iterator[Row]:
    """An epoch's images as batches: read from the cache, and decoded from JPEG files of 600 x 450 pixels."""
    rng = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(FILES)]
    for file in files:
        coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC).save(file, quality=90)
    stored = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (FILES, 3, PIXELS, PIXELS))
    everything = Examples(
        images=stored, labels=np.arange(FILES) % 8, groups=np.arange(FILES), names=tuple(file.name for file in files),
        class_names=tuple("abcdefgh"), multilabel=False, fingerprint="", card={},
    )  # fmt: skip
    task = make_task("files", everything, fractions=[0.7, 0.1, 0.2], noise=Noise(), seed=0)
    loader = Loader(task, task.split["train"], batch_size=64, shuffle_seed=0)
    epoch = [files[number] for number in task.split["train"].tolist()]
    seconds = alternately(lambda: [None for _ in loader], lambda: [decode(file, PIXELS, "RGB") for file in epoch])
    what = f"an epoch's {len(epoch)} images at {PIXELS} px: the cache against decoding JPEG files of 600 x 450"
    yield Row(what, *seconds, seconds[1] / seconds[0])
    if os.environ.get("DATA"):
        for source in data_path.SOURCES:
            for this, against, first, second, times in data_path.compare(
                source, Path(os.environ["DATA"]), PIXELS, folder / source, 3
            ):
                yield Row(f"{this}; ours: {against}", second, first, times)
