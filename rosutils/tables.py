"""One function per table: the results in, a DataFrame out, with the paper's numbers beside ours."""

from pathlib import Path

import pandas as pd

from rosutils.results import PRINTED_AVERAGE, SETTINGS, TEACHERS, published, select, summary


METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
MINUS = "\N{MINUS SIGN}"


def table1(
    results: pd.DataFrame,
    *,
    tasks: dict[str, dict],
    student: str = "resnet18",
    overlap: float | None = None,
    noise: float | None = None,
) -> pd.DataFrame:
    """Table I: per setting, task and metric what is published, ours (mean over seeds), std, n, and the difference.

    Columns are (task, metric, one of published, ours, std, n, difference = ours minus published); "Baseline III, subset
    teachers" is not in the paper and has no published value. `tasks` maps names to {"multilabel": bool}; `overlap` and
    `noise` pick among several in the results; InputError if they are needed and not given.
    """
    rows = table1_rows(results, student=student, overlap=overlap, noise=noise)
    printed = published()["table1"]
    blocks = {}
    for task, about in tasks.items():
        average = PRINTED_AVERAGE[about["multilabel"]]
        for metric, title in METRICS.items():
            ours = summary(select(rows, task=task, average=average, metric=metric), by=["setting"]).set_index("setting")
            paper = {setting: row[metric] for setting, row in printed.get(task, {}).items()}
            blocks[task, title] = _beside(ours.reindex(SETTINGS), pd.Series(paper, dtype=float).reindex(SETTINGS))
    table = pd.concat(blocks, axis=1, names=["task", "metric", "column"])
    return table.rename_axis("setting")


def table1_rows(
    results: pd.DataFrame, *, student: str = "resnet18", overlap: float | None = None, noise: float | None = None
) -> pd.DataFrame:
    """The measurements that Table I is made of: its settings, one student, no attack, no single class."""
    return _pick(select(results, setting=SETTINGS, student=student, attack="", class_=""), overlap=overlap, noise=noise)


def teachers_table(results: pd.DataFrame, *, tasks: dict[str, dict], overlap: float | None = None) -> pd.DataFrame:
    """F1 of every teacher, trained on the full set and on its own subset (mean over seeds), and the difference."""
    rows = _pick(select(results, setting=TEACHERS, attack="", class_="", metric="f1"), overlap=overlap)
    architectures = list(dict.fromkeys(published()["section_4b"]["teachers"] + sorted(rows["student"].unique())))
    blocks = {}
    for task, about in tasks.items():
        here = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]])
        scores = {}
        for setting, title in zip(TEACHERS, ("full set", "own subset"), strict=True):
            ours = summary(select(here, setting=setting), by=["student"]).set_index("student").reindex(architectures)
            scores[title] = ours["mean"]
            blocks[task, title] = ours.rename(columns={"mean": "ours"}).astype({"n": "Int64"})
        blocks[task, "subset minus full"] = (scores["own subset"] - scores["full set"]).to_frame("difference")
    table = pd.concat(blocks, axis=1, names=["task", "F1", "column"]).rename_axis("teacher")
    return table.dropna(how="all")


def _pick(rows: pd.DataFrame, **wanted: float | None) -> pd.DataFrame:
    """Rows with the wanted overlap and noise; a row without one (a teacher of the full set) belongs to every choice."""
    for name, value in wanted.items():
        if value is not None:
            rows = select(rows, **{name: [value, float("nan")]})
    return rows


def _beside(ours: pd.DataFrame, paper: pd.Series) -> pd.DataFrame:
    columns = {"published": paper, "ours": ours["mean"], "std": ours["std"], "n": ours["n"].astype("Int64")}
    return pd.DataFrame({**columns, "difference": ours["mean"] - paper})


def caption(what: str, frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """The sentence under a table: what it is, which averaging, how many seeds, and the profile's watermark."""
    averages = ", ".join(f"{task} {PRINTED_AVERAGE[about['multilabel']]}" for task, about in tasks.items())
    counts = sorted({int(n) for n in frame.xs("n", axis=1, level=-1).to_numpy(dtype=float, na_value=0).ravel() if n})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    spread = "one seed, so no spread" if counts == [1] else f"mean ± standard deviation over {seeds}"
    return f"{what}. Ours: {spread}. Averaging: {averages}. {watermark}".strip()


def printable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text: ours and std in one cell ("0.701 ± 0.012"), differences signed, blank where unknown."""
    cells = {}
    for group in dict.fromkeys(column[:-1] for column in frame.columns):
        part = _part(frame, group)
        if "published" in part:
            cells[*group, "paper"] = part["published"].map(number)
        if "ours" in part:
            ours = [spread(mean, std) for mean, std in zip(part["ours"], part["std"], strict=True)]
            cells[*group, "ours"] = pd.Series(ours, index=part.index)
        if "difference" in part:
            cells[*group, "difference"] = part["difference"].map(signed)
    text = pd.DataFrame(cells)
    text.columns.names = frame.columns.names
    return text


def _part(frame: pd.DataFrame, group: tuple) -> pd.DataFrame:
    part = frame.loc[:, [column[:-1] == group for column in frame.columns]]
    return part.set_axis(part.columns.get_level_values(-1), axis=1)


def number(value: float) -> str:
    """Three decimals; nothing for nan."""
    return "" if pd.isna(value) else f"{value:.3f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Three decimals with a sign; nothing for nan."""
    return "" if pd.isna(value) else f"{round(value, 3) + 0.0:+.3f}".replace("-", MINUS)


def spread(mean: float, std: float) -> str:
    """ "0.701 ± 0.012", or the mean alone where there is no std."""
    return number(mean) if pd.isna(std) else f"{mean:.3f} ± {std:.3f}"


def write_table(frame: pd.DataFrame, folder: str | Path, name: str, *, caption: str) -> list[Path]:
    """Write `<name>.csv` (one row per number, full precision), `.md` and `.tex` (booktabs); same table, same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"csv": _csv(frame), "md": _markdown(frame, caption), "tex": _latex(frame, name, caption)}
    paths = [folder / f"{name}.{suffix}" for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8", newline="\n")
    return paths


def _csv(frame: pd.DataFrame) -> str:
    groups = list(dict.fromkeys(column[:-1] for column in frame.columns))
    names = frame.columns.names[:-1]
    long = pd.concat([_part(frame, group).assign(**dict(zip(names, group, strict=True))) for group in groups])
    values = list(dict.fromkeys(column[-1] for column in frame.columns))
    return long.reset_index()[[*names, frame.index.name, *values]].to_csv(index=False, lineterminator="\n")


def _markdown(frame: pd.DataFrame, caption: str) -> str:
    lines = []
    for task in dict.fromkeys(frame.columns.get_level_values(0)):
        text = printable(frame[[task]])[task]
        heads = [str(frame.index.name), *(f"{metric}, {column}" for metric, column in text.columns)]
        lines += [f"**{task}**", "", _md_row(heads), _md_row([":---", *["---:"] * text.shape[1]])]
        lines += [_md_row([str(label), *row]) for label, row in zip(text.index, text.to_numpy(), strict=True)]
        lines += [""]
    return "\n".join([*lines, caption, ""])


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(frame: pd.DataFrame, name: str, caption: str) -> str:
    text = printable(frame)
    blocks = {task: text[task] for task in dict.fromkeys(text.columns.get_level_values(0))}
    rows = pd.concat(blocks, names=["task", frame.index.name]).fillna("").map(_tex)
    rows.index.names = [None, None]
    rows.index = rows.index.set_levels([level.map(_tex) for level in rows.index.levels])
    rows = rows.rename(columns={"difference": "diff."})
    rows.columns = pd.MultiIndex.from_tuples([tuple(map(_tex, column)) for column in rows.columns])
    styled = rows.style.to_latex(
        hrules=True, clines="skip-last;data", multicol_align="c", multirow_align="t", position="htbp",
        position_float="centering", column_format="ll" + "r" * rows.shape[1], environment="table*",
        caption=_tex(caption), label=f"tab:{name}",
    )  # fmt: skip
    # pandas rules off the last task as well, right above the bottom rule; and nine numbers in a row need small type.
    last = f"\\cline{{1-{rows.shape[1] + 2}}}\n\\bottomrule"
    styled = styled.replace(last, "\\bottomrule").replace("\\cline", "\\cmidrule(lr)")
    return "% needs \\usepackage{booktabs,multirow}\n" + styled.replace(
        "\\centering\n", "\\centering\\scriptsize\\setlength{\\tabcolsep}{3pt}\n"
    )


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", MINUS: "$-$",
    "·": r"$\cdot$", "τ": r"$\tau$", "α": r"$\alpha$", **{char: f"\\{char}" for char in "%&_#${}"},
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in text)


def side_by_side(frame: pd.DataFrame) -> str:
    """The table as plain text for a terminal, at most 100 columns wide, one block per task, the paper first."""
    tasks = dict.fromkeys(frame.columns.get_level_values(0))
    return "\n\n".join(_block(str(task), printable(frame[[task]])[task]) for task in tasks)


def _block(task: str, text: pd.DataFrame) -> str:
    labels = [task, "", *(str(label).replace("subset teachers", "subsets") for label in text.index)]
    sides = [_column(labels, str.ljust)]
    for group in dict.fromkeys(text.columns.get_level_values(0)):
        cells = text[group].rename(columns={"difference": "diff"}).map(lambda cell: cell.replace(" ± ", "±"))
        columns = [_column([name, *cells[name]], str.rjust) for name in cells]
        rows = [" ".join(row) for row in zip(*columns, strict=True)]
        sides.append(_column([str(group).center(len(rows[0])), *rows], str.rjust))
    lines = ["  ".join(row).rstrip() for row in zip(*sides, strict=True)]
    return "\n".join([*lines[:2], "-" * max(map(len, lines)), *lines[2:]])


def _column(cells: list[str], adjust) -> list[str]:
    """The cells, padded to the width of the widest."""
    width = max(map(len, cells))
    return [adjust(cell, width) for cell in cells]
