"""One image file becomes a square of uint8 pixels: the same pixels on every machine, whatever kind of file it is."""

import os
import warnings
from collections import namedtuple
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


CHANNELS = {"RGB": 3, "L": 1}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # told by content; nothing else reaches a decoder
RESIZE = "turned as EXIF says, the central square, its side to the wanted pixels (Pillow, bilinear, antialiased)"
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
WHITE = 65535  # of 16-bit greys, unless a window says otherwise
ORIENTATION = 0x0112
TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()
TURNS = {tag: Image.Transpose[name] for tag, name in enumerate(TURNS, start=2)}
# What a file holds: its size and mode, its pages (the first is used), and of greys deeper than 8 bits the range.
Seen = namedtuple("Seen", "width height mode pages darkest brightest", defaults=(1, None, None))


def decode(path: str | Path, pixels: int, mode: str, window: Sequence[float] | None = None) -> tuple[np.ndarray, Seen]:
    """One image file as uint8 [channels, pixels, pixels], as RESIZE says, and what it holds.

    Colours become luminance for mode "L", deeper greys are scaled from `window` (0 to WHITE) to 8 bits, transparency is
    dropped. Raises one of UNREADABLE for a file that is no image, or not a whole one.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:  # on garbled tags
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a photograph's other pages are previews
        found = Seen(*image.size, image.mode, pages)
        # JPEG decodes faster at 1/2, 1/4 or 1/8; twice the wanted size leaves the filter its work.
        image.draft(mode, (2 * pixels, 2 * pixels))
        image.load()
        if image.mode.startswith("I"):
            found = Seen(*found[:4], *image.getextrema())
        image = _in_mode(_upright(image), mode, window or (0, WHITE))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize((pixels, pixels), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(square).reshape(pixels, pixels, -1).transpose(2, 0, 1), found


def _upright(image: Image.Image) -> Image.Image:
    # asking every file for its EXIF tags costs a tenth of decoding a small one
    if image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}:
        with suppress(Exception):  # Pillow has no error of its own for tags that are garbled; the pixels are still good
            return image.transpose(TURNS[image.getexif()[ORIENTATION]])
    return image


def _in_mode(image: Image.Image, mode: str, window: Sequence[float]) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow would clip them at 255
        low, high = window
        grey = (np.asarray(image).astype(np.float64).clip(low, high) - low) * (255 / (high - low))
        image = Image.fromarray(grey.round().astype(np.uint8))
    image.info.pop("transparency", None)
    return image.convert(mode)


def decode_chunk(paths: Sequence[str], pixels: int, mode: str, window) -> tuple[np.ndarray, list[Seen | str]]:
    """Files as uint8 [n, channels, pixels, pixels], and what each holds, or why it cannot be read, which leaves zeros."""
    images = np.zeros((len(paths), CHANNELS[mode], pixels, pixels), np.uint8)
    found: list[Seen | str] = []
    for image, path in zip(images, paths, strict=True):
        try:
            image[:], seen = decode(path, pixels, mode, window)
            found.append(seen)
        except UNREADABLE as error:
            found.append(why_unreadable(path, error))
    return images, found


def size_and_time(path: str) -> tuple[int, int]:
    """The size and the time of writing of a file: others where it has been replaced, zeros where there is none."""
    try:
        return (found := os.stat(path)).st_size, found.st_mtime_ns
    except OSError:
        return 0, 0


def why_unreadable(path: str | Path, error: Exception) -> str:
    """What is wrong with a file that cannot be decoded, in a few words."""
    if getattr(error, "strerror", None):
        return f"it cannot be opened: {error.strerror}"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than the {2 * Image.MAX_IMAGE_PIXELS:,} pixels that are allowed; save it smaller"
    with open(path, "rb") as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(16)
    if size == 0:
        return "it is empty, 0 bytes"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image, {size:,} bytes that begin with {start!r} (read are {', '.join(FORMATS)})"
    cut = "truncated" in str(error).lower()
    return f"it is cut off after {size:,} bytes" if cut else f"it is damaged: {type(error).__name__}, {error}"
