"""Playing with what a study has stored: each function shows a widget in JupyterLab, and a still picture anywhere else.

Nothing here trains or writes: what a slider moves is drawn anew from banks, logits, histories and surfaces that are there.
"""

from rosutils.explore.method import averages, curves, images, mixture, source, subsets
from rosutils.explore.probes import attack, contours, surface, wrong_labels


__all__ = [
    "attack", "averages", "contours", "curves", "images", "mixture", "source", "subsets", "surface", "wrong_labels",
]  # fmt: skip
