"""Figures: something in every panel, the right numbers in it, and the same bytes each time."""

import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rosutils import InputError, figures, losses
from rosutils.distill import PLANTED
from rosutils.figures.learning import PLANTED_STYLES
from rosutils.figures.look import SETTING_STYLES, colours
from rosutils.figures.schematic import membership
from rosutils.figures.scores import NO_SKILL, over_seeds
from rosutils.results import validate
from rosutils.settings import CHANCE, PLAIN, PRINTED_AVERAGE, ROWS, TEACHERS
from rosutils.subsets import overlapping_subsets


WATERMARK = "profile demo · synthetic images · not comparable with the paper"
CLASSES = ["MEL", "NV", "BCC"]
ARCHITECTURES = ["resnet18", "resnet34", "mobilenet_v2"]
TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
CHANCE_AT = {"lesion": 0.25, "chest": 0.2}  # of random scores' percentile; the others are below it


def measured(seeds=(0, 1, 2)):
    """F1 of setting number i is 0.3 + i / 20, and 0.01 more with each replicate, that of no skill too."""
    rows = [
        {"task": task, "setting": setting, "student": student, "variant": "", "replicate": seed, "overlap": 0.4, "noise": 0.2,
         "attack": "", "eps": np.nan, "norm": "", "class": "", "average": PRINTED_AVERAGE[about["multilabel"]], "metric": "f1",
         "value": 0.3 + place / 20 + seed / 100, "run": "run"}
        for task, about in TASKS.items() for place, setting in enumerate((*ROWS, *TEACHERS))
        for student in (ARCHITECTURES if setting in TEACHERS else ["resnet18"])
        for seed in (seeds if setting in ROWS else (0,))
    ]  # fmt: skip
    rows += [
        rows[0] | {"task": task, "setting": setting, "student": "", "replicate": seed, "overlap": np.nan,
                   "average": PRINTED_AVERAGE[about["multilabel"]], "value": CHANCE_AT[task] - below + seed / 100}
        for task, about in TASKS.items() for setting, below in zip((PLAIN, *CHANCE), (-0.5, 0.02, 0.1, 0), strict=True)
        for seed in seeds
    ]  # fmt: skip
    rows = pd.DataFrame(rows)
    # what the same settings scored elsewhere must stay out of Table I
    elsewhere = [rows.assign(variant="students", value=0.9), rows.assign(attack="pgd", eps=0.005, norm="l2", value=0.0)]
    return validate(pd.concat([rows, *elsewhere]))


def history(runs=("ResNet-18, subset", "ResNet-34, subset"), epochs=6):
    rows = [
        {"run": run, "epoch": epoch, "loss": 2 / epoch, "validation_loss": 2.2 / epoch, "validation_f1": epoch / 10,
         "learning_rate": 0.1 if epoch <= 3 else 0.01, "averaged_validation_f1": epoch / 9 if epoch > 2 else np.nan}
        for run in runs for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def planted(rewards=("r2",), seeds=(0, 1, 2), epochs=4):
    """As `distill.planted_selection` tells them; seeds move every probability by 0.01."""
    return pd.DataFrame([
        {"reward": reward, "seed": seed, "epoch": epoch, "teacher": teacher,
         "probability": 0.5 + side * epoch / 10 + seed / 100, "unselected": 0.1}
        for reward in rewards for seed in seeds for epoch in range(1, epochs + 1)
        for teacher, side in (("good", 1), ("misleading", -1), ("random", 0))
    ])  # fmt: skip


def subsets(scheme="shared-core", overlap=0.4, n=100):
    return overlapping_subsets(n, 3, overlap, scheme=scheme, generator=torch.Generator().manual_seed(0))


def schematic(**changes):
    options = {"student": "resnet18", "overlap": 0.4, "scheme": "shared-core", "epochs": 8, "averaging_start": 2}
    options |= {"temperature": 0.5, "alpha": 0.9, "weights": np.array([[1, 1, 2.0], [3, 1, 0]]), "subsets": subsets()}
    options |= changes
    return figures.fig1_schematic(options.pop("subsets"), ARCHITECTURES, options.pop("weights"), **options)


def table1_plot(results, tasks=TASKS):
    return figures.table1_plot(results, tasks=tasks, student="resnet18")


LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
MANY = np.eye(3)[LABELS]
MAKERS = {
    "class_counts": lambda: figures.class_counts({"training": LABELS, "test": LABELS[:4]}, CLASSES, False),
    "class_counts, several": lambda: figures.class_counts({"training": MANY}, CLASSES, True),
    "noise_matrix": lambda: figures.noise_matrix(LABELS, LABELS[::-1], CLASSES),
    "noise_matrix, several": lambda: figures.noise_matrix(MANY, MANY[::-1], CLASSES),
    "overlap_heatmap": lambda: figures.overlap_heatmap(np.eye(3), ARCHITECTURES),
    "image_checks": lambda: figures.image_checks({"600x450": 9, "20x20": 1}, {c: np.arange(5.0) for c in CLASSES}, 32),
    "image_checks, drawn": lambda: figures.image_checks(None, {"a": np.arange(5.0), "none": np.array([])}, 32),
    "montage": lambda: figures.montage({c: np.zeros((2 + i, 3, 8, 8), np.uint8) for i, c in enumerate(CLASSES)}, "t"),
    "montage, grey": lambda: figures.montage({"Mass": np.zeros((2, 1, 8, 8), np.uint8)}, "t"),
    "training_curves": lambda: figures.training_curves(history()),
    "training_curves, six runs": lambda: figures.training_curves(history(runs=list("abcdef"), epochs=4)),
    "teacher_scores": lambda: figures.teacher_scores(measured(), tasks=TASKS),
    "soft_targets": lambda: figures.soft_targets([1.0, -2, 0], [0.5, 4], CLASSES),
    "weight_draws": lambda: figures.weight_draws(np.random.default_rng(0).exponential(size=(50, 3)), ARCHITECTURES),
    "averaging_path": lambda: figures.averaging_path(history(runs=["x"])),
    "selection_curves": lambda: figures.selection_curves(planted()),
    "selection_curves, every reward": lambda: figures.selection_curves(planted(("r1", "r2", "r3"), seeds=(0,))),
    "table1_plot": lambda: table1_plot(measured()),
    "table1_plot, one replicate": lambda: table1_plot(measured((0,))),
    "fig1_schematic": schematic,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_every_figure_has_its_panels_filled_and_its_bytes_repeat(make, tmp_path):
    drawn = make()
    assert isinstance(drawn, Figure)
    for ax in drawn.axes:
        assert not (ax.get_visible() and ax.axison) or ax.has_data(), "an empty panel"
    first = figures.write_figure(drawn, tmp_path / "a", "figure", WATERMARK)
    second = figures.write_figure(make(), tmp_path / "b", "figure", WATERMARK)
    assert [path.name for path in first] == ["figure.pdf", "figure.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes() and b"Software" not in first[1].read_bytes()
    assert drawn.get_supxlabel() == WATERMARK


def overlapping(texts, renderer):
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if text.get_text().strip() and text.get_visible()
    ]
    pairs = ((a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    return [(a[0], b[0]) for a, b in pairs if a[1].padded(-1).overlaps(b[1].padded(-1))], boxes


@pytest.mark.parametrize("scheme", ["shared-core", "own-shard", "sliding-window"])
def test_no_words_of_fig1_lie_on_others_or_outside_the_page(scheme, tmp_path):
    drawn = schematic(subsets=subsets(scheme), scheme=scheme)
    figures.write_figure(drawn, tmp_path, "fig1", WATERMARK)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    words = [*drawn.axes[0].texts, *drawn.axes[0].get_legend().get_texts(), *drawn.texts]
    clashes, boxes = overlapping(words, canvas.get_renderer())
    assert clashes == []
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y1 <= drawn.bbox.y1 for _, box in boxes)


def test_fig1_counts_the_training_examples_whatever_their_numbers_in_the_task():
    assert membership([np.array([10, 30]), np.array([30, 50])]).tolist() == [[True, True, False], [True, False, True]]


@pytest.mark.parametrize("scheme", ["shared-core", "own-shard", "sliding-window"])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_membership_keeps_sizes_and_intersections(scheme, overlap):
    parts = [set(part.tolist()) for part in subsets(scheme, overlap)]
    member = membership(subsets(scheme, overlap))
    assert member.shape == (3, 100) and member.any(0).all()
    assert (member.astype(int) @ member.T.astype(int) == [[len(a & b) for b in parts] for a in parts]).all()


def test_the_core_comes_first_and_the_shards_follow_in_one_piece_each():
    member = membership(subsets())
    core = int(member.all(0).sum())
    assert member[:, :core].all() and (member[:, core:].sum(0) == 1).all()
    assert (np.diff(member[:, core:].argmax(0)) >= 0).all()
    windows = membership(subsets("sliding-window"))
    assert (np.abs(np.diff(windows.astype(int), axis=1)).sum(1) <= 2).all()


def test_fig1_tells_the_actual_sizes_epochs_and_constants():
    drawn = schematic(epochs=50, averaging_start=10, temperature=4, alpha=0.7)
    words = " ".join(text.get_text() for text in drawn.axes[0].texts)
    for i, part in enumerate(subsets()):
        assert f"$|D^{{{i + 1}}}|$ = {len(part)}" in words
    assert "N = 100" in words and "epochs 11 to 50" in words and "MobileNet-v2" in words
    assert r"0.7\,\tau^2" in words and "+ 0.3" in words and r"\tau = 4" in words
    open_dots, full_dots = (len(dots.get_offsets()) for dots in drawn.axes[0].collections[-2:])
    assert (open_dots, full_dots) == (10, 40)


def test_fig1_stacks_the_weights_that_were_drawn():
    bars = [p for p in schematic().axes[0].patches if isinstance(p, Rectangle) and 4.1 < p.get_x() < 5.3]
    heights = np.array([bar.get_height() for bar in bars]).reshape(2, 3)
    assert np.allclose(heights / heights.sum(1, keepdims=True), [[0.25, 0.25, 0.5], [0.75, 0.25, 0]])


def test_fig1_refuses_a_teacher_without_a_weight():
    with pytest.raises(InputError, match="3, 3 and 2"):
        schematic(weights=np.ones((4, 2)))


def test_class_counts_are_counted():
    ax = MAKERS["class_counts"]().axes[0]
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[3, 2, 5], [3, 1, 0]]


def test_noise_matrix_is_the_share_of_given_among_clean():
    drawn = figures.noise_matrix(np.array([0, 0, 0, 0, 1, 2]), np.array([0, 0, 0, 1, 1, 0]), CLASSES)
    shares = drawn.axes[0].collections[0].get_array().reshape(3, 3)
    assert shares.tolist() == [[0.75, 0.25, 0], [0, 1, 0], [1, 0, 0]]
    assert "33.3% of 6" in drawn.axes[0].get_title(loc="left")


def test_noise_of_several_labels_is_what_was_missed_and_invented():
    clean, noisy = np.array([[1, 0], [1, 0], [0, 0], [0, 1]]), np.array([[0, 0], [1, 1], [0, 0], [0, 1]])
    bars = figures.noise_matrix(clean, noisy, ["a", "b"]).axes[0].containers
    assert [[bar.get_width() for bar in side] for side in bars] == [[0.5, 0], [0, pytest.approx(1 / 3)]]


def test_soft_targets_are_those_of_eq_3():
    drawn = figures.soft_targets([1.0, -2, 0], [0.5, 4], CLASSES)
    for ax, temperature in zip(drawn.axes, [0.5, 4], strict=True):
        expected = losses.soft_targets(torch.tensor([1.0, -2, 0], dtype=torch.float64), temperature)
        assert np.allclose([bar.get_width() for bar in ax.containers[0]], expected)


def test_weight_draws_mark_the_expected_largest_share():
    draws = np.random.default_rng(0).exponential(size=(4000, 5))
    lines = figures.weight_draws(draws, None).axes[1].lines
    theory, mean = (line.get_xdata()[0] for line in lines)
    assert theory == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5) and mean == pytest.approx(theory, abs=0.01)
    with pytest.raises(InputError, match="weights"):
        figures.weight_draws(np.zeros((4, 5)))


def test_learning_rate_steps_are_marked_between_the_epochs_they_separate():
    ax = figures.training_curves(history()).axes[0]
    assert [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1] == [3.5]


@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize(("factor", "scale"), [(1, "linear"), (100, "log")])
def test_a_loss_far_above_the_others_makes_the_scale_of_all_losses_logarithmic(epochs, factor, scale):
    table = history(runs=list("abcde"), epochs=epochs)
    table.loc[0, "validation_loss"] *= factor
    axes = figures.training_curves(table).axes
    assert [ax.get_yscale() for ax in axes] == [scale] * 5 + ["linear"] * 5


def test_selection_curves_are_means_over_seeds_beside_each_seed_and_lines_to_reach():
    drawn = figures.selection_curves(planted())
    lines = {line.get_label(): line for line in drawn.axes[0].lines}
    for teacher, side in (("good", 1), ("random", 0), ("misleading", -1)):
        assert lines[f"P({teacher})"].get_ydata() == pytest.approx([0.51 + side * epoch / 10 for epoch in range(1, 5)])
    assert [line.get_ydata()[0] for line in drawn.axes[0].lines[:2]] == [0.2, 0.8]
    thin = [line for line in drawn.axes[0].lines if line.get_lw() == 0.5]
    assert len(thin) == 9 and drawn.legends[0].get_title().get_text() == "mean of 3 seeds; thin: each"
    for part in ("color", "marker", "ls"):
        assert len({look[part] for look in PLANTED_STYLES.values()}) == 3
    assert tuple(PLANTED_STYLES) == PLANTED
    assert figures.selection_curves(planted(seeds=(0,))).legends[0].get_title().get_text() == "one seed"


def test_table1_plot_puts_the_mean_beside_the_printed_value():
    ax = table1_plot(measured()).axes[0]
    assert ax.lines[0].get_xdata()[-1] == 0.716 and len(ax.lines[0].get_xdata()) == 6
    drawn = {bars.lines[0].get_color(): bars for bars in ax.containers}
    dots = {line.get_color(): line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 3}
    for place, setting in enumerate(ROWS):
        points, _, [bar] = drawn[SETTING_STYLES[setting]["color"]].lines
        assert points.get_xydata().tolist() == [[pytest.approx(0.31 + place / 20), place]]
        assert bar.get_segments()[0][:, 0] == pytest.approx([0.30 + place / 20, 0.32 + place / 20])
        assert sorted(dots[SETTING_STYLES[setting]["color"]]) == pytest.approx(
            [0.3 + place / 20 + s / 100 for s in range(3)]
        )


def test_table1_plot_has_the_student_asked_for_and_no_other():
    rows = measured()
    other = rows[rows["setting"].isin(ROWS)].assign(student="resnet34", value=0.99)
    ax = table1_plot(pd.concat([rows, other])).axes[0]
    means = [bars.lines[0].get_xdata()[0] for bars in ax.containers]
    assert sorted(means) == pytest.approx([0.31 + place / 20 for place in range(len(ROWS))])
    with pytest.raises(TypeError, match="student"):
        figures.table1_plot(rows, tasks=TASKS)


def test_one_replicate_has_no_error_bar_and_the_legend_says_so():
    drawn = table1_plot(measured((0,)))
    assert all(not bars.has_xerr for ax in drawn.axes for bars in ax.containers)
    assert words(drawn) == ["ours: one replicate", "paper", "ours", NO_SKILL]


def words(drawn):
    legend = drawn.legends[0]
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


def chance_in(ax):
    """Where the panel's lines of no skill stand."""
    return [
        line.get_xdata()[0] for line in ax.lines if line.get_label() == NO_SKILL and len(set(line.get_xdata())) == 1
    ]


with_chance = pytest.mark.parametrize("make", [table1_plot, figures.teacher_scores])


@with_chance
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_highest_that_no_skill_scores_is_a_line_of_every_panel_and_named(make, seeds):
    """A mean over replicates, of the profile's own test part; logistic regression is no chance."""
    drawn = make(measured(seeds), tasks=TASKS)
    for ax in drawn.axes:
        [place] = chance_in(ax)
        assert place == pytest.approx(CHANCE_AT[ax.get_title(loc="left")] + 0.01 * (len(seeds) > 1))
        assert ax.get_xlim()[0] < place < ax.get_xlim()[1]
    assert words(drawn).count(NO_SKILL) == 1 and words(drawn)[-1] == NO_SKILL


@pytest.mark.parametrize("replicates", [3, 1])
def test_table1_plots_legend_is_on_the_page_also_where_settings_have_different_numbers_of_replicates(replicates):
    rows = measured()
    drawn = table1_plot(rows[(rows["setting"] != "Baseline III") | (rows["replicate"] < replicates)])
    drawn.draw_without_rendering()
    legend = drawn.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= drawn.bbox.x1 and legend.y1 <= drawn.bbox.y1
    over = "mean ± std over 3 replicates" if replicates == 3 else "mean ± std over 1 to 3 replicates (one: no bar)"
    assert words(drawn) == [f"ours: {over}", "paper", "ours, each replicate", "ours", NO_SKILL]


@with_chance
def test_where_chance_was_not_measured_there_is_no_line_and_the_legend_does_not_speak_of_it(make):
    rows = measured()
    drawn = make(rows[~rows["setting"].isin(CHANCE) | (rows["variant"] != "")], tasks=TASKS)
    assert not any(map(chance_in, drawn.axes)) and NO_SKILL not in words(drawn)
    one = make(rows[~rows["setting"].isin(CHANCE) | (rows["task"] == "chest")], tasks=TASKS)
    assert list(map(len, map(chance_in, one.axes))) == [0, 1] and NO_SKILL in words(one)


@pytest.mark.parametrize("make", [table1_plot, figures.teacher_scores])
def test_a_task_without_measurements_gets_no_panel_and_none_at_all_is_an_error(make):
    chest = measured().query("task == 'chest'")
    assert [ax.get_title(loc="left") for ax in make(chest, tasks=TASKS).axes] == ["chest"]
    with pytest.raises(InputError, match="lesion"):
        make(chest, tasks={"lesion": {"multilabel": False}})


@pytest.mark.parametrize(
    ("counts", "words"),
    [([1, 1], "one replicate"), ([3, 3], "mean ± std over 3 replicates"), ([2, 5], "mean ± std over 2 to 5 replicates"),
     ([1, 3], "mean ± std over 1 to 3 replicates (one: no bar)")],
)  # fmt: skip
def test_a_legend_tells_how_many_replicates_a_mean_is_over(counts, words):
    assert over_seeds(counts) == words


def test_settings_differ_in_colour_marker_and_line_and_all_have_a_style():
    assert set(SETTING_STYLES) == {*ROWS, *TEACHERS}
    for part in ("color", "marker", "ls"):
        assert len({str(look[part]) for look in SETTING_STYLES.values()}) == len(SETTING_STYLES)


def test_teacher_scores_join_full_set_and_subset():
    ax = figures.teacher_scores(measured(), tasks=TASKS).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ResNet-18", "ResNet-34", "MobileNet-v2"]
    assert ax.lines[1].get_xdata()[0] - ax.lines[0].get_xdata()[0] == pytest.approx(0.05)


def test_colours_stay_distinct_for_many_teachers():
    assert all(len(set(colours(n))) == n for n in (1, 5, 6, 7, 12))


def test_the_pdf_holds_the_words_as_text(tmp_path):
    path = figures.write_figure(schematic(), tmp_path, "fig1", WATERMARK)[0]
    data = path.read_bytes()
    assert b"/FontFile2" in data or b"FontFile2" in zlib.decompress(data.split(b"stream\n")[1].split(b"\nendstream")[0])
    assert b"/Type3" not in data


@pytest.mark.parametrize("sizes", [None, {"1024x1024": 9}])
def test_no_title_of_the_image_checks_is_cut_where_names_of_classes_are_long(sizes):
    fig = figures.image_checks(sizes, {"Pleural_Thickening": np.arange(5.0), "Cardiomegaly": np.arange(5.0)}, 32)
    fig.draw_without_rendering()
    assert max(ax.get_tightbbox().x1 for ax in fig.axes) <= fig.bbox.x1
