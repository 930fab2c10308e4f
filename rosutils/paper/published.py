"""The numbers that the paper printed, and the claims about them that were fixed in advance."""

import copy
import functools

import yaml

from rosutils.params import FOLDER


def published() -> dict:
    """Everything the paper prints (Tables I to III, claims, Section IV-B) with notes on its contradictions."""
    return copy.deepcopy(_read())


@functools.cache
def _read() -> dict:
    return yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
