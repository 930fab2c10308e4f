"""What paired differences say of a claim: equivalence tests, corrected for the number of comparisons (Holm), and the verdict."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from rosutils.intervals import PairedDifference
from rosutils.paper.cells import signed
from rosutils.paper.compared import Part


HOLDS, BETTER, FAILS = "holds", "better, but not by the printed gain", "does not hold"
UNKNOWN, NOT_RUN = "cannot be told", "not run"
VERDICTS = (HOLDS, BETTER, FAILS, UNKNOWN, NOT_RUN)
ALPHA = 0.05
# What is compared, where it is not plainly F1.
HOW = {
    "attack": "How much F1 changes under the attack, the same teachers in both settings, the radius read as l2: above zero RoS-KD "
    "loses less.",
    "auroc": "Mean AUROC over the classes, ours less the number printed for the other method.",
    "basin_area": "Share of the plane where the loss is near the centre's, mean over levels and directions: one number a training.",
    "seconds": "Seconds of training, as a ratio.",
}


class Bounds(NamedTuple):
    """What a claim says of the true difference: that it lies between `low` and `high`; `gain`: above 0 is better at all."""

    low: float
    high: float
    gain: bool = True


def bounds(claim: dict) -> Bounds:
    """Where a claim of params/published.yaml puts the true difference, or the log of the ratio of run times."""
    compare = claim["comparison"]
    if claim["metric"] == "seconds":
        low, high = compare.get("more_than"), compare.get("at_most")
        return Bounds(math.log(low) if low else -math.inf, math.log(high) if high else math.inf, gain=False)
    if "gain" in compare:
        return Bounds(compare["gain"] - claim["tolerance"], compare["gain"] + claim["tolerance"])
    return Bounds(compare.get("more_than", 0.0), math.inf)


def p_values(found: PairedDifference, between: Bounds) -> dict[str, float]:
    """The p-value of each thing that may be said: "inside" the bounds (two one-sided tests), "less", "more", "better", "worse".

    Each is twice that of a one-sided test. So all of them are read off one two-sided interval, of which one of two ends is
    wrong in no more than its level of all studies, wherever the true difference lies.
    """
    inside = max(found.p_above(between.low), found.p_below(between.high))
    said = {"inside": inside, "less": found.p_below(between.low), "more": found.p_above(between.high)}
    if between.gain:
        said |= {"better": found.p_above(0.0), "worse": found.p_below(0.0)}
    return {name: min(1.0, 2 * p) for name, p in said.items()}


def unsettled(said: Mapping[str, float]) -> float:
    """The level up to which something that `p_values` is about stays open: the place of the difference, or whether it is a gain."""
    place = min(said["inside"], said["less"], said["more"])
    return max(place, min(said["better"], said["worse"])) if "better" in said else place


def holm(p: float, levels: Collection[float]) -> float:
    """A p-value after Holm's correction over distinct comparisons, from the level up to which each is `unsettled`.

    A comparison makes way for the others once nothing more can be said of it that is wrong. Were it to do so once anything is
    said, those that are surely smaller than printed would make way for calling each other better or worse.
    """
    before = sorted(level for level in levels if level < p)
    left = max(1, len(levels) - len(before))  # also where p is larger than any level, since what it says is not so
    return min(1.0, max(left * p, *((len(levels) - place) * level for place, level in enumerate(before)), 0.0))


def decide(corrected: Mapping[str, float]) -> str:
    """The verdict of VERDICTS that corrected `p_values` bear."""
    shown = {name for name, p in corrected.items() if p < ALPHA}
    if "inside" in shown:
        return HOLDS
    if shown & {"less", "more"}:
        return BETTER if "better" in shown else FAILS
    return UNKNOWN


def together(verdicts: list[str], rule: str | None) -> str:
    """One verdict from those of a claim's parts, by its rule."""
    if set(verdicts) == {NOT_RUN}:
        return NOT_RUN
    if rule == "most parts":
        good, bad = verdicts.count(HOLDS), verdicts.count(FAILS) + verdicts.count(BETTER)
        return HOLDS if 2 * good > len(verdicts) else FAILS if 2 * bad >= len(verdicts) else UNKNOWN
    said = {UNKNOWN if one == NOT_RUN else one for one in verdicts}
    return next(worst for worst in (FAILS, UNKNOWN, BETTER, HOLDS) if worst in said)


def why(claim: dict, corrected: Mapping[str, float], count: int) -> str:
    """What is shown of a claim, or what is not, in words, with the p-values after correction for `count` comparisons."""
    said = {name: f"{words} ({p_in_words(corrected.get(name, 1))})" for name, words in _words(claim).items()}
    shown = list(dict.fromkeys(words for name, words in said.items() if corrected.get(name, 1) < ALPHA))
    text = f"Ours is {' and '.join(shown)}"
    if decide(corrected) == UNKNOWN:
        nearer = said[min(("less", "more"), key=corrected.__getitem__)]
        text = f"Ours is not shown to be {said['inside']}, nor {nearer}" + (f"; it is {shown[0]}" if shown else "")
    return f"{text}, corrected for {count} comparison{'s' if count > 1 else ''}."


def _words(claim: dict) -> dict[str, str]:
    """What may be said of a claim's difference."""
    compare, between = claim["comparison"], bounds(claim)
    low, high = (signed(bound) for bound in between[:2])
    if claim["metric"] == "seconds":
        low = high = f"{compare.get('at_most', compare.get('more_than'))} times as much"
    inside = f"above {low}" if math.isinf(between.high) else f"at most {high}"
    if "gain" in compare:
        inside = f"within {claim['tolerance']:g} of the printed {signed(compare['gain'])}"
    less, more = f"below {low}", f"above {high}"
    return {"inside": inside, "less": less, "more": more, "better": "above 0.000", "worse": "below 0.000"}


def p_in_words(p: float) -> str:
    """ "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdicts(claims: Sequence[dict], parts: Sequence[Sequence[Part]]) -> list[dict]:
    """The claims with their verdicts, from the parts of each; Holm's correction is over the comparisons that decide."""
    said = [[(part, _said(claim, part)) for part in of_claim] for claim, of_claim in zip(claims, parts, strict=True)]
    levels: dict = {}
    for part, p in chain(*said):
        if p:  # several claims about one comparison: it is settled with the last of them
            levels[part.key] = max(unsettled(p), levels.get(part.key, 0.0))
    return [_judged(*both, levels.values()) for both in zip(claims, said, strict=True)]


def _said(claim: dict, part: Part) -> dict[str, float]:
    """The p-values of a comparison before correction; none of one that decides nothing."""
    return {} if not part.decides or part.untold() else p_values(part.found, bounds(claim))


def _judged(claim: dict, parts: list[tuple[Part, dict]], levels: Collection[float]) -> dict:
    found = [_told(claim, part, p, levels) for part, p in parts]
    deciding = [part for part in found if part["decides"]]
    several = len(deciding) > 1
    reason = [HOW.get("attack" if "attack" in claim else claim["metric"], "")]
    reason += _summary(deciding) if several else [deciding[0]["why"]]
    if "from_tables" in claim:
        reason.append(f"By the paper's own tables the gain is {signed(claim['from_tables'])}.")
    ours = [f"{part['label']} {part['ours']}" if several else part["ours"] for part in deciding if part["ours"]]
    verdict = together([part["verdict"] for part in deciding], claim.get("rule"))
    return claim | {
        "verdict": verdict,
        "ours": "; ".join(ours),
        "reason": " ".join(filter(None, reason)),
        "parts": found,
    }


def _told(claim: dict, part: Part, said: dict[str, float], levels: Collection[float]) -> dict:
    """What one comparison says: verdict, ours with its interval, why, what is shown, and the pairs it is made of."""
    corrected = {name: holm(p, levels) for name, p in said.items()}
    told = part._asdict() | {"ours": _ours(part, claim["metric"] == "seconds"), "verdict": "", "why": ""}
    told["shown"] = tuple(name for name, p in corrected.items() if p < ALPHA)
    if corrected:
        told |= {"verdict": decide(corrected), "why": why(claim, corrected, len(levels))}
    elif part.decides:
        needs = f"Not run: it needs the runs of {claim['where']}."
        told |= {"verdict": UNKNOWN, "why": part.untold()} if part.found else {"verdict": NOT_RUN, "why": needs}
    return told


def _ours(part: Part, ratio: bool) -> str:
    if part.found is None:
        return ""
    mean, low, high = (f"×{math.exp(value):.2f}" if ratio else signed(value) for value in part.found[:3])
    return f"{mean} (one replicate)" if part.found.n < 2 else f"{mean} ({low} to {high}, n = {part.found.n})"


def _summary(parts: list[dict]) -> Iterator[str]:
    """Which parts of a claim over several hold, fail, cannot be told and why, or are missing."""
    groups: dict[tuple[str, str], list[str]] = {}
    for part in sorted(parts, key=lambda part: VERDICTS.index(part["verdict"])):
        reason = part["why"] if part["verdict"] in (UNKNOWN, NOT_RUN) else ""
        groups.setdefault((part["verdict"], reason), []).append(part["label"])
    for (verdict, reason), labels in groups.items():
        who = "; ".join(labels) if len(labels) < len(parts) else "every part"
        yield f"{verdict.capitalize()}: {who}. {reason}".strip()
