"""What pydantic found wrong, as sentences for people: the key, the value, what is allowed."""

import difflib
from collections.abc import Mapping

from pydantic import BaseModel

from rosutils.params.sections import Parameters
from rosutils.params.sources import Data, Source


def unknown(name: str, allowed) -> str:
    """An unknown key, what may have been meant, and the keys that are allowed there."""
    near = difflib.get_close_matches(name.split(".")[-1], list(allowed), n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"{name}: unknown key{hint}; allowed here: {', '.join(allowed)}"


def sentences(errors: list, model: type[BaseModel] = Parameters) -> list[str]:
    """One for each key of a model: a key that may be one of two kinds has an error of each kind."""
    sentences: dict[tuple, list[str]] = {}
    for error in errors:
        place = tuple(part for part in error["loc"] if part not in ("constrained-int", "literal['auto']"))
        sentences.setdefault(place, []).append(_sentence(error, ".".join(map(str, place)), model))
    return [
        first + "".join(" or " + other.split("is not allowed: ")[-1] for other in rest)
        for first, *rest in sentences.values()
    ]


def _sentence(error: Mapping, where: str, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        return unknown(where, _fields_at(error["loc"][:-1], model))
    if error["type"] == "missing":
        return f"{where}: this key is missing and has no default"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    if error["type"] == "float_type" and isinstance(error["input"], str):
        message += " (YAML reads 1e-4 as text: write 1.0e-4)"
    return f"{where}: {error['input']!r} is not allowed: {message}"


def _fields_at(location: tuple, model: type[BaseModel]) -> list[str]:
    """The keys allowed in the section of a model that a pydantic error location points to."""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            if issubclass(model, Data):
                model = Source
            continue
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)
