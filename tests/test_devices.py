"""Where images live: in device memory where they fit, gathered from the host where not, the same pixels either way."""

import gc

import numpy as np
import pytest
import torch

from rosutils.data import devices
from rosutils.data.devices import SHARE, Images, free_memory, resident, send


@pytest.fixture
def stored():
    return np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)


INDEX = torch.tensor([7, 0, 49, 7])


@pytest.mark.parametrize("fits", [True, False])
def test_rows_are_the_stored_ones_resident_or_not(stored, fits):
    images = Images(stored, "cpu", free=10 * stored.nbytes if fits else 0)
    assert (images.resident is not None) == fits
    np.testing.assert_array_equal(images(INDEX, INDEX).numpy(), stored[INDEX.numpy()])


def test_a_cache_may_take_its_share_of_the_free_memory_and_no_more(stored):
    enough = int(np.ceil(stored.nbytes / SHARE))
    assert resident(stored, torch.device("cpu"), enough - 1) is None
    whole = resident(stored, torch.device("cpu"), enough)
    np.testing.assert_array_equal(whole.numpy(), stored)


def test_all_loaders_share_one_resident_cache_which_goes_with_the_images(stored):
    first, second = (Images(stored, "cpu", free=10**9) for _ in range(2))
    assert first.resident is second.resident
    before = len(devices._RESIDENT)
    del first, second, stored
    gc.collect()
    assert len(devices._RESIDENT) <= before


def test_a_processor_has_no_device_memory():
    assert free_memory(torch.device("cpu")) == 0


def test_sending_within_the_host_copies_nothing():
    tensor = torch.arange(3)
    assert send(tensor, "cpu").data_ptr() == tensor.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fits", [True, False])
def test_on_a_gpu_the_rows_are_the_stored_ones(stored, fits):
    images = Images(stored, "cuda", free=10**9 if fits else 0)
    found = images(INDEX, send(INDEX, "cuda"))
    assert found.is_cuda
    np.testing.assert_array_equal(found.cpu().numpy(), stored[INDEX.numpy()])
