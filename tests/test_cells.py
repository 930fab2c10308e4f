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


def test_a_table_with_plain_columns_keeps_its_shape_and_is_read_as_words():
    frame = pd.DataFrame({"check": ["a", "b"], "passed": [True, False], "loss": [0.123456, math.nan]})
    assert cells.printable(frame).to_numpy().tolist() == [["a", "yes", "0.1235"], ["b", "no", ""]]


def group(**columns):
    return pd.DataFrame({name: [value] for name, value in columns.items()}, index=pd.Index(["RoS-KD"], name="setting"))


def table(groups):
    one = group(published=0.7, ours=0.71, std=0.01, n=3, difference=0.01, runs=("a", "b", "c"))
    return pd.concat({("lesion", f"class {i}"): one for i in range(groups)}, axis=1, names=["task", "group", "column"])


def test_up_to_four_groups_stand_beside_each_other_and_runs_are_not_printed():
    found = cells.printable(table(4))
    assert found.columns.nlevels == 3
    assert found["lesion"]["class 3"].loc["RoS-KD"].tolist() == ["0.700", "0.710 ± 0.010", "+0.010"]


@pytest.mark.parametrize(
    ("counts", "words"),
    [([], "not run yet"), ([1], "one replicate (n = 1), so no spread"),
     ([3], "mean ± standard deviation over 3 replicates"), ([2, 3], "mean ± standard deviation over 2 to 3 replicates")],
)  # fmt: skip
def test_a_caption_says_over_how_many_replicates(counts, words):
    blocks = {("lesion", f"{i}"): group(ours=0.5, n=n) for i, n in enumerate(counts or [0])}
    assert cells.spread_over(pd.concat(blocks, axis=1)) == words


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
