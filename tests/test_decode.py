"""One image file into a square: what decoding does to pixels, and what it says of files that are no images."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rosutils.data import decode as decoding
from rosutils.data.decode import UNREADABLE, decode, decode_chunk, why_unreadable
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


@pytest.mark.parametrize("name", ["image.png", "image.jpg"])
def test_an_image_of_the_wanted_size_is_not_touched(tmp_path, name):
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path = saved(tmp_path, noise, name)
    image, _ = decode(path, 24, "RGB")
    with Image.open(path) as expected:
        np.testing.assert_array_equal(image, np.asarray(expected).transpose(2, 0, 1))


def test_colours_become_luminance_and_transparency_is_dropped(tmp_path):
    colours = np.zeros((8, 8, 4), np.uint8)
    colours[..., :3], colours[..., 3] = (200, 100, 50), 7
    luminance = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    for channels in (3, 4):
        image, _ = decode(saved(tmp_path, colours[..., :channels].copy()), 8, "L")
        np.testing.assert_array_equal(image, np.full((1, 8, 8), luminance))


def test_16_bit_greys_are_scaled_and_not_clipped(tmp_path):
    greys = np.array([[0, 257, 32768, 65535]], np.uint16).repeat(4, axis=0)
    image, _ = decode(saved(tmp_path, greys), 4, "L")
    np.testing.assert_array_equal(image[0], np.array([[0, 1, 128, 255]]).repeat(4, axis=0))


def test_palette_images_with_transparency_are_read_without_a_warning(tmp_path):
    image = Image.fromarray(np.full((8, 8), 1, np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, 120, 120, 120])
    image.save(tmp_path / "image.png", transparency=b"\x00\x80")
    np.testing.assert_array_equal(decode(tmp_path / "image.png", 8, "L")[0], np.full((1, 8, 8), 120))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_cut_or_altered_file_is_decoded_or_refused_and_nothing_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("altered")
    suffix = data.draw(st.sampled_from(["png", "jpg"]))
    noise = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)
    content = bytearray(saved(folder, noise, f"image.{suffix}").read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    (folder / "image").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image, _ = decode(folder / "image", 8, "L")
    except UNREADABLE:
        return
    assert image.shape == (1, 8, 8) and image.dtype == np.uint8


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


def test_garbled_exif_tags_leave_the_pixels_as_they_are(tmp_path):
    path = saved(tmp_path, np.full((16, 16, 3), 90, np.uint8), "image.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    np.testing.assert_allclose(decode(path, 16, "RGB")[0], 90, atol=2)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_cmyk_images_are_read_in_their_colours(tmp_path, mode):
    Image.new("RGB", (24, 24), (200, 60, 20)).convert("CMYK").save(tmp_path / "image.jpg", quality=100)
    image, found = decode(tmp_path / "image.jpg", 24, mode)
    expected = [200, 60, 20] if mode == "RGB" else [round(0.299 * 200 + 0.587 * 60 + 0.114 * 20)]
    assert found[:3] == (24, 24, "CMYK")
    np.testing.assert_allclose(image[:, 12, 12].astype(int), expected, atol=4)


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "P", "CMYK", "YCbCr"])
def test_every_mode_becomes_grey_and_colour(tmp_path, mode):
    image = Image.new("L", (20, 20), 255).convert("RGB").convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"image.{suffix}")
    for wanted, channels in decoding.CHANNELS.items():
        pixels, _ = decode(tmp_path / f"image.{suffix}", 20, wanted)
        assert pixels.shape == (channels, 20, 20) and pixels.min() >= 253


def test_floating_point_pixels_are_refused_with_what_to_do(tmp_path):
    Image.fromarray(np.random.default_rng(0).random((9, 9), np.float32)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match="save it with 8 or 16 bits"):
        decode(tmp_path / "image.tif", 9, "L")


def bad_files(folder):
    """One of each kind of bad file that downloads leave behind, and a part of what is said of it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    contents = {kind: saved(folder, noise, f"whole.{kind}").read_bytes() for kind in ("png", "jpg")}
    made = {
        "empty.png": (b"", "it is empty, 0 bytes"), "page.jpg": (b"<html>404</html>", "it is no image, 16 bytes that begin with"),
        "cut.png": (contents["png"][:-900], "it is cut off after"), "cut.jpg": (contents["jpg"][:-900], "it is cut off after"),
        "head.jpg": (contents["jpg"][:9], "it is cut off after 9 bytes"), "zeros.png": (bytes(500), "it is no image"),
        "garbled.png": (contents["png"][:200] + bytes(300) + contents["png"][500:], "it is damaged"),
    }  # fmt: skip
    for name, (content, _) in made.items():
        (folder / name).write_bytes(content)
    return {folder / name: says for name, (_, says) in made.items()} | {folder / "gone.png": "it cannot be opened"}


def test_what_is_wrong_with_a_file_is_said_in_words_and_leaves_zeros(tmp_path):
    good = str(saved(tmp_path, np.full((8, 8), 77, np.uint8)))
    (tmp_path / "empty.png").write_bytes(b"")
    images, found = decode_chunk([good, str(tmp_path / "empty.png"), good], 8, "L", None)
    assert images.reshape(3, -1).max(1).tolist() == [77, 0, 77]
    assert found == [(8, 8, "L", 1, None, None), "it is empty, 0 bytes", (8, 8, "L", 1, None, None)]
    for path, says in bad_files(tmp_path).items():
        with pytest.raises(UNREADABLE) as error:
            decode(path, 8, "RGB")
        assert says in why_unreadable(path, error.value), path


# Greys deeper than 8 bits, files of several pages, kinds of files that are not read


def test_a_window_of_deep_greys_becomes_black_to_white(tmp_path):
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


def test_only_the_kinds_that_are_named_are_opened_whatever_a_file_is_called(tmp_path):
    (tmp_path / "scan.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UNREADABLE) as error:
        decode(tmp_path / "scan.jpg", 8, "RGB")
    assert "(read are BMP, GIF, JPEG" in why_unreadable(tmp_path / "scan.jpg", error.value)


def test_a_large_image_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UNREADABLE) as error:
        decode(saved(tmp_path, np.zeros((30, 30), np.uint8)), 8, "L")
    assert why_unreadable(tmp_path, error.value) == "it has more than the 200 pixels that are allowed; save it smaller"


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


def test_dicom_greys_are_rescaled_and_a_users_window_is_in_rescaled_units(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 10}
    image, found = decode(dicom(tmp_path / "a.dcm", GREYS, **tags), 4, "L", [0, 4000])
    np.testing.assert_array_equal(image[0, 0], [0, round(2000 / 4000 * 255), round(3000 / 4000 * 255), 255])
    assert found[4:] == (-1000, 4000)
    assert decode(dicom(tmp_path / "b.dcm", GREYS), 4, "L")[1][4:] == (0, 2500)  # no window: as other deep greys


def test_dicom_of_8_bits_and_in_colours_keeps_its_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image, found = decode(dicom(tmp_path / "rgb.dcm", noise, "RGB", bits=8), 9, "RGB")
    np.testing.assert_array_equal(image, noise.transpose(2, 0, 1))
    image, _ = decode(dicom(tmp_path / "grey.dcm", noise[..., 0].copy(), bits=8), 9, "L")
    np.testing.assert_array_equal(image[0], noise[..., 0])


def test_a_damaged_dicom_file_and_one_without_pydicom_are_told(tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM")
    [[why]] = (decode_chunk([str(path)], 8, "L", None)[1],)
    assert why.startswith("it is damaged")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert decode_chunk([str(path)], 8, "L", None)[1] == [decoding.NO_PYDICOM]


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


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert decode_chunk([str(tmp_path / "a.png")], 8, "L", None)[1] == ["it cannot be opened: it is no regular file"]
