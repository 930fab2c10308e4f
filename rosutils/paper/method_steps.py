"""The method step by step: soft targets (Eq. 3), random weights, the average (Eq. 1), and whom Baseline IV selects."""

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rosutils import losses
from rosutils.paper import look
from rosutils.paper.cells import many
from rosutils.paper.items import Item
from rosutils.paper.planted import planted_selection
from rosutils.study.needs import replicates
from rosutils.weights import exponential_weights


NOTEBOOK = "03_distillation"
# Teachers that were planted: colour, marker and dashes.
PLANTED = {"good": (look.BLUE, "o", ""), "random": (look.GREY, "s", (1, 2)), "misleading": (look.RED, "^", (4, 2))}
REWARDS, SEEDS = ("r1", "r2", "r3"), 3
STACKED, DRAWS = 40, 2000
AVERAGED = {
    "validation_f1": {"color": look.BLUE, "marker": "o", "label": "student M (Baseline V)"},
    "averaged_validation_f1": {"color": look.RED, "marker": "s", "label": "average M$_{smooth}$ (RoS-KD)"},
}


def soft_targets(logits, temperatures, class_names, *, multilabel: bool = False) -> Figure:
    """Eq. 3 of one example's logits [C] at several temperatures."""
    logits = torch.as_tensor(np.asarray(logits), dtype=torch.float64)
    size = (min(look.WIDTH, 1.2 + 1.5 * len(temperatures)), 0.7 + 0.18 * len(logits))
    fig, [axes] = look.subplots(1, len(temperatures), size=size, sharey=True, sharex=True)
    for ax, temperature in zip(axes, temperatures, strict=True):
        soft = losses.soft_targets(logits, temperature, multilabel=multilabel).numpy()
        ax.barh(list(class_names), soft, color=look.BLUE, height=0.7)
        ax.set(title=f"τ = {temperature:g}", xlim=(0, 1), xlabel="soft target q")
        ax.tick_params(axis="y", length=0)
    axes[0].invert_yaxis()
    return fig


def weight_draws(weights, architectures: list[str]) -> Figure:
    """The first draws of the teacher weights [T, K] as shares, and how large the largest share is (Section III-B)."""
    weights = np.asarray(weights, dtype=float)
    shares, k = weights / weights.sum(1, keepdims=True), weights.shape[1]
    fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 2.3), width_ratios=(3, 2))
    first, places = shares[:STACKED].T, np.arange(1, min(STACKED, len(shares)) + 1)
    for share, bottom, colour in zip(first, np.cumsum(first, axis=0) - first, look.colours(k), strict=True):
        left.bar(places, share, bottom=bottom, color=colour, width=0.9, lw=0)
    left.set(xlabel="draw", ylabel="share of the weight", title="one draw per bar")
    left.set(ylim=(0, 1), xlim=(0.4, places[-1] + 0.6))
    handles = [Patch(color=colour) for colour in look.colours(k)]
    fig.legend(handles, map(look.architecture_name, architectures), loc="outside upper left", ncols=min(k, 6))
    largest, expected = shares.max(1), sum(1 / i for i in range(1, k + 1)) / k
    right.hist(largest, bins=np.linspace(1 / k, 1, 31), color=look.PALE, edgecolor="white", lw=0.3)
    right.axvline(expected, ymax=0.76, color=look.RED, label=f"expected for Exp(1): $H_{{{k}}}/{k}$ = {expected:.3f}")
    said = f"mean of {len(shares):,} draws: {largest.mean():.3f}"
    right.axvline(largest.mean(), ymax=0.76, color=look.BLUE, ls="--", label=said)
    right.set(xlabel="largest share in a draw", ylabel="draws", title="does one teacher dominate?", xlim=(1 / k, 1))
    right.set_ylim(top=right.get_ylim()[1] * 1.3)
    right.legend(loc="upper right")
    return fig


def averaging(history: pd.DataFrame) -> Figure:
    """Eq. 1, a panel for each task: validation F1 of student and average, the mean over replicates and thin each of them.

    Columns task, replicate, epoch, validation_f1, averaged_validation_f1 (nan in the epochs that are not averaged).
    """
    tasks = list(dict.fromkeys(history["task"]))
    fig, [axes] = look.subplots(1, len(tasks), size=(look.WIDTH if len(tasks) > 1 else look.WIDTH / 2, 2.2))
    handles = {}
    for ax, task in zip(axes, tasks, strict=True):
        here = history[history["task"] == task]
        for column, how in AVERAGED.items():
            each = here.pivot(index="epoch", columns="replicate", values=column)
            if each.shape[1] > 1:
                ax.plot(each, color=how["color"], lw=0.5, alpha=0.6)
            [handles[how["label"]]] = ax.plot(each.mean(axis=1), ms=3, **how)
        started = here.loc[here["averaged_validation_f1"].notna(), "epoch"]
        if len(started):
            span = (started.min() - 0.5, here["epoch"].max() + 0.5)
            handles["epochs averaged"] = ax.axvspan(*span, color=look.PALE, alpha=0.35, lw=0, zorder=0)
        ax.set(title=task, xlabel="epoch", ylabel="validation F1")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    counts = sorted(set(history.groupby("task")["replicate"].nunique()))
    said = "one replicate" if counts == [1] else f"mean over {many(counts)}; thin: each"
    fig.legend(handles.values(), handles, loc="outside upper left", ncols=3, title=said, alignment="left")
    return fig


def reliability(found: dict[str, dict[str, tuple]], temperatures) -> Figure:
    """Reliability diagrams of the soft targets (Eq. 3, mixed with equal weights), a row for each task and a panel for each part.

    `found` holds task -> part -> (logits [K, N, C], labels [N], or [N, C] where one may count for several). In each tenth of the
    confidence: its mean, and the share that is right (several labels: of findings that are there). ECE (Guo et al. 2017) is
    the mean distance of the two, weighted by how many there are.
    """
    parts = list(dict.fromkeys(part for of_task in found.values() for part in of_task))
    size = (look.WIDTH, 0.5 + 2.1 * len(found))
    fig, axes = look.subplots(len(found), len(parts), size=size, sharex=True, sharey=True)
    for line, (task, of_task) in zip(axes, found.items(), strict=True):
        for ax, (part, said) in zip(line, of_task.items(), strict=True):
            for temperature, colour, marker in zip(temperatures, look.OKABE_ITO, "os^", strict=False):
                sure, right = _confidence(*said, temperature)
                bins = pd.DataFrame({"sure": sure, "right": right}).groupby(np.minimum((10 * sure).astype(int), 9))
                means, share = bins.mean(), bins.size() / len(sure)
                error = ((means["sure"] - means["right"]).abs() * share).sum()
                label = f"τ = {temperature:g}: ECE {error:.2f}"
                ax.plot(means["sure"], means["right"], marker=marker, ms=3.5, mew=0, color=colour, label=label)
            ax.plot([0, 1], [0, 1], zorder=0, **look.CHANCE_LOOK)
            ax.set(title=f"{task}: {part}", xlabel="confidence", ylabel="share that is right")
            ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
            ax.label_outer()
            ax.legend(loc="lower right", fontsize=6)
    return fig


def _confidence(logits, labels, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """How sure the mixture is of its answer, and whether that is right; for several labels of each finding, and if it is there."""
    several = labels.ndim == 2
    mixed = losses.soft_targets(logits.double(), temperature, multilabel=several).mean(0).numpy()
    if several:
        return mixed.ravel(), labels.numpy().ravel()
    return mixed.max(1), mixed.argmax(1) == labels.numpy()


def selection(frame: pd.DataFrame) -> Figure:
    """Baseline IV on planted teachers, a panel for each reward: means over seeds, and thin each seed.

    Columns reward, seed, epoch, teacher (good, random, misleading), probability: of `planted_selection`.
    """
    rewards, seeds = list(dict.fromkeys(frame["reward"])), frame["seed"].nunique()
    colour, marker, dashes = ({teacher: how[part] for teacher, how in PLANTED.items()} for part in range(3))
    fig, [axes] = look.subplots(1, len(rewards), size=(min(look.WIDTH, 1.4 + 2 * len(rewards)), 2.4), sharey=True)
    for ax, reward in zip(axes, rewards, strict=True):
        rows = frame[frame["reward"] == reward]
        for threshold in (0.2, 0.8):
            ax.axhline(threshold, color=look.PALE, lw=0.8, zorder=0)
        where = {"x": "epoch", "y": "probability", "hue": "teacher", "style": "teacher", "palette": colour, "dashes": dashes,
                 "hue_order": list(PLANTED), "style_order": list(PLANTED), "errorbar": None, "ax": ax}  # fmt: skip
        if seeds > 1:
            sns.lineplot(rows, **where, units="seed", estimator=None, legend=False, lw=0.5, alpha=0.6)
        sns.lineplot(rows, **where, markers=marker, ms=3.5, mew=0, legend=ax is axes[0])
        ax.set(title=f"reward {reward}", xlabel="epoch", ylim=(0, 1), ylabel="probability of selection")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    told = f"mean of {seeds} seeds; thin: each" if seeds > 1 else "one seed"
    labels = [f"P({label})" for label in labels]
    fig.legend(handles, labels, loc="outside upper left", ncols=3, title=told, alignment="left")
    return fig


def _first(study):
    """The study of the first task, and its student of RoS-KD, trained or found."""
    there = study.for_task(study.parameters.tasks[0])
    student = there.student(study.parameters.tasks[0], "RoS-KD")
    study.ensure([student])
    return there, student


def _soft_targets(study) -> Figure:
    """Of the first teacher, for the first image of the student's first batch."""
    there, student = _first(study)
    task, index = there.task(student.task), there.training_index(student)
    batch = next(iter(there.loader(student, index, shuffled=True, augmented=True)))
    said, several = there.bank(student)(batch)[0, 0], {"multilabel": task.multilabel}
    fig = soft_targets(said, _temperatures(there), task.class_names, **several)
    if not task.multilabel:
        given, clean = (task.class_names[labels[batch.index[0]]] for labels in (task.labels, task.clean_labels))
        fig.suptitle(f"{student.task}: an image of {clean}, given as {given}", fontsize=8, color="black")
    return fig


def _temperatures(there) -> tuple[float, ...]:
    """The one that is used, and two beside it."""
    return tuple(dict.fromkeys((there.parameters.distillation.temperature, 1.0, 4.0)))


def _students(study) -> list[tuple]:
    """(study of the replicate, student of RoS-KD) of every task, as far as they are trained."""
    _first(study)
    found = [(there, there.student(task, "RoS-KD")) for there, task in replicates(study)]
    return [(there, spec) for there, spec in found if there.run(spec) is not None]


def _reliability(study) -> Figure | None:
    """Of the students' teachers: on the images they are asked about in the first epoch, and on the test part."""
    found: dict[str, dict[str, list]] = {}
    for there, spec in _students(study):
        task, (train, test) = there.task(spec.task), (there.task(spec.task).split[part] for part in ("train", "test"))
        asked = there.bank(spec).logits[:, 0]
        unseen = torch.stack([there.run(teacher).tensors("logits")["test"] for teacher in spec.teachers])
        pairs = (asked, task.labels[train]), (asked, task.clean_labels[train]), (unseen, task.labels[test])
        for part, pair in zip(("training, given labels", "training, clean labels", "test part"), pairs, strict=True):
            found.setdefault(spec.task, {}).setdefault(part, []).append(pair)
    for of_task in found.values():
        for part, pairs in of_task.items():
            logits, labels = zip(*pairs, strict=True)
            of_task[part] = torch.cat(logits, 1), torch.cat(labels)
    return reliability(found, _temperatures(study)) if found else None


def _weights(study) -> Figure:
    generator = torch.Generator().manual_seed(study.parameters.seeds.student)
    names = study.parameters.teachers.architectures
    draws = [exponential_weights(len(names), generator=generator) for _ in range(DRAWS)]
    return weight_draws(torch.stack(draws), names)


SOFT_TARGETS = Item(
    "soft_targets", "Eq. 3", NOTEBOOK, (), _soft_targets, lambda study, made: "One teacher's soft targets for one training image; "
    f"τ = {study.parameters.distillation.temperature:g} is used, the paper has 0.5.",
)  # fmt: skip
WEIGHTS = Item(
    "weights", "Random weights", NOTEBOOK, (), _weights,
    "The paper says that one teacher at a time matters; how often the draws agree.",
)  # fmt: skip
AVERAGING = Item(
    "averaging", "Eq. 1", NOTEBOOK, (),
    lambda study: averaging(pd.concat([there.history([spec]) for there, spec in _students(study)])),
    "Validation F1 of the student (Baseline V) and of the average of its epochs (RoS-KD); of one epoch alone the two differ, for "
    "the average's BatchNorm is estimated anew.",
)  # fmt: skip
RELIABILITY = Item(
    "reliability", "Reliability of the soft targets", NOTEBOOK, (), _reliability,
    lambda study, made: "How sure the teachers' mixture is (equal weights, Eq. 3) against how often it is right, on training "
    f"images with given and with clean labels and on test images; τ = {study.parameters.distillation.temperature:g} is used; all "
    "replicates; diagonal: as sure as it should be.",
)  # fmt: skip
SELECTION = Item(
    "selection", "Baseline IV, planted teachers", NOTEBOOK, (),
    lambda study: selection(pd.concat([planted_selection(reward=r, seed=n) for r in REWARDS for n in range(SEEDS)])),
    "Whom it selects where one teacher of three is good; lines: 0.2, 0.8.",
)  # fmt: skip
