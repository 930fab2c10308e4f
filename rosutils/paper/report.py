"""The page: what holds first, then every claim, table and figure beside the paper's, and where each number comes from."""

import base64
import io
import json
import math
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from tqdm.auto import tqdm

from rosutils import paper, params
from rosutils.data.sources import NoImages
from rosutils.paper import claims
from rosutils.paper.cells import METRICS, by_task, escaped, interval, printable, signed
from rosutils.paper.decisions import VERDICTS, p_in_words
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.paper.readings import named_departures, readings
from rosutils.results import KEYS
from rosutils.settings import PRINTED_AVERAGE
from rosutils.store import Released, checksum, write_whole


KINDS = dict(zip(VERDICTS, ("good", "mixed", "bad", "open", "open"), strict=True))
CLASS = re.compile(r"good|bad|n[\d-]+")  # of a cell: within the tolerance or not; the measurements behind it
NAMELESS = re.compile(r"<th\b([^>]*)>(?:&nbsp;)?</th>")  # a head without a word is none
# What pandas names cells by, half of a table's bytes; the class of ours behind it is kept.
_KINDS = "data|row_heading|col_heading|blank|index_name"
NAMES = re.compile(rf' id="T_[^"]*"| class="(?:{_KINDS})[^"]*?(?: (good|bad|n[\d-]+))?"(?: (?=>))?|(?<=\n) +')
SHOWN = 0.6  # page pixels for one of a figure's: sharp on dense displays


def write_report(study) -> Path:
    """Write provenance.json and report.html, one page that needs nothing else, to the study's figures; the page's path.

    It has the tables whose runs are all in the store and the figures that were made from these, whatever else lies in the
    folder. The same results under the same commit give the same bytes.
    """
    facts = study.provenance() | {"commit": commit()}
    path = write_whole(study.figures / "report.html", _page(study, facts))
    facts["files"] = facts["files"] | {path.name: checksum(path)}
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    write_whole(study.figures / "provenance.json", text + "\n")
    return path


def redraw(study) -> Iterator[str]:
    """Write every table and figure and the report again from finished runs; what was left out, and why, a sentence each."""
    for item in tqdm(paper.ITEMS, desc="drawing", leave=False):
        runs = [run for name in item.needs for run in study.runs(name)]
        missing, left = study.missing(runs), f"{item.title} ({item.name}) is left as it was"
        try:
            if missing:
                yield f"{left}: {len(missing)} of its runs are missing"
            elif runs or not item.needs:  # Table III is of no study without a task of several labels
                item.write(study)
        except NoImages:
            yield f"{left}: it looks at images, which are not here"
        except Released:
            yield f"{left}: it is made from the logits of banks, which an archive leaves out"
    write_report(study)


def _page(study, facts: dict) -> str:
    here, rows = claims.measured(study), _with_means(study.results(), study.about_tasks())
    judged = [claim | {"kind": KINDS[claim["verdict"]], "title": claims.title(claim)} for claim in claims.judge(here)]
    student = study.parameters.distillation.student
    shown = [_shown(item, study, rows, facts["files"]) for item in paper.ITEMS if item.name != claims.FOREST.name]
    folder = Path(__file__).parent / "templates"
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=FileSystemLoader(folder), **options).get_template("page.html.j2").render(
        study=study, paper=here.paper, claims=judged, tally=claims.tally(judged), items=[item for item in shown if item],
        command=_again(study), recipes=_recipes(facts["recipes"]),
        lines={task: claims.table1_verdict(here, task, student) for task in here.tasks},
        sentence=claims.sentence, differences=_differences,
        forest=[_picture(study, name) for name in claims.FOREST.pictures(study) if f"{name}.png" in facts["files"]],
        forest_caption=claims.FOREST.caption(study, None),
        departures=_departures(study, facts), readings=readings(study.parameters), runs=facts["runs"], commit=facts["commit"],
        facts={name: yaml.safe_dump(json.loads(json.dumps(facts[name], default=str)), sort_keys=order, allow_unicode=True)
               for name, order in (("data", True), ("parameters", False), ("versions", True))},
    )  # fmt: skip


def _shown(item: Item, study, rows: pd.DataFrame, files: Collection[str]) -> dict | None:
    """What the page shows of an item, None where it has nothing to show."""
    found = item._asdict() | {"name": f"{item.name}-{item.kind}", "open": item.title.startswith(("Table", "Fig."))}
    found |= {"tables": {}, "rows": [], "links": [], "pictures": []}
    found["tolerance"] = published()["tolerances"].get(item.name)
    if item.kind == "figure":
        pictures = [_picture(study, name) for name in item.pictures(study) if f"{name}.png" in files]
        return found | {"pictures": pictures, "caption": item.caption(study, None)} if pictures else None
    runs = [run for name in item.needs for run in study.runs(name)]
    if not runs or study.missing(runs):
        return None
    frame = item.make(study)
    links = [name for suffix in ("csv", "md", "tex") if (name := f"{item.name}.{suffix}") in files]
    behind = _behind(frame, rows)
    tables = {task: _table(part, item.name, behind) for task, part in by_task(frame).items()}
    found |= {"caption": item.caption(study, frame), "links": links, "tables": tables, "rows": _told(behind)}
    return found | {"redraw": _again(study, item.notebook)}


def _table(frame: pd.DataFrame, name: str, behind: pd.DataFrame) -> str:
    """A table as HTML; a difference from a printed number has a class by whether it is within the tolerance, and a number of
    ours one that names the measurements behind it: n3-4-5 for those in lines 3 to 5."""
    classes = printable(_classes(frame, name, behind)).map(lambda word: word if CLASS.fullmatch(word) else "")
    style = escaped(printable(frame)).hide(names=True, axis=0).hide(names=True, axis=1).set_td_classes(classes)
    style.set_table_attributes('class="numbers"')
    html = NAMES.sub(lambda found: f' class="{found[1]}"' if found[1] else "", style.to_html(cell_ids=False))
    return NAMELESS.sub(r"<td\1></td>", html)


def _classes(frame: pd.DataFrame, name: str, behind: pd.DataFrame) -> pd.DataFrame:
    """The table with classes in place of differences and of our numbers, where these have any."""
    tolerance, found = published()["tolerances"].get(name, math.nan), frame.copy()
    metrics = {title: metric for metric, title in METRICS.items()}
    for *group, kind in frame.columns if frame.columns.nlevels > 1 else ():
        numbers = frame[*group, kind]
        if kind == "difference" and not math.isnan(tolerance):
            within = numbers.abs() <= tolerance + 1e-9  # 0.715 is within 0.015 of 0.700
            found[*group, kind] = within.map({True: "good", False: "bad"}).where(numbers.notna(), "")
        if kind == "ours":
            about = behind[behind["metric"] == metrics.get(group[-1], behind["metric"])]  # accuracy may be as large
            lines = {pair: list(part.index) for pair, part in about.groupby(["run", "mean"])}
            cells = (sorted(place for key in cell for place in lines.get(key, ())) for cell in _cells(frame, group))
            words = pd.Series(["n" + "-".join(map(str, cell)) for cell in cells], frame.index, dtype=object)
            found[*group, kind] = words.where(words != "n", numbers)
            found[*group, "std"] = math.nan
    return found


def _cells(frame: pd.DataFrame, group: list) -> list[set[tuple]]:
    """Of each number of ours in a group of columns (run, mean), as the measurements that it is the mean of have them."""
    pairs = zip(frame[*group, "runs"], frame[*group, "ours"], strict=True)
    return [{(run, round(mean, 9)) for run in " ".join(runs).split()} for runs, mean in pairs]


def _with_means(results: pd.DataFrame, tasks: dict[str, dict]) -> pd.DataFrame:
    """The measurements in the printed averaging, each with the mean that a cell may show: over replicates, or directions too."""
    printed = results["task"].map({task: PRINTED_AVERAGE[about["multilabel"]] for task, about in tasks.items()})
    rows = results[~results["metric"].isin(METRICS) | (results["average"] == printed)]
    found = []
    for over in (["replicate"], ["replicate", "class"]):
        groups = rows.groupby([key for key in KEYS if key not in over], dropna=False)
        found.append(rows.assign(mean=groups["value"].transform("mean").round(9)))
    return pd.concat(found, ignore_index=True)


def _behind(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The measurements behind a table: those of a cell's runs of which the cell's number is the mean."""
    groups = [group for *group, kind in frame.columns if kind == "ours"] if frame.columns.nlevels > 1 else []
    cells = {pair for group in groups for cell in _cells(frame, group) for pair in cell}
    found = rows[[pair in cells for pair in zip(rows["run"], rows["mean"], strict=True)]]
    return found.drop_duplicates(KEYS).reset_index(drop=True)


def _told(behind: pd.DataFrame) -> list[tuple]:
    """The measurements behind a table as the page tells them."""
    return [
        (row.task, row.setting, row.student, row.replicate + 1, f"{row.variant} {row.variant_value}".strip(), _metric(row),
         f"{row.value:.6f}", row.run)
        for row in behind.rename(columns={"class": "class_"}).itertuples()
    ]  # fmt: skip


def _recipes(recipes: dict[str, dict]) -> dict:
    """Every run's recipe as places in a list of parts: most of them are shared."""
    parts: dict[str, int] = {}
    places: dict[str, list[int]] = {run: [] for run in recipes}
    for run, recipe in recipes.items():
        for name, value in recipe.items():
            part = json.dumps({name: value}, ensure_ascii=False, default=str)
            places[run].append(parts.setdefault(part, len(parts)))
    return {"parts": list(parts), "runs": places}


def _metric(row) -> str:
    radius = "" if math.isnan(row.eps) else f"radius {row.eps:.4g}"
    return " ".join(filter(None, [row.metric.replace("_", " "), row.average, row.class_, row.attack, row.norm, radius]))


def _differences(lines: pd.DataFrame, *, short: bool = False) -> str:
    """Table I's differences as HTML; in short, for the first screen, those in the metric that decides."""
    lines = lines[lines["metric"].isin(lines["metric"].head(1))] if short else lines
    shown = {
        "RoS-KD minus": lines["baseline"], "by": lines["metric"], "ours": lines["mean"].map(signed),
        "95 % interval": [interval(*ends) for ends in zip(lines["low"], lines["high"], strict=True)], "replicates": lines["n"],
        "smallest told": ["" if math.isnan(least) else f"{least:.3f}" for least in lines["least"]],
        "in the paper": lines["paper"].map(signed), "p, corrected": [p_in_words(p) if p == p else "" for p in lines["p"]],
        "RoS-KD …": lines["says"],
    }  # fmt: skip
    shown = {name: shown[name] for name in ("RoS-KD minus", "ours", "95 % interval")} if short else shown
    return pd.DataFrame(shown).to_html(index=False, classes="numbers words", border=0)


def _picture(study, name: str) -> dict:
    """A figure of the study's folder as WebP within the page: drawn in few colours without loss, or photographs with."""
    with Image.open(study.figures / f"{name}.png") as image:
        width, height = (round(SHOWN * side) for side in image.size)
        whole = image.convert("RGB")
    packed = _webp(whole.quantize(40, Image.Quantize.FASTOCTREE, dither=0).convert("RGB"), lossless=True)
    if len(packed) > 0.3 * width * height:  # a photograph; what is drawn takes a tenth
        packed = min(packed, _webp(whole, quality=75), key=len)
    data = base64.b64encode(packed).decode("ascii")
    pdf = f"{name}.pdf" if (study.figures / f"{name}.pdf").is_file() else ""
    return {"name": name, "width": width, "height": height, "data": data, "pdf": pdf}


def _webp(image: Image.Image, **how) -> bytes:
    packed = io.BytesIO()
    image.save(packed, "WEBP", method=4, **how)
    return packed.getvalue()


def _departures(study, facts: dict) -> list[tuple[str, str, str]]:
    """Where the study departs from Section IV-B, its number of images with it."""
    printed = published()["section_4b"]["data"]
    ours = {f"{task}_images": about["images"] for task, about in facts["data"].items()}
    differing = [name for name in ours if printed.get(name, ours[name]) != ours[name]]
    rows = [(name.replace("_", " "), f"{printed[name]:,}", f"{ours[name]:,}") for name in differing]
    return rows + named_departures(study.parameters)


def _again(study, notebook: str = "") -> str:
    """What makes this page again, whole, or the tables and figures of one notebook."""
    p, known, changes = study.parameters, study.parameters.profile in params.profiles(), {}
    profile = p.profile if known else f"{p.profile}.yaml"
    folder = bool({source.source for source in p.data.sources.values()} - {"synthetic", "medmnist"})  # of images
    if known:
        dumps = (each.model_dump(exclude={"engine": True, "data": {"root"}}) for each in (params.load(p.profile), p))
        changes = _changes(*dumps)
    if not notebook and known and not changes:
        return f"make reproduce PROFILE={profile}{' DATA=FOLDER' if folder else ''}"
    command = f".venv/bin/python -m rosutils reproduce {profile}{' --data FOLDER' if folder else ''}"
    if notebook:
        changes |= {"data": changes.get("data", {}) | {"root": "FOLDER"}} if folder else {}
        command = f".venv/bin/papermill notebooks/{notebook}.ipynb out.ipynb --cwd notebooks -p profile {profile}"
    return command + (f" -y {shlex.quote(json.dumps(changes))}" if changes else "")


def _changes(old: Any, new: Any) -> Any:
    """What of the new is not as in the old, section by section."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {key: _changes(old.get(key), value) for key, value in new.items() if old.get(key) != value}


def commit() -> str:
    """The commit of the code, with a word where it was changed since; nothing where there is no git."""
    git = ["git", "--git-dir", str(params.ROOT / ".git"), "--work-tree", str(params.ROOT)]  # not of a folder around it
    try:
        head, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, cwd=params.ROOT).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "rosutils", "params"])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}, and changes since" if changed else head
