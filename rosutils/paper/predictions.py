"""What the compared students answer on the test part: confusion matrices, and ROC curves class by class."""

import numpy as np
from matplotlib.figure import Figure
from scipy import special
from sklearn.metrics import confusion_matrix, roc_curve

from rosutils.metrics import auroc_per_class
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
    found = {}
    for name in COMPARED:
        specs = [(there, there.student(task, name)) for there in study.for_task(task).replicates]
        done = [(there, spec) for there, spec in specs if there.run(spec) is not None]
        found[name] = [
            (logits_of(there, spec, setting(name).state)["test"].numpy(), data.labels[data.split["test"]].numpy())
            for there, spec in done for data in [there.task(task)]
        ]  # fmt: skip
    return {name: pairs for name, pairs in found.items() if pairs}


@look.style()
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


@look.style()
def roc(found: dict, class_names, task: str) -> Figure:
    """ROC curves, a panel for each class (one against the rest where an image has one), the mean over the replicates that
    have both kinds of label (vertical averaging, Fawcett 2006); beside it their mean AUROC."""
    rows = -(-len(class_names) // COLUMNS)
    fig, axes = look.subplots(rows, COLUMNS, size=(look.WIDTH, 0.6 + 1.6 * rows), sharex=True, sharey=True)
    for place, ax in enumerate(axes.flat):
        ax.set_visible(place < len(class_names))
        ax.plot([0, 1], [0, 1], zorder=0, **look.CHANCE_LOOK)
        for line, (name, pairs) in enumerate(found.items()):
            curves, areas = _of_class(pairs, place) if place < len(class_names) else ([], [])
            how = {"color": look.COLOUR[name], "ls": (0, look.DASHES[name]) if look.DASHES[name] else "-"}
            if curves:
                ax.plot(np.r_[0, RATES], np.r_[0, np.mean(curves, axis=0)], **how)
            std = np.std(areas, ddof=1) if len(areas) > 1 else np.nan
            said = spread(np.mean(areas), std) if areas else "no case" if place < len(class_names) else ""
            ax.text(0.97, 0.16 - 0.11 * line, said, color=how["color"], ha="right", size=6, transform=ax.transAxes)
        ax.set(title=class_names[place] if place < len(class_names) else "", xlim=(-0.02, 1), ylim=(0, 1.02))
    fig.supylabel("true positive rate", fontsize=7.5)
    for ax in axes[-1]:
        ax.set_xlabel("false positive rate")
    handles = {name: look.handle(name) for name in found}
    for handle in handles.values():
        handle.set_marker("")
    counts = sorted({len(pairs) for pairs in found.values()})
    look.legend(fig, handles, f"{task}: mean of {many(counts)}; AUROC in the panel", chance=False)
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
            areas.append(float(auroc_per_class(logits, labels)[place]))
    return curves, areas


def _of_each(name: str, draw, *, several: bool):
    """What makes a figure of each task whose students are there; with `several` false, of those with one label an image."""

    def make(study) -> dict[str, Figure]:
        found = {}
        for task, about in study.about_tasks().items():
            if (several or not about["multilabel"]) and (pairs := answers(study, task)):
                found[f"{name}_{task}"] = draw(pairs, about["class_names"], task)
        return found

    return make


CONFUSION = Item(
    "confusion", "Confusion matrices", "04_tables", ("table1",), _of_each("confusion", confusion, several=False),
    "What Baseline III and RoS-KD answer to the test images of each class, all replicates together; rows sum to 1.",
)  # fmt: skip
ROC = Item(
    "roc", "ROC curves", "04_tables", ("table1",), _of_each("roc", roc, several=True),
    "Test part, class by class, mean true positive rate over replicates at each false positive rate; diagonal: chance.",
)  # fmt: skip
