"""What is around a converted convolution stays as it was, to the last byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import convolution
from tests.onnx_models import attributes, integers, operators

CONV = convolution([3, 2], channels=4, filters=4, padding="same", groups=2)


def rich_model(path: Path) -> Path:
    """Something in every field that a model, a graph, a node and a value have."""

    def value(name: str) -> onnx.ValueInfoProto:
        made = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, 5, 6], f"{name}!")
        made.metadata_props.add(key="of", value=name)
        made.type.denotation = "IMAGE"
        return made

    def conv(x: str, y: str, **more: str) -> onnx.NodeProto:
        node = helper.make_node("Conv", [x, "W", "B"], [y], **attributes(CONV), **more)
        node.metadata_props.add(key="pkg.torch", value=y)
        return node

    branch = helper.make_graph(
        [conv("a", "inner", name="deep"), helper.make_node("Neg", ["inner"], ["t"], name="neg")],
        "branch",
        [],
        [value("t")],
        doc_string="a branch",
        value_info=[value("inner")],
    )
    other = helper.make_graph([helper.make_node("Abs", ["a"], ["e"])], "other", [], [value("e")])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="before", doc_string="first"),
        conv("a", "b", name="main", doc_string="the convolution"),
        helper.make_node("Mystery", ["b", ""], ["c"], domain="their.own", secret=[1.5, 2.5]),
        helper.make_node("If", ["yes"], ["d"], name="if", then_branch=branch, else_branch=other),
        helper.make_node("Twice", ["d"], ["f"], domain="here", overload="float"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x")],
        [value("c"), value("f")],
        [
            numpy_helper.from_array(integers([4, 2, 3, 2]), "W"),
            numpy_helper.from_array(integers([4]), "B"),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
            numpy_helper.from_array(integers([3]), "unused"),
        ],
        doc_string="a graph",
        value_info=[value(name) for name in "abd"],
    )
    for name in ("a", "b"):
        note = graph.quantization_annotation.add(tensor_name=name)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=f"{name}_scale")
    graph.metadata_props.add(key="graph", value="kept")
    double = helper.make_node("Add", ["u", "u"], ["v"], name="add", doc_string="in a function")
    twice = helper.make_function(
        "here", "Twice", ["u"], ["v"], [double], [helper.make_opsetid("", 21)], overload="float"
    )
    twice.doc_string = "u + u"
    imports = [("", 21), ("their.own", 3), ("here", 1)]
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*pair) for pair in imports],
        functions=[twice],
        ir_version=10,
        producer_name="them",
        producer_version="1.2",
        domain="org",
        model_version=7,
        doc_string="a model",
    )
    model.metadata_props.add(key="author", value="them")
    onnx.save(model, path)
    return path


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def without_convolutions(model: onnx.ModelProto, made: set[str]) -> onnx.ModelProto:
    """A copy without convolutions, their kernels and what stands for them.

    Args:
        model: original or converted.
        made: names of nodes and weights that the conversion added or took away.
    """
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    for graph in graphs(rest.graph):
        for nodes in (graph.node, graph.initializer):
            kept = [item for item in nodes if item.name not in made]
            del nodes[:]
            nodes.extend(kept)
        values = sorted(graph.value_info, key=lambda value: value.name)
        del graph.value_info[:]
        graph.value_info.extend(v for v in values if v.name not in made)
    entries = [entry for entry in rest.metadata_props if entry.key != "convfc"]
    del rest.metadata_props[:]
    rest.metadata_props.extend(entries)
    return rest


def names(model: onnx.ModelProto) -> set[str]:
    found = {"main", "deep"}
    for graph in graphs(model.graph):
        for node in graph.node:
            found.update([node.name, *node.output])
        found.update(weight.name for weight in graph.initializer)
        found.update(info.name for info in graph.value_info)
    return found


@pytest.mark.parametrize("patches", ["gather", "slice"])
def test_everything_else_is_kept(tmp_path: Path, patches: str) -> None:
    path = rich_model(tmp_path / "m.onnx")
    done = convfc.convert(path, patches=patches)
    assert [layer.site.name for layer in done.layers] == ["main", "if/then_branch/deep"]
    assert done.complete
    assert "Conv" not in operators(done.out)
    before, after = onnx.load(path), onnx.load(done.out)
    changed = (names(before) ^ names(after)) | {"main", "deep"}
    assert changed >= {"W", "main", "deep"}
    assert without_convolutions(after, changed) == without_convolutions(before, changed)
    # The converted nodes themselves answer to their old names.
    for old, new in zip(graphs(before.graph), graphs(after.graph), strict=True):
        was = {node.name: node for node in old.node}
        now = {node.name: node for node in new.node}
        for name in {"main", "deep"} & was.keys():
            assert now[name].output == was[name].output
            assert now[name].metadata_props == was[name].metadata_props
            assert now[name].doc_string == was[name].doc_string
