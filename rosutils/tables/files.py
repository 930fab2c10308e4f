"""Tables on disk: csv in full precision, markdown to read, LaTeX (booktabs) for a paper."""

from pathlib import Path

import pandas as pd

from rosutils.tables.cells import MINUS, by_task, printable, text


def write_table(frame: pd.DataFrame, folder: str | Path, name: str, *, caption: str) -> list[Path]:
    """Write `<name>.csv` (one row per number, full precision), `.md` and `.tex` (booktabs); same table, same bytes."""
    return _write(
        folder, name, {"csv": _csv(frame), "md": _markdown(frame, caption), "tex": _latex(frame, name, caption)}
    )


def write_plain(frame: pd.DataFrame, folder: str | Path, name: str) -> list[Path]:
    """Write a table with plain columns (the self-checks of the attacks) as `<name>.csv` and `.md`; same table, same bytes."""
    frame = frame.reset_index() if any(frame.index.names) else frame
    rows = [_md_row(list(map(str, frame.columns))), _md_row([":---"] * frame.shape[1])]
    rows += [_md_row(list(row)) for row in printable(frame).to_numpy()]
    csv = frame.to_csv(index=False, lineterminator="\n")
    return _write(folder, name, {"csv": csv, "md": "\n".join([*rows, ""])})


def _write(folder: str | Path, name: str, texts: dict[str, str]) -> list[Path]:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        path.write_text(content, encoding="utf-8", newline="\n")
    return paths


def _csv(frame: pd.DataFrame) -> str:
    names, groups = frame.columns.names[:-1], list(dict.fromkeys(column[:-1] for column in frame.columns))
    parts = []
    for group in groups:
        part = frame.loc[:, [column[:-1] == group for column in frame.columns]]
        part = part.set_axis(part.columns.get_level_values(-1), axis=1)
        parts.append(part.assign(**dict(zip(names, group, strict=True))))
    values = list(dict.fromkeys(column[-1] for column in frame.columns))
    long = pd.concat(parts).reset_index()
    return long[[*names, *frame.index.names, *values]].to_csv(index=False, lineterminator="\n")


def _markdown(frame: pd.DataFrame, caption: str) -> str:
    lines = []
    for task, part in by_task(frame).items():
        cells = printable(part)
        heads = [text(tuple(cells.index.names)), *map(text, cells.columns)]
        lines += [f"**{task}**", ""] if task else []
        lines += [_md_row(heads), _md_row([":---", *["---:"] * cells.shape[1]])]
        lines += [_md_row([text(label), *row]) for label, row in zip(cells.index, cells.to_numpy(), strict=True)]
        lines += [""]
    return "\n".join([*lines, caption, ""])


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(frame: pd.DataFrame, name: str, caption: str) -> str:
    rows = pd.concat({task: _tex_cells(printable(part)) for task, part in by_task(frame).items()})
    rows = rows.fillna("")  # not every task has every group
    rows.index.names = [None, None]
    named = frame.columns.nlevels > 2
    rows = rows.rename(index=_tex, level=0) if named else rows.droplevel(0)
    labels = rows.index.nlevels
    styled = rows.style.to_latex(
        hrules=True, clines="skip-last;data" if named else None, multicol_align="c", multirow_align="t", position="htbp",
        position_float="centering", column_format="l" * labels + "r" * rows.shape[1], environment="table*",
        caption=_tex(caption), label=f"tab:{name}",
    )  # fmt: skip
    # pandas rules off the last task as well, right above the bottom rule; and nine numbers in a row need small type.
    last = f"\\cline{{1-{rows.shape[1] + labels}}}\n\\bottomrule"
    styled = styled.replace(last, "\\bottomrule").replace("\\cline", "\\cmidrule(lr)")
    styled = styled.replace("\\centering\n", "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n")
    styled = styled.replace("\\begin{tabular}", "\\adjustbox{max width=\\textwidth}{\\begin{tabular}")
    return "% needs \\usepackage{adjustbox,booktabs,multirow}\n" + styled.replace("\\end{tabular}", "\\end{tabular}}")


def _tex_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells, heads and labels in LaTeX, a label of several parts as one."""
    heads = cells.rename(columns={"difference": "diff."}).columns.map(
        lambda head: tuple(map(_tex, head)) if isinstance(head, tuple) else _tex(head)
    )
    heads.names = [None] * heads.nlevels  # else they stand in the corner
    return cells.map(_tex).set_axis([_tex(text(label)) for label in cells.index]).set_axis(heads, axis=1)


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", MINUS: "$-$",
    "·": r"$\cdot$", "τ": r"$\tau$", "α": r"$\alpha$", "“": "``", "”": "''", "×": r"$\times$",
    **{char: f"\\{char}" for char in "%&_#${}"},
}  # fmt: skip


def _tex(words: str) -> str:
    return "".join(_TEX.get(char, char) for char in words)
