"""The paper's claims, fixed in advance in params/published.yaml, each with what the results say of it; and Table I's verdict."""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rosutils.paper.compared import Measured, of_table1, parts_of
from rosutils.paper.decisions import ALPHA, BETTER, FAILS, HOLDS, UNKNOWN, VERDICTS, holm, verdicts
from rosutils.paper.items import Item
from rosutils.paper.look import BLUE, GREEN, GREY, INK, PALE, PRINTED, RED, architecture_name, subplots
from rosutils.paper.table1 import printed_gains


SHOWN, WORSE, OPEN, BARRED = "beats", "is worse than", "is not shown to beat", "cannot be compared with"
NO_TELLING = {"color": "#b5b5b5", "mfc": "w"}
COLOUR = {HOLDS: GREEN, BETTER: BLUE, FAILS: RED, UNKNOWN: INK}


def measured(study) -> Measured:
    """What a study has measured, run times with it."""
    results = pd.concat([study.results(), study.timings()], ignore_index=True)
    return Measured(results, study.about_tasks(), eps=study.parameters.attacks.eps, as_printed=study.as_printed())


def judge(here: Measured) -> list[dict]:
    """Every claim with `verdict` (of VERDICTS), `ours`, `reason` and `parts`, from differences paired by replicate.

    A claim holds where its difference is shown to be as printed, within the tolerance (two one-sided tests) or above the
    bound claimed; p-values are corrected over all distinct comparisons (Holm). It cannot be told where there are fewer than
    two replicates, or a comparison is barred: a side at chance, ignorant teachers, an attack without effect, the printed
    numbers of others unless the profile is the paper's own.
    """
    return verdicts(here.paper["claims"], [parts_of(claim, here) for claim in here.paper["claims"]])


def title(claim: dict) -> str:
    """A claim in a few words, such as "lesion over Baseline I"."""
    compare, task = claim["comparison"], claim["task"] if isinstance(claim["task"], str) else "both"
    better, than = (compare[side].replace("RoS-KD, ", "").split(", subset")[0] for side in ("better", "than"))
    metrics = {"seconds": "run time", "auroc": "AUROC", "basin_area": "basin"}
    what = metrics.get(claim["metric"], claim.get("attack", "").upper())
    words = " ".join(filter(None, [task, what, "" if better == "RoS-KD" else better, "over", than]))
    student = "all students" if claim["student"] == "all" else architecture_name(claim["student"])
    bound = f", more than {compare['more_than']:g}" if "more_than" in compare and claim["metric"] == "f1" else ""
    return words + (f", {student}" if "Fig. 2" in claim["where"] else "") + bound


def table1_verdict(here: Measured, task: str, student: str) -> pd.DataFrame:
    """RoS-KD minus every other row of Table I, the deciding metric first, with what each difference shows, and why.

    A difference is shown where its p-value, two-sided, is below 0.05 after Holm's correction over all lines of the task.
    """
    found, gains, lines = of_table1(here, task, student), printed_gains(task), []
    told = [min(1.0, 2 * min(part.found.p_above(0), part.found.p_below(0))) for _, part in found if not part.untold()]
    left = iter(told)
    for metric, part in found:
        mean, low, high, n = part.found
        reason = part.untold()
        p = math.nan if reason else holm(next(left), told)
        says = BARRED if reason else OPEN if not p < ALPHA else SHOWN if mean > 0 else WORSE
        paper = gains.get(part.label, math.nan) if metric.startswith("F1") else math.nan
        least = part.found.smallest_told()
        lines.append((part.label, metric, mean, low, high, n, least, paper, p, says, reason, part.pairs))
    return pd.DataFrame(lines, columns="baseline metric mean low high n least paper p says why pairs".split())


def sentence(lines: pd.DataFrame) -> str:
    """What a task's differences in the metric that decides show, in plain words."""
    if lines.empty:
        return "nothing to compare yet: RoS-KD or its baselines have not been run."
    metric, counts = lines["metric"].iloc[0], sorted(set(lines["n"]))
    first = lines[lines["metric"] == metric]
    groups = {says: first[first["says"] == says] for says in (SHOWN, WORSE, OPEN, BARRED)}
    said = "; it ".join(f"{says} {_and(rows['baseline'])}" for says, rows in groups.items() if len(rows))
    if len(groups[BARRED]) == len(first):
        said = f"{BARRED} any other setting"
    reasons = [why.rstrip(".").split("; ") for why in groups[BARRED]["why"]]
    common = [why for why in reasons[0] if all(why in others for others in reasons)] if reasons else []
    because = f": {common[0]}." if common else ", for reasons that the report gives." if reasons else "."
    over = "one replicate" if counts == [1] else f"{_and(counts)} replicates"
    return f"by {metric}, over {over}, RoS-KD {said}{because}"


def _and(items: Iterable) -> str:
    *most, last = (str(item).replace(",", " with") for item in items)
    return f"{', '.join(most)} and {last}" if most else last


def tally(judged: list[dict]) -> str:
    """How many claims hold, do not, and cannot be told, in a sentence."""
    counts = Counter(claim["verdict"] for claim in judged)
    several = ("hold", "are better, but not by the printed gain", "do not hold", "cannot be told", "were not run")
    words = [(counts[one], many if counts[one] > 1 else one) for one, many in zip(VERDICTS, several, strict=True)]
    said = [f"{count} {word}" for count, word in words if count]
    return f"Of the paper's {len(judged)} claims {', '.join(said)}."


def sentences(study) -> list[str]:
    """The verdict on a study: a plain sentence for each task, and how many of the paper's claims hold."""
    here, student = measured(study), study.parameters.distillation.student
    return [*(f"{task}: {sentence(table1_verdict(here, task, student))}" for task in here.tasks), tally(judge(here))]


def claims_table(judged: list[dict]) -> pd.DataFrame:
    """Every claim of the paper on one line: what it says, where it stands, ours with its interval, the verdict and why."""
    columns = {"claim": "says", "in the paper": "where", "ours": "ours", "verdict": "verdict", "why": "reason"}
    return pd.DataFrame([{head: claim[key] for head, key in columns.items()} for claim in judged])


def forest(judged: list[dict]) -> Figure:
    """The claims on one axis: the paper's gain (diamond) beside ours with its 95 % interval, a point for each part of a claim."""
    times = [claim for claim in judged if claim["metric"] == "seconds"]
    gains = [claim for claim in judged if claim["metric"] != "seconds"]
    fig, axes = subplots(2, 1, size=(4.4, 0.19 * len(judged) + 1.1), height_ratios=[len(gains), len(times)])
    for ax, claims, reach in zip(axes[:, 0], (gains, times), (0.1, 0.5), strict=True):
        for place, claim in enumerate(claims):
            _draw(ax, claim, place, reach)
        ax.axvline(0, color=GREY, lw=0.6, zorder=0)
        ax.set(xlim=(-reach, reach), ylim=(len(claims) - 0.4, -0.6))
        ax.set_yticks(range(len(claims)), map(title, claims))
        ax.grid(axis="y", color=PALE, lw=0.4)
        ax.tick_params(axis="y", length=0)
    ratios = [0.7, 1, 1.5]
    axes[0, 0].set_xlabel("ours minus other (above 0: better)")
    axes[1, 0].set_xticks(np.log(ratios), [f"×{ratio:g}" for ratio in ratios])
    axes[1, 0].set_xlabel("run time, as a ratio")
    handles = {"paper": Line2D([], [], **PRINTED)}
    handles |= {name: Line2D([], [], marker="o", ms=4, color=colour) for name, colour in COLOUR.items()}
    handles["no basis for a comparison"] = Line2D([], [], marker="o", ms=4, **NO_TELLING)
    fig.legend(handles.values(), handles, loc="outside upper left", ncols=2)
    return fig


def _draw(ax, claim: dict, place: int, reach: float) -> None:
    compare, edge = claim["comparison"], 0.97 * reach
    printed = compare.get("gain", compare.get("more_than", compare.get("at_most")))
    if printed is not None:
        bound = {} if "gain" in compare else {"marker": "<" if "at_most" in compare else ">"}
        ax.plot(math.log(printed) if claim["metric"] == "seconds" else printed, place, **PRINTED | bound)
    parts = [part for part in claim["parts"] if part["decides"] and part["found"]]
    for aside, part in zip(np.linspace(-0.3, 0.3, len(parts)) if len(parts) != 1 else [0], parts, strict=True):
        mean, low, high, _ = part["found"]
        look = NO_TELLING if part["barred"] else {"color": COLOUR[part["verdict"]]}
        marker = ">" if mean > reach else "<" if mean < -reach else "o"
        ax.plot([low, high], [place + aside] * 2, color=look["color"], lw=0.9)
        ax.plot(np.clip(mean, -edge, edge), place + aside, marker=marker, ms=3.2, **look)


_FIXED = "The list, in our words, and its tolerances were fixed before anything was run (params/published.yaml)."
TABLE = Item(
    "claims", "The paper's claims, one by one", "09_report", ("table1",), lambda study: claims_table(judge(measured(study))),
    lambda study, made: f"{_FIXED} {study.watermark()}", "table",
)  # fmt: skip
FOREST = Item(
    "claims", "The paper's claims beside ours", "09_report", ("table1",), lambda study: forest(judge(measured(study))),
    lambda study, made: "Diamond: the gain that the paper prints; triangle: more, or less, than this. Point and line: ours with "
    "its 95 % interval over replicates, one for each task or network of a claim; at the edge: beyond the axis.",
)  # fmt: skip
