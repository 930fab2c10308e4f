"""One image file into a square: what decoding does to pixels, and what it says of files that are no images."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from rosutils.data import decode as decoding
from rosutils.data.decode import decode, decode_chunk
from rosutils.params import ROOT


def saved(tmp_path, pixels, name="image.png", **options):
    path = tmp_path / name
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name, options", [("image.png", {}), ("image.jpg", {"quality": 95})])
def test_resizing_averages_instead_of_skipping_pixels(tmp_path, name, options):
    checks = np.indices((512, 512)).sum(axis=0) % 2 * 200
    image, _ = decode(saved(tmp_path, checks.astype(np.uint8), name, **options), 16, "L")
    # Every 32 x 32 block is half 0 and half 200; picking pixels without averaging gives 0 or 200.
    assert np.abs(image.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("turned", [False, True])
def test_the_central_square_is_kept(tmp_path, turned):
    # Bands 30 | 40 | 30 wide: the central 40 x 40 square is all 200.
    bands = np.repeat(np.array([0, 200, 90], np.uint8), [30, 40, 30])[None].repeat(40, axis=0)
    image, _ = decode(saved(tmp_path, bands.T if turned else bands), 40, "L")
    np.testing.assert_array_equal(image, np.full((1, 40, 40), 200))


@pytest.mark.parametrize(
    ("name", "exif"), [("image.png", b""), ("image.jpg", b""), ("image.jpg", b"Exif\0\0MM\0*\xff\xff\xff\xff")]
)
def test_an_image_of_the_wanted_size_is_not_touched_whatever_its_garbled_tags_say(tmp_path, name, exif):
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    image, _ = decode(saved(tmp_path, noise, name, exif=exif), 24, "RGB")
    with Image.open(saved(tmp_path, noise, f"plain-{name}")) as expected:
        np.testing.assert_array_equal(image, np.asarray(expected).transpose(2, 0, 1))


# Kinds of files that are among real images


@pytest.mark.parametrize("turn", decoding.TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_turned_as_exif_says(tmp_path, turn, suffix):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :16, 0], upright[:16, 16:, 1] = 250, 250
    back = {Image.ROTATE_90: Image.ROTATE_270, Image.ROTATE_270: Image.ROTATE_90}
    stored = Image.fromarray(upright).transpose(back.get(decoding.TURNS[turn], decoding.TURNS[turn]))
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = turn
    stored.save(tmp_path / f"image.{suffix}", exif=exif, quality=100)
    image, _ = decode(tmp_path / f"image.{suffix}", 32, "RGB")
    corners = image[:, [4, 4, 27, 27], [4, 27, 4, 27]].astype(int)
    expected = upright[[4, 4, 27, 27], [4, 27, 4, 27]].T.astype(int)
    assert np.abs(corners - expected).max() < 30


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_grey_and_colour_and_transparency_is_dropped_without_a_warning(tmp_path, mode):
    colour = {"1": (255, 255, 255), "LA": (98, 98, 98)}.get(mode, (200, 60, 20))
    image = Image.new("RGB", (20, 20), colour).convert(mode, palette=Image.Palette.ADAPTIVE)
    if mode.endswith("A"):
        image.putalpha(7)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"image.{suffix}", quality=100, **({"transparency": b"\x00\x80"} if mode == "P" else {}))
    luminance = round(np.dot((0.299, 0.587, 0.114), colour))
    for wanted, expected in {"RGB": colour, "L": (luminance,)}.items():
        pixels, found = decode(tmp_path / f"image.{suffix}", 20, wanted)
        assert pixels.shape == (decoding.CHANNELS[wanted], 20, 20) and found[:2] == (20, 20)
        np.testing.assert_allclose(pixels[:, 9, 9].astype(int), expected, atol=4)


def test_what_is_wrong_with_a_file_is_said_in_words_and_leaves_zeros(tmp_path, monkeypatch):
    """One of each kind of bad file that downloads leave behind, and files of kinds that are not read."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    png, jpg = (saved(tmp_path, noise, f"whole.{kind}").read_bytes() for kind in ("png", "jpg"))
    told = {
        "empty.png": (b"", "it is empty, 0 bytes"), "page.jpg": (b"<html>404</html>", "it is no image, 16 bytes that begin with"),
        "cut.png": (png[:-900], "it is cut off after"), "cut.jpg": (jpg[:-900], "it is cut off after"),
        "head.jpg": (jpg[:9], "it is cut off after 9 bytes"), "zeros.png": (bytes(500), "it is no image"),
        "garbled.png": (png[:200] + bytes(300) + png[500:], "it is damaged"), "a.dcm": (bytes(128) + b"DICM", "it is damaged"),
        "scan.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "(read are BMP, GIF, JPEG"),
    }  # fmt: skip
    for name, (content, _) in told.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    says = {name: says for name, (_, says) in told.items()} | {"gone.png": "it cannot be opened: No such file"}
    says |= {"pipe.png": "it cannot be opened: it is no regular file"}
    saved(tmp_path, np.random.default_rng(0).random((9, 9), np.float32), "float.tif")
    saved(tmp_path, np.zeros((80, 80), np.uint8), "large.png")
    says |= {
        "float.tif": "save it with 8 or 16 bits",
        "large.png": "it has more than the 6,000 pixels that are allowed; save",
    }
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    images, found = decode_chunk([str(tmp_path / name) for name in (*says, "whole.png")], 8, "RGB", None)
    assert images[-1].any() and not images[:-1].any() and found[-1] == (64, 64, "RGB", 1, None, None)
    assert [name for name, why in zip(says, found, strict=False) if says[name] not in why] == []
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert decode_chunk([str(tmp_path / "a.dcm")], 8, "L", None)[1] == [decoding.NO_PYDICOM]


# Greys deeper than 8 bits, files of several pages, kinds of files that are not read


def test_deep_greys_are_scaled_and_not_clipped_and_a_window_of_them_becomes_black_to_white(tmp_path):
    image, _ = decode(saved(tmp_path, np.array([[0, 257, 32768, 65535]], np.uint16).repeat(4, axis=0)), 4, "L")
    np.testing.assert_array_equal(image[0, 0], [0, 1, 128, 255])
    greys = np.array([[-1024, 0, 1000, 3000]], np.int32).repeat(4, axis=0)
    path = saved(tmp_path, greys, "image.tif")
    image, found = decode(path, 4, "L", [0, 2000])
    np.testing.assert_array_equal(image[0, 0], [0, 0, 128, 255])
    assert (found.darkest, found.brightest) == (-1024, 3000)


def test_the_pages_of_a_file_are_counted(tmp_path):
    pages = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (0, 120, 240)]
    for suffix in ("tif", "gif"):
        pages[0].save(tmp_path / f"image.{suffix}", save_all=True, append_images=pages[1:])
        image, found = decode(tmp_path / f"image.{suffix}", 9, "L")
        assert found.pages == 3 and image.max() == 0


def test_a_process_that_decodes_loads_no_torch():
    """Every core has one; torch takes 350 MB and seconds in each."""
    code = "import sys, rosutils.data.decode; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# DICOM, colours of 16 bits, things that are no files


def dicom(path, pixels, kind="MONOCHROME2", bits=12, **tags):
    """A DICOM file of these pixels [H, W] or [H, W, 3]."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    made = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 3 if pixels.ndim == 3 else 1, kind
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * pixels.itemsize, bits, bits - 1
    made.PixelRepresentation, made.PlanarConfiguration = int(pixels.dtype.kind == "i"), 0
    made.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


GREYS = np.array([[0, 1500, 2000, 2500]], np.uint16).repeat(4, axis=0)


@pytest.mark.parametrize(("kind", "expected"), [("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [255, 255, 127, 0])])
def test_dicom_greys_are_windowed_as_the_file_says_and_white_is_bright(tmp_path, kind, expected):
    path = dicom(tmp_path / "a.dcm", GREYS, kind, WindowCenter=2000, WindowWidth=1000)
    image, found = decode(path, 4, "L")
    np.testing.assert_allclose(image[0, 0].astype(int), expected, atol=1)
    assert found == (4, 4, kind, 1, None, None)


def test_dicom_greys_are_rescaled_a_users_window_is_in_rescaled_units_and_8_bits_keep_their_pixels(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 10}
    image, found = decode(dicom(tmp_path / "a.dcm", GREYS, **tags), 4, "L", [0, 4000])
    np.testing.assert_array_equal(image[0, 0], [0, round(2000 / 4000 * 255), round(3000 / 4000 * 255), 255])
    assert found[4:] == (-1000, 4000)
    assert decode(dicom(tmp_path / "b.dcm", GREYS), 4, "L")[1][4:] == (0, 2500)  # no window: as other deep greys
    eight = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        decode(dicom(tmp_path / "c.dcm", eight, "RGB", bits=8), 9, "RGB")[0], eight.transpose(2, 0, 1)
    )
    np.testing.assert_array_equal(
        decode(dicom(tmp_path / "d.dcm", eight[..., 0].copy(), bits=8), 9, "L")[0], eight[None, ..., 0]
    )


def test_16_bit_colours_that_stay_dark_are_noticed(tmp_path):
    colours = np.random.default_rng(0).integers(0, 4096, (4, 4, 3)).astype(">u2")

    def chunk(name, content):
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    head = (4).to_bytes(4) * 2 + bytes([16, 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    found = decode(tmp_path / "a.png", 4, "RGB")[1]
    assert found.mode == "RGB" and found.brightest == (colours.max() >> 8) * 257
