"""The method to play with (Section III): subsets, images and labels, soft targets and loss, the average, training curves."""

import inspect
from collections.abc import Callable
from itertools import cycle, islice

import torch
from IPython.display import Code, display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rosutils import losses, params
from rosutils.explore.pictures import bars, picture, title
from rosutils.explore.widgets import SHOWN, lost, play
from rosutils.paper import fig1, inputs, look
from rosutils.results import select
from rosutils.settings import PRINTED_AVERAGE
from rosutils.study.experiment import settings_of
from rosutils.subsets import SCHEMES, overlap_matrix
from rosutils.weights import exponential_weights


A_PAGE = 16  # images


def source(*functions: Callable) -> None:
    """Show what functions do, to the letter."""
    display(Code("\n\n".join(map(inspect.getsource, functions)), language="python"))


def subsets(study, task: str) -> None:
    """Section III-A: k, p and the scheme, and what they make of Fig. 1 and of the overlap matrix, on a task's training part."""
    own, names = study.for_task(task).parameters, study.parameters.teachers.architectures

    def draw(
        k: int = own.subsets.count, p: float = own.subsets.overlap, scheme: str = own.subsets.scheme
    ) -> list[Figure]:
        teachers = list(islice(cycle(names), k))
        sections = {"tasks": [task], "subsets": {"count": k, "overlap": p, "scheme": scheme}}
        sections |= {"teachers": {"architectures": teachers}, "distillation": {"single_teacher": teachers[0]}}
        there = type(study)(params.changed(own, sections), opened=study._opened)
        return [fig1.FIGURE.make(there), inputs.overlap_heatmap(overlap_matrix(there.subsets(task)).numpy(), teachers)]

    play(
        draw, "Fig. 1 and the subsets' overlap for k, p and scheme", k=(1, 8), p=(0.0, 1.0, 0.05), scheme=list(SCHEMES)
    )


def images(study, task: str) -> None:
    """The training images of a class, by the label they were given or by the clean one; what the noise changed is red."""
    data, train = study.task(task), study.task(task).split["train"]
    classes = list(data.class_names)

    @look.style()
    def draw(label: str = classes[0], by: str = "given", page: int = 1) -> Figure:
        labels, place = (data.labels if by == "given" else data.clean_labels)[train], classes.index(label)
        index = train[labels[:, place] > 0 if data.multilabel else labels == place]
        start = (page - 1) * A_PAGE % (len(index) or 1) // A_PAGE * A_PAGE  # past the last page the first comes again
        fig, axes = look.subplots(2, A_PAGE // 2, size=(look.WIDTH, 3.4 if data.multilabel else 2.5))
        for ax, number in zip(axes.flat, index[start : start + A_PAGE].tolist(), strict=False):
            picture(ax, data.images[number])
            title(ax.set_title, data, number, size=5.5)
        for ax in axes.flat:
            ax.axis("off")
        fig.suptitle(f"{task}: {len(index):,} training images, {by} label {label}; from number {start + 1:,}", size=8)
        return fig

    controls = {"label": classes, "by": ["given", "clean"], "page": (1, 1 + len(train) // A_PAGE)}
    play(draw, "training images of a class with their given and clean labels", **controls)


def mixture(study, task: str) -> None:
    """Section III-B, image by image: Eq. 3 of each teacher at τ, a draw of their weights, the mixture, RoS-KD's student, Eq. 4."""
    there = study.for_task(task)
    data, spec, section = there.task(task), there.student(task, "RoS-KD"), there.parameters.distillation
    if there.run(spec).released:
        return lost("RoS-KD's student")
    batch = next(iter(there.loader(spec, there.training_index(spec)[:SHOWN], augmented=True)))
    with torch.inference_mode():
        own = there.model(spec, "averaged")(batch.images).double().cpu()
    said, index, several = there.bank(spec)(batch).double().cpu(), batch.index, {"multilabel": data.multilabel}
    wrong = (data.labels[index] != data.clean_labels[index]).reshape(len(index), -1).any(1).nonzero()[:, 0]
    sets = {"all": torch.arange(len(index))} | ({"wrong labels": wrong} if len(wrong) else {})
    names = [look.architecture_name(there.name_of(teacher)) for teacher in spec.teachers]

    @look.style()
    def draw(
        images: str = "all", image: int = 1, τ: float = section.temperature, α: float = section.alpha,
        per: str = section.weights.per, pressed: int = 0,
    ) -> list[Figure]:  # fmt: skip
        number = int(sets[images][(image - 1) % len(sets[images])])
        how = {"normalize": section.weights.normalize, "generator": torch.Generator().manual_seed(spec.seed + pressed)}
        w = exponential_weights(len(said), n_examples=len(index) if per == "example" else None, **how).double()
        w = w if per == "iteration" else w[:, number]
        z, p, label = said[:, [number]], own[[number]], data.labels[index[[number]]]
        soft = α * τ**2 * w * losses.teacher_divergences(p, z, τ, **several)[:, 0]
        hard = (1 - α) * losses.task_loss(p, label, **several).item()
        q, p = losses.soft_targets(z[:, 0], τ, **several), losses.soft_targets(p[0], τ, **several)
        above, [axes] = look.subplots(1, len(q) + 1, size=(look.WIDTH, 0.12 * data.n_classes + 1.1))
        picture(axes[0], batch.images[number].cpu())
        title(above.suptitle, data, int(index[number]), width=120, size=8)
        for ax, name, weight, each, colour in zip(axes[1:], names, w.tolist(), q, look.colours(len(q)), strict=True):
            bars(ax, {"q": each}, data.class_names if ax is axes[1] else [""] * len(each), [colour])
            ax.set(title=f"{name}\nw = {weight:.2f}", xlim=(0, 1), xlabel="q")
        return [above, _mixture(w[:, None] * q, p, soft.tolist(), hard, names, data.class_names)]

    controls = {"images": list(sets), "image": (1, len(index)), "τ": (0.25, 8.0, 0.25), "α": (0.0, 1.0, 0.05)}
    controls |= {"per": ["iteration", "example"], "button": "draw again"}
    play(
        draw, "an image, its teachers' soft targets, their mixture under a draw, and the parts of the loss", **controls
    )


def _mixture(shares: Tensor, p: Tensor, soft: list[float], hard: float, names: list[str], class_names) -> Figure:
    """The teachers' shares w q [K, C] in a stack with the student's p [C]; and Eq. 4 of one image, part by part."""
    fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 0.12 * len(p) + 1.1))
    colours = look.colours(len(names))
    bars(left, dict(zip(names, shares, strict=True)), class_names, colours, stacked=True)
    left.plot(p, range(len(p)), "D", mfc="none", mec=look.INK, ms=4)
    left.set(title=r"mixture $\sum_m w_m q_m$ (◇: the student's p)", xlabel="probability at τ")
    left.set(xlim=(0, max(1.0, float(shares.sum(0).max()))))
    right.barh([*names, "given label"], [*soft, hard], color=[*colours, look.GREY])
    right.set(
        title=f"Eq. 4: teachers {sum(soft):.3f} + label {hard:.3f} = {sum(soft) + hard:.3f}", xlabel="part of the loss"
    )
    right.invert_yaxis()
    return fig


def averages(study, task: str) -> None:
    """Eq. 1 epoch by epoch: what is in the average, validation F1 with and without it, and what that is on the test part."""
    there, average = study.for_task(task), PRINTED_AVERAGE[study.task(task).multilabel]
    rows, start = (
        there.run(there.student(task, "RoS-KD")).table("history"),
        there.parameters.distillation.averaging_start,
    )
    scores = select(study.results(), task=task, variant="", attack="", metric="f1", class_="", average=average)
    without, with_it = (select(scores, setting=name)["value"].mean() for name in ("Baseline V", "RoS-KD"))
    lines = rows.set_index("epoch")[["validation_f1", "averaged_validation_f1"]]
    lines = lines.set_axis(["student M", "average M$_{smooth}$"], axis=1)

    @look.style()
    def draw(epoch: int = len(rows)) -> Figure:
        fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 2.2))
        counted = rows["epoch"].between(start + 1, epoch)
        left.bar(rows["epoch"], counted / max(counted.sum(), 1), color=look.RED)
        left.set(
            title=f"after epoch {epoch}: a mean of {counted.sum()} epochs", xlabel="epoch", ylabel="share", ylim=(0, 1)
        )
        lines.plot(ax=right, color=[look.BLUE, look.RED], alpha=0.25, legend=False)
        lines[:epoch].plot(ax=right, color=[look.BLUE, look.RED], marker="o", ms=3)
        right.legend(*(part[2:] for part in right.get_legend_handles_labels()))
        right.set_title(f"test F1 {with_it:.3f}; without the average {without:.3f}: {without - with_it:+.3f}")
        right.set_ylabel("validation F1")
        return _whole_epochs(fig)

    play(draw, "which epochs are averaged, and the F1 of student and average", epoch=(1, len(rows)))


def _whole_epochs(fig: Figure) -> Figure:
    for ax in fig.axes:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return fig


def curves(study, artefact: str, first: str = "") -> None:
    """A run's loss and F1, and whom a student follows, KL(q || p) of each teacher, by epoch; of an artefact's finished runs.

    The first whose name has `first` in it is shown first.
    """
    role = "teacher" if artefact == "teachers" else "student"
    found = [spec for spec in study.runs(artefact) if spec.role == role and study.run(spec)]
    specs = {f"{' and '.join(name for name, _ in settings_of(spec))}; {spec}": spec for spec in found}

    @look.style()
    def draw(run: str = next(name for name in specs if first in name)) -> Figure:
        teachers, rows = specs[run].teachers, study.run(specs[run]).table("history").set_index("epoch")
        fig, [axes] = look.subplots(1, 3 if teachers else 2, size=(look.WIDTH, 2.3))
        kinds = {"loss": {"loss": "training", "validation_loss": "validation"}}
        kinds["F1 on the validation part"] = {"validation_f1": "last weights", "averaged_validation_f1": "average"}
        names = [look.architecture_name(study.name_of(teacher)) for teacher in teachers]
        kinds["KL(q || p), nats: the lowest is followed"] = {f"divergence_{m}": name for m, name in enumerate(names, 1)}
        for ax, (heading, columns) in zip(axes, kinds.items(), strict=False):
            shown = rows[[column for column in columns if column in rows]].rename(columns=columns)
            colours = look.colours(len(names)) if ax is axes[-1] and teachers else [look.BLUE, look.RED]
            shown.plot(ax=ax, color=colours, marker="o", ms=3, title=heading, legend=not (teachers and ax is axes[-1]))
        if teachers:
            fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center")
        fig.suptitle(run, size=8)
        return _whole_epochs(fig)

    play(draw, "loss, F1 and divergence to each teacher, by epoch", run=list(specs))
