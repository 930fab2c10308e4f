"""Table II to look at: test images, what PGD adds to them, and what both models answer before and after."""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from rosutils import training
from rosutils.losses import soft_targets
from rosutils.paper import look
from rosutils.paper.items import Item
from rosutils.paper.table2 import NEEDS, NOTEBOOK, SIGNS
from rosutils.settings import SAME_TEACHERS
from rosutils.study.needs import probe_of
from rosutils.study.probes import attacked


ASKED, SHOWN = 32, 3  # test images that are attacked for the figure, and of these in it


class Attacked(NamedTuple):
    """What an attack did to a model: images [N, C, H, W] in [0, 1] before and after, its probabilities [N, classes] of both."""

    before: np.ndarray
    after: np.ndarray
    said: np.ndarray
    then: np.ndarray


def examples(study, task: str) -> dict[str, Attacked]:
    """PGD at the radius and in the norm of the curve, on the first test images of Table II's sample, first replicate.

    Models whose weights are gone, as in an archive, are left out.
    """
    there, found = study.for_task(task), {}
    section, several = there.parameters.attacks, there.task(task).multilabel
    for name in SAME_TEACHERS:
        spec = probe_of(there, "attack", task, name)
        if (run := there.run(spec.of)) is None or run.released:
            continue
        model = there.model(spec.of, spec.state)
        batches = list(there.loader(spec, there.sample(task, section.examples)[:ASKED]))
        both = batches, attacked(section, model, batches, "pgd", section.curve_norm, section.eps, seed=spec.seed)
        images = (torch.cat([batch.images for batch in each]).cpu().numpy() for each in both)
        logits = (training.predict(model, each)[0] for each in both)
        found[name] = Attacked(*images, *(soft_targets(z, 1.0, multilabel=several).numpy() for z in logits))
    return found


def plot(found: dict[str, Attacked], class_names, *, eps: float, title: str) -> Figure:
    """A row for each image: as it is, and for each model what was added (grey is nothing, black and white are minus and plus
    the radius) and what came of it, with the answer that changed most and its probability before and after.

    The images are those on which the answers of the two models change most.
    """
    moves = sum(np.abs(each.then - each.said).max(1) for each in found.values())
    chosen = np.argsort(-moves, kind="stable")[:SHOWN]
    size = (look.WIDTH, 0.6 + 1.25 * len(chosen))
    fig, axes = look.subplots(len(chosen), 1 + 2 * len(found), size=size)
    for line, number in zip(axes, chosen, strict=True):
        _show(line[0], next(iter(found.values())).before[number], "test image")
        for each, added, after in zip(found.values(), line[1::2], line[2::2], strict=True):
            _show(added, 0.5 + (each.after[number] - each.before[number]) / (2 * eps), "added")
            most = int(np.abs(each.then[number] - each.said[number]).argmax())
            words = f"{class_names[most]} {each.said[number, most]:.2f} → {each.then[number, most]:.2f}"
            _show(after, each.after[number], words)
    for name, ax in zip(found, axes[0, 1::2], strict=True):
        ax.set_title(f"{name}\nadded", fontsize=6.5)
    fig.suptitle(title, fontsize=8)
    return fig


def _show(ax, image: np.ndarray, words: str) -> None:
    look.picture(ax, np.clip(image, 0, 1))
    ax.set_title(words, fontsize=6)


def _of(study, task: str) -> Figure | None:
    section, found = study.for_task(task).parameters.attacks, examples(study, task)
    title = f"{task}: PGD in {SIGNS[section.curve_norm]}, radius {255 * section.eps:.4g}/255"
    return plot(found, study.task(task).class_names, eps=section.eps, title=title) if found else None


FIGURE = Item(
    "adversarial", "Adversarial examples", NOTEBOOK, NEEDS, _of,
    "Test images on which PGD changes the answers most: what it adds (grey: nothing; black, white: minus, plus the radius), and "
    "the probability that changed most, before and after.",
    each=True, pixels=True,
)  # fmt: skip
