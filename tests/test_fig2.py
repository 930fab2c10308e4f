"""Fig. 2: each student's F1 under both settings, and where the gain that the paper states would put RoS-KD."""

import pytest
from rows import SEEDS, STEP, TASKS, chance_in, drawn, ends, frame, rows, said, study_of

from rosutils import InputError
from rosutils.paper import fig2, look
from rosutils.settings import CHANCE, COMPARED


STUDENTS = {"densenet121": 0.5, "mobilenet_v2": 0.6, "resnet18": 0.7}
ORDER = ("resnet18", "mobilenet_v2", "densenet121")


def students(seeds=SEEDS):
    found = []
    for task in TASKS:
        for setting in COMPARED:
            for student, base in STUDENTS.items():
                which = {"student": student, "variant": "students", "seeds": seeds}
                found += rows(task, setting, base + 0.05 * (setting == "RoS-KD"), **which)
                found += rows(task, setting, 0.1, **which | {"variant": ""})  # of Table I: no part of the figure
        for place, name in enumerate(CHANCE):
            found += rows(task, name, 0.2 + place / 10, student="", variant="students", seeds=seeds)
    return found


def test_it_shows_mean_std_and_replicates_of_each_student_in_the_order_of_the_paper():
    fig = fig2.plot(study_of(frame(students())))
    ax = fig.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ResNet-18", "MobileNet-v2", "DenseNet-121"]
    for setting in COMPARED:
        means = [STUDENTS[name] + 0.05 * (setting == "RoS-KD") for name in ORDER]
        points = next(points for points in drawn(ax, setting) if len(points) == 3)
        assert points[:, 0] == pytest.approx(means)
        for end, mean in zip(ends(ax, setting), means, strict=True):
            assert end[:, 0] == pytest.approx([mean - STEP, mean + STEP])
    small = [len(line.get_xdata()) for line in ax.lines if line.get_alpha() == 0.5]
    assert small == [9, 9] and ax.get_xlabel() == "F1 (weighted)"
    assert chance_in(ax, across=True) == [pytest.approx(0.4)]
    assert said(fig)[0] == "mean ± std over 3 replicates" and said(fig)[-1] == look.NO_SKILL


def test_the_stated_gain_is_hollow_above_baseline_iii_where_the_paper_states_one():
    axes = fig2.plot(study_of(frame(students()))).axes
    for ax, stated in zip(axes, ({"densenet121": 0.032}, {"mobilenet_v2": 0.038, "resnet18": 0.041}), strict=True):
        hollow = {(round(line.get_xdata()[0], 9), line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "D"}
        assert hollow == {(round(STUDENTS[name] + gain, 9), ORDER.index(name)) for name, gain in stated.items()}


def test_one_replicate_a_task_alone_and_no_measurement():
    results = frame(row for row in students(seeds=(0,)) if row["task"] == "chest")
    fig = fig2.plot(study_of(results))
    assert said(fig)[0] == "one replicate" and "each replicate" not in said(fig) and len(fig.axes) == 1
    assert not ends(fig.axes[0], "RoS-KD")
    with pytest.raises(InputError, match="Fig. 2 of lesion; run its notebook"):
        fig2.plot(study_of(results, {"lesion": TASKS["lesion"]}))


def test_where_chance_was_not_measured_there_is_no_line_and_the_legend_does_not_speak_of_it():
    fig = fig2.plot(study_of(frame(row for row in students() if row["setting"] in COMPARED)))
    assert not chance_in(fig.axes[0], across=True) and look.NO_SKILL not in said(fig)
