"""Fig. 3: F1 against the overlap, with Baseline III as a band."""

import pytest
from rows import SEEDS, STEP, TASKS, chance_in, drawn, ends, frame, rows, said, study_of

from rosutils.paper import fig3, look
from rosutils.settings import CHANCE


POINTS = {"0": 0.5, "0.4": 0.6, "1": 0.55}


def overlaps(seeds=SEEDS):
    found = []
    for task in TASKS:
        for value, base in POINTS.items():
            where = {"variant": "overlap", "variant_value": value, "seeds": seeds}
            for setting, more in (("Baseline V", 0), ("RoS-KD", 0.05)):
                found += rows(task, setting, base + more, **where)
            for place, name in enumerate(CHANCE):
                found += rows(task, name, 0.2 + place / 10, student="", **where)
        found += rows(task, "Baseline III", 0.52, variant="overlap", variant_value="0.4", seeds=seeds)
    return found


def test_it_runs_over_the_overlap_in_percent_with_baseline_iii_as_a_band():
    fig = fig3.plot(study_of(frame(overlaps())))
    names = ["Baseline III (no subsets)", "Baseline V", "RoS-KD", look.NO_SKILL]
    assert said(fig) == ["mean ± std over 3 replicates", *names]
    for ax in fig.axes:
        assert ax.get_xlabel().endswith("(%)") and ax.get_xticks().tolist() == pytest.approx([0, 40, 100])
        [band] = ax.patches
        assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([0.52 - STEP, 0.52 + STEP])
        for setting, more in (("Baseline V", 0), ("RoS-KD", 0.05)):
            [points] = drawn(ax, setting)
            means = [base + more for base in POINTS.values()]
            assert points[:, 0] == pytest.approx([0, 40, 100]) and points[:, 1] == pytest.approx(means)
            for end, mean in zip(ends(ax, setting), means, strict=True):
                assert end[:, 1] == pytest.approx([mean - STEP, mean + STEP])
        assert chance_in(ax, across=False) == [pytest.approx(0.4)]


def test_one_replicate_has_a_line_for_baseline_iii_and_may_lack_baseline_v():
    results = frame(row for row in overlaps(seeds=(0,)) if row["setting"] != "Baseline V")
    fig = fig3.plot(study_of(results))
    assert said(fig) == ["one replicate", "Baseline III (no subsets)", "RoS-KD", look.NO_SKILL]
    assert all(not ax.patches for ax in fig.axes)


def test_settings_of_different_numbers_of_replicates_are_told():
    fewer = frame(row for row in overlaps() if row["setting"] != "Baseline III" or row["replicate"] == 0)
    fig = fig3.plot(study_of(fewer))
    fig.draw_without_rendering()
    assert said(fig)[0] == "mean ± std over 1 to 3 replicates (one: no bar)"
    assert fig.legends[0].get_window_extent().x0 >= 0
