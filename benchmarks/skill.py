"""Does a profile's scale show skill at all: chance, logistic regression on the pixels and Baseline I, side by side.

python benchmarks/skill.py --data DIR [--tasks lesion] [--pixels 40] [--epochs 15]

F1 is weighted for one label; for several it is micro, at the one threshold that is best on validation. Options of the training are
chosen on validation, never on test; what is not given is that of the profile `real`. One thread: start a process for each task.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from rosutils import averaging, distill, models, params, training
from rosutils.augment import View
from rosutils.chance import base_rate_loss, chance, logistic_regression
from rosutils.data import Loader, Task
from rosutils.losses import task_loss
from rosutils.metrics import auroc_per_class, best_thresholds, precision_recall_f1
from rosutils.study import Study
from rosutils.study.experiment import EVALUATION_BATCH


PARTS = ("validation", "test")
COLUMNS = [f"{number}, {part}" for number in ("F1", "mean AUROC", "loss") for part in PARTS]


def labels_of(task: Task) -> list[Tensor]:
    """The labels of the validation and of the test part."""
    return [task.labels[task.split[part]] for part in PARTS]


def chance_rows(task: Task, average: str) -> dict[str, list[float]]:
    """What no skill scores on either part; the loss of a constant is that of the base rates."""
    validation = labels_of(task)[0]
    rows: dict[str, list[float]] = {}
    options = {"multilabel": task.multilabel, "class_names": task.class_names}
    for metric, which in (("f1", average), ("auroc", "macro")):
        for labels in labels_of(task):
            table = chance(validation, labels, generator=torch.Generator().manual_seed(0), **options)
            for _, row in table[(table["metric"] == metric) & (table["average"] == which)].iterrows():
                rows.setdefault(row["setting"], []).append(row["value"])
    train = task.labels[task.split["train"]]
    losses = [base_rate_loss(train, labels, multilabel=task.multilabel) for labels in labels_of(task)]
    return {name: values + (losses if "constant" in name else [math.nan] * 2) for name, values in rows.items()}


def measured(task: Task, average: str, logits: Sequence[Tensor]) -> list[float]:
    """F1, mean AUROC and loss of logits on the validation and the test part."""
    pairs, several = list(zip(logits, labels_of(task), strict=True)), task.multilabel
    options = {"multilabel": several, "thresholds": best_thresholds(*pairs[0]) if several else None}
    f1 = [precision_recall_f1(*pair, average=average, **options).f1 for pair in pairs]
    auroc = [auroc_per_class(*pair).nanmean().item() for pair in pairs]
    return f1 + auroc + [task_loss(*pair, multilabel=several).mean().item() for pair in pairs]


def from_pixels(task: Task) -> list[Tensor]:
    """Logits of logistic regression."""
    train, validation, test = (task.images[task.split[part].numpy()] for part in ("train", *PARTS))
    labels = task.labels[task.split["train"]], labels_of(task)[0]
    options = {"multilabel": task.multilabel, "seed": 0, "n_classes": task.n_classes}
    return list(logistic_regression(train, labels[0], validation, labels[1], test, **options).values())


def baseline_i(task: Task, average: str, chosen: argparse.Namespace) -> list[Tensor]:
    """Logits of a supervised ResNet-18, its BatchNorm statistics re-estimated at the end on shuffled training images."""
    model = models.create("resnet18", task.n_classes, seed=chosen.seed)
    view, train = View(0, chosen.pad, ("horizontal",)), task.split["train"]
    shuffled = {"batch_size": chosen.batch, "shuffle_seed": chosen.seed}
    parts = [Loader(task, task.split[part], batch_size=EVALUATION_BATCH) for part in PARTS]

    def after_epoch(model, epoch):
        logits = [training.predict(model, part)[0] for part in parts]
        numbers = zip(COLUMNS, measured(task, average, logits), strict=True)
        shown = "; ".join(f"{name} {value:.4f}" for name, value in numbers if "test" not in name)
        print(f"{task.name}, epoch {epoch + 1}: {shown}", flush=True)

    training.fit(
        model, Loader(task, train, view=view, **shuffled), distill.supervised_loss, epochs=chosen.epochs,
        learning_rate=chosen.lr, milestones=[max(1, round(chosen.epochs * share)) for share in (0.5, 0.8)],
        weight_decay=chosen.weight_decay, seed=chosen.seed, after_epoch=after_epoch, progress=False,
    )  # fmt: skip
    averaging.refresh_batchnorm(model, Loader(task, train, **shuffled))
    return [training.predict(model, part)[0] for part in parts]


def side_by_side(task: Task, chosen: argparse.Namespace) -> pd.DataFrame:
    """The table of one task, settings by numbers."""
    average = "micro" if task.multilabel else "weighted"
    rows = chance_rows(task, average)
    rows["logistic regression on the pixels"] = measured(task, average, from_pixels(task))
    start = time.perf_counter()
    rows["Baseline I"] = measured(task, average, baseline_i(task, average, chosen))
    print(f"{task.name}: Baseline I took {time.perf_counter() - start:.0f} s", flush=True)
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)


def markdown(table: pd.DataFrame, title: str) -> str:
    """The table as Markdown, three digits, a dash for what there is not."""
    lines = [[title, *table.columns], ["---"] * (1 + len(table.columns))]
    for name, values in table.iterrows():
        lines.append([name, *("-" if math.isnan(value) else f"{value:.3f}" for value in values)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds isic2019/ and nih/")
    parser.add_argument("--tasks", nargs="+", default=["lesion", "chest"])
    parser.add_argument("--pixels", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--weight-decay", type=float, default=2e-4)
    parser.add_argument("--pad", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", default="runs", help="where decoded images are kept")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = {"root": str(chosen.data.resolve()), "pixels": chosen.pixels}
    study = Study(params.load("real", data=data, engine={"store": chosen.store}))
    for name in chosen.tasks:
        title = f"{name}, {chosen.pixels} px, {chosen.epochs} epochs, lr {chosen.lr:g}"
        print(markdown(side_by_side(study.task(name), chosen), title), flush=True)


if __name__ == "__main__":
    main()
