"""Side-by-side timings: each row a ratio of two ways to do the same work, measured alternately in one run.

python benchmarks/run.py            every part, written to benchmarks/results.md
python benchmarks/run.py loop bank  these parts; the other rows stay as they are

A part is a function of a temporary folder that yields rows (what, ours, theirs, ratio): seconds, or text with a unit; the
ratio says how many times ours is faster.
"""

import os
import platform
import re
import tempfile
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import click
import torch


RESULTS = Path(__file__).with_name("results.md")
PARTS = {
    "loop": ("loop", "rows"), "bank": ("loop", "bank_rows"), "cache": ("cache", "rows"),
    "processes": ("backends", "rows"), "probes": ("probes", "rows"), "frameworks": ("frameworks", "rows"),
    "reproduce": ("reproduce", "rows"),
}  # fmt: skip
HEAD = ["what", "ours", "theirs", "ratio", "command", "machine"]
ABOUT = """# Side by side

Ours against what it stands beside, on the same work, in turn, in one run; medians, of whole stages and commands the best. Numbers
without a unit are seconds, and the ratio says how many times ours is faster. Both sides have one CPU thread, as a run of the
kit has, or what the row says.
`make bench` makes every row anew.
"""


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option(
    "--threads", type=int, default=1, show_default=True, help="CPU threads of both sides; a run of the kit has one."
)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="The table to write.")
def main(parts: Sequence[str], threads: int, out: Path) -> None:
    """Run the parts, and write the table after each of them."""
    torch.set_num_threads(threads)
    for part in parts or PARTS:
        module, function = PARTS[part]
        with tempfile.TemporaryDirectory() as folder:
            made = []
            for row in getattr(import_module(module), function)(Path(folder)):
                made.append(line(row, part, threads))
                click.echo(made[-1])
        write(out, part, made)


def line(row: Sequence, part: str, threads: int) -> str:
    """A row of the table."""
    what, ours, theirs, ratio = row
    cells = [what, *(side if isinstance(side, str) else f"{side:.3g}" for side in (ours, theirs)), f"{ratio:.2f}"]
    cells += [
        f"`python benchmarks/run.py {part}`",
        f"{processor()}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}",
    ]
    return f"| {' | '.join(cells)} |"


def write(path: Path, part: str, made: Iterable[str]) -> None:
    """The table with the rows of `part` replaced, parts in their order."""
    by_part = {name: [row for row in rows_of(path) if f"run.py {name}`" in row] for name in PARTS} | {part: list(made)}
    rows = [row for name in PARTS for row in by_part[name]]
    table = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD), *rows]
    path.write_text("\n".join([ABOUT, *table, ""]), encoding="utf-8")


def rows_of(path: Path) -> list[str]:
    """The rows that a table holds; none of a table in another form."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [row for row in text.splitlines() if row.count("|") == len(HEAD) + 1 and "`python benchmarks/" in row]


def processor() -> str:
    """The processor's name where the system tells it, and the number of cores."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", known.read_text()) if known.is_file() else None
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
