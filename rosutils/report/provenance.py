"""Where each number comes from: the measurements behind it, their runs, and the recipes of these."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rosutils.tables import METRICS


CONDITIONS = ("setting", "student", "variant", "overlap", "attack", "norm", "eps")
KEY = re.compile(r"[a-z]+-[a-z0-9_]+-[0-9a-f]{16}")
LONG = 40  # characters from which a part that several recipes share is written once


def write_provenance(folder: str | Path, facts: dict) -> Path:
    """Write `folder`/provenance.json, keys sorted, nothing added (no time of writing)."""
    path = Path(folder) / "provenance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path


def anchor(*parts: object) -> str:
    """An id for a page: lower case, digits and single hyphens."""
    return "-".join(re.sub(r"[^a-z0-9]+", "-", str(part).lower()).strip("-") for part in parts)


def measurements(rows: pd.DataFrame) -> tuple[list[str], list[list[dict]]]:
    """Results as a small table, one line per run and condition, one column per metric: (heads, lines of cells)."""
    rows = rows.assign(what=_what(rows))
    varying = [name for name in CONDITIONS if rows[name].nunique(dropna=False) > 1]
    values = sorted(dict.fromkeys(rows["what"]), key=lambda what: list(METRICS).index(what) if what in METRICS else -1)
    lines = []
    for (_, replicate, run), here in rows.groupby([_together(rows, varying), "replicate", "run"], sort=False):
        found = here.drop_duplicates("what").set_index("what")["value"]
        conditions = [cell(_plain(here.iloc[0][name])) for name in varying]
        numbers = [cell("" if pd.isna(found.get(name)) else f"{found[name]:.6f}") for name in values]
        lines.append([*conditions, cell(replicate + 1), *numbers, cell(run, run=run)])
    return [*varying, "replicate", *values, "run"], lines


def _together(rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    return pd.Series([tuple(map(str, row)) for row in rows[columns].to_numpy()], index=rows.index, dtype=object)


def _what(rows: pd.DataFrame) -> pd.Series:
    """What was measured: the metric, and the class or the averaging where there are several."""
    texts = rows["metric"].str.replace("_", " ") + rows["class"].map(lambda name: f" {name}" if name else "")
    level = rows["average"].where(rows["metric"].isin(["basin_area", "auroc"]), "")
    return texts + level.map(lambda name: f" {name}" if name else "")


def compared(parts: Iterable[dict], better: str, than: str) -> tuple[list[str], list[list[dict]]]:
    """Paired values as a small table, one line per pair: (heads, lines of cells)."""
    heads, lines = ["comparison", "replicate", better, than, "difference", "runs", ""], []
    for part in parts:
        for replicate, pair in part["pairs"].iterrows():
            values = [f"{pair['better']:.6f}", f"{pair['than']:.6f}", f"{pair['better'] - pair['than']:+.6f}"]
            runs = [cell(pair[side], run=pair[side]) for side in ("run_better", "run_than")]
            lines.append([cell(part["label"]), cell(replicate + 1), *map(cell, values), *runs])
    return heads, lines


def cell(text: object, *, run: str = "") -> dict:
    """A cell of text; with `run`, a link to that run."""
    return {"text": str(text), "run": run}


def runs_and_recipes(results: pd.DataFrame, facts: Mapping[str, Any]) -> tuple[list[dict], list[dict]]:
    """(parts that several recipes share, runs with what they were and their recipes), to be printed once each.

    `facts` may hold "runs" ({key: record}) and "recipes" ({key: recipe}); every run of the results is listed.
    """
    records, recipes = facts.get("runs", {}), facts.get("recipes", {})
    keys = sorted({*results["run"], *records, *recipes} - {""})
    shared = _shared(recipes[key] for key in keys if key in recipes)
    known = set(keys)
    parts = [{"id": anchor("part", name), "name": name, "text": _linked(text, known)} for text, name in shared.items()]
    runs = [
        {
            "id": anchor("run", key), "key": key, "recipe": _recipe(recipes.get(key), shared, known),
            "what": records.get(key, {}).get("run", ""), "seconds": records.get(key, {}).get("seconds", ""),
            "device": records.get(key, {}).get("device", ""),
        }
        for key in keys
    ]  # fmt: skip
    return parts, sorted(runs, key=lambda run: (run["what"], run["key"]))


def _shared(recipes: Iterable[Mapping]) -> dict[str, str]:
    """Long parts that several recipes have: their text, and the name they are printed under."""
    counts = Counter(f"{name}: {_json(value)}" for recipe in recipes for name, value in sorted(recipe.items()))
    several = [text for text, count in counts.items() if count > 1 and len(text) > LONG]
    places: Counter = Counter()
    names = {}
    for text in several:
        name = text.split(":")[0]
        places[name] += 1
        names[text] = f"{name} {places[name]}"
    return names


def _recipe(recipe: Mapping | None, shared: Mapping[str, str], known: set[str]) -> list[dict]:
    """The recipe as pieces of text, with links to the shared parts and to the runs that it names."""
    pieces = []
    for name, value in sorted((recipe or {}).items()):
        text = f"{name}: {_json(value)}"
        if text in shared:
            pieces.append(
                [{"text": f"{name}: ", "href": ""}, {"text": shared[text], "href": anchor("part", shared[text])}]
            )
        else:
            pieces.append(_linked(text, known))
    return [piece for group in pieces for piece in (*group, {"text": ", ", "href": ""})][:-1]


def _linked(text: str, known: set[str]) -> list[dict]:
    pieces, start = [], 0
    for found in KEY.finditer(text):
        if found.group() in known:
            before = {"text": text[start : found.start()], "href": ""}
            pieces += [before, {"text": found.group(), "href": anchor("run", found.group())}]
            start = found.end()
    return [*pieces, {"text": text[start:], "href": ""}]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "none" if pd.isna(value) else f"{value:.4g}"
    return str(value) or "none"
