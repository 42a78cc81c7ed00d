"""Changes to ONNX files that convfc wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

import convfc

Edit = Callable[[onnx.ModelProto], None]


def verified(path: Path, edit: Edit, *, patches: str = "auto") -> convfc.Verification:
    """Convert, change the converted file, verify."""
    out = convfc.convert(path, patches=patches).out
    model = onnx.load(out)
    edit(model)
    onnx.save(model, out)
    return convfc.verify(path, out, samples=2)


def node_of(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    (first, *_) = (node for node in model.graph.node if node.op_type == op_type)
    node: onnx.NodeProto = first
    return node


def as_gemm(model: onnx.ModelProto) -> None:
    """One Gemm in the place of MatMul + Add, as simplifiers write it."""
    product, total = node_of(model, "MatMul"), node_of(model, "Add")
    gemm = helper.make_node("Gemm", [*product.input, total.input[1]], total.output, name="gemm")
    place = list(model.graph.node).index(total)
    model.graph.node.insert(place, gemm)
    model.graph.node.remove(product)
    model.graph.node.remove(total)


def branch(*nodes: onnx.NodeProto) -> onnx.NodeProto:
    """An If that takes some nodes, which make 'o', and adds nothing otherwise."""
    nothing = helper.make_node("Constant", [], ["e"], value_float=0.0)
    return helper.make_node(
        "If",
        ["yes"],
        ["more"],
        then_branch=helper.make_graph(list(nodes), "t", [], [of_any_shape("o")]),
        else_branch=helper.make_graph([nothing], "e", [], [of_any_shape("e")]),
    )


def of_any_shape(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
