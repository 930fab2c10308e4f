"""The tidy results table, and the paper's printed numbers checked against each other."""

import math
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import rows

from rosutils import InputError, results
from rosutils.paper.published import published
from rosutils.results import COLUMNS, KEYS
from rosutils.settings import PRINTED_AVERAGE, ROWS


def row(**changes):
    [one] = rows("lesion", "RoS-KD", 0.5, seeds=(0,), step=0, average="macro")
    return one | {"run": "student-a"} | changes


def frame(*found):
    return pd.DataFrame(list(found))


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path):
    attacked = row(replicate=2, attack="pgd", eps=1.28 / 255, norm="l2")
    table = frame(row(value=1 / 3), row(replicate=1, value=math.nan), attacked)
    back = results.read(results.write(table, tmp_path / "deep" / "results.csv"))
    assert list(back) == list(COLUMNS)
    assert back["value"].tolist()[0] == 1 / 3 and math.isnan(back["value"][1]) and back["eps"][2] == 1.28 / 255
    pd.testing.assert_frame_equal(back, results.validate(table))


@settings(max_examples=25)
@given(st.permutations(range(6)), st.lists(st.floats(allow_infinity=False), min_size=6, max_size=6))
def test_bytes_do_not_depend_on_the_order_of_rows(tmp_path_factory, order, values):
    table = frame(*(row(replicate=seed, value=value) for seed, value in enumerate(values)))
    folder = tmp_path_factory.mktemp("results")
    first = results.write(table, folder / "a.csv").read_bytes()
    assert results.write(table.iloc[list(order)][list(reversed(COLUMNS))], folder / "b.csv").read_bytes() == first


def test_a_table_is_replaced_in_one_step_and_stays_as_it_was_where_the_new_one_is_refused(tmp_path):
    path = results.write(frame(row()), tmp_path / "results.csv")
    results.write(frame(row(value=0.75)), path)
    with pytest.raises(InputError):
        results.write(frame(row(), row(value=0.25)), path)
    assert list(tmp_path.iterdir()) == [path] and results.read(path)["value"].tolist() == [0.75]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (frame(row()).drop(columns="norm"), "missing: norm"),
        (frame(row(colour="red")), "unknown: colour"),
        (frame(row(value="high")), "high"),
        (frame(row(replicate=0.5)), "0.5"),
        (frame(row(), row(value=0.6, run="student-b")), r"0.5 \(run student-a\) and 0.6 \(run student-b\).*RoS-KD"),
        (frame(row(value=math.nan), row()), "two values"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_wrong(table, says):
    with pytest.raises(InputError, match=says):
        results.validate(table)


def test_one_measurement_told_twice_is_kept_once():
    assert len(results.validate(frame(row(), row(), row(value=0.5, run="student-b")))) == 1
    assert len(results.validate(frame(row(value=math.nan), row(value=math.nan)))) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"[]", b"\xff\n", b"task,value\n1,2,3\n", None])
def test_a_damaged_table_is_an_input_error_that_names_the_file(tmp_path, content):
    path = results.write(frame(row(), row(replicate=1, value=0.25)), tmp_path / "results.csv")
    path.write_bytes(path.read_bytes()[:-2] if content is None else content)
    with pytest.raises(InputError, match="results.csv is damaged.*make reproduce"):
        results.read(path)
    path.unlink()
    with pytest.raises(InputError, match="no results at .*make reproduce"):
        results.read(path)


def test_select_takes_values_lists_class_and_nan():
    of_a_class, attacked = row(**{"class": "MEL"}, average=""), row(attack="pgd", eps=0.4, replicate=2)
    table = results.validate(frame(row(), row(replicate=1), of_a_class, attacked))
    assert len(results.select(table, replicate=[0, 1])) == 3
    assert results.select(table, class_="MEL")["class"].tolist() == ["MEL"]
    assert results.select(table, eps=math.nan)["replicate"].tolist() == [0, 0, 1]
    assert results.select(table, eps=0.1 + 0.3)["replicate"].tolist() == [2]
    with pytest.raises(InputError, match="colour"):
        results.select(table, colour="red")


def test_summary_is_the_mean_and_sample_std_over_seeds():
    table = results.validate(frame(row(value=0.5), row(replicate=1, value=0.7), row(setting="Baseline I", value=0.4)))
    found = results.summary(table).set_index("setting")
    assert found.loc["RoS-KD", ["mean", "n"]].tolist() == [pytest.approx(0.6), 2]
    assert found.loc["RoS-KD", "std"] == pytest.approx(math.sqrt(0.02))
    assert found.loc["Baseline I", "n"] == 1 and math.isnan(found.loc["Baseline I", "std"])
    assert set(KEYS) - {"replicate"} <= set(results.summary(table).columns)
    table["run"] = ["c", "b", "a"]  # the first is of Baseline I
    assert results.summary(table, by=["setting"])["runs"].tolist() == [("c",), ("a", "b")]


def test_a_table_is_current_for_the_runs_and_the_bytes_it_was_written_from(tmp_path):
    path, measured = tmp_path / "results.csv", []

    def current(made_from="these runs"):
        """How often it was measured by now."""
        results.current(path, made_from, lambda: measured.append(made_from) or frame(row()))
        return len(measured)

    assert [current(), current(), current("other runs"), current("other runs")] == [1, 1, 2, 2]
    whole, note = path.read_bytes(), path.with_suffix(".json")
    path.write_bytes(whole.replace(b"0.5", b"0.6"))
    assert current("other runs") == 3 and path.read_bytes() == whole
    for damaged in (b"", note.read_bytes()[:40], b"\xff\xfe", b"[]"):  # a kill between two writes left such a note
        note.write_bytes(damaged)
        before = len(measured)
        assert current("other runs") == before + 1


def test_summary_does_not_average_over_anything_but_seeds():
    points = [row(variant="overlap", variant_value=value) for value in ("0.4", "1")]
    table = results.validate(frame(*points))
    with pytest.raises(InputError, match="variant_value: 0.4, 1"):
        results.summary(table, by=["setting"])
    assert len(results.summary(table)) == 2


# The paper's numbers.

PAPER = published()


def test_every_printed_number_of_the_three_tables_is_there():
    for task in ("lesion", "chest"):
        assert list(PAPER["table1"][task]) == [name for name in ROWS if name != "Baseline III, subset teachers"]
    assert PAPER["table1"]["lesion"]["Baseline IV"] == {"precision": 0.683, "recall": 0.669, "f1": 0.677}
    assert PAPER["table1"]["chest"]["RoS-KD"] == {"precision": 0.360, "recall": 0.339, "f1": 0.349}
    assert len(PAPER["table2"]["rows"]) == 8 and len(PAPER["table3"]["methods"]) == 8
    scores = [value for r in PAPER["table2"]["rows"] for when in ("before", "after") for value in r[when].values()]
    assert len(scores) == 48 and all(0 < value < 1 for value in scores)
    assert {len(m["auroc"]) for m in PAPER["table3"]["methods"] + PAPER["table3"]["anchors"]} == {8}
    assert len(PAPER["table3"]["methods"][-1]["std"]) == 8


@pytest.mark.parametrize("method", PAPER["table3"]["methods"], ids=lambda method: method["method"])
def test_table_iii_prints_means_of_its_rows_rounded_half_up(method):
    mean = sum(Decimal(str(value)) for value in method["auroc"]) / 8
    assert mean.quantize(Decimal("0.001"), ROUND_HALF_UP) == Decimal(str(method["mean"]))


def test_table_ii_before_the_attack_repeats_table_i_but_for_the_row_that_is_noted():
    table1, table2 = PAPER["table1"], PAPER["table2"]["rows"]
    odd = {(r["task"], r["setting"]): r["before"] for r in table2 if r["before"] != table1[r["task"]][r["setting"]]}
    assert odd == {("chest", "Baseline III"): table1["chest"]["Baseline II"]}


def test_the_averaging_the_paper_printed_is_told_by_the_harmonic_mean():
    def gap(r):
        return abs(2 * r["precision"] * r["recall"] / (r["precision"] + r["recall"]) - r["f1"])

    gaps = {task: max(map(gap, printed.values())) for task, printed in PAPER["table1"].items()}
    assert gaps["chest"] <= 0.001 < 0.003 < gaps["lesion"]
    assert PRINTED_AVERAGE == {False: "weighted", True: "micro"}
