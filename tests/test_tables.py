"""Tables: made-up measurements with known means in, the right cells out, in every format."""

import csv
import io
import math
import re

import pandas as pd
import pytest

from rosutils import InputError, tables
from rosutils.results import SETTINGS, TEACHERS, published, validate


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
WATERMARK = "profile demo · synthetic images · 32 px · 8 epochs · 50 % & not comparable with the paper"


def measured(setting, value, seed=0, **changes):
    base = {
        "task": "lesion", "setting": setting, "student": "resnet18", "seed": seed, "overlap": 0.4, "noise": 0.2,
        "variant": "", "attack": "", "eps": math.nan, "norm": "", "class": "", "average": "weighted", "metric": "f1",
        "value": value, "run": f"run-{seed}",
    }  # fmt: skip
    return base | changes


def made_up(seeds=(0, 1, 2)):
    """Every setting, task, metric and averaging; the wanted averaging has value base + seed / 100, the others -1."""
    rows = []
    for task, about in TASKS.items():
        for place, setting in enumerate(SETTINGS):
            for seed in seeds:
                for average in ("macro", "micro", "weighted"):
                    wanted = average == ("micro" if about["multilabel"] else "weighted")
                    for metric in ("precision", "recall", "f1"):
                        value = 0.5 + place / 10 + seed / 100 if wanted else -1.0
                        rows.append(measured(setting, value, seed, task=task, average=average, metric=metric))
    return validate(pd.DataFrame(rows))


@pytest.fixture
def table():
    return tables.table1(made_up(), tasks=TASKS)


def test_table1_has_the_papers_order_and_its_numbers(table):
    assert list(table.index) == list(SETTINGS)
    paper = published()["table1"]
    assert table.loc["RoS-KD", ("lesion", "F1", "published")] == paper["lesion"]["RoS-KD"]["f1"]
    assert table.loc["Baseline II", ("chest", "Recall", "published")] == paper["chest"]["Baseline II"]["recall"]


def test_table1_is_mean_std_and_difference_by_hand(table):
    cell = table["lesion"]["F1"].loc["Baseline II"]
    # seeds 0, 1, 2: 0.60, 0.61, 0.62
    assert cell["ours"] == pytest.approx(0.61) and cell["std"] == pytest.approx(0.01) and cell["n"] == 3
    assert cell["difference"] == pytest.approx(0.61 - 0.684)
    assert table.loc["Baseline II", ("chest", "F1", "difference")] == pytest.approx(0.61 - 0.329)


def test_what_the_paper_does_not_have_is_blank_and_what_we_have_is_shown(table):
    cell = table["lesion"]["F1"].loc["Baseline III, subset teachers"]
    assert pd.isna(cell["published"]) and pd.isna(cell["difference"]) and cell["ours"] == pytest.approx(0.81)


def test_a_setting_that_was_not_run_is_blank():
    found = tables.table1(made_up().query("setting != 'Baseline IV'"), tasks=TASKS)
    assert tables.printable(found)["lesion"]["F1"].loc["Baseline IV"].tolist() == ["0.677", "", ""]


def test_one_seed_has_no_spread():
    text = tables.printable(tables.table1(made_up(seeds=[0]), tasks=TASKS))
    assert text["lesion"]["F1"].loc["Baseline I"].tolist() == ["0.658", "0.500", "−0.158"]


def test_a_task_of_the_readers_own_has_no_published_numbers():
    rows = made_up().assign(task=lambda f: f["task"].replace("lesion", "retina"))
    found = tables.table1(rows, tasks={"retina": {"multilabel": False}})
    assert found["retina"]["F1"]["published"].isna().all() and found["retina"]["F1"]["ours"].notna().all()


def test_attacks_other_students_and_classes_stay_out(table):
    others = pd.DataFrame([
        measured("RoS-KD", 0.1, attack="pgd", eps=0.005, norm="l2"), measured("RoS-KD", 0.1, student="resnet34"),
        measured("RoS-KD", 0.1, **{"class": "MEL"}, average=""),
    ])  # fmt: skip
    pd.testing.assert_frame_equal(tables.table1(validate(pd.concat([made_up(), others])), tasks=TASKS), table)


def test_only_the_profiles_own_variant_enters_table1_and_the_teachers(table):
    teachers = pd.DataFrame([measured(setting, 0.7) for setting in TEACHERS])
    rows = pd.concat([made_up(), teachers])
    names = ("students", "overlap", "run 1", "symmetric 0.3", "reading: own-shard", "landscape")
    more = validate(pd.concat([rows, *[rows.assign(variant=name, value=0.1, overlap=0.8) for name in names]]))
    pd.testing.assert_frame_equal(tables.table1(more, tasks=TASKS), table)
    found = tables.teachers_table(more, tasks={"lesion": {"multilabel": False}})
    assert found.loc["resnet18", ("lesion", "full set", "ours")] == pytest.approx(0.7)


def test_several_overlaps_need_a_choice(table):
    more = validate(
        pd.concat([made_up(), pd.DataFrame([measured("RoS-KD", 0.9, seed, overlap=1.0) for seed in range(3)])])
    )
    with pytest.raises(InputError, match="overlap: 0.4, 1.0"):
        tables.table1(more, tasks=TASKS)
    pd.testing.assert_frame_equal(tables.table1(more, tasks=TASKS, overlap=0.4), table)


def test_the_caption_tells_profile_seeds_and_averaging(table):
    text = tables.caption("Table I", table, tasks=TASKS, watermark=WATERMARK)
    assert "3 seeds" in text and "lesion weighted, chest micro" in text and text.endswith(WATERMARK)
    one = tables.table1(made_up(seeds=[0]), tasks=TASKS)
    assert "one seed" in tables.caption("Table I", one, tasks=TASKS, watermark="")


def test_three_files_under_one_name_the_same_bytes_each_time(table, tmp_path):
    first = tables.write_table(table, tmp_path / "a", "table1", caption=WATERMARK)
    second = tables.write_table(table, tmp_path / "b", "table1", caption=WATERMARK)
    assert [path.name for path in first] == ["table1.csv", "table1.md", "table1.tex"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_csv_has_every_number_in_full(table, tmp_path):
    path = tables.write_table(table, tmp_path, "table1", caption="")[0]
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len(rows) == 2 * 3 * len(SETTINGS)
    for found in rows:
        ours = table.loc[found["setting"], (found["task"], found["metric"], "ours")]
        assert float(found["ours"]) == ours


def test_the_markdown_is_one_whole_table_per_task(table, tmp_path):
    text = tables.write_table(table, tmp_path, "table1", caption=WATERMARK)[1].read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(SETTINGS)) and {len(cells) for cells in rows} == {10}
    assert [cell.strip() for cell in rows[2][:4]] == ["Baseline I", "0.653", "0.510 ± 0.010", "−0.143"]
    assert text.rstrip().endswith(WATERMARK)


def test_the_latex_is_balanced_escaped_and_even(table, tmp_path):
    text = tables.write_table(table, tmp_path, "table_1", caption=WATERMARK)[2].read_text(encoding="utf-8")
    body = text.split("\n", 1)[1]
    assert body.isascii()
    assert (
        sorted(re.findall(r"\\begin{(.*?)}", body))
        == sorted(re.findall(r"\\end{(.*?)}", body))
        == ["table*", "tabular"]
    )
    assert r"50 \% \& not comparable" in body and r"$\pm$" in body and "$-$0.143" in body
    assert re.search(r"(?<!\\)%", body) is None
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {10}


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_side_by_side_fits_a_terminal_and_is_aligned(seeds):
    text = tables.side_by_side(tables.table1(made_up(seeds), tasks=TASKS))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert [block.split()[0] for block in text.split("\n\n")] == list(TASKS)
    line = next(line for line in lines if line.startswith("RoS-KD"))
    assert line.split()[1:4] == (["0.713", "1.110±0.010", "+0.397"] if len(seeds) > 1 else ["0.713", "1.100", "+0.387"])
    assert len({len(line) for line in lines if line.startswith(("Baseline V ", "RoS-KD"))}) == 1


def test_teachers_are_compared_on_full_set_and_own_subset():
    rows = [
        measured(setting, 0.7 - 0.1 * place, student=student)
        for student in ("densenet121", "resnet18", "mine") for place, setting in enumerate(TEACHERS)
    ]  # fmt: skip
    table = tables.teachers_table(validate(pd.DataFrame(rows)), tasks={"lesion": {"multilabel": False}})
    assert list(table.index) == ["resnet18", "densenet121", "mine"]
    assert table.loc["mine", ("lesion", "subset minus full", "difference")] == pytest.approx(-0.1)
    assert table.loc["mine", ("lesion", "own subset", "ours")] == pytest.approx(0.6)
    assert "resnet18" in tables.side_by_side(table)


def test_rounding_never_prints_a_negative_zero():
    assert tables.signed(-1e-9) == "+0.000" and tables.signed(-0.0006) == "−0.001" and tables.number(math.nan) == ""


def test_large_numbers_have_four_digits_and_small_ones_three_decimals():
    assert [tables.number(value) for value in (0.5, -9.87654, 12.3456, -153.24, 12345.6)] == [
        "0.500", "−9.877", "12.35", "−153.2", "12346",
    ]  # fmt: skip
    assert tables.spread(123.456, 0.5) == "123.5 ± 0.5" and tables.spread(math.inf, math.nan) == "inf"


def test_a_table_with_plain_columns_keeps_its_shape_and_is_read_as_words():
    frame = pd.DataFrame({"check": ["a", "b"], "passed": [True, False], "loss": [0.123456, math.nan]})
    assert tables.printable(frame).to_numpy().tolist() == [["a", "yes", "0.1235"], ["b", "no", ""]]
