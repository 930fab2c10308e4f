"""The report: one self-contained page, every number beside the paper's, where it is from and what follows."""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rosutils.metrics import paired_difference
from rosutils.results import PRINTED_AVERAGE, SETTINGS, published, select
from rosutils.tables import METRICS, number, signed, spread, table1, table1_rows


# The figures of the report in their order: file name (a pattern where each task has one), title, caption.
PICTURES = (
    ("table1", "Table I as dots", "F1 on the test part beside the printed F1 (hollow); bars: one standard deviation."),
    ("fig1", "Fig. 1, drawn from what ran", "Actual index sets, draws of the weights and (filled) averaged epochs."),
    ("class_counts_*", "Classes", "Images per class in each part of the split, before any label noise."),
    ("noise_*", "Label noise", "What was done to the labels of the training part; validation and test keep theirs."),
    ("overlap_*", "Overlap", "Share of the row's subset that the column's teacher has seen as well."),
    ("teacher_curves_*", "Teachers in training", "Loss of training and validation part, and validation F1."),
    ("teachers", "Teachers", "F1 on the test part, trained on the full set and on the teacher's own subset."),
    ("soft_targets", "Eq. 3", "One teacher's soft targets for one training image; the paper uses τ = 0.5."),
    ("weights", "Random weights", "The paper says that one teacher at a time matters; how often the draws agree."),
    ("averaging", "Eq. 1", "Validation F1 of the student (Baseline V) and of the average of its epochs (RoS-KD)."),
)  # fmt: skip


def write_report(
    folder: str | Path,
    *,
    profile: str,
    watermark: str,
    results: pd.DataFrame,
    tasks: dict[str, dict],
    figures: Sequence[tuple[str | Path, str, str]] = (),
    departures: Sequence[tuple[str, str, str]] = (),
    readings: Sequence[tuple[str, str, str]] = (),
    provenance: dict | None = None,
    command: str = "make reproduce",
    student: str = "resnet18",
    overlap: float | None = None,
    noise: float | None = None,
) -> Path:
    """Write `folder`/report.html from plain data and return its path; the same input gives the same bytes.

    `tasks` maps names to {"multilabel": bool}; `figures` are (png path, title, caption); `departures` from Section IV-B
    are (what, paper, here); `readings` are (open point, reading chosen, alternatives). `overlap` and `noise` as in
    `tables.table1`. Only the profile "paper" is called comparable with the paper.
    """
    which = {"student": student, "overlap": overlap, "noise": noise}
    rows, table = table1_rows(results, **which), table1(results, tasks=tasks, **which)
    page = _template().render(
        profile=profile, watermark=watermark, student=student, paper=published(),
        comparable=profile == "paper" and "not comparable" not in watermark,
        tables=[_table(table[task], rows, task, about) for task, about in tasks.items()],
        verdicts=[verdict(results, task, about["multilabel"], **which) for task, about in tasks.items()],
        claims=[judge(claim, results, tasks, **which) for claim in published()["claims"]],
        figures=[_figure(*figure) for figure in figures], departures=departures, readings=readings,
        runs=[_runs(rows, task, about) for task, about in tasks.items()],
        provenance=_sections(provenance or {}), command=command,
    )  # fmt: skip
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def write_provenance(folder: str | Path, facts: dict) -> Path:
    """Write `folder`/provenance.json, keys sorted, nothing added (no time of writing)."""
    path = Path(folder) / "provenance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path


def differences(results: pd.DataFrame, task: str, multilabel: bool, **which) -> pd.DataFrame:
    """RoS-KD's F1 minus every other setting's, paired by seed: baseline, mean, low, high (95 %), n, paper.

    `which` picks student, overlap and noise as in `tables.table1`.
    """
    rows = table1_rows(results, **which)
    scores = select(rows, task=task, metric="f1", average=PRINTED_AVERAGE[multilabel])
    wide = scores.pivot(index="seed", columns="setting", values="value").reindex(columns=list(SETTINGS))
    printed = {setting: row["f1"] for setting, row in published()["table1"].get(task, {}).items()}
    found = []
    for baseline in SETTINGS[:-1]:
        pairs = wide[["RoS-KD", baseline]].dropna()
        if len(pairs):
            gain = printed["RoS-KD"] - printed[baseline] if baseline in printed else float("nan")
            found.append(
                {"baseline": baseline, **paired_difference(pairs["RoS-KD"], pairs[baseline])._asdict(), "paper": gain}
            )
    return pd.DataFrame(found, columns=["baseline", "mean", "low", "high", "n", "paper"])


def verdict(results: pd.DataFrame, task: str, multilabel: bool, **which) -> dict:
    """What the paired differences of one task say, in words and as rows; `which` as in `differences`."""
    found = differences(results, task, multilabel, **which)
    several = found["n"] > 1
    groups = {
        "beats": found[several & (found["low"] > 0)], "is worse than": found[several & (found["high"] < 0)],
        "is not shown to beat": found[several & (found["low"] <= 0) & (found["high"] >= 0)],
        "is above": found[~several & (found["mean"] > 0)], "is not above": found[~several & (found["mean"] <= 0)],
    }  # fmt: skip
    parts = [
        f"{words} {_and(part['baseline'].str.replace(',', ' with'))}" for words, part in groups.items() if len(part)
    ]
    if not parts:
        text = "Nothing to compare yet: RoS-KD or its baselines have not been run."
    elif several.any():
        text = f"Over {_and(sorted(found['n'].unique()))} seeds RoS-KD {'; it '.join(parts)}."
    else:
        text = (
            f"With one seed RoS-KD {'; it '.join(parts)}. One seed: no interval can be given, so this decides nothing."
        )
    lines = [
        {
            "baseline": row.baseline, "mean": signed(row.mean), "n": row.n, "paper": signed(row.paper),
            "interval": f"{signed(row.low)} to {signed(row.high)}" if row.n > 1 else "one seed: no interval",
        }
        for row in found.itertuples()
    ]  # fmt: skip
    return {"task": task, "average": PRINTED_AVERAGE[multilabel], "text": text, "lines": lines}


def judge(claim: dict, results: pd.DataFrame, tasks: dict[str, dict], *, student: str, **which) -> dict:
    """One claim of the paper with what these results say of it: holds, does not hold, cannot be told, or not run."""
    compare, task = claim["comparison"], claim["task"]
    covered = claim["metric"] == "f1" and claim["student"] == student and "attack" not in claim
    if not (covered and compare["than"] in SETTINGS and task in tasks):
        return claim | {"verdict": "not run", "ours": ""}
    found = differences(results, task, tasks[task]["multilabel"], student=student, **which).set_index("baseline")
    if compare["than"] not in found.index:
        return claim | {"verdict": "not run", "ours": ""}
    row = found.loc[compare["than"]]
    interval = f" ({signed(row['low'])} to {signed(row['high'])})" if row["n"] > 1 else " (one seed)"
    return claim | {"verdict": _decide(row, compare, claim["tolerance"]), "ours": signed(row["mean"]) + interval}


def _decide(row: pd.Series, compare: dict, tolerance: float) -> str:
    least = compare.get("more_than", 0.0)
    if row["n"] < 2 or row["low"] <= least <= row["high"]:
        return "cannot be told"
    if row["high"] < least:
        return "does not hold"
    near = "gain" not in compare or abs(row["mean"] - compare["gain"]) <= tolerance
    return "holds" if near else "better, but not by the printed gain"


def _template():
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["signed"] = signed
    return environment.get_template("report.html.j2")


def _table(frame: pd.DataFrame, rows: pd.DataFrame, task: str, about: dict) -> dict:
    """Table I of one task: per setting the cells of each metric, with the seeds' values and the anchor of the runs."""
    values = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]])
    lines = []
    for setting in frame.index:
        cells = []
        for metric, title in METRICS.items():
            cell, seeds = frame.loc[setting, title], select(values, setting=setting, metric=metric)
            cells.append({
                "paper": number(cell["published"]), "ours": spread(cell["ours"], cell["std"]),
                "difference": signed(cell["difference"]),
                "title": "; ".join(f"seed {row.seed}: {row.value:.6f} ({row.run})" for row in seeds.itertuples()),
            })  # fmt: skip
        lines.append({"setting": setting, "anchor": _anchor(task, setting), "cells": cells})
    return {
        "task": task,
        "average": PRINTED_AVERAGE[about["multilabel"]],
        "metrics": list(METRICS.values()),
        "lines": lines,
    }


def _runs(rows: pd.DataFrame, task: str, about: dict) -> dict:
    """Where each number of one task comes from: per setting and seed, the run and its values in full."""
    values = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]], metric=list(METRICS))
    lines = []
    for setting in SETTINGS:
        wide = select(values, setting=setting).pivot(index=["seed", "run"], columns="metric", values="value")
        for place, ((seed, run), row) in enumerate(wide.iterrows()):
            anchor = _anchor(task, setting) if place == 0 else ""
            lines.append(
                {
                    "setting": setting,
                    "anchor": anchor,
                    "seed": seed,
                    "run": run,
                    "values": [f"{row[name]:.6f}" for name in METRICS],
                }
            )
    return {"task": task, "metrics": list(METRICS.values()), "lines": lines}


def _figure(path: str | Path, title: str, caption: str) -> dict:
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    name = Path(path).stem
    return {"title": title, "caption": caption, "data": data, "name": name, "anchor": _anchor("figure", name)}


def _sections(facts: dict) -> list[dict]:
    """Facts as titled lists of (name, value); what is not itself a section goes under "general"."""
    general = {name: value for name, value in facts.items() if not isinstance(value, dict)}
    sections = ({"general": general} if general else {}) | {
        name: value for name, value in facts.items() if isinstance(value, dict)
    }
    return [
        {"title": title, "rows": [(str(name), _plain(value)) for name, value in rows.items()]}
        for title, rows in sections.items()
    ]


def _plain(value) -> str:
    if isinstance(value, dict):
        inner = {name: f"({_plain(item)})" if isinstance(item, dict) else _plain(item) for name, item in value.items()}
        return ", ".join(f"{name}: {item}" for name, item in inner.items())
    return ", ".join(map(_plain, value)) if isinstance(value, (list, tuple)) else str(value)


def _anchor(*parts: str) -> str:
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def _and(items) -> str:
    items = [str(item) for item in items]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
