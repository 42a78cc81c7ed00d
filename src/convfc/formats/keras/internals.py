"""Every private name of Keras that convfc uses: nobody else names one.

Each stands behind a function or a constant that says what it is and since when Keras has it, as
the sources of 3.0, 3.6, 3.12 to 3.15 show. `tests/test_keras_internals.py` holds both.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Graph = Any
"""A Functional model; see `sites.graph_of`."""
Tensor = Any
"""A `keras.KerasTensor`."""
Call = Any
"""A node of Keras: one call of an operation.

All read what it has: `operation`, `arguments`, `input_tensors`, `outputs`, `is_input`; since 3.0.
"""

# Functions, as "module:name", names inside a class with dots.

TEMPORARY_FOLDER = "keras.src.saving.saving_lib:get_temp_dir"
"""Where Keras unpacks the weights of a zip, and makes those of one; since 3.0."""
ADD_WEIGHT = "keras:Layer.add_weight"
"""Makes a weight of a layer, and draws its numbers; public, since 3.0."""
ADD_VARIABLE = "keras:Metric.add_variable"
"""The same of a metric; public, since 3.0."""
READ_WEIGHTS = "keras.src.legacy.saving.legacy_h5_format:load_subset_weights_from_hdf5_group"
"""Reads the weights of one layer from an HDF5 model; since 3.0."""
TO_NUMPY = "keras.src.backend:convert_to_numpy"
"""An array of a variable, for what is saved; since 3.0."""

REPLACED = (TEMPORARY_FOLDER, ADD_WEIGHT, ADD_VARIABLE, READ_WEIGHTS, TO_NUMPY)
"""Functions in whose place convfc puts its own while a model is loaded or saved: `memory`."""

RELIED_ON = (
    "keras.src.legacy.saving.legacy_h5_format:load_attributes_from_hdf5_group",
    "keras.src.legacy.saving.legacy_h5_format:load_model_from_hdf5",
    "keras.src.legacy.saving.legacy_h5_format:load_optimizer_weights_from_hdf5_group",
    "keras.src.saving.saving_lib:_load_model_from_fileobj",
    "keras.src.saving.saving_lib:H5IOStore.__getitem__",
    "keras.src.saving.saving_lib:safe_get_h5_dataset",
    "keras.src.saving.saving_lib:safe_get_h5_group",
)
"""Functions of which convfc calls one, or needs that they refuse what they refuse today."""


def find_module(name: str) -> ModuleType | None:
    """A module of Keras that is not public, or ``None`` where it has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def find_function(name: str) -> tuple[Any, str] | None:
    """What holds a function, a module or a class, and its name there; ``None``: Keras lacks it.

    Args:
        name: one of the above.
    """
    module, _, path = name.partition(":")
    *outer, last = path.split(".")
    holder: Any = find_module(module)
    for inner in outer:
        holder = getattr(holder, inner, None)
    return (holder, last) if hasattr(holder, last) else None


def weight_names(group: Any) -> list[str]:
    """The paths of a layer's weights in its group of an HDF5 model; since 3.0."""
    module: Any = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    names: list[str] = module.load_attributes_from_hdf5_group(group, "weight_names")
    return names


def guarded_dataset(group: Any, name: str) -> Any:
    """Keras' own way to a dataset of HDF5; since 3.15.

    It follows no link and refuses what is elsewhere, or far larger than the file.
    """
    module: Any = importlib.import_module("keras.src.saving.saving_lib")
    return module.safe_get_h5_dataset(group, name)


# Layers, graphs and their tensors.


def flat_layers(layer: Layer) -> list[Layer]:
    """A layer and all layers in it, at any depth; `Layer._flatten_layers`, since 3.0."""
    found: list[Layer] = layer._flatten_layers()
    return found


def inner_graph(sequential: Layer) -> Graph | None:
    """The Functional model that a Sequential builds of its stack, once it is built; since 3.0."""
    return sequential._functional


def has_calls(model: Layer) -> bool:
    """Whether a model keeps the calls that it is made of, as a Functional one does; since 3.0."""
    return hasattr(model, "_nodes_by_depth")


def calls_of(graph: Graph) -> list[Call]:
    """All calls that make up a Functional model, in an order in which they can be run.

    `Function._nodes_by_depth` has them by how far from the outputs they are; since 3.0.
    """
    by_depth = graph._nodes_by_depth
    return [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth]]


def calls_to(operation: Layer) -> list[Call]:
    """All calls of an operation, in any graph; `Operation._inbound_nodes`, since 3.0."""
    found: list[Call] = operation._inbound_nodes
    return found


@contextmanager
def calls_forgotten(graph: Graph) -> Iterator[None]:
    """Operations of a graph forget the calls that others make of them meanwhile.

    Else they hold all that is in those other graphs; `Operation._outbound_nodes`, since 3.0.
    """
    every = [x for one in graph.operations for x in (one._inbound_nodes, one._outbound_nodes)]
    counts = list(map(len, every))
    try:
        yield
    finally:
        for calls, count in zip(every, counts, strict=True):
            del calls[count:]


def source(tensor: Tensor) -> tuple[Layer, int, int]:
    """What a tensor comes from; `KerasTensor._keras_history`, since 3.0.

    Returns:
        The operation, the index of the call in `calls_to`, that of the tensor in its outputs.
    """
    operation, call, output = tensor._keras_history
    return operation, call, output


def mask_on(tensor: Tensor) -> Tensor | None:
    """The mask that goes along with a tensor, if any; `_keras_mask`, since 3.0."""
    return getattr(tensor, "_keras_mask", None)


def run_through(graph: Graph, inputs: Any, operation_fn: Any) -> Any:
    """Outputs of a Functional model on tensors of another graph, in its own nested structure.

    `Function._run_through_graph`, since 3.0.

    Args:
        graph: the model.
        inputs: tensors, in the order of its own.
        operation_fn: for an operation, what is called in its place.
    """
    return graph._run_through_graph(inputs, operation_fn=operation_fn)


# What Keras keeps for a process or a thread.

RANDOM = "keras.src.random.seed_generator:python_random"
"""The module `random`, of which Keras draws seeds for layers without one; since 3.0."""

NAME_COUNTS, GLOBAL_SEED = "object_name_uids", "global_seed_generator"
"""Keys of `thread_state`: how many objects of each name there are, and where seeds come from."""


def thread_state() -> dict[str, Any]:
    """What Keras knows in this thread beside its objects; since 3.0. Its own, not a copy."""
    module = find_module("keras.src.backend.common.global_state")
    tracker = getattr(module, "GLOBAL_STATE_TRACKER", None)
    return {} if tracker is None else vars(tracker)


def move_home(old: str, new: str) -> None:
    """Have Keras keep its downloads elsewhere: `_KERAS_DIR`, decided at its import, since 3.0.

    Args:
        old: where it keeps them; if it does not, nothing is done.
        new: another folder.
    """
    settings: Any = find_module("keras.src.backend.config")
    if getattr(settings, "_KERAS_DIR", None) == old:
        settings._KERAS_DIR = new


# What Keras writes into files.

MODEL_MODULES = {
    "Functional": "keras.src.models.functional",
    "Sequential": "keras.src.models.sequential",
}
"""The modules of models, by their class; since 3.0."""

APPLICATION_LAYERS = dict.fromkeys(
    ("LayerScale", "StochasticDepth"), "keras.src.applications.convnext"
)
"""Layers of `keras.applications` that are not public: their modules, by their class; since 3.0."""

_NUMPY = (
    *("Absolute", "Add", "Ceil", "Clip", "Concatenate", "Cos", "Cumsum", "Equal", "Exp"),
    *("ExpandDims", "Flip", "Floor", "FloorDivide", "Greater", "GreaterEqual", "Less"),
    *("LessEqual", "Log", "LogicalAnd", "LogicalNot", "LogicalOr", "Matmul", "Max", "Maximum"),
    *("Mean", "Min", "Minimum", "Mod", "Multiply", "Negative", "NotEqual", "OnesLike", "Pad"),
    *("Power", "Prod", "Roll", "Round", "Sign", "Sin", "Split", "Sqrt", "Square", "Squeeze"),
    *("Stack", "Std", "Subtract", "Sum", "Take", "Tile", "TrueDivide", "Var", "Where"),
    "ZerosLike",
)
OPERATIONS = {
    **dict.fromkeys(_NUMPY, "keras.src.ops.numpy"),
    **dict.fromkeys(
        ("DepthToSpace", "Gelu", "Normalize", "Softmax", "SpaceToDepth"), "keras.src.ops.nn"
    ),
    **dict.fromkeys(("Cast", "StopGradient", "Unstack"), "keras.src.ops.core"),
    "GetItem": "keras.src.ops.numpy",
    "Norm": "keras.src.ops.linalg",
    **dict.fromkeys(("Logsumexp", "Rsqrt"), "keras.src.ops.math"),
}
"""The modules of operations, by their class; those with blocks since 3.15, the oldest since 3.0."""

SLICE = {
    "class_name": "GetItem",
    "module": "keras.src.ops.numpy",
    "registered_name": "GetItem",
}
"""What Keras 3 calls a slice; without the module, which it leaves out of HDF5, it finds none."""
