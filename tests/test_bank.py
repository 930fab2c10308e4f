"""The bank: looking a teacher's logits up is running the teacher on that very batch."""

import pytest
import torch

from rosutils import InputError
from rosutils.bank import Bank, view_logits
from rosutils.data import Batch, Loader


def on_the_fly(teachers, batch):
    with torch.no_grad():
        return torch.stack([teacher.eval()(batch.images) for teacher in teachers])


def test_looking_up_equals_running_the_teachers_on_the_shuffled_augmented_batch(bank_and_teachers):
    bank, teachers, loader = bank_and_teachers
    for epoch in (2, 0, 1):
        loader.set_epoch(epoch)
        for batch in loader:
            torch.testing.assert_close(bank(batch), on_the_fly(teachers, batch), rtol=0, atol=1e-5)


def test_every_epoch_has_views_of_its_own(bank_and_teachers):
    bank, teachers, loader = bank_and_teachers
    loader.set_epoch(0)
    batch = next(iter(loader))
    assert (bank(batch._replace(epoch=1)) - on_the_fly(teachers, batch)).abs().max() > 0.01


def test_the_teacher_answers_in_eval_mode_and_is_left_as_it_was(small_task, make_net):
    loader = Loader(small_task, small_task.split["train"], batch_size=32)
    in_training, in_eval = (make_net(4, seed=0, dropout=0.5).train(mode) for mode in (True, False))
    before = {name: value.clone() for name, value in in_training.state_dict().items()}
    # Dropout would draw, and BatchNorm would use and move its statistics, in train mode.
    torch.testing.assert_close(view_logits(in_training, loader, 2), view_logits(in_eval, loader, 2), rtol=0, atol=0)
    assert in_training.training and not in_eval.training
    assert all(value.equal(before[name]) for name, value in in_training.state_dict().items())


def test_without_augmentation_every_epoch_has_the_same_logits(small_task, make_net):
    loader = Loader(small_task, small_task.split["train"], batch_size=32)
    logits = view_logits(make_net(4, seed=0), loader, 3)
    assert logits.shape == (3, 70, 4)
    assert logits[0].equal(logits[1]) and logits[0].equal(logits[2])


def batch_of(index, epoch):
    return Batch(
        torch.zeros(len(index), 3, 8, 8), torch.zeros(len(index), dtype=torch.long), torch.tensor(index), epoch
    )


BANK_INDEX = torch.tensor([3, 5, 8])


def test_rows_belong_to_example_numbers_not_to_positions():
    logits = torch.arange(2 * 3).float().view(1, 2, 3, 1)
    bank = Bank(logits, BANK_INDEX)
    assert bank(batch_of([8, 3], 0)).flatten().tolist() == [2, 0]
    assert bank(batch_of([5, 5], 1)).flatten().tolist() == [4, 4]


@pytest.mark.parametrize(
    "index, epoch, named",
    [
        ([3, 4], 0, r"example \[4\]"),
        ([9], 0, r"example \[9\]"),
        ([10_000, 3], 1, r"example \[10000\]"),
        ([3], 2, "epoch 3"),
    ],
)
def test_what_the_bank_does_not_hold_is_refused_and_named(index, epoch, named):
    bank = Bank(torch.zeros(1, 2, 3, 1), BANK_INDEX)
    with pytest.raises(InputError, match=f"{named}.*holds 2 epochs of 3 examples"):
        bank(batch_of(index, epoch))


def test_logits_and_example_numbers_must_be_equally_many():
    with pytest.raises(InputError, match="logits of 4 examples, but 3 example numbers"):
        Bank(torch.zeros(1, 2, 4, 1), BANK_INDEX)
