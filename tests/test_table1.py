"""Table I, its dots and its differences: known measurements in, the right numbers out."""

import math
from itertools import product

import pandas as pd
import pytest
from rows import EPS, SEEDS, STEP, TASKS, chance_in, drawn, ends, frame, rows, said, study_of

from rosutils import InputError
from rosutils.paper import look, table1
from rosutils.paper.cells import METRICS, caption, printable, side_by_side
from rosutils.paper.published import published
from rosutils.results import select
from rosutils.settings import CHANCE, PLAIN, ROWS


BESIDE = {PLAIN: 0.45, CHANCE[0]: 0.2, CHANCE[1]: 0.1, CHANCE[2]: 0.3}  # what is no setting of the paper, and its score


def scores(seeds=SEEDS):
    """Setting number i scores 0.5 + i / 10 in the printed averaging and -1 in others, mean AUROC 0.05 more; no skill as well."""
    found, bases = [], {setting: 0.5 + place / 10 for place, setting in enumerate(ROWS)} | BESIDE
    for task, (setting, base) in product(TASKS, bases.items()):
        which = {"seeds": seeds, "student": "" if setting in BESIDE else "resnet18"}
        for metric in METRICS:
            found += rows(task, setting, base, metric=metric, **which)
            found += rows(task, setting, -1.0, metric=metric, average="macro", **which)
        found += rows(task, setting, base + 0.05, metric="auroc", average="macro", **which)
    return found


def elsewhere():
    """What the same settings scored where Table I does not look."""
    others = ({"variant": "overlap", "variant_value": "0.8"}, {"attack": "pgd", "eps": EPS, "norm": "l2"}, {"student": "resnet34"},
              {"attack": "attacked sample"}, {"class": "MEL", "average": ""})  # fmt: skip
    return [row for setting in ("RoS-KD", *CHANCE) for other in others for row in rows("lesion", setting, 0.1, **other)
            if setting == "RoS-KD" or "student" not in other]  # fmt: skip


@pytest.fixture
def table():
    return table1.table(study_of(frame(scores())))


def test_it_has_the_papers_order_and_its_numbers(table):
    assert list(table.index) == [*ROWS, PLAIN, *CHANCE]
    groups = [group for task in TASKS for group in table[task].columns.unique(0)]
    assert groups == ["Precision", "Recall", "F1", "Precision", "Recall", "F1", "Mean AUROC"]
    paper = published()["table1"]
    assert table.loc["RoS-KD", ("lesion", "F1", "published")] == paper["lesion"]["RoS-KD"]["f1"]
    assert table.loc["Baseline II", ("chest", "Recall", "published")] == paper["chest"]["Baseline II"]["recall"]


def test_a_cell_is_mean_std_and_difference_by_hand_with_its_runs(table):
    cell = table["lesion"]["F1"].loc["Baseline II"]
    assert cell["ours"] == pytest.approx(0.6) and cell["std"] == pytest.approx(STEP) and cell["n"] == 3
    assert cell["difference"] == pytest.approx(0.6 - 0.684)
    assert cell["runs"] == tuple(f"Baseline II-{s}" for s in SEEDS)


def test_what_the_paper_does_not_have_is_blank_and_ours_is_shown(table):
    for task in TASKS:
        for group, more in {"Precision": 0, "F1": 0, "Mean AUROC": 0.05}.items():
            if group in table[task]:
                found = table[task][group].loc[list(BESIDE)]
                assert found["ours"].tolist() == pytest.approx([value + more for value in BESIDE.values()])
                assert found[["published", "difference"]].isna().all(axis=None)
    assert pd.isna(table.loc["Baseline III, subset teachers", ("lesion", "F1", "published")])


def test_attacks_other_students_variants_and_classes_stay_out(table):
    pd.testing.assert_frame_equal(table1.table(study_of(frame(scores(), elsewhere()))), table)


def test_a_setting_that_was_not_run_is_blank_and_one_replicate_has_no_spread():
    results = frame(scores(seeds=[1]))
    text = printable(table1.table(study_of(results[results["setting"] != "Baseline IV"])))["lesion"]["F1"]
    assert text.loc["Baseline IV"].tolist() == ["0.677", "", ""]
    assert text.loc["Baseline I"].tolist() == ["0.658", "0.500", "−0.158"]


def test_a_task_of_the_readers_own_has_no_published_numbers():
    results = frame(scores()).assign(task=lambda found: found["task"].replace("lesion", "retina"))
    found = table1.table(study_of(results, {"retina": {"multilabel": False}}))["retina"]["F1"]
    assert found["published"].isna().all() and found.loc["RoS-KD", "ours"] == pytest.approx(1.1)


def test_the_caption_tells_profile_replicates_and_averaging(table):
    study = study_of(None)
    text = caption("Table I", table, study)
    assert "3 replicates" in text and "lesion weighted, chest micro" in text and text.endswith(study.watermark())


@pytest.mark.parametrize("seeds", [(1,), SEEDS])
def test_side_by_side_fits_a_terminal_and_leaves_out_precision_and_recall_where_it_would_not(seeds):
    text = side_by_side(table1.table(study_of(frame(scores(seeds)))))
    assert max(map(len, text.splitlines())) <= 110
    lesion, chest = text.split("\n\n")
    assert "0.713" in lesion and "Mean AUROC" in chest and "subsets" in text
    line = next(line for line in chest.splitlines() if line.startswith("RoS-KD"))
    assert line.split()[-1] == ("1.150" if len(seeds) == 1 else "1.150±0.010")


def test_the_dots_put_mean_std_and_each_replicate_beside_the_printed_value():
    fig = table1.plot(study_of(frame(scores(), elsewhere())))
    ax = fig.axes[0]
    hollow = [line for line in ax.lines if line.get_marker() == "D" and line.get_markerfacecolor() == "none"]
    assert [line.get_xdata()[0] for line in hollow] == [row["f1"] for row in published()["table1"]["lesion"].values()]
    for place, setting in enumerate(ROWS):
        points = next(each for each in drawn(ax, setting) if len(each) == len(ROWS) or len(each) == 1)
        mean = 0.5 + place / 10
        assert points[~pd.isna(points[:, 0])].tolist() == [[pytest.approx(mean), place]]
        assert [end[:, 0] for end in ends(ax, setting)][0] == pytest.approx([mean - STEP, mean + STEP])
    assert said(fig) == ["mean ± std over 3 replicates", "paper", "each replicate", look.NO_SKILL]
    assert chance_in(ax, across=True) == [pytest.approx(0.3)]


def test_one_replicate_has_no_error_bar_and_the_legend_says_so():
    fig = table1.plot(study_of(frame(scores(seeds=(0,)))))
    assert said(fig) == ["one replicate", "paper", look.NO_SKILL]


def test_nothing_measured_is_an_error_that_says_what_to_run():
    with pytest.raises(InputError, match="Table I of lesion, chest; run its notebook"):
        table1.plot(study_of(frame(scores())[:0]))


def gains(seeds=SEEDS, lacking=()):
    """F1 of setting number i is 0.5 + i / 100 and the same in every replicate, but RoS-KD's moves by STEP."""
    found = [
        rows(task, setting, 0.5 + place / 100, seeds=seeds, step=STEP if setting == "RoS-KD" else 0)
        for task, (place, setting) in product(TASKS, enumerate(ROWS))
    ]
    return frame(row for some in found for row in some if (row["setting"], row["replicate"]) not in lacking)


def test_comparisons_are_paired_differences_with_students_interval_by_hand():
    found = table1.comparisons(study_of(gains()))["lesion"].loc["Baseline I"]
    half = 4.302653 * STEP / math.sqrt(3)  # 0.05, 0.06, 0.07; t(0.975, 2) = 4.302653
    assert found["RoS-KD minus baseline", "mean"] == pytest.approx(0.06)
    assert found["95 % over replicates"].tolist() == pytest.approx([0.06 - half, 0.06 + half, 3])
    assert found["RoS-KD minus baseline", "published"] == 0.058  # 0.716 - 0.658 as printed
    assert len(found["RoS-KD minus baseline", "runs"]) == 6


def test_comparisons_leave_out_a_replicate_that_one_side_lacks():
    found = table1.comparisons(study_of(gains(lacking=[("Baseline II", 2)])))["chest"]
    assert found.loc["Baseline II", ("RoS-KD minus baseline", "mean")] == pytest.approx((0.04 + 0.05) / 2)
    assert found["95 % over replicates", "n"].tolist() == [3, 2, 3, 3, 3, 3]


def test_one_replicate_has_no_interval_a_baseline_not_run_is_blank_and_the_caption_says_so():
    study = study_of(gains(seeds=(1,), lacking=[("Baseline IV", 1)]))
    found = table1.comparisons(study)
    text = printable(found)["lesion"]
    assert text.loc["Baseline I"].tolist() == ["+0.058", "+0.060", "", "1", ""]
    assert text.loc["Baseline IV"].tolist() == ["+0.039", "", "", "", ""]
    assert "One replicate (n = 1)" in table1.COMPARISONS.caption(study, found)


def test_intervals_over_groups_hold_the_difference_they_are_about(probed):
    found, results = table1.comparisons(probed), probed.results()
    for task, average in (("lesion", "weighted"), ("chest", "micro")):
        f1 = select(
            results, task=task, metric="f1", average=average, class_="", variant="", attack="", student="mobilenet_v2"
        )
        means = f1.groupby("setting")["value"].mean()
        for baseline, line in found[task]["95 % over test groups"].iterrows():
            assert line["low"] - 1e-9 <= means["RoS-KD"] - means[baseline] <= line["high"] + 1e-9
