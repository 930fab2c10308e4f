"""The sections of a parameter file, validated: an unknown key, a wrong type or a value out of range is an error that names it."""

import ast
import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rosutils import InputError
from rosutils.params.messages import sentences, unknown
from rosutils.params.reading import parse
from rosutils.params.sections import Noise, Parameters
from rosutils.params.sources import AnySource, Source


__all__ = [
    "FOLDER", "ROOT", "SECTIONS", "Noise", "Parameters", "Source", "changed", "flat", "label", "load", "parse", "profiles",
    "sections_in", "source",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "params"
SECTIONS = tuple(name for name in Parameters.model_fields if name != "profile")
LONGEST_LABEL = 80  # of a folder's name


def load(profile: str | Path, /, **sections: Any) -> Parameters:
    """The parameters of a profile (a name in params/ or a YAML file) with sections laid over them.

    Raises InputError naming the key, the value and what is allowed.
    """
    base = _read(profile, complete="data" in sections and "training" in sections)
    for name in sections:
        if name not in SECTIONS:
            raise InputError(unknown(name, SECTIONS))
    return _validated(_lay_over(base, {k: v for k, v in sections.items() if v not in ({}, [], None)}))


def changed(parameters: Parameters, sections: Mapping[str, Any]) -> Parameters:
    """These parameters with sections laid over them; raises InputError as `load` does."""
    return _validated(_lay_over(parameters.model_dump(), sections))


def sections_in(names: Mapping[str, Any]) -> dict[str, Any]:
    """The sections among a notebook's names; raises InputError for a table or list whose name is nearly that of one.

    Papermill binds whatever it is given, also what nobody reads. Sections are dicts or lists, so modules of the same name
    do not count.
    """
    for name in _given_by_papermill(names.get("In", [])) - {"profile", *SECTIONS}:
        what = unknown(name, ("profile", *SECTIONS))
        raise InputError(f"{what}; a key within a section is given as {{section: {{key: value}}}}")
    given = {n: value for n, value in names.items() if isinstance(value, (dict, list)) and not n.startswith("_")}
    for name in given.keys() - set(SECTIONS):
        if difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.8):
            raise InputError(unknown(name, SECTIONS))
    return {name: value for name, value in given.items() if name in SECTIONS}


def _given_by_papermill(cells: Sequence[str]) -> set[str]:
    """The names that papermill put into a notebook, from the sources of its executed cells: it binds any, and says nothing."""
    injected = [ast.parse(cell) for cell in cells if cell.startswith("# Parameters")]
    assigned = [node for tree in injected for node in tree.body if isinstance(node, ast.Assign)]
    return {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def label(profile: str | Path, parameters: Parameters) -> str:
    """The profile's name with what was laid over its file, such as demo+alpha0.5; where it runs and from where is no part of it.

    A person's file that has the name of one of the kit's says what it changes there, and does not write into its folders.
    """
    known = parameters.profile in profiles()
    base = load(parameters.profile if known else profile) if known or path(profile).is_file() else parameters
    own, ours = (flat(each.model_dump(exclude={"engine": True, "data": {"root"}})) for each in (base, parameters))
    changes = [f"{key.split('.')[-1]}{_short(value)}" for key, value in ours.items() if own.get(key) != value]
    changes += [f"no-{key.split('.')[-1]}" for key in own.keys() - ours.keys()]
    named = "+".join([parameters.profile, *changes])
    if len(named) <= LONGEST_LABEL:
        return named
    return f"{parameters.profile}+{hashlib.sha256(named.encode()).hexdigest()[:8]}"


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^A-Za-z0-9.,-]+", "-", text)


def flat(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """The values of nested sections by their whole keys, such as training.epochs."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def source(content: Mapping[str, Any]) -> Source:
    """One entry of data.sources on its own; raises InputError as `load` does."""
    return _validated(content, AnySource, depth=0)


def _validated(content: Mapping, kind: Any = Parameters, depth: int = 3) -> Any:
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise InputError("; ".join(sentences(error.errors(), depth))) from None


def path(profile: str | Path) -> Path:
    """The file of a profile, by its name or its path."""
    return Path(profile) if Path(profile).suffix in (".yaml", ".yml") else FOLDER / f"{profile}.yaml"


def _read(profile: str | Path, complete: bool) -> dict:
    file = path(profile)
    if not file.is_file():
        if complete and Path(profile).suffix == "":
            return {"profile": str(profile)}
        what = f"profile '{profile}': no file {file.name} found"
        raise InputError(f"{what}; allowed: {', '.join(profiles())}, or the path of a YAML file")
    content = parse(file.read_bytes(), file.name)
    if not isinstance(content, dict):
        raise InputError(f"{file.name} must hold sections ({', '.join(SECTIONS)}), found {type(content).__name__}")
    return content


def profiles() -> list[str]:
    """The names of the profiles that come with the kit."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "published")


def _lay_over(base: Mapping, changes: Mapping) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        # another kind of source has other keys
        both = both and value.get("source") in (None, merged[key].get("source"))
        merged[key] = _lay_over(merged[key], value) if both else value
    return merged
