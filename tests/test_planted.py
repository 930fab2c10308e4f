"""Baseline IV tells planted teachers apart, trained through its own loss."""

import pytest

from rosutils.paper.planted import PLANTED, planted_selection


@pytest.mark.parametrize("multilabel", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("reward", ["r1", "r2", "r3"])
def test_planted_teachers_are_told_apart_within_ten_epochs(reward, multilabel):
    for seed in range(3):
        told = planted_selection(reward=reward, seed=seed, multilabel=multilabel)
        chances = told.pivot(index="epoch", columns="teacher", values="probability")
        assert set(chances) == set(PLANTED) and chances.index.tolist() == list(range(1, 11))
        assert (chances.loc[1] == 0.5).all()
        assert chances["good"][10] > 0.8 and chances["misleading"][10] < 0.2
        assert chances["misleading"][10] < chances["random"][10] < chances["good"][10]
        unselected = told[told["teacher"] == "good"].set_index("epoch")["unselected"]
        assert unselected[1] == 0 and unselected[2] == pytest.approx(1 / 8, abs=0.05)
        assert unselected.loc[3:].max() < unselected[2]


def test_a_planted_run_is_decided_by_its_seed():
    once, again, other = (planted_selection(reward="r2", seed=seed, epochs=3) for seed in (0, 0, 1))
    assert once.equals(again) and not once["probability"].equals(other["probability"])
