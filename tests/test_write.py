"""Tables on disk: csv in full, markdown and LaTeX that are whole, the same bytes each time."""

import csv
import io
import math
import re

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rows import TASKS, WATERMARK, frame, study_of
from test_table1 import scores
from test_table2 import attacks, no_skill
from test_table3 import runs

from rosutils.paper import table1, table2, table3
from rosutils.paper.cells import escaped, printable
from rosutils.paper.write import write_figure, write_table


CAPTION = f"What it is. {WATERMARK}"
TABLES = {
    "table1": (table1.table, scores), "table2": (table2.table, lambda: attacks() + no_skill()), "table3": (table3.table, runs),
}  # fmt: skip


def test_a_narrow_figure_has_its_watermark_in_several_lines_and_a_wide_one_in_one(tmp_path):
    mark = "profile real · isic2019 and nih images · 40 px · 50 epochs (chest 25) · not comparable with the paper"
    for width, least, most in ((2.5, 2, 3), (6.0, 1, 1)):
        figure = Figure((width, 2), layout="constrained")
        figure.subplots()
        write_figure(figure, tmp_path, "narrow", mark)
        lines = figure.get_supxlabel().split("\n")
        assert least <= len(lines) <= most and " ".join(lines) == mark
        box = figure._supxlabel.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert 0 <= box.x0 and box.x1 <= figure.bbox.width


@pytest.fixture(params=TABLES)
def written(request, tmp_path):
    """(table, its three files)."""
    make, data = TABLES[request.param]
    table = make(study_of(frame(data())))
    files = write_table(table, tmp_path / "a", request.param, caption=CAPTION)
    again = write_table(table, tmp_path / "b", request.param, caption=CAPTION)
    assert [path.name for path in files] == [f"{request.param}.{suffix}" for suffix in ("csv", "md", "tex")]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    return table, [path.read_text(encoding="utf-8") for path in files]


def test_the_csv_has_every_number_in_full_and_no_runs(written):
    table, (text, _, _) = written
    lines, names = list(csv.DictReader(io.StringIO(text))), [*table.columns.names[:-1], *table.index.names]
    kinds = set(table.columns.get_level_values(-1)) - {"runs"}
    cells = [(line, kind) for line in lines for kind in kinds if line.get(kind)]
    found = {(*(line[name] for name in names), kind): float(line[kind]) for line, kind in cells}
    labels = [label if isinstance(label, tuple) else (label,) for label in table.index]
    numbers = table.drop(columns="runs", level=-1).astype(float)
    assert found == {
        (*group, *label, kind): value
        for (*group, kind), column in numbers.items() for label, value in zip(labels, column, strict=True) if value == value
    }  # fmt: skip
    assert "runs" not in lines[0]


def test_the_markdown_is_even_and_holds_every_printed_cell(written):
    table, (_, text, _) = written
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    parts = [table[task] for task in TASKS] if table.columns.nlevels > 2 else [table]
    cells = [cell for part in parts for cell in printable(part).to_numpy().ravel()]
    heads = {"setting", "method", "norm, attack, setting"}
    bodies = [line for line in lines if "---" not in line[0] and line[0].strip() not in heads]
    assert sorted(cell.strip() for line in bodies for cell in line[1:]) == sorted(cells)
    assert text.rstrip().endswith(CAPTION) and all(f"**{task}**" in text for task in TASKS if len(parts) > 1)


def test_the_latex_is_balanced_escaped_and_even(written):
    table, (_, _, text) = written
    body = text.split("\n", 1)[1]
    assert body.isascii() and re.search(r"(?<!\\)[%#]", body) is None and r"50 \% \& not comparable" in body
    assert re.findall(r"\\begin{(.*?)}", body) == re.findall(r"\\end{(.*?)}", body)[::-1] == ["table*", "tabular"]
    assert len(re.findall(r"(?<!\\){", body)) == len(re.findall(r"(?<!\\)}", body))
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    several = table.columns.nlevels > 2
    width = max(printable(table[task]).shape[1] for task in TASKS) if several else printable(table).shape[1]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {width}
    rows = 2 * len(printable(table[next(iter(TASKS))])) if several else len(printable(table))
    assert len(lines) == 1 + rows and all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_a_plain_table_is_csv_in_full_and_markdown_to_read(tmp_path):
    columns = {"task": ["lesion", "lesion"], "check": ["eps 0 | identity", "noise"], "passed": [True, False]}
    checks = pd.DataFrame(columns | {"detail": ["largest change 0", math.nan], "loss": [0.123456789, 1e-7]})
    paths = write_table(checks, tmp_path, "self_checks", caption=CAPTION)
    assert [path.name for path in paths] == ["self_checks.csv", "self_checks.md"]
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), checks)
    assert paths[1].read_text(encoding="utf-8").splitlines() == [
        "| task | check | passed | detail | loss |",
        "| :--- | :--- | :--- | :--- | :--- |",
        r"| lesion | eps 0 \| identity | yes | largest change 0 | 0.1235 |",
        "| lesion | noise | no |  | 1e-07 |",
        "",
        CAPTION,
    ]


NASTY = "<script>a</script>|[x](javascript:b)\n`c`\\"


def test_names_are_no_markup_in_markdown_nor_in_a_notebooks_table(tmp_path):
    made = pd.DataFrame({"class": [NASTY], NASTY: ["<b>"]})
    write_table(made, tmp_path, "names", caption="")
    head, _, row, *_ = (tmp_path / "names.md").read_text().splitlines()
    for line in (head, row):
        plain = re.sub(r"\\.", "", line)
        assert not set(plain) & set("<>[]`") and plain.count("|") == 3
    shown = escaped(made.set_index("class")).to_html()
    assert "<script" not in shown and "<b>" not in shown and shown.count("&lt;script&gt;") == 2
