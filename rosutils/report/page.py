"""The page: one self-contained report, every number beside the paper's, where it is from and what follows."""

import base64
import functools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from rosutils.report.cells import blocks
from rosutils.report.claims import VERDICTS, judge
from rosutils.report.gallery import grouped, notebook_of
from rosutils.report.provenance import anchor, compared, measurements, runs_and_recipes
from rosutils.report.traces import rows_behind, rows_in_figure
from rosutils.report.verdicts import verdict
from rosutils.results import published
from rosutils.tables import signed, text


NOTEBOOKS = {
    "Table III": "04_tables", "Table II": "06_adversarial", "Fig. 2": "05_figures", "Fig. 3": "05_figures",
    "Fig. 4": "07_loss_landscape",
}  # fmt: skip
KINDS = dict(zip(VERDICTS, ("good", "mixed", "bad", "open", "open"), strict=True))
DPI = 200  # of the figures' png files


def write_report(
    folder: str | Path,
    *,
    profile: str,
    watermark: str,
    results: pd.DataFrame,
    tasks: dict[str, dict],
    eps: float,
    intervals: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    tables: Sequence[dict] = (),
    figures: Sequence[tuple[str | Path, str, str]] = (),
    departures: Sequence[tuple[str, str, str]] = (),
    readings: Sequence[tuple[str, str, str]] = (),
    provenance: dict | None = None,
    command: str = "make reproduce",
    student: str = "resnet18",
) -> Path:
    """Write `folder`/report.html from plain data and return its path; the same input gives the same bytes.

    `tasks` maps names to {"multilabel": bool}; `tables` are {"name", "title", "frame", "caption", "notebook"} in the shapes of
    `rosutils.tables`; `eps` is the attacks' radius, `intervals` are over test groups by (task, baseline);
    `figures` are (png path, title, caption); `departures` from Section IV-B are (what, paper, here);
    `readings` are (open point, reading chosen, alternatives); `provenance` may hold "runs" ({key: record}), "recipes"
    ({key: recipe}) and "versions". Only the profile "paper" is called comparable with the paper.
    """
    facts = provenance or {}
    shown = [_table(table, results, tasks, student) for table in tables]
    comparable = profile == "paper" and "not comparable" not in watermark
    verdicts = [_verdict(results, task, about, student, intervals) for task, about in tasks.items()]
    claims = [_claim(found) for found in judge(results, tasks, eps=eps, as_printed=comparable)]
    pictures = [_figure(figure, results, tasks, student) for figure in figures]
    behind = {"tables": shown, "differences": verdicts, "claims": claims, "figures": pictures}
    shared, runs = runs_and_recipes(results, facts)
    page = _template().render(
        profile=profile, watermark=watermark, student=student, paper=published(), facts=_sections(facts),
        comparable=comparable, tally=_tally(claims),
        tables=shown, verdicts=verdicts, claims=claims, groups=grouped(pictures), departures=departures, readings=readings,
        behind={name: [entry for item in items for entry in item["entries"]] for name, items in behind.items()},
        shared=shared, runs=runs, command=command,
    )  # fmt: skip
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


@functools.cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    environment = Environment(loader=loader, **options)
    environment.filters |= {"signed": signed, "anchor": anchor}
    return environment.get_template("page.html.j2")


def _entry(parts: Sequence[object], title: str, back: str, notebook: str, heads: list, lines: list) -> dict:
    """One place of provenance: what a number is made of, and the way back to it."""
    return {
        "id": anchor("from", *parts), "title": title, "back": back, "notebook": notebook, "heads": heads, "lines": lines,
        "note": "Computed in that notebook from the runs listed below, not row by row from results.csv.",
    }  # fmt: skip


def _table(table: dict, results: pd.DataFrame, tasks: dict[str, dict], student: str) -> dict:
    """A table with its blocks, and a place of provenance for each of its rows and one for the table itself."""
    name, home, frame = table["name"], anchor(table["name"]), table["frame"]
    if frame.columns.nlevels == 2:  # Table III is of one task
        frame = pd.concat({published()["table3"]["task"]: frame}, axis=1)
    entries = {(): _entry((name,), table["title"], home, table["notebook"], [], [])}

    def link(task: str, label: Hashable) -> str:
        about = tasks.get(task, {"multilabel": False})
        rows = rows_behind(name, results, task, label, multilabel=about["multilabel"], student=student)
        if rows.empty:
            return entries[()]["id"]
        title, back = f"{table['title']}, {task}: {text(label)}", anchor(name, task)
        place = _entry((name, task, text(label)), title, back, table["notebook"], *measurements(rows))
        return entries.setdefault((task, label), place)["id"]

    tolerance = published()["tolerances"].get(name)
    shown = blocks(frame, tolerance=tolerance, link=link)
    if len(entries) > 1:
        entries[()]["note"] = "Row by row below."
    return {
        "name": name, "id": home, "title": table["title"], "caption": table["caption"], "notebook": table["notebook"],
        "tolerance": tolerance, "blocks": shown, "entries": list(entries.values()),
    }  # fmt: skip


def _verdict(results: pd.DataFrame, task: str, about: dict, student: str, intervals: Mapping | None) -> dict:
    said, entries = verdict(results, task, about["multilabel"], student=student, intervals=intervals), []
    for line in said["lines"]:
        title = f"{task}: RoS-KD minus {line['baseline']}, {line['metric']}"
        parts = ("difference", task, line["metric"], line["baseline"])
        behind = compared([{"label": task, "pairs": line["pairs"]}], "RoS-KD", line["baseline"])
        entries.append(_entry(parts, title, anchor("verdict", task), "04_tables", *behind))
        line |= {"href": entries[-1]["id"]}
    return said | {"entries": entries}


def _claim(found: dict) -> dict:
    home, compare, parts = anchor("claim", found["id"]), found["comparison"], found["parts"]
    what = found["task"] if isinstance(found["task"], str) else " and ".join(found["task"])
    title = f"{what}: {compare['better']} over {compare['than']}"
    title += f", {found['attack'].upper()}" if "attack" in found else ""
    title += f", student {found['student']}" if "Fig. 2" in found["where"] and found["student"] != "all" else ""
    title += ", run time" if found["metric"] == "seconds" else ""
    notebook = next((book for item, book in NOTEBOOKS.items() if item in found["where"]), "04_tables")
    entries = []
    if any(part["n"] for part in parts):
        behind = compared(parts, compare["better"], compare["than"])
        entries.append(_entry((home,), f"{title} ({found['where']})", home, notebook, *behind))
    return found | {
        "home": home, "title": title, "entries": entries, "kind": KINDS[found["verdict"]],
        "deciding": [part for part in parts if part["decides"]], "beside": [part for part in parts if not part["decides"]],
    }  # fmt: skip


def _tally(claims: list[dict]) -> list[dict]:
    counts = Counter(claim["verdict"] for claim in claims)
    return [{"verdict": verdict, "count": counts[verdict], "kind": KINDS[verdict]} for verdict in VERDICTS]


def _figure(figure: tuple[str | Path, str, str], results: pd.DataFrame, tasks: dict[str, dict], student: str) -> dict:
    path, title, caption = figure
    name, png = Path(path).stem, Path(path).read_bytes()
    width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # a PNG's first chunk says its size
    picture = {
        "width": width,
        "height": height,
        "inches": round(width / DPI, 3),
        "data": base64.b64encode(png).decode("ascii"),
    }
    rows, home = rows_in_figure(name, results, tasks, student=student), anchor("figure", name)
    entries = [] if rows.empty else [_entry((home,), f"{title} ({name})", home, notebook_of(name), *measurements(rows))]
    return {"name": name, "id": home, "title": title, "caption": caption, "entries": entries} | picture


def _sections(facts: dict) -> list[dict]:
    """Facts other than runs and recipes as titled lists of (name, value); what is not itself a section is "general"."""
    facts = {name: value for name, value in facts.items() if name not in ("runs", "recipes")}
    general = {name: value for name, value in facts.items() if not isinstance(value, dict)}
    nested = {name: value for name, value in facts.items() if isinstance(value, dict)}
    sections = ({"general": general} if general else {}) | nested
    return [
        {"title": title, "rows": [(str(name), _plain(value)) for name, value in rows.items()]}
        for title, rows in sections.items()
    ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        inner = {name: f"({_plain(item)})" if isinstance(item, dict) else _plain(item) for name, item in value.items()}
        return ", ".join(f"{name}: {item}" for name, item in inner.items())
    return ", ".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)
