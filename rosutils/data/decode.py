"""One image file becomes a square of uint8 pixels: the same pixels on every machine, whatever kind of file it is."""

import errno
import os
import re
import warnings
from collections import namedtuple
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


CHANNELS = {"RGB": 3, "L": 1}
DICOM = b"DICM"  # after a preamble of 128 bytes
NO_PYDICOM = "DICOM is read by pydicom: pip install 'pydicom>=3', or save it as PNG"
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # told by content; nothing else reaches a decoder
RESIZE = "turned as EXIF says, the central square, its side to the wanted pixels (Pillow, bilinear, antialiased)"
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
WHITE = 65535  # of 16-bit greys, unless a window says otherwise
ORIENTATION = 0x0112
TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split()
TURNS = {tag: Image.Transpose[name] for tag, name in enumerate(TURNS, start=2)}
# What a file holds: its size and mode, its pages (the first is used), and of what is deeper than 8 bits the range.
Seen = namedtuple("Seen", "width height mode pages darkest brightest", defaults=(1, None, None))


class Unusable(ValueError):
    """A whole image of a kind that is not read."""


def decode(path: str | Path, pixels: int, mode: str, window: Sequence[float] | None = None) -> tuple[np.ndarray, Seen]:
    """One image file as uint8 [channels, pixels, pixels], as RESIZE says, and what it holds.

    Colours become luminance for mode "L", deeper greys are scaled from `window` (0 to WHITE) to 8 bits, transparency is
    dropped. Raises one of UNREADABLE for a file that is no image, or not a whole one.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # to read a pipe would take for ever
        raise OSError(errno.EINVAL, "it is no regular file")
    with warnings.catch_warnings(action="ignore"), open(path, "rb") as file:  # on garbled tags
        try:
            image, found = _dicom(file, window) if file.read(132)[128:] == DICOM else _picture(file, pixels, mode)
            image = _in_mode(_upright(image), mode, window or (0, WHITE))
        except (*UNREADABLE, MemoryError):
            raise
        except Exception as error:  # a damaged file makes a decoder fail in ways that it has no error of its own for
            raise ValueError(f"{type(error).__name__}: {error}") from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize((pixels, pixels), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(square).reshape(pixels, pixels, -1).transpose(2, 0, 1), found


def _picture(file: BinaryIO, pixels: int, mode: str) -> tuple[Image.Image, Seen]:
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a photograph's other pages are previews
    found, deep = Seen(*image.size, image.mode, pages), re.search(";16[BLN]", str(image.tile))
    # JPEG decodes faster at 1/2, 1/4 or 1/8; twice the wanted size leaves the filter its work.
    image.draft(mode, (2 * pixels, 2 * pixels))
    image.load()
    if image.mode.startswith("I"):
        found = Seen(*found[:4], *image.getextrema())
    elif deep:  # Pillow keeps the upper 8 bits of 16-bit colours
        ends = np.ravel(image.convert("RGB").getextrema()) * 257
        found = Seen(*found[:4], int(ends.min()), int(ends.max()))
    return image, found


def _dicom(file: BinaryIO, window: Sequence[float] | None) -> tuple[Image.Image, Seen]:
    """The first frame of a DICOM file: rescaled; by `window`, or else its own, or else as deep greys; white is bright."""
    try:
        from pydicom import dcmread, pixels
    except ImportError:
        raise Unusable(NO_PYDICOM) from None
    file.seek(0)
    read = dcmread(file)
    frame, kind, bits = pixels.pixel_array(read, index=0), str(read.PhotometricInterpretation), int(read.BitsStored)
    found = Seen(int(read.Columns), int(read.Rows), kind, int(read.get("NumberOfFrames") or 1))
    if not kind.startswith("MONOCHROME"):
        if frame.dtype != np.uint8 or kind.startswith("PALETTE"):
            raise Unusable(f"it is DICOM in {kind} of {bits} bits; read are greys, and colours of 8 bits")
        return Image.fromarray(frame), found
    greys = pixels.apply_modality_lut(frame, read).astype(np.float64)
    if window is None and "WindowCenter" in read and "WindowWidth" in read:
        # what it makes of the darkest and of the brightest
        low, high = pixels.apply_windowing(np.array([-1e9, 1e9]), read)
        greys = pixels.apply_windowing(greys, read)
    elif window is None and bits <= 8:
        low, high = sorted(pixels.apply_modality_lut(np.array([0, 2**bits - 1]), read))
    else:
        low, high = window or (0, WHITE)
        found = Seen(*found[:4], float(greys.min()), float(greys.max()))
    image = Image.fromarray(_to_bytes(greys, low, high))
    return ImageOps.invert(image) if kind == "MONOCHROME1" else image, found


def _upright(image: Image.Image) -> Image.Image:
    # asking every file for its EXIF tags costs a tenth of decoding a small one
    if image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}:
        with suppress(Exception):  # Pillow has no error of its own for tags that are garbled; the pixels are still good
            return image.transpose(TURNS[image.getexif()[ORIENTATION]])
    return image


def _in_mode(image: Image.Image, mode: str, window: Sequence[float]) -> Image.Image:
    if image.mode == "F":
        raise Unusable("its pixels are floating-point numbers without a fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow would clip them at 255
        image = Image.fromarray(_to_bytes(np.asarray(image).astype(np.float64), *window))
    image.info.pop("transparency", None)
    return image.convert(mode)


def _to_bytes(greys: np.ndarray, low: float, high: float) -> np.ndarray:
    return ((greys.clip(low, high) - low) * (255 / (high - low))).round().astype(np.uint8)


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
    if isinstance(error, Unusable):
        return str(error)
    with open(path, "rb") as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(16)
    if size == 0:
        return "it is empty, 0 bytes"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image, {size:,} bytes that begin with {start!r} (read are {', '.join(FORMATS)})"
    cut = "truncated" in str(error).lower()
    return f"it is cut off after {size:,} bytes" if cut else f"it is damaged: {type(error).__name__}, {error}"
