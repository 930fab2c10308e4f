"""The numbers beside Fig. 4: how wide the basin is, how steep, how curved."""

import pandas as pd

from rosutils.results import KEYS, select, summary
from rosutils.tables.captions import spread_over


# Row -> setting and variant in the results.
STATES = {
    "Baseline III": ("Baseline III", "landscape"),
    "RoS-KD": ("RoS-KD", "landscape"),
    "RoS-KD, BatchNorm as copied": ("RoS-KD", "landscape, BatchNorm as copied"),
}
BASIN = "basin"
QUANTITIES = {
    "sharpness": "sharpness (radius {radius:g} of the norm)", "hessian_eigenvalue": "eigenvalue", "hessian_trace": "trace",
    "hessian_trace_error": "error of trace", "weight_norm": "weight norm", "loss": "loss",
}  # fmt: skip


def landscape_table(results: pd.DataFrame, *, tasks: dict[str, dict], radius: float = 0.001) -> pd.DataFrame:
    """The numbers beside Fig. 4 (Section IV-F): basin area at each rise of the loss, sharpness, curvature, norm, loss.

    Columns are (task, quantity, one of ours = mean over replicates, std, n); rows are Baseline III, RoS-KD, and RoS-KD with
    the BatchNorm statistics that Eq. 1 leaves it with. Of several pairs of directions the mean counts, once for each
    replicate; `radius` is that of sharpness, as a share of the weights' norm. What was not run is blank.
    """
    rows = pd.concat(
        [
            select(results, setting=setting, variant=variant).assign(setting=row)
            for row, (setting, variant) in STATES.items()
        ]
    )
    rows = _over_directions(rows)
    levels = sorted(rows.loc[rows["metric"] == "basin_area", "average"].unique(), key=float)
    wanted = {("basin_area", level): f"{BASIN} +{level}" for level in levels}
    at = {"sharpness": f"{radius:g}"}
    wanted |= {(metric, at.get(metric, "")): title.format(radius=radius) for metric, title in QUANTITIES.items()}
    blocks = {}
    for task in tasks:
        for (metric, average), title in wanted.items():
            ours = summary(select(rows, task=task, metric=metric, average=average), by=["setting"]).set_index("setting")
            blocks[task, title] = ours.reindex(list(STATES)).rename(columns={"mean": "ours"}).astype({"n": "Int64"})
    return pd.concat(blocks, axis=1, names=["task", "quantity", "column"]).rename_axis("setting")


def _over_directions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each replicate: the mean over its pairs of directions, which are no independent repetitions."""
    alike = [name for name in KEYS if name != "class"]
    return rows.groupby(alike, dropna=False, as_index=False)["value"].mean().assign(**{"class": ""})


def landscape_caption(frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """What the quantities of `landscape_table` are, over how many replicates, and the profile's watermark."""
    loss = {False: "cross-entropy", True: "binary cross-entropy over labels"}
    losses = ", ".join(f"{task} {loss[about['multilabel']]}" for task, about in tasks.items())
    return (
        f"Numbers beside Fig. 4, one student of each setting in each replicate: {spread_over(frame, 'replicate')}. Basin +r: "
        "share of the plane that is joined to the centre and where the loss is at most r above it (mean over the pairs of "
        "directions). Sharpness: largest rise of the loss found so near to the weights, the radius being a share of their norm. "
        "Eigenvalue: of the Hessian, the largest in magnitude; trace: of the Hessian, with the standard error of its estimate. "
        "“BatchNorm as copied”: with the statistics that Eq. 1 leaves. "
        f"Loss: {losses}. {watermark}"
    ).strip()
