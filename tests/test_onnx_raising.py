"""Raising the opset: what operators of 2017 and 2018 are in opset 11.

onnxruntime runs opset 7 and later, so there the older file itself is the measure. Before, it is
what the specification says, in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc.formats.onnx.opset_steps import HIGHEST, STEPS, StepError
from convfc.formats.onnx.raising import gains, raised
from tests.onnx_models import integers, run, save

Array = NDArray[Any]
OPEN = ("n", 3, "h", "w")
X = integers([2, 3, 4, 5], 1)

REFUSED = {("Scan", 9): "of batches, with lengths"}
"""What has no step, and is another operator since."""


def _changes() -> dict[tuple[str, int], tuple[onnx.defs.OpSchema, onnx.defs.OpSchema]]:
    """Every operator and opset at which it changed, with both forms."""
    forms: dict[str, dict[int, onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= HIGHEST:
            forms.setdefault(schema.name, {})[schema.since_version] = schema
    changes = {}
    for name, by_version in forms.items():
        versions = sorted(by_version)
        for before, after in pairwise(versions):
            changes[name, after] = by_version[before], by_version[after]
    return changes


def test_every_change_of_an_operator_is_known() -> None:
    """By onnx's own table of operators: handled, refused by name, or only gained settings."""
    changes = _changes()
    others = {key for key, (before, after) in changes.items() if not gains(before, after)}
    assert others - STEPS.keys() == REFUSED.keys()
    assert STEPS.keys() <= changes.keys(), "a step for nothing"
    # These have the form that they had, and are read otherwise.
    assert STEPS.keys() - others == {("PRelu", 7), ("Dropout", 10)}


def _model(
    node: onnx.NodeProto, opset: int, weights: dict[str, Array], shape: Any = OPEN
) -> onnx.ModelProto:
    """One node on `x`, of open sizes, with weights as constants; the types of outputs follow."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(w.dtype) for name, w in weights.items()}
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(w, name) for name, w in weights.items() if kinds[name]],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def _run(proto: onnx.ModelProto, x: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


def _node(kind: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name="it", **attributes)


ROW, PLANE = integers([5], 2), integers([3, 4], 3)
CHANNEL = integers([3], 4)
ONE = np.array([3], np.float32)

OLD: list[tuple[str, int, onnx.NodeProto, dict[str, Array], Callable[[Array], Array]]] = [
    ("a channel's sum", 1, _node("Add", "x b", broadcast=1, axis=1, consumed_inputs=[0, 0]),
     {"b": CHANNEL}, lambda x: x + CHANNEL[:, None, None]),
    ("a plane's product", 6, _node("Mul", "x b", broadcast=1, axis=1),
     {"b": PLANE}, lambda x: x * PLANE[..., None]),
    ("of the first axis", 6, _node("Sub", "x b", broadcast=1, axis=0),
     {"b": CHANNEL[:2]}, lambda x: x - CHANNEL[:2, None, None, None]),
    ("rows", 6, _node("Sub", "x b", broadcast=1), {"b": ROW}, lambda x: x - ROW),
    ("rows, told", 6, _node("Sub", "x b", broadcast=1, axis=3), {"b": ROW}, lambda x: x - ROW),
    ("rows, as Caffe2 tells", 6, _node("Sub", "x b", broadcast=1, axis=-1),
     {"b": ROW}, lambda x: x - ROW),
    ("one number", 6, _node("Div", "x b", broadcast=1, axis=1), {"b": ONE}, lambda x: x / 3),
    ("a scalar", 6, _node("Div", "x b", broadcast=1), {"b": ONE[0]}, lambda x: x / 3),
    ("not broadcast", 6, _node("Add", "x x", axis=1), {}, lambda x: x + x),
    ("a power", 1, _node("Pow", "x b", broadcast=1, axis=1),
     {"b": np.array([1, 2, 3], np.float32)}, lambda x: x ** np.reshape([1, 2, 3], (3, 1, 1))),
    ("a comparison", 1, _node("Greater", "x b", broadcast=1, axis=1),
     {"b": CHANNEL}, lambda x: x > CHANNEL[:, None, None]),
    ("slopes of channels", 1, _node("PRelu", "x b"), {"b": CHANNEL},
     lambda x: np.where(x < 0, x * CHANNEL[:, None, None], x)),
    ("one slope", 6, _node("PRelu", "x b"), {"b": ONE}, lambda x: np.where(x < 0, x * 3, x)),
    ("a type in letters", 1, _node("Cast", to="INT32"), {}, lambda x: x.astype(np.int32)),
    ("a type, small", 5, _node("Cast", to="float16"), {}, lambda x: x.astype(np.float16)),
    ("channels joined", 3, _node("Concat", "x x"), {}, lambda x: np.concatenate([x, x], 1)),
    ("a shape", 4, _node("Reshape", shape=[0, -1], consumed_inputs=[0]), {},
     lambda x: x.reshape(2, -1)),
    ("pads", 1, _node("Pad", paddings=[0, 0, 1, 2, 0, 0, 0, 1], value=2.0), {},
     lambda x: np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)], constant_values=2)),
    ("pads of zeros", 2, _node("Pad", pads=[0, 0, 1, 0, 0, 0, 0, 0], mode="constant"), {},
     lambda x: np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 0)])),
    ("bounds", 1, _node("Clip", min=-3.0, max=4.0, consumed_inputs=[0]), {},
     lambda x: np.clip(x, -3, 4)),
    ("copies", 1, _node("Tile", "x t a"), {"t": np.array([2], np.int64), "a": np.array(1)},
     lambda x: np.tile(x, (1, 2, 1, 1))),
    ("twice as large", 1, _node("Upsample", height_scale=2.0, width_scale=3.0, mode="nearest"), {},
     lambda x: x.repeat(2, 2).repeat(3, 3)),
    ("a norm", 1, _node("GlobalLpPool", p=1.0), {},
     lambda x: np.abs(x).sum((2, 3), keepdims=True)),
    ("parts", 1, _node("Split", "x p", "y z", axis=3), {"p": np.array([2, 3], np.float32)},
     lambda x: x[..., :2]),
    ("selu", 1, _node("Selu"), {},
     lambda x: 1.0507 * np.where(x > 0, x, 1.6732 * np.expm1(x.astype(np.float64)))),
    ("means", 5, _node("BatchNormalization", "x b b b v", is_test=1, epsilon=0.0,
     consumed_inputs=[0, 0, 0, 1, 1], spatial=1), {"b": CHANNEL, "v": np.ones(3, np.float32)},
     lambda x: ((x - CHANNEL[:, None, None]) * CHANNEL[:, None, None]) + CHANNEL[:, None, None]),
    ("dropout", 5, _node("Dropout", is_test=1, ratio=0.25), {}, lambda x: x),
    ("a largest", 1, _node("Max", "x b", consumed_inputs=[0, 0]), {"b": X[::-1]},
     lambda x: np.maximum(x, X[::-1])),
    ("largest ones", 1, _node("TopK", "x", "y i", k=2, axis=3), {},
     lambda x: -np.sort(-x, 3)[..., :2]),
    ("a piece", 1, _node("Slice", starts=[1, -3], ends=[9, -1], axes=[1, 3]), {},
     lambda x: x[:, 1:, :, -3:-1]),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "node", "weights", "expected"), [c[1:] for c in OLD],
                         ids=[c[0] for c in OLD])  # fmt: skip
def test_what_no_runtime_runs_any_more(
    opset: int, node: onnx.NodeProto, weights: dict[str, Array], expected: Callable[[Array], Array]
) -> None:
    newer = raised(_model(node, opset, weights), HIGHEST)
    assert newer.opset_import[0].version == HIGHEST
    got = _run(newer, X)[0]
    wanted = np.asarray(expected(X))
    assert got.shape == wanted.shape
    assert got.dtype == (wanted.dtype if node.op_type == "Cast" else got.dtype)
    assert np.allclose(got, wanted, rtol=1e-5, atol=0)


def test_a_sum_along_the_channels_of_a_single_image() -> None:
    """The official converter puts the channels on the first axis, which one image lets pass."""
    node = _node("Add", "x b", broadcast=1, axis=1)
    newer = raised(_model(node, 6, {"b": CHANNEL}, (1, 3, "h", "w")), HIGHEST)
    assert np.array_equal(_run(newer, X[:1])[0], X[:1] + CHANNEL[:, None, None])


HALF = np.array([1, 1, 0.5, 0.75], np.float32)
LARGER = np.array([1, 1, 1.6, 2], np.float32)

SINCE_7: list[tuple[int, onnx.NodeProto, dict[str, Array]]] = [
    (7, _node("Upsample", scales=[1.0, 1.0, 1.5, 2.0], mode="nearest"), {}),
    (8, _node("Upsample", scales=[1.0, 1.0, 1.5, 2.0], mode="linear"), {}),
    (9, _node("Upsample", "x s", mode="linear"), {"s": LARGER}),
    (9, _node("Upsample", "x s"), {"s": LARGER}),
    (10, _node("Resize", "x s"), {"s": HALF}),
    (10, _node("Resize", "x s"), {"s": LARGER}),
    (10, _node("Resize", "x s", mode="linear"), {"s": HALF * LARGER}),
    (9, _node("Slice", starts=[0, 1], ends=[2, -1]), {}),
    (9, _node("TopK", "x", "y i", k=2), {}),
    (9, _node("Scatter", "x i u", axis=2),
     {"i": np.array([[[[3, 0]]]]), "u": np.array([[[[7, 8]]]], np.float32)}),
    (10, _node("Clip", max=2.0), {}),
    (10, _node("Clip"), {}),
    (10, _node("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 2], mode="reflect"), {}),
    (9, _node("Dropout", "x", "y m", ratio=0.5), {}),
    (8, _node("BatchNormalization", "x b b b v", spatial=1),
     {"b": CHANNEL, "v": np.ones(3, np.float32)}),
    (7, _node("Sum", "x x"), {}),
    (7, _node("Softmax", axis=1), {}),
    (7, _node("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1]), {}),
    (7, _node("MaxPool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], strides=[2, 1]), {}),
    (7, _node("DepthToSpace", "x", blocksize=1), {}),
    (8, _node("ThresholdedRelu", alpha=2.0), {}),
    (8, _node("Scale", scale=0.3), {}),
    (8, _node("Affine", alpha=0.5, beta=2.0), {}),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "node", "weights"), SINCE_7)
def test_what_onnxruntime_runs_in_both_opsets(
    opset: int, node: onnx.NodeProto, weights: dict[str, Array]
) -> None:
    older = _model(node, opset, weights)
    newer = raised(older, HIGHEST)
    for size in ([2, 3, 4, 5], [1, 3, 5, 4]):
        x = integers(size, 5)
        for before, after in zip(_run(older, x), _run(newer, x), strict=True):
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)


@pytest.mark.parametrize("kind", ["ScaledTanh", "ParametricSoftplus"])
def test_curves_that_were_tried(kind: str) -> None:
    """onnxruntime computes its own, to a few bits."""
    older = _model(_node(kind, alpha=3.0, beta=0.2), 8, {})
    before, after = (_run(proto, X)[0] for proto in (older, raised(older, HIGHEST)))
    assert np.allclose(before, after, rtol=1e-5, atol=1e-6)


NO_WAY: list[tuple[int, onnx.NodeProto, dict[str, Array], str]] = [
    (6, _node("Dropout", is_test=0), {}, "Dropout 'it': it says that it trains"),
    (6, _node("BatchNormalization", "x b b b b", "y m v s t"), {"b": CHANNEL},
     "BatchNormalization 'it': it has the outputs of training"),
    (8, _node("BatchNormalization", "x b b b b", spatial=0), {"b": CHANNEL},
     "BatchNormalization 'it': it has a mean for each pixel"),
    (5, _node("Cast", to="FLOAT3"), {}, "Cast 'it': there is no type 'FLOAT3'"),
    (6, _node("Add", "x b", broadcast=1, axis=2), {"b": X}, "Add 'it': its axis 2 is none"),
    (1, _node("GlobalLpPool", p=1.5), {}, "GlobalLpPool 'it': its p of 1.5 is no integer"),
    (1, _node("Split", "x", "y z"), {}, "Split 'it': it has no axis"),
    (1, _node("Split", "x x", "y z", axis=1), {}, "Split 'it': 'x' is computed"),
    (10, _node("Resize", "x s"), {"s": np.array([1, 1, 0.5, 2], np.float32)},
     "Resize 'it': it makes one axis smaller and another one larger"),
    (10, _node("Resize", "x x"), {}, "Resize 'it': 'x' is computed"),
    (8, _node("Scan", " x"), {}, "Scan 'it': it became another operator in opset 9"),
    (8, _node("ConstantFill"), {}, "ConstantFill 'it': opset 8 has no such operator"),
]  # fmt: skip


@pytest.mark.parametrize(("opset", "node", "weights", "why"), NO_WAY)
def test_what_has_no_newer_form_is_named(
    opset: int, node: onnx.NodeProto, weights: dict[str, Array], why: str
) -> None:
    with pytest.raises(StepError) as refused:
        raised(_model(node, opset, weights), HIGHEST)
    assert str(refused.value).startswith(why)


def test_a_net_of_2017_on_images_of_any_size(tmp_path: Path) -> None:
    """Sums along an axis and types in letters, which the official converter does not know."""
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], name="cast", to="FLOAT"),
        helper.make_node("Conv", ["half", "W"], ["c"], name="conv", auto_pad="SAME_UPPER",
                         strides=[2, 2]),
        helper.make_node("Add", ["c", "b"], ["d"], name="bias", broadcast=1, axis=1),
        helper.make_node("PRelu", ["d", "b"], ["e"], name="slopes"),
        helper.make_node("Upsample", ["e"], ["y"], name="larger", mode="bilinear",
                         height_scale=2.0, width_scale=2.0),
    ]  # fmt: skip
    weights = {"W": integers([4, 3, 3, 2], 1), "b": integers([4], 2)}
    path = save(tmp_path / "m.onnx", nodes, {"x": OPEN}, ["y"], weights, opset=5)
    done = convfc.convert(path)
    assert done.complete
    assert any("from 5 to 11" in note for note in done.notes)
    modern = [
        helper.make_node("Conv", ["x", "W", "b"], ["d"], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("PRelu", ["d", "slope"], ["e"]),
        helper.make_node("Upsample", ["e", "s"], ["y"], mode="linear"),
    ]
    scales = {"s": np.array([1, 1, 2, 2], np.float32), "slope": weights["b"][:, None, None]}
    known = save(tmp_path / "k.onnx", modern, {"x": OPEN}, ["y"], {**weights, **scales}, opset=9)
    for size in ([2, 3, 9, 11], [1, 3, 4, 4]):
        x = integers(size, 3)
        assert np.array_equal(run(known, x=x)[0], run(done.out, x=x)[0])
    assert convfc.verify(path, samples=2, shapes={"x": [1, 3, 9, 11]}).equivalent
    nodes[2].attribute[0].i = 3  # the twin: another axis is another function
    other = save(tmp_path / "other.onnx", nodes, {"x": OPEN}, ["y"], weights, opset=5)
    found = convfc.verify(other, done.out, samples=2, shapes={"x": [1, 3, 8, 8]})
    assert found.verdict is convfc.Verdict.COULD_NOT_CHECK, "onnxruntime does not run opset 5"
    assert "node 'bias' reads" in str(found.reason)


def test_in_a_branch() -> None:
    """With what lies outside: its types, and constants that nobody overrides."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [
                helper.make_node("Upsample", ["x", "s"], ["larger"], name="up", mode=mode),
                helper.make_node("Clip", ["larger"], [name], min=-9.0),
            ],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)],
        )
        for name, mode in (("then", "nearest"), ("else", "linear"))
    }
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["truth"], value=truth),
            helper.make_node("If", ["truth"], ["y"], **branches),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, OPEN)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(LARGER, "s")],
    )
    for chosen in (True, False):
        graph.node[0].attribute[0].t.CopyFrom(
            helper.make_tensor("truth", TensorProto.BOOL, [], [chosen])
        )
        older = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
        newer = raised(older, HIGHEST)
        assert np.array_equal(_run(older, X)[0], _run(newer, X)[0])
    older.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [4]))
    with pytest.raises(StepError, match="'s' is computed"):
        raised(older, HIGHEST)


def test_what_a_loop_is_fed_hides_a_weight_of_its_name() -> None:
    """A nearest pixel depends on whether scales are above one, and these are not the weight's."""
    fed = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, [4]),
    ]
    nodes = [
        helper.make_node("Resize", ["x", "s"], ["r"], mode="nearest"),
        helper.make_node("Identity", ["go"], ["go1"]),
        helper.make_node("Identity", ["s"], ["s1"]),
    ]
    made = [onnx.ValueInfoProto(name=name) for name in ("go1", "s1", "r")]
    body = helper.make_graph(nodes, "body", fed, made)
    loop = helper.make_node("Loop", ["once", "", "half"], ["s2", "y"], body=body)
    double, half = (np.array([1, 1, by, by], np.float32) for by in (2, 0.5))
    model = _model(loop, 10, {"s": double, "half": half, "once": np.array(1, np.int64)})
    model.ir_version = 3
    with pytest.raises(StepError, match="'s' is computed"):
        raised(model, HIGHEST)


def test_what_keeps_the_opset_down_is_said(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "Conv", ["x", "W"], ["c"], name="c", auto_pad="SAME_UPPER", strides=[2, 2]
        ),
        helper.make_node("Dropout", ["c"], ["y"], name="drop", is_test=0),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": OPEN}, ["y"], {"W": integers([4, 3, 3, 2])},
                opset=6)  # fmt: skip
    done = convfc.convert(path, partial=True)
    assert done.layers[0].refusal is not None
    assert done.layers[0].refusal.code is convfc.Code.OPSET
    assert "The opset stays 6: Dropout 'drop': it says that it trains." in done.notes
