"""Table II, its dots, its self-checks and the curve over the radius: what is shown is what the results say."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from rows import EPS, NORMS, SEEDS, STEP, TASKS, chance_in, drawn, ends, frame, rows, said, study_of

from rosutils import InputError
from rosutils.paper import look, table2
from rosutils.paper.cells import METRICS, printable
from rosutils.paper.published import published
from rosutils.settings import CHANCE, ROWS, SAME_TEACHERS


NO_SKILL = dict(zip(CHANCE, (0.2, 0.1, 0.3), strict=True))


def attacks(seeds=SEEDS, before=NORMS):
    """Before 0.6, PGD takes 0.3 and FGSM 0.2, and 0.01 more for each norm further; RoS-KD has 0.05 more throughout."""
    found, losses = [], {"pgd": 0.3, "fgsm": 0.2}
    for task, setting, metric, norm, attack in product(TASKS, SAME_TEACHERS, METRICS, NORMS, losses):
        top, which = (
            0.6 + 0.05 * (setting == "RoS-KD"),
            {"attack": attack, "norm": norm, "metric": metric, "seeds": seeds},
        )
        found += rows(task, setting, top, eps=0.0, **which) if norm in before else []
        found += rows(task, setting, top - losses[attack] - 0.01 * NORMS.index(norm), eps=EPS, **which)
    return found


def no_skill(seeds=SEEDS):
    """What it scores on the attacked sample, and 0.05 more on the whole test part."""
    return [row for name, value in NO_SKILL.items() for task in TASKS for metric in METRICS
            for attack, more in (("attacked sample", 0), ("", 0.05))
            for row in rows(task, name, value + more, student="", metric=metric, attack=attack, seeds=seeds)]  # fmt: skip


def curves(seeds=SEEDS):
    """Every setting under PGD in linf, at more radii than Table II's; before of one attack and norm only."""
    found = []
    for task in TASKS:
        for place, setting in enumerate(ROWS):
            which = {"attack": "pgd", "norm": "linf", "seeds": seeds}
            for multiple in (0, 0.5, 1, 2):
                if setting not in SAME_TEACHERS or multiple in (0.5, 2):
                    found += rows(task, setting, 0.6 + place / 100 - 0.1 * multiple, eps=multiple * EPS, **which)
    return found


def table(*found):
    return table2.table(study_of(frame(*found)))


def test_it_is_before_and_after_for_each_reading_beside_the_paper():
    found = table(attacks(), no_skill())["lesion"]["F1"]
    lines = {label: line for label, *line in found.drop(columns="runs").astype(float).itertuples(name=None)}
    assert lines["", "before attack", "RoS-KD"] == pytest.approx([0.716, 0.65, STEP, 3, 0.65 - 0.716])
    after = lines["linf", "PGD", "Baseline III, subset teachers"]
    assert after == pytest.approx([0.309, 0.29, STEP, 3, 0.29 - 0.309])
    assert lines["l2-scaled", "FGSM", "RoS-KD"][1] == pytest.approx(0.65 - 0.22)
    for norm in NORMS:
        assert [lines[norm, "FGSM", setting][0] for setting in SAME_TEACHERS] == [0.385, 0.447]
    assert len(found) == 2 + 3 * 2 * 2 + len(CHANCE)
    assert found.loc[("linf", "PGD", "RoS-KD"), "runs"] == tuple(f"RoS-KD-{s}" for s in SEEDS)


def test_it_ends_with_what_no_skill_scores_on_the_images_attacked():
    found = table(attacks(), no_skill())
    assert list(found.index[-3:]) == [("", "no skill", name) for name in CHANCE]
    for task in TASKS:
        part = found[task]["Recall"].iloc[-3:]
        assert part["ours"].tolist() == pytest.approx(list(NO_SKILL.values())) and part["published"].isna().all()


def test_it_takes_the_radius_of_the_profile_and_one_before_is_enough():
    once = attacks(before=("linf",))
    wider = [row | {"eps": 2 * EPS, "value": 0.0} for row in once if row["eps"] > 0]
    pd.testing.assert_frame_equal(table(once, wider, no_skill()), table(attacks(), no_skill()))
    study = study_of(frame(once, wider, no_skill()))
    study.parameters.attacks.eps = 2 * EPS
    doubled = table2.table(study)
    assert (doubled["chest"]["Recall"]["ours"].xs("l2") == 0).all()
    assert "radius 2.56/255 (the paper's: 1.28/255)" in table2.TABLE.caption(study, doubled)
    assert "2.56/255" in table2.PLOT.caption(study, None) and "2.56/255" in table2.CURVE.caption(study, None)


def test_what_was_not_run_is_blank():
    text = printable(table(row for row in attacks() if row["norm"] == "l2"))["chest"]["Precision"]
    assert text.loc[("linf", "PGD", "RoS-KD")].tolist() == ["0.189", "", ""]
    assert text.loc[("l2", "PGD", "RoS-KD")].tolist() == ["0.189", "0.350 ± 0.010", "+0.161"]


def test_the_dots_are_before_and_after_with_their_spread_beside_the_printed_ones():
    fig = table2.plot(study_of(frame(attacks(), no_skill())))
    ticks = [tick.get_text() for tick in fig.axes[0].get_yticklabels()]
    assert len(fig.axes) == 6 and ticks == ["before attack", "PGD", "FGSM"]
    printed = [row for row in published()["table2"]["rows"] if row["task"] == "lesion"]
    for ax, further in zip(fig.axes[:3], (0, 0.01, 0.02), strict=True):
        for setting, top in zip(SAME_TEACHERS, (0.6, 0.65), strict=True):
            ours = next(points for points in drawn(ax, setting) if len(points) == 3)
            assert ours[:, 0] == pytest.approx([top, top - 0.3 - further, top - 0.2 - further])
            assert np.array(ends(ax, setting))[:, :, 0] == pytest.approx(ours[:, :1] + [-STEP, STEP])
        hollow = sorted({line.get_xdata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"})
        assert hollow == sorted({part["f1"] for row in printed for part in (row["before"], row["after"])})
        assert chance_in(ax, across=True) == [pytest.approx(0.3)]
    assert said(fig)[0] == "ours: mean ± std over 3 replicates" and said(fig)[-1] == look.NO_SKILL


def test_the_curve_has_a_panel_for_each_setting_with_the_others_behind_it():
    fig = table2.curve(study_of(frame(attacks(), curves(), no_skill())))
    assert len(fig.axes) == 2 * len(ROWS)
    for place, (ax, setting) in enumerate(zip(fig.axes, ROWS, strict=False)):
        assert ax.get_title(loc="left").replace("\n", " ") == setting
        [points] = drawn(ax, setting)
        top = 0.6 + place / 100
        means = [top, top - 0.05, top - 0.1, top - 0.2]
        if setting in SAME_TEACHERS:
            before = 0.6 + 0.05 * (setting == "RoS-KD")
            means[0], means[2] = before, before - 0.31
        assert points[:, 0] == pytest.approx([0, 0.64, 1.28, 2.56]) and points[:, 1] == pytest.approx(means)
        assert sum(line.get_color() == look.PALE for line in ax.lines) == len(ROWS)
        assert any(np.allclose(line.get_xdata(), 1.28) for line in ax.lines)
        assert chance_in(ax, across=False) == [pytest.approx(0.3)]
    assert any(r"\infty" in ax.get_xlabel() and "1/255" in ax.get_xlabel() for ax in fig.axes)
    assert said(fig)[1:] == ["the other settings", "radius 1.28/255 (Table II)", look.NO_SKILL]


def test_a_curve_in_another_norm_has_the_settings_that_were_measured_in_it():
    study = study_of(frame(attacks()))
    study.parameters.attacks.curve_norm = "l2-scaled"
    assert len(table2.curve(study).axes) == 4 and look.NO_SKILL not in said(table2.curve(study))


@pytest.mark.parametrize("make", [table2.plot, table2.curve])
def test_one_replicate_says_so_a_task_without_rows_has_no_panel_and_bytes_repeat(make):
    chest = [row for row in attacks(seeds=(0,)) + no_skill(seeds=(0,)) if row["task"] == "chest"]
    fig = make(study_of(frame(chest)))
    assert "one replicate" in said(fig)[0] and len(fig.axes) in (2, 3)
    with pytest.raises(InputError, match="lesion.*run its notebook"):
        make(study_of(frame(chest), {"lesion": TASKS["lesion"]}))


def test_the_checks_are_made_for_each_task_setting_and_norm(probed):
    found = table2.checks(probed)
    cases = found.groupby(["task", "setting", "norm"])["check"].nunique()
    assert len(cases) == 2 * 2 * 3 and set(cases) == {9}
    for name in ("eps 0 is the identity", "measured norms never exceed eps"):
        assert found.loc[found["check"] == name, "passed"].all()
