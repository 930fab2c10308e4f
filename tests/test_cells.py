"""How tables read: numbers as text, groups beside each other or stacked, captions, plain text for a terminal."""

import math

import pandas as pd
import pytest

from rosutils.paper import cells


def test_numbers_have_three_decimals_or_four_digits():
    numbers = [cells.number(value) for value in (0.5, -9.87654, 12.3456, -153.24, 12345.6, math.nan)]
    assert numbers == ["0.500", "−9.877", "12.35", "−153.2", "12346", ""]
    assert cells.spread(123.456, 0.5) == "123.5 ± 0.5" and cells.spread(math.inf, math.nan) == "inf"


def test_a_small_difference_keeps_its_sign_and_none_has_none():
    values = (-0.0002, 0.0004, -0.0006, 0.0126, 1e-9, 0.0, -0.0, math.nan)
    assert [cells.signed(value) for value in values] == [
        "−0.0002", "+0.0004", "−0.001", "+0.013", "0.000", "0.000", "0.000", "",
    ]  # fmt: skip
    assert cells.interval(-0.01, 0.02) == "−0.010 to +0.020" and cells.interval(math.nan, 1.0) == ""


@pytest.mark.parametrize(
    ("counts", "words"),
    [([], "not run yet"), ([1], "one replicate (n = 1), so no spread"),
     ([3], "mean ± standard deviation over 3 replicates"), ([2, 3], "mean ± standard deviation over 2 to 3 replicates")],
)  # fmt: skip
def test_a_caption_says_over_how_many_replicates(counts, words):
    frame = pd.DataFrame({("lesion", f"{i}", "n"): [n] for i, n in enumerate(counts or [0])})
    assert cells.spread_over(frame) == words


def test_a_block_keeps_the_runs_it_is_made_of():
    known = {"setting": "RoS-KD", "value": [0.5, 0.7], "replicate": [0, 1], "run": ["b\nc", "a"]}
    index = pd.Index(["RoS-KD", "other"], name="setting")
    found = cells.block(pd.DataFrame(known), index, by=["setting"], paper={"RoS-KD": 0.5})
    assert found.loc["RoS-KD", "runs"] == ("a", "b", "c") and found.loc["other", "runs"] == ()
    assert found.loc["RoS-KD", "difference"] == pytest.approx(0.1) and pd.isna(found.loc["other", "ours"])


def test_a_difference_is_over_the_replicates_that_both_have():
    a, b = (pd.DataFrame({"replicate": r, "value": v, "run": f"{v}"}) for r, v in (([0, 1], 0.5), ([1, 2], 0.2)))
    assert cells.paired(a, b)["mean"] == pytest.approx(0.3) and cells.paired(a, b)["runs"] == ("0.2", "0.5")
    assert cells.paired(a, b[1:]) == {"mean": None, "low": None, "high": None, "n": None, "runs": ()}
