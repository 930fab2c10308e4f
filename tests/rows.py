"""Made-up measurements and the study that they are of, for tests of tables and figures; and what a figure shows."""

import math
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from rosutils.paper import look
from rosutils.paper.write import write_figure
from rosutils.results import COLUMNS, validate
from rosutils.settings import PRINTED_AVERAGE


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
WATERMARK = "profile demo · synthetic images · 50 % & not comparable with the paper"
SEEDS, STEP = (0, 1, 2), 0.01  # what is measured is centre + STEP * (replicate - 1): its mean and standard deviation
EPS = 1.28 / 255
NORMS = ("l2", "linf", "l2-scaled")
matplotlib.rcParams.update(look.STYLE)  # what an item lays on, for what draws its figures


def rows(task, setting, centre, *, seeds=SEEDS, step=STEP, **columns):
    """One measurement in each replicate; F1 in the printed averaging where nothing else is said."""
    blank = {"student": "resnet18", "variant": "", "variant_value": "", "attack": "", "eps": math.nan, "norm": "", "class": "",
             "average": PRINTED_AVERAGE[TASKS.get(task, TASKS["lesion"])["multilabel"]], "metric": "f1"}  # fmt: skip
    which = blank | {"task": task, "setting": setting} | columns
    return [which | {"replicate": s, "value": centre + step * (s - 1), "run": f"{setting}-{s}"} for s in seeds]


def frame(*found):
    every = [row for some in found for row in some]
    return validate(pd.DataFrame(every, columns=list(COLUMNS)))


def study_of(results, tasks=TASKS):
    """What tables and figures ask of a study."""
    parameters = SimpleNamespace(
        tasks=list(tasks), distillation=SimpleNamespace(student="resnet18"),
        attacks=SimpleNamespace(norms=NORMS, eps=EPS, curve_norm="linf"), landscape=SimpleNamespace(sharpness_radius=0.001),
    )  # fmt: skip
    about = {"results": lambda: results, "about_tasks": lambda: tasks, "watermark": lambda: WATERMARK}
    about["for_task"] = lambda task: SimpleNamespace(replicates=[])  # without a run
    return SimpleNamespace(parameters=parameters, variants={}, **about)


def said(fig):
    """The title and the words of a figure's legend."""
    legend = fig.legends[0]
    return [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


def chance_in(ax, *, across):
    """Where the panel's lines of no skill are: their x (across) or y."""
    return [line.get_xydata()[0, int(not across)] for line in ax.lines if line.get_label() == look.NO_SKILL]


def drawn(ax, setting):
    """The points [n, 2] of the lines of a panel in the setting's colour and marker."""
    alike = (look.MARKER[setting], look.COLOUR[setting], None)
    found = [line for line in ax.lines if (line.get_marker(), line.get_color(), line.get_alpha()) == alike]
    return [line.get_xydata() for line in found if len(line.get_xdata())]


def ends(ax, setting):
    """The ends [n, 2, 2] of the error bars in the setting's colour, of seaborn's points (lines) and curves (containers)."""
    found = [np.array(part) for bars in ax.containers for lines in bars.lines[2] for part in lines.get_segments()
             if lines.get_color()[0][:3].tolist() == list(to_rgb(look.COLOUR[setting]))]  # fmt: skip
    for line in ax.lines:
        xy = line.get_xydata()
        if line.get_color() == look.COLOUR[setting] and len(xy) == 8 and np.isfinite(xy[3:5]).all():  # cap, bar, cap
            found.append(xy[3:5])
    return found


def same_bytes(make, folder):
    """Whether two figures made alike are written as the same bytes."""
    made = [write_figure(make(), folder / name, "figure", WATERMARK) for name in ("a", "b")]
    assert [path.name for path in made[0]] == ["figure.pdf", "figure.png"]
    return [path.read_bytes() for path in made[0]] == [path.read_bytes() for path in made[1]]
