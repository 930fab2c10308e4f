"""What a profile takes, how far it is, and what is doubtful about it: runs, time and disk, before a single image is there."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from rosutils import InputError, distill, models, training
from rosutils.data import Batch, Task
from rosutils.data.sources import folder_of, split_lists
from rosutils.processes import mapped
from rosutils.store import digest, free
from rosutils.study import costs
from rosutils.study.experiment import RunSpec
from rosutils.study.needs import ARTEFACTS
from rosutils.study.study import STAGES, Study
from rosutils.subsets import core_share


STAND_IN = 600  # examples of a task that stands in for the real one, in groups of one, two and three by turns
PUBLISHED = {"isic2019": (25_331, 3), "nih": (112_120, 1), "dermamnist": (10_015, 3), "chestmnist": (112_120, 1)}
WHENCE = {
    "synthetic": "drawn on the spot",
    "isic2019": "challenge.isic-archive.com/data, ISIC 2019: training images, ground truth and metadata",
    "nih": "nihcc.app.box.com/v/ChestXray-NIHCC: the twelve archives of images and Data_Entry_2017_v2020.csv",
    "medmnist": "fetched by `pip install medmnist`, or from its record on Zenodo by hand",
    "folder": "your own",
}
STAGE = {role: name for name, roles in STAGES.items() for role in roles}
NOTEBOOKS = 60.0  # seconds that they take on two cores, with results.csv and the report
SECONDS, PIXELS = 10.0, 2**19  # of a measurement; of its batches on the CPU, where time grows with their number
COPIES = 6  # of a run's weights, at most, in its checkpoint and in the one that replaces it


class Unopened(Study):
    """A study that opens no source: its tasks stand in for the real ones, and differ wherever those would."""

    def _task(self, name: str) -> Task:
        """A stand-in with the real one's number of label kinds; its fingerprint is that of the parameters."""
        data, noise, source = self.parameters.data, self.parameters.noise, self.parameters.data.sources[name]
        noisy = noise.model_dump() if noise.rate or noise.false_negatives or noise.false_positives else None
        what = [source.model_dump(), data.model_dump(exclude={"sources", "root"})], noisy, self.parameters.seeds.data
        groups = torch.from_numpy(np.repeat(np.arange(STAND_IN // 2), np.tile([1, 2, 3], STAND_IN // 6)))
        labels = torch.zeros(STAND_IN, 8) if source.multilabel else torch.zeros(STAND_IN, dtype=torch.long)
        edges = [round(STAND_IN * share) for share in (data.fractions[0], 1 - data.fractions[2])]
        parts = zip(("train", "validation", "test"), torch.arange(STAND_IN).tensor_split(edges), strict=True)
        how = {"multilabel": source.multilabel, "split": dict(parts), "fingerprint": digest(what), "noise_rate": 0.0}
        return Task(name, None, labels, labels, groups, names=(), class_names=(), **how)


def load(profile: str | Path, **sections: Any) -> Study:
    """The study to plan: opened where its images are at hand or drawn, else with as many as are known to exist."""
    study = Study.load(profile, **sections)
    sources = {study.parameters.data.sources[task].source for task in study.parameters.tasks}
    return study if study.root is not None or sources == {"synthetic"} else Unopened.load(profile, **sections)


def known(study: Study, task: str) -> tuple[int, int] | None:
    """Images and channels of a task: counted where it is open, else as they are to be drawn, or published; or None."""
    source = study.parameters.data.sources[task]
    if not isinstance(study, Unopened):
        return study.task(task).images.shape[:2]
    if source.source == "synthetic":
        return source.examples, 3 if source.modality == "dermoscopy" else 1
    return PUBLISHED.get(source.dataset if source.source == "medmnist" else source.source)


def sizes(study: Study, spec: RunSpec) -> costs.Sizes:
    """The images of a run, in proportion to those of its task; raises InputError where these are not known."""
    there = study.at(spec)
    if not (found := known(there, spec.task)):
        raise InputError(f"how many images task '{spec.task}' has is not known without them; give --data FOLDER")
    share = min(found[0], there.parameters.data.examples or math.inf) / STAND_IN if isinstance(there, Unopened) else 1
    return costs.sizes(there, spec, share)


def survey(study: Study) -> pd.DataFrame:
    """Every run, one a row: the tables and figures that need it, what it costs, and where it is done what it took."""
    needed = {name: {study.key(spec) for spec in study.runs(name)} for name in ARTEFACTS}
    specs = study.unique(study.all_runs())
    missing, rows = {study.key(spec) for spec in study.missing(specs)}, []
    for spec in specs:
        key, run, size = study.key(spec), study.run(spec), sizes(study, spec)
        record, (small, weights) = run.about()["record"] if run else {}, costs.disk(study, spec, size)
        about = {"key": key, "run": str(spec), "role": spec.role, "stage": STAGE[spec.role], "done": key not in missing}
        about |= {"small": small, "weights": weights, "work": costs.work(study, spec, size)}
        about |= {"needed": [name for name in ARTEFACTS if key in needed[name]]}
        rows.append(about | {"took": record.get("seconds"), "margin": record.get("validation_margin")})
    return pd.DataFrame(rows).astype({"took": float, "margin": float})


def measured_speed(study: Study, workers: int) -> float:
    """Images a second that one worker trains a ResNet-18 on now, as many at once as are to be: they slow each other down."""
    p, spec = study.parameters, study.student(study.parameters.tasks[0], "Baseline I", "resnet18")
    at_once = max(1, min(workers, joblib.cpu_count())) if study.device.type == "cpu" else 1
    about = p.data.pixels, p.training.batch_size, study.device.type, study.precision(spec)
    return sum(mapped(_trained, [about] * at_once, at_once)) / at_once


def _trained(pixels: int, count: int, device: str, precision: str) -> float:
    """The same of this process, on one thread: steps for SECONDS after a first one, which pays for allocation."""
    count = min(count, max(2, PIXELS // pixels**2)) if device == "cpu" else count
    images, index = torch.rand(count, 3, pixels, pixels).to(device), torch.arange(count)
    batch = Batch(images, torch.zeros_like(index).to(device), index, 0)
    model, ends = models.placed(models.create("resnet18", 8, seed=0), device, precision), []
    optimizer = training.sgd(model, learning_rate=1e-4, momentum=0.9, weight_decay=2e-4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    while len(ends) < 2 or ends[-1] - ends[0] < SECONDS:
        optimizer.zero_grad()
        distill.supervised_loss(model, batch).backward()
        optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    torch.set_num_threads(threads)
    kind = device if device == "cuda" else precision
    return costs.TRAINING[kind]["resnet18"] * count * (len(ends) - 1) / (ends[-1] - ends[0])


@lru_cache(maxsize=4)
def flops(pixels: int) -> int:
    """Floating-point operations of training a ResNet-18 on one image: a pass forward, and two backward."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        models.create("resnet18", 8, seed=0)(torch.zeros(1, 3, pixels, pixels))
    return 3 * counter.get_total_flops()


def takes(runs: pd.DataFrame, workers: int, speed: float) -> float:
    """Seconds until the stages of the runs are made: of each no less than its share of a worker, nor than its longest run."""
    stages = runs.groupby("stage")["work"]
    return float(np.maximum(stages.sum() / workers, stages.max()).sum() / speed)


def table(runs: pd.DataFrame, workers: int, speed: float | None) -> Iterator[str]:
    """A line for what each table or figure needs, and for each stage: how many runs, what is done, what the rest takes."""
    artefacts = [(name, runs[[name in names for names in runs["needed"]]]) for name in ARTEFACTS]
    stages = [*((f"all {name}", runs[runs["stage"] == name]) for name in STAGES), ("in all", runs)]
    yield f"{'':<14}{'runs':>6}{'shared':>8}{'done':>7}{'took':>9}{'to make':>9}{'images':>18}{'take':>10}"
    for name, own in (*artefacts, *stages):
        rest, shared = own[~own["done"]], own["needed"].map(len).gt(1).sum()
        seconds = duration(takes(rest, workers, speed)) if speed else "?"
        done = f"{len(own) - len(rest):>7}{duration(own['took'].sum()):>9}"
        yield f"{name:<14}{len(own):>6}{shared:>8}{done}{len(rest):>9}{rest['work'].sum():>18,.0f}{seconds:>10}"


def plan(study: Study, workers: int, *, gpus: bool = False, speed: float | None = None) -> Iterator[str]:
    """What a study takes, a line each, on so many workers, or on GPUs; `speed` is that of each, where somebody knows it."""
    runs, whence = survey(study), "as told"
    if not speed and gpus and study.device.type != "cuda":
        whence = "but how many images a GPU trains on in a second is not known without one; give it by --speed"
    elif not speed and (speed := costs.speed(study)):
        whence = "by what finished runs took"
    elif not speed:
        speed, whence = measured_speed(study, workers), "measured now"
    yield from table(runs, workers, speed)
    each, left = flops(study.parameters.data.pixels), runs.loc[~runs["done"], "work"].sum()
    yield f"images: as many as a ResNet-18 could be trained on instead, of {each:.2g} FLOPs each: {each * left:.2g} in all"
    yield f"the notebooks take about {NOTEBOOKS:.0f} s more"
    yield f"workers: {workers}, " + (f"each of {speed:,.3g} images a second, {whence}" if speed else whence)
    sizes = (tqdm.format_sizeof(count, "B") for count in (*disk_of(study, runs, workers), free(study.folder)))
    yield "disk: {} when all is made, at most {} on the way, and {} of prepared images; {} are free".format(*sizes)


def disk_of(study: Study, runs: pd.DataFrame, workers: int) -> tuple[float, float, float]:
    """Bytes of the store at the end, on the way at most, and of prepared images.

    On the way there are students that probes are still to be made from, and all that is in progress.
    """
    readers, missing, weights = study.readers(), set(runs.loc[~runs["done"], "key"]), runs["weights"]
    held = runs["key"].map(lambda key: bool(missing & readers.get(key, set()))) & (runs["role"] == "student")
    end = runs["small"].sum() + weights[~runs["key"].isin(list(readers))].sum()
    most = end + weights[held].sum() + (workers * COPIES * weights.max() if missing else 0)
    images = sum(math.prod(known(study, task)) for task in study.parameters.tasks) * study.parameters.data.pixels**2
    return end, most, images


def status(study: Study, every: bool = False) -> Iterator[str]:
    """How far a study is, and which networks learnt nothing; with `every` a line for each run first."""
    study.check_batches(study.unique(study.all_runs()))
    runs = survey(study)
    speed, bad = costs.speed(study), runs.loc[runs["margin"] < 0, "run"].tolist()
    for run in runs.itertuples() if every else ():
        about = f", about {duration(run.work / speed)}" if speed else ""
        yield f"{f'done, took {duration(run.took)}' if run.done else f'missing{about}':<24} {run.run}  ({run.key})"
    yield from table(runs, study.workers(), speed)
    if speed is None:
        yield f"how long they take: python -m rosutils plan {study.parameters.profile}"
    if bad:
        of = runs["margin"].notna().sum()
        yield f"{len(bad)} of {of} networks have a higher validation loss than the base rates alone, such as:"
        yield from (f"  {run}" for run in bad[:5])
    yield from leftovers(study)


def leftovers(study: Study) -> Iterator[str]:
    """A line on what nothing reads any more in the store."""
    if waste := study.store.waste():
        places = ", ".join(str(path.relative_to(study.store.root)) for path in waste[:5])
        yield f"left by killed runs, or set aside, in {study.store.root}: {places}{', …' * (len(waste) > 5)}; it may be deleted"


def walk(study: Study) -> Iterator[str]:
    """What `reproduce` would do with these parameters, a line each, ending with what is doubtful about them."""
    yield study.watermark()
    yield f"tasks: {', '.join(study.parameters.tasks)}; replicates: {study.parameters.seeds.replicates}"
    yield "data:"
    for name in study.parameters.tasks:
        yield from (f"  {line}" for line in _data(study, name))
    yield "runs, by table or figure (those that several share are counted with each):"
    for name, runs in (*((name, study.runs(name)) for name in ARTEFACTS), ("in all", study.all_runs())):
        unique = study.unique(runs)
        counts = Counter(spec.role for spec in unique)
        yield f"  {name:<9} {len(unique):>4} runs: " + ", ".join(f"{count} x {role}" for role, count in counts.items())
    yield f"they go to {study.store.root}, tables and figures to {study.figures}"
    found = list(doubts(study))
    yield f"doubtful: {len(found)}" if found else "the parameters are consistent"
    yield from (f"  {doubt}" for doubt in found)


def _data(study: Study, name: str) -> Iterator[str]:
    data, source, place = study.parameters.data, study.parameters.data.sources[name], _place(study, name)
    yield f"{name}: source {source.source}, {WHENCE[source.source]}"
    if source.source == "synthetic":
        yield f"  {source.examples:,} {source.modality} images of {data.pixels} px"
        return
    there = "" if place is None else ", which is there" if place.is_dir() else ", which is not there"
    yield f"  expected in {place or 'DATA=folder, which is not given'}{there}"
    if found := known(study, name):
        volume = math.prod(found) * data.pixels**2 / 1e9
        yield f"  {found[0]:,} images when whole; prepared at {data.pixels} px they take {volume:.2g} GB of disk"
    split = "your lists" if source.lists else source.split or ("official" if source.source == "medmnist" else "seeded")
    yield f"  split: {split}" + (split == "seeded") * f", {' / '.join(f'{share:.0%}' for share in data.fractions)}"


def _place(study: Study, name: str) -> Path | None:
    source = study.parameters.data.sources[name]
    if source.source == "medmnist":
        return (study.root or study.folder / "cache") / "medmnist"
    return None if study.root is None or source.source == "synthetic" else folder_of(source, study.root)


def doubts(study: Study) -> Iterator[str]:
    """What is doubtful about the parameters of a study, opened or not, one sentence each."""
    tasks = study.parameters.tasks
    yield from dict.fromkeys(doubt for name in tasks for doubt in _doubts_of(study.for_task(name), name))


def lacking(study: Study) -> Iterator[str]:
    """What is doubtful about an opened study as `reproduce` begins: its parameters, and too little free disk."""
    yield from doubts(study)
    runs = survey(study)
    more = disk_of(study, runs, study.workers())[1] - runs.loc[runs["done"], ["small", "weights"]].sum().sum()
    if more > (there := free(study.folder)):
        sizes = (tqdm.format_sizeof(count, "B") for count in (more, there))
        yield "the runs to make take up to {} more disk, and {} are free".format(*sizes)


def _doubts_of(study: Study, name: str) -> Iterator[str]:
    p, place, found = study.parameters, _place(study, name), known(study, name)
    source, epochs, batch = p.data.sources[name], p.training.epochs, p.training.batch_size
    if late := [milestone for milestone in p.training.milestones if milestone >= epochs]:
        yield f"training.milestones has {late}, but training ends after {epochs} epochs: these change nothing"
    if (start := p.distillation.averaging_start) == epochs - 1:
        yield f"distillation.averaging_start is {start} of {epochs} epochs: the average is of one epoch alone"
    if source.source not in ("synthetic", "medmnist") and (place is None or not place.is_dir()):
        yield f"{name}: no images at {place or 'DATA=, which is not given'}"
    for part, path in (split_lists(source, study.root) or {}).items() if source.lists else ():
        if not path.is_file():
            yield f"{name}: the list of the {part} part, {path}, is not there"
    core = core_share(p.subsets.count, p.subsets.overlap) if p.subsets.scheme == "pairwise" else p.subsets.overlap
    share = p.data.fractions[0] * (core + (1 - core) / p.subsets.count)  # of all images, in one subset (Section III-A)
    least = share * min(found[0], p.data.examples or math.inf) if found else math.inf
    if least < batch:
        yield f"{name}: a teacher's subset has about {least:.0f} images, fewer than training.batch_size {batch}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if not seconds >= 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86_400:,.0f} days"
