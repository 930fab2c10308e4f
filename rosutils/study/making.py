"""How a run is made: a teacher or a student trained, averaged and evaluated, or a teacher's bank computed."""

import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

import rosutils
from rosutils import RunError, chance, distill, models, training, weights
from rosutils.averaging import refresh_batchnorm
from rosutils.bank import view_logits
from rosutils.chance import base_rate_margin, skill_margin
from rosutils.losses import task_loss
from rosutils.metrics import best_thresholds, precision_recall_f1
from rosutils.store import Run, writing
from rosutils.study.experiment import DRAWS, EVALUATION_BATCH, LOGITS, TRAINED, RunSpec, described, weights_needed
from rosutils.study.probes import probe


GLIMPSE = 512  # training images for the average's BatchNorm after each epoch: its curve is worth no more; at the end it is all


class Job(NamedTuple):
    """Runs made one after another by one worker; keys whose weights then go; its place in line.

    A teacher and its bank are one job, so that a study never holds the weights of all its teachers at once.
    """

    specs: tuple[RunSpec, ...]
    release: tuple[str, ...] = ()
    number: int = 0


def make_job(study, job: Job) -> None:
    """Make the runs of a job; what the engine calls in its workers. Several GPUs are taken by turns."""
    if study.device.type == "cuda":
        torch.cuda.set_device(job.number % torch.cuda.device_count())
    for place, spec in enumerate(job.specs):
        readers = [other for other in job.specs[place + 1 :] if spec in weights_needed(other)]
        # Weights are not needed where another process has made all that follows from them meanwhile.
        make(study, spec, weights=not readers or any(study.run(other) is None for other in readers))
    for key in job.release:
        study.store.release(key)


def make(study, spec: RunSpec, *, weights: bool = False) -> Run:
    """The run from the store, or made now: resumable, and by one process at a time; with `weights` also where these are gone."""
    key, store = study.key(spec), study.store
    with _told_in_a_line(study.at(spec), spec), store.lock(key):
        run = store.get(key)
        if run is not None and not (weights and run.released):
            return run
        start = time.perf_counter()
        tensors, tables, record = _made(study.at(spec), spec)
        record |= {"run": str(spec), "seconds": round(time.perf_counter() - start, 2)}
        record |= {"device": device_name(study.device), **versions()}
        return store.put(key, recipe=study.recipe(spec), record=record, tensors=tensors, tables=tables)


@contextmanager
def _told_in_a_line(there, spec: RunSpec) -> Iterator[None]:
    """What stops a run on this machine becomes a RunError that names the run, the cause, and what to do."""
    try:
        with writing(there.store.root):
            yield
    except FloatingPointError as error:
        raise RunError(f"{spec}: {error}; {_why_it_diverged(there, spec)}") from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate memory|out of memory", str(error)):
            raise
        reason = str(error).partition("\n")[0] or "MemoryError"
        raise RunError(f"{spec}: too little memory ({reason}); take fewer engine.workers or a smaller batch") from None


def _why_it_diverged(there, spec: RunSpec) -> str:
    p, images = there.parameters, there.task(spec.task).images[there.training_index(spec)]
    section = p.training
    if images.max() == images.min():
        return "all pixels of its training images are alike, so there is nothing to learn"
    if section.learning_rate * section.weight_decay > 2 * (1 + section.momentum):  # where Eq. 2 alone is unstable
        both = f"training.learning_rate ({section.learning_rate:g}) or training.weight_decay ({section.weight_decay:g})"
        return f"lower {both}, whose product throws the weights ever further"
    return f"lower training.learning_rate ({section.learning_rate:g})"


def _made(there, spec: RunSpec) -> tuple[dict, dict, dict]:
    """Tensors, tables and what there is to record; `there` is the study under the run's own parameters, here and below."""
    if spec.role in TRAINED:
        return _train(there, spec)
    make = {"bank": _bank, "chance": _chance, "pixels": _pixels}.get(spec.role, probe)
    return *make(there, spec), {}


def _bank(there, spec: RunSpec) -> tuple[dict, dict]:
    loader = there.loader(spec, there.training_index(spec), augmented=True)
    logits = view_logits(there.model(spec.teachers[0]), loader, there.views)
    return {"logits": {"train": logits}, "mean": {"train": logits.mean(dim=0)}}, {}


def _chance(there, spec: RunSpec) -> tuple[dict, dict]:
    """What no skill scores on the test part, and on the sample of it that is attacked."""
    task, tables = there.task(spec.task), []
    validation, several = task.labels[task.split["validation"]], task.multilabel
    for part, count in (("", None), ("attacked sample", there.parameters.attacks.examples)):
        labels, generator = task.labels[there.sample(spec.task, count)], torch.Generator().manual_seed(spec.seed)
        how = {"rule": there.parameters.evaluation.thresholds, "draws": DRAWS, "generator": generator}
        table = chance.chance(validation, labels, multilabel=several, class_names=task.class_names, **how)
        tables.append(table.assign(attack=part))
    return {}, {"chance": pd.concat(tables, ignore_index=True)}


def _pixels(there, spec: RunSpec) -> tuple[dict, dict]:
    """Logistic regression on the pixels, as a row of ours beside Table I."""
    task = there.task(spec.task)
    train, validation, test = (task.split[part].numpy() for part in ("train", "validation", "test"))
    seen = task.images[train], task.labels[train], task.images[validation], task.labels[validation], task.images[test]
    how = {"multilabel": task.multilabel, "seed": spec.seed, "n_classes": task.n_classes}
    return {"logits": chance.logistic_regression(*seen, **how)}, {}


def _train(there, spec: RunSpec) -> tuple[dict, dict, dict]:
    """Of a teacher or a student: weights, averaged weights, logits, history; and its margin over the base rates."""
    section, task = there.parameters.training, there.task(spec.task)
    model = models.create(spec.architecture, task.n_classes, seed=spec.seed, pretraining=section.pretraining)
    model = models.placed(model, there.device, there.precision(spec))
    loss = loss_fn(there, spec)
    watch = AfterEpoch(there, spec, model, loss)
    loader = there.loader(spec, there.training_index(spec), shuffled=True, augmented=True)
    schedule = section.model_dump(include={"epochs", "learning_rate", "milestones", "momentum", "weight_decay"})
    resumed = {"checkpoint": there.store.checkpoint(there.key(spec)), "stateful": watch.stateful}
    resumed["checkpoint_seconds"] = there.parameters.engine.checkpoint_seconds
    how = {"seed": spec.seed, "after_epoch": watch, "progress": False, **schedule, **resumed}
    shape = section.batch_size, *task.images.shape[1:]
    with models.recorded(model, shape, section.epochs * len(loader) if there.parameters.engine.graphs else 0):
        history = training.fit(model, loader, loss, **how)
    tensors = watch.finished(model)
    logits = tensors["logits"]["validation"]
    margins = {"validation_margin": base_rate_margin(task, logits), "validation_skill": skill_margin(task, logits)}
    validation = {name: tensors[key]["validation"] for name, key in LOGITS.items() if key in tensors}
    record = watch.seconds() | margins | {"network": described(there, spec, validation)}
    return tensors, {"history": pd.DataFrame(history)}, record


class AfterEpoch:
    """What happens after each epoch of a run, and after its last: validation, Eq. 1, the policy's pass, BatchNorm."""

    def __init__(self, there, spec: RunSpec, model: nn.Module, loss) -> None:
        section = there.parameters.distillation
        self.there, self.spec, self.loss, self.refreshes = there, spec, loss, section.refresh_batchnorm
        self.average = distill.Average(model, section.averaging_start) if spec.weighting == "exponential" else None
        best = there.parameters.training.reported == "best-validation"
        self.best = training.BestModel(model) if best else None
        self.best_average = training.BestModel(model) if best and self.average else None
        found = {"best": self.best, "average": self.average and self.average.model, "best average": self.best_average}
        found["selector"] = getattr(loss, "selector", None)
        self.stateful: dict[str, nn.Module] = {name: module for name, module in found.items() if module is not None}
        self.times, self.averaging = [time.perf_counter()], []

    def __call__(self, model: nn.Module, epoch: int) -> dict:
        """Columns for the history."""
        row = validate(self.there, self.spec, model)
        if self.best:
            self.best.offer(model, row["validation_f1"])
        begun = time.perf_counter()
        if self.average:
            row["averaged_validation_f1"] = self._averaged(model, epoch)
        self.times.append(time.perf_counter())
        self.averaging.append(self.times[-1] - begun)
        return row | self._of_the_loss(model)

    def _of_the_loss(self, model: nn.Module) -> dict:
        """What the loss has to tell of an epoch, and the selector's policy pass (r3: by F1 on a fixed part of validation)."""
        told = getattr(self.loss, "after_epoch", dict)  # a supervised loss has nothing to tell
        if not getattr(self.loss, "wants_quality", False):
            return told()
        return told(validate(self.there, self.spec, model, count=EVALUATION_BATCH * 2)["validation_f1"])

    def _averaged(self, model: nn.Module, epoch: int) -> float:
        """Eq. 1, then the validation F1 of the average with its BatchNorm glimpsed anew; nan in the warm-up epochs."""
        if epoch < self.average.start:
            return float("nan")
        self.average.after_epoch(model, epoch)
        if self.refreshes:
            self._refresh(self.average.model, GLIMPSE)
        score = validate(self.there, self.spec, self.average.model)["validation_f1"]
        if self.best_average:
            self.best_average.offer(self.average.model, score)
        return score

    def _refresh(self, model: nn.Module, count: int | None = None) -> None:
        """BatchNorm's statistics of a network re-estimated on its training images in random order, or on some of them."""
        index = self.there.training_index(self.spec)
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(self.spec.seed))
        refresh_batchnorm(model, self.there.loader(self.spec, index[order[:count]]))

    def _logits(self, model: nn.Module) -> dict[str, Tensor]:
        """Validation and test logits, so that every metric can be recomputed without the model."""
        split = self.there.task(self.spec.task).split
        loaders = {part: self.there.loader(self.spec, split[part]) for part in ("validation", "test")}
        return {part: training.predict(model, loader)[0] for part, loader in loaders.items()}

    def finished(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """The reported weights with BatchNorm re-estimated once, and their logits; the same of the average of Eq. 1."""
        reported = self.best.model if self.best else model
        lasting = reported.state_dict().keys()
        running = {name: value.clone() for name, value in reported.named_buffers() if name in lasting}
        self._refresh(reported)
        tensors = {"weights": reported.state_dict(), "logits": self._logits(reported)}
        if not self.average:
            return tensors
        mean = (self.best_average or self.average).model
        if self.refreshes:
            self._refresh(mean)
        return tensors | {"averaged": mean.state_dict(), "averaged_logits": self._logits(mean), "running": running}

    def seconds(self) -> dict[str, float]:
        """Seconds of an epoch with its validation, and of its averaging alone (medians of those made by this process)."""
        if not self.averaging:
            return {}
        epochs = [later - before for before, later in pairwise(self.times)]
        return {"epoch_seconds": round(median(epochs), 4), "averaging_seconds": round(median(self.averaging), 4)}


def loss_fn(study, spec: RunSpec):
    """The run's loss: supervised, or Eq. 4 with the weighting of its setting."""
    if spec.weighting == "none":
        return distill.supervised_loss
    there, k = study.at(spec), len(spec.teachers)
    section, task, bank = there.parameters.distillation, there.task(spec.task), there.bank(spec)
    options = {"temperature": section.temperature, "alpha": section.alpha}
    options["multilabel"] = task.multilabel and section.multilabel == "sigmoid"
    if spec.weighting == "reinforced":
        how = section.reinforced.model_dump(include={"learning_rate", "entropy_bonus"})
        n_features = models.create(spec.architecture, task.n_classes, seed=0).head.in_features
        selector = weights.ReinforcedSelector(n_features, task.n_classes, **how).to(there.device)
        return distill.ReinforcedLoss(bank, selector, seed=spec.seed, reward=section.reinforced.reward, **options)
    if spec.weighting == "uniform":
        options["mean_of"] = section.mean_of
    if spec.weighting == "exponential":
        how = {"normalize": section.weights.normalize, "per_example": section.weights.per == "example"}
        return distill.DistillationLoss(bank, distill.ExponentialWeights(k, seed=spec.seed, **how), **options)
    fixed = weights.single_weights(k, 0) if spec.weighting == "single" else weights.uniform_weights(k)
    return distill.DistillationLoss(bank, distill.fixed(fixed), **options)


def validate(study, spec: RunSpec, model: nn.Module, count: int | None = None) -> dict:
    """Validation loss and F1 of a model (weighted; micro for several labels, at the threshold best on that part).

    With a `count` it is a fixed sample of the part.
    """
    there = study.at(spec)
    task = there.task(spec.task)
    index = task.split["validation"]
    if count is not None:
        generator = torch.Generator().manual_seed(there.parameters.seeds.data)
        index = index[torch.randperm(len(index), generator=generator)[:count]]
    logits, labels = training.predict(model, there.loader(spec, index))
    how = {"multilabel": task.multilabel, "average": "micro" if task.multilabel else "weighted"}
    how["thresholds"] = best_thresholds(logits, labels) if task.multilabel else None
    loss = task_loss(logits, labels, multilabel=task.multilabel).mean()
    return {"validation_loss": float(loss), "validation_f1": float(precision_recall_f1(logits, labels, **how)[2])}


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    found = {"rosutils": rosutils.__version__, "python": platform.python_version(), "torch": torch.__version__}
    return found | {"torchvision": metadata.version("torchvision")}  # to import it takes two seconds


def device_name(device: torch.device) -> str:
    """The processor's name as torch or the platform tells it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
