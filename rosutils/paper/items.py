"""An item of the paper: a table or a figure, which runs it needs, how it is made, and the sentence under it."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from rosutils.paper.cells import escaped, printable
from rosutils.paper.write import write_figure, write_table
from rosutils.study.variants import Variant


SWEEPS = {"table3", "fig2", "fig3", "noise", "readings"}  # needs that are run at sweeps.scale
NOWRAP = [{"selector": "th, td", "props": "white-space: nowrap"}]


class Item(NamedTuple):
    """A table or figure; a `make` that returns several figures names each `<name>_<task>`."""

    name: str  # of its files
    title: str
    notebook: str
    needs: tuple[str, ...]  # names in study/needs.py; none: it is made of data and parameters alone
    make: Callable[[Any], pd.DataFrame | Figure | dict[str, Figure]]
    says: str | Callable[[Any, Any], str]  # the sentence under it, or what says it of (study, what was made)
    kind: str = "figure"  # or "table"
    pixels: bool = (
        False  # whether its figures, one for each task, show test images: those of a data set are not ours to publish
    )

    def caption(self, study, made) -> str:
        """The sentence under it."""
        return self.says if isinstance(self.says, str) else self.says(study, made)

    def watermark(self, study) -> str:
        """What the item says on its face: the study's watermark, that of the sweeps where it is one."""
        return (study.variants[Variant("students")] if SWEEPS & set(self.needs) else study).watermark()

    def write(self, study) -> pd.DataFrame | Figure | dict[str, Figure]:
        """Make it and write its files to the study's figures."""
        made = self.make(study)
        if isinstance(made, pd.DataFrame):
            files = write_table(made, study.figures, self.name, caption=self.caption(study, made))
        else:
            figures = (made if isinstance(made, dict) else {self.name: made}).items()
            files = chain(
                *(write_figure(fig, self._folder(study, name), name, self.watermark(study)) for name, fig in figures)
            )
        study.note(f"{self.name}-{self.kind}", self.needs, [path for path in files if path.parent == study.figures])
        return made

    def _folder(self, study, name: str) -> Path:
        """Where a figure goes: one that shows pixels of images that may not be shared does not come to lie with the others."""
        shared = (
            not self.pixels or study.parameters.data.sources[name.removeprefix(f"{self.name}_")].source == "synthetic"
        )
        return study.figures if shared else study.output

    def publish(self, study) -> Any:
        """The same; what a notebook shows of it: the figure as it was written, None where it shows several itself."""
        made = self.write(study)
        if isinstance(made, pd.DataFrame):
            return escaped(printable(made)).set_table_styles(NOWRAP)
        names = made if isinstance(made, dict) else [self.name]
        shown = [Image(self._folder(study, name) / f"{name}.png", retina=True) for name in names]
        return display(*shown) if isinstance(made, dict) else shown[0]

    def pictures(self, study) -> list[str]:
        """The names, without suffix, of its figures that lie in the study's folder, in the order of the tasks."""
        names = [self.name, *(f"{self.name}_{task}" for task in study.parameters.tasks)]
        return [name for name in names if self.kind == "figure" and (study.figures / f"{name}.png").is_file()]
