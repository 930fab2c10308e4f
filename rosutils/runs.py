"""How a run is made: a teacher or a student trained, averaged and evaluated, or a teacher's bank computed."""

import getpass
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import rosutils
from rosutils import deferred, distill, graphs, models, training, weights
from rosutils.averaging import refresh_batchnorm
from rosutils.bank import view_logits
from rosutils.experiment import Experiment, RunSpec
from rosutils.losses import task_loss
from rosutils.metrics import best_thresholds, precision_recall_f1
from rosutils.probes import probe
from rosutils.store import Run, Store


Files = Mapping[str, bytes]


def make_job(job: tuple[str, RunSpec]) -> None:
    """Make the run of a (parameters as JSON, spec) pair; what the engine calls in its workers."""
    make(Experiment.from_json(job[0]), job[1])


def make_from(job: tuple[str, RunSpec], inputs: Mapping[str, Files]) -> tuple[str, Files]:
    """The same on a machine that shares no files: from the files of the runs it needs by key, to those of the one made.

    They lie in a store in the temporary folder: with their epochs, should the worker be lost, and until it is emptied.
    """
    experiment = Experiment.from_json(job[0])
    experiment.store = Store(Path(tempfile.gettempdir()) / f"rosutils-{getpass.getuser()}" / "store")
    for key, files in inputs.items():
        experiment.store.adopt(key, files)
    run = make(experiment, job[1])
    found = run.files()
    shutil.rmtree(run.path)  # the driver has it from now on
    return run.key, found


def make(experiment: Experiment, spec: RunSpec, *, progress: bool = False) -> Run:
    """The run from the store, or made now: resumable, and by one process at a time."""
    key, store = experiment.key(spec), experiment.store
    with store.alone(key):
        if (run := store.get(key)) is not None:
            return run
        start = time.perf_counter()
        tensors, tables = _made(experiment, spec, progress)
        record = {"run": str(spec), "seconds": round(time.perf_counter() - start, 2)}
        record |= {
            "device": device_name(experiment.device),
            "threads": experiment.parameters.engine.threads,
            **versions(),
        }
        record["precision"] = str(models.precision(experiment.device)).removeprefix("torch.")  # of training passes
        return store.put(key, recipe=experiment.recipe(spec), record=record, tensors=tensors, tables=tables)


def _made(experiment: Experiment, spec: RunSpec, progress: bool) -> tuple[dict, dict]:
    if spec.of is not None:
        return probe(experiment, spec)
    return _bank(experiment, spec) if spec.role == "bank" else _train(experiment, spec, progress)


def _bank(experiment: Experiment, spec: RunSpec) -> tuple[dict, dict]:
    loader = experiment.loader(spec, experiment.training_index(spec), augmented=True)
    logits = view_logits(experiment.model(spec.teachers[0]), loader, experiment.parameters.training.epochs)
    return {"logits": {"train": logits}}, {}


def _train(experiment: Experiment, spec: RunSpec, progress: bool) -> tuple[dict, dict]:
    """Tensors and tables of a teacher or a student: weights, averaged weights, logits, history."""
    section, task = experiment.parameters.training, experiment.task(spec.task)
    model = models.create(spec.architecture, task.n_classes, seed=spec.seed, pretraining=section.pretraining)
    model = models.placed(model, experiment.device)
    loss = loss_fn(experiment, spec)
    watch = AfterEpoch(experiment, spec, model, loss)
    loader = experiment.loader(spec, experiment.training_index(spec), shuffled=True, augmented=True)
    shape, threads = (loader.batch_size, *task.images.shape[1:]), experiment.parameters.engine.threads
    with graphs.replayed(model, shape), deferred.weight_gradients(threads):
        history = training.fit(
            model, loader, loss, epochs=section.epochs, learning_rate=section.learning_rate, milestones=section.milestones,
            momentum=section.momentum, weight_decay=section.weight_decay, seed=spec.seed, after_epoch=watch,
            stateful=watch.stateful, checkpoint=experiment.store.checkpoint(experiment.key(spec)),
            checkpoint_seconds=experiment.parameters.engine.checkpoint_seconds, progress=progress,
        )  # fmt: skip
    reported = watch.best.model if watch.best else model
    tensors = {"weights": reported.state_dict(), "logits": _logits(experiment, spec, reported)}
    if watch.average:
        averaged = watch.average.model
        tensors |= {"averaged": averaged.state_dict(), "averaged_logits": _logits(experiment, spec, averaged)}
    return tensors, {"history": pd.DataFrame(history)}


class AfterEpoch:
    """What happens after each epoch of a run: validation, Eq. 1, the selector's policy pass, the best epoch (an option)."""

    def __init__(self, experiment: Experiment, spec: RunSpec, model: nn.Module, loss) -> None:
        section = experiment.parameters.distillation
        self.experiment, self.spec, self.loss = experiment, spec, loss
        self.average = distill.Average(model, section.averaging_start) if spec.weighting == "exponential" else None
        self.best = training.BestModel(model) if experiment.parameters.training.reported == "best-validation" else None
        self.stateful: dict[str, nn.Module] = {"best": self.best} if self.best else {}
        self.stateful |= {"average": self.average.model} if self.average else {}
        self.stateful |= {"selector": loss.selector} if spec.weighting == "reinforced" else {}

    def __call__(self, model: nn.Module, epoch: int) -> dict:
        """Columns for the history."""
        row = validate(self.experiment, self.spec, model)
        if self.best:
            self.best.offer(model, row["validation_f1"])
        if self.average:
            row["averaged_validation_f1"] = self._averaged(model, epoch)
        return row | (self.loss.after_epoch() if "selector" in self.stateful else {})

    def _averaged(self, model: nn.Module, epoch: int) -> float:
        """Eq. 1, then BatchNorm's statistics and the validation F1 of the average; nan in the warm-up epochs."""
        if epoch < self.average.start:
            return float("nan")
        self.average.after_epoch(model, epoch)
        if self.experiment.parameters.distillation.refresh_batchnorm:
            index = self.experiment.training_index(self.spec)
            refresh_batchnorm(self.average.model, self.experiment.loader(self.spec, index))
        return validate(self.experiment, self.spec, self.average.model)["validation_f1"]


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


def validate(experiment: Experiment, spec: RunSpec, model: nn.Module) -> dict:
    """Validation loss and F1 of a model (weighted; micro for several labels, at the thresholds best on that part)."""
    task = experiment.task(spec.task)
    logits, labels = training.predict(model, experiment.loader(spec, task.split["validation"]))
    thresholds = best_thresholds(logits, labels) if task.multilabel else None
    average = "micro" if task.multilabel else "weighted"
    score = precision_recall_f1(logits, labels, average=average, multilabel=task.multilabel, thresholds=thresholds)
    loss = task_loss(logits, labels, multilabel=task.multilabel).mean()
    return {"validation_loss": float(loss), "validation_f1": float(score.f1)}


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {
        "rosutils": rosutils.__version__, "python": platform.python_version(), "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),  # to import it takes two seconds
    }  # fmt: skip


def device_name(device: torch.device) -> str:
    """The processor's name as torch or the platform tells it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
