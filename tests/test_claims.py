"""The claims: judged on the right measurements, by equivalence and corrected p-values, and only where there is skill."""

import functools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from rosutils.intervals import PairedDifference, paired_difference
from rosutils.paper import decisions
from rosutils.paper.claims import claims_table, forest, judge, sentence, table1_verdict, tally
from rosutils.paper.compared import Measured, Side, parts_of
from rosutils.paper.decisions import VERDICTS, Bounds, Holm, bounds, decide, p_values
from rosutils.paper.published import published
from rosutils.results import validate
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS, TEACHERS


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
PAPER = published()
CLAIMS = {claim["id"]: claim for claim in PAPER["claims"]}
HOLDS, BETTER, FAILS, UNKNOWN, NOT_RUN = VERDICTS
STUDENTS = PAPER["section_4b"]["teachers"]
EPS, THREE = 1.28 / 255, (0, 1, 2)
JITTER = 1e-5  # differences d + jitter, d, d - jitter over three replicates: the 95 % interval is d ± 2.48 jitter
SAME_TEACHERS = "Baseline III, subset teachers"
VARIANTS = [("", ""), ("students", ""), ("table3", ""), *(("overlap", ratio) for ratio in ("0", "0.4", "1"))]
CONSTANTS = {"best constant": 0.1, "random scores": 0.08, "random scores, 97.5 %": 0.12}


def row(task, setting, replicate, value, **others):
    blank = {"student": "resnet18", "variant": "", "variant_value": "", "attack": "", "eps": math.nan, "norm": "",
             "class": "", "metric": "f1"}  # fmt: skip
    found = blank | {"task": task, "setting": setting, "replicate": replicate, "value": value} | others
    average = PRINTED_AVERAGE[TASKS[task]["multilabel"]] if found["metric"] == "f1" else ""
    run = f"run-{setting}-{found['variant']}{found['variant_value']}-{replicate}".replace(" ", "").replace("--", "-")
    return {"average": average, "run": run} | found


def score(task, setting, replicate, f1, auroc=0.7, **others):
    """What one evaluation measures: F1, and mean AUROC."""
    also = others | {"metric": "auroc", "average": "macro"}
    return [row(task, setting, replicate, f1, **others), row(task, setting, replicate, auroc, **also)]


def versus(task, than, gain, *, replicates=THREE, jitter=JITTER, **others):
    """RoS-KD at 0.5 and another setting below it by the gain, give or take the jitter with the replicate."""
    return [
        r for i in replicates
        for setting, value in (("RoS-KD", 0.5), (than, 0.5 - gain + jitter * (i - 1)))
        for r in score(task, setting, i, value, **others)
    ]  # fmt: skip


def overlaps(task, values, replicates=THREE, jitter=JITTER):
    return [
        r for ratio, value in values.items() for i in replicates
        for r in score(task, "RoS-KD", i, value + jitter * (i - 1) * ratio, variant="overlap", variant_value=f"{ratio:g}")
    ]  # fmt: skip


def attacked(task, attack, gain, norm="l2", *, replicates=THREE, jitter=JITTER, drop=0.2, lead=0.03):
    """Both are attacked from 0.5, RoS-KD from the lead above it: Baseline III loses the drop, RoS-KD less by the gain."""
    rows = []
    for i in replicates:
        for setting, top, loss in (("RoS-KD", 0.5 + lead, drop - gain + jitter * (i - 1)), (SAME_TEACHERS, 0.5, drop)):
            which = {"attack": attack, "norm": norm}
            rows += [row(task, setting, i, top, eps=0.0, **which), row(task, setting, i, top - loss, eps=EPS, **which)]
    return rows


def table3(mean, replicates=THREE, jitter=JITTER):
    which = {"variant": "table3", "student": "densenet121"}
    return [r for i in replicates for r in score("chest", "RoS-KD", i, 0.4, mean + jitter * (i - 1), **which)]


def basins(task, gain, *, replicates=THREE, jitter=JITTER, levels=("0.5", "1", "2"), directions=(0, 1)):
    which = {"variant": "landscape", "metric": "basin_area"}
    return [
        row(task, setting, i, value + turn / 10, average=level, **which, **{"class": f"directions {turn}"})
        for i in replicates for level in levels for turn in directions
        for setting, value in (("RoS-KD", 0.5), ("Baseline III", 0.5 - gain + jitter * (i - 1)))
    ]  # fmt: skip


def seconds(task, *, replicates=THREE, averaging=1.02, reinforcement=1.4, jitter=JITTER):
    times = {"Baseline III": 100.0, "RoS-KD": 100.0 * averaging, "Baseline IV": 100.0 * reinforcement}
    return [
        row(task, setting, i, time * (1 + jitter * (i - 1) * (setting != "Baseline III")), metric="seconds")
        for setting, time in times.items() for i in replicates
    ]  # fmt: skip


def skill(replicates=THREE, chance=CONSTANTS, margin=0.1):
    """Chance, and teachers above the base rates by the margin, in every variant."""
    rows = []
    for task in TASKS:
        for i in replicates:
            for variant, point in VARIANTS:
                for name, value in chance.items():
                    where = {"variant": variant, "variant_value": point, "student": ""}
                    rows += score(task, name, i, value, auroc=0.5, **where)
                    rows.append(row(task, name, i, value, attack="attacked sample", **where))
                which = {"variant": variant, "variant_value": point, "metric": "validation_skill"}
                rows += [row(task, pool, i, margin, student=s, **which) for pool in TEACHERS for s in STUDENTS]
    return rows


def printed_gain(task, setting, student="resnet18", place="Table I"):
    """What the text says RoS-KD gains over a setting, or 0.03 where it says nothing."""
    found = [
        claim["comparison"]["gain"] for claim in CLAIMS.values()
        if (claim["task"], claim["comparison"]["than"], claim["student"]) == (task, setting, student)
        and place in claim["where"] and "gain" in claim["comparison"]
    ]  # fmt: skip
    return found[0] if found else 0.03


def everything(scale=1.0, replicates=THREE, jitter=JITTER):
    """One measurement for everything that a claim is about: every gain as printed, times the scale."""
    which, rows = {"replicates": replicates, "jitter": jitter}, table3(0.838, replicates, jitter) + skill(replicates)
    for task in TASKS:
        for setting in ROWS[:-1]:
            rows += versus(task, setting, scale * printed_gain(task, setting), **which)
        for student in STUDENTS:
            gain = scale * printed_gain(task, "Baseline III", student, "Fig. 2")
            rows += versus(task, "Baseline III", gain, student=student, variant="students", **which)
        rows += overlaps(task, {0: 0.5, 0.4: 0.5 + scale * 0.05, 1: 0.5 - scale * 0.05}, replicates, jitter)
        rows += basins(task, scale * 0.05, **which) + seconds(task, **which)
        for attack in ("fgsm", "pgd"):
            gain = scale * CLAIMS[f"robust-{task}-{attack}"]["comparison"]["gain"]
            rows += [r for norm in ("l2", "linf", "l2-scaled") for r in attacked(task, attack, gain, norm, **which)]
    return validate(pd.DataFrame(rows).drop_duplicates(ignore_index=True))


def judged(results, tasks=TASKS, *, eps=EPS, as_printed=True):
    frame = results if isinstance(results, pd.DataFrame) else validate(pd.DataFrame(results))
    return {claim["id"]: claim for claim in judge(Measured(frame, tasks, eps=eps, as_printed=as_printed))}


def told(name, rows, **options):
    return judged(rows + skill(), **options)[name]


# the arithmetic


@pytest.mark.parametrize("half", [0.0004, 0.004, 0.02])
def test_inside_is_two_one_sided_tests_as_statsmodels_has_them_and_as_by_hand(half):
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.55, 0.01, 6), rng.normal(0.53, 0.01, 6)
    found, low, high = paired_difference(a, b), 0.02 - half, 0.02 + half
    [inside, *others] = p_values(found, Bounds(low, high)).values()
    p, lower, upper = ttost_paired(a, b, low, high)
    assert inside == pytest.approx(min(1, 2 * p), rel=1e-9)  # twice: each side has half of the level
    above = stats.ttest_1samp(a - b, low, alternative="greater").pvalue
    below = stats.ttest_1samp(a - b, high, alternative="less").pvalue
    assert (found.p_above(low), found.p_below(high)) == pytest.approx((above, below), rel=1e-9)
    assert inside == pytest.approx(min(1, 2 * max(above, below)), rel=1e-9)
    two_sided = stats.ttest_rel(a, b).pvalue
    assert min(others[2:]) == pytest.approx(two_sided, rel=1e-9)


def test_holm_is_that_of_statsmodels_and_by_hand():
    values = [0.01, 0.04, 0.001, 0.03]
    holm = Holm(values)
    assert [holm(p) for p in values] == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert [holm(p) for p in values] == pytest.approx([0.03, 0.06, 0.004, 0.06])
    assert holm(0.0001) == pytest.approx(0.0004) and holm(0.02) == pytest.approx(0.04)  # said of one of the four
    assert holm(0.97) == 0.97 and Holm([]).levels == []


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ((), UNKNOWN), (("better",), UNKNOWN), (("worse",), UNKNOWN), (("inside", "better"), HOLDS),
        (("more", "better"), BETTER), (("less", "better"), BETTER), (("less",), FAILS), (("less", "worse"), FAILS),
    ],
)  # fmt: skip
def test_what_is_shown_decides(shown, expected):
    names = ("inside", "less", "more", "better", "worse")
    assert decide({name: 0.01 if name in shown else 0.5 for name in names}) == expected


# how often a study says what is not so


@functools.cache
def comparisons():
    """Every claim with the comparisons that decide it."""
    here = Measured(everything(), TASKS, eps=EPS, as_printed=True)
    return [(claim, [part for part in parts_of(claim, here) if part.decides]) for claim in CLAIMS.values()]


def true_differences(kind):
    """(claim, part) -> the true difference, where all settings are equal, the paper is right, or each is on the edge of a claim."""
    at = {}
    for claim, parts in comparisons():
        compare, between = claim["comparison"], bounds(claim)
        edge = between.high if math.isinf(between.low) else between.low
        beyond = edge + (0.1 if edge == between.low else -0.1)
        claimed = compare.get("gain", beyond if claim["metric"] == "seconds" else 0.03)
        value = {"equal": 0.0, "as claimed": claimed, "on the edge": edge}[kind]
        for part in parts:
            at.setdefault(part.key, value)  # the first claim about a comparison names the gain
    best = max(method["mean"] for method in PAPER["table3"]["methods"][:-1])
    ours = best + {"equal": 0.0, "as claimed": 0.010, "on the edge": 0.005}[kind]
    return {
        (claim["id"], part.label): ours - part.pairs["than"].iloc[0] if claim["metric"] == "auroc" else at[part.key]
        for claim, parts in comparisons() for part in parts
    }  # fmt: skip


def simulated(true, *, sd, studies, n=3):
    """Studies of all claims: what each setting scores varies by sd, so settings compared with RoS-KD share its luck."""
    rng, drawn, found = np.random.default_rng(0), {}, []
    for claim, parts in comparisons():
        for part in parts:
            sides = [key for key in part.key if isinstance(key, Side)]
            for side in sides:
                drawn.setdefault((side, claim["metric"], claim.get("attack")), rng.normal(0, sd, (studies, n)))
            luck = [drawn[side, claim["metric"], claim.get("attack")] for side in sides]
            sample = true[claim["id"], part.label] + luck[0] - (luck[1] if len(luck) > 1 else 0)
            mean, half = sample.mean(axis=1), sample.std(axis=1, ddof=1) * stats.t.ppf(0.975, n - 1) / math.sqrt(n)
            found.append(zip(mean, mean - half, mean + half, strict=True))
    for study in zip(*found, strict=True):
        each = iter(study)
        claims, compared = zip(*comparisons(), strict=True)
        parts = [[part._replace(found=PairedDifference(*next(each), n)) for part in parts] for parts in compared]
        yield decisions.verdicts(claims, parts)


def is_so(said, true, between):
    return {
        "inside": between.low < true < between.high, "less": true < between.low, "more": true > between.high,
        "better": true > 0, "worse": true < 0,
    }[said]  # fmt: skip


def says_what_is_not_so(study, true):
    return any(
        not is_so(said, true[claim["id"], part["label"]], bounds(claim))
        for claim in study for part in claim["parts"] for said in part["shown"]
    )  # fmt: skip


@pytest.mark.parametrize(("sd", "studies"), [(0.002, 200), (0.03, 60)])
def test_where_all_settings_are_equal_five_in_a_hundred_studies_at_most_say_otherwise(sd, studies):
    # "below the printed gain" and "at most 5 % more time" are so where nothing differs; that anything is better or worse,
    # or a gain as printed, is not.
    true, wrong, better, worse = true_differences("equal"), 0, 0, 0
    for study in simulated(true, sd=sd, studies=studies):
        free = [claim for claim in study if claim["metric"] not in ("seconds", "auroc")]
        wrong += says_what_is_not_so(study, true)
        better += any(claim["verdict"] in (HOLDS, BETTER) for claim in free)
        worse += any("worse" in part["shown"] for claim in free for part in claim["parts"])
    assert max(better, worse) <= wrong <= at_most_five_in_a_hundred(studies)


def at_most_five_in_a_hundred(studies):
    """As many of the studies as there may be where it is five in a hundred: two standard deviations more."""
    return 0.05 * studies + 2 * math.sqrt(0.05 * 0.95 * studies)


@pytest.mark.parametrize(("kind", "sd"), [("as claimed", 0.0005), ("as claimed", 0.01), ("on the edge", 0.002)])
def test_where_the_paper_is_right_or_on_the_edge_of_it_as_few_studies_say_what_is_not_so(kind, sd):
    true = true_differences(kind)
    wrong = sum(says_what_is_not_so(study, true) for study in simulated(true, sd=sd, studies=100))
    assert wrong <= at_most_five_in_a_hundred(100)


# from measurements to verdicts


def test_every_claim_holds_where_every_difference_is_as_printed():
    found = judged(everything())
    assert {claim["verdict"] for claim in found.values()} == {HOLDS}
    assert all(claim["ours"] and claim["reason"] for claim in found.values())


def test_where_everything_is_the_other_way_round_no_claim_of_a_gain_holds():
    found = judged(everything(scale=-1.0))
    others = {name for name, claim in found.items() if claim["verdict"] != FAILS}  # which the gains do not move
    assert others == {"auroc-mean", "abstract-auroc", "averaging-cost", "reinforcement-cost"}


@pytest.mark.parametrize("results", [everything(replicates=(0,)), everything().iloc[:0]], ids=["one", "none"])
def test_one_replicate_never_decides_and_what_is_missing_is_not_run(results):
    for claim in judged(results).values():
        assert claim["verdict"] == (UNKNOWN if len(results) else NOT_RUN) and claim["parts"]
        assert ("One replicate gives no interval" if len(results) else "Not run: it needs") in claim["reason"]


@pytest.mark.parametrize(
    ("gain", "expected", "words"),
    [
        (0.058, HOLDS, "within 0.015 of the printed +0.058"), (0.0435, HOLDS, ""), (0.0425, BETTER, "below +0.043"),
        (0.0735, BETTER, "above +0.073 (p < 0.001) and above 0.000 (p < 0.001)"), (0.0430, UNKNOWN, "it is above 0.000"),
        (0.0, FAILS, "below +0.043"), (-0.01, FAILS, "and below 0.000"),
    ],
)  # fmt: skip
def test_a_printed_gain_is_judged_by_equivalence(gain, expected, words):
    # lesion-f1-over-i: +0.058, tolerance 0.015; one comparison, so the interval is the gain ± 0.000025
    found = told("lesion-f1-over-i", versus("lesion", "Baseline I", gain))
    assert found["verdict"] == expected and words in found["reason"]


def test_the_width_counts_not_the_mean_alone():
    # the mean is the printed gain and the interval lies above zero, but it reaches out of the tolerance
    found = told("lesion-f1-over-i", versus("lesion", "Baseline I", 0.058, jitter=0.01))
    assert found["parts"][0]["found"].low > 0 and found["verdict"] == UNKNOWN
    assert found["ours"] == "+0.058 (+0.033 to +0.083, n = 3)"


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.05, HOLDS), (0.01, BETTER), (-0.01, FAILS), (0.02, UNKNOWN), (0.0, FAILS)]
)
def test_a_claim_of_more_than_a_bound_is_judged_against_the_bound(gain, expected):
    assert told("abstract-lesion", versus("lesion", "Baseline III", gain))["verdict"] == expected


def test_several_claims_about_one_comparison_are_corrected_as_one():
    one = told("abstract-lesion", versus("lesion", "Baseline III", 0.03))  # also lesion-f1-over-iii
    two = told("abstract-lesion", versus("lesion", "Baseline III", 0.03) + versus("chest", "Baseline III", 0.03)[2:])
    assert "corrected for 1 comparison." in one["reason"] and "corrected for 2 comparisons." in two["reason"]


def test_a_difference_that_stands_alone_may_not_stand_among_many():
    alone = versus("lesion", "Baseline V", 0.011, jitter=0.0015)
    found = told("averaging-lesion", alone)
    assert found["verdict"] == HOLDS and "(p = 0.024)" in found["reason"]
    others = [r for than in ROWS[:3] for r in versus("chest", than, 0.02, jitter=0.05)[(than != ROWS[0]) * 6 :]]
    found = told("averaging-lesion", alone + others)
    assert found["verdict"] == UNKNOWN and "not shown to be within" in found["reason"]


def test_the_profiles_own_runs_and_those_of_fig_2_are_not_mixed():
    own = versus("chest", "Baseline III", 0.041)
    other = versus("chest", "Baseline III", -0.041, variant="students")
    assert told("chest-f1-over-iii", own + other)["verdict"] == HOLDS
    assert told("chest-resnet18", own + other)["verdict"] == FAILS
    assert told("chest-resnet18", own)["verdict"] == NOT_RUN  # it does not fall back on Table I


def test_a_claim_over_all_students_is_of_chest_fails_with_one_of_them_and_is_open_while_one_is_missing():
    good = {s: versus("chest", "Baseline III", 0.03, student=s, variant="students") for s in STUDENTS}
    assert told("students-all", sum(good.values(), []))["verdict"] == HOLDS
    lacking = sum((rows for s, rows in good.items() if s != "resnet50"), [])
    found = told("students-all", lacking)
    assert found["verdict"] == UNKNOWN and "Not run: chest, resnet50." in found["reason"]
    bad = versus("chest", "Baseline III", -0.03, student="resnet50", variant="students")
    found = told("students-all", lacking + bad)
    assert found["verdict"] == FAILS and "Does not hold: chest, resnet50." in found["reason"]


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if isinstance(claim["task"], list)])
def test_a_claim_over_two_tasks_does_not_hold_by_one_task_alone(name):
    found = judged(everything(), {"lesion": TASKS["lesion"]})[name]
    assert found["verdict"] == UNKNOWN and "chest, which the profile lacks" in found["reason"]


def test_mean_auroc_stands_beside_f1_where_images_have_several_labels_and_does_not_decide():
    rows = [r | {"value": r["value"] - 0.2 * (r["metric"] == "auroc" and r["setting"] != "RoS-KD" and r["student"] != "")}
            for r in versus("chest", "Baseline III", -0.02)]  # fmt: skip
    found = judged([r if r["metric"] == "f1" else r | {"value": r["value"] + 0.1} for r in rows] + skill())
    [f1, auroc] = found["chest-f1-over-iii"]["parts"]
    assert found["chest-f1-over-iii"]["verdict"] == FAILS
    assert (auroc["label"], auroc["ours"][:6], auroc["decides"]) == ("chest, mean AUROC", "+0.200", False)
    assert len(judged(everything())["lesion-f1-over-iii"]["parts"]) == 1


def test_overlaps_are_compared_at_their_ratios():
    values = {0: 0.50, 0.4: 0.55, 1: 0.52}
    rows = overlaps("lesion", values) + overlaps("chest", values)
    assert told("overlap-helps", rows)["verdict"] == HOLDS
    assert told("overlap-none-over-full", rows)["verdict"] == FAILS


# where nothing can be told


def without_skill(name="lesion-f1-over-i", task="lesion", setting="Baseline I", gain=0.058, **changes):
    return judged(versus(task, setting, gain) + skill(**changes))[name]


def test_a_setting_at_chance_is_not_judged_and_the_reason_has_both_numbers():
    found = without_skill(chance=CONSTANTS | {"best constant": 0.46})
    assert found["verdict"] == UNKNOWN and found["ours"].startswith("+0.058")
    assert found["reason"] == "Baseline I scores 0.442 in F1, always saying the same scores 0.460."
    both = without_skill(chance=CONSTANTS | {"random scores, 97.5 %": 0.6})
    assert both["reason"] == (
        "RoS-KD scores 0.500 in F1, 2.5 % of random scores reach 0.600; "
        "Baseline I scores 0.442 in F1, 2.5 % of random scores reach 0.600."
    )


def test_by_chance_in_the_deciding_metric_f1_is_not_judged_either():
    rows = [r | ({"value": 0.5} if r["metric"] == "auroc" else {}) for r in versus("chest", "Baseline III", 0.041)]
    found = told("chest-f1-over-iii", rows)
    assert found["verdict"] == UNKNOWN
    assert "RoS-KD scores 0.500 in mean AUROC, always saying the same scores 0.500" in found["reason"]


def test_teachers_below_the_base_rates_bar_what_they_taught_and_nothing_else():
    low = ("teacher, subset", "resnet50")
    bad = [r | {"value": -0.1} if (r["setting"], r["student"]) == low else r for r in skill()]
    rows = versus("lesion", "Baseline III", 0.022) + bad
    found = judged(rows)["lesion-f1-over-iii"]
    words = "Always saying the base rates has a smaller loss than the teacher resnet50 of RoS-KD."
    assert found["verdict"] == UNKNOWN and found["reason"] == words
    full = [r | {"setting": "teacher, full set"} for r in bad if r["setting"] == "teacher, subset" and r["value"] < 0]
    rest = [r for r in skill() if (r["setting"], r["student"]) != ("teacher, full set", "resnet50")]
    found = judged(versus("lesion", "Baseline I", 0.058) + versus("lesion", "Baseline III", 0.022)[3:] + full + rest)
    assert found["lesion-f1-over-i"]["verdict"] == HOLDS and found["lesion-f1-over-iii"]["verdict"] == UNKNOWN


def test_what_was_not_measured_bars_too():
    no_chance = without_skill(chance={})
    assert no_chance["verdict"] == UNKNOWN and no_chance["reason"] == "Chance was not measured (F1)."
    rows = versus("lesion", "Baseline I", 0.058) + [r for r in skill() if not r["setting"].startswith("teacher")]
    assert judged(rows)["lesion-f1-over-i"]["reason"] == "The teachers of RoS-KD were not measured."


def test_chance_and_teachers_are_those_of_the_same_variant_replicates_and_overlap():
    rows = overlaps("lesion", {0: 0.50, 0.4: 0.55}) + overlaps("chest", {0: 0.50, 0.4: 0.55})
    elsewhere = [r | {"value": 0.9} if r["setting"] in CHANCE and r["variant"] != "overlap" else r for r in skill()]
    later = [r | {"value": 0.9} for r in skill(replicates=(7,)) if r["setting"] in CHANCE]
    at_one = [r | {"value": -1.0} if r["variant_value"] == "1" else r for r in elsewhere]
    assert judged(rows + at_one + later)["overlap-helps"]["verdict"] == HOLDS
    here = [r | {"value": -1.0} if r["variant_value"] == "0.4" else r for r in skill()]
    assert judged(rows + here)["overlap-helps"]["verdict"] == UNKNOWN


def test_barred_comparisons_are_not_counted_in_the_correction():
    rows = versus("lesion", "Baseline I", 0.058) + versus("chest", "Baseline I", 0.045) + skill()
    low = [r | {"value": 0.9} if r["task"] == "chest" and r["setting"] in CHANCE else r for r in rows]
    assert "corrected for 1 comparison." in judged(low)["lesion-f1-over-i"]["reason"]
    assert "corrected for 2 comparisons." in judged(rows)["lesion-f1-over-i"]["reason"]


# attacks


def test_robustness_is_how_much_less_is_lost_not_the_lead_before():
    whole = versus("lesion", SAME_TEACHERS, 0.03)
    assert told("robust-lesion-fgsm", whole + attacked("lesion", "fgsm", 0.040, lead=0.1))["verdict"] == HOLDS
    found = told("robust-lesion-fgsm", whole + attacked("lesion", "fgsm", 0.0, lead=0.045))
    assert found["verdict"] == FAILS and found["ours"].startswith("0.000")
    pair = found["parts"][0]["pairs"].iloc[1]
    assert (pair["better"], pair["than"]) == pytest.approx((-0.2, -0.2))
    assert "By the paper's own tables the gain is +0.062." in found["reason"]


def test_an_attack_that_does_not_move_baseline_iii_tells_nothing():
    whole = versus("lesion", SAME_TEACHERS, 0.03)
    found = told("robust-lesion-pgd", whole + attacked("lesion", "pgd", 0.0, drop=0.0004))
    assert found["verdict"] == UNKNOWN
    assert f"The attack does not move {SAME_TEACHERS} (0.500 → 0.500)." in found["reason"]


def test_an_attack_is_decided_by_the_literal_l2_radius_of_the_study_and_the_other_norms_stand_beside_it():
    whole = versus("lesion", SAME_TEACHERS, 0.03)
    rows = [r for norm, gain in {"l2": 0.04, "linf": -0.05, "l2-scaled": 0.1}.items()
            for r in attacked("lesion", "fgsm", gain, norm)]  # fmt: skip
    farther = [r | {"eps": 2 * EPS, "value": 0.1 * (r["setting"] == "RoS-KD")} for r in rows if r["eps"] > 0]
    found = told("robust-lesion-fgsm", whole + rows + farther)
    assert found["verdict"] == HOLDS
    assert [(part["label"], part["ours"][:6], part["verdict"]) for part in found["parts"]] == [
        ("l2", "+0.040", HOLDS), ("linf", "−0.050", ""), ("l2-scaled", "+0.100", ""),
    ]  # fmt: skip
    frame = validate(pd.DataFrame(whole + rows + farther + skill()))
    assert judged(frame, eps=2 * EPS)["robust-lesion-fgsm"]["ours"].startswith("+0.070")


def test_the_attacked_images_have_a_chance_of_their_own():
    whole = versus("lesion", SAME_TEACHERS, 0.03) + attacked("lesion", "pgd", 0.023)
    high = [r | {"value": 0.51} if r["attack"] == "attacked sample" else r for r in skill()]
    found = judged(whole + high)["robust-lesion-pgd"]
    words = f"{SAME_TEACHERS} scores 0.500 in F1 on the images attacked, always saying the same scores 0.510."
    assert found["verdict"] == UNKNOWN and words in found["reason"]


# Table III, Fig. 4, run times


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(0.838, HOLDS), (0.8335, HOLDS), (0.845, BETTER), (0.833, UNKNOWN), (0.8281, BETTER), (0.80, FAILS)],
)
def test_the_mean_auroc_is_judged_against_the_printed_number_at_the_papers_scale_only(mean, expected):
    # +0.010 over the printed 0.828, tolerance 0.005
    assert told("auroc-mean", table3(mean))["verdict"] == expected
    other = told("auroc-mean", table3(mean), as_printed=False)
    assert other["verdict"] == UNKNOWN and "these runs are not" in other["reason"]


@pytest.mark.parametrize(("mean", "expected"), [(0.838, HOLDS), (0.80, HOLDS), (0.79, FAILS), (0.791, UNKNOWN)])
def test_most_of_the_published_methods_are_more_than_half_of_them(mean, expected):
    # 0.718, 0.753, 0.778, 0.786, 0.801, 0.821, 0.828, of which four have to be passed by 0.005
    found = told("abstract-auroc", table3(mean, jitter=JITTER if mean != 0.791 else 0.001))
    assert found["verdict"] == expected and len(found["parts"]) == 7
    assert "corrected for" not in found["reason"] or expected == UNKNOWN


def test_the_basin_is_one_number_a_training_and_levels_stand_beside_it():
    rows = basins("lesion", 0.1, levels=["0.5", "1"]) + basins("lesion", -0.05, levels=["2"]) + basins("chest", 0.1)
    whole = versus("lesion", "Baseline III", 0.02) + versus("chest", "Baseline III", 0.02)
    found = told("landscape-basin", whole + rows)
    assert found["verdict"] == HOLDS and found["ours"].startswith("lesion +0.050") and found["parts"][0]["found"].n == 3
    labels = [part["label"] for part in found["parts"] if not part["decides"]]
    assert labels[:3] == [f"lesion, loss within {level}" for level in ("0.5", "1", "2")]
    once = [r for r in rows if r["replicate"] == 0]  # many directions through one training are one training
    assert "One replicate gives no interval" in told("landscape-basin", whole + once)["reason"]


def test_batchnorm_as_copied_is_not_the_basin_of_the_claim():
    rows = basins("lesion", 0.1) + basins("chest", 0.1)
    copied = [r | {"variant_value": "BatchNorm as copied", "value": 0.0} for r in rows if r["setting"] == "RoS-KD"]
    assert told("landscape-basin", rows + copied)["ours"] == told("landscape-basin", rows)["ours"]


@pytest.mark.parametrize(
    ("ratio", "cheap", "costly"), [(1.01, HOLDS, FAILS), (1.05, UNKNOWN, UNKNOWN), (1.19, FAILS, HOLDS)]
)
def test_run_times_are_judged_as_ratios(ratio, cheap, costly):
    rows = [r for task in TASKS for r in seconds(task, averaging=ratio, reinforcement=ratio, jitter=1e-4)]
    found = told("averaging-cost", rows)
    assert found["verdict"] == cheap and told("reinforcement-cost", rows)["verdict"] == costly
    assert f"lesion ×{ratio:.2f} (×{ratio:.2f} to ×{ratio:.2f}, n = 3)" in found["ours"]
    assert judged(rows)["averaging-cost"]["verdict"] == cheap  # whether the networks have learned anything


# the verdict on Table I, the sentence, the picture


OFFSETS = {"Baseline I": 0.058, "Baseline II": 0.01, "Baseline III": -0.04, "Baseline V": 0.0005}


def lines(task="lesion", offsets=OFFSETS, *, spread=0.0003, replicates=THREE, chance=CONSTANTS, margin=0.1, **measured):
    """RoS-KD at 0.6 in F1 and mean AUROC, each other setting below it by its offset, give or take `spread`."""
    rows = [
        r for i in replicates for setting in ROWS
        for value in [0.6 - offsets.get(setting, 0.0) + (spread * (i - 1) if setting != "RoS-KD" else 0)]
        for r in score(task, setting, i, value, value)
    ]  # fmt: skip
    frame = validate(pd.DataFrame(rows + skill(replicates, chance, margin)))
    return table1_verdict(Measured(frame, TASKS, eps=EPS, as_printed=False), task, "resnet18")


def test_table_one_says_where_ros_kd_wins_loses_and_shows_nothing():
    assert sentence(lines()) == (
        "by F1 (weighted), over 3 replicates, RoS-KD beats Baseline I and Baseline II; it is worse than Baseline III; it is not "
        "shown to beat Baseline III with subset teachers, Baseline IV and Baseline V."
    )
    # differences 0.059, 0.058, 0.057: mean 0.058, std 0.001, t(0.975, 2) = 4.302653
    first = lines(spread=0.001).iloc[0]
    assert (first["mean"], first["paper"], first["n"]) == (pytest.approx(0.058), pytest.approx(0.058), 3)
    assert first["high"] - first["mean"] == pytest.approx(4.302653 * 0.001 / math.sqrt(3), rel=1e-6)


def test_a_difference_is_shown_only_after_correction_for_all_lines():
    found = lines(spread=0.003)
    p = [stats.ttest_rel(pair["better"], pair["than"]).pvalue for pair in found["pairs"]]
    corrected = multipletests(p, method="holm")[1]
    assert found["p"].tolist() == pytest.approx(list(corrected)) and p[1] < 0.05 < corrected[1] and corrected[2] < 0.05
    assert found["says"].tolist() == ["beats", "is not shown to beat", "is worse than", *["is not shown to beat"] * 3]


def test_several_labels_are_judged_by_mean_auroc_first_which_f1_at_chance_does_not_bar():
    found = lines("chest")
    assert found["metric"].tolist() == ["mean AUROC (macro)"] * 6 + ["F1 (micro)"] * 6
    assert found["paper"].isna().tolist()[:7] == [True] * 6 + [False]  # Table I has no AUROC
    barred = lines("chest", chance=CONSTANTS | {"best constant": 0.7})
    assert barred["says"].tolist()[:3] == ["beats", "beats", "is worse than"]
    assert set(barred["says"][6:]) == {"cannot be compared with"}
    assert sentence(barred) == sentence(found)


def test_what_cannot_be_compared_is_said_with_what_all_reasons_have_in_common():
    found = lines(chance=CONSTANTS | {"best constant": 0.56})
    assert sentence(found).endswith(
        "it cannot be compared with Baseline I: Baseline I scores 0.542 in F1, always saying the same scores 0.560."
    )
    low = sentence(lines(chance=CONSTANTS | {"best constant": 0.7}))
    assert low.endswith("RoS-KD cannot be compared with any other setting: RoS-KD scores 0.600 in F1, always saying the same "
                        "scores 0.700.")  # fmt: skip
    assert "smaller loss than the teachers" in lines(margin=-0.1)["why"][0]
    assert sentence(lines(replicates=[0])) == (
        "by F1 (weighted), over one replicate, RoS-KD cannot be compared with any other setting: One replicate gives no interval."
    )
    assert "nothing to compare yet" in sentence(lines().iloc[:0])


def test_a_difference_that_is_not_a_number_cannot_be_told():
    rows = versus("lesion", "Baseline I", 0.058, jitter=math.nan)
    found = told("lesion-f1-over-i", rows)
    assert found["verdict"] == UNKNOWN and "not" in found["reason"]


def test_the_table_the_tally_and_the_picture_have_every_claim():
    found = list(judged(everything()).values())
    table = claims_table(found)
    assert list(table.columns) == ["claim", "in the paper", "ours", "verdict", "why"] and len(table) == len(CLAIMS)
    assert tally(found) == f"Of the paper's {len(CLAIMS)} claims {len(CLAIMS)} hold."
    labels = [tick.get_text() for ax in forest(found).axes for tick in ax.get_yticklabels()]
    assert len(set(labels)) == len(CLAIMS) and "lesion FGSM over Baseline III" in labels


def test_in_a_study_of_one_task_the_claims_about_the_other_have_a_line_without_a_point():
    found = list(judged(everything(), tasks={"lesion": TASKS["lesion"]}).values())
    assert any(not [part for part in claim["parts"] if part["decides"] and part["found"]] for claim in found)
    labels = [tick.get_text() for ax in forest(found).axes for tick in ax.get_yticklabels()]
    assert len(set(labels)) == len(CLAIMS)


# the list of claims


def after(task, attack, setting):
    [found] = [r for r in PAPER["table2"]["rows"] if (r["task"], r["attack"], r["setting"]) == (task, attack, setting)]
    return np.array([found["after"]["f1"], found["before"]["f1"]])


def gain_in_tables(claim):
    """The gain as the paper's own tables give it, or None where they have none (Figs. 2 to 4, run times)."""
    better, than = claim["comparison"]["better"], claim["comparison"]["than"].removesuffix(", subset teachers")
    means = {method["method"]: method["mean"] for method in PAPER["table3"]["methods"]}
    if claim["metric"] == "auroc":
        return means[better] - means[than] if than in means else None
    if "attack" in claim:
        return (after(claim["task"], claim["attack"], better) - after(claim["task"], claim["attack"], than))[0]
    if claim["student"] != "resnet18" or than not in PAPER["settings"] or claim["metric"] != "f1":
        return None
    return PAPER["table1"][claim["task"]][better]["f1"] - PAPER["table1"][claim["task"]][than]["f1"]


@pytest.mark.parametrize("claim", PAPER["claims"], ids=lambda claim: claim["id"])
def test_a_claim_contradicts_the_tables_exactly_where_it_is_marked(claim):
    comparison, found = claim["comparison"], gain_in_tables(claim)
    if found is None:
        assert "contradicts" not in claim
    elif "more_than" in comparison:
        assert found > comparison["more_than"]
    else:
        printed = claim.get("printed", comparison["gain"])
        assert (round(found, 3) != round(printed, 3)) == ("contradicts" in claim)
        if "contradicts" in claim:
            assert claim["from_tables"] == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("claim", [c for c in PAPER["claims"] if "attack" in c], ids=lambda claim: claim["id"])
def test_the_gain_in_robustness_is_that_of_table_iis_falls(claim):
    changes = [np.subtract(*after(claim["task"], claim["attack"], setting)) for setting in ("RoS-KD", "Baseline III")]
    assert claim["comparison"]["gain"] == pytest.approx(changes[0] - changes[1], abs=1e-9)


def test_a_tolerance_tells_the_printed_gain_from_none():
    for claim in PAPER["claims"]:
        assert ("tolerance" in claim) == ("gain" in claim["comparison"])
        if "tolerance" in claim:
            half = min(0.015, claim["comparison"]["gain"] / 2)
            assert half - 0.0006 <= claim["tolerance"] <= half


def test_claims_are_complete_have_rules_and_point_at_notes_that_exist():
    notes = {note["id"] for note in PAPER["contradictions"]}
    assert len(CLAIMS) == len(PAPER["claims"]) and len(notes) == len(PAPER["contradictions"])
    for claim in PAPER["claims"]:
        assert {"id", "says", "where", "task", "metric", "comparison", "student"} <= set(claim)
        assert claim.get("contradicts", next(iter(notes))) in notes
        several = isinstance(claim["task"], list) or claim["student"] == "all"
        several |= "methods" in claim["comparison"]["than"]
        assert claim.get("rule") in PAPER["rules"] if several else "rule" not in claim
    used = {claim["contradicts"] for claim in PAPER["claims"] if "contradicts" in claim}
    assert used == {"chest-gain-over-i", "chest-gain-over-iv", "robustness-lesion-swapped", "robustness-chest-swapped"}
