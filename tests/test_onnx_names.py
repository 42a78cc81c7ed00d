"""What new nodes are called: people and tools find a layer's nodes by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc.core.builders import convolution
from tests.onnx_models import conv_file, integers

LAYERS = {"grouped", "transposed", "dynamic", "quantized", "e"}
"""The last one has no name, so its output's stands for it."""


def model_of_many_kinds(path: Path) -> Path:
    """One layer of each kind over an input of open sizes."""
    weights = {
        "w_grouped": integers([4, 2, 3, 3]),
        "w_transposed": integers([4, 2, 3, 3]),
        "w_dynamic": integers([2, 4, 3, 3]),
        "w_quantized": integers([2, 4, 3, 3]).astype(np.int8),
        "w_e": integers([2, 4, 2, 2]),
        "scale": np.array(0.5, np.float32),
        "zero": np.array(3, np.uint8),
    }

    def node(op: str, inputs: list[str], output: str, name: str = "", **settings: Any) -> None:
        nodes.append(helper.make_node(op, inputs, [output], name=name, **settings))

    nodes: list[onnx.NodeProto] = []
    same = {"auto_pad": "SAME_UPPER", "strides": [2, 2]}
    node("Conv", ["x", "w_grouped"], "a", "grouped", group=2, **same)
    node("ConvTranspose", ["x", "w_transposed"], "b", "transposed", strides=[2, 2])
    node("Relu", ["w_dynamic"], "kernel", "maker")
    node("Conv", ["x", "kernel"], "c", "dynamic", kernel_shape=[3, 3])
    node("QuantizeLinear", ["x", "scale", "zero"], "q", "quantize")
    node("ConvInteger", ["q", "w_quantized", "zero"], "d", "quantized", pads=[1, 1, 1, 1])
    node("Conv", ["x", "w_e"], "e")
    kinds = dict.fromkeys("abce", TensorProto.FLOAT) | {"d": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info(name, kind, [None] * 4) for name, kind in kinds.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize("patches", ["auto", "slice"])
def test_new_nodes_are_called_after_their_layer(tmp_path: Path, patches: str) -> None:
    source = model_of_many_kinds(tmp_path / "net.onnx")
    convfc.convert(source, tmp_path / "out.onnx", patches=patches)
    before = {node.name: node for node in onnx.load(source).graph.node}
    nodes = onnx.load(tmp_path / "out.onnx").graph.node
    after = {node.name: node for node in nodes}
    assert len(after) == len(nodes)
    assert after.keys() >= before.keys()
    for name, node in before.items():
        (made,), (value,) = after[name].output, node.output
        assert made in (value, f"{value}/channels_last", f"{value}/rows")
        if "Conv" not in node.op_type:
            assert after[name].op_type == node.op_type
        else:
            assert "Conv" not in after[name].op_type
    new = after.keys() - before.keys()
    assert all("/" in name for name in new)
    assert LAYERS <= {name.partition("/")[0] for name in new} <= LAYERS | before.keys()


def test_constants_of_several_layers_are_called_after_none(tmp_path: Path) -> None:
    source = model_of_many_kinds(tmp_path / "net.onnx")
    graph = onnx.load(convfc.convert(source).out).graph
    old = {tensor.name for tensor in onnx.load(source).graph.initializer}
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        layer = (node.name or node.output[0]).partition("/")[0]
        for name in node.input:
            readers.setdefault(name, set()).add(layer)
    for tensor in graph.initializer:
        of_layers = readers[tensor.name]
        told = "convfc" if len(of_layers) > 1 else next(iter(of_layers))
        assert tensor.name in old or tensor.name.partition("/")[0] == told


@pytest.mark.parametrize("patches", ["slice", "gather", "rows"])
def test_names_say_what_tensors_are(tmp_path: Path, patches: str) -> None:
    conv = convolution([3, 3], channels=4, filters=6, padding="half")
    layers = {"plain": conv, "grouped": replace(conv, groups=2)}
    layers["depthwise"] = replace(conv, groups=4, filters=4)
    for name, each in layers.items():
        source = conv_file(tmp_path / f"{name}.onnx", each, (19, 20))
        graph = onnx.load(convfc.convert(source, patches=patches).out).graph
        made = {node.output[0]: node for node in graph.node}
        product = made["conv/product"]
        if product.op_type == "ReduceSum":
            product = made[product.input[0]]
        assert [*product.input] == ["conv/patch_matrix", "conv/filter_matrix"]
        assert made["conv/padded"].op_type == "Pad"
        if patches != "slice":
            assert made["conv/gathered"].input[1] in ("conv/index_map", "convfc/index_map")
