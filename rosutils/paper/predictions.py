"""What the compared students answer on the test part: confusion matrices, and ROC curves class by class."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from scipy import special
from sklearn.metrics import auc, confusion_matrix, roc_curve

from rosutils.paper import look
from rosutils.paper.cells import many, spread
from rosutils.paper.inputs import heatmap
from rosutils.paper.items import Item
from rosutils.settings import COMPARED, setting
from rosutils.study.experiment import logits_of


RATES = np.linspace(0, 1, 101)  # false positive rates at which the curves of several replicates are averaged
COLUMNS = 4  # of panels, a class each


def answers(study, task: str) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Logits [N, C] and labels on the test part, a pair for each replicate of the settings compared."""
    found: dict[str, list] = {}
    for name, there in product(COMPARED, study.for_task(task).replicates):
        spec, data = there.student(task, name), there.task(task)
        if there.run(spec) is not None:
            logits, labels = logits_of(there, spec, setting(name).state)["test"], data.labels[data.split["test"]]
            found.setdefault(name, []).append((logits.numpy(), labels.numpy()))
    return found


def confusion(found: dict, class_names, task: str) -> Figure:
    """P(answer | label) [C, C] of each setting, the test images of all replicates together; the number of them by the label."""
    n, size = len(class_names), (look.WIDTH, 1.1 + 0.29 * len(class_names))
    fig, [axes] = look.subplots(1, len(found), size=size, sharey=True)
    for ax, (name, pairs) in zip(axes, found.items(), strict=True):
        counts = sum(confusion_matrix(labels, logits.argmax(1), labels=range(n)) for logits, labels in pairs)
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        heatmap(share, ax, "P(answer | label)", columns=class_names, rows=class_names, bar=ax is axes[-1])
        ax.set_yticks(ax.get_yticks(), [f"{c} ({k})" for c, k in zip(class_names, counts.sum(1), strict=True)])
        ax.set(title=f"{task}, {name}: {np.trace(counts) / counts.sum():.0%} right", xlabel="answer")
    axes[0].set_ylabel("label of the test image (images)")
    return fig


def roc(found: dict, class_names, task: str) -> Figure:
    """ROC curves, a panel for each class (one against the rest where an image has one), the mean over the replicates that
    have both kinds of label (vertical averaging, Fawcett 2006); beside it their mean AUROC."""
    rows = -(-len(class_names) // COLUMNS)
    fig, axes = look.subplots(rows, COLUMNS, size=(look.WIDTH, 0.6 + 1.6 * rows), sharex=True, sharey=True)
    for place, (ax, name) in enumerate(zip(axes.flat, class_names, strict=False)):
        ax.plot([0, 1], [0, 1], zorder=0, **look.CHANCE_LOOK)
        for line, (row, pairs) in enumerate(found.items()):
            (curves, areas), colour = _of_class(pairs, place), look.COLOUR[row]
            if curves:
                ax.plot(np.r_[0, RATES], np.r_[0, np.mean(curves, axis=0)], color=colour, ls=look.LINES[row])
            std = np.std(areas, ddof=1) if len(areas) > 1 else np.nan
            said = spread(np.mean(areas), std) if areas else "no case"
            ax.text(0.97, 0.16 - 0.11 * line, said, color=colour, ha="right", size=6, transform=ax.transAxes)
        ax.set(title=name, xlim=(-0.02, 1), ylim=(0, 1.02))
    for ax in axes.flat[len(class_names) :]:
        ax.set_visible(False)
    fig.supylabel("true positive rate", fontsize=7.5)
    for ax in axes[-1]:
        ax.set_xlabel("false positive rate")
    handles = {name: look.handle(name, marker=False) for name in found}
    counts = sorted({len(pairs) for pairs in found.values()})
    look.legend(fig, handles, f"{task}: mean of {many(counts)}; AUROC in the panel")
    return fig


def _of_class(pairs: list, place: int) -> tuple[list[np.ndarray], list[float]]:
    """True positive rates at RATES, and AUROC, of one class in each replicate that has both kinds of label."""
    curves, areas = [], []
    for logits, labels in pairs:
        several = labels.ndim == 2
        scores = logits if several else special.softmax(logits, axis=1)
        true = labels[:, place] > 0 if several else labels == place
        if true.any() and not true.all():
            false, hits, _ = roc_curve(true, scores[:, place], drop_intermediate=False)
            curves.append(np.interp(RATES, false, hits))
            areas.append(auc(false, hits))
    return curves, areas


def _drawn(draw: Callable, study, task: str) -> Figure | None:
    """What is drawn of a task's answers; None without a student."""
    found = answers(study, task)
    return draw(found, study.task(task).class_names, task) if found else None


CONFUSION = Item(
    "confusion", "Confusion matrices", "04_tables", ("table1",),
    lambda study, task: None if study.task(task).multilabel else _drawn(confusion, study, task),
    "What Baseline III and RoS-KD answer to the test images of each class, all replicates together; rows sum to 1.", each=True,
)  # fmt: skip
ROC = Item(
    "roc", "ROC curves", "04_tables", ("table1",), partial(_drawn, roc),
    "Test part, class by class, mean true positive rate over replicates at each false positive rate; diagonal: chance.", each=True,
)  # fmt: skip
