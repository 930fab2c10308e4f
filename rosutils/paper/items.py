"""An item of the paper: a table or a figure, which runs it needs, how it is made, and the sentence under it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from rosutils.paper.cells import escaped, printable
from rosutils.paper.look import style
from rosutils.paper.write import write_figure, write_table
from rosutils.study.variants import Variant


SWEEPS = {"table3", "fig2", "fig3", "noise", "readings"}  # needs that are run at sweeps.scale
NOWRAP = [{"selector": "th, td", "props": "white-space: nowrap"}]


class Item(NamedTuple):
    """A table or figure: `make(study)`, or `make(study, task)` for a figure of each task; None where there is nothing to show."""

    name: str  # of its files
    title: str
    notebook: str
    needs: tuple[str, ...]  # names in study/needs.py; none: it is made of data and parameters alone
    make: Callable[..., pd.DataFrame | Figure | None]
    says: str | Callable[[Any, Any], str]  # the sentence under it, or what says it of (study, what was made)
    kind: str = "figure"  # or "table"
    each: bool = False  # whether it is a figure of each task, <name>_<task>
    pixels: bool = False  # whether these show test images: those of a data set are not ours to publish

    def caption(self, study, made) -> str:
        """The sentence under it."""
        return self.says if isinstance(self.says, str) else self.says(study, made)

    def watermark(self, study) -> str:
        """What the item says on its face: the study's watermark, that of the sweeps where it is one."""
        return (study.variants[Variant("students")] if SWEEPS & set(self.needs) else study).watermark()

    def figures(self, study) -> dict[str, Figure]:
        """Its figures by the name of their files, in the look of all figures."""
        with style():
            made = {name: self.make(study, *task) for name, task in self._names(study).items()}
        return {name: figure for name, figure in made.items() if figure is not None}

    def write(self, study) -> pd.DataFrame | dict[str, Figure]:
        """Make it and write its files to the study's figures."""
        if self.kind == "table":
            made = self.make(study)
            files = write_table(made, study.figures, self.name, caption=self.caption(study, made))
        else:
            made, mark = self.figures(study), self.watermark(study)
            written = (write_figure(fig, self._folder(study, name), name, mark) for name, fig in made.items())
            files = [path for both in written for path in both]
        study.note(f"{self.name}-{self.kind}", self.needs, [path for path in files if path.parent == study.figures])
        return made

    def _folder(self, study, name: str) -> Path:
        """Where a figure goes: one that shows pixels of images that may not be shared does not come to lie with the others."""
        sources, task = study.parameters.data.sources, name.removeprefix(f"{self.name}_")
        return study.output if self.pixels and sources[task].source != "synthetic" else study.figures

    def publish(self, study) -> Any:
        """What a notebook shows of it, written where it is not there; None where it shows the figures of the tasks itself."""
        if self.kind == "table":
            return escaped(printable(self.write(study))).set_table_styles(NOWRAP)
        # some of those that show images lie elsewhere
        drawn = [] if self.pixels else study.drawn(f"{self.name}-{self.kind}")
        pictures = [file for file in drawn if file.suffix == ".png"]
        pictures = pictures or [self._folder(study, name) / f"{name}.png" for name in self.write(study)]
        shown = [Image(picture, retina=True) for picture in pictures]
        return display(*shown) if self.each or not shown else shown[0]

    def pictures(self, study) -> list[str]:
        """The names, without suffix, of its figures that lie in the study's folder, in the order of the tasks."""
        return [name for name in self._names(study) if (study.figures / f"{name}.png").is_file()]

    def _names(self, study) -> dict[str, tuple[str, ...]]:
        """The names of its figures, each with the task that it is of, if it is of one."""
        return {f"{self.name}_{task}": (task,) for task in study.parameters.tasks} if self.each else {self.name: ()}
