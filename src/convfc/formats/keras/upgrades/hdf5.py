"""Operations in a configuration that Keras 3 writes to HDF5, without saying where they are."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from keras import layers

from convfc.formats.keras.internals import APPLICATION_LAYERS, OPERATIONS
from convfc.formats.keras.upgrades.graphs import graphs

Config = dict[str, Any]


def leave_masks_to_keras(config: Config, own: Set[str]) -> bool:
    """Take masks that operations make out of a configuration, and the operations with them.

    Whoever calls a layer on a tensor with a mask gives it the mask, too, without a word. Keras
    writes such masks into a file like any other argument, and will make the same when it loads
    the file.

    Args:
        config: of a model out of an .h5 file.
        own: the operations that stood in that file. The others are Keras' own, for masks.
    """
    changed = False
    for graph in graphs(config):
        stack = graph["layers"]
        makers = {layer["name"] for layer in stack if _is_operation(layer)} - own
        for layer in stack:
            for call in layer["inbound_nodes"]:
                given = call["kwargs"]
                for name in [name for name in given if makers.intersection(_sources(given[name]))]:
                    del given[name]
        graph["layers"] = [layer for layer in stack if layer["name"] not in makers]
        changed |= bool(makers)
    return changed


def name_modules(config: Config) -> bool:
    """Say where Keras finds an operation, or a layer that is not public.

    It leaves that out of an .h5, and does not find them without.
    """
    changed = False
    for layer in (layer for graph in graphs(config) for layer in graph["layers"]):
        kind = layer["class_name"]
        module = OPERATIONS.get(kind) if _is_operation(layer) else APPLICATION_LAYERS.get(kind)
        if module is not None:
            layer.update(module=module, registered_name=kind)
            changed = True
    return changed


def own_operations(config: Config) -> frozenset[str]:
    """The names of all operations in a configuration."""
    every = (layer for graph in graphs(config) for layer in graph["layers"])
    return frozenset(layer["name"] for layer in every if _is_operation(layer))


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
