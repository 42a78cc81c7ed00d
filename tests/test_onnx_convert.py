"""ONNX convolutions, converted, through onnxruntime: the same numbers to the last bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import convfc
from convfc import Code, Convolution, PatchMethod, Window, convolution
from convfc.core.geometry import Sizes
from tests.onnx_layers import layers
from tests.onnx_models import attributes, conv_file, integers, kernel_shape, operators, run, save
from tests.thinned import thinned

METHODS = ["auto", "reshape", "gather", "rows", "slice", "taps", "shift"]


def converted(path: Path, patches: str = "auto", patch_memory: int | None = None) -> Path:
    """Convert a file in which nothing may be left."""
    done = convfc.convert(path, patches=patches, patch_memory=patch_memory)
    assert done.complete, [layer.reason for layer in done.layers]
    assert not {name for name in operators(done.out) if "Conv" in name}
    onnx.checker.check_model(str(done.out), full_check=True)
    return done.out


@given(layers(), st.sampled_from(METHODS), st.booleans())
@settings(max_examples=100)
def test_random_convolutions(layer: tuple[Convolution, Sizes], patches: str, bias: bool) -> None:
    conv, sizes = layer
    with tempfile.TemporaryDirectory() as folder:
        path = conv_file(Path(folder) / "m.onnx", conv, sizes, bias=bias)
        done = convfc.convert(path, patches=patches)
        if not done.complete:
            lowering = convfc.lower(conv, sizes, PatchMethod(patches))
            assert isinstance(lowering, convfc.Refusal)
            assert done.layers[0].reason == lowering.reason
            assert not done.out.exists()
            return
        assert "Conv" not in operators(done.out)
        for batch, more in ((1, 0), (3, 5)):
            # An unknown size takes several values in one and the same file.
            shape = [s or w.extent + more for s, w in zip(sizes, conv.windows, strict=True)]
            x = integers([batch, conv.channels, *shape])
            assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])


@pytest.mark.parametrize("patches", METHODS)
def test_each_method_with_its_own_operators(tmp_path: Path, patches: str) -> None:
    window = (
        Window(3, 3)
        if patches == "reshape"
        else Window(3, 1 if patches == "shift" else 2, 2, (1, 2))
    )
    depthwise = patches == "taps"
    conv = Convolution((window, Window(2, 2)), 3, *((3, 3) if depthwise else (4, 1)))
    path = conv_file(tmp_path / "m.onnx", conv, (11, 8))
    expected = {
        "auto": {"Pad", "Gather", "Reshape"},
        "gather": {"Pad", "Gather", "Reshape"},
        "rows": {"Pad", "Gather", "Slice", "Concat", "Reshape"},
        "slice": {"Pad", "Slice", "Concat", "Reshape"},
        "reshape": {"Slice", "Reshape"},
        "taps": {"Pad", "Slice", "Reshape", "Tile", "Split"},
        "shift": {"Pad", "Slice", "Concat", "Reshape"},
    }
    out = converted(path, patches)
    assert operators(out) == expected[patches] | {
        "Transpose",
        "Mul" if depthwise else "MatMul",
        "Add",
    }
    x = integers([2, 3, 11, 8])
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("filters", [3, 6])
@pytest.mark.parametrize("patches", ["gather", "rows", "slice", "taps", "shift"])
def test_each_method_with_unknown_sizes(
    tmp_path: Path, patches: str, filters: int, opset: int
) -> None:
    stride, groups = (1, 1) if patches == "shift" else (2, 3)
    conv = Convolution((Window(3, stride, 1, (1, 1)), Window(2, 1, 2)), 3, filters, groups)
    path = conv_file(tmp_path / "m.onnx", conv, (None, None), opset=opset)
    out = converted(path, patches)
    for shape in ([2, 3, 5, 7], [1, 3, 8, 3]):
        x = integers(shape)
        assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 18, 21, 23])
@pytest.mark.parametrize("patches", ["gather", "slice"])
def test_opsets_and_their_operator_forms(tmp_path: Path, opset: int, patches: str) -> None:
    conv = convolution([3, 2], channels=4, filters=6, padding=[(1, 0), (0, 1)], groups=2)
    path = conv_file(tmp_path / "m.onnx", conv, (5, 6), opset=opset)
    out = converted(path, patches)
    assert onnx.load(out).opset_import[0].version == opset
    x = integers([2, 4, 5, 6])
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_before_opset_10_pooling_makes_the_steps_of_slices(tmp_path: Path, rank: int) -> None:
    conv = convolution([3, 2, 1][:rank], channels=2, filters=3, strides=[2, 1, 3][:rank])
    path = conv_file(tmp_path / "m.onnx", conv, (None,) * rank, opset=9)
    out = converted(path)
    for size in (5, 8):
        x = integers([2, 2, *[size] * rank])
        x[0, 0, 0] = np.nan
        x[0, 1, 0] = -np.inf
        assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0], equal_nan=True)


GROUPED = convolution([2, 3], channels=4, filters=6, strides=[1, 2], groups=2)


@pytest.mark.parametrize("conv", [GROUPED, convolution([2, 3], channels=4, filters=5)])
@pytest.mark.parametrize("origin", ["constant", "overridable", "old", "input", "computed"])
def test_where_a_kernel_comes_from(tmp_path: Path, conv: Convolution, origin: str) -> None:
    kernel, bias = integers(kernel_shape(conv), 1), integers([conv.filters], 2)
    node = helper.make_node("Conv", ["x", "W", "B"], ["y"], name="conv", **attributes(conv))
    inputs: dict[str, list[int | str | None]] = {"x": ["n", 4, 7, 8]}
    x = integers([2, 4, 7, 8])
    feed, path = {"x": x}, tmp_path / "m.onnx"
    if origin == "constant":
        constant = helper.make_node(
            "Constant", [], ["W"], value=onnx.numpy_helper.from_array(kernel)
        )
        save(path, [constant, node], inputs, ["y"], {"B": bias})
    elif origin in ("overridable", "old"):
        # Before IR version 4 every initializer had to be an input as well.
        weights = {"W": kernel, "B": bias}
        opset, version = (17, 8) if origin == "overridable" else (8, 3)
        save(
            path,
            [node],
            inputs,
            ["y"],
            weights,
            overridable=True,
            opset=opset,
            ir_version=version,
        )
    elif origin == "input":
        inputs |= {"W": list(kernel.shape), "B": list(bias.shape)}
        save(path, [node], inputs, ["y"], {})
        feed |= {"W": kernel, "B": bias}
    else:
        half = helper.make_node("Add", ["V", "V"], ["W"])
        save(path, [half, node], inputs, ["y"], {"V": kernel, "B": bias})
    out = converted(path)
    assert np.array_equal(run(path, **feed)[0], run(out, **feed)[0])
    if origin == "constant":
        assert "Constant" not in operators(out), "the convolution's own kernel is of no use now"
    if origin == "overridable":
        feed["W"] = integers(kernel.shape, 3)
        assert np.array_equal(run(path, **feed)[0], run(out, **feed)[0])


def test_a_shared_kernel_stays_shared(tmp_path: Path) -> None:
    conv = convolution([3, 3], channels=2, filters=2, padding="same")
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], name="one", **attributes(conv)),
        helper.make_node("Conv", ["a", "W"], ["y"], name="two", strides=[1, 2]),
    ]
    path = save(
        tmp_path / "m.onnx",
        nodes,
        {"x": ["n", 2, 5, 6]},
        ["y"],
        {"W": integers(kernel_shape(conv))},
    )
    out = converted(path)
    graph = onnx.load(out).graph
    assert [list(w.dims) for w in graph.initializer].count([18, 2]) == 1
    assert "W" not in [w.name for w in graph.initializer]
    x = integers([1, 2, 5, 6])
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])


def test_a_convolution_inside_a_branch_and_one_inside_a_function(tmp_path: Path) -> None:
    conv = convolution([2, 3], channels=2, filters=3, padding=[(1, 0), (0, 1)])
    kernel = integers(kernel_shape(conv))
    inner = helper.make_node("Conv", ["x", "W"], ["b"], name="conv", **attributes(conv))
    value = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)
    then = helper.make_graph([inner], "then", [], [value])
    zero = helper.make_node("Sub", ["f", "f"], ["b"])
    nodes = [
        helper.make_node("F", ["x", "W"], ["f"], domain="here", name="call"),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If",
            ["positive"],
            ["g"],
            name="if",
            then_branch=then,
            else_branch=helper.make_graph([zero], "else", [], [value]),
        ),
        helper.make_node("Add", ["f", "g"], ["y"]),
    ]
    body = helper.make_node("Conv", ["u", "k"], ["v"], name="conv", **attributes(conv))
    with_kernel = helper.make_function(
        "here",
        "F",
        ["u", "w"],
        ["v"],
        [
            helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(kernel)),
            body,
        ],
        [helper.make_opsetid("", 17)],
    )
    path = save(
        tmp_path / "m.onnx",
        nodes,
        {"x": ["n", 2, 5, 6]},
        ["y"],
        {"W": kernel, "zero": np.zeros((), np.float32)},
        functions=[with_kernel],
    )
    done = convfc.convert(path)
    assert [layer.site.name for layer in done.layers] == ["if/then_branch/conv", "F/conv"]
    assert done.complete
    assert "Conv" not in operators(done.out)
    for sign in (1, -1):
        x = sign * abs(integers([2, 2, 5, 6]))
        assert np.array_equal(run(path, x=x)[0], run(done.out, x=x)[0])


def test_nothing_else_changes(tmp_path: Path) -> None:
    conv = convolution([3, 3], channels=2, filters=3)
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="before", doc_string="kept"),
        helper.make_node("Conv", ["a", "W", "B"], ["b"], name="", **attributes(conv)),
        helper.make_node("Mystery", ["b"], ["c"], domain="their.own", name="custom"),
        helper.make_node("Conv", ["b", "W", "B"], ["d"], name="Conv", strides=[2, 2]),
    ]
    weights = {"W": integers([3, 2, 3, 3]), "B": integers([3])}
    nodes[3].input[1] = "V"
    weights["V"] = integers([3, 3, 3, 3], 5)
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 9, 9]}, ["c", "d"], weights)
    model = onnx.load(path)
    model.doc_string, model.producer_name = "words", "them"
    model.metadata_props.add(key="k", value="v")
    model.graph.node[1].metadata_props.add(key="conv", value="its own")
    onnx.save(model, path)

    done = convfc.convert(path)
    assert [layer.site.name for layer in done.layers] == ["b", "Conv"]
    after = onnx.load(done.out)
    for node in (model.graph.node[0], model.graph.node[2]):
        assert node in after.graph.node
    by_output = {node.output[0]: node for node in after.graph.node}
    assert by_output["b"].metadata_props == model.graph.node[1].metadata_props
    assert by_output["d"].name == "Conv"
    assert after.graph.input == model.graph.input
    assert after.graph.output == model.graph.output
    assert (after.doc_string, after.producer_name) == ("words", "them")
    assert model.metadata_props[0] in after.metadata_props
    assert after.opset_import == model.opset_import
    assert after.ir_version == model.ir_version
    names = [name for node in after.graph.node for name in node.output]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shape", [(1, 2), (1,), (), (3,)])
def test_a_bias_that_no_runtime_takes_is_left(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A sum of rows would take some of them: then the converted model could be run alone."""
    node = helper.make_node("Conv", ["x", "W", "B"], ["y"])
    weights = {"W": integers([2, 1, 3]), "B": integers(shape)}
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 1, 5]}, ["y"], weights)
    (layer,) = convfc.convert(path).layers
    assert layer.refusal is not None
    assert layer.refusal.code is Code.CONTRADICTION
    assert layer.reason == "its bias is no list of 2 numbers, one for each filter"
    with pytest.raises(Exception, match="bias"):  # onnxruntime's own word
        run(path, x=integers([2, 1, 5]))


def test_an_output_that_no_runtime_makes_is_left(tmp_path: Path) -> None:
    """Of 4 pixels, stride 2 and 3 taps make 9 numbers and one that the stride skips."""
    for length, fate in ((9, "converted"), (10, "converted"), (11, "left")):
        node = helper.make_node(
            "ConvTranspose", ["x", "W"], ["y"], strides=[2], output_shape=[length]
        )
        path = save(
            tmp_path / "m.onnx", [node], {"x": ["n", 1, 4]}, ["y"], {"W": integers([1, 1, 3])}
        )
        (layer,) = convfc.convert(path, partial=True).layers
        assert layer.fate.value == fate
        x = integers([2, 1, 4])
        if fate == "left":
            assert layer.refusal is not None
            assert layer.refusal.code is Code.CONTRADICTION
            with pytest.raises(Exception, match="inconsistent"):  # onnxruntime's own word
                run(path, x=x)
        else:
            assert run(path, x=x)[0].shape == (2, 1, length)


def test_static_shapes_stay_static(tmp_path: Path) -> None:
    conv = convolution([3, 2], channels=4, filters=6, strides=[2, 1], groups=2)
    out = converted(conv_file(tmp_path / "m.onnx", conv, (9, 7)))
    shape = onnx.shape_inference.infer_shapes(onnx.load(out)).graph.output[0].type.tensor_type.shape
    assert [dim.dim_value or dim.dim_param for dim in shape.dim] == ["batch", 6, 4, 6]


@pytest.mark.parametrize("kind", thinned(["Conv", "ConvTranspose"]))
@pytest.mark.parametrize(("patches", "memory"), [("gather", 400), ("rows", 100), ("slice", 400)])
def test_blocks(tmp_path: Path, kind: str, patches: str, memory: int) -> None:
    conv = convolution([3, 2], channels=4, filters=4, strides=[2, 1], padding="half", groups=2)
    node = helper.make_node(kind, ["x", "W", "B"], ["y"], **attributes(conv))
    weights = {"W": integers([4, 2, 3, 2]), "B": integers([4])}
    path = save(tmp_path / "m.onnx", [node], {"x": ["n", 4, 11, 3]}, ["y"], weights)
    out = converted(path, patches, memory)
    (layer,) = convfc.shapes(path, patch_memory=memory)
    assert layer.lowering is not None
    assert layer.lowering.blocks > 2
    assert convfc.verify(path, out).equivalent
    x = integers([2, 4, 11, 3])
    assert np.array_equal(run(path, x=x)[0], run(out, x=x)[0])
    matrices = [w for w in onnx.load(out).graph.initializer if "filter_matrix" in w.name]
    assert len(matrices) == 1, "all blocks share it"
