"""What the store keeps of a source beside its images: labels, groups and names, from which all that was measured is shown."""

from collections.abc import Mapping

import torch

from rosutils.data.sources import Examples, Unseen
from rosutils.store import Store, digest


WORDS = ("names", "class_names", "multilabel", "fingerprint", "card")


def key(recipe: Mapping) -> str:
    """The key of a source's examples in the store; the recipe is its section and how its images are prepared."""
    return f"examples-{recipe['source']['source']}-{digest(recipe)}"


def put(store: Store, recipe: Mapping, examples: Examples) -> str:
    """Keep all but the images of a source's examples; returns their key."""
    record = {name: getattr(examples, name) for name in WORDS} | {"shape": examples.images.shape}
    arrays = {name: torch.from_numpy(getattr(examples, name).copy()) for name in ("labels", "groups")}
    return store.put(key(recipe), recipe=recipe, record=record, tensors={"examples": arrays}).key


def get(store: Store, recipe: Mapping) -> Examples | None:
    """The examples without their images, which raise NoImages where one is looked at; None where the store has none."""
    if (run := store.get(key(recipe))) is None:
        return None
    record, arrays = run.about()["record"], run.tensors("examples")
    words = {name: tuple(record[name]) if name.endswith("names") else record[name] for name in WORDS}
    return Examples(Unseen(tuple(record["shape"])), **{name: each.numpy() for name, each in arrays.items()}, **words)
