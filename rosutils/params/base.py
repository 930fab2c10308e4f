"""What every section of a parameter file is built from."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
# Of files and folders: a profile, a task.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$")]
Seed = Annotated[int, Field(ge=0, le=1_000_000_000)]  # seeds are multiplied, and torch's are 64 bits


def _place(text: str) -> str:
    if not text or "\0" in text or len(text) > 1000 or max(len(part.encode()) for part in text.split("/")) > 255:
        raise ValueError(f"{text[:40]!r} is no path of a file or folder; give one, or leave the key out")
    return text


Place = Annotated[str, AfterValidator(_place)]


class Section(BaseModel):
    """A section of a parameter file: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
