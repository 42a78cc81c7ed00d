"""Masks, which mark parts of a tensor as to be ignored: Keras makes them itself, as operations.

Whoever calls a layer on a tensor with a mask gives it the mask, too, without a word. Keras writes
such masks into a file like any other argument, and .h5 cannot hold the operations that make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

from convfc.keras_model.upgrades.graphs import graphs

Config = dict[str, Any]


def makes_masks(model: Any) -> bool:
    """Whether some layer marks parts of its output as to be ignored."""
    return any(
        isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False)
        for layer in model._flatten_layers()
    )


def leave_masks_to_keras(config: Config) -> bool:
    """Take masks that operations make out of a configuration, and the operations with them.

    Only for models out of an .h5 file: there are no other operations in them, and Keras will make
    the same masks when it loads the file.
    """
    changed = False
    for graph in graphs(config):
        made = {layer["name"] for layer in graph["layers"] if _is_operation(layer)}
        for layer in graph["layers"]:
            for call in layer["inbound_nodes"]:
                given = call["kwargs"]
                for name in [name for name in given if made.intersection(_sources(given[name]))]:
                    del given[name]
        graph["layers"] = [layer for layer in graph["layers"] if layer["name"] not in made]
        changed |= bool(made)
    return changed


def operations_in(config: Config) -> set[str]:
    """The classes of the operations in a configuration out of an .h5 file of Keras 3."""
    every = (layer for graph in graphs(config) for layer in graph["layers"])
    return {layer["class_name"] for layer in every if _is_operation(layer)}


def _is_operation(layer: Config) -> bool:
    return layer["class_name"] != "InputLayer" and "trainable" not in layer["config"]


def _sources(value: Any) -> Iterator[str]:
    """The names of the layers that an argument comes from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _sources(item)
