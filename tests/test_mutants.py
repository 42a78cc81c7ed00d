"""Wrong conversions, each by one thing: `verify` must catch every one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc import Convolution, Same, Verdict, Window
from tests.onnx_models import attributes, kernel_shape, run, save

Mutation = Callable[[onnx.ModelProto], None]

CONVS = {
    "plain": Convolution((Window(3, 2, 1, (1, 0)), Window(2, 1, 2, (0, 2))), 3, 4),
    "grouped": Convolution((Window(2), Window(3, 2, 1, (1, 0))), 4, 6, 2),
    "depthwise": Convolution((Window(3, 1, 1, Same.UPPER), Window(2, 1, 1, Same.UPPER)), 4, 4, 4),
    "tiles": Convolution((Window(2, 2), Window(3, 3)), 3, 4),
    "pointwise": Convolution((Window(1), Window(1)), 4, 6),
}


def network(path: Path, conv: Convolution) -> Path:
    """Relu, a convolution with real weights, an Add with a constant, another convolution; on the
    way, BatchNormalization and Softmax, whose settings matter."""
    random = np.random.default_rng(7)
    weights = {
        "W": random.normal(size=kernel_shape(conv)).astype(np.float32),
        "B": random.normal(size=conv.filters).astype(np.float32),
        "C": random.normal(size=(conv.filters, 1, 1)).astype(np.float32),
        "V": random.normal(size=(2, conv.filters, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="before"),
        helper.make_node("Conv", ["r", "W", "B"], ["c"], name="conv", **attributes(conv)),
        helper.make_node("Add", ["c", "C"], ["a"], name="shift"),
        helper.make_node("Clip", ["a", "low", "high"], ["l"], name="clip"),
        helper.make_node("Conv", ["l", "V"], ["v"], name="last"),
        helper.make_node("BatchNormalization", ["v", *"gbms"], ["n"], name="norm", epsilon=0.1),
        helper.make_node("Softmax", ["n"], ["y"], name="scores", axis=2),
    ]
    weights |= {name: abs(random.normal(size=2)).astype(np.float32) for name in "gbms"}
    weights |= {"low": np.array(-9, np.float32), "high": np.array(9, np.float32)}
    return save(path, nodes, {"x": ["n", conv.channels, 9, 10]}, ["y"], weights)


VALUES = ("x", "r", "c", "a", "l")
"""What the network above computes on its way: one may be read in the place of another."""


def file_mutations() -> Iterator[tuple[str, Mutation]]:
    """Change what stands around the nodes, or two layers at once."""

    def opset(mutant: onnx.ModelProto) -> None:
        mutant.opset_import[0].version -= 5  # Softmax flattens, then

    def types(mutant: onnx.ModelProto) -> None:
        mutant.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    def input_named_otherwise(mutant: onnx.ModelProto) -> None:
        mutant.graph.input[0].name = "z"
        mutant.graph.node[0].input[0] = "z"

    def negated_twice(mutant: onnx.ModelProto) -> None:
        for tensor in mutant.graph.initializer:
            if tensor.name.endswith("filter_matrix"):
                array = -numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def noise(mutant: onnx.ModelProto) -> None:
        node = next(n for n in mutant.graph.node if n.name == "shift")
        mutant.graph.node.append(helper.make_node("RandomNormalLike", [node.output[0]], ["n"]))

    def half(mutant: onnx.ModelProto) -> None:
        i = next(i for i, n in enumerate(mutant.graph.node) if n.op_type == "MatMul")
        given = mutant.graph.node[i].input[0]
        mutant.graph.node[i].input[0] = "wide"
        for start, end, to in (("half", "wide", 1), (given, "half", 10)):
            mutant.graph.node.insert(i, helper.make_node("Cast", [start], [end], to=to))

    for change in (opset, types, input_named_otherwise, negated_twice, noise, half):
        yield change.__name__, change


def number_mutations(model: onnx.ModelProto) -> Iterator[tuple[str, Mutation]]:
    """Change one number somewhere, or swap two, in every initializer."""
    for index, tensor in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        flat = array.reshape(-1)
        for place in sorted({0, array.size // 2, array.size - 1}):
            value = flat[place]
            edits: dict[str, dict[int, Any]] = {"minus one": {place: value - 1}}
            if array.dtype == np.float32:
                edits["ulp"] = {place: np.nextafter(value, np.float32(np.inf))}
                edits["1e-3"] = {place: value + np.float32(1e-3)}
                edits["nan"] = {place: np.nan}
            edits["swap"] = {place: flat[place - 1], place - 1: value}
            for name, edit in edits.items():
                yield f"{tensor.name}[{place}] {name}", edited(index, edit)


def edited(index: int, edit: dict[int, Any]) -> Mutation:
    """Other numbers at some places of an initializer."""

    def mutate(mutant: onnx.ModelProto) -> None:
        tensor = mutant.graph.initializer[index]
        array = numpy_helper.to_array(tensor).copy()
        for place, value in edit.items():
            array.reshape(-1)[place] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return mutate


def node_mutations(model: onnx.ModelProto) -> Iterator[tuple[str, Mutation]]:
    """Change one attribute, drop or add one node, swap two inputs, change a name."""
    for index, node in enumerate(model.graph.node):
        for number, attribute in enumerate(node.attribute):
            if attribute.type == onnx.AttributeProto.INTS:

                def swap(mutant: onnx.ModelProto, i: int = index, n: int = number) -> None:
                    ints = mutant.graph.node[i].attribute[n].ints
                    ints[-1], ints[-2] = ints[-2], ints[-1]

                yield f"{node.name}: {attribute.name} swapped", swap
            if attribute.type == onnx.AttributeProto.FLOAT:

                def ulp(mutant: onnx.ModelProto, i: int = index, n: int = number) -> None:
                    value = mutant.graph.node[i].attribute[n]
                    value.f = float(np.nextafter(np.float32(value.f), np.float32(1)))

                yield f"{node.name}: {attribute.name} by an ulp", ulp
            if attribute.type == onnx.AttributeProto.INT:

                def step(mutant: onnx.ModelProto, i: int = index, n: int = number) -> None:
                    mutant.graph.node[i].attribute[n].i += 1

                yield f"{node.name}: {attribute.name} + 1", step
        for place, name in enumerate(node.input):
            for other in set(VALUES) - {name} if name in VALUES else ():

                def rewire(
                    mutant: onnx.ModelProto, i: int = index, p: int = place, to: str = other
                ) -> None:
                    mutant.graph.node[i].input[p] = to

                yield f"{node.name} reads {other}", rewire
        if node.op_type in ("Relu", "Add", "Clip", "Pad", "Transpose"):

            def drop(mutant: onnx.ModelProto, i: int = index) -> None:
                gone = mutant.graph.node[i]
                for other in mutant.graph.node:
                    for place, name in enumerate(other.input):
                        if name == gone.output[0]:
                            other.input[place] = gone.input[0]
                if gone.output[0] != "y":
                    del mutant.graph.node[i]

            yield f"{node.name} dropped", drop
        if node.op_type == "Concat":

            def reorder(mutant: onnx.ModelProto, i: int = index) -> None:
                inputs = mutant.graph.node[i].input
                inputs[0], inputs[1] = inputs[1], inputs[0]

            yield f"{node.name}: inputs swapped", reorder

        def insert(mutant: onnx.ModelProto, i: int = index) -> None:
            node = mutant.graph.node[i]
            name = f"{node.output[0]}_before"
            relu = helper.make_node("Relu", [name], [node.output[0]], name="extra")
            node.output[0] = name
            mutant.graph.node.insert(i + 1, relu)

        yield f"a Relu behind {node.name}", insert


def mutants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every wrong model, with what is wrong about it."""
    for name, mutate in (
        *file_mutations(),
        *number_mutations(model),
        *node_mutations(model),
    ):
        mutant = copy.deepcopy(model)
        mutate(mutant)
        if mutant.SerializeToString() != model.SerializeToString():
            yield name, mutant


def survivors(tmp_path: Path, kind: str, patches: str, every: int) -> tuple[int, list[str]]:
    """How many wrong models there are among every so many, and which verify lets pass.

    Some mutants are not wrong: a window that starts in one zero of the padding or in another, an
    end beyond the end. Those give the true conversion's own numbers, to the bit, on any input.
    """
    path = network(tmp_path / "net.onnx", CONVS[kind])
    out = convfc.convert(path, patches=patches).out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    model = onnx.load(out)
    random = np.random.default_rng(3)
    inputs = [random.normal(size=(n, CONVS[kind].channels, 9, 10)) for n in (1, 3)]
    feeds = [x.astype(np.float32) for x in inputs]
    true = [run(out, x=x)[0] for x in feeds]
    alive, wrong = [], 0
    for name, mutant in itertools.islice(mutants(model), None, None, every):
        onnx.save(mutant, out)
        try:
            verdict = convfc.verify(path, out, samples=2).verdict
        except convfc.ConvfcError:
            verdict = Verdict.COULD_NOT_CHECK  # no runtime loads it
        if verdict is not Verdict.EQUIVALENT:
            wrong += 1
        elif not all(np.array_equal(run(out, x=x)[0], y) for x, y in zip(feeds, true, strict=True)):
            alive.append(name)
    return wrong, alive


@pytest.mark.parametrize(
    ("kind", "patches", "every"),
    [
        ("grouped", "gather", 40),
        *(
            pytest.param(*chosen, 1, marks=pytest.mark.slow)
            for chosen in [
                ("plain", "gather"),
                ("plain", "slice"),
                ("grouped", "gather"),
                ("grouped", "slice"),
                ("depthwise", "gather"),
                ("depthwise", "slice"),
                ("tiles", "reshape"),
                ("pointwise", "auto"),
            ]
        ),
    ],
)
def test_no_mutant_passes(tmp_path: Path, kind: str, patches: str, every: int) -> None:
    wrong, alive = survivors(tmp_path, kind, patches, every)
    assert wrong > 80 / every
    assert alive == []
