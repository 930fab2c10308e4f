"""One function per figure: plain arrays and tables in, a matplotlib Figure out."""

from rosutils.figures.basin import basin_plot, path_plot
from rosutils.figures.inputs import class_counts, image_checks, montage, noise_matrix, overlap_heatmap
from rosutils.figures.landscape import fig4_contours, fig4_surfaces
from rosutils.figures.learning import averaging_path, selection_curves, soft_targets, training_curves, weight_draws
from rosutils.figures.look import architecture_name, style, write_figure
from rosutils.figures.noise import agreement, noise_scores
from rosutils.figures.robustness import eps_curve, table2_plot
from rosutils.figures.schematic import fig1_schematic
from rosutils.figures.scores import table1_plot, teacher_scores
from rosutils.figures.sweeps import fig2_students, fig3_overlap, readings_tornado


__all__ = [
    "agreement", "architecture_name", "averaging_path", "basin_plot", "class_counts", "eps_curve", "fig1_schematic",
    "fig2_students", "fig3_overlap", "fig4_contours", "fig4_surfaces", "image_checks", "montage", "noise_matrix", "noise_scores",
    "overlap_heatmap", "path_plot", "readings_tornado", "selection_curves", "soft_targets", "style", "table1_plot",
    "table2_plot", "teacher_scores", "training_curves", "weight_draws", "write_figure",
]  # fmt: skip
