"""Fig. 4 and the numbers beside it: what is drawn is what was measured, for both models on one scale."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from rosutils import InputError, figures
from rosutils.results import validate


GRID = np.linspace(-1, 1, 5)
TASKS = {"lesion": {"multilabel": False}}


def bowl(steepness):
    return 0.5 + steepness * (GRID[:, None] ** 2 + 2 * GRID[None, :] ** 2)


def found(seeds=(0, 1), **losses):
    losses = losses or {"Baseline III": bowl(10.0), "RoS-KD": bowl(2.0)}
    return [{"setting": s, "seed": d, "grid": GRID, "loss": loss + d} for d in seeds for s, loss in losses.items()]


def panels(fig):
    return [ax for ax in fig.axes if ax.get_title(loc="left")]


def test_both_models_have_the_same_levels_and_colours_clamped_and_as_they_are():
    fig = figures.fig4_contours(found(), clamp=8.0, task="lesion")
    titles = [ax.get_title(loc="left") for ax in panels(fig)]
    assert titles[:2] == ["Baseline III, clamped at 8", "RoS-KD, clamped at 8"] and "as it is" in titles[2]
    for one, two in (panels(fig)[:2], panels(fig)[2:]):
        filled = [ax.collections[0] for ax in (one, two)]
        np.testing.assert_array_equal(filled[0].levels, filled[1].levels)
        assert filled[0].norm.vmin == filled[1].norm.vmin and filled[0].norm.vmax == filled[1].norm.vmax
    assert panels(fig)[0].collections[0].norm.vmax == 8.0
    assert panels(fig)[2].collections[0].norm.vmax == pytest.approx(30.5)
    assert "draw 0" in fig.get_suptitle()


def test_the_first_direction_is_up_and_the_second_to_the_right():
    loss = np.tile(GRID[None, :] + 2.0, (5, 1))  # grows along the second direction alone
    fig = figures.fig4_contours(found(**{"Baseline III": loss, "RoS-KD": loss}), clamp=8.0, task="lesion")
    [line] = [path for path in panels(fig)[0].collections[1].get_paths() if len(path.vertices)][:1]
    assert np.ptp(line.vertices[:, 0]) < 1e-9, "a level is upright where the loss depends on the second direction"
    assert "second" in panels(fig)[2].get_xlabel() and "first" in panels(fig)[0].get_ylabel()


def test_an_overflown_loss_is_drawn_at_the_top():
    loss = bowl(2.0)
    loss[0, 0], loss[0, 1] = math.inf, math.nan
    for draw in (figures.fig4_contours, figures.fig4_surfaces):
        assert draw(found(**{"Baseline III": loss, "RoS-KD": bowl(1.0)}), clamp=8.0, task="x").axes
    heights = surfaces_of(
        figures.turnable_surfaces(found(**{"Baseline III": loss, "RoS-KD": bowl(1.0)}), clamp=3.0, task="x")
    )
    assert heights["planes"][0]["loss"][0][:2] == [3.0, 3.0] and heights["top"] == 3.0


def surfaces_of(html):
    return json.loads(re.search(r"const D=(\{.*?\});", html.replace("&#34;", '"').replace("&quot;", '"')).group(1))


def test_the_surfaces_to_turn_hold_the_losses_and_load_nothing():
    html = figures.turnable_surfaces(found(), clamp=8.0, task="lesion <b>")
    data = surfaces_of(html)
    np.testing.assert_allclose(data["planes"][0]["loss"], np.minimum(bowl(10.0), 8.0), atol=1e-4)
    assert [plane["title"] for plane in data["planes"]] == ["Baseline III", "RoS-KD"]
    assert not re.search(r"https?:|src=|@import|url\(", html) and "<b>" not in html
    assert html.count("<iframe srcdoc=") == 1


def test_a_missing_surface_is_named():
    with pytest.raises(InputError, match="no surface of RoS-KD in direction seed 0"):
        figures.fig4_contours(found(**{"Baseline III": bowl(1.0)}), clamp=8.0, task="lesion")


def numbers():
    rows = []
    for setting, variant, basin in (("Baseline III", "landscape", 0.2), ("RoS-KD", "landscape", 0.4),
                                    ("RoS-KD", "landscape, BatchNorm as copied", 0.3)):  # fmt: skip
        known = {"task": "lesion", "setting": setting, "student": "resnet18", "variant": variant, "overlap": 0.4, "noise": 0.2,
                 "attack": "", "eps": math.nan, "norm": "", "class": "", "average": "", "run": f"{setting}{variant}"}  # fmt: skip
        rows += [known | {"seed": seed, "metric": "basin_area", "average": level, "value": basin + 0.01 * seed}
                 for seed in (0, 1, 2) for level in ("0.5", "2")]  # fmt: skip
        rows += [known | {"seed": 0, "metric": metric, "value": basin * 100}
                 for metric in ("sharpness", "hessian_eigenvalue", "hessian_trace", "weight_norm", "loss")]  # fmt: skip
    return validate(pd.DataFrame(rows))


def test_basins_are_means_over_the_draws_and_each_draw_is_a_dot():
    fig = figures.basin_plot(numbers(), tasks=TASKS)
    lines = fig.axes[0].lines
    means = [line.get_ydata()[0] for line in lines if line.get_marker() != "."]
    assert means == pytest.approx([0.21, 0.41, 0.31])
    assert [len(line.get_ydata()) for line in lines if line.get_marker() == "."] == [6, 6, 6]
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["+0.5", "+2"]
    for ax in fig.axes[1:]:
        assert [bar.get_height() for bar in ax.patches] == pytest.approx([20, 40, 30])
    [legend] = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Baseline III", "RoS-KD", "RoS-KD, BatchNorm as copied"]
    assert "3 draws" in legend.get_title().get_text()


def test_without_measurements_there_is_no_basin_plot():
    with pytest.raises(InputError, match="nothing for the loss landscape"):
        figures.basin_plot(numbers()[:0], tasks=TASKS)


def test_a_path_runs_from_one_student_to_the_other():
    paths = {"seed 0": np.array([1.0, 3.0, 2.0]), "seed 1": np.array([1.5, 2.5, 2.0])}
    [ax] = figures.path_plot(paths, task="lesion").axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0, 0.5, 1]] * 2
    assert [line.get_label() for line in ax.lines] == ["seed 0", "seed 1"]
    with pytest.raises(InputError, match="no path to draw"):
        figures.path_plot({}, task="lesion")


@pytest.mark.parametrize("name", ["fig4_contours", "fig4_surfaces", "basin_plot"])
def test_the_same_figure_gives_the_same_bytes(name, tmp_path):
    made = []
    for folder in ("a", "b"):
        draw = getattr(figures, name)
        fig = draw(numbers(), tasks=TASKS) if name == "basin_plot" else draw(found(), clamp=8.0, task="lesion")
        made.append([path.read_bytes() for path in figures.write_figure(fig, tmp_path / folder, name, "mark")])
    assert made[0] == made[1]
