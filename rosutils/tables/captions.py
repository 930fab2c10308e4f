"""The sentence under a table: what it is, over how many replicates, in which averaging, at which scale."""

import pandas as pd

from rosutils.settings import PRINTED_AVERAGE


def caption(what: str, frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """The sentence under a table: what it is, which averaging, how many replicates, and the profile's watermark."""
    return f"{what}. Ours: {spread_over(frame)}. {averaging(tasks)} {watermark}".strip()


def averaging(tasks: dict[str, dict]) -> str:
    """Which averaging of precision, recall and F1 each task has, as the paper printed it."""
    return (
        "Averaging: "
        + ", ".join(f"{task} {PRINTED_AVERAGE[about['multilabel']]}" for task, about in tasks.items())
        + "."
    )


def spread_over(frame: pd.DataFrame, unit: str = "replicate") -> str:
    """ "mean ± standard deviation over 3 replicates", or that one gives no spread, or that none was run."""
    counts = counted(frame)
    if not counts:
        return "not run yet"
    if counts == [1]:
        return f"one {unit} (n = 1), so no spread"
    return f"mean ± standard deviation over {many(counts, unit)}"


def many(counts: list[int], unit: str) -> str:
    """ "3 replicates", "1 replicate" or "2 to 3 replicates"."""
    several = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{several} {unit}" if counts == [1] else f"{several} {unit}s"


def counted(frame: pd.DataFrame) -> list[int]:
    """The numbers of replicates in a table's columns named n, each once; without those of cells never measured."""
    found = frame.xs("n", axis=1, level=-1).to_numpy(dtype=float, na_value=0)
    return sorted({int(n) for n in found.ravel() if n})
