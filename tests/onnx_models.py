"""ONNX files for tests: one convolution or a small network, and how to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import convfc
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution, Same, Sizes

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT


def integers(shape: Sequence[int], seed: int = 0) -> Array:
    """Random integers as float32: small enough that every sum of products is exact."""
    return np.random.default_rng(seed).integers(-31, 32, tuple(shape)).astype(np.float32)


def attributes(conv: Convolution) -> dict[str, Any]:
    """A Conv node's attributes; what has its default value is left out."""
    made: dict[str, Any] = {
        "strides": [w.stride for w in conv.windows],
        "dilations": [w.dilation for w in conv.windows],
        "group": conv.groups,
    }
    made = {name: value for name, value in made.items() if value not in (1, [1] * conv.rank)}
    paddings = [w.padding for w in conv.windows]
    if isinstance(paddings[0], Same):
        return {**made, "auto_pad": f"SAME_{paddings[0].name}"}
    pads = [p for p in paddings if not isinstance(p, Same)]
    return {**made, "pads": [p[0] for p in pads] + [p[1] for p in pads]}


def kernel_shape(conv: Convolution) -> tuple[int, ...]:
    """Shape of a kernel in ONNX: filters and channels first."""
    return (conv.filters, conv.channels // conv.groups, *conv.kernel)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    weights: dict[str, Array],
    *,
    opset: int = 17,
    ir_version: int = 8,
    overridable: bool = False,
    functions: Sequence[onnx.FunctionProto] = (),
) -> Path:
    """Write a float32 model; with `overridable`, its initializers are inputs as well."""
    ports = [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()]
    if overridable:
        ports += [helper.make_tensor_value_info(n, FLOAT, w.shape) for n, w in weights.items()]
    open_shape = [None] * len(next(iter(inputs.values())))  # outputs have the input's rank here
    graph = helper.make_graph(
        nodes,
        "net",
        ports,
        [helper.make_tensor_value_info(name, FLOAT, open_shape) for name in outputs],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    others = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in others)]
    model = helper.make_model(
        graph, opset_imports=imports, functions=functions, ir_version=ir_version
    )
    onnx.save(model, path)
    return path


def conv_file(
    path: Path, conv: Convolution, sizes: Sizes, *, bias: bool = True, opset: int = 17
) -> Path:
    """One Conv node with random integer weights, any batch."""
    weights = {"W": integers(kernel_shape(conv), 1)}
    if bias:
        weights["B"] = integers([conv.filters], 2)
    node = helper.make_node("Conv", ["x", *weights], ["y"], name="conv", **attributes(conv))
    shape = ["batch", conv.channels, *(f"s{i}" if s is None else s for i, s in enumerate(sizes))]
    return save(path, [node], {"x": shape}, ["y"], weights, opset=opset)


def run(path: Path, **feed: Array) -> list[Array]:
    """All outputs of a model in onnxruntime."""
    return list(session(path).run(None, feed))


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_anywhere(paths: Sequence[Path], feed: Mapping[str, Array]) -> list[list[Array]]:
    """All outputs of each model, all in onnxruntime or, where that cannot run the first, all in
    the ONNX reference evaluator."""
    try:
        first = run(paths[0], **feed)
    except Exception:  # onnxruntime's many kinds
        runs: list[Any] = [ReferenceEvaluator(str(path)).run(None, dict(feed)) for path in paths]
        return [list(outputs) for outputs in runs]
    return [first, *(run(path, **feed) for path in paths[1:])]


def operators(path: Path) -> set[str]:
    """Every operator in a file, subgraphs and functions included."""
    model = onnx.load(path)
    found: set[str] = set()

    def walk(nodes: Sequence[onnx.NodeProto]) -> None:
        for node in nodes:
            found.add(node.op_type)
            for attribute in node.attribute:
                walk(attribute.g.node)

    walk(model.graph.node)
    for function in model.functions:
        walk(function.node)
    return found


CONV = convolution(
    [2, 3], channels=4, filters=6, strides=[1, 2], padding=[(1, 0), (0, 1)], groups=2
)

KERNEL = integers([6, 2, 2, 3], 1)

X = integers([2, 4, 5, 6])


def same(path: Path, feed: dict[str, Array]) -> Path:
    """Convert a file in which nothing may be left, and compare bit for bit."""
    done = convfc.convert(path, force=True)
    assert done.complete, [layer.reason for layer in done.layers]
    assert not {name for name in operators(done.out) if "Conv" in name}
    onnx.checker.check_model(str(done.out), full_check=True)
    before, after = run_anywhere([path, done.out], feed)
    for expected, got in zip(before, after, strict=True):
        assert expected.dtype == got.dtype
        assert np.array_equal(expected, got, equal_nan=True)
    return done.out


def value(name: str, dims: Any = (None,) * 4, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def model(path: Path, graph: onnx.GraphProto, opset: int = 21, **more: Any) -> Path:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("here", 1)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10, **more)
    onnx.save(made, path)
    return path


def conv_node(**names: str) -> onnx.NodeProto:
    given = {"x": "x", "W": "W", "y": "y", **names}
    return helper.make_node("Conv", [given["x"], given["W"]], [given["y"]], **attributes(CONV))
