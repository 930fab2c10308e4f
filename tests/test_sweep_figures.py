"""Fig. 2, Fig. 3, the readings and the label-noise figures show what the results say, worked out by hand here."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rosutils import InputError, figures
from rosutils.figures.look import SETTING_STYLES
from rosutils.figures.scores import NO_SKILL
from rosutils.results import validate
from rosutils.settings import CHANCE, PRINTED_AVERAGE, TEACHERS


WATERMARK = "profile demo · synthetic images · not comparable with the paper"
TASKS = {
    "lesion": {"multilabel": False, "class_names": ["a", "b"]},
    "chest": {"multilabel": True, "class_names": ["c", "d"]},
}
METHODS = ("Baseline I", "Baseline III", "Baseline V", "RoS-KD")
STUDENTS = ("densenet121", "mobilenet_v2", "resnet18")
SEEDS = (0, 1, 2)
SPREAD = {0: 0.0, 1: 0.01, 2: 0.05}  # what a replicate adds; mean 0.02, standard deviation below
STD = np.std(list(SPREAD.values()), ddof=1)
BASE = {"lesion": 0.6, "chest": 0.3}
GAIN = {"Baseline I": 0, "Baseline III": 0.02, "Baseline V": 0.04, "RoS-KD": 0.06} | dict.fromkeys(TEACHERS, 0.01)
GAIN |= dict(zip(CHANCE, (-0.2, -0.29, -0.21), strict=True))
CHANCE_AT = -0.2 + 0.02  # the highest of their means, from the task's base


def rows(variant, *, settings=("RoS-KD",), seeds=SEEDS, add=0.0, **columns):
    return [
        {"task": task, "setting": setting, "student": "resnet18", "variant": variant, "replicate": seed,
         "overlap": np.nan, "noise": 0.0,
         "attack": "", "eps": np.nan, "norm": "", "class": "", "average": PRINTED_AVERAGE[about["multilabel"]], "metric": "f1",
         "value": BASE[task] + GAIN[setting] + SPREAD[seed] + add, "run": "r"} | columns
        for task, about in TASKS.items() for setting in settings for seed in seeds
    ]  # fmt: skip


def table(*blocks):
    return validate(pd.DataFrame([row for block in blocks for row in block]))


def no_skill(variant, **options):
    """What it scores, and 0.1 more on the sample that is attacked."""
    known = {"settings": CHANCE, "student": ""} | options
    attacked = known | {"attack": "attacked sample", "add": known.get("add", 0.0) + 0.1}
    return [*rows(variant, **known), *rows(variant, **attacked)]


# Rows that no figure of a sweep may take: Table I's own, and those of an attack.
ELSEWHERE = [
    *rows("", settings=METHODS, add=0.3),
    *no_skill("", add=0.3),
    *rows("overlap", overlap=0.4, attack="pgd", eps=0.005, norm="l2", add=-0.3),
]


def students(seeds=SEEDS):
    settings = ("Baseline III", "RoS-KD")
    return table(ELSEWHERE, no_skill("students", seeds=seeds),
                 *(rows("students", settings=settings, seeds=seeds, student=name, add=place / 100)
                   for place, name in enumerate(STUDENTS)))  # fmt: skip


def overlaps(seeds=SEEDS):
    swept = (
        rows("overlap", settings=("Baseline V", "RoS-KD"), seeds=seeds, overlap=p, add=-p / 10) for p in (0, 0.4, 1)
    )
    chance = no_skill("overlap", seeds=seeds)
    return table(ELSEWHERE, rows("overlap", settings=("Baseline III",), seeds=seeds), chance, *swept)


def readings(seeds=SEEDS):
    bent = rows("reading: literal softmax", seeds=seeds)
    for row in bent:
        row["value"] += {0: -0.06, 1: -0.05, 2: -0.01}[row["replicate"]]
    averages = [
        row | {"average": "macro", "value": row["value"] - 0.1} for row in rows("reading: as chosen", seeds=seeds)
    ]
    return table(
        ELSEWHERE,
        rows("reading: as chosen", seeds=seeds),
        rows("reading: own-shard", seeds=seeds, add=0.02),
        bent,
        averages,
    )


def noisy(seeds=SEEDS, kinds=("symmetric", "pairflip")):
    blocks = [ELSEWHERE, rows("symmetric 0", settings=METHODS, seeds=seeds), rows("table3", add=0.2)]
    blocks += [rows("symmetric 0", settings=METHODS, seeds=seeds, metric="auroc", average="macro", add=0.1)]
    for variant in ("symmetric 0", *(f"{kind} {rate}" for kind in kinds for rate in (0.2, 0.4))):
        blocks += [no_skill(variant, seeds=seeds)]
        blocks += [no_skill(variant, seeds=seeds, metric="auroc", average="macro", add=0.1)]
    for kind in kinds:
        for rate in (0.2, 0.4):
            about = {"variant": f"{kind} {rate}", "noise": rate / 4, "add": -rate / 2, "seeds": seeds}
            agreed = about | {"average": "changed", "metric": "agreement_clean"}
            given = agreed | {"metric": "agreement_given", "add": rate / 2}
            blocks += [rows(settings=METHODS, **about)]
            blocks += [rows(settings=METHODS, **about, metric="auroc", average="macro")]
            blocks += [
                rows(settings=METHODS, **about_) for about_ in (agreed, given, agreed | {"average": "all", "add": 0.3})
            ]
            blocks += [rows(settings=TEACHERS, **about_ | {"seeds": (0,), "student": name, "add": place / 10})
                       for about_ in (agreed, given) for place, name in enumerate(STUDENTS)]  # fmt: skip
    return table(*blocks)


MAKERS = {
    "fig2": (students, figures.fig2_students, {}),
    "fig3": (overlaps, figures.fig3_overlap, {}),
    "readings": (readings, figures.readings_tornado, {}),
    "noise_f1": (noisy, figures.noise_scores, {"metric": "f1"}),
    "noise_auroc": (noisy, figures.noise_scores, {"metric": "auroc"}),
    "agreement": (noisy, figures.agreement, {}),
}
every_figure = pytest.mark.parametrize(("data", "make", "options"), MAKERS.values(), ids=MAKERS.keys())


def drawn(ax, setting):
    """(points [n, 2], ends of the error bars) of each line with error bars in the setting's colour and marker."""
    look, found = SETTING_STYLES[setting], []
    for bars in ax.containers:
        if getattr(bars, "has_xerr", None) is None or bars.lines[0] is None:
            continue
        points = bars.lines[0]
        if (points.get_color(), points.get_marker()) == (look["color"], look["marker"]):
            ends = [np.array(segment) for part in bars.lines[2] for segment in part.get_segments()]
            found.append((points.get_xydata(), ends))
    return found


def said(fig):
    legend = fig.legends[0]
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


@every_figure
def test_every_panel_is_filled_and_named_and_the_bytes_repeat(data, make, options, tmp_path):
    results = data()
    fig = make(results, tasks=TASKS, **options)
    for ax in fig.axes:
        assert ax.has_data() and ax.get_title(loc="left")
        assert ax.get_xlabel() or ax.get_subplotspec().rowspan.stop < ax.get_gridspec().nrows
    first = figures.write_figure(fig, tmp_path / "a", "figure", WATERMARK)
    second = figures.write_figure(make(results, tasks=TASKS, **options), tmp_path / "b", "figure", WATERMARK)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@every_figure
def test_one_task_with_one_replicate_has_no_error_bars_and_says_so(data, make, options, tmp_path):
    fig = make(data(seeds=(0,)), tasks={"chest": TASKS["chest"]}, **options)
    assert "one replicate" in said(fig)[0] and "each replicate" not in said(fig)
    assert not any(ends for ax in fig.axes for setting in (*METHODS, *TEACHERS) for _, ends in drawn(ax, setting))
    figures.write_figure(fig, tmp_path, "figure", WATERMARK)


@every_figure
def test_a_task_without_measurements_gets_no_panel_and_no_measurements_are_an_error(data, make, options):
    results = data()
    only = make(results[results["task"] == "chest"], tasks=TASKS, **options)
    assert all("lesion" not in ax.get_title(loc="left") for ax in only.axes)
    with pytest.raises(InputError, match="lesion.*run its notebook"):
        make(results[results["task"] == "chest"], tasks={"lesion": TASKS["lesion"]}, **options)


WITH_CHANCE = {name: MAKERS[name] for name in ("fig2", "fig3", "noise_f1", "noise_auroc")}
with_chance = pytest.mark.parametrize(("data", "make", "options"), WITH_CHANCE.values(), ids=WITH_CHANCE.keys())


def chance_in(ax, across):
    """Where the panel's lines of no skill are: their x (across) or y."""
    lines = [line.get_xdata() if across else line.get_ydata() for line in ax.lines if line.get_label() == NO_SKILL]
    assert all(len(set(line)) == 1 for line in lines)
    return [line[0] for line in lines]


@with_chance
@pytest.mark.parametrize("seeds", [(0,), SEEDS])
def test_the_highest_that_no_skill_scores_is_a_line_of_every_panel_and_named(data, make, options, seeds):
    """That of the sweep itself, a mean over its replicates; the line lies in the panel."""
    fig = make(data(seeds=seeds), tasks=TASKS, **options)
    spread, more = (CHANCE_AT if len(seeds) > 1 else CHANCE_AT - 0.02), 0.1 * (options == {"metric": "auroc"})
    for ax in fig.axes:
        across, task = make is figures.fig2_students, ax.get_title(loc="left").split(",")[0]
        [place] = chance_in(ax, across)
        assert place == pytest.approx(BASE[task] + spread + more)
        low, high = ax.get_xlim() if across else ax.get_ylim()
        assert low < place < high
    assert said(fig).count(NO_SKILL) == 1 and said(fig)[-1] == NO_SKILL


@with_chance
@pytest.mark.parametrize("replicates", [3, 1])
def test_the_legend_is_on_the_page_also_where_settings_have_different_numbers_of_replicates(
    data, make, options, replicates
):
    results = data()
    fewer = results[(results["setting"] != "Baseline III") | (results["replicate"] < replicates)]
    fig = make(fewer, tasks=TASKS, **options)
    fig.draw_without_rendering()
    legend = fig.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= fig.bbox.x1 and legend.y1 <= fig.bbox.y1
    assert said(fig)[0].endswith("(one: no bar)") == (replicates == 1)


@with_chance
def test_where_chance_was_not_measured_there_is_no_line_and_the_legend_does_not_speak_of_it(data, make, options):
    results = data()
    without = results[~results["setting"].isin(CHANCE) | (results["variant"] == "")]
    fig = make(without, tasks=TASKS, **options)
    assert not any(chance_in(ax, False) for ax in fig.axes) and NO_SKILL not in said(fig)
    one = make(results[~results["setting"].isin(CHANCE) | (results["task"] == "chest")], tasks=TASKS, **options)
    lines = [len(chance_in(ax, make is figures.fig2_students)) for ax in one.axes]
    assert lines == [int(ax.get_title(loc="left").startswith("chest")) for ax in one.axes] and NO_SKILL in said(one)


def test_fig2_shows_mean_std_and_replicates_of_each_student_in_the_order_of_the_paper():
    ax = figures.fig2_students(students(), tasks=TASKS).axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ResNet-18", "MobileNet-v2", "DenseNet-121"]
    for setting in ("Baseline III", "RoS-KD"):
        [(points, ends)] = drawn(ax, setting)
        for (x, y), end in zip(points, ends, strict=True):
            mean = 0.6 + GAIN[setting] + 0.02 + {2: 0.0, 1: 0.01, 0: 0.02}[round(y)]
            assert x == pytest.approx(mean)
            assert end[:, 0] == pytest.approx([mean - STD, mean + STD])
        dots = [line for line in ax.lines if line.get_marker() == "o" and line.get_alpha()]
        assert sorted(len(line.get_xdata()) for line in dots) == [9, 9]
    assert ax.get_xlabel() == "F1 (weighted)"


def test_fig2_without_a_student_or_a_setting_still_draws_the_rest():
    some = students().query("student != 'resnet18' and (task == 'lesion' or setting == 'RoS-KD')")
    fig = figures.fig2_students(some, tasks=TASKS)
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["MobileNet-v2", "DenseNet-121"]
    assert len(drawn(fig.axes[1], "RoS-KD")[0][0]) == 2
    assert said(fig)[0] == "mean ± std over 3 replicates"


def test_fig3_runs_over_the_overlap_in_percent_with_baseline_iii_as_a_band():
    fig = figures.fig3_overlap(overlaps(), tasks=TASKS)
    assert said(fig) == ["mean ± std over 3 replicates", "Baseline III (no subsets)", "Baseline V", "RoS-KD", NO_SKILL]
    for ax, base in zip(fig.axes, (0.6, 0.3), strict=True):
        assert ax.get_xlabel().endswith("(%)")
        [band] = ax.patches
        assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([base + 0.04 - STD, base + 0.04 + STD])
        assert any(
            line.get_ydata() == pytest.approx([base + 0.04] * 2) for line in ax.lines if len(line.get_ydata()) == 2
        )
        for setting in ("Baseline V", "RoS-KD"):
            [(points, ends)] = drawn(ax, setting)
            means = [base + GAIN[setting] + 0.02 - p / 10 for p in (0, 0.4, 1)]
            assert points[:, 0] == pytest.approx([0, 40, 100]) and points[:, 1] == pytest.approx(means)
            assert [end[:, 1].tolist() for end in ends] == [pytest.approx([mean - STD, mean + STD]) for mean in means]


def test_fig3_of_one_replicate_has_a_line_for_baseline_iii_and_may_lack_baseline_v():
    results = overlaps(seeds=(0,)).query("setting != 'Baseline V'")
    fig = figures.fig3_overlap(results, tasks=TASKS)
    assert said(fig) == ["one replicate", "Baseline III (no subsets)", "RoS-KD", NO_SKILL]
    assert all(not ax.patches for ax in fig.axes)


def test_the_tornado_has_paired_differences_the_largest_first_with_their_t_interval():
    fig = figures.readings_tornado(readings(), tasks=TASKS)
    ax, below = fig.axes[0], fig.axes[2]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["literal softmax", "own-shard"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([-0.04, 0.02])
    whiskers = [np.array(segment)[:, 0] for segment in ax.collections[0].get_segments()]
    half = stats.t.ppf(0.975, 2) * np.std([-0.06, -0.05, -0.01], ddof=1) / 3**0.5
    assert whiskers[0] == pytest.approx([-0.04 - half, -0.04 + half])
    assert whiskers[1] == pytest.approx([0.02, 0.02])  # the same in every replicate
    assert any(np.allclose(line.get_xdata(), 0) for line in ax.lines)
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["macro"]
    assert below.patches[0].get_width() == pytest.approx(-0.1)
    assert ax.get_title(loc="left") == f"lesion, F1 (weighted)\nas chosen: 0.680 ± {STD:.3f}"
    assert said(fig)[0] == "RoS-KD, paired over 3 replicates"


def test_the_tornado_pairs_by_replicate_and_refuses_readings_without_a_common_one():
    results = readings()
    fewer = results[~((results["variant"] == "reading: literal softmax") & (results["replicate"] == 2))]
    fig = figures.readings_tornado(fewer, tasks=TASKS)
    assert fig.axes[0].patches[0].get_width() == pytest.approx(-0.055)
    assert said(fig)[0] == "RoS-KD, paired over 2 to 3 replicates"
    apart = results[(results["variant"] != "reading: own-shard") | (results["replicate"] == 2)]
    apart = apart[(apart["variant"] != "reading: as chosen") | (apart["replicate"] < 2)]
    with pytest.raises(InputError, match="own-shard.*no replicate in common"):
        figures.readings_tornado(apart, tasks=TASKS)


def test_a_reading_about_baseline_iii_is_set_against_baseline_iii_as_chosen():
    about = rows("reading: Baseline III's mean of logits", settings=("Baseline III",), add=-0.03)
    chosen = rows("reading: as chosen", settings=("Baseline III",))
    averages = [row | {"average": "macro", "value": 0.1} for row in chosen]  # of RoS-KD alone the averagings are told
    results = table(about, chosen, averages, readings().to_dict("records"))
    ax, below = (figures.readings_tornado(results, tasks=TASKS).axes[place] for place in (0, 2))
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["literal softmax", "Baseline III's mean of logits", "own-shard"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([-0.04, -0.03, 0.02])
    assert below.patches[0].get_width() == pytest.approx(-0.1)
    assert ax.get_title(loc="left") == f"lesion, F1 (weighted)\nas chosen: 0.680 ± {STD:.3f}"


@pytest.mark.parametrize(("metric", "clean"), [("f1", 0.0), ("auroc", 0.1)])
def test_noise_scores_stand_at_the_measured_noise_and_no_noise_belongs_to_both_kinds(metric, clean):
    fig = figures.noise_scores(noisy(), tasks=TASKS, metric=metric)
    assert len(fig.axes) == 4 and "class-dependent (pair flip)" in fig.axes[1].get_title(loc="left")
    assert said(fig) == ["mean ± std over 3 replicates", *METHODS, NO_SKILL]
    for place, ax in enumerate(fig.axes):
        base = (0.6, 0.6, 0.3, 0.3)[place]
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0\n(0)", "5\n(20)", "10\n(40)"]
        assert ("entries" if place > 1 else "labels") in ax.get_xlabel() and "%" in ax.get_xlabel()
        for setting in METHODS:
            [(points, ends)] = drawn(ax, setting)
            means = [base + GAIN[setting] + 0.02 + add for add in (clean, -0.1, -0.2)]
            assert points[:, 0] == pytest.approx([0, 5, 10]) and points[:, 1] == pytest.approx(means)
            assert ends[1][:, 1] == pytest.approx([means[1] - STD, means[1] + STD])


def test_a_kind_with_a_clean_run_of_its_own_keeps_it():
    own = table(rows("pairflip 0", settings=METHODS, add=0.2), rows("pairflip 0.2", settings=METHODS, noise=0.2),
                rows("symmetric 0", settings=METHODS), rows("symmetric 0.2", settings=METHODS, noise=0.2))  # fmt: skip
    fig = figures.noise_scores(own, tasks=TASKS, metric="f1")
    assert drawn(fig.axes[0], "Baseline I")[0][0][0, 1] == pytest.approx(0.62)
    assert drawn(fig.axes[1], "Baseline I")[0][0][0, 1] == pytest.approx(0.82)


def test_one_kind_of_noise_is_one_column_and_an_unknown_metric_an_error():
    assert len(figures.noise_scores(noisy(kinds=("pairflip",)), tasks=TASKS, metric="f1").axes) == 2
    with pytest.raises(InputError, match="'accuracy'.*'f1' and 'auroc'"):
        figures.noise_scores(noisy(), tasks=TASKS, metric="accuracy")


def test_agreement_has_clean_solid_and_given_dashed_with_teachers_averaged_over_architectures():
    fig = figures.agreement(noisy(), tasks=TASKS)
    assert said(fig)[0] == "mean ± std over 1 to 3 replicates (one: no bar); teachers: mean over architectures"
    assert said(fig)[-2:] == ["agrees with the clean label", "agrees with the given, wrong label"]
    ax = fig.axes[0]
    (clean, ends), (given, _) = drawn(ax, "RoS-KD")
    assert [tick.get_position()[0] for tick in fig.axes[2].get_xticklabels()] == pytest.approx([20, 40])
    assert clean[:, 1] == pytest.approx([0.68 - 0.1, 0.68 - 0.2])
    assert given[:, 1] == pytest.approx([0.68 + 0.1, 0.68 + 0.2])
    assert ends[0][:, 1] == pytest.approx([0.58 - STD, 0.58 + STD])
    styles = [
        bars.lines[0].get_linestyle()
        for bars in ax.containers
        if bars.lines[0].get_color() == SETTING_STYLES["RoS-KD"]["color"]
    ]
    assert styles == ["-", "--"]
    places = [drawn(ax, setting)[0][0][:, 0] for setting in (*METHODS, *TEACHERS)]
    assert np.allclose(np.mean(places, axis=0), [20, 40]), (
        "around the rate, side by side, and nearer to it than to the next"
    )
    assert (np.diff(places, axis=0) > 1).all() and np.abs(places - np.array([20, 40])).max() < 10
    assert given[:, 0] == pytest.approx(clean[:, 0])
    for teacher in TEACHERS:
        (points, bars), _ = drawn(ax, teacher)
        assert points[:, 1] == pytest.approx([0.61 + 0.1] * 2) and not bars
