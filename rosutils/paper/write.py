"""Tables on disk as csv in full precision, markdown to read and LaTeX for a paper; figures as pdf and png."""

import io
import re
import textwrap
from itertools import groupby
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rosutils.paper.cells import MINUS, by_task, printable, text
from rosutils.paper.look import GREY, style
from rosutils.store import write_whole


CHARACTERS = 24  # of a watermark to an inch


def write_figure(fig: Figure, folder: str | Path, name: str, watermark: str) -> list[Path]:
    """Write `<name>.pdf` and `.png` with the watermark small at the bottom; the same figure gives the same bytes."""
    files = {"pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    with style():
        lines = textwrap.fill(watermark, int(CHARACTERS * fig.get_figwidth()))  # a narrow face holds it in several
        fig.supxlabel(lines, fontsize=5.5, color=GREY)
        if layout := fig.get_layout_engine():  # once for both files: it takes as long as to draw
            layout.execute(fig)
            fig.set_layout_engine("none")
        for suffix, metadata in files.items():
            drawn = io.BytesIO()
            fig.savefig(drawn, format=suffix, metadata=metadata)
            paths.append(write_whole(Path(folder) / f"{name}.{suffix}", drawn.getbuffer()))
    return paths


def write_table(frame: pd.DataFrame, folder: str | Path, name: str, *, caption: str) -> list[Path]:
    """Write `<name>.csv` (a row per number, full precision), `.md` and `.tex` (booktabs); same table, same bytes.

    A table with plain columns (the self-checks of the attacks) is csv and markdown.
    """
    texts = {"csv": _csv(frame), "md": _markdown(frame, caption)}
    if frame.columns.nlevels > 1:
        texts["tex"] = _latex(frame, name, caption)
    return [write_whole(Path(folder) / f"{name}.{suffix}", content) for suffix, content in texts.items()]


def _csv(frame: pd.DataFrame) -> str:
    if frame.columns.nlevels > 1:
        frame = frame.drop(columns="runs", level=-1, errors="ignore")
        *names, _ = frame.columns.names
        parts = {
            (task, group)[-len(names) :]: part[group]
            for task, part in by_task(frame).items() for group in part.columns.unique(0)
        }  # fmt: skip
        frame = pd.concat(parts, names=names).reset_index()
    return frame.to_csv(index=False, lineterminator="\n")


def _markdown(frame: pd.DataFrame, caption: str) -> str:
    lines = []
    for task, part in by_task(frame).items():
        cells, left = printable(part), part.shape[1]
        cells = cells.set_axis(list(map(text, cells.columns)), axis=1)
        if frame.columns.nlevels > 1:
            cells.insert(0, text(tuple(cells.index.names)), list(map(text, cells.index)))
            left = 1
        rules = [":---" if place < left else "---:" for place in range(cells.shape[1])]
        lines += [f"**{task}**", ""] if task else []
        lines += ["| " + " | ".join(map(_cell, line)) + " |" for line in (cells.columns, rules, *cells.to_numpy())]
        lines += [""]
    return "\n".join([*lines, caption, ""])


def _cell(words: str) -> str:
    """Words that markdown takes as they are: no tag, no link, no line or cell of their own."""
    return re.sub(r"([|<>\[\]`\\])", r"\\\1", " ".join(words.splitlines()))


def _latex(frame: pd.DataFrame, name: str, caption: str) -> str:
    cells = {task: printable(part) for task, part in by_task(frame).items()}
    columns = max((part.columns for part in cells.values()), key=len)  # not every task has every group
    lines = [r"\toprule", *_heads(columns), r"\midrule"]
    for task, part in cells.items():
        title = rf"\addlinespace\multicolumn{{{len(columns) + 1}}}{{l}}{{\textit{{{_tex(task)}}}}} \\"
        lines += [title] if task else []
        part = part.reindex(columns=columns, fill_value="")
        lines += [_row([text(label), *row]) for label, row in zip(part.index, part.to_numpy(), strict=True)]
    tabular = "\n".join([rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", *lines, r"\bottomrule", r"\end{tabular}"])
    small = r"\centering\scriptsize\setlength{\tabcolsep}{3pt}"  # nine numbers in a row need small type
    head = [r"% needs \usepackage{adjustbox,booktabs}", r"\begin{table*}[htbp]", small]
    body = [rf"\caption{{{_tex(caption)}}}\label{{tab:{name}}}", rf"\adjustbox{{max width=\textwidth}}{{{tabular}}}"]
    return "\n".join([*head, *body, r"\end{table*}", ""])


def _heads(columns: pd.Index) -> list[str]:
    """The heads of the columns; above them, ruled off, those of their groups."""
    if columns.nlevels == 1:
        return [_row(["", *columns])]
    groups = [(name, len(list(same))) for name, same in groupby(columns.get_level_values(0))]
    ends = [1 + sum(n for _, n in groups[: place + 1]) for place in range(len(groups))]
    above = " & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{_tex(name)}}}" for name, n in groups)]) + r" \\"
    rules = "".join(rf"\cmidrule(lr){{{end - n + 1}-{end}}}" for (_, n), end in zip(groups, ends, strict=True))
    return [above, rules, _row(["", *columns.get_level_values(1)])]


def _row(cells: list[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"


_TEX = str.maketrans({
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", MINUS: "$-$",
    "·": r"$\cdot$", "τ": r"$\tau$", "α": r"$\alpha$", "“": "``", "”": "''", "×": r"$\times$",
    **{char: f"\\{char}" for char in "%&_#${}"},
})  # fmt: skip


def _tex(words: str) -> str:
    return words.translate(_TEX)
