"""Methods against label noise: at the noise that was measured; and whom they believe of the changed labels."""

from functools import partial

import numpy as np
import pytest
from rows import SEEDS, STEP, TASKS, chance_in, drawn, ends, frame, rows, said, study_of

from rosutils import InputError
from rosutils.paper import label_noise, look
from rosutils.settings import CHANCE, NOISE_SETTINGS, TEACHERS


def noisy(seeds=SEEDS, kinds=("symmetric", "pairflip")):
    """A quarter of the nominal noise is measured; F1 falls by half the rate; rate 0 of the symmetric kind alone."""
    found = []
    for task in TASKS:
        for kind in kinds:
            for rate in (0.0, 0.2, 0.4) if kind == kinds[0] else (0.2, 0.4):
                where = {"variant": kind, "variant_value": f"{rate:g}", "seeds": seeds}
                found += rows(task, "", rate / 4, step=0, student="", **where | {"metric": "noise_rate", "average": ""})
                auroc, changed = ({"metric": "auroc", "average": "macro"} | where), {"average": "changed"} | where
                for place, setting in enumerate(NOISE_SETTINGS):
                    base = 0.6 + place / 100
                    found += rows(task, setting, base - rate / 2, **where)
                    found += rows(task, setting, base + 0.1 - rate / 2, **auroc)
                    for metric, sign in (("agreement_clean", -1), ("agreement_given", 1)):
                        share = base + sign * rate / 2 if rate else np.nan
                        found += rows(task, setting, share, metric=metric, **changed)
                for name in TEACHERS:
                    for place, student in enumerate(("resnet18", "mobilenet_v2", "densenet121")):
                        share = 0.5 + place / 10 if rate else np.nan
                        found += rows(task, name, share, step=0, student=student, metric="agreement_clean", **changed)
                for place, name in enumerate(CHANCE):
                    for which in (where, auroc):
                        found += rows(task, name, 0.2 + place / 10, student="", **which)
    return found


@pytest.mark.parametrize(("metric", "more"), [("f1", 0.0), ("auroc", 0.1)])
def test_scores_stand_at_the_measured_noise_and_no_noise_belongs_to_both_kinds(metric, more):
    fig = label_noise.plot(study_of(frame(noisy())), metric=metric)
    assert len(fig.axes) == 4 and "class-dependent (pair flip)" in fig.axes[1].get_title(loc="left")
    assert said(fig) == ["mean ± std over 3 replicates", *NOISE_SETTINGS, look.NO_SKILL]
    for place, ax in enumerate(fig.axes):
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0\n(0)", "5\n(20)", "10\n(40)"]
        assert ("entries" if place > 1 else "labels") in ax.get_xlabel()
        for number, setting in enumerate(NOISE_SETTINGS):
            [points] = drawn(ax, setting)
            means = [0.6 + number / 100 + more - fall for fall in (0, 0.1, 0.2)]
            assert points[:, 0] == pytest.approx([0, 5, 10]) and points[:, 1] == pytest.approx(means)
            assert ends(ax, setting)[1][:, 1] == pytest.approx([means[1] - STEP, means[1] + STEP])
        assert chance_in(ax, across=False) == [pytest.approx(0.4)]


def test_a_kind_with_a_clean_run_of_its_own_keeps_it():
    own = rows("lesion", "Baseline I", 0.9, variant="pairflip", variant_value="0")
    own += rows("lesion", "", 0.0, step=0, variant="pairflip", variant_value="0", metric="noise_rate", average="")
    fig = label_noise.plot(study_of(frame(noisy(), own)), metric="f1")
    assert drawn(fig.axes[0], "Baseline I")[0][0, 1] == pytest.approx(0.6)
    assert drawn(fig.axes[1], "Baseline I")[0][0, 1] == pytest.approx(0.9)


def test_one_kind_of_noise_is_one_column():
    assert len(label_noise.plot(study_of(frame(noisy(kinds=("pairflip",)))), metric="f1").axes) == 2


def test_agreement_has_clean_solid_and_given_hollow_with_teachers_averaged_over_architectures():
    fig = label_noise.agreement(study_of(frame(noisy())))
    assert said(fig)[0] == "mean ± std over 3 replicates; teachers: mean over architectures"
    assert said(fig)[-2:] == ["agrees with the clean label", "agrees with the given, wrong label"]
    ax = fig.axes[0]
    clean, given = drawn(ax, "RoS-KD")
    assert clean[:, 1] == pytest.approx([0.53, 0.43]) and given[:, 1] == pytest.approx([0.73, 0.83])
    assert drawn(ax, TEACHERS[0])[0][:, 1] == pytest.approx([0.6, 0.6])
    places = np.array([drawn(ax, setting)[0][:, 0] for setting in (*NOISE_SETTINGS, *TEACHERS)])
    # around the rate, side by side, and nearer to it than to the next
    assert np.allclose(places.mean(axis=0), [20, 40])
    assert (np.diff(places, axis=0) > 1).all() and np.abs(places - np.array([20, 40])).max() < 10


MAKERS = pytest.mark.parametrize("make", [partial(label_noise.plot, metric="f1"), label_noise.agreement])


@MAKERS
def test_one_replicate_says_so_and_no_measurement_is_an_error(make):
    results = frame(row for row in noisy(seeds=(0,)) if row["task"] == "chest")
    assert "one replicate" in said(make(study_of(results)))[0]
    with pytest.raises(InputError, match="lesion.*run its notebook"):
        make(study_of(results, {"lesion": TASKS["lesion"]}))
