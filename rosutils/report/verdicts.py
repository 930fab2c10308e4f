"""What the paired differences between RoS-KD and the other settings say, seed by seed."""

import pandas as pd

from rosutils.results import PRINTED_AVERAGE
from rosutils.tables import differences, interval, signed


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


def _and(items) -> str:
    items = [str(item) for item in items]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
