"""Files whose values are no plain tensors, or are not described: carried through as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import FLOAT, integers, run

SHAPE = [1, 3, 6, 5]
KERNEL = integers([4, 3, 3, 2], 1)
X = integers([1, 3, 6, 5])
CONV = helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[2, 1], pads=[0, 1, 1, 0])


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    kernel: np.ndarray = KERNEL,
    versions: tuple[tuple[str, int], ...] = (),
    ir_version: int = 8,
) -> Path:
    """A model whose first node is a convolution of `x` with `w`."""
    kind = helper.np_dtype_to_tensor_dtype(kernel.dtype)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, SHAPE)],
        outputs,
        [numpy_helper.from_array(kernel, "w")],
    )
    imports = [helper.make_opsetid("", 13), *(helper.make_opsetid(*pair) for pair in versions)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=ir_version), path)
    return path


def unshaped(name: str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def untyped(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


PLUGIN = helper.make_node("BatchedNMS", ["c"], ["y"], domain="plugins")
TWICE = helper.make_node("Relu", ["c"], ["y"], name="conv")


@pytest.mark.parametrize("output", [unshaped("y"), untyped("y")], ids=["no shape", "no type"])
@pytest.mark.parametrize("version", [(), (("plugins", 1),)], ids=["no version", "version"])
@pytest.mark.parametrize("ir_version", [3, 8])
def test_what_no_runtime_loads_is_converted_all_the_same(
    tmp_path: Path,
    output: onnx.ValueInfoProto,
    version: tuple[tuple[str, int], ...],
    ir_version: int,
) -> None:
    """Of IR version 3, the kernel would have to be listed as an input."""
    path = tmp_path / "m.onnx"
    done = convfc.convert(saved(path, [CONV, PLUGIN], [output], KERNEL, version, ir_version))
    assert done.complete
    assert done.layers[0].site.sizes == (6, 5), "the plug-in does not end shape inference"
    assert onnx.load(done.out).graph.output[0] == output
    assert convfc.verify(path).equivalent


def test_other_things_in_the_way_of_onnxruntime(tmp_path: Path) -> None:
    double = helper.make_node("Conv", ["x", "w"], ["y"])
    path = tmp_path / "double.onnx"
    wide = saved(path, [double], [unshaped("y", TensorProto.DOUBLE)], KERNEL.astype(np.float64))
    named = saved(tmp_path / "twice.onnx", [CONV, TWICE], [unshaped("y")])
    for path in (wide, named):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            run(path, x=X)
        assert convfc.convert(path).complete
        assert convfc.verify(path).equivalent


def test_what_is_wrong_is_what_is_said(tmp_path: Path) -> None:
    """Not that an output has no shape, which would be forgiven."""
    node = helper.make_node("Relu", ["c"], ["y"], name="act", slope=1.0)
    with pytest.raises(convfc.FileError, match=r"Unrecognized attribute: slope .*act"):
        convfc.convert(saved(tmp_path / "m.onnx", [CONV, node], [unshaped("y")]))
    path = saved(tmp_path / "m.onnx", [CONV, PLUGIN], [unshaped("y")])
    model = onnx.load(path)
    model.graph.value_info.append(unshaped("c", 99))
    onnx.save(model, path)
    with pytest.raises(convfc.FileError, match=r"m\.onnx: an invalid ONNX graph: 'c': 99 is not"):
        convfc.convert(path)
    kind = map_of(TensorProto.INT64)
    node = helper.make_node("Make", ["c"], ["y"], name="made", domain="here", type=kind)
    with pytest.raises(convfc.FileError, match=r"'made', 'type': Map types are not supported"):
        convfc.convert(saved(tmp_path / "m.onnx", [CONV, node], [unshaped("y")]))


def map_of(key: int, value: int = FLOAT) -> onnx.TypeProto:
    kind = onnx.TypeProto(denotation="scores")
    held = kind.sequence_type.elem_type.map_type
    held.key_type = key
    held.value_type.tensor_type.elem_type = value
    return kind


LABELS: dict[str, tuple[int, str, Any]] = {
    "int": (TensorProto.INT64, "classlabels_int64s", [3, 1, 4, 15]),
    "text": (TensorProto.STRING, "classlabels_strings", ["cat", "ape", "dog", "eel"]),
}


def classifier(path: Path, labels: str, *, described: bool = False) -> Path:
    """A convolution whose scores have names, as converters of CoreML and scikit-learn write it."""
    key, attribute, names = LABELS[labels]
    scores = helper.make_value_info("y", map_of(key))
    nodes = [
        CONV,
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["s"]),
        helper.make_node("ZipMap", ["s"], ["y"], domain="ai.onnx.ml", **{attribute: names}),
    ]
    if described:
        nodes.append(helper.make_node("ZipMap", ["s"], ["z"]))
        nodes[-1].CopyFrom(nodes[-2])
        nodes[-1].output[0] = "z"
    made = saved(path, nodes, [scores], versions=(("ai.onnx.ml", 1),))
    if described:
        model = onnx.load(made)
        model.graph.value_info.add(name="z", type=map_of(key))
        onnx.save(model, made)
    return made


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("labels", LABELS)
def test_scores_with_names(tmp_path: Path, labels: str, described: bool) -> None:
    path = classifier(tmp_path / "m.onnx", labels, described=described)
    done = convfc.convert(path)
    assert done.complete
    assert done.look is not None
    assert done.look.samples == 1, "the whole model was looked at"
    before, after = onnx.load(path).graph, onnx.load(done.out).graph
    assert before.output == after.output
    assert [v for v in after.value_info if v.name == "z"] == list(before.value_info)
    (expected,), (found,) = run(path, x=X), run(done.out, x=X)
    assert expected == found
    checked = convfc.verify(path, samples=3)
    assert checked.equivalent
    key = LABELS[labels][0]
    kinds = {out.name: out.dtype for out in checked.outputs}
    assert kinds["y"] == "float32"
    assert (kinds["y (keys)"] == "int64") == (key == TensorProto.INT64)


def test_weights_beside_a_model_with_such_a_type(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", "int")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    done = convfc.convert(path)
    assert onnx.load(done.out, load_external_data=False).graph.output == model.graph.output
    assert run(path, x=X) == run(done.out, x=X)


def test_a_name_that_was_moved_is_seen(tmp_path: Path) -> None:
    """In a file that convfc made, and where only outputs are compared."""
    path = classifier(tmp_path / "m.onnx", "int")
    out = convfc.convert(path).out
    model = onnx.load(out)
    (node,) = (node for node in model.graph.node if node.op_type == "ZipMap")
    node.attribute[0].ints[:] = [3, 1, 4, 16]
    onnx.save(model, out)
    assert convfc.verify(path, out).verdict is Verdict.NOT_EQUIVALENT
    compared = convfc.verify(path, out, rtol=1e-3, atol=0.0)
    assert compared.verdict is Verdict.NOT_EQUIVALENT
    assert "y (keys)" in str(compared.reason)


def test_another_map_is_not_taken_for_the_same(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", "int")
    out = convfc.convert(path).out
    model = onnx.load(out)
    model.graph.output[0].type.CopyFrom(map_of(TensorProto.INT64, TensorProto.DOUBLE))
    onnx.save(model, out)
    assert convfc.verify(path, out).verdict is not Verdict.EQUIVALENT


def test_a_type_that_says_what_convfc_writes_there(tmp_path: Path) -> None:
    """A hostile file: what it says is kept as it is."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1, 4, None, None]))
    kind.denotation = "convfc carries no such thing"
    node = helper.make_node("SequenceConstruct", ["c", "c"], ["y"])
    path = saved(tmp_path / "m.onnx", [CONV, node], [helper.make_value_info("y", kind)])
    done = convfc.convert(path)
    assert onnx.load(done.out).graph.output[0].type == kind
    checked = convfc.verify(path, samples=2)
    assert checked.equivalent
    assert [(out.name, len(out.shape)) for out in checked.outputs] == [("y", 5)]


def test_tensors_of_several_sizes_in_a_sequence(tmp_path: Path) -> None:
    """They are not compared: the layers are proved, and what is around them is the same."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    node = helper.make_node("SplitToSequence", ["c", "sizes"], ["y"], axis=1)
    sizes = helper.make_node("Constant", [], ["sizes"], value_ints=[1, 3])
    path = saved(tmp_path / "m.onnx", [CONV, sizes, node], [helper.make_value_info("y", kind)])
    done = convfc.convert(path)
    assert done.look is not None
    assert "not of one size" in str(done.look.reason)
    checked = convfc.verify(path, samples=2)
    assert checked.verdict is Verdict.EQUIVALENT
    assert checked.samples == 0


@pytest.mark.parametrize("kind", ["sequence", "map"])
def test_an_input_that_is_no_tensor(tmp_path: Path, kind: str) -> None:
    """It is carried through; nobody can make one up."""
    reader = {
        "sequence": helper.make_node("SequenceLength", ["q"], ["n"]),
        "map": helper.make_node(
            "DictVectorizer", ["q"], ["n"], domain="ai.onnx.ml", int64_vocabulary=[1, 5]
        ),
    }[kind]
    held = onnx.TypeProto()
    held.map_type.key_type = TensorProto.INT64
    held.map_type.value_type.tensor_type.elem_type = FLOAT
    if kind == "sequence":
        held = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [3, "k"]))
    path = tmp_path / "m.onnx"
    number = unshaped("n", TensorProto.INT64 if kind == "sequence" else FLOAT)
    saved(path, [CONV, reader], [unshaped("c"), number], versions=(("ai.onnx.ml", 1),))
    model = onnx.load(path)
    model.graph.input.append(helper.make_value_info("q", held))
    onnx.save(model, path)
    done = convfc.convert(path)
    assert done.complete
    assert onnx.load(done.out).graph.input[1].type == held
    word = {"sequence": r"seq\(tensor\(float\)\)", "map": r"map\(int64,tensor\(float\)\)"}[kind]
    with pytest.raises(convfc.DataError, match=f"input 'q' takes a {word}"):
        convfc.verify(path)
    given: dict[str, Any] = {"sequence": [np.zeros((3, 2), np.float32)], "map": {1: 2.0}}
    expected, found = (run(one, x=X, q=given[kind]) for one in (path, done.out))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
