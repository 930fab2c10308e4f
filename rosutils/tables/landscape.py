"""The numbers beside Fig. 4: how wide the basin is, how steep, how curved."""

import pandas as pd

from rosutils.results import select, summary
from rosutils.tables.captions import counted, many


# Row -> setting and variant in the results.
STATES = {
    "Baseline III": ("Baseline III", "landscape"),
    "RoS-KD": ("RoS-KD", "landscape"),
    "RoS-KD, BatchNorm as copied": ("RoS-KD", "landscape, BatchNorm as copied"),
}
BASIN = "basin"
QUANTITIES = {
    "sharpness": "sharpness", "hessian_eigenvalue": "eigenvalue", "hessian_trace": "trace",
    "hessian_trace_error": "error of trace", "weight_norm": "weight norm", "loss": "loss",
}  # fmt: skip


def landscape_table(results: pd.DataFrame, *, tasks: dict[str, dict]) -> pd.DataFrame:
    """The numbers beside Fig. 4 (Section IV-F): basin area at each rise of the loss, sharpness, curvature, norm, loss.

    Columns are (task, quantity, one of ours = mean over direction seeds, std, n); rows are Baseline III, RoS-KD, and
    RoS-KD with the BatchNorm statistics that Eq. 1 leaves it with. What was not run is blank.
    """
    rows = pd.concat(
        [
            select(results, setting=setting, variant=variant).assign(setting=row)
            for row, (setting, variant) in STATES.items()
        ]
    )
    levels = sorted(rows.loc[rows["metric"] == "basin_area", "average"].unique(), key=float)
    wanted = {("basin_area", level): f"{BASIN} +{level}" for level in levels}
    wanted |= {(metric, ""): title for metric, title in QUANTITIES.items()}
    blocks = {}
    for task in tasks:
        for (metric, average), title in wanted.items():
            ours = summary(select(rows, task=task, metric=metric, average=average), by=["setting"]).set_index("setting")
            blocks[task, title] = ours.reindex(list(STATES)).rename(columns={"mean": "ours"}).astype({"n": "Int64"})
    return pd.concat(blocks, axis=1, names=["task", "quantity", "column"]).rename_axis("setting")


def landscape_caption(frame: pd.DataFrame, *, tasks: dict[str, dict], watermark: str) -> str:
    """What the quantities of `landscape_table` are, over how many pairs of directions, and the profile's watermark."""
    loss = {False: "cross-entropy", True: "binary cross-entropy over labels"}
    losses = ", ".join(f"{task} {loss[about['multilabel']]}" for task, about in tasks.items())
    basins = frame.loc[:, frame.columns.get_level_values(1).str.startswith(BASIN)]
    counts = counted(basins) if basins.shape[1] else []
    spread = " ± standard deviation" if counts and counts != [1] else ""
    over = f"mean{spread} over {many(counts, 'pair')} of directions" if counts else "not run yet"
    return (
        f"Numbers beside Fig. 4, one student of each setting. Basin +r: share of the plane that is joined to the centre and "
        f"where the loss is at most r above it, {over}. The others are measured once (n = 1), so they have no spread. "
        f"Sharpness: largest rise of the loss found in a small ball. Eigenvalue: of the Hessian, the largest in magnitude; "
        f"trace: of the Hessian, with the standard error of its estimate. “BatchNorm as copied”: with the statistics that "
        f"Eq. 1 leaves, those of the last epoch. Loss: {losses}. {watermark}"
    ).strip()
