"""What the paired differences between RoS-KD and the other settings say, seed by seed."""

import pandas as pd

from rosutils import InputError
from rosutils.metrics import paired_difference
from rosutils.results import PRINTED_AVERAGE, SETTINGS, published, select
from rosutils.tables import signed


def pairs(better: pd.DataFrame, than: pd.DataFrame) -> pd.DataFrame:
    """Two selections of results side by side: one row per seed that both have, columns better, than, run_better, run_than.

    Raises InputError where a selection has two values for one seed.
    """
    sides = []
    for rows, name in ((better, "better"), (than, "than")):
        twice = rows[rows["seed"].duplicated(keep=False)]
        if len(twice):
            raise InputError(
                f"a comparison by seed needs one value of each setting per seed, found {len(twice)} of "
                f"{twice.iloc[0]['setting']} for {twice.iloc[0]['task']}, seed {twice.iloc[0]['seed']}; they differ in a column "
                f"that is not selected: keep the results of one profile, or delete results.csv and make it again"
            )
        sides.append(rows.set_index("seed")[["value", "run"]].set_axis([name, f"run_{name}"], axis=1))
    return sides[0].join(sides[1], how="inner").sort_index()


def f1_rows(results: pd.DataFrame, task: str, multilabel: bool, *, attack: str = "", **which) -> pd.DataFrame:
    """The F1 of one task in the averaging that the paper prints; `which` are further conditions of `results.select`."""
    average = PRINTED_AVERAGE[multilabel]
    return select(results, task=task, attack=attack, class_="", metric="f1", average=average, **which)


def differences(results: pd.DataFrame, task: str, multilabel: bool, *, student: str = "resnet18") -> pd.DataFrame:
    """RoS-KD's F1 minus every other setting's (Table I), paired by seed: baseline, mean, low, high (95 %), n, paper."""
    rows = f1_rows(results, task, multilabel, variant="", student=student)
    printed = {setting: row["f1"] for setting, row in published()["table1"].get(task, {}).items()}
    found = []
    for baseline in SETTINGS[:-1]:
        pair = pairs(select(rows, setting="RoS-KD"), select(rows, setting=baseline))
        if len(pair):
            gain = printed["RoS-KD"] - printed[baseline] if baseline in printed else float("nan")
            found.append(
                {"baseline": baseline, **paired_difference(pair["better"], pair["than"])._asdict(), "paper": gain}
            )
    return pd.DataFrame(found, columns=["baseline", "mean", "low", "high", "n", "paper"])


def verdict(results: pd.DataFrame, task: str, multilabel: bool, *, student: str = "resnet18") -> dict:
    """What the paired differences of one task say (Table I), in words and as rows."""
    found = differences(results, task, multilabel, student=student)
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
    lines = [_line(row) for row in found.itertuples()]
    return {"task": task, "average": PRINTED_AVERAGE[multilabel], "text": text, "lines": lines}


def _line(row) -> dict:
    several = row.n > 1
    if not several:
        said, kind = "one seed decides nothing", "open"
    elif row.low > 0:
        said, kind = "better", "good"
    elif row.high < 0:
        said, kind = "worse", "bad"
    else:
        said, kind = "not shown", "open"
    return {
        "baseline": row.baseline, "mean": signed(row.mean), "n": row.n, "paper": signed(row.paper), "said": said, "kind": kind,
        "interval": interval(row.low, row.high) if several else "one seed: no interval",
    }  # fmt: skip


def over_groups(comparisons: pd.DataFrame | None, task: str) -> dict[str, str]:
    """The bootstrap intervals over test groups in the table of comparisons, by baseline; none where it has none.

    They are its columns of the task that are named low and high, of groups or of a bootstrap.
    """
    if comparisons is None or task not in comparisons.columns.get_level_values(0):
        return {}
    ends = {
        end: [column for column in comparisons.columns if column[0] == task and end in str(column[-1]).lower()
              and any(word in " ".join(map(str, column)).lower() for word in ("group", "bootstrap"))]
        for end in ("low", "high")
    }  # fmt: skip
    if not (ends["low"] and ends["high"]):
        return {}
    found = comparisons[[ends["low"][0], ends["high"][0]]].dropna()
    return {str(label): interval(low, high) for label, low, high in found.itertuples(name=None)}


def interval(low: float, high: float) -> str:
    """ "+0.010 to +0.052"."""
    return f"{signed(low)} to {signed(high)}"


def _and(items) -> str:
    items = [str(item) for item in items]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
