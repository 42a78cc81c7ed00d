"""Private names of Keras stand in one file, and are there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

from convfc.formats.keras import internals

ROOM = Path(internals.__file__).parent
FILES = sorted(set(ROOM.rglob("*.py")) - {Path(internals.__file__)})

GETTERS = ("getattr", "hasattr", "setattr")
PYTHON = {("os", "_exit")}
"""What has an underscore and is public."""


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What is read of what, as `x._name` or `getattr(x, "_name")`, where it begins with one `_`."""
    for node in ast.walk(tree):
        found: ast.expr | None = None
        if isinstance(node, ast.Attribute):
            found, name = node.value, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in GETTERS:
            match node.args[:2]:
                case [value, ast.Constant(value=str(name))]:
                    found = value
        if found is not None and name.startswith("_") and not name.startswith("__"):
            yield ast.unparse(found), name


def own_names(tree: ast.AST) -> set[str]:
    """What a file itself defines, or sets on `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


def modules(tree: ast.AST) -> Iterator[str]:
    """What is imported, and every text: modules are imported by their names, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}."
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


PRIVATE = {name for _, name in attributes(ast.parse(Path(internals.__file__).read_text()))}
"""The attributes of Keras' objects that `internals` knows."""


def foreign(text: str, own: set[str]) -> list[str]:
    """The private names of others in a file, given those that are convfc's own."""
    tree = ast.parse(text)
    read = [
        f"{what}.{name}"
        for what, name in attributes(tree)
        if (name in PRIVATE or name not in own) and (what, name) not in PYTHON
    ]
    inner = ("keras.src", "keras._", "tensorflow.python")
    return read + [name for name in modules(tree) if any(part in name for part in inner)]


OWN = set[str]().union(*(own_names(ast.parse(path.read_text())) for path in FILES))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOM)))
def test_private_names_of_keras_stand_in_one_file(path: Path) -> None:
    assert foreign(path.read_text(), OWN) == []


def test_none_of_them_is_a_name_of_convfc() -> None:
    assert {"_functional", "_inbound_nodes", "_keras_history", "_nodes_by_depth"} <= PRIVATE
    assert not PRIVATE & OWN


@pytest.mark.parametrize(
    "line",
    [
        "layer._flatten_layers()",
        "self._model._nodes_by_depth",
        "getattr(x, '_keras_mask', None)",
        "layer._new_in_some_version = 1",
        "from keras.src.saving import saving_lib",
        "import keras.src.backend as backend",
        "find_module('keras.src.saving.saving_lib')",
        "from tensorflow.python import pywrap",
    ],
)
def test_one_that_is_somewhere_else_is_found(line: str) -> None:
    assert len(foreign(line, OWN)) == 1
    assert foreign("self._model.layers\nos._exit(0)\ngetattr(x, 'layers')", OWN) == []


@pytest.fixture(scope="module")
def model() -> Any:
    """A Functional model with a Sequential in it, and a layer that is called twice."""
    inner = keras.Sequential([layers.Dense(3, name="inner")], name="stack")
    shared = layers.Dense(4, name="shared")
    x = inputs = keras.Input((5, 4), name="x")
    return keras.Model(inputs, inner(shared(shared(x))))


def test_functions_are_where_they_were() -> None:
    for name in (*internals.REPLACED, *internals.RELIED_ON):
        found = internals.find_function(name)
        assert found is not None, name
        assert callable(getattr(*found))
    assert internals.find_function("keras:Layer.nothing_such") is None
    assert internals.find_function("keras:Nothing.such") is None
    assert internals.find_function("keras.src.nothing:such") is None


def test_layers_and_calls(model: Any) -> None:
    found = internals.flat_layers(model)
    assert found[0] is model
    assert {"x", "shared", "stack", "inner"} <= {layer.name for layer in found[1:]}
    names = [call.operation.name for call in internals.calls_of(model)]
    assert names == ["x", "shared", "shared", "stack"]
    first, second = internals.calls_to(model.get_layer("shared"))
    assert not first.is_input
    assert list(first.arguments.args) == list(first.input_tensors) == list(model.inputs)
    assert second.input_tensors == first.outputs


def test_graphs(model: Any) -> None:
    stack = model.get_layer("stack")
    assert internals.has_calls(model)
    assert internals.has_calls(internals.inner_graph(stack))
    assert not internals.has_calls(layers.Dense(1))
    run = []

    def noted(operation: Any) -> Any:
        run.append(operation.name)
        return operation.compute_output_spec

    y = internals.run_through(model, [keras.KerasTensor((2, 5, 4))], noted)
    assert y.shape == (2, 5, 3)
    assert run == ["shared", "shared", "stack"]


def test_tensors(model: Any) -> None:
    calls = internals.calls_to(model.get_layer("shared"))
    operation, call, output = internals.source(calls[1].outputs[0])
    assert (operation.name, call, output) == ("shared", 1, 0)
    assert internals.mask_on(model.inputs[0]) is None
    assert internals.mask_on(layers.Masking()(model.inputs[0])) is not None


def test_the_state_of_a_thread() -> None:
    layers.Dense(1)
    state = internals.thread_state()
    assert state is internals.thread_state()
    assert internals.NAME_COUNTS in state
    keras.utils.set_random_seed(0)
    keras.random.uniform((1,))
    assert internals.GLOBAL_SEED in state
    assert internals.find_function(internals.RANDOM) is not None


def test_where_keras_keeps_its_downloads() -> None:
    settings: Any = internals.find_module("keras.src.backend.config")
    before = settings._KERAS_DIR
    internals.move_home("/elsewhere", "/new")
    assert before == settings._KERAS_DIR
    internals.move_home(before, "/new")
    assert settings._KERAS_DIR == "/new"
    internals.move_home("/new", before)


def test_what_stands_in_files(model: Any) -> None:
    for kind, module in internals.MODEL_MODULES.items():
        assert internals.find_function(f"{module}:{kind}") is not None
    for kind, module in (internals.OPERATIONS | internals.APPLICATION_LAYERS).items():
        assert internals.find_function(f"{module}:{kind}") is not None, kind
    sliced = keras.Model(model.inputs, model.inputs[0][:, 1:])
    written = keras.saving.serialize_keras_object(sliced.operations[-1])
    assert {key: written[key] for key in internals.SLICE} == internals.SLICE
