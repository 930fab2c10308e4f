"""One function per figure: plain arrays and tables in, a matplotlib Figure out."""

from rosutils.figures.inputs import class_counts, montage, noise_matrix, overlap_heatmap
from rosutils.figures.learning import averaging_path, soft_targets, training_curves, weight_draws
from rosutils.figures.look import architecture_name, style, write_figure
from rosutils.figures.schematic import fig1_schematic
from rosutils.figures.scores import table1_plot, teacher_scores


__all__ = [
    "architecture_name", "averaging_path", "class_counts", "fig1_schematic", "montage", "noise_matrix",
    "overlap_heatmap", "soft_targets", "style", "table1_plot", "teacher_scores", "training_curves", "weight_draws",
    "write_figure",
]  # fmt: skip
