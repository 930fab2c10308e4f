"""How a run is made: a teacher or a student trained, averaged and evaluated, or a teacher's bank computed."""

import platform
import time
from importlib import metadata
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

import rosutils
from rosutils import chance, distill, models, pixels, training, weights
from rosutils.averaging import refresh_batchnorm
from rosutils.bank import view_logits
from rosutils.chance import base_rate_margin, skill_margin
from rosutils.losses import task_loss
from rosutils.metrics import best_thresholds, precision_recall_f1
from rosutils.store import Run
from rosutils.study.experiment import DRAWS, EVALUATION_BATCH, Experiment, RunSpec, weights_needed
from rosutils.study.probes import probe


GLIMPSE = 512  # training images for the average's BatchNorm after each epoch: its curve is worth no more; at the end it is all


class Job(NamedTuple):
    """Runs made one after another by one worker, under parameters given as JSON; keys whose weights then go; its place in line.

    A teacher and its bank are one job, so that a study never holds the weights of all its teachers at once.
    """

    parameters: str
    specs: tuple[RunSpec, ...]
    release: tuple[str, ...] = ()
    number: int = 0


def make_job(job: Job) -> None:
    """Make the runs of a job; what the engine calls in its workers. Several GPUs are taken by turns."""
    experiment = Experiment.from_json(job.parameters)
    if experiment.device.type == "cuda":
        torch.cuda.set_device(job.number % torch.cuda.device_count())
    for place, spec in enumerate(job.specs):
        make(experiment, spec, weights=_wanted(experiment, spec, job.specs[place + 1 :]))
    for key in job.release:
        experiment.store.release(key)


def _wanted(experiment: Experiment, spec: RunSpec, later: tuple[RunSpec, ...]) -> bool:
    """Whether the weights of a run are needed: not where another process has made all that follows from them meanwhile."""
    readers = [other for other in later if spec in weights_needed(other)]
    return not readers or any(experiment.run(other) is None for other in readers)


def make(experiment: Experiment, spec: RunSpec, *, weights: bool = False, progress: bool = False) -> Run:
    """The run from the store, or made now: resumable, and by one process at a time; with `weights` also where these are gone."""
    key, store = experiment.key(spec), experiment.store
    with store.alone(key):
        run = store.get(key)
        if run is not None and not (weights and run.released):
            return run
        start = time.perf_counter()
        tensors, tables, record = _made(experiment, spec, progress)
        record |= {"run": str(spec), "seconds": round(time.perf_counter() - start, 2)}
        record |= {"device": device_name(experiment.device), **versions()}
        return store.put(key, recipe=experiment.recipe(spec), record=record, tensors=tensors, tables=tables)


def _made(experiment: Experiment, spec: RunSpec, progress: bool) -> tuple[dict, dict, dict]:
    """Tensors, tables and what there is to record."""
    if spec.of is not None:
        return *probe(experiment, spec), {}
    if spec.role in ("teacher", "student"):
        return _train(experiment, spec, progress)
    return *{"bank": _bank, "chance": _chance, "pixels": _pixels}[spec.role](experiment, spec), {}


def _bank(experiment: Experiment, spec: RunSpec) -> tuple[dict, dict]:
    loader = experiment.loader(spec, experiment.training_index(spec), augmented=True)
    return {"logits": {"train": view_logits(experiment.model(spec.teachers[0]), loader, experiment.views)}}, {}


def _chance(experiment: Experiment, spec: RunSpec) -> tuple[dict, dict]:
    """What no skill scores on the test part, and on the sample of it that is attacked."""
    task, rule = experiment.task(spec.task), experiment.parameters.evaluation.thresholds
    parts = {
        "": task.split["test"],
        "attacked sample": experiment.sample(spec.task, experiment.parameters.attacks.examples),
    }
    tables = [
        chance.chance(
            task.labels[task.split["validation"]], task.labels[index], multilabel=task.multilabel,
            class_names=task.class_names, rule=rule, draws=DRAWS, generator=torch.Generator().manual_seed(spec.seed),
        ).assign(attack=part)
        for part, index in parts.items()
    ]  # fmt: skip
    return {}, {"chance": pd.concat(tables, ignore_index=True)}


def _pixels(experiment: Experiment, spec: RunSpec) -> tuple[dict, dict]:
    """Logistic regression on the pixels, as a row of ours beside Table I."""
    task = experiment.task(spec.task)
    train, validation, test = (
        index.numpy() for index in (task.split[part] for part in ("train", "validation", "test"))
    )
    logits = pixels.logistic_regression(
        task.images[train], task.labels[train], task.images[validation], task.labels[validation], task.images[test],
        multilabel=task.multilabel, seed=spec.seed, n_classes=task.n_classes,
    )  # fmt: skip
    return {"logits": logits}, {}


def _train(experiment: Experiment, spec: RunSpec, progress: bool) -> tuple[dict, dict, dict]:
    """Of a teacher or a student: weights, averaged weights, logits, history; and its margin over the base rates."""
    section, task = experiment.parameters.training, experiment.task(spec.task)
    model = models.create(spec.architecture, task.n_classes, seed=spec.seed, pretraining=section.pretraining)
    model = models.placed(model, experiment.device, experiment.precision(spec))
    loss = loss_fn(experiment, spec)
    watch = AfterEpoch(experiment, spec, model, loss)
    loader = experiment.loader(spec, experiment.training_index(spec), shuffled=True, augmented=True)
    history = training.fit(
        model, loader, loss, epochs=section.epochs, learning_rate=section.learning_rate, milestones=section.milestones,
        momentum=section.momentum, weight_decay=section.weight_decay, seed=spec.seed, after_epoch=watch,
        stateful=watch.stateful, checkpoint=experiment.store.checkpoint(experiment.key(spec)),
        checkpoint_seconds=experiment.parameters.engine.checkpoint_seconds, progress=progress,
    )  # fmt: skip
    tensors = watch.finished(model)
    logits = tensors["logits"]["validation"]
    margins = {"validation_margin": base_rate_margin(task, logits), "validation_skill": skill_margin(task, logits)}
    return tensors, {"history": pd.DataFrame(history)}, watch.seconds() | margins


class AfterEpoch:
    """What happens after each epoch of a run, and after its last: validation, Eq. 1, the policy's pass, BatchNorm."""

    def __init__(self, experiment: Experiment, spec: RunSpec, model: nn.Module, loss) -> None:
        section = experiment.parameters.distillation
        self.experiment, self.spec, self.loss, self.refreshes = experiment, spec, loss, section.refresh_batchnorm
        self.average = distill.Average(model, section.averaging_start) if spec.weighting == "exponential" else None
        best = experiment.parameters.training.reported == "best-validation"
        self.best = training.BestModel(model) if best else None
        self.best_average = training.BestModel(model) if best and self.average else None
        self.stateful: dict[str, nn.Module] = {"best": self.best} if self.best else {}
        self.stateful |= {"average": self.average.model} if self.average else {}
        self.stateful |= {"best average": self.best_average} if self.best_average else {}
        self.stateful |= {"selector": loss.selector} if spec.weighting == "reinforced" else {}
        self.times, self.averaging = [time.perf_counter()], []

    def __call__(self, model: nn.Module, epoch: int) -> dict:
        """Columns for the history."""
        row = validate(self.experiment, self.spec, model)
        if self.best:
            self.best.offer(model, row["validation_f1"])
        begun = time.perf_counter()
        if self.average:
            row["averaged_validation_f1"] = self._averaged(model, epoch)
        self.times.append(time.perf_counter())
        self.averaging.append(self.times[-1] - begun)
        return row | self._of_the_loss(model)

    def _of_the_loss(self, model: nn.Module) -> dict:
        """What the loss has to tell of an epoch, and the selector's policy pass."""
        if not hasattr(self.loss, "after_epoch"):
            return {}
        if getattr(self.loss, "wants_quality", False):
            return self.loss.after_epoch(quality(self.experiment, self.spec, model))
        return self.loss.after_epoch()

    def _averaged(self, model: nn.Module, epoch: int) -> float:
        """Eq. 1, then the validation F1 of the average with its BatchNorm glimpsed anew; nan in the warm-up epochs."""
        if epoch < self.average.start:
            return float("nan")
        self.average.after_epoch(model, epoch)
        if self.refreshes:
            self._refresh(self.average.model, GLIMPSE)
        score = validate(self.experiment, self.spec, self.average.model)["validation_f1"]
        if self.best_average:
            self.best_average.offer(self.average.model, score)
        return score

    def _refresh(self, model: nn.Module, count: int | None = None) -> None:
        """BatchNorm's statistics of a network re-estimated on its training images in random order, or on some of them."""
        index = self.experiment.training_index(self.spec)
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(self.spec.seed))
        refresh_batchnorm(model, self.experiment.loader(self.spec, index[order[:count]]))

    def finished(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """The reported weights with BatchNorm re-estimated once, and their logits; the same of the average of Eq. 1."""
        reported = self.best.model if self.best else model
        running = {name: value.clone() for name, value in reported.named_buffers() if name in reported.state_dict()}
        self._refresh(reported)
        tensors = {"weights": reported.state_dict(), "logits": _logits(self.experiment, self.spec, reported)}
        if not self.average:
            return tensors
        averaged = self.best_average.model if self.best_average else self.average.model
        if self.refreshes:
            self._refresh(averaged)
        tensors |= {"averaged": averaged.state_dict(), "averaged_logits": _logits(self.experiment, self.spec, averaged)}
        return tensors | {"running": running}

    def seconds(self) -> dict[str, float]:
        """Seconds of an epoch with its validation, and of its averaging alone (medians of those made by this process)."""
        epochs = [later - before for before, later in zip(self.times, self.times[1:], strict=False)]
        if not epochs:
            return {}
        averaging = [taken for taken in self.averaging if taken > 0]
        return {"epoch_seconds": round(median(epochs), 4), "averaging_seconds": round(median(averaging), 4)}


def loss_fn(experiment: Experiment, spec: RunSpec):
    """The run's loss: supervised, or Eq. 4 with the weighting of its setting."""
    if spec.weighting == "none":
        return distill.supervised_loss
    section, task, bank = experiment.parameters.distillation, experiment.task(spec.task), experiment.bank(spec)
    options = {"temperature": section.temperature, "alpha": section.alpha}
    options["multilabel"] = task.multilabel and section.multilabel == "sigmoid"
    if spec.weighting == "reinforced":
        selector = weights.ReinforcedSelector(
            models.create(spec.architecture, task.n_classes, seed=0).head.in_features, task.n_classes,
            learning_rate=section.reinforced.learning_rate, entropy_bonus=section.reinforced.entropy_bonus,
        ).to(experiment.device)  # fmt: skip
        return distill.ReinforcedLoss(bank, selector, seed=spec.seed, reward=section.reinforced.reward, **options)
    k = len(spec.teachers)
    if spec.weighting == "uniform" and section.mean_of == "logits":
        options["mean_of"] = "logits"
    weigh = {
        "single": distill.fixed(weights.single_weights(k, 0)),
        "uniform": distill.fixed(weights.uniform_weights(k)),
        "exponential": distill.ExponentialWeights(
            k, seed=spec.seed, normalize=section.weights.normalize, per_example=section.weights.per == "example"
        ),
    }[spec.weighting]
    return distill.DistillationLoss(bank, weigh, **options)


def _logits(experiment: Experiment, spec: RunSpec, model: nn.Module) -> dict[str, Tensor]:
    """Validation and test logits, so that every metric can be recomputed without the model."""
    split = experiment.task(spec.task).split
    return {part: training.predict(model, experiment.loader(spec, split[part]))[0] for part in ("validation", "test")}


def validate(experiment: Experiment, spec: RunSpec, model: nn.Module, count: int | None = None) -> dict:
    """Validation loss and F1 of a model (weighted; micro for several labels, at the threshold best on that part).

    With a `count` it is a fixed sample of the part.
    """
    task = experiment.task(spec.task)
    index = task.split["validation"]
    if count is not None:
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(experiment.parameters.seeds.data))
        index = index[order[:count]]
    logits, labels = training.predict(model, experiment.loader(spec, index))
    thresholds = best_thresholds(logits, labels) if task.multilabel else None
    average = "micro" if task.multilabel else "weighted"
    score = precision_recall_f1(logits, labels, average=average, multilabel=task.multilabel, thresholds=thresholds)
    loss = task_loss(logits, labels, multilabel=task.multilabel).mean()
    return {"validation_loss": float(loss), "validation_f1": float(score.f1)}


def quality(experiment: Experiment, spec: RunSpec, model: nn.Module) -> float:
    """Reward r3's quality of the student after an episode: F1 on a fixed part of validation."""
    return validate(experiment, spec, model, count=EVALUATION_BATCH * 2)["validation_f1"]


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {
        "rosutils": rosutils.__version__, "python": platform.python_version(), "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),  # to import it takes two seconds
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """The processor's name as torch or the platform tells it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
