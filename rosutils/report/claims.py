"""The paper's claims, fixed in advance in published.yaml, each with what these results say of it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from rosutils.metrics import paired_difference
from rosutils.results import published, select
from rosutils.tables import f1_rows, interval, pairs, signed


HOLDS, SMALLER_OR_LARGER, FAILS = "holds", "better, but not by the printed gain", "does not hold"
UNKNOWN, NOT_RUN = "cannot be told at this scale", "not run"
VERDICTS = (HOLDS, SMALLER_OR_LARGER, FAILS, UNKNOWN, NOT_RUN)

RADIUS = 1.28 / 255  # Table II
DECIDING_NORM, OTHER_NORMS = "l2", ("linf", "l2-scaled")  # the paper says l2; the others are readings of its radius


# What is compared, where it is not plainly F1.
HOW = {
    "f1": [],
    "attack": ["F1 after the attack, the same teachers in both settings, the radius 1.28/255 read as l2."],
    "auroc": ["Our independent runs, mean AUROC over the classes, against the number printed for the other method."],
    "sharpness": ["Share of the plane where the loss is near the centre's, mean over the levels; the pairs are directions "
                  "around one training each, so the interval knows nothing of other trainings."],
}  # fmt: skip


class Part(NamedTuple):
    """One comparison that a claim rests on, or (not `decides`) one that only stands beside it."""

    label: str
    pairs: pd.DataFrame
    needs: str
    decides: bool = True
    unit: str = "seed"


def judge(claim: dict, results: pd.DataFrame, tasks: dict[str, dict]) -> dict:
    """The claim with `verdict` (of VERDICTS), `ours`, `why` (`reason` and what is beside it) and `parts`, by paired differences.

    A claim over several tasks or students holds only if it holds in each, and does not hold if it fails in one. It is not
    run where nothing of it was, and cannot be told where a part is missing, has one pair, or an interval that holds the
    bound. `tasks` maps names to {"multilabel": bool}. Attacks (Table II) are decided by the literal l2 radius.
    """
    names = [claim["task"]] if isinstance(claim["task"], str) else claim["task"]
    parts = [part for name in names for part in _parts(claim, results, name, tasks.get(name))]
    found = [_told(claim, part) for part in parts]
    deciding, beside = [f for f in found if f["decides"]], [f for f in found if not f["decides"]]
    verdict = _together([f["verdict"] for f in deciding])
    how = HOW["attack" if "attack" in claim else claim["metric"]]
    reason = " ".join(
        [*how, deciding[0]["why"] if len(deciding) == 1 else _summary(deciding), *_own_tables(claim, deciding)]
    )
    why = " ".join([reason, *map(_aside, beside)])
    ours = "; ".join(f"{f['label']} {f['ours']}" if len(deciding) > 1 else f["ours"] for f in deciding if f["ours"])
    return claim | {"verdict": verdict, "ours": ours, "why": why, "reason": reason, "parts": found}


def claims_table(results: pd.DataFrame, tasks: dict[str, dict]) -> pd.DataFrame:
    """Every claim of the paper on one line: its sentence, where it stands, ours with its interval, the verdict and why."""
    found = [judge(claim, results, tasks) for claim in published()["claims"]]
    columns = {"claim": "sentence", "in the paper": "where", "ours": "ours", "verdict": "verdict", "why": "reason"}
    return pd.DataFrame([{head: claim[key] for head, key in columns.items()} for claim in found])


def _parts(claim: dict, results: pd.DataFrame, task: str, about: dict | None) -> list[Part]:
    if about is None:
        return [Part(task, pairs(results[:0], results[:0]), f"the task {task}, which this profile does not have")]
    if claim["metric"] == "sharpness":
        return _landscape(claim, results, task)
    if claim["metric"] == "auroc":
        return _mean_auroc(claim, results, task)
    if "attack" in claim:
        return _attacked(claim, results, task, about["multilabel"])
    if "overlap" in claim["comparison"]["better"]:
        return [_overlap(claim, results, task, about["multilabel"])]
    return _trained(claim, results, task, about["multilabel"])


def _trained(claim: dict, results: pd.DataFrame, task: str, multilabel: bool) -> list[Part]:
    """Table I (the profile's own runs) and Fig. 2 (variant "students"), for one student or for all."""
    variant = "students" if "Fig. 2" in claim["where"] else ""
    everyone = claim["student"] == "all"
    parts = []
    for student in published()["section_4b"]["teachers"] if everyone else [claim["student"]]:
        rows = f1_rows(results, task, multilabel, variant=variant, student=student)
        needs = f"student {student}{' of Fig. 2' if variant else ''}, {_both(claim)}"
        parts.append(Part(f"{task}, {student}" if everyone else task, _of_settings(rows, claim), needs))
    return parts


def _overlap(claim: dict, results: pd.DataFrame, task: str, multilabel: bool) -> Part:
    """Fig. 3: RoS-KD at two overlap ratios, teachers retrained at each."""
    rows = f1_rows(results, task, multilabel, variant="overlap", setting="RoS-KD", student=claim["student"])
    ratios = [float(claim["comparison"][side].split("overlap ")[1]) for side in ("better", "than")]
    return Part(task, pairs(*(select(rows, overlap=ratio) for ratio in ratios)), f"Fig. 3's runs, {_both(claim)}")


def _attacked(claim: dict, results: pd.DataFrame, task: str, multilabel: bool) -> list[Part]:
    """Table II: F1 after the attack, same teachers in both settings, for each reading of the radius."""
    same = claim | {"comparison": claim["comparison"] | {"than": "Baseline III, subset teachers"}}
    which = {"attack": claim["attack"], "eps": RADIUS, "variant": "", "student": claim["student"]}
    parts = []
    for norm in (DECIDING_NORM, *OTHER_NORMS):
        rows = f1_rows(results, task, multilabel, norm=norm, **which)
        needs = f"{claim['attack'].upper()} with radius 1.28/255, {norm}, on {_both(same)}"
        parts.append(Part(norm, _of_settings(rows, same), needs, decides=norm == DECIDING_NORM))
    return parts


def _mean_auroc(claim: dict, results: pd.DataFrame, task: str) -> list[Part]:
    """Table III: the mean AUROC of independent runs (one seed each) against the number printed for another method."""
    which = {"setting": "RoS-KD", "student": claim["student"], "metric": "auroc", "average": "macro", "class_": ""}
    rows = select(results, task=task, attack="", **which)
    rows = rows[rows["variant"].str.startswith("run ")]
    method = next(m for m in published()["table3"]["methods"] if m["method"] == claim["comparison"]["than"])
    printed = rows.assign(value=method["mean"], run="")
    return [Part(task, pairs(rows, printed), "the independent runs of Table III", unit="run")]


def _landscape(claim: dict, results: pd.DataFrame, task: str) -> list[Part]:
    """Fig. 4: the share of the plane below each level, the mean over the levels decides; paired by seed of directions."""
    rows = select(results, task=task, variant="landscape", metric="basin_area", class_="", student=claim["student"])
    needs = f"the loss surfaces of {_both(claim)}"
    levels = sorted(rows["average"].unique(), key=float)
    by_level = {level: _of_settings(select(rows, average=level), claim) for level in levels}
    parts = [
        Part(f"{task}, loss within {level}", found, needs, False, "direction") for level, found in by_level.items()
    ]
    if parts:
        both = pd.concat(by_level.values())
        means = both.groupby(level="seed").agg(
            {"better": "mean", "run_better": "first", "than": "mean", "run_than": "first"}
        )
    else:
        means = _of_settings(rows, claim)
    return [Part(task, means, needs, unit="direction"), *parts]


def _of_settings(rows: pd.DataFrame, claim: dict) -> pd.DataFrame:
    return pairs(*(select(rows, setting=claim["comparison"][side]) for side in ("better", "than")))


def _both(claim: dict) -> str:
    return f"{claim['comparison']['better']} and {claim['comparison']['than']}"


def _told(claim: dict, part: Part) -> dict[str, Any]:
    """What one comparison says: verdict, ours with its interval, why, and the pairs it is made of."""
    told = {"label": part.label, "pairs": part.pairs, "decides": part.decides, "n": len(part.pairs), "unit": part.unit}
    if part.pairs.empty:
        return told | {"verdict": NOT_RUN, "ours": "", "why": f"Not run: it needs {part.needs}."}
    found = paired_difference(part.pairs["better"], part.pairs["than"])
    verdict = _decide(found, claim)
    spread = f"one {part.unit}" if found.n < 2 else f"{interval(found.low, found.high)}, n = {found.n}"
    why = _why(verdict, found, claim, part.unit)
    return told | {"verdict": verdict, "mean": found.mean, "ours": f"{signed(found.mean)} ({spread})", "why": why}


def _decide(found, claim: dict) -> str:
    least = claim["comparison"].get("more_than", 0.0)
    if found.n < 2 or found.low <= least <= found.high:
        return UNKNOWN
    if found.high < least:
        return FAILS
    gain = claim["comparison"].get("gain")
    # The tolerance is a decimal number: 0.005 from 0.010 is within 0.005, whatever the floating point says.
    return HOLDS if gain is None or abs(found.mean - gain) <= claim["tolerance"] + 1e-9 else SMALLER_OR_LARGER


def _why(verdict: str, found, claim: dict, unit: str) -> str:
    least = claim["comparison"].get("more_than", 0.0)
    bound = f"the claimed {signed(least)}" if least else "zero"
    if found.n < 2:
        return f"One {unit} gives no interval."
    if verdict == UNKNOWN:
        return f"The interval over {found.n} {unit}s holds {bound}."
    if verdict == FAILS:
        return f"The whole interval over {found.n} {unit}s lies below {bound}."
    why = f"The whole interval over {found.n} {unit}s lies above {bound}"
    if "gain" not in claim["comparison"]:
        return f"{why}."
    near = "within" if verdict == HOLDS else "farther than"
    joint = "and" if verdict == HOLDS else "but"
    return f"{why}, {joint} the mean is {near} {claim['tolerance']:g} from the printed {signed(claim['comparison']['gain'])}."


def _together(verdicts: list[str]) -> str:
    """One verdict from those of the parts: the worst that is known."""
    if set(verdicts) == {NOT_RUN}:
        return NOT_RUN
    if FAILS in verdicts:
        return FAILS
    if UNKNOWN in verdicts or NOT_RUN in verdicts:
        return UNKNOWN
    return SMALLER_OR_LARGER if SMALLER_OR_LARGER in verdicts else HOLDS


def _summary(parts: list[dict]) -> str:
    """Which parts of a claim over several hold, fail, cannot be told, or are missing."""
    groups = {verdict: [p["label"] for p in parts if p["verdict"] == verdict] for verdict in VERDICTS}
    return " ".join(
        f"{verdict.capitalize()}: {'; '.join(labels) if len(labels) < len(parts) else 'every part'}."
        for verdict, labels in groups.items() if labels
    )  # fmt: skip


def _own_tables(claim: dict, parts: list[dict]) -> Iterable[str]:
    """What the gain of the paper's own tables says, where the printed one contradicts it."""
    if "from_tables" in claim and "mean" in parts[0]:
        near = abs(parts[0]["mean"] - claim["from_tables"]) <= claim["tolerance"] + 1e-9
        ours = f"ours is {'within' if near else 'outside'} the tolerance of that"
        yield f"By the paper's own tables the gain is {signed(claim['from_tables'])}: {ours}."


def _aside(part: dict) -> str:
    return f"Beside it, {part['label']}: {part['ours'] + ', ' if part['ours'] else ''}{part['verdict']}."
