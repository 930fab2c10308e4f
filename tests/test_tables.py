"""Tables: made-up measurements with known means in, the right cells out, in every format."""

import csv
import io
import math
import re

import pandas as pd
import pytest

from rosutils import InputError, tables
from rosutils.results import published, validate
from rosutils.settings import CHANCE, PLAIN, ROWS, TEACHERS


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
AVERAGE = {"lesion": "weighted", "chest": "micro"}  # as printed
BESIDE = {
    PLAIN: 0.45,
    CHANCE[0]: 0.2,
    CHANCE[1]: 0.1,
    CHANCE[2]: 0.3,
}  # what is no setting of the paper, and what it scores
WATERMARK = "profile demo · synthetic images · 32 px · 8 epochs · 50 % & not comparable with the paper"


def measured(setting, value, seed=0, **changes):
    base = {
        "task": "lesion", "setting": setting, "student": "resnet18", "replicate": seed, "overlap": 0.4, "noise": 0.2,
        "variant": "", "attack": "", "eps": math.nan, "norm": "", "class": "", "average": "weighted", "metric": "f1",
        "value": value, "run": f"run-{seed}",
    }  # fmt: skip
    return base | changes


def made_up(seeds=(0, 1, 2)):
    """Every setting, task, metric and averaging; the wanted averaging has value base + replicate / 100, the others -1; the mean
    AUROC 0.05 more. Logistic regression and no skill as well, of no student and on no subsets.
    """
    rows, bases = [], {setting: 0.5 + place / 10 for place, setting in enumerate(ROWS)} | BESIDE
    for task in TASKS:
        for setting, base in bases.items():
            where = {"student": "", "overlap": math.nan} if setting in BESIDE else {}
            for seed in seeds:
                value, which = base + seed / 100, where | {"task": task}
                for average in ("macro", "micro", "weighted"):
                    which["average"], wanted = average, value if average == AVERAGE[task] else -1.0
                    rows += [measured(setting, wanted, seed, metric=m, **which) for m in ("precision", "recall", "f1")]
                rows.append(measured(setting, value + 0.05, seed, **which | {"metric": "auroc", "average": "macro"}))
    return validate(pd.DataFrame(rows))


@pytest.fixture
def table():
    return tables.table1(made_up(), student="resnet18", tasks=TASKS)


def test_table1_has_the_papers_order_and_its_numbers(table):
    assert list(table.index) == [*ROWS, PLAIN, *CHANCE]
    assert [group for task in TASKS for group in dict.fromkeys(table[task].columns.get_level_values(0))] == [
        "Precision", "Recall", "F1", "Precision", "Recall", "F1", "Mean AUROC",
    ]  # fmt: skip
    paper = published()["table1"]
    assert table.loc["RoS-KD", ("lesion", "F1", "published")] == paper["lesion"]["RoS-KD"]["f1"]
    assert table.loc["Baseline II", ("chest", "Recall", "published")] == paper["chest"]["Baseline II"]["recall"]


def test_table1_is_mean_std_and_difference_by_hand(table):
    cell = table["lesion"]["F1"].loc["Baseline II"]
    # replicates 0, 1, 2: 0.60, 0.61, 0.62
    assert cell["ours"] == pytest.approx(0.61) and cell["std"] == pytest.approx(0.01) and cell["n"] == 3
    assert cell["difference"] == pytest.approx(0.61 - 0.684)
    assert table.loc["Baseline II", ("chest", "F1", "difference")] == pytest.approx(0.61 - 0.329)


def test_what_the_paper_does_not_have_is_blank_and_what_we_have_is_shown(table):
    cell = table["lesion"]["F1"].loc["Baseline III, subset teachers"]
    assert pd.isna(cell["published"]) and pd.isna(cell["difference"]) and cell["ours"] == pytest.approx(0.81)


def test_logistic_regression_and_no_skill_stand_under_the_settings_and_have_nothing_printed(table):
    for task in TASKS:
        for group, more in {"Precision": 0, "Recall": 0, "F1": 0, "Mean AUROC": 0.05}.items():
            if group in table[task]:
                found = table[task][group].iloc[len(ROWS) :]
                assert list(found.index) == list(BESIDE)
                assert found["ours"].tolist() == pytest.approx([value + 0.01 + more for value in BESIDE.values()])
                assert found["std"].tolist() == pytest.approx([0.01] * 4) and (found["n"] == 3).all()
                assert found[["published", "difference"]].isna().all(axis=None)


def test_no_skill_of_the_attacked_sample_and_of_other_variants_stays_out(table):
    which = {"student": "", "overlap": math.nan}
    elsewhere = [
        measured(name, 0.9, seed, **which | other)
        for name in BESIDE for seed in range(3) for other in ({"attack": "attacked sample"}, {"variant": "students"})
    ]  # fmt: skip
    more = validate(pd.concat([made_up(), pd.DataFrame(elsewhere)]))
    pd.testing.assert_frame_equal(tables.table1(more, student="resnet18", tasks=TASKS), table)
    found = tables.no_skill(more, "lesion", "f1", "weighted", attack="attacked sample")
    assert found["mean"].to_dict() == dict.fromkeys(CHANCE, 0.9)


def test_several_labels_have_their_mean_auroc_beside_nothing_printed(table):
    found = table["chest"]["Mean AUROC"].loc["RoS-KD"]
    assert [found["ours"], found["std"], found["n"]] == pytest.approx([1.16, 0.01, 3])
    assert table["chest"]["Mean AUROC"][["published", "difference"]].isna().all(axis=None)


def test_a_setting_that_was_not_run_is_blank():
    found = tables.table1(made_up().query("setting != 'Baseline IV'"), student="resnet18", tasks=TASKS)
    assert tables.printable(found)["lesion"]["F1"].loc["Baseline IV"].tolist() == ["0.677", "", ""]


def test_one_replicate_has_no_spread():
    text = tables.printable(tables.table1(made_up(seeds=[0]), student="resnet18", tasks=TASKS))
    assert text["lesion"]["F1"].loc["Baseline I"].tolist() == ["0.658", "0.500", "−0.158"]


def test_a_task_of_the_readers_own_has_no_published_numbers():
    rows = made_up().assign(task=lambda f: f["task"].replace("lesion", "retina"))
    found = tables.table1(rows, student="resnet18", tasks={"retina": {"multilabel": False}})
    assert found["retina"]["F1"]["published"].isna().all() and found["retina"]["F1"]["ours"].notna().all()
    assert found["retina"]["F1"].loc["RoS-KD", "ours"] == pytest.approx(1.11)


def test_attacks_other_students_and_classes_stay_out(table):
    others = pd.DataFrame([
        measured("RoS-KD", 0.1, attack="pgd", eps=0.005, norm="l2"), measured("RoS-KD", 0.1, student="resnet34"),
        measured("RoS-KD", 0.1, **{"class": "MEL"}, average=""),
    ])  # fmt: skip
    pd.testing.assert_frame_equal(
        tables.table1(validate(pd.concat([made_up(), others])), student="resnet18", tasks=TASKS), table
    )


def test_only_the_profiles_own_variant_enters_table1_and_the_teachers(table):
    teachers = pd.DataFrame([measured(setting, 0.7) for setting in TEACHERS])
    rows = pd.concat([made_up(), teachers])
    names = ("students", "overlap", "run 1", "symmetric 0.3", "reading: own-shard", "landscape")
    more = validate(pd.concat([rows, *[rows.assign(variant=name, value=0.1, overlap=0.8) for name in names]]))
    pd.testing.assert_frame_equal(tables.table1(more, student="resnet18", tasks=TASKS), table)
    found = tables.teachers_table(more, tasks={"lesion": {"multilabel": False}})
    assert found.loc["resnet18", ("lesion", "full set", "ours")] == pytest.approx(0.7)


def test_several_overlaps_need_a_choice(table):
    more = validate(
        pd.concat([made_up(), pd.DataFrame([measured("RoS-KD", 0.9, seed, overlap=1.0) for seed in range(3)])])
    )
    with pytest.raises(InputError, match="overlap: 0.4, 1.0"):
        tables.table1(more, student="resnet18", tasks=TASKS)
    pd.testing.assert_frame_equal(tables.table1(more, student="resnet18", tasks=TASKS, overlap=0.4), table)


def test_the_caption_tells_profile_replicates_and_averaging(table):
    text = tables.caption("Table I", table, tasks=TASKS, watermark=WATERMARK)
    assert "3 replicates" in text and "lesion weighted, chest micro" in text and text.endswith(WATERMARK)
    one = tables.table1(made_up(seeds=[0]), student="resnet18", tasks=TASKS)
    assert "one replicate" in tables.caption("Table I", one, tasks=TASKS, watermark="")


def test_three_files_under_one_name_the_same_bytes_each_time(table, tmp_path):
    first = tables.write_table(table, tmp_path / "a", "table1", caption=WATERMARK)
    second = tables.write_table(table, tmp_path / "b", "table1", caption=WATERMARK)
    assert [path.name for path in first] == ["table1.csv", "table1.md", "table1.tex"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_csv_has_every_number_in_full(table, tmp_path):
    path = tables.write_table(table, tmp_path, "table1", caption="")[0]
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert len(rows) == (3 + 4) * len(table)
    for found in rows:
        ours = table.loc[found["setting"], (found["task"], found["metric"], "ours")]
        assert float(found["ours"]) == ours


def test_the_markdown_is_one_whole_table_per_task(table, tmp_path):
    text = tables.write_table(table, tmp_path, "table1", caption=WATERMARK)[1].read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert [len(cells) for cells in rows] == [10] * (2 + len(table)) + [13] * (2 + len(table))
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
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {13}
    lesion = rows[1 : 1 + len(table)]  # the first has the heads
    assert all(line.endswith(r"&  &  &  \\") for line in lesion), "no mean AUROC where an image has one label"


PARTS = ("Precision", "Recall", "F1")


@pytest.mark.parametrize(
    ("seeds", "groups", "f1", "auroc"),
    [
        ((0,), (*PARTS, "Mean", "AUROC"), ["0.349", "1.100", "+0.751"], "1.150"),
        ((0, 1, 2), ("F1", "Mean", "AUROC"), ["0.349", "1.110±0.010", "+0.761"], "1.160±0.010"),
    ],
)
def test_side_by_side_fits_a_terminal_and_is_aligned(seeds, groups, f1, auroc):
    """Several labels have a group more than one: where that would be too wide, precision and recall are left out."""
    text = tables.side_by_side(tables.table1(made_up(seeds), student="resnet18", tasks=TASKS))
    assert max(map(len, text.splitlines())) <= 100
    lesion, chest = (block.splitlines() for block in text.split("\n\n"))
    assert lesion[0].split() == ["lesion", *PARTS] and chest[0].split() == ["chest", *groups]
    for block in (lesion, chest):
        assert len(block) == 3 + len(ROWS) + len(BESIDE)
        assert len({len(line) for line in block if line.startswith(("Baseline V ", "RoS-KD"))}) == 1
    line, other = (next(line for line in block if line.startswith("RoS-KD")) for block in (lesion, chest))
    assert line.split()[1:4] == (["0.713", "1.110±0.010", "+0.397"] if len(seeds) > 1 else ["0.713", "1.100", "+0.387"])
    assert other.split()[-4:] == [*f1, auroc]


def test_a_table_that_fits_a_terminal_keeps_every_group():
    wide = tables.table1(made_up(), student="resnet18", tasks={"lesion": TASKS["lesion"]})
    assert "Precision" in tables.side_by_side(wide) and len(tables.side_by_side(wide).splitlines()[2]) > 90


def test_teachers_are_compared_on_full_set_and_own_subset():
    rows = [
        measured(setting, 0.7 - 0.1 * place, student=student)
        for student in ("densenet121", "resnet18", "mine") for place, setting in enumerate(TEACHERS)
    ]  # fmt: skip
    tasks = {"lesion": TASKS["lesion"]}
    table = tables.teachers_table(validate(pd.DataFrame(rows)), tasks=tasks)
    assert list(table.index) == ["resnet18", "densenet121", "mine"]
    assert table.loc["mine", ("lesion", "subset minus full", "difference")] == pytest.approx(-0.1)
    assert table.loc["mine", ("lesion", "own subset", "ours")] == pytest.approx(0.6)
    assert "resnet18" in tables.side_by_side(table)
    beside = tables.teachers_table(validate(pd.concat([made_up(), pd.DataFrame(rows)])), tasks=tasks)
    pd.testing.assert_frame_equal(beside.loc[table.index], table)


def test_no_skill_stands_under_the_teachers_on_the_full_set_and_on_subsets_alike():
    """It is scored on the same test images whatever the teachers were trained on."""
    teachers = pd.DataFrame([measured(setting, 0.7) for setting in TEACHERS])
    elsewhere = pd.DataFrame([measured(name, 0.9, student="", variant="students") for name in CHANCE])
    table = tables.teachers_table(validate(pd.concat([made_up(), teachers, elsewhere])), tasks=TASKS)
    assert list(table.index) == ["resnet18", *CHANCE]
    for task in TASKS:
        for group in ("full set", "own subset"):
            found = table[task][group].loc[list(CHANCE)]
            assert found["ours"].tolist() == pytest.approx([BESIDE[name] + 0.01 for name in CHANCE])
            assert found["std"].tolist() == pytest.approx([0.01] * 3) and (found["n"] == 3).all()


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
