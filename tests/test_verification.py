"""verify: every single number changed, taken or added is named, and so is every file."""

import json
import math

import pandas as pd
import pytest

from rosutils import results
from rosutils.study.verification import changed_files, checksums, differences


def table(**changes):
    base = {
        "task": "lesion", "setting": "RoS-KD", "student": "resnet18", "replicate": 0, "variant": "", "variant_value": "",
        "attack": "", "eps": math.nan, "norm": "", "class": "", "average": "weighted", "metric": "f1", "value": 0.5, "run": "run-a",
    }  # fmt: skip
    rows = [base, base | {"replicate": 1}, base | {"class": "MEL", "metric": "auroc", "value": math.nan}]
    return results.validate(pd.DataFrame([row | changes.get(f"row{n}", {}) for n, row in enumerate(rows)]))


def test_equal_tables_have_no_differences():
    assert list(differences(table(), table())) == []


@pytest.mark.parametrize("row", ["row0", "row1", "row2"])
def test_a_changed_number_is_named_with_its_run(row):
    [problem] = differences(table(**{row: {"value": 0.75}}), table())
    assert "0.75" in problem and "run-a" in problem and "RoS-KD" in problem
    assert ("replicate 1" in problem) == (row == "row1") and ("MEL" in problem) == (row == "row2")


def test_the_last_bit_counts():
    assert len(list(differences(table(row0={"value": math.nextafter(0.5, 1)}), table()))) == 1


def test_missing_added_and_misattributed_rows_are_named():
    [lacking] = differences(table().iloc[1:], table())
    [added] = differences(table(), table().iloc[1:])
    [other] = differences(table(row0={"run": "run-b"}), table())
    assert "lacks" in lacking and "which no finished run gives" in added and "run-b" in other and "run-a" in other


def test_changed_missing_and_foreign_files_are_named(tmp_path):
    for name in ("table1.csv", "fig2.png"):
        (tmp_path / name).write_text(name)
    [missing] = changed_files(tmp_path)
    assert "provenance.json" in missing
    listed = checksums(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({"files": listed}))
    (tmp_path / "report.html").write_text("made after the list")
    assert list(changed_files(tmp_path)) == []
    (tmp_path / "table1.csv").write_text("table2")
    (tmp_path / "fig2.png").unlink()
    (tmp_path / "other.png").write_text("")
    problems = list(changed_files(tmp_path))
    assert (
        len(problems) == 3
        and ["fig2.png" in problems[0], "other.png" in problems[1], "table1.csv" in problems[2]] == [True] * 3
    )
