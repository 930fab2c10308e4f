"""The teachers: full set beside own subset, and how they learned."""

import numpy as np
import pandas as pd
import pytest
from rows import SEEDS, TASKS, chance_in, drawn, frame, rows, said, study_of

from rosutils import InputError
from rosutils.paper import look, teachers
from rosutils.settings import CHANCE, ROWS, TEACHERS


STUDENTS = ("densenet121", "resnet18", "mine")


def scores(seeds=SEEDS):
    found = []
    for task in TASKS:
        for student in STUDENTS:
            for place, name in enumerate(TEACHERS):
                found += rows(task, name, 0.7 - 0.1 * place, student=student, seeds=seeds)
                found += rows(task, name, 0.1, student=student, seeds=seeds, variant="students")
        for place, name in enumerate(CHANCE):
            found += rows(task, name, 0.2 + place / 10, student="", seeds=seeds)
            found += rows(task, name, 0.9, student="", seeds=seeds, variant="students")
    return found


def test_full_set_and_own_subset_are_compared_and_no_skill_stands_under_both_without_a_difference():
    table = teachers.table(study_of(frame(scores())))
    assert list(table.index) == ["resnet18", "densenet121", "mine", *CHANCE]
    for task in TASKS:
        assert table.loc["mine", (task, "own subset", "ours")] == pytest.approx(0.6)
        assert table.loc["mine", (task, "subset minus full", "difference")] == pytest.approx(-0.1)
        for group in ("full set", "own subset"):
            assert table[task][group].loc[list(CHANCE), "ours"].tolist() == pytest.approx([0.2, 0.3, 0.4])
        assert table[task]["subset minus full"].loc[list(CHANCE)].isna().all(axis=None)


def test_the_dots_have_both_kinds_of_teachers_beside_no_skill():
    fig = teachers.plot(study_of(frame(scores())))
    ax = fig.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ResNet-18", "DenseNet-121", "mine"]
    for place, name in enumerate(TEACHERS):
        assert next(p for p in drawn(ax, name) if len(p) == 3)[:, 0] == pytest.approx([0.7 - 0.1 * place] * 3)
    assert chance_in(ax, across=True) == [pytest.approx(0.4)]
    assert said(fig) == ["mean ± std over 3 replicates", "full set", "own subset", "each replicate", look.NO_SKILL]
    with pytest.raises(InputError, match="the teachers of lesion, chest"):
        teachers.plot(study_of(frame(scores())[:0]))


def history(epochs=6):
    return pd.DataFrame([
        {"architecture": name, "trained_on": pool, "epoch": epoch, "loss": 2 / epoch, "validation_loss": 2.2 / epoch,
         "validation_f1": epoch / 10, "learning_rate": 0.1 if epoch <= 3 else 0.01}
        for pool in ("full set", "subset") for name in ("resnet18", "mobilenet_v2") for epoch in range(1, epochs + 1)
    ])  # fmt: skip


def test_curves_are_losses_and_f1_by_architecture_and_pool_with_the_steps_of_the_learning_rate():
    fig = teachers.curves(history())
    assert len(fig.axes) == 4 * 2 and [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["ResNet-18", "MobileNet-v2"]
    labels = [ax.get_ylabel().replace("\n", ", ") for ax in fig.axes[::2]]
    assert labels == [f"{pool}, {kind}" for pool in ("full set", "subset") for kind in ("loss", "validation F1")]
    step, loss, validation = fig.axes[0].lines
    assert step.get_xdata()[0] == 3.5
    assert np.allclose(loss.get_ydata(), 2 / np.arange(1, 7)) and np.allclose(
        validation.get_ydata(), 2.2 / np.arange(1, 7)
    )


def test_the_students_curves_are_those_of_table_i_and_the_average_has_an_f1_of_its_own(probed):
    figures = teachers.STUDENTS.figures(probed)
    assert list(figures) == ["student_curves_lesion", "student_curves_chest"]
    top, bottom = np.reshape(figures["student_curves_lesion"].axes, (2, len(ROWS)))
    assert [ax.get_title(loc="left").replace("\n", " ") for ax in top] == list(ROWS)
    history = probed.history([probed.student("lesion", "RoS-KD")])
    for ax, column in ((bottom[-1], "averaged_validation_f1"), (bottom[-2], "validation_f1")):
        drawn = ax.lines[-1].get_ydata()
        assert np.allclose(drawn, history[column], equal_nan=True) and np.isfinite(drawn).any()
    assert np.isnan(top[-1].lines[-1].get_ydata()).all()


def test_a_loss_far_above_the_others_flattens_none_and_is_named_at_the_border():
    table = history()
    table.loc[0, "validation_loss"] = 5000.0
    axes = teachers.curves(table).axes
    assert axes[0].get_ylim()[1] < 10 and [text.get_text() for text in axes[0].texts] == ["↑5e+03"]
    assert not any(ax.texts for ax in axes[1:])
