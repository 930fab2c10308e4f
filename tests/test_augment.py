"""Augmented views as a pure function of (seed, epoch, example)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rosutils import InputError
from rosutils.augment import View


quick = settings(max_examples=40, deadline=None)
flips = st.sampled_from([(), ("horizontal",), ("vertical",), ("horizontal", "vertical")])
BOTH = ("horizontal", "vertical")
H, W = 12, 13


@st.composite
def views(draw):
    return View(draw(st.integers(0, 2**63)), draw(st.integers(0, 11)), draw(flips))


def pixels(n, *, channels=3, seed=0, h=H, w=W):
    return torch.from_numpy(np.random.default_rng(seed).integers(256, size=(n, channels, h, w), dtype=np.uint8))


def numbered(n=1):
    """The same image n times over, no two of its pixels alike; large enough that no two views of it are."""
    return torch.arange(H * W, dtype=torch.uint8).view(1, 1, H, W).repeat(n, 1, 1, 1)


def cropped(image, pad, down, right, vertical, horizontal):
    """numpy's own reflection, then a slice, then flips; image [channels, H, W]."""
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    crop = padded[:, down : down + image.shape[1], right : right + image.shape[2]]
    dims = [d for d, flip in ((1, vertical), (2, horizontal)) if flip]
    return torch.flip(torch.from_numpy(crop.copy()), dims)


def all_views(image, pad, flips):
    """Every view an image may have, by (down, right, vertical, horizontal)."""
    shifts = range(2 * pad + 1)
    vertical, horizontal = ((False, True) if flip in flips else (False,) for flip in ("vertical", "horizontal"))
    keys = itertools.product(shifts, shifts, vertical, horizontal)
    return {key: cropped(image, pad, *key) for key in keys}


def what_was_drawn(view, n, epoch=0):
    """(down, right, vertical, horizontal) of n examples, recognised from the pixels; [n, 4]."""
    known = {image.numpy().tobytes(): key for key, image in all_views(numbered()[0], view.pad, view.flips).items()}
    shown = view(numbered(n), torch.arange(n), epoch)
    return np.array([known[image.contiguous().numpy().tobytes()] for image in shown], dtype=int)


@quick
@given(view=views(), epoch=st.integers(0, 10_000), data=st.data())
def test_same_arguments_give_the_same_pixels_in_any_batch_and_order(view, epoch, data):
    n = 12
    images = pixels(n)
    index = torch.tensor(data.draw(st.lists(st.integers(0, 10**6), min_size=n, max_size=n, unique=True)))
    together = view(images, index, epoch)
    assert together.shape == images.shape and together.dtype == images.dtype
    assert torch.equal(together, View(view.seed, view.pad, view.flips)(images.clone(), index.clone(), epoch))
    some = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n)))
    assert torch.equal(view(images[some], index[some], epoch), together[some])


@quick
@given(view=views(), epoch=st.integers(0, 100), number=st.integers(0, 10**9))
def test_a_view_is_numpys_reflection_then_a_slice_then_flips(view, epoch, number):
    image = pixels(1, seed=number)
    shown = view(image, torch.tensor([number]), epoch)[0]
    assert any(torch.equal(shown, candidate) for candidate in all_views(image[0], view.pad, view.flips).values())


@pytest.mark.parametrize("pad", [1, 2, 4])
def test_offsets_and_flips_are_uniform_and_independent_of_each_other(pad):
    view, n = View(11, pad, BOTH), 8000
    drawn = what_was_drawn(view, n)
    sides = (2 * pad + 1, 2 * pad + 1, 2, 2)
    counts = np.bincount(np.ravel_multi_index(tuple(drawn.T), sides), minlength=np.prod(sides))
    assert stats.chisquare(counts).pvalue > 0.001
    assert drawn.min(0).tolist() == [0, 0, 0, 0] and drawn.max(0).tolist() == [2 * pad, 2 * pad, 1, 1]


@pytest.mark.parametrize("what", ["next epoch", "next seed", "next example"])
def test_draws_do_not_depend_on_those_of_the_neighbour(what):
    n, pad = 6000, 2
    first = what_was_drawn(View(5, pad, BOTH), n)
    second = {
        "next epoch": lambda: what_was_drawn(View(5, pad, BOTH), n, epoch=1),
        "next seed": lambda: what_was_drawn(View(6, pad, BOTH), n),
        "next example": lambda: np.roll(first, 1, axis=0),
    }[what]()
    assert (first != second).any(1).mean() > 0.9
    for column, sides in enumerate((5, 5, 2, 2)):
        table = np.zeros((sides, sides))
        np.add.at(table, (first[:, column], second[:, column]), 1)
        assert stats.chi2_contingency(table).pvalue > 0.0005, column


def test_bytes_and_floats_are_cropped_alike_and_the_images_and_the_global_generators_are_untouched():
    images, index, view = pixels(10), torch.arange(10), View(0, 3, BOTH)
    before, torch_state, numpy_state = images.clone(), torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(view(images.float() / 255, index, 4), view(images, index, 4).float() / 255)
    assert torch.equal(images, before)
    assert torch.equal(torch_state, torch.get_rng_state()) and (numpy_state == np.random.get_state()[1]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_shows_the_same_pixels():
    images, index, view = pixels(50), torch.arange(50), View(9, 3, BOTH)
    assert torch.equal(view(images.cuda(), index, 7).cpu(), view(images, index, 7))


@pytest.mark.parametrize("pad", [4, 5, 9])
def test_more_padding_than_the_image_can_reflect_and_an_unknown_flip_are_input_errors(pad):
    """pad = side wraps around to wrong pixels without a word, a larger one is an IndexError."""
    with pytest.raises(InputError, match=f"pad is {pad}; allowed for images of 4 px: 0 to 3"):
        View(0, pad)(torch.rand(50, 1, 4, 4), torch.arange(50), 0)
    with pytest.raises(InputError, match="horisontal"):
        View(0, 0, ("horisontal",))(torch.rand(1, 1, 4, 4), torch.tensor([0]), 0)
