"""Operations in a configuration that Keras 3 writes to HDF5, which holds stock layers only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

from convfc.formats.keras.internals import SLICE
from convfc.formats.keras.upgrades.graphs import graphs

Config = dict[str, Any]


def leave_masks_to_keras(config: Config) -> bool:
    """Take masks that operations make out of a configuration, and the operations with them.

    Whoever calls a layer on a tensor with a mask gives it the mask, too, without a word. Keras
    writes such masks into a file like any other argument, and .h5 cannot hold the operations that
    make them.

    Only for models out of an .h5 file: but for slices, there are no other operations in them, and
    Keras will make the same masks when it loads the file.
    """
    changed = False
    for graph in graphs(config):
        stack = graph["layers"]
        makers = {layer["name"] for layer in stack if _is_operation(layer) and not is_slice(layer)}
        for layer in stack:
            for call in layer["inbound_nodes"]:
                given = call["kwargs"]
                for name in [name for name in given if makers.intersection(_sources(given[name]))]:
                    del given[name]
        graph["layers"] = [layer for layer in stack if layer["name"] not in makers]
        changed |= bool(makers)
    return changed


def name_slices(config: Config) -> bool:
    """Say where Keras finds a slice, which it leaves out of an .h5 and does not find without."""
    slices = [layer for graph in graphs(config) for layer in graph["layers"] if is_slice(layer)]
    for layer in slices:
        layer.update(SLICE)
    return bool(slices)


def is_slice(layer: Config) -> bool:
    """Whether it is a slice of a tensor, as Keras 3 has it."""
    return bool(layer["class_name"] == SLICE["class_name"])


def operations_in(config: Config) -> set[str]:
    """The classes of the operations in a configuration out of an .h5 file of Keras 3."""
    every = (layer for graph in graphs(config) for layer in graph["layers"])
    return {layer["class_name"] for layer in every if _is_operation(layer)}


def _is_operation(layer: Config) -> bool:
    # Some layers do not say whether they are trainable; some operations are called like layers.
    kind, given = layer["class_name"], layer["config"]
    is_stock = isinstance(getattr(layers, kind, None), type) and "dtype" in given
    return not is_stock and "trainable" not in given


def _sources(value: Any) -> Iterator[str]:
    """The names of the layers that an argument comes from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _sources(item)
