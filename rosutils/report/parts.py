"""Which measurements a claim of the paper is about: pairs of them by replicate, and what bars a comparison."""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from rosutils.metrics import PairedDifference, paired_difference
from rosutils.report.gates import MARGIN, NAMES, Gates, Measure, Side
from rosutils.results import published, select
from rosutils.settings import PRIMARY, PRINTED_AVERAGE
from rosutils.tables import number, pairs


DECIDING_NORM, OTHER_NORMS = "l2", ("linf", "l2-scaled")  # the paper says l2; the others are readings of its radius
OTHER_SCALE = "the numbers of others are of the whole data at full size, these runs are not"


class Scene(NamedTuple):
    """What claims are judged on: measurements, {task: {"multilabel": bool}}, the attacks' radius, the paper's own scale or not."""

    results: pd.DataFrame
    tasks: dict[str, dict]
    eps: float
    as_printed: bool
    gates: Gates


def scene(results: pd.DataFrame, tasks: dict[str, dict], *, eps: float, as_printed: bool) -> Scene:
    """The scene without what no claim is about: most measurements are of single classes, and every look at them takes time."""
    whole = (results["class"] == "") & results["metric"].isin([*NAMES, MARGIN, "seconds"])
    known = results[whole | (results["metric"] == "basin_area")].reset_index(drop=True)
    return Scene(known, tasks, eps, as_printed, Gates(known))


class Part(NamedTuple):
    """One comparison that a claim rests on, or (not `decides`) one that only stands beside it.

    `key` is what is compared, whichever claim it is for; `found` None where nothing was run; `barred` says why it can tell nothing.
    """

    label: str
    key: Hashable
    pairs: pd.DataFrame
    found: PairedDifference | None
    needs: str
    barred: str = ""
    decides: bool = True


def parts_of(claim: dict, scene: Scene) -> list[Part]:
    """The comparisons of a claim, those that decide first; a task that the profile lacks is one that was not run."""
    names = [claim["task"]] if isinstance(claim["task"], str) else claim["task"]
    found = []
    for task in names:
        found += list(_finder(claim)(claim, scene, task)) if task in scene.tasks else [_lacking(task, scene)]
    return sorted(found, key=lambda part: not part.decides)


def _finder(claim: dict) -> Callable[[dict, Scene, str], Iterator[Part]]:
    if "attack" in claim:
        return _attacked
    kinds = {"seconds": _run_time, "auroc": _against_print, "basin_area": _landscape}
    return kinds.get(claim["metric"], _overlap if "overlap" in claim["comparison"]["better"] else _trained)


def _lacking(task: str, scene: Scene) -> Part:
    none = pairs(scene.results[:0], scene.results[:0])
    return Part(task, task, none, None, f"the task {task}, which this profile does not have")


def _trained(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """Table I (the profile's own runs) and Fig. 2 (variant "students"), for one student or for all."""
    variant = "students" if "Fig. 2" in claim["where"] else ""
    everyone = claim["student"] == "all"
    for student in published()["section_4b"]["teachers"] if everyone else [claim["student"]]:
        sides = _sides(claim, task, student=student, variant=variant)
        needs = f"student {student}{' of Fig. 2' if variant else ''}, {_both(claim)}"
        yield from _scored(scene, sides, f"{task}, {student}" if everyone else task, needs)


def _overlap(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """Fig. 3: RoS-KD at two overlap ratios, teachers retrained at each."""
    ratios = [float(claim["comparison"][side].split("overlap ")[1]) for side in ("better", "than")]
    sides = [Side(task, "RoS-KD", claim["student"], "overlap", ratio) for ratio in ratios]
    yield from _scored(scene, sides, task, f"Fig. 3's runs, {_both(claim)}")


def _scored(scene: Scene, sides: list[Side], label: str, needs: str) -> Iterator[Part]:
    """F1 decides, since the paper prints it; where images have several labels, mean AUROC stands beside it."""
    multilabel = scene.tasks[sides[0].task]["multilabel"]
    for measure in _measures(multilabel):
        metric, average = measure
        which = {"attack": "", "class_": "", "metric": metric, "average": average}
        pair = pairs(*(side.rows(scene.results, **which) for side in sides))
        bar = scene.gates.barred(sides, _measures(multilabel), pair.index)
        decides = metric == "f1"
        yield _part(label if decides else f"{label}, mean AUROC", (*sides, metric), pair, needs, bar, decides)


def _measures(multilabel: bool) -> list[Measure]:
    return list(dict.fromkeys([("f1", PRINTED_AVERAGE[multilabel]), PRIMARY[multilabel]]))


def _attacked(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """Table II: how F1 changes under the attack, the same teachers in both settings, for each reading of the radius."""
    sides, multilabel = _sides(claim, task), scene.tasks[task]["multilabel"]
    f1 = ("f1", PRINTED_AVERAGE[multilabel])
    for norm in (DECIDING_NORM, *OTHER_NORMS):
        which = {"attack": claim["attack"], "norm": norm}
        rows = partial(Side.rows, results=scene.results, class_="", metric="f1", average=f1[1], **which)
        after_and_before = [pairs(rows(side, eps=scene.eps), rows(side, eps=0.0)) for side in sides]
        pair = pairs(*map(_changes, after_and_before))
        bars = scene.gates.barred(sides, _measures(multilabel), pair.index)
        bars += [why for side in sides for why in scene.gates.at_chance(side, f1, pair.index, **which)]
        bars += _unmoved(after_and_before[1], sides[1].setting)
        needs = f"{claim['attack'].upper()} with the radius {scene.eps:.4g}, {norm}, on {_both(claim)}"
        yield _part(norm, (*sides, *which.values()), pair, needs, bars, norm == DECIDING_NORM)


def _changes(after_and_before: pd.DataFrame) -> pd.DataFrame:
    changes = after_and_before["better"] - after_and_before["than"]
    return pd.DataFrame({"value": changes, "run": after_and_before["run_better"]}).reset_index()


def _unmoved(after_and_before: pd.DataFrame, setting: str) -> Iterator[str]:
    """Where an attack takes next to nothing from a setting, no robustness can show."""
    before, after = after_and_before["than"].mean(), after_and_before["better"].mean()
    if before - after <= published()["attack_moves"]:
        yield f"the attack does not move {setting} ({number(before)} → {number(after)})"


def _against_print(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """Table III: mean AUROC of our replicates less the number printed for other methods: one mean, so one comparison."""
    side = Side(task, "RoS-KD", claim["student"], "table3")
    rows = side.rows(scene.results, attack="", class_="", metric=PRIMARY[True][0], average=PRIMARY[True][1])
    bars = scene.gates.barred([side], [PRIMARY[True]], rows["replicate"]) if scene.as_printed else [OTHER_SCALE]
    than, methods = claim["comparison"]["than"], published()["table3"]["methods"]
    for method in (
        m for m in methods if m["method"] == than or (than == "published methods" and m["method"] != "RoS-KD")
    ):
        printed = rows.assign(value=method["mean"], run="")
        label = task if method["method"] == than else method["method"]
        yield _part(label, (side, "auroc"), pairs(rows, printed), "the runs of Table III", bars)


def _landscape(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """Fig. 4: the share of the plane below each level; the mean over levels and directions is one number of a training."""
    sides = _sides(claim, task)
    rows = select(scene.results, task=task, variant="landscape", metric="basin_area", student=claim["student"])
    levels = sorted(rows["average"].unique(), key=float)
    for level in [None, *levels]:
        means = _means(rows if level is None else select(rows, average=level))
        pair = pairs(*(select(means, setting=side.setting) for side in sides))
        bars = scene.gates.barred(sides, [PRIMARY[scene.tasks[task]["multilabel"]]], pair.index)
        label = task if level is None else f"{task}, loss within {level}"
        needs = f"the loss surfaces of {_both(claim)}"
        yield _part(label, (*sides, "basin_area", level), pair, needs, bars, level is None)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(["task", "setting", "replicate"], as_index=False).agg(
        value=("value", "mean"), run=("run", "first")
    )


def _run_time(claim: dict, scene: Scene, task: str) -> Iterator[Part]:
    """III-B1 and IV-C4: seconds of training, as a ratio; how well a network does makes it neither slower nor faster."""
    sides = _sides(claim, task)
    pair = pairs(*(side.rows(scene.results, metric="seconds") for side in sides))
    found = paired_difference(np.log(pair["better"]), np.log(pair["than"])) if len(pair) else None
    yield Part(task, (*sides, "seconds"), pair, found, f"the run times of {_both(claim)}")


def _part(label: str, key: Hashable, pair: pd.DataFrame, needs: str, bars: list[str], decides: bool = True) -> Part:
    found = paired_difference(pair["better"], pair["than"]) if len(pair) else None
    return Part(label, key, pair, found, needs, "; ".join(bars), decides)


def _sides(claim: dict, task: str, *, student: str | None = None, variant: str = "") -> list[Side]:
    settings = (claim["comparison"][side] for side in ("better", "than"))
    return [Side(task, setting, student or claim["student"], variant) for setting in settings]


def _both(claim: dict) -> str:
    return f"{claim['comparison']['better']} and {claim['comparison']['than']}"
