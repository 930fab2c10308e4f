"""Fig. 4 and the numbers beside it: what is drawn is what was measured, for both models on one scale."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import LogNorm, to_rgba
from rows import SEEDS, STEP, TASKS, frame, rows, said, study_of

from rosutils import InputError
from rosutils.landscape import basin_area
from rosutils.losses import task_loss
from rosutils.paper import fig4, look
from rosutils.paper.cells import printable
from rosutils.settings import COMPARED
from rosutils.study.probes import PATH_STEPS
from rosutils.study.probes import test_batch as batch_of


GRID = np.linspace(-1, 1, 5)


def bowl(steepness):
    """Twice as steep along the second direction as along the first; 0.5 in the centre."""
    return 0.5 + steepness * (GRID[:, None] ** 2 + 2 * GRID[None, :] ** 2)


def found(ours=None, theirs=None, seeds=(0, 1)):
    """Surfaces of both settings, Baseline III first; those of seed 0 are as given, those of the next one higher."""
    losses = (bowl(10.0) if theirs is None else theirs, bowl(2.0) if ours is None else ours)
    return [
        {"setting": s, "seed": d, "grid": GRID, "loss": loss + d}
        for d in seeds
        for s, loss in zip(COMPARED, losses, strict=True)
    ]


def contours(planes, clamp=8.0):
    fig = fig4.contours(planes, clamp=clamp, task="lesion")
    return fig, [ax for ax in fig.axes if ax.get_title(loc="left")]


both = pytest.mark.parametrize("make", [fig4.contours, fig4.solids])


def test_both_models_have_the_same_levels_and_colours_clamped_above_and_whole_below():
    fig, panels = contours(found())
    assert [ax.get_title(loc="left").split(":")[0] for ax in panels] == [*COMPARED, *COMPARED]
    for pair in (panels[:2], panels[2:]):
        one, two = (ax.collections[0] for ax in pair)
        np.testing.assert_array_equal(one.levels, two.levels)
        assert one.norm is two.norm
    clamped, whole = panels[0].collections[0], panels[2].collections[0]
    assert (clamped.norm.vmin, clamped.norm.vmax) == (0, 8) and clamped.levels[-1] == 8
    assert isinstance(whole.norm, LogNorm) and (whole.norm.vmin, whole.norm.vmax) == (0.5, 30.5)
    bars = [ax.get_ylabel() for ax in fig.axes if ax not in panels]
    assert bars == ["loss on the test images, clamped at 8", "loss on the test images, logarithmic scale"]
    assert "(seed 0, one of 2)" in fig.get_suptitle()
    assert panels[2].collections[1].levels.tolist() == [1, 2, 5, 10, 20]
    assert "second" in panels[2].get_xlabel() and "first" in panels[0].get_ylabel()


def test_each_panel_shows_its_own_loss_and_its_centre():
    _, panels = contours(found(theirs=bowl(10.0) + 1))
    titles = [ax.get_title(loc="left") for ax in panels[:2]]
    assert titles == ["Baseline III: 1.5 in the centre", "RoS-KD: 0.5 in the centre"]
    for ax, level, crossing in ((panels[2], 5.0, 0.5 + 0.5 * 1 / 7.5), (panels[3], 1.0, 0.5)):
        lines = dict(zip(ax.collections[1].levels, ax.collections[1].get_paths(), strict=True))
        x, y = lines[level].vertices.T
        assert np.abs(y[np.abs(x) < 1e-9]).max() == pytest.approx(crossing)  # on the first direction's axis
        assert [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "+"] == [[[0, 0]]]


def test_the_first_direction_goes_up_and_the_second_to_the_right():
    loss = np.tile(GRID[None, :] + 2.0, (5, 1))  # grows along the second direction alone
    _, panels = contours(found(loss, loss))
    [line, *_] = [path for path in panels[0].collections[1].get_paths() if len(path.vertices)]
    assert np.ptp(line.vertices[:, 0]) < 1e-9 < np.ptp(line.vertices[:, 1])
    cells = fig4.solids(found(loss, loss), clamp=8.0, task="lesion").axes[0].collections[0].get_array().reshape(4, 4)
    assert (np.diff(cells, axis=1) > 0).all() and (np.diff(cells, axis=0) == 0).all()


def test_a_narrow_range_is_drawn_on_an_even_scale_without_a_clamp():
    fig, panels = contours(found(bowl(0.5), bowl(0.6)))
    scale = panels[2].collections[0].norm
    assert not isinstance(scale, LogNorm) and (scale.vmin, scale.vmax) == (0, pytest.approx(2.3))
    assert "not clamped" in fig.axes[-1].get_ylabel()
    assert panels[0].collections[0].norm.vmax == pytest.approx(2.3), "no empty colours above the highest loss"


def test_no_label_of_a_contour_is_cut_by_the_border():
    fine = np.linspace(-1, 1, 21)
    tilted = {"grid": fine, "loss": 1.0 + 40 * (fine[:, None] + 0.9) ** 2 + 25 * (fine[None, :] + 1.0) ** 2}
    for ax in contours([plane | tilted for plane in found(seeds=(0,))])[1]:
        labels = [text.get_position() for text in ax.texts]
        assert labels and max(map(max, np.abs(labels))) < 0.93


def test_the_level_lines_of_both_models_lie_over_each_other_and_the_flatter_one_is_wider():
    planes = {"lesion": found(bowl(4.0), bowl(16.0))}
    fig = fig4.basins(planes, [0.5, 1.0])
    assert [ax.get_title(loc="left") for ax in fig.axes] == [f"lesion: {n} above the centre" for n in ("0.5", "1")]
    widths = {}
    for ax in fig.axes:
        for lines in ax.collections:
            [colour] = {tuple(each[:3]) for each in lines.get_edgecolor()}
            widths.setdefault(colour, []).append(np.ptp(np.concatenate([p.vertices[:, 0] for p in lines.get_paths()])))
    wide, narrow = sorted(widths.values(), reverse=True)
    assert all(a > b > 0 for a, b in zip(wide, narrow, strict=True)) and wide[1] > wide[0]
    shares = {text.get_text() for text in fig.axes[1].texts}
    assert shares == {f"{basin_area(bowl(steep), 1.0):.0%}" for steep in (4.0, 16.0)}


def test_surfaces_are_as_high_as_the_clamped_loss_on_one_scale():
    fig = fig4.solids(found(), clamp=8.0, task="lesion")
    panels = [ax for ax in fig.axes if hasattr(ax, "get_zlim")]
    for ax, steepness in zip(panels, (10.0, 2.0), strict=True):
        [mesh] = ax.collections
        height = np.minimum(bowl(steepness), 8.0)
        cells = (height[:-1, :-1] + height[1:, :-1] + height[:-1, 1:] + height[1:, 1:]) / 4
        np.testing.assert_allclose(mesh.get_array(), cells.ravel())
        assert ax.get_zlim() == (0, 8) and (mesh.norm.vmin, mesh.norm.vmax) == (0, 8)
    assert [ax.get_title() for ax in panels] == list(COMPARED)


@both
def test_losses_that_overflow_are_at_the_top_and_flat_or_zero_ones_can_be_drawn(make):
    loss = bowl(2.0)
    loss[0, 0], loss[0, 1], loss[4, 4] = math.inf, math.nan, -math.inf
    flat = np.full((5, 5), 0.7)
    for pair in ((loss, None), (flat, flat), (np.zeros((5, 5)), bowl(2.0) - 0.5)):
        make(found(*pair), clamp=8.0, task="lesion")
    finite = np.where(np.isfinite(loss), loss, 0)
    finite[0, :2], finite[4, 4] = 1e9, -1e9
    one, two = (fig4.solids(found(each), clamp=3.0, task="lesion").axes[1].collections[0] for each in (loss, finite))
    np.testing.assert_array_equal(one.get_array(), two.get_array())


def test_what_cannot_be_drawn_is_named():
    cases = {"no surface of RoS-KD in direction seed 0": found()[::2], "no surface of Baseline III and RoS-KD": [],
             "no loss on the plane is finite": found(*[np.full((5, 5), math.nan)] * 2)}  # fmt: skip
    for words, planes in cases.items():
        with pytest.raises(InputError, match=words):
            contours(planes)


CURVATURE = {"loss": 0.7, "weight_norm": 45.67, "hessian_eigenvalue": -153.24, "hessian_trace": 12345.6}
CURVATURE |= {"hessian_trace_error": 321.0}


def numbers(seeds=SEEDS, pairs=(0, 1)):
    """Basins of 0.2, 0.3, 0.4 of the plane by level, 0.1 more for each state further, to either side of it by direction."""
    results = []
    for task in TASKS:
        for place, (setting, value) in enumerate(fig4.STATES.values()):
            which = {"variant": "landscape", "variant_value": value, "seeds": seeds}
            for number, level in enumerate(("0.5", "1", "10")):
                for pair in pairs:
                    basin = which | {"metric": "basin_area", "average": level, "class": f"directions {pair}"}
                    aside = 0.05 * (pair - sum(pairs) / len(pairs))
                    results += rows(task, setting, 0.2 + 0.1 * (number + place) + aside, **basin)
            for radius in ("0.0003", "0.001", "0.01"):
                ball = which | {"metric": "sharpness", "average": radius}
                results += rows(task, setting, 10 * float(radius) + place, step=0, **ball)
            for metric, value in CURVATURE.items():
                results += rows(task, setting, value + place, metric=metric, average="", **which)
    return results


def test_the_landscapes_numbers_by_hand():
    study = study_of(frame(numbers()))
    table = fig4.table(study)
    assert list(table.index) == list(fig4.STATES)
    quantities = list(table["lesion"].columns.unique(0))
    assert quantities[:4] == ["basin +0.5", "basin +1", "basin +10", "sharpness (radius 0.001 of the norm)"]
    cell = table["chest"]["basin +1"].loc[fig4.COPIED]
    assert [cell["ours"], cell["std"], cell["n"]] == pytest.approx([0.5, STEP, 3]) and len(cell["runs"]) == 3
    one = printable(fig4.table(study_of(frame(numbers(seeds=(1,))))))["lesion"].loc["Baseline III"]
    assert list(one) == ["0.200", "0.300", "0.400", "0.010", "−153.2", "12346", "321.0", "45.67", "0.700"]
    caption = fig4.TABLE.caption(study, table)
    assert "over 3 replicates" in caption and "lesion cross-entropy, chest binary cross-entropy" in caption


def test_sharpness_is_that_of_the_profiles_radius():
    study = study_of(frame(numbers()))
    study.parameters.landscape.sharpness_radius = 0.01
    cell = fig4.table(study)["lesion"]["sharpness (radius 0.01 of the norm)"].loc["RoS-KD"]
    assert cell["ours"] == pytest.approx(1.1) and cell["n"] == 3


@pytest.mark.parametrize("pairs", [(0,), (3, 4, 5)])
def test_a_replicate_counts_once_however_many_pairs_of_directions_it_was_measured_in(pairs):
    cell = fig4.table(study_of(frame(numbers(pairs=pairs))))["lesion"]["basin +0.5"].loc["Baseline III"]
    assert [cell["ours"], cell["std"], cell["n"]] == pytest.approx([0.2, STEP, 3])


def drawn(ax, state):
    """(x, means, ends of the error bars) of a state."""
    color, hollow = look.COLOUR[fig4.STATES[state][0]], state == fig4.COPIED
    alike = [bars for bars in ax.containers if bars.lines[0].get_color() == color]
    [bars] = [each for each in alike if (each.lines[0].get_markerfacecolor() == "white") is hollow]
    ends = [segment for part in bars.lines[2] for segment in part.get_segments()]
    return *np.array(bars.lines[0].get_data(), dtype=float), ends


def test_the_panels_show_means_and_std_over_the_replicates():
    fig = fig4.plot(study_of(frame(numbers())))
    assert len(fig.axes) == 10 and said(fig) == ["mean ± std over 3 replicates", *fig4.STATES]
    basins, sharpness = fig.axes[0], fig.axes[1]
    assert [text.get_text() for text in basins.get_xticklabels()] == ["+0.5", "+1", "+10"] and basins.get_ylim()[0] == 0
    for place, state in enumerate(fig4.STATES):
        x, means, ends = drawn(basins, state)
        assert means == pytest.approx([100 * (0.2 + 0.1 * (place + n)) for n in range(3)])
        assert np.round(x).tolist() == [0, 1, 2]
        assert ends[0][:, 1] == pytest.approx([means[0] - 1, means[0] + 1])
        x, means, _ = drawn(sharpness, state)
        assert x.tolist() == [0.0003, 0.001, 0.01] and means == pytest.approx(10 * x + place)
    assert (sharpness.get_xscale(), sharpness.get_yscale()) == ("log", "log")
    for ax, metric in zip(fig.axes[2:5], fig4.BARS, strict=True):
        heights = [CURVATURE[metric] + place for place in range(3)]
        assert [bar.get_height() for bar in ax.patches] == pytest.approx(heights)
        colours = [look.COLOUR[name] for name in COMPARED] + ["white"]
        assert [bar.get_facecolor() for bar in ax.patches] == [to_rgba(colour) for colour in colours]


def test_one_replicate_has_no_spread_but_its_trace_has_a_standard_error_and_gaps_are_left():
    results = frame(numbers(seeds=(0,)))
    results.loc[(results["metric"] == "sharpness") & (results["average"] == "0.01"), "value"] = math.inf
    results = results[(results["metric"] != "hessian_eigenvalue") & (results["task"] == "chest")]
    fig = fig4.plot(study_of(results))
    assert said(fig)[0] == "one replicate; bar of the trace: its standard error" and len(fig.axes) == 5
    assert drawn(fig.axes[1], "RoS-KD")[0].tolist() == [0.0003, 0.001] and not fig.axes[2].patches
    [error, *_] = [
        b.errorbar.lines[2][0].get_segments()[0] for b in fig.axes[3].containers if getattr(b, "errorbar", None)
    ]
    assert np.ptp(error[:, 1]) == pytest.approx(2 * (321.0 - STEP))
    with pytest.raises(InputError, match="nothing for the loss landscape.*run its notebook"):
        fig4.plot(study_of(results[:0]))


def test_a_path_runs_from_one_student_to_the_other():
    paths = {"replicate 1": np.array([1.0, 3.0, 2.0]), "replicate 2": np.array([1.5, 2.5, 4.0])}
    [ax] = fig4.path(paths, task="lesion").axes
    lines = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) > 1}
    assert {name: list(line.get_ydata()) for name, line in lines.items()} == {n: list(y) for n, y in paths.items()}
    ends = [(line.get_marker(), *line.get_xydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert ends == [("s", 0, 1), ("o", 1, 2), ("s", 0, 1.5), ("o", 1, 4)]
    assert ax.get_xticklabels()[0].get_text().endswith("Baseline III") and ax.get_title(loc="left").startswith("lesion")


@pytest.mark.parametrize("task", ["lesion", "chest"])
def test_surfaces_and_paths_of_a_study_are_those_of_its_students(probed, task):
    planes = fig4.surfaces(probed, task)
    points, seeds = probed.parameters.landscape.points, probed.parameters.landscape.directions
    assert {(f["setting"], f["seed"]) for f in planes} == {(s, d) for s in COMPARED for d in seeds}
    assert all(f["loss"].shape == (points, points) and len(f["grid"]) == points for f in planes)
    paths = fig4.paths(probed, task)
    replicates = range(probed.for_task(task).parameters.seeds.replicates)
    assert (
        set(paths) == {f"replicate {number + 1}" for number in replicates} and len(paths["replicate 1"]) == PATH_STEPS
    )
    batch = batch_of(probed, task, probed.parameters.landscape.examples)
    for place, setting, state in ((0, "Baseline III", "weights"), (-1, "RoS-KD", "averaged")):
        model = probed.model(probed.student(task, setting), state)
        with torch.no_grad():
            loss = task_loss(model(batch.images), batch.labels, multilabel=task == "chest").mean()
        assert paths["replicate 1"][place] == pytest.approx(float(loss), rel=1e-5)
    assert isinstance(fig4.measurements(probed.results()), pd.DataFrame)
