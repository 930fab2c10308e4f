"""The verdict on Table I: paired differences, corrected, by the deciding metric first, and only where there is skill."""

import math

import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from rosutils import report
from rosutils.report.verdicts import over_groups
from rosutils.results import validate
from rosutils.settings import CHANCE, PRIMARY, PRINTED_AVERAGE, ROWS, TEACHERS


TASKS = {"lesion": False, "chest": True}
OFFSETS = {"Baseline I": 0.058, "Baseline II": 0.01, "Baseline III": -0.04, "Baseline V": 0.0005}
THREE = (0, 1, 2)


def row(task, setting, replicate, value, **others):
    blank = {"student": "resnet18", "variant": "", "overlap": math.nan, "noise": 0.0, "attack": "", "eps": math.nan,
             "norm": "", "class": "", "average": "", "run": f"{setting}-{replicate}"}  # fmt: skip
    return blank | {"task": task, "setting": setting, "replicate": replicate, "value": value} | others


def measured(offsets, replicates=THREE, spread=0.0003, chance=0.1, margin=0.2):
    """RoS-KD at 0.6; each other setting below it by its offset, give or take `spread` with the replicate; both metrics alike."""
    rows = []
    for task, multilabel in TASKS.items():
        for metric, average in {("f1", PRINTED_AVERAGE[multilabel]), PRIMARY[multilabel]}:
            which = {"metric": metric, "average": average}
            for i in replicates:
                for setting in ROWS:
                    value = 0.6 - offsets.get(setting, 0.0) + (spread * (i - 1) if setting != "RoS-KD" else 0)
                    rows.append(row(task, setting, i, value, **which))
                rows += [row(task, name, i, chance, student="", **which) for name in CHANCE]
        which = {"metric": "validation_skill"}
        rows += [row(task, pool, i, margin, student=s, **which) for pool in TEACHERS for i in replicates for s in "ab"]
    return validate(pd.DataFrame(rows))


def verdict(results, task="lesion", **options):
    return report.verdict(results, task, TASKS[task], student="resnet18", **options)


def test_differences_are_paired_by_replicate_with_students_interval_and_p():
    found = report.differences(measured({"Baseline I": 0.058}, spread=0.001), "lesion", False, student="resnet18")
    found = found.set_index("baseline").loc["Baseline I"]
    # differences 0.059, 0.058, 0.057: mean 0.058, std 0.001, t(0.975, 2) = 4.302653
    assert found["mean"] == pytest.approx(0.058) and found["n"] == 3 and found["paper"] == pytest.approx(0.058)
    assert found["high"] - found["mean"] == pytest.approx(4.302653 * 0.001 / math.sqrt(3), rel=1e-6)
    t = 0.058 / (0.001 / math.sqrt(3))
    assert found["p"] == pytest.approx(1 - t / math.sqrt(t**2 + 2), rel=1e-6)  # Student's t with two degrees of freedom


def test_the_student_has_to_be_named():
    with pytest.raises(TypeError, match="student"):
        report.verdict(measured(OFFSETS), "lesion", False)
    with pytest.raises(TypeError, match="student"):
        report.differences(measured(OFFSETS), "lesion", False)


def test_a_replicate_that_one_side_lacks_is_left_out():
    rows = measured({"Baseline I": 0.058})
    rows = rows[~((rows["setting"] == "RoS-KD") & (rows["replicate"] == 1))]
    found = report.differences(rows, "lesion", False, student=None).set_index("baseline")
    assert found.loc["Baseline I", "n"] == 2 and found.loc["Baseline I", "mean"] == pytest.approx(0.058)


def test_the_verdict_says_where_ros_kd_wins_loses_and_shows_nothing():
    found = verdict(measured(OFFSETS))
    assert found["text"] == (
        "Over 3 replicates RoS-KD beats Baseline I and Baseline II; it is worse than Baseline III; it is not shown to beat "
        "Baseline III with subset teachers, Baseline IV and Baseline V."
    )
    assert [line["said"] for line in found["lines"]] == ["better", "better", "worse", *["not shown"] * 3]
    assert {line["metric"] for line in found["lines"]} == {"F1 (weighted)"}
    assert found["lines"][0]["pairs"]["better"].tolist() == [0.6, 0.6, 0.6]


def test_a_difference_is_shown_only_after_correction_for_all_lines():
    # 0.01 and -0.04 with this spread: p = 0.0277 and 0.0018 for one comparison, 0.139 and 0.011 for six
    found = verdict(measured(OFFSETS, spread=0.003))
    p = report.differences(measured(OFFSETS, spread=0.003), "lesion", False, student=None)["p"]
    corrected = multipletests(p, method="holm")[1]
    assert p[1] < 0.05 < corrected[1] and corrected[2] < 0.05
    assert [line["said"] for line in found["lines"]] == ["better", "not shown", "worse", *["not shown"] * 3]
    assert found["lines"][1]["interval"].startswith("+0.003") and found["lines"][1]["p"] == f"p = {corrected[1]:.3f}"


def test_several_labels_are_judged_by_mean_auroc_first_and_by_f1_second():
    found = verdict(measured(OFFSETS), "chest")
    assert found["text"].startswith(
        "By mean AUROC (macro), over 3 replicates RoS-KD beats Baseline I and Baseline II; "
    )
    assert "By F1 (micro), over 3 replicates RoS-KD beats Baseline I" in found["text"]
    assert [line["metric"] for line in found["lines"]] == ["mean AUROC (macro)"] * 6 + ["F1 (micro)"] * 6
    assert [line["paper"] for line in found["lines"]][::6] == ["", "+0.050"]  # Table I has no AUROC


def test_settings_at_chance_are_not_compared_and_the_reason_is_given():
    found = verdict(measured(OFFSETS, chance=0.56))
    assert found["text"].startswith("Over 3 replicates RoS-KD beats Baseline II; it is worse than Baseline III; ")
    assert found["text"].endswith(
        "Nothing can be told of Baseline I: Baseline I scores 0.542 in F1, always saying the same scores 0.560."
    )
    first = found["lines"][0]
    assert (first["kind"], first["p"]) == ("open", "") and first["said"].startswith("cannot be told: Baseline I scores")
    chest = verdict(measured(OFFSETS, chance=0.7), "chest")["text"]
    assert (
        "over" not in chest and "By mean AUROC (macro), nothing can be told of Baseline I: RoS-KD scores 0.600" in chest
    )


def test_f1_at_chance_does_not_bar_mean_auroc():
    rows = measured(OFFSETS)
    high = (rows["metric"] == "f1") & rows["setting"].isin(CHANCE)
    text = verdict(rows.assign(value=rows["value"].mask(high, 0.7)), "chest")["text"]
    assert text.startswith("By mean AUROC (macro), over 3 replicates RoS-KD beats")
    assert "By F1 (micro), nothing can be told of Baseline I: RoS-KD scores 0.600 in F1, always" in text


def test_ignorant_teachers_and_what_was_not_measured_bar_a_comparison():
    bad = measured(OFFSETS, margin=-0.1)
    words = "always saying the base rates has a smaller loss than the teachers a and b of RoS-KD"
    assert words in verdict(bad)["text"] and {line["kind"] for line in verdict(bad)["lines"]} == {"open"}
    rows = measured(OFFSETS)
    assert "chance was not measured (F1)" in verdict(rows[~rows["setting"].isin(CHANCE)])["text"]
    assert "the teachers of RoS-KD were not measured" in verdict(rows[~rows["setting"].isin(TEACHERS)])["text"]


def test_one_replicate_decides_nothing_and_says_so():
    found = verdict(measured(OFFSETS, replicates=[0]))
    assert found["text"].startswith("Over one replicate RoS-KD is above Baseline I, ")
    assert "One replicate: no interval can be given" in found["text"] and "beats" not in found["text"]
    assert "not above Baseline III" in found["text"]
    assert {line["interval"] for line in found["lines"]} == {"one replicate: no interval"}


def test_attacks_other_students_and_sweeps_do_not_enter_the_verdict():
    rows = measured(OFFSETS)
    scores = rows[rows["setting"].isin(ROWS)]
    others = [scores.assign(value=0.1, **{what: other}) for what, other in
              (("attack", "pgd"), ("student", "resnet34"), ("variant", "students"), ("variant", "symmetric 0"))]  # fmt: skip
    found = verdict(validate(pd.concat([rows, *others])))
    assert found["text"] == verdict(rows)["text"] and len(found["lines"]) == 6


def test_intervals_over_test_groups_stand_beside_f1():
    intervals = {("chest", "Baseline I"): (-0.0123, 0.0234), ("lesion", "Baseline II"): (0.0, 0.1)}
    assert over_groups(intervals, "chest") == {"Baseline I": "−0.012 to +0.023"} and over_groups({}, "chest") == {}
    found = verdict(measured(OFFSETS), "chest", intervals=intervals)
    assert [line["bootstrap"] for line in found["lines"]] == [""] * 6 + ["−0.012 to +0.023"] + [""] * 5
    assert found["bootstrapped"] and not verdict(measured(OFFSETS), "chest")["bootstrapped"]


def test_nothing_run_is_no_verdict():
    found = verdict(measured(OFFSETS).iloc[:0])
    assert "Nothing to compare" in found["text"] and found["lines"] == []
