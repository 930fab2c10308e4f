"""Fig. 3: how much the teachers' subsets should overlap."""

import pandas as pd
from matplotlib.figure import Figure

from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.results import select


SWEPT = ("Baseline V", "RoS-KD")


def plot(study) -> Figure:
    """F1 against the overlap ratio of the teachers' subsets (%), and Baseline III, which has none, as a band (mean ± std).

    The paper prints no number here; its text says only that none is better than all, and some better than none.
    """
    which = {"variant": "overlap", "attack": "", "class_": "", "metric": "f1", "setting": ("Baseline III", *SWEPT)}
    rows = select(study.results(), **which)
    rows = rows.assign(percent=100 * rows["variant_value"].astype(float))
    handles = {name: look.handle(name) for name in ("Baseline III", *SWEPT) if name in set(rows["setting"])}
    handles = {name.replace("III", "III (no subsets)"): handle for name, handle in handles.items()}
    options = {"handles": handles, "variant": "overlap", "across": False, "size": (look.WIDTH, 2.5)}
    return look.f1_panels(study, rows, "Fig. 3", _draw, **options)


def _draw(ax, rows: pd.DataFrame, task: str) -> None:
    band, swept = select(rows, setting="Baseline III")["value"], select(rows, setting=SWEPT)
    look.curves(ax, swept, "percent")
    if len(band):
        ax.axhline(band.mean(), color=look.COLOUR["Baseline III"], ls=look.LINES["Baseline III"], lw=1, zorder=1)
    if len(band) > 1:
        ends = band.mean() - band.std(), band.mean() + band.std()
        ax.axhspan(*ends, color=look.COLOUR["Baseline III"], alpha=0.15, lw=0, zorder=0)
    ax.set(xlabel="overlap ratio of the teachers' subsets (%)", xticks=swept["percent"].unique())


FIGURE = Item(
    "fig3", "Fig. 3, overlap", "05_figures", ("fig3",), plot,
    "F1 of RoS-KD against the overlap, teachers retrained at each ratio; band: Baseline III.",
)  # fmt: skip
