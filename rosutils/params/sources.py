"""What sections are built from, and the section `data`: where images come from and how they are split."""

from typing import Annotated, Literal, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _place(text: str) -> str:
    if not text or "\0" in text or len(text) > 1000 or max(len(part.encode()) for part in text.split("/")) > 255:
        raise ValueError(f"{text[:40]!r} is no path of a file or folder; give one, or leave the key out")
    return text


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, le=1_000_000_000)]  # seeds are multiplied, and torch's are 64 bits
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]  # of files and folders: a profile, a task
Place = Annotated[str, AfterValidator(_place)]
SPLITS = {"nih": ("official", "chexnet"), "medmnist": ("official",)}  # besides seeded
PARTS = ("train", "validation", "test")


class Section(BaseModel):
    """A section of a parameter file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Source(Section):
    """Where the images of one task come from, and how they are split (Section IV-A: seeded, by lesion or patient)."""

    source: str
    keep_unlabelled: bool = True
    split: str | None = None  # medmnist: official without it, others: seeded
    lists: dict[Literal[PARTS], Place] | None = None

    @property
    def multilabel(self) -> bool:
        """Whether its images have several labels each, known before they are opened."""
        return False

    @model_validator(mode="after")
    def _split_exists(self) -> "Source":
        if self.lists is not None and set(self.lists) != set(PARTS):
            raise ValueError(f"lists needs all three of {', '.join(PARTS)} (paths of text files of image names)")
        allowed = ("seeded", *SPLITS.get(self.source, ()))
        if self.split not in (None, *allowed):
            what = f"split {self.split} does not exist for the source {self.source}"
            raise ValueError(f"{what}: allowed are {', '.join(allowed)}, or your own lists")
        if self.lists is not None and self.split is not None:
            raise ValueError("split and lists exclude each other: lists name the parts themselves")
        return self


class Synthetic(Source):
    """Images drawn on the spot."""

    source: Literal["synthetic"]
    modality: Literal["dermoscopy", "chest-film"]
    examples: Annotated[int, Field(ge=1, le=1_000_000)]
    seed: Seed = 0
    multilabel = property(lambda self: self.modality == "chest-film")


class Isic2019(Source):
    """The folder isic2019/ in the challenge's layout."""

    source: Literal["isic2019"]


class Nih(Source):
    """The folder nih/ in the publisher's layout."""

    source: Literal["nih"]
    revision: Literal[2017, 2020] | None = None  # of the labels; the newest there is without it
    multilabel = property(lambda self: True)


class Medmnist(Source):
    """A set of MedMNIST."""

    source: Literal["medmnist"]
    dataset: Name  # such as dermamnist or chestmnist
    multilabel = property(lambda self: self.dataset.startswith("chestmnist"))


class Folder(Source):
    """A user's own images: the table and its columns, all within `path` of the data folder."""

    source: Literal["folder"]
    path: Place = "."
    table: Place = "labels.csv"
    image: str = "image"
    label: str = "label"
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    group: str | None = None
    grey: bool = False
    one_hot: bool = False  # of the columns `labels` exactly one is 1: they are the classes of one label
    window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None  # 16-bit greys for black and white
    multilabel = property(lambda self: self.labels is not None and not self.one_hot)

    @model_validator(mode="after")
    def _options_agree(self) -> "Folder":
        if self.one_hot and self.labels is None:
            raise ValueError("one_hot is about the columns labels, which are not given")
        if self.labels is not None and self.label != "label":
            what = f"label ({self.label}) and labels exclude each other"
            raise ValueError(f"{what}: one class an image, or several labels")
        if self.window and self.window[0] >= self.window[1]:
            raise ValueError(f"window is {self.window}; the first grey (black) must be below the second (white)")
        return self


SOURCES = {"synthetic": Synthetic, "isic2019": Isic2019, "nih": Nih, "medmnist": Medmnist, "folder": Folder}
AnySource = Annotated[Union[*SOURCES.values()], Field(discriminator="source")]


class Data(Section):
    """Section IV-A: image size, where the raw folders are, and the 70/10/20 split by lesion or patient."""

    pixels: Annotated[int, Field(ge=16, le=1024)]
    root: Place | None = None
    allow_missing: bool = False  # accept a partial download
    skip_bad: bool = False  # leave out files that cannot be read
    examples: Count | None = None  # a seeded sample of whole lesions or patients with about this many images
    fractions: Annotated[list[Share], Field(min_length=3, max_length=3)] = [0.7, 0.1, 0.2]
    sources: Annotated[dict[str, AnySource], Field(min_length=1)]

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> "Data":
        if abs(sum(self.fractions) - 1) > 1e-9 or min(self.fractions) <= 0:
            raise ValueError(f"fractions {self.fractions} (train, validation, test) must be positive and sum to 1")
        return self
