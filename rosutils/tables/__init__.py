"""One function per table: the results in, a DataFrame out, with the paper's numbers beside ours; and how tables are shown."""

from rosutils.tables.auroc import table3, table3_caption
from rosutils.tables.captions import caption
from rosutils.tables.cells import MINUS, STACKED, interval, number, printable, signed, spread, text
from rosutils.tables.comparisons import comparisons, comparisons_caption, differences, f1_rows, pairs
from rosutils.tables.files import write_plain, write_table
from rosutils.tables.landscape import landscape_caption, landscape_table
from rosutils.tables.robustness import table2, table2_caption
from rosutils.tables.scores import AUROC, METRICS, no_skill, table1, table1_rows, teachers_table
from rosutils.tables.terminal import side_by_side


__all__ = [
    "AUROC", "METRICS", "MINUS", "STACKED", "caption", "comparisons", "comparisons_caption", "differences", "f1_rows", "interval",
    "landscape_caption",
    "landscape_table", "no_skill",
    "number", "pairs", "printable", "side_by_side", "signed", "spread", "table1", "table1_rows", "table2",
    "table2_caption", "table3", "table3_caption", "teachers_table", "text", "write_plain", "write_table",
]  # fmt: skip
