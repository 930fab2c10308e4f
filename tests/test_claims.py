"""The claims: each gets its verdict from the right measurements, by its interval, and one seed never decides."""

import math

import pandas as pd
import pytest

from rosutils import InputError
from rosutils.report import VERDICTS, judge
from rosutils.results import PRINTED_AVERAGE, SETTINGS, published, validate


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
CLAIMS = {claim["id"]: claim for claim in published()["claims"]}
HOLDS, MORE_OR_LESS, FAILS, UNKNOWN, NOT_RUN = VERDICTS
JITTER = 0.001  # differences d + 0.001, d, d - 0.001 over three seeds: the interval is d ± 0.00248 (t = 4.302653)


def row(task, setting, seed, value, *, student="resnet18", variant="", metric="f1", average=None, **others):
    blank = {"overlap": math.nan, "noise": 0.0, "attack": "", "eps": math.nan, "norm": "", "class": ""}
    average = PRINTED_AVERAGE[TASKS[task]["multilabel"]] if average is None else average
    what = {"student": student, "variant": variant, "average": average, "metric": metric, "value": value}
    return blank | what | {"task": task, "setting": setting, "seed": seed, "run": f"run-{setting}-{seed}"} | others


def versus(task, than, gain, *, seeds=(0, 1, 2), jitter=JITTER, better="RoS-KD", **others):
    """RoS-KD at 0.5 and another setting below it by the gain, give or take the jitter with the seed."""
    return [
        row(task, setting, seed, value, **others)
        for seed in seeds
        for setting, value in ((better, 0.5), (than, 0.5 - gain + jitter * (seed - 1)))
    ]


def overlaps(task, values, seeds=(0, 1, 2)):
    return [
        row(task, "RoS-KD", seed, value + JITTER * (seed - 1) * ratio, variant="overlap", overlap=ratio)
        for ratio, value in values.items() for seed in seeds
    ]  # fmt: skip


def attacked(task, attack, gain, norm="l2", **others):
    return versus(task, "Baseline III, subset teachers", gain, attack=attack, norm=norm, eps=1.28 / 255, **others)


def runs(mean, seeds=(0, 1, 2)):
    which = {"student": "densenet121", "metric": "auroc", "average": "macro"}
    return [
        row("chest", "RoS-KD", seed, mean + JITTER * (seed - 1), variant=f"run {seed + 1}", **which) for seed in seeds
    ]


def basins(task, gain, seeds=(0, 1, 2), levels=("0.5", "1", "2")):
    which = {"variant": "landscape", "metric": "basin_area", "seeds": seeds}
    return [r for level in levels for r in versus(task, "Baseline III", gain, average=level, **which)]


def everything(gain=0.05, seeds=(0, 1, 2)):
    """One measurement for everything that a claim is about."""
    rows = runs(0.838, seeds)
    for task in TASKS:
        for setting in SETTINGS[:-1]:
            rows += versus(task, setting, gain, seeds=seeds)
        for student in published()["section_4b"]["teachers"]:
            rows += versus(task, "Baseline III", gain, student=student, variant="students", seeds=seeds)
        rows += overlaps(task, {0: 0.5, 0.4: 0.5 + gain, 1: 0.5 - gain}, seeds) + basins(task, gain, seeds)
        for attack in ("fgsm", "pgd"):
            for norm in ("l2", "linf", "l2-scaled"):
                rows += attacked(task, attack, gain, norm, seeds=seeds)
    frame = pd.DataFrame(rows).drop_duplicates(ignore_index=True)
    return validate(frame)


def told(name, rows, tasks=TASKS):
    return judge(CLAIMS[name], validate(pd.DataFrame(rows)), tasks)


def test_every_claim_is_judged_where_everything_was_run():
    found = {name: judge(claim, everything(), TASKS) for name, claim in CLAIMS.items()}
    assert all(claim["verdict"] in (HOLDS, MORE_OR_LESS) and claim["ours"] and claim["why"] for claim in found.values())
    worse = {name: judge(claim, everything(gain=-0.05), TASKS)["verdict"] for name, claim in CLAIMS.items()}
    assert [name for name, verdict in worse.items() if verdict != FAILS] == ["auroc-mean"]  # which is not a difference


@pytest.mark.parametrize("name", CLAIMS)
def test_one_seed_never_decides(name):
    found = judge(CLAIMS[name], everything(seeds=(0,)), TASKS)
    assert found["verdict"] == UNKNOWN and "gives no interval" in found["why"] + found["parts"][0]["why"]


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_missing_is_not_run(name):
    found = judge(CLAIMS[name], everything().iloc[:0], TASKS)
    assert found["verdict"] == NOT_RUN and found["ours"] == "" and found["parts"]


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.058, HOLDS), (0.0431, HOLDS), (0.0429, MORE_OR_LESS), (0.0731, MORE_OR_LESS), (0.0024, UNKNOWN), (0.0026, MORE_OR_LESS),
        (0.0, UNKNOWN), (-0.0024, UNKNOWN), (-0.0026, FAILS),
    ],
)  # fmt: skip
def test_a_claim_is_judged_by_interval_and_tolerance(gain, expected):
    # lesion-f1-over-i: +0.058, tolerance 0.015; the interval is the gain ± 0.002484
    assert told("lesion-f1-over-i", versus("lesion", "Baseline I", gain))["verdict"] == expected


def test_the_difference_and_its_interval_are_given():
    found = told("lesion-f1-over-i", versus("lesion", "Baseline I", 0.058))
    half = 4.302653 * JITTER / math.sqrt(3)
    assert found["ours"] == f"+0.058 ({0.058 - half:+.3f} to {0.058 + half:+.3f}, n = 3)"
    assert found["parts"][0]["pairs"]["run_better"].tolist() == [f"run-RoS-KD-{seed}" for seed in (0, 1, 2)]


@pytest.mark.parametrize(("gain", "expected"), [(0.05, HOLDS), (0.01, FAILS), (0.021, UNKNOWN)])
def test_a_claim_of_more_than_a_bound_is_judged_against_the_bound(gain, expected):
    assert told("abstract-lesion", versus("lesion", "Baseline III", gain))["verdict"] == expected


def test_the_profiles_own_runs_and_those_of_fig_2_are_not_mixed():
    own = versus("chest", "Baseline III", 0.041)
    other = versus("chest", "Baseline III", -0.041, variant="students")
    assert told("chest-f1-over-iii", own + other)["verdict"] == HOLDS
    assert told("chest-resnet18", own + other)["verdict"] == FAILS
    assert told("chest-resnet18", own)["verdict"] == NOT_RUN  # it does not fall back on Table I


def test_a_claim_over_all_students_fails_with_one_of_them_and_is_open_while_one_is_missing():
    names = published()["section_4b"]["teachers"]
    good = [r for t in TASKS for s in names for r in versus(t, "Baseline III", 0.03, student=s, variant="students")]
    assert told("students-all", good)["verdict"] == HOLDS
    lacking = [r for r in good if (r["task"], r["student"]) != ("chest", "resnet50")]
    assert told("students-all", lacking)["verdict"] == UNKNOWN
    worse = versus("chest", "Baseline III", -0.03, student="resnet50", variant="students")
    found = told("students-all", lacking + worse)
    assert found["verdict"] == FAILS and "Does not hold: chest, resnet50." in found["why"]


@pytest.mark.parametrize("name", ["students-all", "overlap-helps", "overlap-none-over-full", "landscape-basin"])
def test_a_claim_over_two_tasks_does_not_hold_by_one_task_alone(name):
    lesion = {"lesion": TASKS["lesion"]}
    assert judge(CLAIMS[name], everything(), lesion)["verdict"] == UNKNOWN
    assert "chest" in judge(CLAIMS[name], everything(), lesion)["why"]


def test_overlaps_are_compared_at_their_ratios():
    values = {0: 0.50, 0.4: 0.55, 1: 0.52}
    rows = overlaps("lesion", values) + overlaps("chest", values)
    assert told("overlap-helps", rows)["verdict"] == HOLDS
    assert told("overlap-none-over-full", rows)["verdict"] == FAILS


def test_an_attack_is_decided_by_the_l2_radius_and_the_others_stand_beside_it():
    gains = {"l2": 0.0, "linf": 0.045, "l2-scaled": -0.05}
    rows = [r for norm, gain in gains.items() for r in attacked("lesion", "fgsm", gain, norm)]
    found = told("robust-lesion-fgsm", rows)
    assert found["verdict"] == UNKNOWN
    assert "linf: +0.045 (+0.043 to +0.047, n = 3), holds" in found["why"]
    assert "l2-scaled: −0.050 (−0.052 to −0.048, n = 3), does not hold" in found["why"]


def test_an_attack_is_compared_after_it_at_the_papers_radius_and_with_the_same_teachers():
    rows = attacked("lesion", "pgd", 0.063)
    before = [r | {"eps": 0.0, "value": 0.9} for r in rows]
    farther = [r | {"eps": 2.56 / 255, "value": 0.1} for r in rows]
    others = versus("lesion", "Baseline III", -0.2, attack="pgd", norm="l2", eps=1.28 / 255)
    others = [r for r in others if r["setting"] == "Baseline III"]
    found = told("robust-lesion-pgd", rows + before + farther + others)
    assert found["verdict"] == HOLDS and found["ours"].startswith("+0.063")
    assert "By the paper's own tables the gain is +0.045: ours is outside" in found["why"]


@pytest.mark.parametrize(
    ("mean", "expected"), [(0.838, HOLDS), (0.8331, HOLDS), (0.845, MORE_OR_LESS), (0.828, UNKNOWN), (0.80, FAILS)]
)
def test_the_mean_auroc_of_the_runs_is_judged_against_the_printed_number(mean, expected):
    # +0.010 over the printed 0.828, tolerance 0.005
    assert told("auroc-mean", runs(mean))["verdict"] == expected


def test_the_basin_is_the_mean_over_the_levels_and_each_level_stands_beside_it():
    rows = basins("lesion", 0.1, levels=["0.5", "1"]) + basins("lesion", -0.05, levels=["2"]) + basins("chest", 0.1)
    found = told("landscape-basin", rows)
    assert found["verdict"] == HOLDS and found["ours"].startswith("lesion +0.050")
    assert "lesion, loss within 2: −0.050 (−0.052 to −0.048, n = 3), does not hold" in found["why"]


def test_batchnorm_as_copied_is_not_the_basin_of_the_claim():
    rows = basins("lesion", 0.1) + basins("chest", 0.1)
    copied = [r | {"variant": "landscape, BatchNorm as copied", "value": 0.0} for r in rows if r["setting"] == "RoS-KD"]
    assert told("landscape-basin", rows + copied)["ours"] == told("landscape-basin", rows)["ours"]


def test_two_values_for_one_seed_are_an_error_that_names_them():
    rows = versus("lesion", "Baseline I", 0.05)
    with pytest.raises(InputError, match="one value of each setting per seed.*Baseline I for lesion, seed 0"):
        told("lesion-f1-over-i", rows + [r | {"noise": 0.4} for r in rows if r["setting"] == "Baseline I"])
