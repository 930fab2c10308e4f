"""Fig. 4: the loss on a plane through both students' weights, the numbers beside it, and the line between the two."""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from rosutils import InputError
from rosutils.landscape import basin_area
from rosutils.paper import look
from rosutils.paper.cells import block, spread_over
from rosutils.paper.items import Item
from rosutils.results import KEYS, select
from rosutils.settings import COMPARED


NOTEBOOK, NEEDS = "07_loss_landscape", ("fig4",)
COLOURS = "cividis"  # even in lightness, and the same to the colour-blind
WIDE = 20  # a highest loss of so many times the lowest is drawn on a logarithmic scale
FLOOR = 1e-6  # what a logarithmic scale shows at most below the highest loss
INSIDE = 0.93  # of the way from the centre to the border; a label further out would be cut
AXES = {"xlabel": "second direction (filter norms)", "ylabel": "first direction (filter norms)"}
LOSS, COPIED = "loss on the test images", "RoS-KD, BatchNorm as copied"
# Row -> setting and variant value in the results.
STATES = {"Baseline III": ("Baseline III", ""), "RoS-KD": ("RoS-KD", ""), COPIED: ("RoS-KD", "BatchNorm as copied")}
QUANTITIES = {
    "sharpness": "sharpness (radius {radius:g} of the norm)", "hessian_eigenvalue": "eigenvalue", "hessian_trace": "trace",
    "hessian_trace_error": "error of trace", "weight_norm": "weight norm", "loss": "loss",
}  # fmt: skip
BARS = {"hessian_eigenvalue": "Hessian's largest\neigenvalue", "hessian_trace": "trace of the\nHessian",
        "weight_norm": "norm of\nthe weights"}  # fmt: skip


def surfaces(study, task: str) -> list[dict]:
    """Fig. 4's surfaces of a task, first replicate: {"setting", "seed" of the directions, "grid" [G], "loss" [G, G]} for each."""
    settings = {study.for_task(task).student(task, name): name for name in COMPARED}
    found = []
    for spec in study.runs("fig4"):
        if spec.role == "surface" and spec.of in settings and "copied" not in spec.state:
            plane = {name: tensor.numpy() for name, tensor in study.run(spec).tensors("surface").items()}
            found.append({"setting": settings[spec.of], "seed": spec.seed} | plane)
    return found


def paths(study, task: str) -> dict[str, np.ndarray]:
    """The loss on the straight line from Baseline III to RoS-KD, for each replicate."""
    specs = [spec for spec in study.runs("fig4") if spec.role == "path" and spec.task == task]
    return {f"replicate {s.replicate + 1}": study.run(s).tensors("path")["loss"].numpy() for s in specs}


def contours(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as contours: above clamped at `clamp` as in the paper, below as it is; both models share levels and colours.

    `found` holds {"setting", "seed" of the directions, "grid" [G], "loss" [G, G]}, rows along the first direction; the
    first seed is drawn. A loss that is not finite is drawn as the highest. Raises InputError where a setting's surface is
    missing, or none of its losses is finite.
    """
    planes, about = _pair(found)
    fig, axes = look.subplots(2, len(COMPARED), size=(look.WIDTH, 6.4), sharex=True, sharey=True)
    for line, (name, scale) in zip(axes, _scales(planes, clamp).items(), strict=True):
        locator = LogLocator(subs=(1, 2, 5), numticks=40) if isinstance(scale, LogNorm) else MaxNLocator(16)
        ticks = locator.tick_values(scale.vmin, scale.vmax)
        levels = np.array([scale.vmin, *ticks[(ticks > scale.vmin) & (ticks < scale.vmax)], scale.vmax])
        for ax, plane in zip(line, planes, strict=True):
            _contours(ax, plane["grid"], _within(scale, plane["loss"]), scale, levels)
            centre = plane["loss"][(len(plane["grid"]) // 2,) * 2]
            ax.set(title=f"{plane['setting']}: {centre:.3g} in the centre", **AXES)
            ax.label_outer()
        fig.colorbar(ScalarMappable(scale, COLOURS), ax=line, aspect=22, pad=0.02, label=f"{LOSS}, {name}")
    fig.suptitle(f"{task}: {about}; + marks the trained weights", fontsize=8)
    return fig


def _contours(ax, grid: np.ndarray, loss: np.ndarray, scale: Normalize, levels: np.ndarray) -> None:
    """Filled and drawn contours, white on dark and dark on light; every second has its loss, but across the border."""
    filled = ax.contourf(grid, grid, loss, levels=levels, norm=scale, cmap=COLOURS)
    filled.set(edgecolor="face", linewidth=0.2)  # or a pdf shows hairlines between the bands
    drawn = ["white" if scale(level) < 0.55 else look.INK for level in levels[1:-1]]
    lines = ax.contour(grid, grid, loss, levels=levels[1:-1], colors=drawn, linewidths=0.4)
    options = {"levels": lines.levels[1::2], "fmt": "%g", "fontsize": 5.5}
    drafts = ax.clabel(lines, inline=False, **options)
    places = [text.get_position() for text in drafts]
    for text in drafts:
        text.remove()
    if inside := [place for place in places if max(map(abs, place)) < INSIDE * grid[-1]]:
        ax.clabel(lines, manual=inside, **options)
    ax.plot(0, 0, "+", color="white", ms=7, mew=1.2)
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)


def basins(found: dict[str, list[dict]], levels) -> Figure:
    """Both models' level lines over each other, a row for each task and a panel for each rise over the loss in the centre.

    `found` holds the surfaces of each task as in `contours`; the first pair of directions is drawn. Beside the name: the share
    of the plane within the line of the model, as in `landscape.basin_area`.
    """
    size = (look.WIDTH, 0.5 + 2.3 * len(found))
    fig, axes = look.subplots(len(found), len(levels), size=size, sharex=True, sharey=True)
    for line, (task, surfaces) in zip(axes, found.items(), strict=True):
        for ax, rise in zip(line, levels, strict=True):
            for place, plane in enumerate(_pair(surfaces)[0]):
                loss, name = np.nan_to_num(plane["loss"], nan=1e30, posinf=1e30), plane["setting"]
                centre = loss[(len(plane["grid"]) // 2,) * 2]
                how = {"colors": look.COLOUR[name], "linestyles": "--" if place == 0 else "-", "linewidths": 1.1}
                ax.contour(plane["grid"], plane["grid"], loss, levels=[centre + rise], **how)
                said = f"{basin_area(plane['loss'], rise):.0%}"
                ax.text(0.03 + 0.16 * place, 0.03, said, color=look.COLOUR[name], size=6.5, transform=ax.transAxes)
            ax.plot(0, 0, "+", color=look.INK, ms=6)
            ax.set(title=f"{task}: {rise:g} above the centre", aspect="equal", **AXES)
            ax.label_outer()
    handles = {name: look.handle(name, marker=False) for name in COMPARED}
    look.legend(fig, handles, "share of the plane within the line, in its colour")
    return fig


def solids(found: list[dict], *, clamp: float, task: str) -> Figure:
    """Fig. 4 as surfaces over the plane, clamped at `clamp` as in the paper, one scale for both; else as `contours`."""
    planes, about = _pair(found)
    name, scale = next(iter(_scales(planes, clamp).items()))
    fig, [axes] = look.subplots(1, len(COMPARED), size=(look.WIDTH, 3.4), subplot_kw={"projection": "3d"})
    fig.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))  # the layout does not see that labels hang below the boxes
    for ax, plane in zip(axes, planes, strict=True):
        mesh = {"rstride": 1, "cstride": 1, "lw": 0.2, "edgecolor": "#00000030", "cmap": COLOURS, "norm": scale}
        ax.plot_surface(*np.meshgrid(plane["grid"], plane["grid"]), _within(scale, plane["loss"]), **mesh)
        ends = plane["grid"][[0, len(plane["grid"]) // 2, -1]]
        ax.set(zlim=(0, scale.vmax), xticks=ends, yticks=ends, title=plane["setting"])
        ax.locator_params(axis="z", nbins=4)
        ax.set_xlabel(AXES["xlabel"], labelpad=-5, fontsize=6.5)
        ax.set_ylabel(AXES["ylabel"], labelpad=-5, fontsize=6.5)
        ax.set_zlabel("loss", labelpad=-7)
        ax.tick_params(pad=-3, labelsize=6)
        ax.view_init(elev=32, azim=-60)
        ax.set_box_aspect((4, 4, 3), zoom=1.05)
    fig.colorbar(ScalarMappable(scale, COLOURS), ax=axes, shrink=0.7, pad=0.06, label=f"{LOSS}, {name}")
    fig.suptitle(f"{task}: {about}", fontsize=8)
    return fig


def _pair(found: list[dict]) -> tuple[list[dict], str]:
    """The surfaces of both settings in the first pair of directions, and what they have in common."""
    seed, pairs = min((plane["seed"] for plane in found), default=0), len({plane["seed"] for plane in found})
    chosen = {plane["setting"]: plane for plane in found if plane["seed"] == seed}
    if missing := [setting for setting in COMPARED if setting not in chosen]:
        lacking = " and ".join(missing)
        raise InputError(f"there is no surface of {lacking} in direction seed {seed}; run study.runs('fig4')")
    one = f", one of {pairs}" if pairs > 1 else ""
    about = f"same images and directions for both models (seed {seed}{one})"
    return [chosen[setting] for setting in COMPARED], about


def _scales(planes: list[dict], clamp: float) -> dict[str, Normalize]:
    """The colour scales of both models by name: clamped, and as it is."""
    losses = np.concatenate([plane["loss"].ravel() for plane in planes])
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        raise InputError("no loss on the plane is finite, so there is nothing to draw; is the model broken?")
    high = max(float(finite.max()), FLOOR)
    low = max(float(finite.min()), FLOOR * high)
    whole = {"logarithmic scale": LogNorm(low, high)} if high > WIDE * low else {"not clamped": Normalize(0, high)}
    return {f"clamped at {clamp:g}": Normalize(0, min(clamp, high))} | whole


def _within(scale: Normalize, loss: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(loss, nan=scale.vmax), scale.vmin, scale.vmax)


def measurements(results: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the landscape with the row of STATES as `state`; one for each replicate, for of several pairs of
    directions, which are no independent repetitions, the mean counts."""
    rows = select(results, variant="landscape")
    names = {where: state for state, where in STATES.items()}
    rows = rows.assign(state=[names.get(pair) for pair in zip(rows["setting"], rows["variant_value"], strict=True)])
    alike = ["state", *(name for name in KEYS if name != "class")]
    found = rows[rows["state"].notna()].groupby(alike, dropna=False, as_index=False)
    return found.agg(value=("value", "mean"), run=("run", "\n".join)).assign(**{"class": ""})


def table(study) -> pd.DataFrame:
    """The numbers beside Fig. 4 (Section IV-F): basin area at each rise of the loss, sharpness, curvature, norm, loss.

    Columns are (task, quantity, one of ours = mean over replicates, std, n, runs); rows are STATES. What was not run is blank.
    """
    rows, index = measurements(study.results()), pd.Index(STATES, name="state")
    radius = study.parameters.landscape.sharpness_radius
    levels = sorted(rows.loc[rows["metric"] == "basin_area", "average"].unique(), key=float)
    wanted = {("basin_area", level): f"basin +{level}" for level in levels}
    wanted |= {(metric, f"{radius:g}" if metric == "sharpness" else ""): title for metric, title in QUANTITIES.items()}
    blocks = {
        (task, title.format(radius=radius)): block(select(rows, task=task, metric=metric, average=average), index, by=["state"])
        for task in study.parameters.tasks for (metric, average), title in wanted.items()
    }  # fmt: skip
    return pd.concat(blocks, axis=1, names=["task", "quantity", "column"]).rename_axis("setting")


def caption(study, frame: pd.DataFrame) -> str:
    """What the quantities of the table are, over how many replicates, and the profile's watermark."""
    loss = {False: "cross-entropy", True: "binary cross-entropy over labels"}
    losses = ", ".join(f"{task} {loss[about['multilabel']]}" for task, about in study.about_tasks().items())
    return (
        f"Numbers beside Fig. 4, one student of each setting in each replicate: {spread_over(frame)}. Basin +r: "
        "share of the plane that is joined to the centre and where the loss is at most r above it (mean over the pairs of "
        "directions). Sharpness: largest rise of the loss found so near to the weights, the radius being a share of their norm. "
        "Eigenvalue: of the Hessian, the largest in magnitude; trace: of the Hessian, with the standard error of its estimate. "
        f"“BatchNorm as copied”: with the statistics that Eq. 1 leaves. Loss: {losses}. {study.watermark()}"
    )


def plot(study) -> Figure:
    """The numbers beside Fig. 4: the basin by rise of the loss, sharpness by radius, Hessian and weight norm over replicates.

    The eigenvalue is the largest in magnitude; the trace of a single replicate has its standard error. Raises InputError
    where no task has been measured.
    """
    rows = measurements(study.results())
    tasks = look.measured(rows, study.about_tasks(), "the loss landscape")
    states = [state for state in STATES if state in set(rows["state"])]
    size, ratios = (look.WIDTH, 1.0 + 1.7 * len(tasks)), [2.2, 2.0] + [0.9] * len(BARS)
    fig, axes = look.subplots(len(tasks), len(ratios), size=size, width_ratios=ratios)
    for line, task in zip(axes, tasks, strict=True):
        here = select(rows, task=task)
        basins = select(here, metric="basin_area").assign(value=lambda table: 100 * table["value"])
        order = sorted(basins["average"].unique(), key=float)
        line[1].set(xscale="log", yscale="log")  # what is 0 or not finite has no place there
        for aside, state in zip(0.26 * (np.arange(len(states)) - (len(states) - 1) / 2), states, strict=True):
            area, sharp = select(basins, state=state), select(here, metric="sharpness", state=state)
            look.means(line[0], area, area["average"].map(order.index) + aside, ls="", **_look(state))
            sharp = sharp[np.isfinite(sharp["value"]) & (sharp["value"] > 0)]
            look.means(line[1], sharp, sharp["average"], lw=1, **_look(state))
        line[0].set(ylabel=f"{task}\nshare of the plane (%)", ylim=(0, 1.1 * max(line[0].get_ylim()[1], 1e-3)))
        line[0].set_xticks(range(len(order)), [f"+{level}" for level in order])
        for ax, metric in zip(line[2:], BARS, strict=True):
            _bars(ax, here, states, metric)
    titles = ("basin around the centre", "sharpness: largest rise found", *BARS.values())
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=7, loc="center" if "\n" in title else "left")
    axes[-1, 0].set_xlabel("reached by a rise of the loss of at most")
    axes[-1, 1].set_xlabel("radius, as a share of the norm")
    said = look.replicates(rows)
    handles = {state: Line2D([], [], ls="", **_look(state)) for state in states}
    look.legend(fig, handles, said + ("; bar of the trace: its standard error" if said == "one replicate" else ""))
    return fig


def _look(state: str) -> dict:
    """Marker and colour of the setting, hollow where BatchNorm is as copied."""
    color, marker = look.COLOUR[STATES[state][0]], look.MARKER[STATES[state][0]]
    return {"color": color, "marker": marker, "mec": color, "mfc": "white" if state == COPIED else color, "ms": 4.5}


def _bars(ax, rows: pd.DataFrame, states: list[str], metric: str) -> None:
    """A bar for each state with its value written on it, and its std over replicates, or the standard error of one."""
    for place, state in enumerate(states):
        here = select(rows, state=state)
        values, color = select(here, metric=metric)["value"], look.COLOUR[STATES[state][0]]
        if values.notna().any():
            error = values.std() if len(values) > 1 else select(here, metric=f"{metric}_error")["value"].mean()
            face = "white" if state == COPIED else color
            bars = ax.bar(place, values.mean(), yerr=None if np.isnan(error) else error, width=0.72, color=face, edgecolor=color,
                          error_kw={"ecolor": look.INK, "elinewidth": 0.8})  # fmt: skip
            ax.bar_label(bars, fmt=lambda value: f"{float(f'{value:.3g}'):g}", fontsize=6, padding=1.5)
    ax.axhline(0, color=look.INK, lw=0.6)
    ax.set(xticks=[], yticks=[], xlim=(-0.6, len(states) - 0.4))
    ax.margins(y=0.12)
    ax.spines[["left", "bottom"]].set_visible(False)


def path(losses: dict[str, np.ndarray], *, task: str) -> Figure:
    """The loss on the straight line from Baseline III (0) to RoS-KD (1); `losses` holds [steps] for each replicate."""
    fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 2.3))
    for place, ((label, values), colour) in enumerate(zip(losses.items(), look.colours(len(losses)), strict=True)):
        x = np.linspace(0, 1, len(values))
        ax.plot(x, values, color=colour, ls=("-", "--", ":", "-.")[place % 4], label=label)
        for end, setting in zip((0, -1), COMPARED, strict=True):
            ax.plot(x[end], values[end], look.MARKER[setting], color=colour, ms=4, mew=0)
    ax.set(title=f"{task}: weights and BatchNorm statistics", xlabel="share of the way", ylabel=LOSS)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\nBaseline III", "0.25", "0.5", "0.75", "1\nRoS-KD"])
    ax.legend()
    return fig


CONTOURS = Item(
    "fig4", "Fig. 4, contours", NOTEBOOK, NEEDS,
    lambda study, task: contours(surfaces(study, task), clamp=study.parameters.landscape.clamp, task=task),
    lambda study, made: "Loss around both students, same directions and images; above clamped at "
    f"{study.parameters.landscape.clamp:g}, below as it is.", each=True,
)  # fmt: skip
SURFACES = Item(
    "fig4_surface", "Fig. 4, surfaces", NOTEBOOK, NEEDS,
    lambda study, task: solids(surfaces(study, task), clamp=study.parameters.landscape.clamp, task=task),
    "The same loss as a surface over the plane of the two directions.", each=True,
)  # fmt: skip
BASINS = Item(
    "fig4_basins", "Fig. 4, level lines", NOTEBOOK, NEEDS,
    lambda study: basins({task: surfaces(study, task) for task in study.parameters.tasks}, study.parameters.landscape.levels),
    "Where the loss has risen by so much over that of the trained student, both on the same plane: the wider line is the flatter "
    "basin; first replicate, first pair of directions.",
)  # fmt: skip
TABLE = Item("landscape", "Numbers beside Fig. 4", NOTEBOOK, NEEDS, table, caption, "table")
PLOT = Item(
    "landscape", "Numbers of the landscape", NOTEBOOK, NEEDS, plot,
    "Basin area at fixed rises of the loss, and what stands beside it.",
)  # fmt: skip
PATH = Item(
    "path", "From Baseline III to RoS-KD", NOTEBOOK, NEEDS,
    lambda study, task: path(paths(study, task), task=task),
    "Loss on the straight line between the two students' weights.", each=True,
)  # fmt: skip
