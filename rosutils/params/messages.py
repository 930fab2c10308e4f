"""What pydantic found wrong, as sentences for people: the key, the value, what is allowed."""

import difflib
from collections.abc import Mapping

from rosutils.params.sections import Parameters
from rosutils.params.sources import SOURCES


def unknown(name: str, allowed) -> str:
    """An unknown key, what may have been meant, and the keys that are allowed there."""
    near = difflib.get_close_matches(name.split(".")[-1][:100], list(allowed), n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"{name[:100]}: unknown key{hint}; allowed here: {', '.join(allowed)}"


def sentences(errors: list, depth: int = 3) -> list[str]:
    """One for each key: a key that may be one of two kinds has an error of each kind.

    `depth` is where the kind of a source stands in an error's place: 3 in Parameters (data.sources.lesion), 0 in a source.
    """
    found: dict[tuple, list[str]] = {}
    for error in errors:
        place = tuple(part for part in error["loc"] if part not in ("constrained-int", "literal['auto']"))
        inside = len(place) > depth and place[depth] in SOURCES and (depth == 0 or place[1] == "sources")
        own = place[depth] if inside else None
        place = place[:depth] + place[depth + 1 :] if inside else place
        found.setdefault(place, []).append(_sentence(error, ".".join(map(str, place)), own))
    return [
        first + "".join(" or " + other.split("is not allowed: ")[-1] for other in rest)
        for first, *rest in found.values()
    ]


def _sentence(error: Mapping, where: str, own: str | None) -> str:
    """What is wrong at a place, and in which kind of source."""
    kind, key = error["type"], str(error["loc"][-1]) if error["loc"] else ""
    if kind == "extra_forbidden":
        owners = [name for name, other in SOURCES.items() if own and key in other.model_fields]
        if owners:
            return f"{where}: {key} is a key of the source {' and '.join(owners)}, not of {own}"
        return unknown(where, SOURCES[own].model_fields if own else _fields_at(error["loc"][:-1]))
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


def _fields_at(location: tuple) -> list[str]:
    """The keys allowed in the section that a pydantic error location points to."""
    model = Parameters
    for part in location:
        inner = getattr(model.model_fields.get(part), "annotation", None)
        model = inner if hasattr(inner, "model_fields") else model
    return list(model.model_fields)
