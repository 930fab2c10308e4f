"""Batches: an epoch's order and views depend on (seed, epoch) alone, and images live where they fit, the same pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosutils import InputError
from rosutils.augment import View
from rosutils.data import Loader, Task
from rosutils.data.loader import SHARE, resident


def task(n=600, *, multilabel=False, pixels=8) -> Task:
    """n random images in four classes, seven of ten for training."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy((random.random((n, 4)) < 0.3).astype(np.float32)) if multilabel else torch.arange(n) % 4
    order, bounds = torch.randperm(n, generator=torch.Generator().manual_seed(0)), (7 * n // 10, 8 * n // 10)
    parts = [part.sort().values for part in order.tensor_split(bounds)]
    return Task(
        name="test", images=random.integers(0, 256, (n, 3, pixels, pixels), dtype=np.uint8), labels=labels,
        clean_labels=labels, groups=torch.arange(n), names=[f"{i}" for i in range(n)], class_names="abcd",
        multilabel=multilabel, split=dict(zip(("train", "validation", "test"), parts, strict=True)), fingerprint="f",
        noise_rate=0.0,
    )  # fmt: skip


def batches(loader, epoch=0) -> list:
    loader.set_epoch(epoch)
    return list(loader)


def shuffled(made, *, seed=0, batch_size=32, view=None):
    return Loader(made, made.split["train"], batch_size=batch_size, shuffle_seed=seed, view=view)


def orders(loader, epoch) -> list[int]:
    return torch.cat([batch.index for batch in batches(loader, epoch)]).tolist()


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    made = task()
    loader = shuffled(made)
    forward = [orders(loader, epoch) for epoch in range(3)]
    torch.manual_seed(99)
    assert [orders(shuffled(made), epoch) for epoch in (2, 1, 0)] == forward[::-1]
    assert len({tuple(order) for order in [*forward, orders(shuffled(made, seed=1), 0)]}) == 4


@settings(max_examples=30)
@given(n=st.integers(60, 200), batch_size=st.integers(2, 30))
def test_an_epoch_shows_each_example_at_most_once_and_drops_the_last_smaller_batch_only(n, batch_size):
    made = task(n, pixels=2)
    loader = shuffled(made, batch_size=batch_size)
    sizes = [len(batch.index) for batch in batches(loader)]
    shown = orders(loader, 0)
    assert set(sizes) == {batch_size} and len(sizes) == len(loader) == len(made.split["train"]) // batch_size
    assert len(set(shown)) == len(shown) and set(shown) <= set(made.split["train"].tolist())


def test_without_shuffling_every_example_comes_in_the_order_given():
    made = task()
    index = made.split["test"].flip(0)
    loader = Loader(made, index, batch_size=50)
    found = batches(loader)
    assert torch.cat([batch.index for batch in found]).equal(index) and len(found) == len(loader)
    assert [len(batch.index) for batch in found] == [50, 50, 20]


def test_a_batch_holds_the_images_and_labels_of_its_index_in_0_to_1():
    made = task()
    for batch in batches(shuffled(made), epoch=1):
        assert batch.images.equal(torch.from_numpy(made.images[batch.index.numpy()]).float() / 255)
        assert batch.labels.equal(made.labels[batch.index]) and batch.epoch == 1
        assert batch.images.min() >= 0 and 0.9 < batch.images.max() <= 1


def test_views_of_an_example_are_the_same_in_any_order_and_differ_between_epochs():
    made, view = task(), View(seed=3, pad=2, flips=("horizontal",))
    loader = shuffled(made, view=view)
    in_order = Loader(made, made.split["train"], batch_size=1000, view=view)
    for epoch in (0, 2):
        (whole,) = batches(in_order, epoch)
        position = {number: row for row, number in enumerate(whole.index.tolist())}
        for batch in batches(loader, epoch):
            expected = view(torch.from_numpy(made.images[batch.index.numpy()]), batch.index, epoch).float() / 255
            assert batch.images.equal(expected)
            assert batch.images.equal(whole.images[[position[number] for number in batch.index.tolist()]])
    assert not batches(in_order, 0)[0].images.equal(batches(in_order, 2)[0].images)


def test_a_training_set_smaller_than_a_batch_is_refused():
    made = task(60)
    with pytest.raises(InputError, match=r"batch_size is 64.*'test' has only 4\d examples"):
        shuffled(made, batch_size=64)


def test_on_an_accelerator_images_are_gathered_there_and_example_numbers_stay_on_the_host():
    made = task()
    for batch in Loader(made, made.split["train"], batch_size=32, shuffle_seed=0, device="meta"):
        assert batch.images.is_meta and batch.images.shape == (32, 3, 8, 8) and batch.images.dtype == torch.float32
        assert batch.labels.is_meta and batch.index.device.type == "cpu"


# Where images live


INDEX = torch.tensor([7, 0, 49, 7])


def test_images_may_take_their_share_of_the_free_memory_and_no_more_and_are_sent_once():
    made = task(50)
    enough, device = int(np.ceil(made.images.nbytes / SHARE)), torch.device("cpu")
    assert resident(made, device, enough - 1) is None and resident(made, device) is None
    whole = resident(made, device, enough)
    np.testing.assert_array_equal(whole.numpy(), made.images)
    assert resident(made, device) is whole is Loader(made, INDEX, batch_size=4).resident


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_images_are_the_stored_ones_resident_or_not(fits, device):
    made = task(50)
    made.resident.update({torch.device(device): torch.from_numpy(made.images).to(device)} if fits else {})
    loader = Loader(made, INDEX, batch_size=4, device=device)
    loader.resident = loader.resident if fits else None
    (batch,) = loader
    assert batch.images.device.type == batch.labels.device.type == device and batch.index.device.type == "cpu"
    np.testing.assert_array_equal((batch.images.cpu() * 255).round().byte().numpy(), made.images[INDEX.numpy()])


def test_views_made_by_the_thousand_where_images_are_resident_are_those_of_each_batch(monkeypatch):
    made, view = task(), View(seed=3, pad=2, flips=("horizontal", "vertical"))
    plain, ahead = shuffled(made, view=view), shuffled(made, view=view)
    ahead.resident = torch.from_numpy(made.images)
    for at_once in (1, 100, 4096):  # less than a batch, three of them, the whole epoch
        monkeypatch.setattr("rosutils.data.loader.SENT", at_once)
        for one, other in zip(batches(plain, 5), batches(ahead, 5), strict=True):
            assert one.images.equal(other.images) and one.labels.equal(other.labels) and one.index.equal(other.index)
            assert one.epoch == other.epoch == 5
    monkeypatch.setattr("rosutils.data.loader.VIEWED", 70 * made.images[0].nbytes)  # two batches' bytes
    assert len(batches(ahead)) == len(batches(plain))
    assert batches(Loader(made, torch.arange(0), batch_size=4)) == []
