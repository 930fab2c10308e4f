"""One image file becomes a square of uint8 pixels: the same pixels on every machine, whatever kind of file it is.

Light to import on purpose: the processes that decode in parallel import this module and nothing else of the kit.
"""

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


CHANNELS = {"RGB": 3, "L": 1}
RESIZE = "turned as EXIF says, the central square, its side to the wanted pixels (Pillow, bilinear, antialiased)"
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def decode(path: str | Path, pixels: int, mode: str) -> tuple[np.ndarray, tuple[int, int, str]]:
    """One image file as uint8 [channels, pixels, pixels], and the width, height and mode it has in the file.

    The image is turned as its EXIF orientation says, the central square is kept and resized (antialiased bilinear
    filter); colours become luminance for mode "L", 16-bit greys are scaled to 8 bits, transparency is dropped.
    Raises one of UNREADABLE for a file that is no image, or not a whole one.
    """
    with warnings.catch_warnings(action="ignore", category=UserWarning), Image.open(path) as image:  # on garbled tags
        found = (*image.size, image.mode)
        # JPEG decodes faster at 1/2, 1/4 or 1/8; twice the wanted size leaves the filter its work.
        image.draft(mode, (2 * pixels, 2 * pixels))
        image.load()
        image = _in_mode(_upright(image), mode)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.resize((pixels, pixels), Image.Resampling.BILINEAR, box=box)
    return np.asarray(square).reshape(pixels, pixels, -1).transpose(2, 0, 1), found


def _upright(image: Image.Image) -> Image.Image:
    if not image.info.keys() & {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}:
        return image  # asking every file for its EXIF tags costs a tenth of decoding a small one
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # Pillow has no error of its own for tags that are garbled; the pixels are still good
        turn = None
    return image if turn is None else image.transpose(turn)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys at 255 on converting them; here 65535 becomes 255.
        grey = np.asarray(image).astype(np.float64).clip(0, 65535) * (255 / 65535)
        image = Image.fromarray(grey.round().astype(np.uint8))
    image.info.pop("transparency", None)
    return image.convert(mode)


def decode_into(
    file: Path, chunk: int, offset: int, paths: Sequence[str], pixels: int, mode: str, parent: int
) -> dict:  # fmt: skip
    """Decode a chunk of files into its place in `file`, from byte `offset` on: {"chunk", "stamp", "found", "sha256" of its bytes}.

    "found" has [width, height, mode] of each file, or [why] for one that cannot be read, which leaves zeros. `parent`
    is the process that asks for it.
    """
    if parent not in (os.getpid(), os.getppid()):
        os._exit(1)  # who asked was killed: nobody waits for this, and the next attempt may be writing already
    before = stamp(paths)  # a file that is replaced meanwhile is then decoded again
    block = np.zeros((len(paths), CHANNELS[mode], pixels, pixels), np.uint8)
    found: list[list] = []
    for place, path in zip(block, paths, strict=True):
        try:
            place[:], seen = decode(path, pixels, mode)
            found.append(list(seen))
        except UNREADABLE as error:
            found.append([why_unreadable(Path(path), error)])
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(block)
    return {"chunk": chunk, "stamp": before, "found": found, "sha256": hashlib.sha256(block).hexdigest()}


def stamp(paths: Sequence[str]) -> str:
    """Changes when one of the files is another, or has been written since."""
    return hashlib.sha256(repr([(path, *_size_and_time(path)) for path in paths]).encode()).hexdigest()


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def why_unreadable(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be decoded, in a few words."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as problem:
        return f"it cannot be opened: {problem.strerror}"
    if size == 0:
        return "it is empty, 0 bytes"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image, {size:,} bytes that begin with {start!r}"
    if "truncated" in str(error).lower():
        return f"it is cut off after {size:,} bytes"
    return f"it is damaged: {type(error).__name__}, {error}"
