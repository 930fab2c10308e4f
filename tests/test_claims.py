"""The claims: judged on the right measurements, by equivalence and corrected p-values, and only where there is skill."""

import functools
import math
from itertools import product

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
from rosutils.paper.decisions import VERDICTS, Bounds, bounds, decide, holm, p_values
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


def measured(task, setting, value, *, replicates=THREE, jitter=0.0, **columns):
    """A measurement in each replicate, of F1 as printed if nothing else is said: value - jitter, value, value + jitter."""
    blank = {"student": "resnet18", "variant": "", "variant_value": "", "attack": "", "eps": math.nan, "norm": "",
             "class": "", "metric": "f1"}  # fmt: skip
    found = blank | {"task": task, "setting": setting} | columns
    average = PRINTED_AVERAGE[TASKS[task]["multilabel"]] if found["metric"] == "f1" else ""
    run = f"run-{setting}-{found['variant']}{found['variant_value']}-".replace(" ", "").replace("--", "-")
    each = ({"replicate": i, "value": value + jitter * (i - 1), "run": f"{run}{i}"} for i in replicates)
    return [{"average": average} | found | one for one in each]


def scores(task, setting, f1, auroc=0.7, **which):
    """What an evaluation measures: F1, which alone has the jitter, and mean AUROC."""
    still = which | {"jitter": 0.0, "metric": "auroc", "average": "macro"}
    return measured(task, setting, f1, **which) + measured(task, setting, auroc, **still)


def versus(task, than, gain, *, jitter=JITTER, **which):
    """RoS-KD at 0.5 and another setting below it by the gain, give or take the jitter with the replicate."""
    return scores(task, "RoS-KD", 0.5, **which) + scores(task, than, 0.5 - gain, jitter=jitter, **which)


def overlaps(task, values, *, jitter=JITTER, **which):
    points = {
        ratio: {"variant": "overlap", "variant_value": f"{ratio:g}", "jitter": jitter * ratio} for ratio in values
    }
    return [r for ratio, at in points.items() for r in scores(task, "RoS-KD", values[ratio], **at, **which)]


def attacked(task, attack, gain, norm="l2", *, jitter=JITTER, drop=0.2, lead=0.03, **which):
    """Both are attacked from 0.5, RoS-KD from the lead above it: Baseline III loses the drop, RoS-KD less by the gain."""
    rows, which = [], which | {"attack": attack, "norm": norm}
    for setting, top, less, spread in (("RoS-KD", 0.5 + lead, gain, jitter), (SAME_TEACHERS, 0.5, 0, 0)):
        rows += measured(task, setting, top, eps=0.0, **which)
        rows += measured(task, setting, top - drop + less, eps=EPS, jitter=spread, **which)
    return rows


def table3(mean, *, jitter=JITTER, **which):
    which |= {"variant": "table3", "student": "densenet121"}
    auroc = measured("chest", "RoS-KD", mean, jitter=jitter, metric="auroc", average="macro", **which)
    return auroc + measured("chest", "RoS-KD", 0.4, **which)


def basins(task, gain, *, jitter=JITTER, levels=("0.5", "1", "2"), directions=(0, 1), **which):
    which |= {"variant": "landscape", "metric": "basin_area"}
    sides = (("RoS-KD", 0.5, 0.0), ("Baseline III", 0.5 - gain, jitter))
    return [
        r for level in levels for turn in directions for setting, value, spread in sides
        for r in measured(task, setting, value + turn / 10, jitter=spread, average=level, **which | {"class": f"directions {turn}"})
    ]  # fmt: skip


def seconds(task, *, averaging=1.02, reinforcement=1.4, jitter=JITTER, **which):
    times = {
        "Baseline III": (100.0, 0),
        "RoS-KD": (100.0 * averaging, jitter),
        "Baseline IV": (100.0 * reinforcement, jitter),
    }
    each = ((name, time, time * spread) for name, (time, spread) in times.items())
    return [
        r for name, time, spread in each for r in measured(task, name, time, jitter=spread, metric="seconds", **which)
    ]


def skill(replicates=THREE, chance=CONSTANTS, margin=0.1):
    """Chance, and teachers above the base rates by the margin, in every variant."""
    rows = []
    for task, (variant, point) in product(TASKS, VARIANTS):
        where = {"variant": variant, "variant_value": point, "replicates": replicates}
        for name, value in chance.items():
            rows += scores(task, name, value, auroc=0.5, student="", **where)
            rows += measured(task, name, value, attack="attacked sample", student="", **where)
        for pool, student in product(TEACHERS, STUDENTS):
            rows += measured(task, pool, margin, metric="validation_skill", student=student, **where)
    return rows


def printed_gain(task, setting, student="resnet18", place="Table I"):
    """What the text says RoS-KD gains over a setting, or 0.03 where it says nothing."""
    which = (task, setting, student)
    about = [
        c
        for c in PAPER["claims"]
        if (c["task"], c["comparison"]["than"], c["student"]) == which and place in c["where"]
    ]
    return next((claim["comparison"]["gain"] for claim in about if "gain" in claim["comparison"]), 0.03)


@functools.cache
def everything(scale=1.0, **which):
    """One measurement for everything that a claim is about: every gain as printed, times the scale."""
    rows = table3(0.838, **which) + skill(which.get("replicates", THREE))
    for task in TASKS:
        for setting in ROWS[:-1]:
            rows += versus(task, setting, scale * printed_gain(task, setting), **which)
        for student in STUDENTS:
            gain = scale * printed_gain(task, "Baseline III", student, "Fig. 2")
            rows += versus(task, "Baseline III", gain, student=student, variant="students", **which)
        rows += overlaps(task, {0: 0.5, 0.4: 0.5 + scale * 0.05, 1: 0.5 - scale * 0.05}, **which)
        rows += basins(task, scale * 0.05, **which) + seconds(task, **which)
        for attack, norm in product(("fgsm", "pgd"), ("l2", "linf", "l2-scaled")):
            gain = scale * CLAIMS[f"robust-{task}-{attack}"]["comparison"]["gain"]
            rows += attacked(task, attack, gain, norm, **which)
    return validate(pd.DataFrame(rows))


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
    corrected = [holm(p, values) for p in values]
    assert corrected == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert corrected == pytest.approx([0.03, 0.06, 0.004, 0.06])
    # said of one of the four
    assert (holm(0.0001, values), holm(0.02, values), holm(0.97, values)) == pytest.approx((0.0004, 0.04, 0.97))


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


@pytest.mark.parametrize(
    ("kind", "sd", "studies"),
    [
        ("equal", 0.002, 200), ("equal", 0.03, 60), ("as claimed", 0.0005, 100), ("as claimed", 0.01, 100),
        ("on the edge", 0.002, 100),
    ],
)  # fmt: skip
def test_five_studies_in_a_hundred_at_most_say_what_is_not_so(kind, sd, studies):
    # where all settings are equal, that "below the printed gain" or "at most 5 % more time" is so; that anything is better
    # or worse, or a gain as printed, is not
    true = true_differences(kind)
    wrong = sum(says_what_is_not_so(study, true) for study in simulated(true, sd=sd, studies=studies))
    assert wrong <= 0.05 * studies + 2 * math.sqrt(0.05 * 0.95 * studies)  # two standard deviations more


# from measurements to verdicts


@functools.cache
def as_printed(scale=1.0, task=None):
    """The verdicts where every difference is as printed, times the scale; in a study of one task, if it is given."""
    return judged(everything(scale), {task: TASKS[task]} if task else TASKS)


def test_every_claim_holds_where_every_difference_is_as_printed():
    assert {claim["verdict"] for claim in as_printed().values()} == {HOLDS}
    assert all(claim["ours"] and claim["reason"] for claim in as_printed().values())


def test_where_everything_is_the_other_way_round_no_claim_of_a_gain_holds():
    # but those which the gains do not move
    others = {name for name, claim in as_printed(-1.0).items() if claim["verdict"] != FAILS}
    assert others == {"auroc-mean", "abstract-auroc", "averaging-cost", "reinforcement-cost"}


@pytest.mark.parametrize("results", [everything(replicates=(0,)), everything().iloc[:0]], ids=["one", "none"])
def test_one_replicate_never_decides_and_what_is_missing_is_not_run(results):
    for claim in judged(results).values():
        assert claim["verdict"] == (UNKNOWN if len(results) else NOT_RUN) and claim["parts"]
        assert ("One replicate gives no interval" if len(results) else "Not run: it needs") in claim["reason"]


def over_i(gain, **which):
    return versus("lesion", "Baseline I", gain, **which)


def students(gain, *names):
    return [r for name in names for r in versus("chest", "Baseline III", gain, student=name, variant="students")]


def lost(attack, gain, **which):
    return versus("lesion", SAME_TEACHERS, 0.03) + attacked("lesion", attack, gain, **which)


def run_times(ratio):
    return [r for task in TASKS for r in seconds(task, averaging=ratio, reinforcement=ratio, jitter=1e-4)]


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        # +0.058, tolerance 0.015; one comparison, so the interval is the gain ± 0.000025
        ("lesion-f1-over-i", over_i, {0.058: HOLDS, 0.0435: HOLDS, 0.0425: BETTER, 0.0735: BETTER, 0.043: UNKNOWN, 0: FAILS,
                                      -0.01: FAILS, math.nan: UNKNOWN}),
        # more than 0.02
        ("abstract-lesion", lambda gain: versus("lesion", "Baseline III", gain),
         {0.05: HOLDS, 0.01: BETTER, -0.01: FAILS, 0.02: UNKNOWN, 0: FAILS}),
        # +0.010 over the printed 0.828, tolerance 0.005
        ("auroc-mean", table3, {0.838: HOLDS, 0.8335: HOLDS, 0.845: BETTER, 0.833: UNKNOWN, 0.8281: BETTER, 0.8: FAILS}),
        # 0.718, 0.753, 0.778, 0.786, 0.801, 0.821, 0.828, of which four have to be passed by 0.005
        ("abstract-auroc", table3, {0.838: HOLDS, 0.8: HOLDS, 0.79: FAILS}),
        ("abstract-auroc", lambda mean: table3(mean, jitter=0.001), {0.791: UNKNOWN}),
        # whether the networks have learned anything or not
        ("averaging-cost", run_times, {1.01: HOLDS, 1.05: UNKNOWN, 1.19: FAILS}),
        ("reinforcement-cost", run_times, {1.01: FAILS, 1.05: UNKNOWN, 1.19: HOLDS}),
    ],
)  # fmt: skip
def test_the_place_of_the_difference_decides(name, rows, expected):
    assert {place: told(name, rows(place))["verdict"] for place in expected} == expected


OVERLAPS = overlaps("lesion", {0: 0.50, 0.4: 0.55, 1: 0.52}) + overlaps("chest", {0: 0.50, 0.4: 0.55, 1: 0.52})
CHEST = versus("chest", "Baseline III", 0.041)
FOUR = [name for name in STUDENTS if name != "resnet50"]
CASES = {
    "as printed": ("lesion-f1-over-i", over_i(0.058), HOLDS, "Ours is within 0.015 of the printed +0.058"),
    "less": ("lesion-f1-over-i", over_i(0.0425), BETTER, "below +0.043"),
    "more": ("lesion-f1-over-i", over_i(0.0735), BETTER, "above +0.073 (p < 0.001) and above 0.000 (p < 0.001)"),
    "a gain at least": ("lesion-f1-over-i", over_i(0.043), UNKNOWN, "it is above 0.000"),
    "worse": ("lesion-f1-over-i", over_i(-0.01), FAILS, "below +0.043 (p < 0.001) and below 0.000"),
    "overlap 0.4 over 0": ("overlap-helps", OVERLAPS, HOLDS, ""),
    "overlap 0 over 1": ("overlap-none-over-full", OVERLAPS, FAILS, ""),
    "not those of Fig. 2": ("chest-f1-over-iii", CHEST + students(-0.041, "resnet18"), HOLDS, ""),
    "those of Fig. 2": ("chest-resnet18", CHEST + students(-0.041, "resnet18"), FAILS, ""),
    "not those of Table I": ("chest-resnet18", CHEST, NOT_RUN, ""),
    "all students": ("students-all", students(0.03, *STUDENTS), HOLDS, ""),
    "one missing": ("students-all", students(0.03, *FOUR), UNKNOWN, "Not run: chest, resnet50."),
    "one worse": ("students-all", students(0.03, *FOUR) + students(-0.03, "resnet50"), FAILS, "Does not hold: chest, resnet50."),
    "F1 above chance, AUROC not": (
        "chest-f1-over-iii", scores("chest", "RoS-KD", 0.5, 0.5) + scores("chest", "Baseline III", 0.459, 0.5, jitter=JITTER),
        UNKNOWN, "RoS-KD scores 0.500 in mean AUROC, always saying the same scores 0.500",
    ),
    "less lost": ("robust-lesion-fgsm", lost("fgsm", 0.04, lead=0.1), HOLDS, "By the paper's own tables the gain is +0.062."),
    "the lead before": ("robust-lesion-fgsm", lost("fgsm", 0.0, lead=0.045), FAILS, ""),
    "an attack that moves nothing": ("robust-lesion-pgd", lost("pgd", 0.0, drop=0.0004), UNKNOWN,
                                     f"The attack does not move {SAME_TEACHERS} (0.500 → 0.500)."),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_claim_is_decided_and_says_why(case):
    name, rows, verdict, words = CASES[case]
    found = told(name, rows)
    assert found["verdict"] == verdict and words in found["reason"]


def test_the_width_counts_not_the_mean_alone():
    # the mean is the printed gain and the interval lies above zero, but it reaches out of the tolerance
    found = told("lesion-f1-over-i", over_i(0.058, jitter=0.01))
    assert found["parts"][0]["found"].low > 0 and found["verdict"] == UNKNOWN
    assert found["ours"] == "+0.058 (+0.033 to +0.083, n = 3)"
    assert "lesion ×1.01 (×1.01 to ×1.01, n = 3)" in told("averaging-cost", run_times(1.01))["ours"]


def test_a_difference_that_stands_alone_may_not_stand_among_many():
    alone = versus("lesion", "Baseline V", 0.011, jitter=0.0015)
    found = told("averaging-lesion", alone)
    assert found["verdict"] == HOLDS and "(p = 0.024)" in found["reason"]
    others = [r for than in ROWS[:3] for r in versus("chest", than, 0.02, jitter=0.05)]
    found = told("averaging-lesion", alone + others)
    assert found["verdict"] == UNKNOWN and "not shown to be within" in found["reason"]


def test_the_mean_auroc_is_judged_at_the_papers_scale_only():
    found = told("auroc-mean", table3(0.838), as_printed=False)
    assert found["verdict"] == UNKNOWN and "these runs are not" in found["reason"]


def test_several_claims_about_one_comparison_are_corrected_as_one_and_barred_ones_do_not_count():
    one = versus("lesion", "Baseline III", 0.03)  # of abstract-lesion, and of lesion-f1-over-iii
    two = one + versus("chest", "Baseline III", 0.03)
    low = [r | {"value": 0.9} if r["task"] == "chest" and r["setting"] in CHANCE else r for r in two + skill()]
    for rows, count in ((one + skill(), "1 comparison."), (two + skill(), "2 comparisons."), (low, "1 comparison.")):
        assert f"corrected for {count}" in judged(rows)["abstract-lesion"]["reason"]


def test_a_claim_over_two_tasks_does_not_hold_by_one_task_alone():
    for claim in as_printed(task="lesion").values():
        if isinstance(claim["task"], list):
            assert claim["verdict"] == UNKNOWN and "chest, which the profile lacks" in claim["reason"]


def test_mean_auroc_stands_beside_f1_where_images_have_several_labels_and_does_not_decide():
    rows = scores("chest", "RoS-KD", 0.6, 0.8) + scores("chest", "Baseline III", 0.62, 0.6, jitter=JITTER)
    found = told("chest-f1-over-iii", rows)
    assert found["verdict"] == FAILS
    [_, auroc] = found["parts"]
    assert (auroc["label"], auroc["ours"][:6], auroc["decides"]) == ("chest, mean AUROC", "+0.200", False)
    assert len(as_printed()["lesion-f1-over-iii"]["parts"]) == 1


# where nothing can be told


def without_skill(**changes):
    found = judged(versus("lesion", "Baseline I", 0.058) + skill(**changes))["lesion-f1-over-i"]
    assert found["verdict"] == UNKNOWN and found["ours"].startswith("+0.058")
    return found["reason"]


def test_a_setting_at_chance_is_not_judged_and_the_reason_has_both_numbers():
    one = "Baseline I scores 0.442 in F1, always saying the same scores 0.460."
    assert without_skill(chance=CONSTANTS | {"best constant": 0.46}) == one
    assert without_skill(chance=CONSTANTS | {"random scores, 97.5 %": 0.6}) == (
        "RoS-KD scores 0.500 in F1, 2.5 % of random scores reach 0.600; "
        "Baseline I scores 0.442 in F1, 2.5 % of random scores reach 0.600."
    )


def test_teachers_below_the_base_rates_bar_what_they_taught_and_nothing_else():
    def taught(low):
        bad = [r | {"value": -0.1} if (r["setting"], r["student"]) == (low, "resnet50") else r for r in skill()]
        return judged(versus("lesion", "Baseline I", 0.058) + versus("lesion", "Baseline III", 0.022) + bad)

    words = "Always saying the base rates has a smaller loss than the teacher resnet50 of RoS-KD."
    found = taught("teacher, subset")["lesion-f1-over-iii"]
    assert found["verdict"] == UNKNOWN and found["reason"] == words
    found = taught("teacher, full set")
    assert found["lesion-f1-over-i"]["verdict"] == HOLDS and found["lesion-f1-over-iii"]["verdict"] == UNKNOWN


def test_what_was_not_measured_bars_too():
    assert without_skill(chance={}) == "Chance was not measured (F1)."
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


# attacks


def test_robustness_is_the_difference_of_what_is_lost():
    found = told("robust-lesion-fgsm", lost("fgsm", 0.0, lead=0.045))
    pair = found["parts"][0]["pairs"].iloc[1]
    assert (pair["better"], pair["than"]) == pytest.approx((-0.2, -0.2)) and found["ours"].startswith("0.000")


def test_an_attack_is_decided_by_the_literal_l2_radius_of_the_study_and_the_other_norms_stand_beside_it():
    rows = [r for norm, gain in {"l2": 0.04, "linf": -0.05, "l2-scaled": 0.1}.items()
            for r in attacked("lesion", "fgsm", gain, norm)]  # fmt: skip
    whole = versus("lesion", SAME_TEACHERS, 0.03)
    farther = [r | {"eps": 2 * EPS, "value": 0.1 * (r["setting"] == "RoS-KD")} for r in rows if r["eps"] > 0]
    found = told("robust-lesion-fgsm", whole + rows + farther)
    assert found["verdict"] == HOLDS
    assert [(part["label"], part["ours"][:6], part["verdict"]) for part in found["parts"]] == [
        ("l2", "+0.040", HOLDS), ("linf", "−0.050", ""), ("l2-scaled", "+0.100", ""),
    ]  # fmt: skip
    assert told("robust-lesion-fgsm", whole + rows + farther, eps=2 * EPS)["ours"].startswith("+0.070")


def test_the_attacked_images_have_a_chance_of_their_own():
    high = [r | {"value": 0.51} if r["attack"] == "attacked sample" else r for r in skill()]
    found = judged(lost("pgd", 0.023) + high)["robust-lesion-pgd"]
    words = f"{SAME_TEACHERS} scores 0.500 in F1 on the images attacked, always saying the same scores 0.510."
    assert found["verdict"] == UNKNOWN and words in found["reason"]


# Fig. 4


def test_the_basin_is_one_number_a_training_and_levels_stand_beside_it():
    rows = basins("lesion", 0.1, levels=["0.5", "1"]) + basins("lesion", -0.05, levels=["2"]) + basins("chest", 0.1)
    whole = versus("lesion", "Baseline III", 0.02) + versus("chest", "Baseline III", 0.02)
    found = told("landscape-basin", whole + rows)
    assert found["verdict"] == HOLDS and found["ours"].startswith("lesion +0.050") and found["parts"][0]["found"].n == 3
    labels = [part["label"] for part in found["parts"] if not part["decides"]]
    assert labels[:3] == [f"lesion, loss within {level}" for level in ("0.5", "1", "2")]
    once = [r for r in rows if r["replicate"] == 0]  # many directions through one training are one training
    assert "One replicate gives no interval" in told("landscape-basin", whole + once)["reason"]
    copied = [r | {"variant_value": "BatchNorm as copied", "value": 0.0} for r in rows if r["setting"] == "RoS-KD"]
    assert told("landscape-basin", whole + rows + copied)["ours"] == found["ours"]


# the verdict on Table I, the sentence, the picture


OFFSETS = {"Baseline I": 0.058, "Baseline II": 0.01, "Baseline III": -0.04, "Baseline V": 0.0005}


def lines(task="lesion", *, spread=0.0003, replicates=THREE, chance=CONSTANTS, margin=0.1):
    """RoS-KD at 0.6 in F1 and mean AUROC, each other setting below it by its offset, give or take `spread`."""
    rows = skill(replicates, chance, margin)
    for setting in ROWS:
        how = {"jitter": 0.0 if setting == "RoS-KD" else spread, "replicates": replicates}
        for metric in ({"metric": "f1"}, {"metric": "auroc", "average": "macro"}):
            rows += measured(task, setting, 0.6 - OFFSETS.get(setting, 0.0), **metric, **how)
    here = Measured(validate(pd.DataFrame(rows)), TASKS, eps=EPS, as_printed=False)
    return table1_verdict(here, task, "resnet18")


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


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"chance": CONSTANTS | {"best constant": 0.56}}, "it cannot be compared with Baseline I: Baseline I scores 0.542 in F1, "
         "always saying the same scores 0.560."),
        ({"chance": CONSTANTS | {"best constant": 0.7}}, "RoS-KD cannot be compared with any other setting: RoS-KD scores 0.600 "
         "in F1, always saying the same scores 0.700."),
        ({"margin": -0.1}, "resnet34 and resnet50 of RoS-KD."),
        ({"replicates": [0]}, "by F1 (weighted), over one replicate, RoS-KD cannot be compared with any other setting: One "
         "replicate gives no interval."),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_with_what_all_reasons_have_in_common(which, words):
    assert sentence(lines(**which)).endswith(words)


def test_the_table_the_tally_and_the_picture_have_every_claim():
    found = list(as_printed().values())
    table = claims_table(found)
    assert list(table.columns) == ["claim", "in the paper", "ours", "verdict", "why"] and len(table) == len(CLAIMS)
    assert tally(found) == f"Of the paper's {len(CLAIMS)} claims {len(CLAIMS)} hold."
    alone = list(as_printed(task="lesion").values())  # the claims about the other task have a line without a point
    assert any(not [part for part in claim["parts"] if part["decides"] and part["found"]] for claim in alone)
    for claims in (found, alone):
        labels = {tick.get_text() for ax in forest(claims).axes for tick in ax.get_yticklabels()}
        assert len(labels) == len(CLAIMS) and "lesion FGSM over Baseline III" in labels


# the list of claims


def fall(claim, setting):
    """F1 after the attack, and how much it is above that before."""
    of = (claim["task"], claim["attack"], setting)
    [row] = [r for r in PAPER["table2"]["rows"] if (r["task"], r["attack"], r["setting"]) == of]
    return np.array([row["after"]["f1"], row["after"]["f1"] - row["before"]["f1"]])


def gain_in_tables(claim):
    """The gain as the paper's own tables give it, or None where they have none (Figs. 2 to 4, run times)."""
    better, than = claim["comparison"]["better"], claim["comparison"]["than"].removesuffix(", subset teachers")
    means = {method["method"]: method["mean"] for method in PAPER["table3"]["methods"]}
    if claim["metric"] == "auroc":
        return means[better] - means[than] if than in means else None
    if "attack" in claim:
        after, less = fall(claim, better) - fall(claim, than)
        assert claim["comparison"]["gain"] == pytest.approx(less, abs=1e-9)  # in robustness: that of Table II's falls
        return after
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


def test_claims_are_complete_have_rules_point_at_notes_that_exist_and_a_tolerance_tells_the_gain_from_none():
    notes = {note["id"] for note in PAPER["contradictions"]}
    assert len(CLAIMS) == len(PAPER["claims"]) and len(notes) == len(PAPER["contradictions"])
    for claim in PAPER["claims"]:
        assert {"id", "says", "where", "task", "metric", "comparison", "student"} <= set(claim)
        several = isinstance(claim["task"], list) or claim["student"] == "all"
        several |= "methods" in claim["comparison"]["than"]
        assert claim.get("rule") in PAPER["rules"] if several else "rule" not in claim
        assert ("tolerance" in claim) == ("gain" in claim["comparison"])
        if "tolerance" in claim:
            half = min(0.015, claim["comparison"]["gain"] / 2)
            assert half - 0.0006 <= claim["tolerance"] <= half
    used = {claim["contradicts"] for claim in PAPER["claims"] if "contradicts" in claim}
    assert (
        used
        == {"chest-gain-over-i", "chest-gain-over-iv", "robustness-lesion-swapped", "robustness-chest-swapped"}
        <= notes
    )
