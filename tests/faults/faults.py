"""The kit broken by the hundred: each row a kind of fault, how often it was tried, and what was lost.

python tests/faults/faults.py                every part, written to benchmarks/faults.md (about 40 minutes on two idle cores)
python tests/faults/faults.py prepare full   these parts; the other rows stay as they are

A loss: other bytes in the end, a process that stays, half a file, a traceback, another exit status than is right.
"""

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import click
import nbformat
import yaml


sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]
from breaking import ROOT, STATUS, Command, bytes_of, pictures, run, sections, waste  # noqa: E402
from run import processor  # noqa: E402

from rosutils import InputError, RunError  # noqa: E402
from rosutils.notebooks import run_all  # noqa: E402
from rosutils.study import Study as Loaded  # noqa: E402


RESULTS = ROOT / "benchmarks" / "faults.md"
TRIES, DAMAGES = 20, 10
SIGNALS = {
    "SIGKILL": (signal.SIGKILL, False), "SIGKILL to the group": (signal.SIGKILL, True),
    "SIGINT": (signal.SIGINT, False), "SIGINT to the group": (signal.SIGINT, True), "SIGTERM": (signal.SIGTERM, False),
}  # fmt: skip
ABOUT = """# Broken on purpose

What was done to the kit, how often, and how often something was lost: other bytes in the end than those of an undisturbed command,
a process that stays, half a file, a traceback, or another exit status than is right. `make faults` makes every row anew.

| part | fault | tries | losses | machine |
|---|---|---|---|---|
"""


Tries = Iterable[tuple[str, list[str]]]  # the name of what was done, and what was wrong
Rows = Iterator[tuple[str, int, int]]  # the same, how often it was tried, and how often something was lost


class Study:
    """A tiny study with its files below a folder, and the bytes of one that was left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir(parents=True)
        self.command = ("reproduce", "smoke", "-y", sections(folder))

    def whole(self) -> dict[str, str]:
        """Make it, or go on with it, and return the bytes of results and figures."""
        done = run(*self.command, log=self.log)
        if wrong := done.faults(0):
            raise click.ClickException(f"an undisturbed command failed: {wrong}\n{done.said[-3000:]}")
        return bytes_of(self.folder)

    def label(self) -> Path:
        """Its folder beside the store."""
        return next(path.parent for path in (self.folder / "runs").glob("*/results.csv"))


def broken(command: Sequence[str], log: Path, begins: str, longest: float, before=lambda: None) -> Tries:
    """A command broken off at a random moment after it says `begins`: the signal's name, and what was wrong."""
    for name, (number, group) in islice(cycle(SIGNALS.items()), TRIES):
        before()
        started = Command(*command, log=log)
        started.reaches(begins)
        time.sleep(longest * random.random())
        ended = started.ended() if started.process.poll() is not None else started.breaks(number, group)
        yield name, ended.faults(STATUS[number], 0) + ([] if begins in ended.said else [f"never said '{begins}'"])


def counted(part: str, tries: Tries, then=lambda: []) -> Rows:
    """A row for each kind of try; what is wrong `then`, in the end, is a loss of each."""
    found: dict[str, list[list[str]]] = {}
    for name, wrong in tries:
        found.setdefault(name, []).append(wrong)
        click.echo(f"{part}: {name}: {', '.join(wrong) or 'fine'}")
    if last := then():
        click.echo(f"{part}: in the end: {last}")
    for name, all_wrong in found.items():
        yield f"{part}: {name}", len(all_wrong), len(all_wrong) if last else sum(map(bool, all_wrong))


def training(folder: Path) -> Rows:
    """`reproduce` while it trains; a store that has all teachers is begun anew."""
    undisturbed, study = Study(folder / "reference"), Study(folder / "study")
    reference = undisturbed.whole()

    def anew() -> None:
        teachers = [sorted(each.folder.glob("runs/store/teacher-*/run.json")) for each in (undisturbed, study)]
        if len(teachers[0]) == len(teachers[1]):
            shutil.rmtree(study.folder / "runs" / "store")

    def end() -> list[str]:
        return differs(study, reference, trained_elsewhere=True)

    yield from counted("reproduce, training", broken(study.command, study.log, "teachers: ", 20, anew), end)


def differs(study: Study, reference: dict[str, str], *, trained_elsewhere: bool = False) -> list[str]:
    """What is not as it should be once a study was made to its end; two of its files tell how long its own runs took."""
    after, timed = study.whole(), ("provenance.json", "report.html") if trained_elsewhere else ()
    names = sorted(name for name in reference | after if reference.get(name) != after.get(name))
    return [name for name in names if not name.endswith(timed)] + waste(study.folder)


def notebooks(folder: Path) -> Rows:
    """`reproduce` while notebooks run, and from its start on where all runs are there."""
    study = Study(folder / "study")
    reference = study.whole()
    tries = broken(study.command, study.log, "notebooks: ", 40)
    yield from counted("notebooks", tries, lambda: differs(study, reference))

    def unmeasured() -> None:
        for path in (study.folder / "runs").glob("*/results.*"):
            path.unlink()

    tries = broken(study.command, study.log, "runs: ", 20, unmeasured)
    yield from counted("redraw (all runs are there)", tries, lambda: differs(study, reference))


def prepare(folder: Path) -> Rows:
    """`prepare` of 6,000 files, whose cache is deleted wherever it is whole."""
    raw, log, out = pictures(folder / "Bilder für Ärzte", 6000), folder / "log", folder / "out"

    def whole(place: Path) -> dict[str, str]:
        run(*preparing(raw, place), log=log)
        return bytes_of(place, ["**/*"])

    def anew() -> None:
        if list(out.glob("*/card.json")):
            shutil.rmtree(out)

    reference, tries = whole(folder / "whole"), broken(preparing(raw, out), log, "images/s", 3, anew)
    yield from counted("prepare", tries, lambda: [] if whole(out) == reference else ["bytes"])


def preparing(raw: Path, out: Path) -> tuple[str, ...]:
    """The command."""
    return ("prepare", "folder", "--raw", str(raw), "--size", "32", "--out", str(out))


def side_by_side(folder: Path) -> Rows:
    """Two and four commands on one store, in a folder with spaces and other letters."""
    reference = Study(folder / "reference").whole()
    for count in (2, 4):
        study = Study(folder / f"{count} zugleich, für alle")
        logs = [study.folder / f"log{number}" for number in range(count)]
        started = [Command(*study.command, log=log) for log in logs]
        wrong = [each.ended(3000).faults(0) for each in started]
        last = differs(study, reference, trained_elsewhere=True)
        click.echo(f"{count} at once: {wrong} {last}")
        lost = sum(map(bool, wrong)) or count * bool(last)
        yield f"{count} commands on one store, its path with spaces and umlauts", count, lost


def full(folder: Path) -> Rows:
    """A file may have so many bytes and no more, as where the disk is full; then without that limit."""
    reference, raw = Study(folder / "reference").whole(), pictures(folder / "raw", 300)
    study = Study(folder / "study")

    def tries(command: Sequence[str], *sizes: int) -> Tries:
        for size in sizes:
            yield "no file above a size", run(*command, log=study.log, limit=size).faults(1)

    found = tries(study.command, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 8_000_000)
    yield from counted("reproduce, full disk", found, lambda: differs(study, reference, trained_elsewhere=True))
    yield from counted("prepare, full disk", tries(preparing(raw, folder / "out"), 1000, 20_000, 200_000, 800_000))


def damages(folder: Path) -> Rows:
    """Ten damages of each kind of file of a finished study: noticed, and mended, or one line says what is wrong.

    Files that are shown are damaged together, one of each kind, and drawn again by the command; those of runs and of images one
    at a time, and the study is asked for all runs and their results.
    """
    study = Study(folder / "study")
    reference, shown, kept = study.whole(), {}, {}
    for path in sorted((study.folder / "runs").rglob("*.*")) + sorted((study.folder / "figures").rglob("*.*")):
        unread = path.name == "left_out.csv" or path.name[0] == "."  # a list for people; locks
        if path.is_file() and not unread and not {".locks", ".aside", "notebooks"} & set(path.parts):
            stored = {"store", "cache"} & set(path.parts)
            (kept if stored else shown).setdefault(path.name if stored else f"*{path.suffix}", []).append(path)
    for kind, paths in kept.items():
        yield from counted("damaged", ((kind, damaged_alone(study, number, paths)) for number in range(DAMAGES)))
    found = [damaged_together(study, number, shown, reference) for number in range(DAMAGES)]
    for kind in shown:
        yield from counted("damaged", ((f"what is shown, {kind}", wrong[kind]) for wrong in found))


def damage(path: Path, number: int) -> bytes:
    """Truncate a file, empty it, flip a bit of it, or write something foreign; returns what it held."""
    content = path.read_bytes()
    at = random.randrange(max(1, len(content)))
    flipped = content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :] if content else b"x"
    path.write_bytes([content[:at], b"", flipped, b"\xff\xfe{}[]<html>"][number % 4])
    return content


def damaged_alone(study: Study, number: int, paths: list[Path]) -> list[str]:
    """What is wrong after a damage to one of the files of a kind: other results than before, or a traceback."""
    results = study.label() / "results.csv"
    before, path = results.read_bytes(), random.choice(paths)
    content = damage(path, number)
    there = Loaded.load("smoke", **yaml.safe_load(sections(study.folder)))
    noticed = path.read_bytes() == content or any(there.store.verify())
    try:
        there.ensure(there.unique(there.all_runs()))
        there.results()
        wrong = [] if results.read_bytes() == before else ["other numbers"]
    except (InputError, RunError):  # one line, and nothing is changed
        wrong = [] if results.read_bytes() == before else ["results.csv is changed"]
    noticed = noticed or (path.is_file() and path.read_bytes() == content)  # images are prepared again, with a word
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return wrong + ([] if noticed else [f"{path.name} not noticed"])


def damaged_together(study: Study, number: int, kinds: dict[str, list[Path]], reference: dict) -> dict[str, list[str]]:
    """What is wrong after a damage to a file of each kind that is shown."""
    chosen = {kind: random.choice(paths) for kind, paths in kinds.items()}
    held = {kind: damage(path, number) for kind, path in chosen.items()}
    verified, again = run("verify", *study.command[1:], log=study.log), run(*study.command, log=study.log)
    wrong, after = verified.faults(1) + again.faults(0), bytes_of(study.folder)
    found = {kind: list(wrong) for kind in kinds}
    for kind, path in chosen.items():
        name = str(path.relative_to(study.folder))
        found[kind] += ["other bytes"] if after.get(name) != reference.get(name) else []
        found[kind] += [] if path.name in verified.said or path.read_bytes() == held[kind] else ["not noticed"]
    return found


def kernels(folder: Path) -> Rows:
    """200 kernels started side by side, four at a time."""
    empty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    empty.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    paths = [folder / f"{number:03d}.ipynb" for number in range(200)]
    for path in paths:
        nbformat.write(empty, path)
    try:
        run_all(folder / "out", {}, notebooks=paths)
    except Exception as error:
        click.echo(f"kernels: {error}")
    made = [path for path in (folder / "out").glob("*.ipynb") if nbformat.read(path, 4).cells[-1].outputs]
    yield "kernels started side by side", len(paths), len(paths) - len(made)


PARTS = {"prepare": prepare, "training": training, "notebooks": notebooks, "side-by-side": side_by_side, "full": full,
         "damages": damages, "kernels": kernels}  # fmt: skip


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="The table to write.")
@click.option("--seed", default=0, help="Of the moments and places.")
def main(parts: tuple[str, ...], out: Path, seed: int) -> None:
    """Run the parts, and write the table after each of them."""
    lost = 0
    for part in parts or PARTS:
        random.seed(seed)
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            made = [(part, *row) for row in PARTS[part](Path(folder))]
        write(out, part, [f"| {' | '.join(map(str, row))} | {processor()} |" for row in made])
        lost += sum(row[-1] for row in made)
    sys.exit(int(lost > 0))


def write(path: Path, part: str, made: list[str]) -> None:
    """The table with the rows of a part replaced, parts in their order."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = {name: [row for row in text.splitlines() if row.startswith(f"| {name} | ")] for name in PARTS} | {part: made}
    path.write_text(ABOUT + "".join(f"{row}\n" for name in PARTS for row in rows[name]), encoding="utf-8")


if __name__ == "__main__":
    main()
