"""Table II's figure and the curve over the radius show what the results say, and what the paper printed."""

import numpy as np
import pandas as pd
import pytest

from rosutils import InputError, figures
from rosutils.figures.look import SETTING_STYLES
from rosutils.figures.scores import NO_SKILL
from rosutils.results import published, validate
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS


WATERMARK = "profile demo · synthetic images · not comparable with the paper"
TASKS = {
    "lesion": {"multilabel": False, "class_names": ["a", "b"]},
    "chest": {"multilabel": True, "class_names": ["c", "d"]},
}
COMPARED = ("Baseline III, subset teachers", "RoS-KD")
EPS = 1.28 / 255
NORMS = ("l2", "linf", "l2-scaled")
LOSS = {"l2": 0.1, "linf": 0.2, "l2-scaled": 0.3}  # what the attack at EPS takes from F1
BASE = {"lesion": 0.7, "chest": 0.4}
SPREAD = {0: 0.0, 1: 0.03}
STD = 0.03 / 2**0.5
CHANCE_AT = -0.25  # of the best constant, from the task's base; the others are below it


def row(task, setting, seed, value, **columns):
    base = {"task": task, "setting": setting, "student": "resnet18", "variant": "", "replicate": seed,
            "overlap": np.nan, "noise": 0.0,
            "class": "", "average": PRINTED_AVERAGE[TASKS[task]["multilabel"]], "metric": "f1", "run": "r",
            "attack": "", "eps": np.nan, "norm": ""}  # fmt: skip
    return base | {"value": BASE[task] + SPREAD[seed] + value} | columns


def measured(seeds=(0, 1), before=("pgd", "linf")):
    """Before (of one attack and norm only: it is the same for all), at EPS by all, and a curve in linf for every setting; and
    no skill on the sample that is attacked, and elsewhere.
    """
    found = []
    for task in TASKS:
        for seed in seeds:
            for place, setting in enumerate(CHANCE):
                nobody = row(task, setting, seed, CHANCE_AT - 0.02 * place, student="")
                found += [nobody, nobody | {"attack": "attacked sample", "variant": "students"}]
                found.append(nobody | {"attack": "attacked sample", "value": nobody["value"] + 0.1})
            for setting in ROWS:
                gain = 0.05 if setting == "RoS-KD" else 0.0
                found.append(row(task, setting, seed, 0.2))  # of the whole test part: not part of any curve
                found.append(
                    row(task, setting, seed, 0.25, attack="pgd", eps=EPS, norm="linf", variant="reading: other")
                )
                found.append(row(task, setting, seed, gain, attack=before[0], norm=before[1], eps=0.0))
                for multiple in (0.5, 1, 2):
                    value = gain - multiple * LOSS["linf"]
                    found.append(row(task, setting, seed, value, attack="pgd", norm="linf", eps=multiple * EPS))
                if setting in COMPARED:
                    rest = {(a, n) for a in ("fgsm", "pgd") for n in NORMS} - {("pgd", "linf")}
                    for attack, norm in sorted(rest):
                        value = gain - LOSS[norm] * (1 if attack == "pgd" else 0.5)
                        found.append(row(task, setting, seed, value, attack=attack, norm=norm, eps=EPS))
    return validate(pd.DataFrame(found))


MAKERS = {
    "table2": lambda results, tasks=TASKS: figures.table2_plot(results, tasks=tasks),
    "eps_curve": lambda results, tasks=TASKS: figures.eps_curve(results, tasks=tasks, norm="linf"),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def drawn(ax, setting):
    """(points [n, 2], ends of the error bars) of each group in the setting's colour and marker."""
    look, found = SETTING_STYLES[setting], []
    for bars in ax.containers:
        points = bars.lines[0]
        if (points.get_color(), points.get_marker()) == (look["color"], look["marker"]):
            ends = [np.array(segment) for part in bars.lines[2] for segment in part.get_segments()]
            found.append((points.get_xydata(), ends))
    return found


def words(fig):
    legend = fig.legends[0]
    found = [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return [text.replace("\n", " ") for text in found]


@both
def test_every_panel_is_filled_and_named_and_the_bytes_repeat(make, tmp_path):
    fig = make(measured())
    assert all(
        ax.has_data() and ax.get_title(loc="left") and "F1" in ax.get_xlabel() + ax.get_ylabel() for ax in fig.axes
    )
    first = figures.write_figure(fig, tmp_path / "a", "figure", WATERMARK)
    second = figures.write_figure(make(measured()), tmp_path / "b", "figure", WATERMARK)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@both
def test_one_task_with_one_replicate_has_no_error_bars_and_says_so(make, tmp_path):
    fig = make(measured(seeds=(0,)), {"chest": TASKS["chest"]})
    assert any("one replicate" in text for text in words(fig))
    assert not any(ends for ax in fig.axes for setting in ROWS for _, ends in drawn(ax, setting))
    figures.write_figure(fig, tmp_path, "figure", WATERMARK)


def chance_in(ax):
    """The ends of the panel's lines of no skill."""
    return [line.get_xydata() for line in ax.lines if line.get_label() == NO_SKILL]


@both
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_highest_that_no_skill_scores_on_the_images_attacked_is_a_line_of_every_panel_and_named(make, seeds):
    """Across Table II's panels, whose F1 is below, and along those of the curve."""
    fig = make(measured(seeds=seeds))
    for ax in fig.axes:
        [ends] = chance_in(ax)
        axis = int("F1" in ax.get_ylabel())
        task = ax.get_title(loc="left").split(",")[0]
        mean = BASE[task] + CHANCE_AT + 0.1 + 0.015 * (len(seeds) > 1)
        assert ends[:, axis] == pytest.approx([mean, mean])
        low, high = ax.get_ylim() if axis else ax.get_xlim()
        assert low < mean < high
    assert words(fig).count(NO_SKILL) == 1


@both
@pytest.mark.parametrize("replicates", [2, 1])
def test_the_legend_is_on_the_page_also_where_settings_have_different_numbers_of_replicates(make, replicates):
    results = measured()
    fig = make(results[(results["setting"] != COMPARED[0]) | (results["replicate"] < replicates)])
    fig.draw_without_rendering()
    legend = fig.legends[0].get_window_extent()
    assert legend.x0 >= -1e-6 and legend.x1 <= fig.bbox.x1 + 1e-6 and legend.y1 <= fig.bbox.y1 + 1e-6
    assert any("(one: no bar)" in text for text in words(fig)) == (replicates == 1)


@both
def test_where_chance_was_not_measured_there_is_no_line_and_the_legend_does_not_speak_of_it(make):
    results = measured()
    fig = make(results[~results["setting"].isin(CHANCE) | (results["attack"] == "")])
    assert not any(chance_in(ax) for ax in fig.axes) and NO_SKILL not in words(fig)
    one = make(results[~results["setting"].isin(CHANCE) | (results["task"] == "chest")])
    lines = [len(chance_in(ax)) for ax in one.axes]
    assert lines == [int(ax.get_title(loc="left").startswith("chest")) for ax in one.axes] and NO_SKILL in words(one)


@both
def test_a_task_without_measurements_gets_no_panel_and_no_measurements_are_an_error(make):
    chest = measured().query("task == 'chest'")
    assert all(ax.get_title(loc="left").startswith("chest") for ax in make(chest).axes)
    with pytest.raises(InputError, match="lesion.*run its notebook"):
        make(chest, {"lesion": TASKS["lesion"]})


@pytest.mark.parametrize("before", [("pgd", "linf"), ("fgsm", "l2"), ("", "")])
def test_table2_goes_from_before_to_after_for_each_attack_norm_and_setting(before):
    fig = figures.table2_plot(measured(before=before), tasks=TASKS)
    assert len(fig.axes) == 6
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["PGD", "FGSM"]
    for ax, norm in zip(fig.axes[:3], NORMS, strict=True):
        for setting, gain in zip(COMPARED, (0, 0.05), strict=True):
            groups = drawn(ax, setting)  # PGD before, after, FGSM before, after
            means = [0.7 + 0.015 + gain - lost for lost in (0, LOSS[norm], 0, LOSS[norm] / 2)]
            assert [points[0, 0] for points, _ in groups] == pytest.approx(means)
            assert [round(points[0, 1]) for points, _ in groups] == [0, 0, 1, 1]
            for (_, [end]), mean in zip(groups, means, strict=True):
                assert end[:, 0] == pytest.approx([mean - STD, mean + STD])


def test_table2_sets_the_printed_numbers_hollow_beside_ours():
    fig = figures.table2_plot(measured(), tasks=TASKS)
    for ax, task in ((fig.axes[0], "lesion"), (fig.axes[5], "chest")):
        hollow = sorted(line.get_xdata()[0] for line in ax.lines if line.get_markerfacecolor() == "white")
        printed = [
            part["f1"]
            for row in published()["table2"]["rows"]
            if row["task"] == task
            for part in (row["before"], row["after"])
        ]
        assert hollow == pytest.approx(sorted(printed)) and len(hollow) == 8


def test_table2_of_a_task_of_ones_own_has_nothing_printed_and_lacks_what_was_not_measured():
    own = measured().replace({"task": {"lesion": "mine"}}).query("setting == 'RoS-KD' and norm != 'l2'")
    fig = figures.table2_plot(own, tasks={"mine": TASKS["lesion"]})
    assert len(fig.axes) == 2
    assert all(not [line for line in ax.lines if line.get_markerfacecolor() == "white"] for ax in fig.axes)
    assert not drawn(fig.axes[0], COMPARED[0]) and len(drawn(fig.axes[0], "RoS-KD")) == 4


def test_table2_takes_the_radius_it_is_given():
    ax = figures.table2_plot(measured(), tasks=TASKS, eps=2 * EPS).axes[0]
    assert [points[0, 0] for points, _ in drawn(ax, "RoS-KD")] == pytest.approx([0.765, 0.765 - 0.4])
    with pytest.raises(InputError, match="Table II"):
        figures.table2_plot(measured(), tasks=TASKS, eps=3 * EPS)


def test_the_curve_has_every_setting_at_every_radius_in_units_of_1_over_255():
    fig = figures.eps_curve(measured(), tasks=TASKS, norm="linf")
    assert words(fig) == ["mean ± std over 2 replicates", *ROWS, NO_SKILL, "radius 1.28/255 (Table II)"]
    for ax, base in zip(fig.axes, BASE.values(), strict=True):
        assert "1/255" in ax.get_xlabel() and r"\infty" in ax.get_xlabel()
        assert any(np.allclose(line.get_xdata(), 1.28) for line in ax.lines)
        for setting in ROWS:
            [(points, ends)] = drawn(ax, setting)
            means = [base + 0.015 + (0.05 if setting == "RoS-KD" else 0) - lost for lost in (0, 0.1, 0.2, 0.4)]
            assert points[:, 0] == pytest.approx([0, 0.64, 1.28, 2.56]) and points[:, 1] == pytest.approx(means)
            assert ends[2][:, 1] == pytest.approx([means[2] - STD, means[2] + STD])


def test_a_curve_in_another_norm_has_the_settings_that_were_measured_in_it():
    fig = figures.eps_curve(measured(), tasks=TASKS, norm="l2-scaled")
    assert words(fig)[1:-2] == list(COMPARED)
    assert drawn(fig.axes[0], "RoS-KD")[0][0][:, 0] == pytest.approx([0, 1.28])
    with pytest.raises(InputError, match="'l1'.*'linf'"):
        figures.eps_curve(measured(), tasks=TASKS, norm="l1")
