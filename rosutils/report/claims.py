"""The paper's claims, fixed in advance in published.yaml, each with what these results say of it."""

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from rosutils.metrics import PairedDifference
from rosutils.report.decisions import (
    ALPHA,
    BETTER,
    FAILS,
    HOLDS,
    NOT_RUN,
    UNKNOWN,
    VERDICTS,
    Bounds,
    Holm,
    bounds,
    decide,
    p_in_words,
    p_values,
    unsettled,
)
from rosutils.report.parts import Part, parts_of, scene
from rosutils.results import published
from rosutils.tables import signed


# What is compared, where it is not plainly F1.
HOW = {
    "f1": [],
    "attack": ["How much F1 changes under the attack, the same teachers in both settings, the radius read as l2: above zero "
               "RoS-KD loses less."],
    "auroc": ["Mean AUROC over the classes, ours less the number printed for the other method."],
    "basin_area": ["Share of the plane where the loss is near the centre's, mean over levels and directions: one number a "
                   "training."],
    "seconds": ["Seconds of training, as a ratio."],
}  # fmt: skip


def judge(results: pd.DataFrame, tasks: dict[str, dict], *, eps: float, as_printed: bool) -> list[dict]:
    """Every claim with `verdict` (of VERDICTS), `ours`, `reason` and `parts`, from differences paired by replicate.

    A claim holds where its difference is shown to be as printed, within the tolerance (two one-sided tests) or above the
    bound claimed; p-values are corrected over all distinct comparisons (Holm). It cannot be told where there are fewer than
    two replicates, or a comparison is barred: a side at chance, ignorant teachers, an attack without effect, the printed
    numbers of others unless `as_printed` (the profile is the paper's own). `tasks` maps names to {"multilabel": bool};
    `eps` is the attacks' radius.
    """
    claims, here = published()["claims"], scene(results, tasks, eps=eps, as_printed=as_printed)
    return verdicts(claims, [parts_of(claim, here) for claim in claims])


def verdicts(claims: Sequence[dict], parts: Sequence[Sequence[Part]]) -> list[dict]:
    """The claims with their verdicts, from the parts of each; Holm's correction is over the comparisons that decide."""
    said = [[_said(claim, part) for part in of_claim] for claim, of_claim in zip(claims, parts, strict=True)]
    levels: dict = {}
    for part, p in zip(chain(*parts), chain(*said), strict=True):
        if p:  # several claims about one comparison: it is settled with the last of them
            levels[part.key] = max(unsettled(p), levels.get(part.key, 0.0))
    holm = Holm(levels.values())
    return [_judged(*found, holm) for found in zip(claims, parts, said, strict=True)]


def claims_table(results: pd.DataFrame, tasks: dict[str, dict], *, eps: float, as_printed: bool) -> pd.DataFrame:
    """Every claim of the paper on one line: what it says, where it stands, ours with its interval, the verdict and why."""
    found = judge(results, tasks, eps=eps, as_printed=as_printed)
    columns = {"claim": "says", "in the paper": "where", "ours": "ours", "verdict": "verdict", "why": "reason"}
    return pd.DataFrame([{head: claim[key] for head, key in columns.items()} for claim in found])


def _judged(claim: dict, parts: Sequence[Part], said: Sequence[dict], holm: Holm) -> dict:
    found = [_told(claim, part, p, holm) for part, p in zip(parts, said, strict=True)]
    deciding = [part for part in found if part["decides"]]
    reason = [*HOW["attack" if "attack" in claim else claim["metric"]]]
    reason += [deciding[0]["why"]] if len(deciding) == 1 else _summary(deciding)
    reason += _own_tables(claim)
    ours = [
        f"{part['label']} {part['ours']}" if len(deciding) > 1 else part["ours"] for part in deciding if part["ours"]
    ]
    verdict = _together([part["verdict"] for part in deciding], claim.get("rule"))
    return claim | {"verdict": verdict, "ours": "; ".join(ours), "reason": " ".join(reason), "parts": found}


def _told_nothing(part: Part) -> str:
    """Why a comparison has no verdict, "" where it has one."""
    if part.found is None:
        return f"Not run: it needs {part.needs}."
    if part.found.n < 2:
        return "One replicate gives no interval."
    return f"{part.barred[0].upper()}{part.barred[1:]}." if part.barred else ""


def _said(claim: dict, part: Part) -> dict[str, float]:
    """The p-values of a comparison before correction; none of one that decides nothing."""
    return {} if not part.decides or _told_nothing(part) else p_values(part.found, bounds(claim))


def _told(claim: dict, part: Part, said: dict[str, float], holm: Holm) -> dict[str, Any]:
    """What one comparison says: verdict, ours with its interval, why, what is shown, and the pairs it is made of."""
    told = {"label": part.label, "pairs": part.pairs, "decides": part.decides, "n": len(part.pairs), "shown": ()}
    told |= {"found": part.found, "ours": _ours(part.found, claim["metric"] == "seconds")}
    if not said:
        verdict = NOT_RUN if part.found is None else UNKNOWN
        return told | ({"verdict": verdict, "why": _told_nothing(part)} if part.decides else {"verdict": "", "why": ""})
    corrected = {name: holm(p) for name, p in said.items()}
    shown = tuple(name for name, p in corrected.items() if p < ALPHA)
    verdict = decide(corrected)
    return told | {"verdict": verdict, "shown": shown, "why": _why(verdict, corrected, claim, holm.count)}


def _ours(found: PairedDifference | None, ratio: bool) -> str:
    if found is None:
        return ""
    mean, *ends = (f"{math.exp(value):.2f}" if ratio else signed(value) for value in found[:3])
    mean = f"×{mean}" if ratio else mean
    return f"{mean} (one replicate)" if found.n < 2 else f"{mean} ({ends[0]} to {ends[1]}, n = {found.n})"


def _why(verdict: str, corrected: dict[str, float], claim: dict, count: int) -> str:
    """In words, with the p-values after correction."""
    words = _words(claim, bounds(claim))
    p = {name: p_in_words(value) for name, value in corrected.items()}
    over = f"corrected for {count} comparison{'s' if count > 1 else ''}"
    outside = min(("less", "more"), key=corrected.__getitem__)
    if verdict == HOLDS:
        return f"Ours is {words['inside']} ({p['inside']}, {over})."
    if verdict == BETTER:
        return f"Ours is above zero ({p['better']}), but {words[outside]} ({p[outside]}, {over})."
    worse = (
        f", and below zero ({p['worse']})"
        if corrected.get("worse", 1) < ALPHA and words["less"] != "below zero"
        else ""
    )
    if verdict == FAILS:
        return f"Ours is {words[outside]} ({p[outside]}, {over}){worse}."
    better = " It is above zero" if corrected.get("better", 1) < ALPHA and words["inside"] != "above zero" else ""
    better = f"{better} ({p['better']})." if better else ""
    return f"Ours is not shown to be {words['inside']} ({p['inside']}, {over}), nor {words[outside]} ({p[outside]}).{better}"


def _words(claim: dict, between: Bounds) -> dict[str, str]:
    """What inside, less and more mean of a claim."""
    compare = claim["comparison"]
    if claim["metric"] == "seconds":
        limit = f"{compare.get('at_most', compare.get('more_than'))} times as much"
        above, below = f"more than {limit}", f"less than {limit}"
        return {"inside": below if "at_most" in compare else above, "less": below, "more": above}
    if "gain" in compare:
        low, high = signed(between.low), signed(between.high)
        near = f"within {claim['tolerance']:g} of the printed {signed(compare['gain'])}"
        return {
            "inside": near,
            "less": f"below {low}, outside the tolerance",
            "more": f"above {high}, outside the tolerance",
        }
    bound = f"the claimed {signed(between.low)}" if between.low else "zero"
    return {"inside": f"above {bound}", "less": f"below {bound}", "more": "more"}


def _together(verdicts: list[str], rule: str | None) -> str:
    """One verdict from those of the parts, by the claim's rule."""
    if set(verdicts) == {NOT_RUN}:
        return NOT_RUN
    if rule == "most parts":
        good, bad = verdicts.count(HOLDS), verdicts.count(FAILS) + verdicts.count(BETTER)
        return HOLDS if 2 * good > len(verdicts) else FAILS if 2 * bad >= len(verdicts) else UNKNOWN
    if FAILS in verdicts:
        return FAILS
    if UNKNOWN in verdicts or NOT_RUN in verdicts:
        return UNKNOWN
    return BETTER if BETTER in verdicts else HOLDS


def _summary(parts: list[dict]) -> Iterable[str]:
    """Which parts of a claim over several hold, fail, cannot be told and why, or are missing."""
    groups: dict[tuple[str, str], list[str]] = {}
    for part in sorted(parts, key=lambda part: VERDICTS.index(part["verdict"])):
        why = part["why"] if part["verdict"] in (UNKNOWN, NOT_RUN) else ""
        groups.setdefault((part["verdict"], why), []).append(part["label"])
    for (verdict, why), labels in groups.items():
        who = "; ".join(labels) if len(labels) < len(parts) else "every part"
        yield f"{verdict.capitalize()}: {who}. {why}".strip()


def _own_tables(claim: dict) -> Iterable[str]:
    """What the gain of the paper's own tables is, where the text prints another."""
    if "from_tables" in claim:
        yield f"By the paper's own tables the gain is {signed(claim['from_tables'])}."
