"""What every section of a parameter file is built from."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Few = Annotated[int, Field(ge=1, le=1000)]  # of what is trained or repeated
Repeats = Annotated[int, Field(ge=1, le=100)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]  # an epoch's order is seeded by 100,003 times a seed plus its number
# Of files and folders: a profile, a task.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
Seed = Annotated[int, Field(ge=0, le=1_000_000_000)]  # seeds are multiplied, and torch's are 64 bits


def _place(text: str) -> str:
    if not text or "\0" in text or len(text) > 1000 or max(len(part.encode()) for part in text.split("/")) > 255:
        raise ValueError(f"{text[:40]!r} is no path of a file or folder; give one, or leave the key out")
    return text


Place = Annotated[str, AfterValidator(_place)]


def _distinct(values: list[Any]) -> list[Any]:
    """Tables and files name points as they are printed: two that look alike would be one, or stop a study at its end."""
    shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    if twice := sorted({text for text in shown if shown.count(text) > 1}):
        raise ValueError(f"it holds {twice[0]} twice, as it is printed; keep one")
    return values


Distinct = AfterValidator(_distinct)


class Section(BaseModel):
    """A section of a parameter file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
