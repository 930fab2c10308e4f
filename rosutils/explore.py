"""Playing with what a study has stored: each function shows a widget in JupyterLab, and a still picture anywhere else.

Nothing here trains or writes: what a slider moves is drawn anew from banks, logits, histories and surfaces that are there.
"""

import html
import inspect
import os
import textwrap
from collections.abc import Callable
from functools import cache, partial, wraps
from importlib.util import find_spec
from itertools import cycle, islice
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
from IPython.core.pylabtools import retina_figure
from IPython.display import Code, display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rosutils import InputError, attacks, losses, params
from rosutils.data import Task
from rosutils.paper import fig1, fig4, inputs, look
from rosutils.results import select
from rosutils.settings import COMPARED, NOISE_SETTINGS, PRINTED_AVERAGE, setting
from rosutils.study.experiment import bank_of, settings_of
from rosutils.study.needs import probe_of
from rosutils.study.variants import LABEL_NOISE
from rosutils.subsets import SCHEMES, overlap_matrix
from rosutils.weights import exponential_weights


SHOWN, A_PAGE = 60, 16  # images to choose from, and on a page
# A figure in base64, at twice the pixels, and how wide and high it is to be shown.
_png = partial(retina_figure, base64=True, bbox_inches=None)


class Playing(NamedTuple):
    """A widget, and the picture in its place where a page is shown without a kernel: a saved notebook, nbconvert."""

    box: Any
    still: str  # png, base64

    def _repr_mimebundle_(self, **how) -> dict:
        return self.box._repr_mimebundle_(**how) | {"image/png": self.still}


def live() -> bool:
    """Whether somebody sits at this kernel, as Jupyter's server tells those that it starts for people, and there are widgets."""
    return "JPY_SESSION_NAME" in os.environ and all(map(find_spec, ("ipywidgets", "ipympl")))


def play(draw: Callable[..., Figure | list[Figure]], says: str, **controls) -> None:
    """Show `draw()` with its defaults and, where somebody is there to play, controls under which it is drawn anew.

    A control is (lowest, highest, step) for a slider or a list for a menu. `says` is what one sees, for those who cannot.
    """
    draw = look.style()(draw)
    if not live():
        return display(*np.atleast_1d(draw()))
    import ipywidgets  # optional: without it the pictures are still

    picture = ipywidgets.HTML()

    @wraps(draw)  # whose defaults the controls begin with
    def show(**values) -> None:
        picture.value = _page(draw, values, says)

    made = ipywidgets.interactive(show, **controls)
    *sliders, errors = made.children  # a traceback would stand in the last
    for each in sliders:
        each.style.description_width = "initial"
        if hasattr(each, "options"):
            each.layout.width = "max-content"  # names of runs are long
        if hasattr(each, "continuous_update"):  # or a slider asks for more pictures than can be drawn meanwhile
            each.continuous_update = False
    made.update()
    row = ipywidgets.HBox(sliders, layout={"flex_flow": "row wrap"})
    display(Playing(ipywidgets.VBox([row, picture, errors]), _png(np.atleast_1d(draw())[0])[0]))


def _page(draw: Callable, values: dict, says: str) -> str:
    """The pictures as HTML, as sharp as the screen; or what is wrong with the values."""
    try:
        found = map(_png, np.atleast_1d(draw(**values)))
    except InputError as error:
        return f"<p>{html.escape(str(error))}</p>"
    how = f'alt="{html.escape(says, quote=True)}" style="max-width: 100%; height: auto"'
    return "".join(f'<img {how} width="{size["width"]}" src="data:image/png;base64,{png}">' for png, size in found)


def lost(whose: str) -> None:
    """Say that a widget has no network to ask."""
    print(f"no weights of {whose} are in the store (they were released, or came without): nothing to play with here")


def title(write: Callable, data: Task, number: int, *, width: int = 16, **how) -> None:
    """What an image was given and, in red, what it is in truth where that is something else."""
    given, clean = (words(data, labels[number]) for labels in (data.labels, data.clean_labels))
    lines = textwrap.wrap(given, width) + (textwrap.wrap(f"in truth {clean}", width) if given != clean else [])
    write("\n".join(lines), color=look.INK if given == clean else look.RED, **how)


def words(data: Task, label: Tensor) -> str:
    """The class of a label, or the findings of several."""
    if not data.multilabel:
        return data.class_names[int(label)]
    return ", ".join(data.class_names[i] for i in label.nonzero()[:, 0].tolist()) or "no finding"


def bars(ax, values: dict, index, colours: list[str], **how) -> None:
    """Bars side by side for each name of `values`, or stacked, from the top."""
    pd.DataFrame(values, index=list(index)).plot.barh(ax=ax, color=colours, width=0.8, lw=0, **{"legend": False} | how)
    ax.invert_yaxis()


def source(*functions: Callable) -> None:
    """Show what functions do, to the letter."""
    display(Code("\n\n".join(map(inspect.getsource, functions)), language="python"))


def subsets(study, task: str) -> None:
    """Section III-A: k, p and the scheme, and what they make of Fig. 1 and of the overlap matrix, on a task's training part."""
    own, names = study.for_task(task).parameters, study.parameters.teachers.architectures
    here = own.subsets

    def draw(k: int = here.count, p: float = here.overlap, scheme: str = here.scheme) -> list[Figure]:
        teachers = list(islice(cycle(names), k))
        sections = {"tasks": [task], "subsets": {"count": k, "overlap": p, "scheme": scheme}}
        sections |= {"teachers": {"architectures": teachers}, "distillation": {"single_teacher": teachers[0]}}
        there = type(study)(params.changed(own, sections), opened=study.opened)
        return [fig1.FIGURE.make(there), inputs.overlap_heatmap(overlap_matrix(there.subsets(task)).numpy(), teachers)]

    controls = {"k": (1, 8), "p": (0.0, 1.0, 0.05), "scheme": list(SCHEMES)}
    play(draw, "Fig. 1 and the subsets' overlap for k, p and scheme", **controls)


def images(study, task: str) -> None:
    """The training images of a class, by the label they were given or by the clean one; what the noise changed is red."""
    data, train = study.task(task), study.task(task).split["train"]
    classes = list(data.class_names)

    def draw(label: str = classes[0], by: str = "given", page: int = 1) -> Figure:
        labels, place = (data.labels if by == "given" else data.clean_labels)[train], classes.index(label)
        index = train[labels[:, place] > 0 if data.multilabel else labels == place]
        start = (page - 1) * A_PAGE % (len(index) or 1) // A_PAGE * A_PAGE  # past the last page the first comes again
        fig, axes = look.subplots(2, A_PAGE // 2, size=(look.WIDTH, 3.4 if data.multilabel else 2.5))
        for ax, number in zip(axes.flat, index[start : start + A_PAGE].tolist(), strict=False):
            look.picture(ax, data.images[number])
            title(ax.set_title, data, number, size=5.5)
        for ax in axes.flat:
            ax.set_axis_off()
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

    def draw(
        images: str = "all", image: int = 1, τ: float = section.temperature, α: float = section.alpha,
        per: str = section.weights.per, redraw: int = 0,
    ) -> list[Figure]:  # fmt: skip
        number = int(sets[images][(image - 1) % len(sets[images])])
        how = {"normalize": section.weights.normalize, "generator": torch.Generator().manual_seed(spec.seed + redraw)}
        w = exponential_weights(len(said), n_examples=len(index) if per == "example" else None, **how).double()
        w = w if per == "iteration" else w[:, number]
        z, p, label = said[:, [number]], own[[number]], data.labels[index[[number]]]
        soft = α * τ**2 * w * losses.teacher_divergences(p, z, τ, **several)[:, 0]
        hard = (1 - α) * losses.task_loss(p, label, **several).item()
        q, p = losses.soft_targets(z[:, 0], τ, **several), losses.soft_targets(p[0], τ, **several)
        above, [axes] = look.subplots(1, len(q) + 1, size=(look.WIDTH, 0.12 * data.n_classes + 1.1))
        look.picture(axes[0], batch.images[number].cpu())
        title(above.suptitle, data, int(index[number]), width=120, size=8)
        for ax, name, weight, each, colour in zip(axes[1:], names, w.tolist(), q, look.colours(len(q)), strict=True):
            bars(ax, {"q": each}, data.class_names if ax is axes[1] else [""] * len(each), [colour])
            ax.set(title=f"{name}\nw = {weight:.2f}", xlim=(0, 1), xlabel="q")
        return [above, _mixture(w[:, None] * q, p, soft.tolist(), hard, names, data.class_names)]

    controls = {"images": list(sets), "image": (1, len(index)), "τ": (0.25, 8.0, 0.25), "α": (0.0, 1.0, 0.05)}
    controls |= {"per": ["iteration", "example"], "redraw": (0, 20)}
    says = "an image, its teachers' soft targets, their mixture under a draw, and the parts of the loss"
    play(draw, says, **controls)


def _mixture(shares: Tensor, p: Tensor, soft: list[float], hard: float, names: list[str], class_names) -> Figure:
    """The teachers' shares w q [K, C] in a stack with the student's p [C]; and Eq. 4 of one image, part by part."""
    fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 0.12 * len(p) + 1.1))
    colours = look.colours(len(names))
    bars(left, dict(zip(names, shares, strict=True)), class_names, colours, stacked=True)
    left.plot(p, range(len(p)), "D", mfc="none", mec=look.INK, ms=4)
    left.set(title=r"mixture $\sum_m w_m q_m$ (◇: the student's p)", xlabel="probability at τ")
    left.set(xlim=(0, max(1.0, float(shares.sum(0).max()))))
    right.barh([*names, "given label"], [*soft, hard], color=[*colours, look.GREY])
    said = f"Eq. 4: teachers {sum(soft):.3f} + label {hard:.3f} = {sum(soft) + hard:.3f}"
    right.set(title=said, xlabel="part of the loss")
    right.invert_yaxis()
    return fig


def averages(study, task: str) -> None:
    """Eq. 1 epoch by epoch: what is in the average, validation F1 with and without it, and what that is on the test part."""
    there, average = study.for_task(task), PRINTED_AVERAGE[study.task(task).multilabel]
    rows = there.run(there.student(task, "RoS-KD")).table("history")
    start = there.parameters.distillation.averaging_start
    scores = select(study.results(), task=task, variant="", attack="", metric="f1", class_="", average=average)
    without, with_it = (select(scores, setting=name)["value"].mean() for name in ("Baseline V", "RoS-KD"))
    lines = rows.set_index("epoch")[["validation_f1", "averaged_validation_f1"]]
    lines = lines.set_axis(["student M", "average M$_{smooth}$"], axis=1)

    def draw(epoch: int = len(rows)) -> Figure:
        fig, [[left, right]] = look.subplots(1, 2, size=(look.WIDTH, 2.2))
        counted = rows["epoch"].between(start + 1, epoch)
        left.bar(rows["epoch"], counted / max(counted.sum(), 1), color=look.RED)
        left.set(title=f"after epoch {epoch}: a mean of {counted.sum()} epochs", xlabel="epoch")
        left.set(ylabel="share", ylim=(0, 1))
        lines.plot(ax=right, color=[look.BLUE, look.RED], alpha=0.25, legend=False)
        lines[:epoch].plot(ax=right, color=[look.BLUE, look.RED], marker="o", ms=3)
        right.legend(*(part[2:] for part in right.get_legend_handles_labels()))
        right.set_title(f"test F1 {with_it:.3f}; without the average {without:.3f}: {without - with_it:+.3f}")
        right.set_ylabel("validation F1")
        for ax in (left, right):
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return fig

    play(draw, "which epochs are averaged, and the F1 of student and average", epoch=(1, len(rows)))


def curves(study, artefact: str, first: str = "") -> None:
    """A run's loss and F1, and whom a student follows, KL(q || p) of each teacher, by epoch; of an artefact's finished runs.

    The first whose name has `first` in it is shown first.
    """
    role = "teacher" if artefact == "teachers" else "student"
    found = [spec for spec in study.runs(artefact) if spec.role == role and study.run(spec)]
    specs = {f"{' and '.join(name for name, _ in settings_of(spec))}; {spec}": spec for spec in found}

    def draw(run: str = next(name for name in specs if first in name)) -> Figure:
        teachers, rows = specs[run].teachers, study.run(specs[run]).table("history").set_index("epoch")
        fig, [axes] = look.subplots(1, 3 if teachers else 2, size=(look.WIDTH, 2.3))
        kinds = {"loss": {"loss": "training", "validation_loss": "validation"}}
        kinds["F1 on the validation part"] = {"validation_f1": "last weights", "averaged_validation_f1": "average"}
        names = [look.architecture_name(study.name_of(teacher)) for teacher in teachers]
        kinds["KL(q || p), nats: the lowest is followed"] = {f"divergence_{m}": name for m, name in enumerate(names, 1)}
        for ax, (heading, columns) in zip(axes, kinds.items(), strict=False):
            followed = bool(teachers) and ax is axes[-1]
            colours = look.colours(len(names)) if followed else [look.BLUE, look.RED]
            shown = rows.filter(list(columns)).rename(columns=columns)
            shown.plot(ax=ax, color=colours, marker="o", ms=3, title=heading, legend=not followed)
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if teachers:
            fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center")
        fig.suptitle(run, size=8)
        return fig

    play(draw, "loss, F1 and divergence to each teacher, by epoch", run=list(specs))


def attack(study, task: str) -> None:
    """Section IV-E on one test image: PGD in linf at a radius ε, the perturbation amplified, and what the student then says."""
    there = study.for_task(task)
    data, section = there.task(task), there.parameters.attacks
    specs = {name: there.student(task, name) for name in COMPARED}
    if any(there.run(spec).released for spec in specs.values()):
        return lost(" and ".join(specs))
    index = there.sample(task, section.examples)[:SHOWN]
    model = cache(lambda row: there.model(specs[row], setting(row).state))

    def draw(student: str = "RoS-KD", image: int = 1, ε: float = round(255 * section.eps, 2)) -> Figure:
        batch = next(iter(there.loader(specs[student], index[[image - 1]])))
        how = {"eps": ε / 255, "step_size": section.step_factor * ε / 255 / section.steps, "steps": section.steps}
        how |= {"norm": "linf", "loss_fn": attacks.classification_loss, "random_start": False}
        hurt = attacks.pgd(model(student), batch.images, batch.labels, **how)
        with torch.inference_mode():
            logits = [model(student)(pixels)[0].cpu() for pixels in (batch.images, hurt)]
        before, after = (losses.soft_targets(z, 1.0, multilabel=data.multilabel) for z in logits)
        fig, [axes] = look.subplots(1, 4, size=(look.WIDTH, 0.12 * data.n_classes + 1.2), width_ratios=(1, 1, 1, 1.6))
        clean, change = batch.images[0].cpu(), (hurt - batch.images)[0].cpu()
        times = 0.5 / max(float(change.abs().max()), 1e-9)
        for ax, pixels in zip(axes, (clean, 0.5 + times * change, clean + change), strict=False):
            look.picture(ax, pixels)
        title(axes[0].set_title, data, int(batch.index[0]))
        axes[1].set_title(f"perturbation, × {times:.0f}" if change.any() else "no perturbation")
        axes[2].set_title("attacked")
        bars(axes[3], {"before": before, "after": after}, data.class_names, [look.BLUE, look.RED], legend=True)
        axes[3].set(xlim=(0, 1), xlabel=f"probability, ε = {ε:g}/255")
        return fig

    controls = {"student": list(specs), "image": (1, len(index)), "ε": (0.0, 8.0, 0.01)}
    play(draw, "a test image, its perturbation, and the probabilities before and after", **controls)


def contours(study, task: str) -> None:
    """Fig. 4's claim in one picture: where the loss stays within a rise of the centre's, both models laid over each other."""
    found = _planes(study, task)

    def draw(directions: int = min(found), rise: float = 1.0) -> Figure:
        fig, [[ax]] = look.subplots(size=(look.WIDTH / 2, 3.4))
        for name, grid, loss in ((plane["setting"], plane["grid"], plane["loss"]) for plane in found[directions]):
            higher = np.nan_to_num(loss - loss[(len(grid) // 2,) * 2], nan=1e9, posinf=1e9)
            how = {"colors": [look.COLOUR[name]], "linestyles": [look.LINES[name]]}
            ax.contourf(grid, grid, higher, levels=[-1e9, rise], colors=[look.COLOUR[name]], alpha=0.2)
            ax.contour(grid, grid, higher, levels=[rise], **how)
            said = f"{name}: {(higher <= rise).mean():.0%} of the points"
            ax.plot([], [], color=look.COLOUR[name], ls=look.LINES[name], label=said)
        ax.plot(0, 0, "+", color=look.INK, ms=7)
        ax.set(title=f"{task}: loss at most {rise:g} above the centre", aspect="equal", **fig4.AXES)
        fig.legend(loc="outside upper left")
        return fig

    play(draw, "where the loss of both models is low around their weights", directions=[*found], rise=(0.05, 5.0, 0.05))


def _planes(study, task: str) -> dict[int, list[dict]]:
    """Fig. 4's surfaces of a task by the seed of their directions."""
    found = fig4.surfaces(study, task)
    return {seed: [each for each in found if each["seed"] == seed] for seed in sorted({each["seed"] for each in found})}


def surface(study, task: str) -> None:
    """Fig. 4 as surfaces to turn with the mouse, both at once, for each pair of directions; or still."""
    found = _planes(study, task)

    @look.style()
    def draw(seed: int) -> Figure:
        fig = fig4.solids(found[seed], clamp=study.parameters.landscape.clamp, task=task)
        first, second = fig.axes[: len(COMPARED)]
        second.shareview(first)
        first.view_init(elev=8, azim=-60, share=True)  # from the side at first: there one sees how wide a basin is
        return fig

    if not live():
        return display(draw(min(found)))
    import ipywidgets

    backend = matplotlib.get_backend()
    from ipympl.backend_nbagg import Canvas, FigureManager

    matplotlib.use(backend)  # that import takes over every other figure

    def canvas(seed: int) -> Canvas:
        made = Canvas(draw(seed))
        FigureManager(made, 0)
        made.toolbar_visible = made.header_visible = made.footer_visible = made.resizable = False
        return made

    choice = ipywidgets.Dropdown(options=[*found], description="directions")
    box = ipywidgets.VBox([choice, canvas(min(found))])
    choice.observe(lambda change: setattr(box, "children", (choice, canvas(change["new"]))), "value")
    says = html.escape(f"{task}: drag a surface to turn both.")
    display(ipywidgets.HTML(f"<p>{says}</p>"), Playing(box, _png(draw(min(found)))[0]))


def wrong_labels(study, task: str) -> None:
    """The training labels that were made wrong, one by one: which students and teachers believe them, and which the clean one."""
    own = study.for_task(task)
    studies = {str(variant): there for variant, there in own.variants.items() if variant.kind in LABEL_NOISE}
    studies = {name: there for name, there in {**studies, "as everywhere": own}.items() if _asked_about(there, task)}
    if not studies:
        return print(f"{task}: no label is known to be wrong, or no teacher was asked about them")
    asked = cache(lambda name: _asked(studies[name], task))

    def draw(noise: str = next(iter(studies)), number: int = 1) -> Figure:
        data, wrong, probabilities = asked(noise)
        number = (number - 1) % len(wrong)
        place, *label = wrong[number].tolist()
        index, said = int(data.split["train"][place]), {}
        for name, labels in (("given label", data.labels), ("clean label", data.clean_labels)):
            said[name] = [float(p[(place, *label, int(labels[(index, *label)]))]) for p in probabilities.values()]
        size = (look.WIDTH, 0.2 * len(probabilities) + 1.0)
        fig, [[left, right]] = look.subplots(1, 2, size=size, width_ratios=(1, 3))
        look.picture(left, data.images[index])
        title(left.set_title, data, index, width=24)
        seen = {name for name, marks in _seen(studies[noise], task).items() if marks[place]}
        names = [f"{name}, has seen it" if name in seen else name for name in probabilities]
        bars(right, said, names, [look.RED, look.GREEN], legend=True)
        what = f": {data.class_names[label[0]]}" if label else ""
        right.set(title=f"{noise}, wrong label {1 + number} of {len(wrong)}{what}", xlim=(0, 1), xlabel="probability")
        return fig

    play(draw, "who believes a wrong label, and who the clean one", noise=list(studies), number=(1, 200))


def _asked_about(there, task: str) -> bool:
    """Whether labels of a task are known to be wrong, and RoS-KD's teachers were asked about them."""
    teachers = there.student(task, "RoS-KD").teachers
    return there.task(task).noise_rate > 0 and all(there.run(bank_of(teacher)) for teacher in teachers)


def _asked(there, task: str) -> tuple[Task, Tensor, dict[str, Tensor]]:
    """The task, its wrong labels (place in the training part; of several labels the class too), and how likely each value of
    the labels there is, by whom students and teachers are: [N, C], of several labels [N, C, 2]."""
    data, spec, train = there.task(task), there.student(task, "RoS-KD"), there.task(task).split["train"]
    runs = {row: there.run(probe_of(there, "agreement", task, row)) for row in NOISE_SETTINGS}
    said = {row: run.tensors("logits")["train"] for row, run in runs.items() if run}
    said |= dict(zip(_seen(there, task), there.bank(spec).logits.mean(1), strict=True))
    found = {name: losses.soft_targets(z.double(), 1.0, multilabel=data.multilabel) for name, z in said.items()}
    if data.multilabel:
        found = {name: torch.stack([1 - p, p], dim=-1) for name, p in found.items()}
    return data, (data.labels[train] != data.clean_labels[train]).nonzero(), found


def _seen(there, task: str) -> dict[str, Tensor]:
    """Which of the training part each of RoS-KD's teachers was trained on, bool [N] by its name."""
    teachers, train = there.student(task, "RoS-KD").teachers, there.task(task).split["train"]
    names = [f"teacher {m}, {look.architecture_name(there.name_of(teacher))}" for m, teacher in enumerate(teachers, 1)]
    return {name: torch.isin(train, there.training_index(of)) for name, of in zip(names, teachers, strict=True)}
