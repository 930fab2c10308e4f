"""What pydantic found wrong, as sentences for people: the key, the value, what is allowed."""

import difflib
from collections.abc import Mapping

from pydantic import BaseModel

from rosutils.params.sections import Parameters
from rosutils.params.sources import SOURCES, Data, Source


def unknown(name: str, allowed) -> str:
    """An unknown key, what may have been meant, and the keys that are allowed there."""
    near = difflib.get_close_matches(name.split(".")[-1][:100], list(allowed), n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"{name[:100]}: unknown key{hint}; allowed here: {', '.join(allowed)}"


def sentences(errors: list, model: type[BaseModel] = Parameters) -> list[str]:
    """One for each key of a model: a key that may be one of two kinds has an error of each kind."""
    sentences: dict[tuple, list[str]] = {}
    for error in errors:
        place = tuple(part for part in error["loc"] if part not in ("constrained-int", "literal['auto']"))
        source, place = _source_of(place, model)
        sentences.setdefault(place, []).append(_sentence(error, ".".join(map(str, place)), source, model))
    return [
        first + "".join(" or " + other.split("is not allowed: ")[-1] for other in rest)
        for first, *rest in sentences.values()
    ]


def _source_of(place: tuple, model: type[BaseModel]) -> tuple[type[Source] | None, tuple]:
    """The kind of source that an error is about, and its place without that kind's name, which pydantic puts there."""
    at = {Parameters: 3, Data: 2}.get(model, 0)
    inside = at == 0 or "sources" in place[: at - 1]
    if inside and len(place) > at and place[at] in SOURCES:
        return SOURCES[place[at]], place[:at] + place[at + 1 :]
    return None, place


def _sentence(error: Mapping, where: str, source: type[Source] | None, model: type[BaseModel]) -> str:
    kind, key = error["type"], str(error["loc"][-1]) if error["loc"] else ""
    own = next((name for name, other in SOURCES.items() if other is source), None)
    if kind == "extra_forbidden":
        owners = [name for name, other in SOURCES.items() if source and key in other.model_fields]
        if owners:
            return f"{where}: {key} is a key of the source {' and '.join(owners)}, not of {own}"
        return unknown(where, source.model_fields if source else _fields_at(error["loc"][:-1], model))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        found = repr(error["input"].get("source")) if isinstance(error["input"], Mapping) else repr(error["input"])
        return f"{where + '.' if where else ''}source: {found} is not allowed: choose one of {', '.join(SOURCES)}"
    of = f" (source {own})" if own else ""
    if kind == "missing":
        return f"{where}{of}: this key is missing and has no default"
    message = error["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{where}: {message}" if where else message
    if kind == "string_pattern_mismatch":
        message = "up to 80 letters, digits and . _ + -, the first a letter or a digit: it names files and folders"
    if kind == "float_type" and isinstance(error["input"], str):
        message += " (YAML reads 1e-4 and 1e4 as text: write 1.0e-4, 1.0e+4)"
    found = repr(error["input"])
    return f"{where}{of}: {found[:200]}{'...' * (len(found) > 200)} is not allowed: {message}"


def _fields_at(location: tuple, model: type[BaseModel]) -> list[str]:
    """The keys allowed in the section of a model that a pydantic error location points to."""
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return list(model.model_fields)
