"""A profile walked through without a single image: what would be made, from which data, and whether it can work at all."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch

from rosutils import sweeps
from rosutils.artefacts import ARTEFACTS
from rosutils.data import Task
from rosutils.params import Source
from rosutils.sources import folder_of, split_lists
from rosutils.store import digest
from rosutils.study import Study


STAND_IN = 600  # examples of a task that stands in for the real one, in groups of one, two and three by turns
KNOWN = {"isic2019": (25_331, 3), "nih": (112_120, 1)}  # images of the whole set (Section IV-A), channels
WHENCE = {
    "synthetic": "drawn on the spot",
    "isic2019": "challenge.isic-archive.com/data, ISIC 2019: training images, ground truth and metadata",
    "nih": "nihcc.app.box.com/v/ChestXray-NIHCC: the twelve archives of images and Data_Entry_2017_v2020.csv",
    "medmnist": "fetched by `pip install medmnist`, or from its record on Zenodo by hand",
    "folder": "your own",
}


class Unopened(Study):
    """A study that opens no source: its tasks stand in for the real ones, and differ wherever those would."""

    def task(self, name: str) -> Task:
        """A stand-in with the real one's number of label kinds; its fingerprint is that of the parameters."""
        if name not in self._tasks:
            data, noise = self.parameters.data, self.parameters.noise
            several = data.sources[name].multilabel
            changed = noise.rate > 0 or noise.false_negatives or noise.false_positives
            decides = [
                data.sources[name].model_dump(), data.model_dump(exclude={"sources", "root"}),
                noise.model_dump() if changed else None, self.parameters.seeds.data,
            ]  # fmt: skip
            index = torch.arange(STAND_IN)
            groups = torch.arange(STAND_IN // 2).repeat_interleave(torch.tensor([1, 2, 3]).repeat(STAND_IN // 6))
            labels = torch.zeros(STAND_IN, 8) if several else torch.zeros(STAND_IN, dtype=torch.long)
            parts = {"train": index[:420], "validation": index[420:480], "test": index[480:]}
            self._tasks[name] = Task(
                name=name, images=None, labels=labels, clean_labels=labels, groups=groups, names=(), class_names=(),
                multilabel=several, split=parts, fingerprint=digest(decides), noise_rate=0.0,
            )  # fmt: skip
        return self._tasks[name]

    @cached_property
    def variants(self) -> dict[str, Study]:
        """The studies of the sweeps, unopened too."""
        return {name: Unopened(there, name) for name, there in sweeps.variants(self.parameters).items()}


def walk(study: Unopened) -> Iterator[str]:
    """What `reproduce` would do with these parameters, a line each, ending with what is doubtful about them."""
    p = study.parameters
    yield study.watermark()
    yield f"tasks: {', '.join(p.tasks)}; seeds of the students: {', '.join(map(str, p.seeds.students))}"
    yield "data:"
    for name in p.tasks:
        yield from (f"  {line}" for line in _data(study, name))
    yield "runs, by table or figure (those that several share are counted with each):"
    for artefact in ARTEFACTS:
        yield f"  {artefact:<9} {_counted(study, study.runs(artefact))}"
    yield f"in all, each once: {_counted(study, study.all_runs())}"
    yield f"they go to {study.store.root}, tables and figures to {study.figures}"
    doubts = list(_doubts(study))
    yield f"doubtful: {len(doubts)}" if doubts else "the parameters are consistent"
    yield from (f"  {doubt}" for doubt in doubts)


def _counted(study: Unopened, runs: list) -> str:
    unique = study.unique(runs)
    counts = Counter(spec.role for spec in unique)
    return f"{len(unique):>4} runs: " + ", ".join(f"{count} x {role}" for role, count in counts.items())


def _data(study: Unopened, name: str) -> Iterator[str]:
    data, source = study.parameters.data, study.parameters.data.sources[name]
    yield f"{name}: source {source.source}, {WHENCE[source.source]}"
    if source.source == "synthetic":
        yield f"  {source.examples:,} {source.modality} images of {data.pixels} px"
        return
    place = _place(study, source)
    yield f"  expected in {place or 'DATA=folder, which is not given'}" + (
        "" if place is None else ", which is there" if place.is_dir() else ", which is not there"
    )
    if source.source in KNOWN:
        images, channels = KNOWN[source.source]
        size = images * channels * data.pixels**2 / 1e9
        yield f"  {images:,} images when whole; prepared at {data.pixels} px they take {size:.2g} GB of disk"
    split = "your lists" if source.lists else source.split or ("official" if source.source == "medmnist" else "seeded")
    yield f"  split: {split}" + (
        f", {' / '.join(f'{share:.0%}' for share in data.fractions)}" if split == "seeded" else ""
    )


def _place(study: Unopened, source: Source) -> Path | None:
    if source.source == "medmnist":
        return (study.root or study.folder / "cache") / "medmnist"
    return None if study.root is None else folder_of(source, study.root)


def _doubts(study: Unopened) -> Iterator[str]:
    p = study.parameters
    late = [milestone for milestone in p.training.milestones if milestone >= p.training.epochs]
    if late:
        yield f"training.milestones has {late}, but training ends after {p.training.epochs} epochs: these change nothing"
    for name in p.tasks:
        source = p.data.sources[name]
        place = _place(study, source)
        if source.source not in ("synthetic", "medmnist") and (place is None or not place.is_dir()):
            yield f"{name}: no images at {place or 'DATA=, which is not given'}"
        for part, path in (split_lists(source, study.root) or {}).items() if source.lists else ():
            if not path.is_file():
                yield f"{name}: the list of the {part} part, {path}, is not there"
        images = source.examples or KNOWN.get(source.source, (None,))[0]
        least = images and min(images, p.data.examples or images) * p.data.fractions[0] * _share(p.subsets)
        if least and least < p.training.batch_size:
            yield f"{name}: a teacher's subset has about {least:.0f} images, fewer than training.batch_size {p.training.batch_size}"


def _share(subsets) -> float:
    """The share of the training part that a subset holds (Section III-A)."""
    return subsets.overlap + (1 - subsets.overlap) / subsets.count
