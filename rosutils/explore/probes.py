"""Trained students to play with: attacks (Section IV-E), loss surfaces (IV-F), and who believes a wrong label."""

from functools import cache

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rosutils import attacks, losses
from rosutils.data import Task
from rosutils.explore.pictures import bars, picture, title
from rosutils.explore.widgets import SHOWN, lost, play, turn
from rosutils.paper import fig4, look
from rosutils.settings import COMPARED, NOISE_SETTINGS, setting
from rosutils.study.experiment import bank_of
from rosutils.study.needs import probe_of
from rosutils.study.variants import LABEL_NOISE


def attack(study, task: str) -> None:
    """Section IV-E on one test image: PGD in linf at a radius ε, the perturbation amplified, and what the student then says."""
    there = study.for_task(task)
    data, section, specs = (
        there.task(task),
        there.parameters.attacks,
        {name: there.student(task, name) for name in COMPARED},
    )
    if any(there.run(spec).released for spec in specs.values()):
        return lost(" and ".join(specs))
    index, model = (
        there.sample(task, section.examples)[:SHOWN],
        cache(lambda row: there.model(specs[row], setting(row).state)),
    )

    @look.style()
    def draw(student: str = "RoS-KD", image: int = 1, ε: float = round(255 * section.eps, 2)) -> Figure:
        batch = next(iter(there.loader(specs[student], index[[image - 1]])))
        how = {"eps": ε / 255, "step_size": section.step_factor * ε / 255 / section.steps, "steps": section.steps}
        how |= {"norm": "linf", "loss_fn": attacks.classification_loss, "random_start": False}
        hurt = attacks.pgd(model(student), batch.images, batch.labels, **how)
        with torch.inference_mode():
            logits = {
                name: model(student)(pixels)[0].cpu() for name, pixels in (("before", batch.images), ("after", hurt))
            }
        said = {name: losses.soft_targets(z, 1.0, multilabel=data.multilabel) for name, z in logits.items()}
        fig, [axes] = look.subplots(1, 4, size=(look.WIDTH, 0.12 * data.n_classes + 1.2), width_ratios=(1, 1, 1, 1.6))
        clean, change = batch.images[0].cpu(), (hurt - batch.images)[0].cpu()
        times = 0.5 / max(float(change.abs().max()), 1e-9)
        for ax, pixels in zip(axes, (clean, 0.5 + times * change, clean + change), strict=False):
            picture(ax, pixels)
        title(axes[0].set_title, data, int(batch.index[0]))
        axes[1].set_title(f"perturbation, × {times:.0f}" if change.any() else "no perturbation")
        axes[2].set_title("attacked")
        bars(axes[3], said, data.class_names, [look.BLUE, look.RED], legend=True)
        axes[3].set(xlim=(0, 1), xlabel=f"probability, ε = {ε:g}/255")
        return fig

    controls = {"student": list(specs), "image": (1, len(index)), "ε": (0.0, 8.0, 0.01)}
    play(draw, "a test image, its perturbation, and the probabilities before and after", **controls)


def contours(study, task: str) -> None:
    """Fig. 4's claim in one picture: where the loss stays within a rise of the centre's, both models laid over each other."""
    found = fig4.surfaces(study, task)
    seeds = sorted({plane["seed"] for plane in found})

    @look.style()
    def draw(directions: int = seeds[0], rise: float = 1.0) -> Figure:
        fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 3.4))
        for name, grid, loss in ((p["setting"], p["grid"], p["loss"]) for p in found if p["seed"] == directions):
            higher = np.nan_to_num(loss - loss[(len(grid) // 2,) * 2], nan=1e9, posinf=1e9)
            how = {"colors": [look.COLOUR[name]], "linestyles": look.handle(name).get_linestyle()}
            ax.contourf(grid, grid, higher, levels=[-1e9, rise], colors=[look.COLOUR[name]], alpha=0.2)
            ax.contour(grid, grid, higher, levels=[rise], **how)
            said = f"{name}: {(higher <= rise).mean():.0%} of the points"
            ax.plot([], [], color=look.COLOUR[name], ls=how["linestyles"], label=said)
        ax.plot(0, 0, "+", color=look.INK, ms=7)
        ax.set(title=f"{task}: loss at most {rise:g} above the centre", aspect="equal")
        ax.set(xlabel=fig4.AXES["x"], ylabel=fig4.AXES["y"])
        fig.legend(loc="outside upper left")
        return fig

    play(draw, "where the loss of both models is low around their weights", directions=seeds, rise=(0.05, 5.0, 0.05))


def surface(study, task: str) -> None:
    """Fig. 4 as surfaces to turn with the mouse, both at once, for each pair of directions."""
    found, clamp = fig4.surfaces(study, task), study.parameters.landscape.clamp

    def draw(seed: int) -> Figure:
        fig = fig4.solids([plane for plane in found if plane["seed"] == seed], clamp=clamp, task=task)
        for ax in fig.axes[: len(COMPARED)]:  # from the side at first: there one sees how wide a basin is
            ax.view_init(elev=8, azim=-60)
        return fig

    turn(draw, f"{task}: drag a surface to turn both.", directions=sorted({plane["seed"] for plane in found}))


def wrong_labels(study, task: str) -> None:
    """The training labels that were made wrong, one by one: which students and teachers believe them, and which the clean one."""
    own = study.for_task(task)
    studies = {str(variant): there for variant, there in own.variants.items() if variant.kind in LABEL_NOISE}
    studies = {name: there for name, there in {**studies, "as everywhere": own}.items() if _asked_about(there, task)}
    if not studies:
        return print(f"{task}: no label is known to be wrong, or no teacher was asked about them")
    asked = cache(lambda name: _asked(studies[name], task))

    @look.style()
    def draw(noise: str = next(iter(studies)), number: int = 1) -> Figure:
        data, wrong, probabilities = asked(noise)
        place, *label = wrong[(number - 1) % len(wrong)].tolist()
        index, said = int(data.split["train"][place]), {}
        for name, labels in (("given label", data.labels), ("clean label", data.clean_labels)):
            value, of = (
                int(labels[index][label[0]] if label else labels[index]),
                [p[place] for p in probabilities.values()],
            )
            said[name] = [float(p[value] if not label else p[label[0]] if value else 1 - p[label[0]]) for p in of]
        fig, [[left, right]] = look.subplots(
            1, 2, size=(look.WIDTH, 0.2 * len(probabilities) + 1.0), width_ratios=(1, 3)
        )
        picture(left, data.images[index])
        title(left.set_title, data, index, width=24)
        seen = {name: seen[place] for name, seen in _seen(studies[noise], task).items()}
        names = [name + (", has seen it" if seen[name] else "") if name in seen else name for name in probabilities]
        bars(right, said, names, [look.RED, look.GREEN], legend=True)
        what = f": {data.class_names[label[0]]}" if label else ""
        right.set(
            title=f"{noise}, wrong label {1 + (number - 1) % len(wrong)} of {len(wrong)}{what}",
            xlim=(0, 1),
            xlabel="probability",
        )
        return fig

    play(draw, "who believes a wrong label, and who the clean one", noise=list(studies), number=(1, 200))


def _asked_about(there, task: str) -> bool:
    """Whether labels of a task are known to be wrong, and RoS-KD's teachers were asked about them."""
    teachers = there.student(task, "RoS-KD").teachers
    return there.task(task).noise_rate > 0 and all(there.run(bank_of(teacher)) for teacher in teachers)


def _asked(there, task: str) -> tuple[Task, Tensor, dict[str, Tensor]]:
    """The task, its wrong labels (place in the training part; of several labels the class too), and what students and teachers
    say of the training part, [N, C] by name."""
    data, spec, train = there.task(task), there.student(task, "RoS-KD"), there.task(task).split["train"]
    runs = {row: there.run(probe_of(there, "agreement", task, row)) for row in NOISE_SETTINGS}
    said = {row: run.tensors("logits")["train"] for row, run in runs.items() if run}
    said |= dict(zip(_seen(there, task), there.bank(spec).logits.mean(1), strict=True))
    probabilities = {name: losses.soft_targets(z.double(), 1.0, multilabel=data.multilabel) for name, z in said.items()}
    return data, (data.labels[train] != data.clean_labels[train]).nonzero(), probabilities


def _seen(there, task: str) -> dict[str, Tensor]:
    """Which of the training part each of RoS-KD's teachers was trained on, bool [N] by its name."""
    teachers, train = there.student(task, "RoS-KD").teachers, there.task(task).split["train"]
    names = [f"teacher {m}, {look.architecture_name(there.name_of(teacher))}" for m, teacher in enumerate(teachers, 1)]
    return {name: torch.isin(train, there.training_index(of)) for name, of in zip(names, teachers, strict=True)}
