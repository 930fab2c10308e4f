"""The sections of a parameter file, validated: an unknown key, a wrong type or a value out of range is an error that names it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rosutils import InputError
from rosutils.params.messages import sentences, unknown
from rosutils.params.sections import Noise, Parameters
from rosutils.params.sources import Source


__all__ = ["FOLDER", "ROOT", "SECTIONS", "Noise", "Parameters", "Source", "changed", "load", "profiles", "source"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "params"
SECTIONS = tuple(Parameters.model_fields)


def load(profile: str | Path, **sections: Any) -> Parameters:
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


def source(content: Mapping[str, Any]) -> Source:
    """One entry of data.sources on its own; raises InputError as `load` does."""
    try:
        return Source.model_validate(content)
    except ValidationError as error:
        raise InputError("; ".join(sentences(error.errors(), Source))) from None


def _validated(content: Mapping) -> Parameters:
    try:
        return Parameters.model_validate(content)
    except ValidationError as error:
        raise InputError("; ".join(sentences(error.errors()))) from None


def _read(profile: str | Path, complete: bool) -> dict:
    path = Path(profile)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{profile}.yaml"
    if not path.is_file():
        if complete and Path(profile).suffix == "":
            return {"profile": str(profile)}
        raise InputError(
            f"profile '{profile}': no file {path.name} found; allowed: {', '.join(profiles())}, or the path of a YAML file"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold sections ({', '.join(SECTIONS)}), found {type(content).__name__}")
    return content


def profiles() -> list[str]:
    """The names of the profiles that come with the kit."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "published")


def _lay_over(base: Mapping, changes: Mapping) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _lay_over(merged[key], value) if both else value
    return merged
