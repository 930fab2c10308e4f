"""Made-up input of every kind, taken or refused in one InputError: never another error, a file outside, or a pickle loaded.

`make test` tries a few of each; FUZZ=long tries as many as a person would not (2,000 parameters, 500 tables and lists, 100 image
files, 100 archives). The examples are the same in every run.
"""

import io
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_decode import dicom

from rosutils import InputError, params
from rosutils.__main__ import main
from rosutils.data.sources import open_source
from rosutils.data.splits import PARTS, split_by_lists


LONG = os.environ.get("FUZZ") == "long"
SMOKE = (params.FOLDER / "smoke.yaml").read_bytes()


def tries(short, long):
    count = long if LONG else short
    return settings(max_examples=count, derandomize=True, deadline=timedelta(seconds=60), database=None)


@st.composite
def damaged(draw, content: bytes):
    """The content with some bytes replaced, left out, put in, or all behind some place cut off."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), start + draw(st.sampled_from((0, 1, 1, 2, 8, 40, 10**6))))
        content[start:end] = draw(st.binary(max_size=end - start + 8 if end - start < 50 else 8))
    return bytes(content)


# Parameters

WORDS = (
    "a/b", "../../up", "x" * 300, "", "nih",
    "\0", "nan", "1e5", "folder", "lesion", "resnet18", "store", "<b>", "$x$", "\u00e9", "auto",
)  # fmt: skip
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(WORDS), st.text(max_size=8),
    st.sampled_from((-1, 0, 1, 2, 3, 33, 40, 10**4, 10**9, 10**30, 2**63)), st.floats(), st.floats(0, 1),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3), max_leaves=5
)  # fmt: skip
KEYS = [key.split(".") for key in params.flat(params.load("smoke").model_dump())]


@st.composite
def sections(draw):
    """Some known keys of a study with any values, and sometimes a key that nobody knows."""
    found = {}
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(KEYS))
        path = path[: draw(st.integers(1, len(path)))] + draw(st.sampled_from(([], [], [], ["bogus"], [1])))
        inner = found
        for key in path[:-1]:
            inner = inner[key] if isinstance(inner.get(key), dict) else inner.setdefault(key, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[path[-1]] = draw(values)
    return found


def command(*arguments):
    """Status 0, or 2 with one line."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exc_info)
    assert result.exit_code in (0, 2) and len(result.stderr) < 20_000
    assert result.exit_code == 0 or "Usage" in result.stderr or len(result.stderr.splitlines()) == 1


@tries(15, 1000)
@given(sections() | st.text(max_size=60) | st.text("{}[]:,&*!|>-'\"#%@ \n\t?ab1", max_size=60))
def test_sections_of_the_command_line(found):
    text = found if isinstance(found, str) else yaml.safe_dump(found, default_flow_style=True)
    command("reproduce", "smoke", "--dry-run", "-y", text)


@tries(25, 1000)
@given(damaged(SMOKE) | st.binary(max_size=80) | sections().map(lambda found: SMOKE + yaml.safe_dump(found).encode()))
def test_parameter_files(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_bytes(content)
        try:
            params.label(path, params.load(path))
        except InputError as error:
            assert len(str(error)) < 20_000


# Tables and lists

FIELDS = (
    "i0.png", "./i1.png", "i2", "I3.PNG", "../i0.png", "/etc/passwd", "x/y.png", "a", "A", "b", "1", "1.0", "0", "nan", "",
    " ", '"', '"a,b"', "a,b", "1,5", "\0", "\u00b2", "9" * 5000, "=cmd()", "<script>", "e\u0301", "a;b", "a\tb", "\r",
)  # fmt: skip
fields = st.sampled_from(FIELDS) | st.text(max_size=5)
HEADERS = "image,label|image,label,group|Image, LABEL ,Group|image;label;group|image\tlabel|image,x,y|label|".split("|")
OPTIONS = (
    {}, {"labels": ["x", "y"]}, {"labels": ["x", "y"], "one_hot": True}, {"label": "group"}, {"group": "label"}, {"image": "label"},
    {"grey": True}, {"window": [0, 100.0]}, {"label": "?"}, {"table": "../labels.csv"}, {"table": "."}, {"path": "i0.png"},
)  # fmt: skip


@st.composite
def tables(draw):
    header = draw(st.sampled_from(HEADERS) | st.lists(fields, max_size=4).map(",".join))
    rows = [[f"i{number}.png", draw(st.sampled_from("ab01")), draw(st.sampled_from("pq"))] for number in range(4)]
    rows = [row[: 1 + header.count(",") + header.count(";") + header.count("\t")] for row in rows]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        place = draw(st.integers(0, len(row)))
        row[place : place + draw(st.integers(0, 1))] = [draw(fields)]
    between = draw(st.sampled_from((",", ",", ",", ";", "\t")))
    text = draw(st.sampled_from(("\n", "\r\n", "\r"))).join([header, *map(between.join, rows)])
    content = text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))), "replace")
    return draw(damaged(content)) if draw(st.integers(0, 3)) == 0 else content


def opened(files, skip, **options):
    """What a user's folder with four pictures, and these files over them, gives; None where it was refused.

    All that is written lies in the cache.
    """
    with tempfile.TemporaryDirectory() as place:
        root, cache = Path(place) / "mine", Path(place) / "cache"
        root.mkdir()
        for number in range(4):
            Image.new("RGB", (20, 20), (60 * number, 0, 0)).save(root / f"i{number}.png")
        for name, content in files.items():
            (root / name).write_bytes(content)

        def everything():
            files = {path for path in Path(place).rglob("*") if path.is_file() and cache not in path.parents}
            return {path: path.read_bytes() for path in files}

        before, found = everything(), None
        try:
            section = params.source({"source": "folder", **options})
            how = {"root": root / section.path, "cache_root": cache, "allow_missing": skip, "skip_bad": skip}
            found = open_source(section, pixels=16, **how)
        except InputError as error:
            assert len(str(error)) < 200_000
        assert everything() == before
        return found


@tries(25, 500)
@given(content=tables(), options=st.sampled_from(OPTIONS), skip=st.booleans())
def test_tables(content, options, skip):
    if (found := opened({"labels.csv": content}, skip, **options)) is not None:
        assert len(found.names) == len(found.labels) == len(found.groups) == len(found.images)
        assert len(set(found.names)) == len(found.names) and len(found.class_names) > 1


lists = st.lists(fields, max_size=4).map("\n".join).map(str.encode) | st.binary(max_size=40)


@tries(25, 500)
@given(contents=st.lists(lists, min_size=3, max_size=3), prefix=st.booleans())
def test_lists_of_a_split(contents, prefix):
    names = [f"i{number}.png" for number in range(8)]
    with tempfile.TemporaryDirectory() as place:
        paths = {part: Path(place) / f"{part}.txt" for part in PARTS}
        for number, (path, content) in enumerate(zip(paths.values(), contents, strict=True)):
            path.write_bytes((f"i{number + 4}.png\n".encode() if prefix else b"") + content)
        try:
            how = {"fractions": [0.7, 0.1, 0.2], "generator": torch.Generator().manual_seed(0)}
            found = split_by_lists(paths, names, torch.arange(8), torch.arange(8), **how)
        except InputError:
            return
        numbers = torch.cat(list(found.values())).tolist()
        assert len(numbers) == len(set(numbers)) and all(map(len, found.values()))


# Images and archives


def whole_files():
    """A file of each kind that is read."""
    rng, found = np.random.default_rng(0), []
    colours = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 24)).astype(np.uint16))
    pages = {"save_all": True, "append_images": [colours]}
    for image, suffix, options in (
        (colours, "png", {}), (colours, "jpeg", {}), (colours, "bmp", {}), (colours, "webp", {}), (colours, "gif", pages),
        (colours, "tiff", pages), (colours, "tiff", {"compression": "tiff_lzw"}), (deep, "png", {}), (deep, "tiff", {}),
        (colours.convert("CMYK"), "jpeg", {}), (colours.convert("P"), "png", {"transparency": 3}),
    ):  # fmt: skip
        image.save(file := io.BytesIO(), suffix, **options)
        found.append(file.getvalue())
    with tempfile.TemporaryDirectory() as place:
        path = dicom(Path(place) / "a.dcm", np.asarray(deep), bits=16, WindowCenter=9, WindowWidth=5)
        return [*found, path.read_bytes()]


@tries(20, 100)
@given(contents=st.lists(st.sampled_from(whole_files()).flatmap(damaged), min_size=3, max_size=3), skip=st.booleans())
def test_image_files(contents, skip):
    files = {f"i{number}.png": content for number, content in enumerate(contents)}
    found = opened(files | {"labels.csv": b"image,label\ni0.png,a\ni1.png,b\ni2.png,a\ni3.png,b\n"}, skip)
    assert found is None or found.images.shape[1:] == (3, 16, 16)


class Trap:
    """What makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def archive(trap=None) -> bytes:
    arrays, rng = {}, np.random.default_rng(0)
    for part, n in {"train": 14, "val": 4, "test": 6}.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 7).astype(np.uint8)[:, None]
    arrays |= {"val_labels": np.array([[Trap(trap)]] * 4)} if trap else {}
    np.savez_compressed(file := io.BytesIO(), **arrays)
    return file.getvalue()


@tries(15, 100)
@given(content=damaged(archive()))
def test_archives(content):
    read_archive(content)


def read_archive(content):
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "medmnist").mkdir()
        (Path(place) / "medmnist" / "dermamnist.npz").write_bytes(content)
        section = params.source({"source": "medmnist", "dataset": "dermamnist"})
        try:
            open_source(section, pixels=28, root=place, allow_missing=False, cache_root=Path(place) / "cache")
        except InputError:
            return False
        return True


def test_nothing_is_unpickled(tmp_path):
    assert read_archive(archive()) and not read_archive(archive(str(tmp_path / "archive")))
    for call in (
        f"!!python/object/apply:builtins.open ['{tmp_path / 'yaml'}', w]",
        f"!!python/name:os.system {tmp_path}",
    ):
        command("reproduce", "smoke", "--dry-run", "-y", f"{{noise: {call}}}")
        with pytest.raises(InputError):
            params.parse(f"a: {call}", "mine.yaml")
    assert not list(tmp_path.iterdir())
