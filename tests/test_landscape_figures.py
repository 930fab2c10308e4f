"""Fig. 4 and the numbers beside it: what is drawn is what was measured, for both models on one scale."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm, to_rgba
from PIL import Image

from rosutils import InputError, figures
from rosutils.figures.look import SETTING_STYLES
from rosutils.figures.scores import over_seeds
from rosutils.results import validate


GRID = np.linspace(-1, 1, 5)
TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
WATERMARK = "profile demo · not comparable with the paper"
BOTH = ("Baseline III", "RoS-KD")


def bowl(steepness):
    """Twice as steep along the second direction as along the first; 0.5 in the centre."""
    return 0.5 + steepness * (GRID[:, None] ** 2 + 2 * GRID[None, :] ** 2)


def found(ours=None, theirs=None, seeds=(0, 1)):
    """Surfaces of both settings, Baseline III first; those of seed 0 are as given, those of the next one higher."""
    losses = dict(
        zip(BOTH, (bowl(10.0) if theirs is None else theirs, bowl(2.0) if ours is None else ours), strict=True)
    )
    return [{"setting": s, "seed": d, "grid": GRID, "loss": loss + d} for d in seeds for s, loss in losses.items()]


def contours(planes, clamp=8.0):
    fig = figures.fig4_contours(planes, clamp=clamp, task="lesion")
    return fig, [ax for ax in fig.axes if ax.get_title(loc="left")]


MAKERS = {
    "contours": lambda planes, clamp=8.0: figures.fig4_contours(planes, clamp=clamp, task="lesion"),
    "surfaces": lambda planes, clamp=8.0: figures.fig4_surfaces(planes, clamp=clamp, task="lesion"),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


# Fig. 4


def test_both_models_have_the_same_levels_and_colours_clamped_above_and_whole_below():
    fig, panels = contours(found())
    assert [ax.get_title(loc="left").split(":")[0] for ax in panels] == [*BOTH, *BOTH]
    for one, two in (panels[:2], panels[2:]):
        filled = [ax.collections[0] for ax in (one, two)]
        np.testing.assert_array_equal(filled[0].levels, filled[1].levels)
        assert filled[0].norm is filled[1].norm
    clamped, whole = panels[0].collections[0], panels[2].collections[0]
    assert (clamped.norm.vmin, clamped.norm.vmax) == (0, 8) and clamped.levels[-1] == 8
    assert isinstance(whole.norm, LogNorm) and (whole.norm.vmin, whole.norm.vmax) == (0.5, 30.5)
    bars = [ax.get_ylabel() for ax in fig.axes if ax not in panels]
    assert bars == ["loss on the test images, clamped at 8", "loss on the test images, logarithmic scale"]
    assert "(seed 0, one of 2)" in fig.get_suptitle()


def test_each_panel_shows_its_own_loss_and_its_centre():
    _, panels = contours(found(theirs=bowl(10.0) + 1))
    assert [ax.get_title(loc="left") for ax in panels[:2]] == [
        "Baseline III: 1.5 in the centre",
        "RoS-KD: 0.5 in the centre",
    ]
    for ax, level, crossing in ((panels[2], 5.0, 0.5 + 0.5 * 1 / 7.5), (panels[3], 1.0, 0.5)):
        lines = dict(zip(ax.collections[1].levels, ax.collections[1].get_paths(), strict=True))
        x, y = lines[level].vertices.T
        assert np.abs(y[np.abs(x) < 1e-9]).max() == pytest.approx(crossing)  # on the first direction's axis
        marks = [line for line in ax.lines if line.get_marker() == "+"]
        assert [mark.get_xydata().tolist() for mark in marks] == [[[0, 0]]]


def test_the_first_direction_goes_up_and_the_second_to_the_right():
    loss = np.tile(GRID[None, :] + 2.0, (5, 1))  # grows along the second direction alone
    _, panels = contours(found(loss, loss))
    [line, *_] = [path for path in panels[0].collections[1].get_paths() if len(path.vertices)]
    assert np.ptp(line.vertices[:, 0]) < 1e-9 < np.ptp(line.vertices[:, 1])
    assert "second" in panels[2].get_xlabel() and "first" in panels[0].get_ylabel()
    ax = figures.fig4_surfaces(found(loss, loss), clamp=8.0, task="lesion").axes[0]
    cells = ax.collections[0].get_array().reshape(4, 4)
    assert (np.diff(cells, axis=1) > 0).all() and (np.diff(cells, axis=0) == 0).all()
    assert "second" in ax.get_xlabel() and "first" in ax.get_ylabel()


def test_a_narrow_range_is_drawn_on_an_even_scale_without_a_clamp():
    fig, panels = contours(found(bowl(0.5), bowl(0.6)))
    scale = panels[2].collections[0].norm
    assert not isinstance(scale, LogNorm) and (scale.vmin, scale.vmax) == (0, pytest.approx(2.3))
    assert "not clamped" in fig.axes[-1].get_ylabel()
    assert panels[0].collections[0].norm.vmax == pytest.approx(2.3), "no empty colours above the highest loss"


def test_the_lowest_seed_of_the_directions_is_drawn_and_named():
    planes = found(seeds=(4, 3))
    fig, panels = contours(planes)
    assert "(seed 3, one of 2)" in fig.get_suptitle() and "3.5 in the centre" in panels[0].get_title(loc="left")
    assert "(seed 3)" in contours(found(seeds=(3,)))[0].get_suptitle()


def test_labels_of_contours_are_round_numbers():
    _, panels = contours(found())
    inner = panels[2].collections[1].levels
    assert inner.tolist() == [1, 2, 5, 10, 20]
    assert set(np.diff(panels[0].collections[1].levels)) == {0.5}


def test_no_label_of_a_contour_is_cut_by_the_border():
    """On this tilted plane matplotlib itself would put some across it."""
    fine = np.linspace(-1, 1, 21)
    tilted = {"grid": fine, "loss": 1.0 + 40 * (fine[:, None] + 0.9) ** 2 + 25 * (fine[None, :] + 1.0) ** 2}
    _, panels = contours([plane | tilted for plane in found(seeds=(0,))])
    across = []
    for ax in panels:
        labels = [text.get_position() for text in ax.texts]
        assert labels and max(map(max, np.abs(labels))) < 0.93
        lines = ax.collections[1]
        across += [max(map(abs, text.get_position())) > 0.93 for text in ax.clabel(lines, lines.levels[1::2])]
    assert any(across)


def test_surfaces_are_as_high_as_the_clamped_loss_on_one_scale():
    fig = figures.fig4_surfaces(found(), clamp=8.0, task="lesion")
    panels = [ax for ax in fig.axes if hasattr(ax, "get_zlim")]
    for ax, steepness in zip(panels, (10.0, 2.0), strict=True):
        [mesh] = ax.collections
        height = np.minimum(bowl(steepness), 8.0)
        cells = (height[:-1, :-1] + height[1:, :-1] + height[:-1, 1:] + height[1:, 1:]) / 4
        np.testing.assert_allclose(mesh.get_array(), cells.ravel())
        assert ax.get_zlim() == (0, 8) and (mesh.norm.vmin, mesh.norm.vmax) == (0, 8)
    assert [ax.get_title() for ax in panels] == list(BOTH)
    assert fig.axes[-1].get_ylabel() == "loss on the test images, clamped at 8"


@every_maker
def test_an_overflown_loss_is_drawn_at_the_top(make):
    loss = bowl(2.0)
    loss[0, 0], loss[0, 1], loss[4, 4] = math.inf, math.nan, -math.inf
    make(found(loss))
    finite = np.where(np.isfinite(loss), loss, 0)
    finite[0, :2], finite[4, 4] = 1e9, -1e9
    ax = figures.fig4_surfaces(found(finite), clamp=3.0, task="lesion").axes[1]
    same = figures.fig4_surfaces(found(loss), clamp=3.0, task="lesion").axes[1]
    np.testing.assert_array_equal(same.collections[0].get_array(), ax.collections[0].get_array())


@every_maker
def test_losses_of_zero_and_surfaces_that_are_flat_can_be_drawn(make):
    flat = np.full((5, 5), 0.7)
    make(found(flat, flat))
    make(found(np.zeros((5, 5)), bowl(2.0) - 0.5))
    make(found(np.zeros((5, 5)), np.zeros((5, 5)), seeds=(0,)))


@every_maker
def test_what_cannot_be_drawn_is_named(make):
    with pytest.raises(InputError, match="no surface of RoS-KD in direction seed 0"):
        make(found()[::2])
    with pytest.raises(InputError, match="no surface of Baseline III and RoS-KD"):
        make([])
    with pytest.raises(InputError, match="different grids"):
        make([found()[0], found()[1] | {"grid": 2 * GRID}])
    with pytest.raises(InputError, match="no loss on the plane is finite"):
        make(found(*[np.full((5, 5), math.nan)] * 2))
    for clamp in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="clamp is"):
            make(found(), clamp)


# the numbers


BASIN = {"Baseline III": 0.2, "RoS-KD": 0.4, "RoS-KD, BatchNorm as copied": 0.3}
STATES = {name: (name.split(",")[0], "landscape" + name.removeprefix(name.split(",")[0])) for name in BASIN}
SCALE = {"hessian_eigenvalue": -20, "hessian_trace": 1e4, "weight_norm": 1, "loss": 7, "hessian_trace_error": 1e3}
RADII = {"0.01": 1e4, "0.001": 100, "0.0001": 1}  # a file of results has them by alphabet


def numbers(replicates=(0, 1, 2), tasks=TASKS, directions=(0,)):
    """Basins and sharpness grow by 0.01 (times the scale) a replicate, and by the same to either side of a mean direction."""
    rows = []
    for task in tasks:
        more = 0.1 * (task == "chest")
        for state, (setting, variant) in STATES.items():
            known = {"task": task, "setting": setting, "student": "resnet18", "variant": variant, "overlap": 0.4, "noise": 0.2,
                     "attack": "", "eps": math.nan, "norm": "", "class": "", "average": "", "run": state}  # fmt: skip
            for r in replicates:
                rows += [
                    known | {"replicate": r, "metric": "basin_area", "average": level, "class": f"directions {d}",
                             "value": BASIN[state] + more + 0.01 * (r + d - np.mean(directions))}
                    for level in ("0.5", "2", "10") for d in directions
                ]  # fmt: skip
                base = known | {"replicate": r}
                found = [("sharpness", radius, scale) for radius, scale in RADII.items()]
                found += [(metric, "", scale) for metric, scale in SCALE.items()]
                rows += [
                    base | {"metric": metric, "average": average, "value": (BASIN[state] + 0.01 * r) * scale}
                    for metric, average, scale in found
                ]
            rows.append(
                known
                | {"replicate": 0, "metric": "basin_area", "average": "2", "value": 0.99, "variant": "reading: other"}
            )
    return validate(pd.DataFrame(rows))


def drawn(ax, state):
    """(x, means, ends of the error bars) of a state in the panel of basins, or in that of sharpness."""
    colour, hollow = SETTING_STYLES[STATES[state][0]]["color"], "copied" in state
    [bars] = [b for b in ax.containers if b.lines[0].get_color() == colour
              and (b.lines[0].get_markerfacecolor() == "white") is hollow]  # fmt: skip
    ends = [segment for part in bars.lines[2] for segment in part.get_segments()]
    return *bars.lines[0].get_data(), ends


@pytest.mark.parametrize("directions", [(0,), (0, 1), (3, 4, 5)])
def test_basins_are_means_and_std_over_the_replicates_with_each_beside_them(directions):
    """Of several pairs of directions the mean counts: they change neither the mean nor the spread."""
    fig = figures.basin_plot(numbers(directions=directions), tasks=TASKS)
    assert len(fig.axes) == 10
    for ax, task, more in ((fig.axes[0], "lesion", 0), (fig.axes[5], "chest", 10)):
        assert ax.get_ylabel() == f"{task}\nshare of the plane (%)"
        assert [text.get_text() for text in ax.get_xticklabels()] == ["+0.5", "+2", "+10"]
        for state, value in BASIN.items():
            x, means, ends = drawn(ax, state)
            assert means == pytest.approx([100 * value + 1 + more] * 3) and np.sort(np.round(x)).tolist() == [0, 1, 2]
            assert ends[0][:, 1] == pytest.approx([100 * value + more, 100 * value + more + 2])
        dots = [line.get_ydata() for line in ax.lines if line.get_marker() == "o" and line.get_alpha() == 0.5]
        assert [sorted(np.round(y, 6)) for y in dots] == [
            sorted(np.repeat([100 * v + more + s for s in range(3)], 3).round(6)) for v in BASIN.values()
        ]
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 42 + more
    [legend] = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == list(BASIN)
    assert legend.get_title().get_text() == over_seeds([3])


def test_sharpness_is_a_curve_over_the_radii_on_logarithmic_scales():
    fig = figures.basin_plot(numbers(), tasks=TASKS)
    for ax in (fig.axes[1], fig.axes[6]):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        for state, value in BASIN.items():
            x, means, ends = drawn(ax, state)
            assert x.tolist() == [1e-4, 1e-3, 1e-2] and means == pytest.approx(
                [(value + 0.01) * s for s in (1, 100, 1e4)]
            )
            assert ends[1][:, 1] == pytest.approx([100 * value, 100 * value + 2])
    assert "radius" in fig.axes[6].get_xlabel() and "sharpness" in fig.axes[1].get_title(loc="left")


def test_a_sharpness_without_a_logarithm_is_left_out_of_its_curve():
    rows = numbers()
    where = (rows["metric"] == "sharpness") & (rows["setting"] == "RoS-KD")
    rows.loc[where & (rows["average"] == "0.0001"), "value"] = 0.0
    rows.loc[where & (rows["average"] == "0.01"), "value"] = math.inf
    ax = figures.basin_plot(rows, tasks=TASKS).axes[1]
    assert drawn(ax, "RoS-KD")[0].tolist() == [1e-3] and drawn(ax, "Baseline III")[0].tolist() == [1e-4, 1e-3, 1e-2]


BARS = ("hessian_eigenvalue", "hessian_trace", "weight_norm")


def errors_of(ax):
    return [segment[:, 1] for bar in ax.containers if getattr(bar, "errorbar", None)
            for segment in bar.errorbar.lines[2][0].get_segments()]  # fmt: skip


def test_the_other_numbers_are_bars_with_their_mean_and_std_over_the_replicates():
    fig = figures.basin_plot(numbers(), tasks=TASKS)
    for ax, metric in zip(fig.axes[2:5], BARS, strict=True):
        values = np.array([(value + 0.01) * SCALE[metric] for value in BASIN.values()])
        std = 0.01 * abs(SCALE[metric])
        assert [bar.get_height() for bar in ax.patches] == pytest.approx(values)
        assert [text.get_text() for text in ax.texts] == [f"{float(f'{value:.3g}'):g}" for value in values]
        faces = [bar.get_facecolor() for bar in ax.patches]
        colours = [SETTING_STYLES[name]["color"] for name in BOTH] + ["white"]
        assert faces == [to_rgba(colour) for colour in colours]
        assert ax.get_title()
        assert np.array(errors_of(ax)) == pytest.approx(np.array([[v - std, v + std] for v in values]))


def test_large_numbers_are_written_out():
    rows = numbers().assign(value=lambda table: table["value"].where(table["metric"] != "hessian_trace", 3455.3))
    texts = [text.get_text() for text in figures.basin_plot(rows, tasks=TASKS).axes[3].texts]
    assert texts == ["3460"] * 3


def test_one_replicate_has_no_spread_and_says_so_but_its_trace_has_a_standard_error():
    fig = figures.basin_plot(numbers(replicates=(0,), directions=(0, 1)), tasks={"chest": TASKS["chest"]})
    assert len(fig.axes) == 5
    assert not any(drawn(ax, state)[2] for state in BASIN for ax in fig.axes[:2])
    assert not [line for line in fig.axes[0].lines if line.get_alpha() == 0.5]
    assert not errors_of(fig.axes[2]) and not errors_of(fig.axes[4])
    assert np.array(errors_of(fig.axes[3])) == pytest.approx(np.array([[v * 9e3, v * 11e3] for v in BASIN.values()]))
    title = fig.legends[0].get_title().get_text()
    assert title.startswith(over_seeds([1])) and title.endswith("bar of the trace: its standard error")


def test_what_was_not_measured_is_left_out():
    rows = numbers()
    rows = rows[(rows["variant"] == "landscape") & (rows["metric"] != "hessian_eigenvalue")]
    fig = figures.basin_plot(rows[rows["task"] == "lesion"], tasks=TASKS)
    assert len(fig.axes) == 5 and not fig.axes[2].patches and len(fig.axes[3].patches) == 2
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(BOTH)
    only = figures.basin_plot(rows[rows["metric"] == "weight_norm"], tasks=TASKS)
    assert len(only.axes[4].patches) == 2 and not only.axes[1].containers
    others = numbers().query("variant == 'reading: other'")
    with pytest.raises(InputError, match="nothing for the loss landscape.*run its notebook"):
        figures.basin_plot(others, tasks=TASKS)


def test_a_basin_that_is_no_number_leaves_a_gap():
    rows = numbers(replicates=(0,))
    rows.loc[(rows["metric"] == "basin_area") & (rows["setting"] == "RoS-KD"), "value"] = math.nan
    ax = figures.basin_plot(rows, tasks=TASKS).axes[0]
    assert np.isfinite(ax.get_ylim()).all() and np.isnan(drawn(ax, "RoS-KD")[1]).all()


# the line


def test_a_path_runs_from_one_student_to_the_other():
    paths = {"replicate 1": np.array([1.0, 3.0, 2.0]), "replicate 2": np.array([1.5, 2.5, 4.0])}
    [ax] = figures.path_plot(paths, task="lesion").axes
    lines = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) > 1}
    assert {name: line.get_xydata().tolist() for name, line in lines.items()} == {
        name: np.column_stack([[0, 0.5, 1], losses]).tolist() for name, losses in paths.items()
    }
    assert (
        len({line.get_color() for line in lines.values()})
        == len({line.get_linestyle() for line in lines.values()})
        == 2
    )
    ends = [(line.get_marker(), *line.get_xydata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert ends == [("s", 0, 1), ("o", 1, 2), ("s", 0, 1.5), ("o", 1, 4)]
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks[0].endswith("Baseline III") and ticks[-1].endswith("RoS-KD")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(paths)
    assert ax.get_title(loc="left").startswith("lesion")


def test_without_a_path_there_is_nothing_to_draw():
    with pytest.raises(InputError, match="no path to draw"):
        figures.path_plot({}, task="lesion")


@pytest.mark.parametrize("name", ["contours", "surfaces", "basin", "path"])
def test_the_same_figure_gives_the_same_bytes(name, tmp_path):
    draw = {
        **{maker: lambda make=make: make(found()) for maker, make in MAKERS.items()},
        "basin": lambda: figures.basin_plot(numbers(), tasks=TASKS),
        "path": lambda: figures.path_plot({"replicate 1": np.array([1.0, 2.0])}, task="chest"),
    }[name]
    made = [figures.write_figure(draw(), tmp_path / folder, name, WATERMARK) for folder in ("a", "b")]
    assert [path.read_bytes() for path in made[0]] == [path.read_bytes() for path in made[1]]


def test_no_label_of_a_surface_lies_on_the_watermark(tmp_path):
    """Labels are dark and the watermark is grey: among its lines of pixels none is dark."""
    fig = figures.fig4_surfaces(found(), clamp=8.0, task="lesion")
    _, png = figures.write_figure(fig, tmp_path, "surfaces", WATERMARK)
    lines = np.asarray(Image.open(png).convert("L"))[::-1].min(axis=1)
    lowest, *_ = np.flatnonzero(lines < 255)
    assert lowest < 20 and lines[lowest : lowest + 15].min() > 100
