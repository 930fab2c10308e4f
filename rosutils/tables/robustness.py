"""Table II: precision, recall and F1 before and after the attacks."""

from collections.abc import Sequence

import pandas as pd

from rosutils import InputError
from rosutils.attacks import NORMS
from rosutils.results import published, select, summary
from rosutils.settings import CHANCE, PRINTED_AVERAGE
from rosutils.tables.captions import averaging, spread_over
from rosutils.tables.scores import METRICS, beside


# Our setting -> its name in the paper's Table II, both distilled from "exactly same teacher models".
COMPARED = {"Baseline III, subset teachers": "Baseline III", "RoS-KD": "RoS-KD"}
ATTACKS = {"pgd": "PGD", "fgsm": "FGSM"}
BEFORE = ("", "before attack")
NO_SKILL = ("", "no skill")
KEYS = ["norm", "attack", "setting"]


def table2(results: pd.DataFrame, *, tasks: dict[str, dict], norms: Sequence[str], eps: float) -> pd.DataFrame:
    """Table II: before the attack, and after each at radius `eps` in every reading of its norm; columns as in `table1`.

    Rows are ("", "before attack", setting) and (norm, attack, setting). The paper's number stands beside every reading: it
    says "l2" and not in which units. Rows that were not run are blank. Raises InputError for a norm that no attack has.
    """
    unknown = [norm for norm in norms if norm not in NORMS]
    if unknown:
        raise InputError(f"norms hold {', '.join(map(repr, unknown))}; allowed: {', '.join(NORMS)}")
    after = [(norm, attack) for norm in norms for attack in ATTACKS.values()]
    index = pd.MultiIndex.from_tuples(
        [(*which, setting) for which in (BEFORE, *after) for setting in COMPARED]
        + [(*NO_SKILL, setting) for setting in CHANCE],
        names=KEYS,
    )
    rows = _rows(results, norms, eps)
    blocks = {}
    for task, about in tasks.items():
        for metric, title in METRICS.items():
            here = select(rows, task=task, average=PRINTED_AVERAGE[about["multilabel"]], metric=metric)
            ours = summary(here, by=KEYS).set_index(KEYS).reindex(index)
            blocks[task, title] = beside(ours, _printed(task, metric, norms).reindex(index))
    return pd.concat(blocks, axis=1, names=["task", "metric", "column"])


def _rows(results: pd.DataFrame, norms: Sequence[str], eps: float) -> pd.DataFrame:
    """The measurements of Table II with the table's words for norm and attack; before is the same for every attack."""
    rows = select(results, setting=list(COMPARED), variant="", attack=list(ATTACKS), class_="")
    before = select(rows, eps=0.0).assign(norm=BEFORE[0], attack=BEFORE[1])
    after = select(rows, eps=eps, norm=list(norms)).replace({"attack": ATTACKS})
    columns = ["task", "setting", "student", "replicate", "average", "metric"]
    chance = select(results, setting=CHANCE, variant="", attack="attacked sample", class_="")
    chance = chance.assign(norm=NO_SKILL[0], attack=NO_SKILL[1])
    return pd.concat([before.drop_duplicates(columns), after, chance], ignore_index=True)


def _printed(task: str, metric: str, norms: Sequence[str]) -> pd.Series:
    ours, found = {name: setting for setting, name in COMPARED.items()}, {}
    for row in published()["table2"]["rows"]:
        if row["task"] == task:
            setting = ours[row["setting"]]
            found[*BEFORE, setting] = row["before"][metric]
            found |= {(norm, ATTACKS[row["attack"]], setting): row["after"][metric] for norm in norms}
    return pd.Series(
        list(found.values()), pd.MultiIndex.from_tuples(found or [("", "", "")], names=KEYS)[: len(found)], float
    )


def table2_caption(frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str, eps: float) -> str:
    """What the rows of `table2` are, over how many replicates, and the profile's watermark."""
    printed = published()["table2"]
    slip = (
        " Printed for chest, Baseline III before the attack, is Baseline II's row of Table I."
        if "chest" in tasks
        else ""
    )
    return (
        f"Table II, attacks of radius {255 * eps:.4g}/255 (the paper's: {printed['eps']}), before and after on the same test "
        f"images. The paper says {printed['norm']} and not in which units, so its numbers stand beside every reading. Baseline III "
        f"here has RoS-KD's teachers, as the paper's caption says.{slip} Films are attacked in their one channel. “No skill”: on "
        f"the same images. Ours: {spread_over(frame)}. {averaging(tasks)} {watermark}"
    ).strip()
