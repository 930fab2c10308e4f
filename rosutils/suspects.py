"""Which labels look wrong: what teachers say of images that they were not trained on (beyond the paper).

RoS-KD's overlapping subsets (III-A) give it for free: a teacher judges what lies outside its own subset, and over replicates,
each with a split of its own, nearly every image is outside of some. Scores are the margins of confident learning (Northcutt
et al. 2021); cleanlab, where it is installed, ranks the same probabilities its own way, as a second opinion.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import one_hot

from rosutils import InputError, params
from rosutils.data import Task
from rosutils.data.splits import write_lists
from rosutils.losses import soft_targets
from rosutils.paper import look
from rosutils.store import write_whole
from rosutils.study import Study
from rosutils.study.experiment import RunSpec, bank_of


SHARES = (0.05, 0.1, 0.2)
TRUST = 0.2  # of a teacher that was trained on the image with the label in question, where no other can judge it


class Opinions(NamedTuple):
    """What J teachers say of the N images of a task; how much each counts for an image, [J, N], is 0 where it is no judge."""

    probabilities: Tensor  # their weighted mean [N, C]
    judges: Tensor  # weights [J, N]: 1 for an image outside of what the teacher was trained on
    likely: Tensor  # bool [J, N, C]: its likeliest class; for several labels per image those likelier than not
    names: list[str]  # [J]


def needed(study: Study, task: str) -> list[RunSpec]:
    """The runs whose opinions are asked: banks of the subset teachers of all replicates, each once."""
    pools = [(there, there.teachers(task, "subset")) for there in study.for_task(task).replicates]
    return list({there.key(teacher): bank_of(teacher) for there, pool in pools for teacher in pool}.values())


def opinions(study: Study, task: str) -> Opinions:
    """The opinions of the subset teachers of all replicates on the images that each was not trained on.

    Mean over the views of a bank, then over teachers, with one more judge who knows but the base rates, so that few judges
    are less sure than many. An image that every teacher has seen is judged by those of the first replicate, with TRUST. Where
    noise was injected each replicate has a draw of its own, so teachers of others did not see the very label. Raises
    InputError where a run is missing.
    """
    data, banks = study.task(task), needed(study, task)
    said = torch.zeros(len(banks), len(data.images), data.n_classes)
    judges, names = torch.zeros(said.shape[:2]), []
    for number, bank in enumerate(banks):
        where, p, seen = _said(study.at(bank), bank)
        said[number, where], judges[number, where] = p, 1.0
        judges[number, seen] = -1.0 if bank.replicate == 0 else 0.0
        names.append(f"{study.name_of(bank.teachers[0])} r{bank.replicate + 1}")
    likely = said >= 0.5 if data.multilabel else one_hot(said.argmax(2), data.n_classes).bool()
    nobody_else = ~(judges > 0).any(0)
    judges = torch.where(judges < 0, TRUST * nobody_else, judges)
    sums, total = (judges[..., None] * said).sum(0), judges.sum(0)[:, None]
    base_rates = (sums / total.clamp(min=1e-9))[total[:, 0] > 0].mean(0)
    return Opinions((sums + base_rates) / (total + 1), judges, likely, names)


def _said(there: Study, bank: RunSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Example numbers [M], a teacher's probabilities [M, C] for them, and the numbers of those that it was trained on."""
    [teacher], task = bank.teachers, there.task(bank.task)
    for spec in (teacher, bank):
        if there.run(spec) is None:
            raise InputError(f"run '{spec}' is missing; first: study.ensure(suspects.needed(study, task))")
    parts = {part: logits[None] for part, logits in there.run(teacher).tensors("logits").items()}
    parts |= there.run(bank).tensors("logits")
    p = [soft_targets(each, 1.0, multilabel=task.multilabel).mean(0) for each in parts.values()]
    return torch.cat([task.split[part] for part in parts]), torch.cat(p), there.training_index(teacher)


def suspects(study: Study, task: str) -> pd.DataFrame:
    """The labels of a task, the most suspicious first; of the training part alone where noise was injected there.

    A row is an image (for several labels per image: a label of an image): image, part, given and likely label, score, judges
    (how many had not seen it; 0: only some who had), says (which of them are for the likely label, r2: in the second
    replicate), cleanlab (its label quality, low is bad; absent where it is not installed), and wrong, the truth, where noise
    was injected. The score, from -1 to 1, is the likeliest other class's probability minus the given one's; of several
    labels, how much less probable the given entry is than among the images that were given the same.
    """
    data, found = study.task(task), opinions(study, task)
    parts = {part: data.split[part] for part in (["train"] if data.noise_rate else data.split)}
    index = torch.cat(list(parts.values()))
    table = (_entries if data.multilabel else _classes)(data, index, found)
    rows = table.pop("row")
    names, judges = np.array(data.names, dtype=object), (found.judges == 1).sum(0)
    table.insert(0, "image", names[index][rows])
    table.insert(1, "part", np.repeat(list(parts), list(map(len, parts.values())))[rows])
    table.insert(len(table.columns) - 1, "judges", judges[index].numpy()[rows])
    if not data.noise_rate:
        table = table.drop(columns="wrong")
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _classes(data: Task, index: Tensor, found: Opinions) -> pd.DataFrame:
    """For one label per image: a row for each of the examples `index`."""
    given, p = data.labels[index], found.probabilities[index]
    own = p.gather(1, given[:, None])[:, 0]
    score = p.scatter(1, given[:, None], -1.0).max(1).values - own
    likely, names = torch.where(score > 0, p.argmax(1), given), np.array(data.class_names, dtype=object)
    sides = found.likely[:, index].gather(2, likely.expand(len(found.names), -1)[..., None])[..., 0]
    return pd.DataFrame({
        "row": np.arange(len(index)), "given": names[given], "likely": names[likely], "score": score.numpy(),
        **_second_opinion(given.numpy(), p.numpy()), "says": _who(found, index, sides),
        "wrong": (given != data.clean_labels[index]).numpy(),
    })  # fmt: skip


def _entries(data: Task, index: Tensor, found: Opinions) -> pd.DataFrame:
    """For several labels per image: a row for each entry, label by label."""
    tables, words = [], np.array(["absent", "present"], dtype=object)
    for label, name in enumerate(data.class_names):
        given, p = data.labels[index, label] > 0, found.probabilities[index, label]
        agrees = torch.where(given, p, 1 - p)
        usual = torch.stack([agrees[given == side].mean() for side in (False, True)])  # nan where nobody was given it
        score = usual[given.long()] - agrees
        likely = given ^ (score > 0)
        tables.append(pd.DataFrame({
            "row": np.arange(len(index)), "label": name, "given": words[given.long()], "likely": words[likely.long()],
            "score": score.numpy(), **_second_opinion(given.long().numpy(), torch.stack([1 - p, p], 1).numpy()),
            "says": _who(found, index, found.likely[:, index, label] == likely),
            "wrong": (data.labels[index, label] != data.clean_labels[index, label]).numpy(),
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _who(found: Opinions, index: Tensor, sides: Tensor) -> list[str]:
    """The judges [J] of each image that are on the side of its likely label, [J, M]."""
    both = (sides & (found.judges[:, index] > 0)).T.numpy()
    return ["; ".join(name for name, says in zip(found.names, row, strict=True) if says) for row in both]


def _second_opinion(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """cleanlab's quality of each label, by its default (self-confidence); nothing where it is not installed."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return {}
    return {"cleanlab": get_label_quality_scores(labels, probabilities)}


def precision_and_recall(found: pd.DataFrame) -> pd.DataFrame:
    """Of the first labels of a list of suspects, by their share: how many are wrong, and what share of all wrong ones they are.

    Beside it the same of cleanlab's ranking, where it was asked. Raises InputError for a list without the truth.
    """
    if "wrong" not in found:
        raise InputError("which labels are wrong is known only of injected noise; this list has no column 'wrong'")
    ranked = {"": found} | ({"cleanlab ": found.sort_values("cleanlab", kind="stable")} if "cleanlab" in found else {})
    rows, wrong = [], max(1, found["wrong"].sum())
    for share in SHARES:
        count = max(1, round(share * len(found)))
        row = {"first": f"{share:.0%}", "labels": count, "by chance": found["wrong"].mean()}
        for name, each in ranked.items():
            hits = int(each["wrong"].iloc[:count].sum())
            row |= {f"{name}precision": hits / count, f"{name}recall": hits / wrong}
        rows.append(row)
    return pd.DataFrame(rows)


@look.style()
def montage(study: Study, task: str, found: pd.DataFrame, *, count: int = 24) -> Figure:
    """The pictures of the most suspicious labels, each with the label it was given and the likely one."""
    data, worst = study.task(task), found.head(count)
    place = {name: number for number, name in enumerate(data.names)}
    rows = -(-len(worst) // 8)
    fig, axes = look.subplots(rows, 8, size=(look.WIDTH, 0.2 + 1.25 * rows))
    for ax in axes.flat:
        ax.axis("off")
    for ax, row in zip(axes.flat, worst.itertuples(), strict=False):
        pixels = data.images[place[row.image]].transpose(1, 2, 0)
        ax.imshow(pixels.squeeze(), cmap="gray")
        label = f"{row.label}\n" if data.multilabel else ""
        ax.set_title(f"{label}{row.given}\n\N{RIGHTWARDS ARROW} {row.likely}", fontsize=5.5, loc="center")
    return fig


def write(study: Study, task: str, found: pd.DataFrame) -> list[Path]:
    """The list as csv and its montage, in the study's output folder: pictures of one's own are not artefacts to share."""
    drawn = io.BytesIO()
    montage(study, task, found).savefig(drawn, format="png", metadata={"Software": None})
    files = {"csv": found.to_csv(index=False, lineterminator="\n"), "png": drawn.getbuffer()}
    return [write_whole(study.output / f"suspects_{task}.{suffix}", each) for suffix, each in files.items()]


def cleaned(study: Study, task: str, found: pd.DataFrame, *, share: float = 0.05) -> Study:
    """The study of one task without the training images of the first `share` of its suspects: +cleaned, with runs of its own.

    Validation and test part stay as they are, suspects and all: without these they would flatter whoever thinks as the
    teachers do. Its output folder gets labels_<task>.csv (image, label or a 0/1 column each, group: what the source folder
    reads) without any of the suspects, and the lists of the parts. Raises InputError for a share outside of 0 to 1.
    """
    if not 0 <= share < 1:
        raise InputError(f"share is {share}; the part of the list that goes is at least 0 and below 1")
    data, label = study.task(task), f"{study.label}+cleaned{share:g}"
    names, folder = np.array(data.names, dtype=object), study.folder / label
    kept = torch.from_numpy(~np.isin(names, found["image"].iloc[: round(share * len(found))]))
    train, every = data.split["train"], torch.cat(list(data.split.values())).sort().values
    lists = write_lists(dict(data.split) | {"train": train[kept[train]]}, data.names, folder / "lists" / task)
    write_whole(folder / f"labels_{task}.csv", _table(data, names, every[kept[every]]))
    section = {"lists": {path.stem: str(path.resolve()) for path in lists}, "split": None}
    sections = {"tasks": [task], "data": {"sources": {task: section}}}
    return Study(params.changed(study.parameters, sections), label=label)


def _table(data: Task, names: np.ndarray, index: Tensor) -> str:
    """The labels of the examples `index` as a table of the source folder, csv."""
    given = data.labels[index]
    if data.multilabel:
        labels = dict(zip(data.class_names, given.T.long().numpy(), strict=True))
    else:
        labels = {"label": np.array(data.class_names, dtype=object)[given]}
    found = pd.DataFrame({"image": names[index], **labels, "group": data.groups[index].numpy()})
    return found.to_csv(index=False, lineterminator="\n")
