"""The numbers that the paper printed, and the claims about them that were fixed in advance."""

import functools

import yaml

from rosutils.params import FOLDER


@functools.cache
def published() -> dict:
    """Everything the paper prints (Tables I to III, claims, Section IV-B) with notes on its contradictions; not to be changed."""
    return yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
