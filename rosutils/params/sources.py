"""The section `data` of a parameter file: where images come from and how they are split."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rosutils.params.base import Count, Section, Seed, Share


class Source(Section):
    """Where the images of one task come from, and how they are split (Section IV-A: seeded, by lesion or patient)."""

    source: Literal["synthetic", "isic2019", "nih", "medmnist", "folder"]
    modality: Literal["dermoscopy", "chest-film"] | None = None
    examples: Count | None = None
    seed: Seed = 0
    dataset: str | None = None  # of medmnist
    revision: Literal[2017, 2020] | None = None  # of nih's labels; the newest there is without it
    keep_unlabelled: bool = True
    split: Literal["seeded", "official", "chexnet"] | None = None  # medmnist: official without it, others: seeded
    lists: dict[Literal["train", "validation", "test"], str] | None = None
    # Of the source folder, a user's own images: the table and its columns, all within `path` of the data folder.
    path: str = "."
    table: str = "labels.csv"
    image: str = "image"
    label: str = "label"
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    group: str | None = None
    grey: bool = False

    @property
    def multilabel(self) -> bool:
        """Whether its images have several labels each, known before they are opened."""
        several = {"nih": True, "folder": self.labels is not None, "synthetic": self.modality == "chest-film"}
        return several.get(self.source, (self.dataset or "").startswith("chestmnist"))

    @model_validator(mode="after")
    def _complete(self) -> "Source":
        if self.source == "synthetic" and (self.modality is None or self.examples is None):
            raise ValueError("source synthetic needs modality (dermoscopy or chest-film) and examples (a number)")
        if self.source == "medmnist" and self.dataset is None:
            raise ValueError("source medmnist needs dataset (such as dermamnist or chestmnist)")
        if self.lists is not None and set(self.lists) != {"train", "validation", "test"}:
            raise ValueError("lists needs all three of train, validation, test (paths of text files of image names)")
        return self

    @model_validator(mode="after")
    def _options_of_this_source(self) -> "Source":
        own = ("path", "table", "image", "label", "labels", "group", "grey")
        owners = {"dataset": "medmnist", "revision": "nih", **dict.fromkeys(own, "folder")}
        for key, owner in owners.items():  # every key is there again once parameters have gone to a worker and back
            if self.source != owner and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is a key of the source {owner}, not of {self.source}")
        splits = {"nih": ("official", "chexnet"), "medmnist": ("official",)}.get(self.source, ())
        if self.split not in (None, "seeded", *splits):
            raise ValueError(
                f"split {self.split} does not exist for the source {self.source}: allowed are "
                f"{', '.join(('seeded', *splits))}, or your own lists"
            )
        if self.lists is not None and self.split is not None:
            raise ValueError("split and lists exclude each other: lists name the parts themselves")
        return self


class Data(Section):
    """Section IV-A: image size, where the raw folders are, and the 70/10/20 split by lesion or patient."""

    pixels: Annotated[int, Field(ge=16, le=1024)]
    root: str | None = None
    allow_missing: bool = False  # accept a partial download
    skip_bad: bool = False  # leave out files that cannot be read
    examples: Count | None = None  # a seeded sample of whole lesions or patients with about this many images
    fractions: Annotated[list[Share], Field(min_length=3, max_length=3)] = [0.7, 0.1, 0.2]
    sources: Annotated[dict[str, Source], Field(min_length=1)]

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> "Data":
        if abs(sum(self.fractions) - 1) > 1e-9 or min(self.fractions) <= 0:
            raise ValueError(f"fractions {self.fractions} (train, validation, test) must be positive and sum to 1")
        return self
