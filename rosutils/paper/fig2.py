"""Fig. 2: five student architectures under Baseline III and RoS-KD."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.results import select
from rosutils.settings import COMPARED


def plot(study) -> Figure:
    """F1 of each student, mean ± std, each replicate as a dot, and hollow where the gain stated in the text would put RoS-KD."""
    rows = select(study.results(), variant="students", setting=COMPARED, attack="", class_="", metric="f1")
    order = look.students(rows)
    handles = {name: look.handle(name, line=False) for name in COMPARED}
    handles["Baseline III plus the gain that the paper states"] = Line2D([], [], **look.PRINTED)

    def draw(ax, rows: pd.DataFrame, task: str) -> None:
        look.points(ax, rows, "student", order, dodge=0.34)
        floor = select(rows, setting="Baseline III").groupby("student")["value"].mean()
        for student, gain in stated_gains(task).items():
            if student in floor:
                ax.plot(floor[student] + gain, order.index(student), **look.PRINTED)

    size = (look.WIDTH, 0.95 + 0.36 * len(order))
    return look.f1_panels(study, rows, "Fig. 2", draw, handles=handles, variant="students", size=size, ncols=3)


def stated_gains(task: str) -> dict[str, float]:
    """The gains in F1 over Baseline III that the text states of Fig. 2, by student."""
    claims = [claim for claim in published()["claims"] if "Fig. 2" in claim["where"] and claim["task"] == task]
    return {claim["student"]: claim["comparison"]["gain"] for claim in claims if "gain" in claim["comparison"]}


FIGURE = Item(
    "fig2", "Fig. 2, students", "05_figures", ("fig2",), plot,
    "F1 of each student under Baseline III and RoS-KD; bars: one standard deviation; hollow: the gain stated.",
)  # fmt: skip
