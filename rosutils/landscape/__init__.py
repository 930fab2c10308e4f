"""The loss around trained weights: a plane (Section IV-F, Fig. 4), and the numbers that stand beside its picture."""

from rosutils.landscape.curvature import hessian_eigenvalue, hessian_trace, sharpness
from rosutils.landscape.line import path
from rosutils.landscape.plane import basin_area, filter_normalized_directions, loss_surface, square_grid
from rosutils.landscape.weights import weight_norm


__all__ = [
    "basin_area", "filter_normalized_directions", "hessian_eigenvalue", "hessian_trace", "loss_surface", "path", "sharpness",
    "square_grid", "weight_norm",
]  # fmt: skip
