"""Where kernels come from, which types they have, and where in a model convolutions stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import convolution
from tests.onnx_models import (
    CONV,
    KERNEL,
    Array,
    X,
    attributes,
    conv_file,
    conv_node,
    integers,
    model,
    operators,
    run_anywhere,
    same,
    save,
    value,
)


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("patches", ["gather", "slice"])
def test_other_types(tmp_path: Path, kind: str, dtype: str, patches: str) -> None:
    numpy_type = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    # Sums stay small enough for the 8 bits of a bfloat16.
    kernel, x = (np.sign(array).astype(numpy_type) for array in (KERNEL, X))
    given = attributes(CONV)
    if kind == "ConvTranspose":
        kernel = kernel.reshape(4, 3, 2, 3)
        del given["group"]  # more than the reference evaluator can do
    tensor_type = helper.np_dtype_to_tensor_dtype(numpy_type)
    node = helper.make_node(kind, ["x", "W"], ["y"], **given)
    graph = helper.make_graph(
        [node],
        "net",
        [value("x", ["n", *x.shape[1:]], tensor_type)],
        [value("y", kind=tensor_type)],
        [numpy_helper.from_array(kernel, "W")],
    )
    path = model(tmp_path / "m.onnx", graph, opset=22)
    done = convfc.convert(path, patches=patches)
    assert done.complete
    assert done.layers[0].site.dtype == dtype
    assert done.layers[0].site.itemsize == numpy_type.itemsize
    before, after = run_anywhere([path, done.out], {"x": x})
    assert before[0].dtype == after[0].dtype == numpy_type
    assert np.array_equal(before[0].astype(np.float64), after[0].astype(np.float64))


QUANTIZED = {
    "int8": (TensorProto.INT8, -128, 127),
    "uint8": (TensorProto.UINT8, 0, 255),
    "int4": (TensorProto.INT4, -8, 7),
    "uint4": (TensorProto.UINT4, 0, 15),
    "int16": (TensorProto.INT16, -300, 300),
    "uint16": (TensorProto.UINT16, 0, 300),
}


@pytest.mark.parametrize("name", QUANTIZED)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_dequantized_kernels(tmp_path: Path, name: str, per_channel: bool, kind: str) -> None:
    tensor_type, low, high = QUANTIZED[name]
    shape = [6, 2, 2, 3] if kind == "Conv" else [4, 3, 2, 3]
    count = [shape[0]] if per_channel else []
    draw = np.random.default_rng(3)
    numbers = draw.integers(low, high + 1, shape)
    zeros = np.broadcast_to(draw.integers(max(low, -5), 6, count or None), count)
    scales = np.broadcast_to(2.0 ** draw.integers(-3, 1, count or None), count)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["Wq", "s", "z"], ["W"], axis=0),
            helper.make_node(kind, ["x", "W"], ["y"], **attributes(CONV)),
        ],
        "net",
        [value("x", ["n", 4, 5, "w"])],
        [value("y")],
        [
            helper.make_tensor("Wq", tensor_type, shape, numbers.ravel().tolist()),
            numpy_helper.from_array(scales.astype(np.float32), "s"),
            helper.make_tensor("z", tensor_type, count, np.ravel(zeros).tolist()),
        ],
    )
    out = same(model(tmp_path / "m.onnx", graph), {"x": X})
    assert "DequantizeLinear" in operators(out), "the kernel stays quantized"


def test_kernels_made_at_run_time(tmp_path: Path) -> None:
    fill = numpy_helper.from_array(np.array([3], np.float32))
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["A"], value=fill),
        helper.make_node("Conv", ["x", "A"], ["a"], **attributes(CONV)),
        helper.make_node("Cast", ["H"], ["B"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "B"], ["b"], **attributes(CONV)),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(KERNEL.shape), "shape"),
        numpy_helper.from_array(KERNEL.astype(np.float16), "H"),
    ]
    graph = helper.make_graph(nodes, "net", [value("x", ["n", 4, "h", 6])], [value("y")], constants)
    same(model(tmp_path / "m.onnx", graph), {"x": X})


def test_a_kernel_whose_shape_only_its_surroundings_tell(tmp_path: Path) -> None:
    node = conv_node()
    node.attribute.append(helper.make_attribute("kernel_shape", [2, 3]))
    node.input.append("B")
    graph = helper.make_graph(
        [node],
        "net",
        [value("x", ["n", 4, "h", 6]), value("W", ["a", "b", "c", "d"])],
        [value("y")],
        [numpy_helper.from_array(integers([6], 2), "B")],
    )
    same(model(tmp_path / "m.onnx", graph), {"x": X, "W": KERNEL})


def test_convolutions_in_bodies_at_depth(tmp_path: Path) -> None:
    """A Loop with an If, in it a Scan: kernels from each scope around."""
    scan_body = helper.make_graph(
        [conv_node(x="part", y="c"), helper.make_node("Identity", ["state"], ["next"])],
        "scan",
        [value("state", []), value("part")],
        [value("next", []), value("c")],
    )
    scan = helper.make_node(
        "Scan",
        ["zero", "stack"],
        ["end", "scanned"],
        name="scan",
        body=scan_body,
        num_scan_inputs=1,
    )
    then = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["x", "axis"], ["stack"]),
            scan,
            helper.make_node("Squeeze", ["scanned", "axis"], ["b"]),
        ],
        "then",
        [],
        [value("b")],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["W"], ["V"]), conv_node(W="V", y="b")], "else", [], [value("b")]
    )
    body = helper.make_graph(
        [
            helper.make_node("If", ["odd"], ["r"], name="if", then_branch=then, else_branch=other),
            helper.make_node("Add", ["sum", "r"], ["more"]),
            helper.make_node("Not", ["odd"], ["even"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("odd", [], TensorProto.BOOL), value("sum")],
        [value("true", [], TensorProto.BOOL), value("more")],
    )
    body.node.append(helper.make_node("Identity", ["yes"], ["true"]))
    loop = helper.make_node("Loop", ["two", "yes", "start"], ["y"], name="loop", body=body)
    constants = {
        "W": KERNEL,
        "zero": np.zeros([], np.float32),
        "axis": np.array([0]),
        "two": np.array(2),
        "yes": np.array(True),
        "start": np.zeros([2, 6, 5, 3], np.float32),
    }
    graph = helper.make_graph(
        [loop],
        "net",
        [value("x", ["n", 4, 5, 6])],
        [value("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = model(tmp_path / "m.onnx", graph)
    out = same(path, {"x": X})
    names = {layer.site.name for layer in convfc.shapes(path)}
    assert names == {"loop/body/if/then_branch/scan/body/c", "loop/body/if/else_branch/b"}
    assert "W" in [weight.name for weight in onnx.load(out).graph.initializer], "Neg reads it"


def test_names_that_are_taken(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (5, 6))
    proto = onnx.load(path)
    made = {"Transpose": "transposed", "Pad": "padded", "Reshape": "reshaped"}
    made |= {"Gather": "gathered", "MatMul": "product", "Add": "patch_matrix"}
    for op, name in made.items():
        taken = helper.make_node("Neg", ["y"], [f"conv/{name}"], name=f"conv/{op}")
        proto.graph.node.append(taken)
        proto.graph.output.append(value(f"conv/{name}"))
    for role in ("shape", "pads", "filter_matrix"):
        proto.graph.initializer.append(numpy_helper.from_array(KERNEL, f"conv/{role}"))
        neg = helper.make_node("Neg", [f"conv/{role}"], [f"of {role}"], name="conv")
        proto.graph.node.append(neg)
        proto.graph.output.append(value(f"of {role}"))
    onnx.save(proto, path)
    same(path, {"x": X})


def test_kernel_and_bias_of_a_transposed_convolution_at_run_time(tmp_path: Path) -> None:
    """Strides that do not divide the kernel: taps are moved to phases, gaps filled, in nodes."""
    conv = convolution([3, 4], channels=4, filters=6, strides=[2, 3], dilations=[1, 2], groups=2)
    node = helper.make_node("ConvTranspose", ["x", "W", "B"], ["y"], **attributes(conv))
    inputs: dict[str, Any] = {"x": ["n", 4, "h", "w"], "W": [4, 3, 3, 4], "B": [6]}
    path = save(tmp_path / "m.onnx", [node], inputs, ["y"], {})
    same(path, {"x": X, "W": integers([4, 3, 3, 4]), "B": integers([6])})


def test_quantized_convolution_with_everything_given_at_run_time(tmp_path: Path) -> None:
    """One zero point and scale per filter, in groups."""
    scalars = {"xs": 0.11, "ys": 0.73}
    arrays: dict[str, Array] = {name: np.array(v, np.float32) for name, v in scalars.items()}
    arrays |= {"xz": np.array(7, np.uint8), "yz": np.array(99, np.uint8)}
    arrays |= {"W": KERNEL.astype(np.int8), "wz": np.zeros(6, np.int8)}
    arrays |= {
        "ws": np.linspace(0.01, 0.02, 6).astype(np.float32),
        "B": np.arange(6, dtype=np.int32),
    }
    names = ["x", "xs", "xz", "W", "ws", "wz", "ys", "yz", "B"]
    x = np.random.default_rng(5).integers(0, 256, X.shape).astype(np.uint8)
    arrays["x"] = x
    ports = [
        value(name, arrays[name].shape, helper.np_dtype_to_tensor_dtype(arrays[name].dtype))
        for name in names
    ]
    node = helper.make_node("QLinearConv", names, ["y"], **attributes(CONV))
    graph = helper.make_graph([node], "net", ports, [value("y", kind=TensorProto.UINT8)])
    path = model(tmp_path / "m.onnx", graph)
    same(path, arrays)
    found = convfc.verify(path, samples=1, inputs={name: arrays[name] for name in names[1:]})
    assert found.proved, found.reason
    fixed = ("xz", "W", "wz", "yz", "ws", "xs", "ys", "B")
    proto = onnx.load(path)
    for name in fixed:
        proto.graph.initializer.append(numpy_helper.from_array(arrays[name], name))
    inputs = [port for port in proto.graph.input if port.name == "x"]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    onnx.save(proto, path)
    out = same(path, {"x": x})
    assert operators(out) >= {"MatMulInteger", "QuantizeLinear"}
    assert not {"Div", "QLinearMatMul"} & operators(out), "the scales are one constant"


def test_a_kernel_that_others_see(tmp_path: Path) -> None:
    """As an output of the model, and inside both branches of an If."""
    then = helper.make_graph([conv_node(y="t")], "then", [], [value("t")])
    other = helper.make_graph([conv_node(y="e")], "else", [], [value("e")])
    nodes = [
        helper.make_node("If", ["yes"], ["a"], then_branch=then, else_branch=other),
        conv_node(y="b"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", ["n", 4, "h", "w"]), value("yes", [], TensorProto.BOOL)],
        [value("y"), value("W", KERNEL.shape)],
        [numpy_helper.from_array(KERNEL, "W")],
    )
    path = model(tmp_path / "m.onnx", graph)
    for yes in (True, False):
        same(path, {"x": X, "yes": np.array(yes)})
    same(path, {"x": X[:0], "yes": np.array(True)})


@pytest.mark.parametrize("op", ["Identity", "Transpose", "Reshape", "Slice"])
def test_kernels_that_are_made_of_weights(tmp_path: Path, op: str) -> None:
    constants = {
        "Identity": {"U": KERNEL},
        "Transpose": {"U": KERNEL.T.copy()},
        "Reshape": {"U": KERNEL.ravel(), "shape": np.array(KERNEL.shape)},
        "Slice": {"U": np.repeat(KERNEL, 2, 0), "from": np.array([3]), "to": np.array([9])},
    }[op]
    graph = helper.make_graph(
        [helper.make_node(op, list(constants), ["W"]), conv_node()],
        "net",
        [value("x", ["n", 4, "h", 6])],
        [value("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    same(model(tmp_path / "m.onnx", graph), {"x": X})


def test_a_convolution_of_a_constant(tmp_path: Path) -> None:
    """What it slides over is a weight too, in the model that verify makes of this layer alone."""
    total = helper.make_node("Add", ["y", "z"], ["sum"])
    weights = [numpy_helper.from_array(array, name) for name, array in (("x", X), ("W", KERNEL))]
    graph = helper.make_graph(
        [conv_node(), total], "net", [value("z", ["n", 1, 1, 1])], [value("sum")], weights
    )
    path = model(tmp_path / "m.onnx", graph)
    same(path, {"z": integers([1, 1, 1, 1])})
    found = convfc.verify(path, samples=2)
    assert found.proved, found.reason


def test_a_kernel_of_text_is_left(tmp_path: Path) -> None:
    """Nobody could run it, but the checker lets it through."""
    text = numpy_helper.from_array(np.full(KERNEL.shape, "a", object), "W")
    graph = helper.make_graph(
        [conv_node()], "net", [value("x", ["n", 4, 5, 6])], [value("y")], [text]
    )
    done = convfc.convert(model(tmp_path / "m.onnx", graph))
    assert "no numbers" in str(done.layers[0].reason)
