"""Files of Keras 2: each difference by itself, and whole files that old versions wrote.

tests/data/make_old_keras_files.py made the files, 2.21.0 those of tf_keras; their outputs beside
them are those of the Keras that wrote them.
"""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import convfc
from convfc.errors import UnsupportedModelError
from convfc.formats.keras import internals, open_keras
from convfc.formats.keras.quiet import importing
from convfc.formats.keras.replaced_calls import refuse_other_meanings, replaced_calls
from convfc.formats.keras.upgrades import (
    MODEL_STEPS,
    TRAINING_STEPS,
    classes,
    graphs,
    operations,
    slices,
    training,
    upgrade,
    weight_paths,
)
from tests.keras_models import convert, save, stock
from tests.thinned import thinned

with importing():
    import keras

OLD = Path(__file__).with_name("data") / "old_keras.zip"


def layer(kind: str, *nodes: Any, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": config, "inbound_nodes": list(nodes)} | (
        {"name": config["name"]} if "name" in config else {}
    )


def functional(*stack: Any, inputs: Any, outputs: Any, name: str = "net") -> dict[str, Any]:
    inner = {"name": name, "layers": list(stack), "input_layers": inputs, "output_layers": outputs}
    return {"class_name": "Functional", "config": inner}


def changed(step: Any, config: dict[str, Any]) -> Any:
    """What a step makes of a configuration; done a second time, it has nothing to do."""
    config = copy.deepcopy(config)
    assert step(config)
    again = copy.deepcopy(config)
    assert not step(again)
    assert again == config
    return config


def test_upgrade_leaves_the_original_and_names_the_steps() -> None:
    config = {"class_name": "Model", "config": {"layers": []}}
    before = copy.deepcopy(config)
    new, done = upgrade(config, MODEL_STEPS)
    assert config == before != new
    assert done == ("named the modules of classes as Keras 3 does",)
    assert upgrade({"loss": "mean_squared_error"}, TRAINING_STEPS)[1] == ()


def test_name_lists() -> None:
    stack = [layer("Dense", units=2)]
    new = changed(classes.name_lists, {"class_name": "Sequential", "config": stack})
    assert new["config"] == {"name": "sequential", "layers": stack}


@pytest.mark.parametrize(
    ("kind", "module", "expected"),
    [
        ("Model", None, ("Functional", "keras.src.models.functional")),
        (
            "Functional",
            "keras.src.engine.functional",
            ("Functional", "keras.src.models.functional"),
        ),
        ("Sequential", "keras", ("Sequential", "keras.src.models.sequential")),
        ("Conv2D", None, ("Conv2D", "keras.layers")),
    ],
)
def test_name_modules(kind: str, module: str | None, expected: tuple[str, str]) -> None:
    config = {"class_name": kind, "config": {}} | ({"module": module} if module else {})
    new = changed(classes.name_modules, config)
    assert (new["class_name"], new["module"]) == expected


def test_custom_classes_keep_their_modules() -> None:
    config = {"class_name": "Conv2D", "config": {}, "module": "m", "registered_name": "my>Conv2D"}
    assert not classes.name_modules(config)
    assert not classes.name_modules({"class_name": "Fancy", "config": {}})


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("DepthwiseConv2D", {"groups": 1, "strides": 2}, {"strides": 2}),
        ("Conv2DTranspose", {"groups": 1}, {}),
        ("SeparableConv2D", {"kernel_initializer": "zeros", "filters": 1}, {"filters": 1}),
        ("LSTM", {"time_major": False, "implementation": 2}, {}),
        ("TimeDistributed", {"batch_input_shape": [None, 3]}, {}),
        ("GlorotUniform", {"seed": 1, "dtype": "float32"}, {"seed": 1}),
        ("SpatialDropout2D", {"trainable": True, "noise_shape": None, "rate": 0.1}, {"rate": 0.1}),
        ("Attention", {"causal": False, "use_scale": True}, {"use_scale": True}),
        ("MultiHeadAttention", {"softmax_robust_masking": False, "key_dim": 2}, {"key_dim": 2}),
        ("RandomFlip", {"rng_type": "stateful", "mode": "horizontal"}, {"mode": "horizontal"}),
        ("MultiHeadAttention", {"query_shape": [1, 2], "key_dim": 3}, {"key_dim": 3}),
    ],
)
def test_drop_arguments(kind: str, given: dict[str, Any], kept: dict[str, Any]) -> None:
    assert changed(classes.drop_arguments, layer(kind, **given))["config"] == kept


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("Conv2D", {"groups": 1, "dtype": "float32"}),
        ("DepthwiseConv2D", {"groups": 2}),
        ("LSTM", {"time_major": True}),
        ("Attention", {"causal": True}),
        ("MultiHeadAttention", {"softmax_robust_masking": True}),
        ("Fancy", {"batch_input_shape": [1]}),
    ],
)
def test_arguments_that_say_something_stay(kind: str, given: dict[str, Any]) -> None:
    assert not classes.drop_arguments(layer(kind, **given))


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("LeakyReLU", {"alpha": 0.5}, {"negative_slope": 0.5}),
        ("InputLayer", {"batch_input_shape": [None, 2]}, {"batch_shape": [None, 2]}),
        ("BatchNormalization", {"axis": [3]}, {"axis": 3}),
        (
            "VarianceScaling",
            {"distribution": "normal"},
            {"distribution": "truncated_normal"},
        ),
        ("GRU", {"units": 2}, {"units": 2, "reset_after": False}),
        ("ReLU", {"dtype": layer("Policy", name="mixed_float16")}, {"dtype": "mixed_float16"}),
    ],
)
def test_rename_arguments(kind: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert changed(classes.rename_arguments, layer(kind, **given))["config"] == expected


def test_replace_classes() -> None:
    new = changed(classes.replace_classes, layer("ThresholdedReLU", theta=0.5, name="t"))
    assert (new["class_name"], new["module"]) == ("ReLU", "keras.layers")
    assert new["config"] == {"name": "t", "threshold": 0.5}
    custom = {**layer("ThresholdedReLU", theta=0.5), "registered_name": "my>ThresholdedReLU"}
    assert not classes.replace_classes(custom)


def test_layers_that_augment() -> None:
    idle = layer("RandomHeight", factor=0.1, name="h", rng_type="stateful")
    new = changed(classes.replace_classes, idle)
    assert (new["class_name"], new["config"]) == ("Identity", {"name": "h"})
    crop = layer("RandomCrop", height=3, width=4, name="c", rng_type="stateful", seed=1)
    new = changed(classes.replace_classes, crop)
    assert new["class_name"] == "Resizing"
    kept = {"name": "c", "height": 3, "width": 4, "crop_to_aspect_ratio": True}
    assert new["config"] == {**kept, "data_format": "channels_last"}
    assert [note[:2] for note in classes.augment_no_more([idle, crop, new])] == ["h:", "c:"]
    del crop["config"]["rng_type"]  # of 2.8 or older, whose numbers are not known to be these
    assert not classes.replace_classes(crop)
    assert not classes.replace_classes({**idle, "registered_name": "my>RandomHeight"})


def test_attention_is_built_for_its_call() -> None:
    built = {**layer("MultiHeadAttention"), "build_config": {"input_shape": [2, 3]}}
    assert "build_config" not in changed(classes.drop_arguments, built)
    assert not classes.drop_arguments({**layer("Dense"), "build_config": {"input_shape": [2]}})


def test_leave_score() -> None:
    new = changed(classes.leave_score, layer("Attention", score_mode="dot", dropout=0.5))
    assert new["config"] == {"dropout": 0.5}
    assert not classes.leave_score(layer("Attention", score_mode="concat"))
    assert not classes.leave_score(layer("Fancy", score_mode="dot"))


def test_name_tensors() -> None:
    config = functional(
        layer("InputLayer", name="x"),
        layer("Fancy", [["x", 0, 0, {"value": ["x", 0, 0], "size": [1, 2, 3]}]], name="one"),
        layer("Fancy", [["x", 0, 0, {"size": 2}], ["one", 0, 0, {"size": 2}]], name="two"),
        inputs=[["x", 0, 0]],
        outputs=[["two", 0, 0]],
    )
    _, one, two = changed(graphs.name_tensors, config)["config"]["layers"]
    (call,) = one["inbound_nodes"]
    assert [arg["config"]["keras_history"] for arg in call["args"]] == [["x", 0, 0]]
    assert call["kwargs"]["value"]["config"]["keras_history"] == ["x", 0, 0]
    assert call["kwargs"]["size"] == [1, 2, 3]
    assert two == config["config"]["layers"][2]


def test_make_inputs() -> None:
    stack = [layer("Conv2D", name="conv", batch_input_shape=[None, 4, 3, 1], dtype="float64")]
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": stack}}
    first, _ = changed(graphs.make_inputs, config)["config"]["layers"]
    assert first["class_name"] == "InputLayer"
    assert first["config"] == {
        "batch_shape": [None, 4, 3, 1],
        "dtype": "float64",
        "name": "conv_input",
    }


def test_a_sequential_without_an_input_is_refused(folder: Path, tmp_path: Path) -> None:
    """As Keras 2.2.4 writes one that begins with an InputLayer."""
    path = tmp_path / "a.h5"
    path.write_bytes((folder / "timed_2.2.4.h5").read_bytes())
    stack = [layer("Conv2D", name="conv", filters=2), layer("Flatten", name="flat")]
    config: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "s", "layers": stack}}
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UnsupportedModelError, match="what its input looks like; build"):
        open_keras(path)
    config["config"]["build_input_shape"] = [None, 8, 8, 1]
    assert not graphs.lacks_input(config)
    config["config"] = {"layers": [layer("Sequential", layers=stack)]}
    assert not graphs.lacks_input(config)


def test_rename_layers() -> None:
    config = functional(
        layer("InputLayer", name="x"),
        layer("Conv2D", [["x", 0, 0, {}]], name="a/b"),
        layer("Conv2D", [["a/b", 0, 0, {}]], name="a_b"),
        inputs=[["x", 0, 0]],
        outputs=[["a_b", 0, 0], ["a/b", 0, 0]],
    )
    new = changed(graphs.rename_layers, config)["config"]
    assert [layer["name"] for layer in new["layers"]] == ["x", "a_b_", "a_b"]
    assert [layer["config"]["name"] for layer in new["layers"]] == ["x", "a_b_", "a_b"]
    assert new["layers"][2]["inbound_nodes"] == [[["a_b_", 0, 0, {}]]]
    assert new["output_layers"] == [["a_b", 0, 0], ["a_b_", 0, 0]]


def test_the_name_of_a_layer_and_of_its_operation_may_differ() -> None:
    operation = {**_node("Relu"), "name": "op_a/b"}
    operation["config"]["name"] = "a/b"
    config = functional(operation, inputs=[], outputs=[["op_a/b", 0, 0]])
    new = changed(graphs.rename_layers, config)["config"]
    assert new["layers"][0]["name"] == "op_a_b"
    assert new["output_layers"] == [["op_a_b", 0, 0]]


def test_count_calls_and_unwrap_singles() -> None:
    inner = functional(layer("InputLayer", name="i"), inputs=[["i", 0, 0]], outputs=[["i", 0, 0]])
    config = functional(
        layer("InputLayer", name="x"),
        {**inner, "name": "net", "inbound_nodes": [[["x", 0, 0, {}]], [["x", 0, 0, {}]]]},
        {**layer("Sequential", [["net", 2, 0, {}]]), "name": "stack"},
        inputs=[["x", 0, 0]],
        outputs=[["net", 1, 0], ["stack", 1, 0]],
        name="outer",
    )
    assert graphs.count_calls(config)
    new = config["config"]
    assert new["layers"][2]["inbound_nodes"] == [[["net", 1, 0, {}]]]
    assert new["output_layers"] == [["net", 1, 0], ["stack", 0, 0]]
    new = changed(graphs.unwrap_singles, config)["config"]
    assert new["input_layers"] == ["x", 0, 0]
    assert len(new["output_layers"]) == 2
    assert new["layers"][1]["config"]["output_layers"] == ["i", 0, 0]


def _node(op: str, *constants: Any, tensors: int = 1, **settings: Any) -> dict[str, Any]:
    held = {str(tensors + place): value for place, value in enumerate(constants)}
    node = {"op": op, "input": ["_"] * (tensors + len(constants)), "attr": settings}
    refs = [["x", 0, 0, {}] for _ in range(tensors)]
    return layer("TensorFlowOpLayer", refs, name="op", node_def=node, constants=held, **KEPT)


def _function(name: str, *node: Any) -> dict[str, Any]:
    return layer("TFOpLambda", list(node), name="op", function=name, **KEPT)


KEPT = {"trainable": True, "dtype": "float32"}
X = graphs.tensor(["x", 0, 0])
SCALED = {"scale": 1.0, "offset": -2.0}
SOFTMAX = {"activation": "softmax"}
RESIZED = {"height": 3, "width": 4, "data_format": "channels_last"}


@pytest.mark.parametrize(
    ("operation", "kind", "config"),
    [
        (_node("Sub", 2.0), "Rescaling", SCALED),
        (_function("math.subtract", "x", 0, 0, {"y": 2.0}), "Rescaling", SCALED),
        (
            _function("math.subtract", "_CONSTANT_VALUE", -1, 2.0, {"y": ["x", 0, 0]}),
            "Rescaling",
            {"scale": -1.0, "offset": 2.0},
        ),
        (_node("RealDiv", 4.0), "Rescaling", {"scale": 0.25, "offset": 0.0}),
        (_node("AddV2", tensors=2), "Add", {}),
        (_function("__operators__.add", "x", 0, 0, {"y": ["x", 0, 0]}), "Add", {}),
        (_node("Relu6"), "Activation", {"activation": "relu6"}),
        (_node("ConcatV2", 1, tensors=2), "Concatenate", {"axis": 1}),
        (
            _function("concat", ["x", 0, 0, {"axis": 1}], ["x", 0, 0, {"axis": 1}]),
            "Concatenate",
            {"axis": 1},
        ),
        (
            _node("Mean", [1, 2]),
            "GlobalAveragePooling2D",
            {"data_format": "channels_last", "keepdims": False},
        ),
        (
            _node("Pad", [[0, 0], [1, 2], [0, 0]]),
            "ZeroPadding1D",
            {"padding": [1, 2], "data_format": "channels_last"},
        ),
        (
            _node("Max", [2, 3, 4]),
            "GlobalMaxPooling3D",
            {"data_format": "channels_first", "keepdims": False},
        ),
        (_node("Minimum", 2.0), "ReLU", {"max_value": 2.0, "negative_slope": 1.0}),
        (_node("Elu"), "Activation", {"activation": "elu"}),
        (_function("nn.softmax", "x", 0, 0, {"axis": -1}), "Activation", SOFTMAX),
        (_function("nn.leaky_relu", "x", 0, 0, {}), "LeakyReLU", {"negative_slope": 0.2}),
        (
            _function("clip_by_value", "x", 0, 0, {"clip_value_min": 0, "clip_value_max": 6}),
            "ReLU",
            {"max_value": 6},
        ),
        (
            _node("ResizeBilinear", [3, 4], half_pixel_centers={"b": True}),
            "Resizing",
            {**RESIZED, "interpolation": "bilinear"},
        ),
        (
            _function("image.resize", "x", 0, 0, {"size": [3, 4], "method": "nearest"}),
            "Resizing",
            {**RESIZED, "interpolation": "nearest"},
        ),
        (_node("Transpose", [0, 2, 1]), "Permute", {"dims": [2, 1]}),
        (_node("Reshape", [-1, 3, 2]), "Reshape", {"target_shape": [3, 2]}),
    ],
)
def test_replace_operations(operation: Any, kind: str, config: dict[str, Any]) -> None:
    graph = functional(
        layer("InputLayer", name="x"), operation, inputs=[["x", 0, 0]], outputs=[["op", 0, 0]]
    )
    made = changed(operations.replace_operations, graph)["config"]["layers"][1]
    assert made["class_name"] == kind
    assert made["config"] == {"name": "op", **KEPT, **config}
    assert {tuple(ref[:3]) for ref in made["inbound_nodes"][0]} == {("x", 0, 0)}


@pytest.mark.parametrize(
    ("operation", "kind", "config", "given"),
    [
        (_node("Maximum", 1.0), "Maximum", {}, [X, 1.0]),
        (_node("Minimum", -1.0), "Minimum", {}, [X, -1.0]),
        (_function("nn.softmax", "x", 0, 0, {"axis": 1}), "Softmax", {"axis": 1}, [X]),
        (
            _function("clip_by_value", "x", 0, 0, {"clip_value_min": -1, "clip_value_max": 6}),
            "Clip",
            {"x_min": -1, "x_max": 6},
            [X],
        ),
        (
            _node("SplitV", [1, 2, 4], 3),
            "Split",
            {"indices_or_sections": [1, 3], "axis": 3},
            [X],
        ),
        (_function("math.abs", "x", 0, 0, {"name": "a"}), "Absolute", {}, [X]),
        (
            _function("math.l2_normalize", "x", 0, 0, {"axis": 1, "epsilon": 4.0}),
            "Normalize",
            {"axis": [1], "order": 2, "epsilon": 2.0},
            [X],
        ),
        (
            _function("math.truediv", "_CONSTANT_VALUE", -1, 2.0, {"y": ["x", 0, 0]}),
            "TrueDivide",
            {},
            [2.0, X],
        ),
        (
            _function("math.multiply", "x", 0, 0, {"y": [1.0, 2.0]}),
            "Multiply",
            {},
            [
                X,
                {
                    "class_name": "__numpy__",
                    "config": {"value": [1.0, 2.0], "dtype": "float32"},
                },
            ],
        ),
        (
            _function("stack", ["x", 0, 0, {"axis": 1}], ["x", 0, 0, {"axis": 1}]),
            "Stack",
            {"axis": 1},
            [[X, X]],
        ),
    ],
)
def test_operations_of_today(operation: Any, kind: str, config: Any, given: Any) -> None:
    graph = functional(
        layer("InputLayer", name="x"), operation, inputs=[["x", 0, 0]], outputs=[["op", 0, 0]]
    )
    made = changed(operations.replace_operations, graph)["config"]["layers"][1]
    assert (made["class_name"], made["module"]) == (kind, internals.OPERATIONS[kind])
    assert made["config"] == {"name": "op", **config}
    assert made["inbound_nodes"] == [{"args": given, "kwargs": {}}]


@pytest.mark.parametrize(
    "operation",
    [
        _node("Mean", [0, 1]),
        _node("Transpose", [1, 0]),
        _node("Reshape", [3, 2]),
        _node("Pad", [[1, 0], [1, 2], [0, 0]]),
        _node("Sum", [0]),
        _node("Squeeze"),
        _node("Einsum"),
        _function("activations.relu", "x", 0, 0, {"threshold": 1.0}),
        _function("strings.split", "x", 0, 0, {"num_or_size_splits": 2, "axis": 1}),
        _function("compat.v1.image.resize", "x", 0, 0, {"size": [3, 4]}),
        _function("split", "x", 0, 0, {"num_or_size_splits": [2, -1], "axis": 1}),
        _function("split", "x", 0, 0, {"num_or_size_splits": 2, "axis": 0}),
        _function("math.reduce_sum", "x", 0, 0, {"axis": None}),
        _function("math.reduce_sum", "x", 0, 0, {"axis": ["x", 0, 0]}),
        _function("compat.v1.norm", "x", 0, 0, {"ord": 1, "axis": 1}),
        _function("compat.v1.norm", "x", 0, 0, {"ord": 2, "axis": [1, 2]}),
        _function("compat.v1.gather", "x", 0, 0, {"indices": ["x", 0, 0], "axis": 1}),
        _function("linalg.matmul", "x", 0, 0, {"b": ["x", 0, 0], "transpose_b": True}),
        _function("nn.depth_to_space", "x", 0, 0, {"block_size": 2, "data_format": "NCHW"}),
        _function("cast", "x", 0, 0, {"dtype": "int32"}),
        _function("math.multiply", "x", 0, 0, {"y": [1.0, "a"]}),
        _function("image.resize", "x", 0, 0, {"size": [3, 4], "antialias": True}),
        _function("image.resize", "x", 0, 0, {"size": [3, 4], "method": "lanczos3"}),
        _function("math.add", "x", 0, 0, {"y": 1.0, "fancy": 2}),
        layer("SlicingOpLambda", ["x", 0, 0, {}], name="op", function="boolean_mask", **KEPT),
    ],
)
def test_operations_without_a_stock_layer_stay(operation: Any) -> None:
    graph = functional(operation, inputs=[], outputs=[])
    assert not operations.replace_operations(graph)
    assert not slices.replace_slices(graph)
    assert [name for name, _ in operations.left_over(graph)] == ["op"]


def _slice(start: int | None, stop: int | None, step: int | None = None) -> dict[str, Any]:
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


DOTS = {"class_name": "__ellipsis__"}
WHOLE = {"start": None, "stop": None, "step": None}
BITS = {"end": 1, "ellipsis": 2, "new_axis": 4, "shrink_axis": 8, "begin": 16}


def _strided(*numbers: list[int], **bits: int) -> dict[str, Any]:
    made = _node("StridedSlice", *numbers)
    masks = {f"{name}_mask": {"i": str(value)} for name, value in bits.items()}
    made["config"]["node_def"]["attr"] = {"Index": {"type": "DT_INT32"}, **masks}
    return made


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        (
            _function(
                "__operators__.getitem",
                "x", 0, 0, {"slice_spec": [WHOLE, {**WHOLE, "stop": -2}, 3, None]},
            ),
            [_slice(None, None), _slice(None, -2), 3, None],
        ),
        (
            _strided([1, 0, 0, 4, 9], [9, 0, 0, 0, 7], [1, 1, 1, 1, 2], **BITS),
            [_slice(1, None, 1), *[_slice(None, None)] * 2, None, 4, _slice(None, 7, 2)],
        ),
        (
            _function(
                "__operators__.getitem",
                "x", 0, 0, {"slice_spec": [DOTS, {**WHOLE, "step": -1}]},
            ),
            [*[_slice(None, None)] * 4, _slice(None, None, -1)],
        ),
    ],
)  # fmt: skip
def test_replace_slices(operation: Any, key: list[Any]) -> None:
    if operation["class_name"] == "TFOpLambda":
        operation["class_name"] = "SlicingOpLambda"
    door = layer("InputLayer", name="x", batch_shape=[None, 4, 5, 6, 7])
    graph = functional(door, operation, inputs=[["x", 0, 0]], outputs=[["op", 0, 0]])
    made = changed(slices.replace_slices, graph)["config"]["layers"][1]
    assert made["class_name"] == "GetItem"
    (tensor, given) = made["inbound_nodes"][0]["args"]
    assert tensor["config"]["keras_history"] == ["x", 0, 0]
    assert given == key


def test_an_index_that_is_a_tensor_stays() -> None:
    by_tensor = layer(
        "SlicingOpLambda",
        ["x", 0, 0, {"slice_spec": [WHOLE, ["y", 0, 0]]}],
        name="op", function="__operators__.getitem", **KEPT,
    )  # fmt: skip
    assert not slices.replace_slices(functional(by_tensor, inputs=[], outputs=[]))


@pytest.mark.parametrize(
    "item", [{**WHOLE, "stop": ["x", 0, 0]}, {**WHOLE, "stop": 1.5}, {"stap": 1}, True, "a", [0, 1]]
)
def test_an_index_that_is_something_else_stays(item: Any) -> None:
    given = ["x", 0, 0, {"slice_spec": [WHOLE, item]}]
    door = layer("InputLayer", name="x", batch_shape=[None, 4])
    sliced = layer("SlicingOpLambda", given, name="op", function="__operators__.getitem", **KEPT)
    assert not slices.replace_slices(functional(door, sliced, inputs=[], outputs=[]))


@pytest.mark.parametrize(
    "before",
    [
        layer("ConvLSTM2D", ["x", 0, 0, {}], name="y", return_sequences=True),
        layer("ReLU", ["z", 0, 0, {}], ["x", 0, 0, {}], name="y"),
    ],
)
def test_dots_behind_what_has_any_number_of_axes_stay(before: Any) -> None:
    """A recurrent layer may keep its steps, and each call of a shared layer has its own axes."""
    doors = [
        layer("InputLayer", name="x", batch_shape=[None, 2, 4, 4, 3]),
        layer("InputLayer", name="z", batch_shape=[None, 3]),
    ]
    given = ["y", 1, 0, {"slice_spec": [DOTS, 1]}]
    sliced = layer("SlicingOpLambda", given, name="op", function="__operators__.getitem", **KEPT)
    assert not slices.replace_slices(functional(*doors, before, sliced, inputs=[], outputs=[]))


@pytest.mark.parametrize("door", [{}, {"batch_shape": None}])
def test_dots_of_unknown_length_stay(door: dict[str, Any]) -> None:
    """A `.h5` cannot hold them, and nothing tells for how many axes they stand."""
    dots = _function("__operators__.getitem", "x", 0, 0, {"slice_spec": [DOTS, 1]})
    dots["class_name"] = "SlicingOpLambda"
    graph = functional(layer("InputLayer", name="x", **door), dots, inputs=[], outputs=[])
    assert not slices.replace_slices(graph)
    assert operations.left_over(graph)


def test_optimizer_arguments() -> None:
    config = {"optimizer_config": {"class_name": "SGD", "config": {"lr": 0.1, "decay": 0.0}}}
    new = changed(training.rename_optimizer, config)
    assert new["optimizer_config"]["config"] == {"learning_rate": 0.1}
    config["optimizer_config"]["config"]["decay"] = 0.5  # type: ignore[index]
    new = changed(training.rename_optimizer, config)
    schedule = new["optimizer_config"]["config"]["learning_rate"]
    assert schedule["class_name"] == "InverseTimeDecay"
    assert schedule["config"] == {
        "initial_learning_rate": 0.1,
        "decay_steps": 1,
        "decay_rate": 0.5,
    }


def test_optimizer_modules() -> None:
    optimizer = {"class_name": "SGD", "config": {}, "module": "keras.optimizers.experimental"}
    new = changed(training.rename_optimizer, {"optimizer": optimizer})
    assert new["optimizer"]["module"] == "keras.optimizers"


def test_losses() -> None:
    auto = {"class_name": "Huber", "config": {"reduction": "auto", "delta": 2}}
    new = changed(training.spell_out_losses, {"loss": {"a": "MSE", "b": [auto]}})
    assert new["loss"]["a"] == "mean_squared_error"
    assert new["loss"]["b"][0]["config"] == {"reduction": "sum_over_batch_size", "delta": 2}
    assert not training.spell_out_losses({"loss": "hinge"})


def test_metrics() -> None:
    config = {"name": "acc", "dtype": "float32", "fn": "binary_accuracy"}
    wrapped = {"class_name": "MeanMetricWrapper", "config": config}
    new = changed(training.name_metrics, {"metrics": [[wrapped, "mae"]]})
    (made, string) = new["metrics"][0]
    assert (made["class_name"], made["config"]["name"]) == ("BinaryAccuracy", "acc")
    assert string == "mae"
    new = changed(training.unwrap_metrics, new)
    assert new["metrics"] == [made, string]
    assert not training.unwrap_metrics({"metrics": [["mae"], ["acc"]]})


def test_renumber(tmp_path: Path) -> None:
    old = "_layer_checkpoint_dependencies"
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name in ("conv2d", "conv2d_2", "conv2d_10", "dense_4"):
            file[f"{old}/{name}/vars/0"] = len(name)
        file[f"{old}/functional_2/{old}/conv2d_4/vars/0"] = 1
        assert weight_paths.renumber(file)
        assert not weight_paths.renumber(file)
        found = {
            name: int(group["vars/0"][()])
            for name, group in file["layers"].items()
            if "vars" in group
        }
        assert found == {"conv2d": 6, "conv2d_1": 8, "conv2d_2": 9, "dense": 7}
        assert "layers/functional/layers/conv2d" in file


def _files() -> list[str]:
    with zipfile.ZipFile(OLD) as archive:
        names = [name for name in archive.namelist() if not name.endswith(".npz")]
    # Those that are not read alone are in test_keras_readings.
    return sorted(name for name in names if not name.startswith(("alone", "gates")))


OTHER_SIGMOID = "timed_2.2.4.h5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", thinned(name for name in _files() if name != OTHER_SIGMOID))
def test_a_file_computes_what_the_old_keras_computed(folder: Path, name: str) -> None:
    path = folder / name
    before = path.read_bytes()
    model = open_keras(path)
    arrays = np.load(path.with_suffix(".npz"))
    feed = {port.name: arrays[f"i{place}"] for place, port in enumerate(model.inputs)}
    outputs = list(model.run(feed).values())
    for place, output in enumerate(outputs):
        expected = arrays[f"o{place}"]
        np.testing.assert_allclose(output, expected, atol=1e-6 * np.abs(expected).max())
    assert any("up to date" in note for note in model.notes)
    assert not any("training setup" in note for note in model.notes)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    thinned(
        [
            "mobile_2.8.0.h5",
            "mobile_2.12.0.keras",
            "attention_2.4.0.h5",
            "nested_2.13.1.keras",
            "nested_2.4.0.h5",
            "masked_2.4.0.h5",
            "slices_2.4.0.h5",
            "slices_2.15.0.keras",
            "augmented_2.21.0.h5",
            "constants_2.21.0.h5",
            "constants_2.21.0.keras",
            "convnext_2.21.0.h5",
            "dots_2.21.0.h5",
            "nodes_2.21.0.h5",
            "normed_2.21.0.keras",
            "siamese_2.21.0.h5",
            "siamese_2.21.0.keras",
        ],
    ),
)
def test_an_old_file_becomes_one_of_today(folder: Path, tmp_path: Path, name: str) -> None:
    original = open_keras(folder / name)
    arrays = np.load((folder / name).with_suffix(".npz"))
    feed = {port.name: arrays[f"i{place}"] for place, port in enumerate(original.inputs)}
    expected = original.run(feed)
    out = tmp_path / name
    convert(folder / name, out)
    model = stock(out)
    new = open_keras(out)
    assert list(new.notes) == []
    for name, output in new.run(feed).items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-6, atol=1e-6)
    if model.compiled:
        history = model.fit(arrays["i0"], expected["dense"], verbose=0).history
        assert "loss" in history


def test_another_sigmoid_is_said(folder: Path) -> None:
    notes = open_keras(folder / OTHER_SIGMOID).notes
    assert any("hard_sigmoid" in note and note.startswith("gru_1:") for note in notes)


def test_an_operation_without_a_stock_layer_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "operations.h5"
    path.write_bytes((folder / "operations_2.4.0.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace('"op": "Relu"', '"op": "Bessel"')
    with pytest.raises(UnsupportedModelError, match="'tf_op_layer_Relu' is the TensorFlow"):
        open_keras(path)


def _graph(
    *stack: Any, size: tuple[int, ...], dtype: str = "float32", batch: int | None = None
) -> Any:
    """A graph of Keras 2."""
    door = layer("InputLayer", name="x", batch_input_shape=[batch, *size], dtype=dtype)
    end = [[stack[-1]["name"], 0, 0]]
    return functional(door, *stack, inputs=[["x", 0, 0]], outputs=end)


def _built(*stack: Any, size: tuple[int, ...], dtype: str = "float32") -> Any:
    """The same as Keras 3 has it, brought up to date and built."""
    old = _graph(*stack, size=size, dtype=dtype)
    return keras.models.model_from_json(json.dumps(upgrade(old, MODEL_STEPS)[0]))


def test_a_mask_ends_at_an_operation_of_tensorflow() -> None:
    """Nothing of Keras 2 handed a mask to a function, or behind one: seen in tf_keras 2.21."""
    marks = layer("Masking", [["x", 0, 0, {}]], name="marks", mask_value=0.0)
    x = np.array([[[2.0], [0.0], [4.0], [0.0]]], np.float32)
    mean = _function("reduce_mean", "marks", 0, 0, {"axis": [1]})
    assert float(_built(marks, mean, size=(4, 1))(x)[0, 0]) == 1.5
    doubled = _function("multiply", "marks", 0, 0, {"y": 2.0})
    pooled = layer("GlobalAveragePooling1D", [["op", 0, 0, {}]], name="pooled")
    assert float(_built(marks, doubled, pooled, size=(4, 1))(x)[0, 0]) == 3.0
    own = layer("GlobalAveragePooling1D", [["marks", 0, 0, {}]], name="pooled")
    assert float(_built(marks, own, size=(4, 1))(x)[0, 0]) == 3.0


@pytest.mark.parametrize(("size", "kind"), [((4, 3, 2), "Mean"), ((2, 4, 3, 2), "Average")])
def test_a_mean_over_all_of_an_image_is_none_of_a_volume(size: tuple[int, ...], kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    for kept in (False, True):
        model = _built(
            _function("reduce_mean", "x", 0, 0, {"axis": [1, 2, 3], "keepdims": kept}), size=size
        )
        assert kind in type(model.operations[-1]).__name__
        expected = x.mean((1, 2, 3), keepdims=kept)
        np.testing.assert_allclose(model(x), expected, 1e-5, 1e-6)


@pytest.mark.parametrize("parts", [1, [4]])
def test_a_split_into_one_part_is_what_it_was(parts: object) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    model = _built(
        _function("split", "x", 0, 0, {"num_or_size_splits": parts, "axis": 2}), size=(3, 4)
    )
    np.testing.assert_array_equal(model(x), x)


def test_what_ends_a_mask_has_a_name_of_its_own() -> None:
    marks = layer("Embedding", [["x", 0, 0, {}]], name="op_unmasked", mask_zero=True)
    both = _function("add_n", ["op_unmasked", 0, 0, {}], ["op_unmasked", 0, 0, {}])
    graph = functional(marks, both, inputs=[["x", 0, 0]], outputs=[["op", 0, 0]])
    new = changed(operations.replace_operations, graph)["config"]["layers"]
    slices = [made for made in new if made["class_name"] == "GetItem"]
    assert [made["name"] for made in slices] == ["op_unmasked_", "op_unmasked__"]
    assert [ref[0] for ref in new[1]["inbound_nodes"][0]] == ["op_unmasked_", "op_unmasked__"]


@pytest.mark.parametrize("size", [(5, 5), (5, 5, 3), (2, 5, 5)])
def test_what_is_added_is_no_bias_of_another_axis(size: tuple[int, ...]) -> None:
    """`keras.ops.add` on TensorFlow takes an array with one axis longer than 1 for one."""
    column = [[1.0], [2.0], [3.0], [4.0], [5.0]]
    x = np.zeros((1, *size), np.float32)
    for given in (["x", 0, 0, {"y": column}], ["_CONSTANT_VALUE", -1, column, {"y": ["x", 0, 0]}]):
        model = _built(_function("math.add", *given), size=size)
        np.testing.assert_array_equal(np.asarray(model(x)), x + np.array(column, np.float32))


def _refused(
    *stack: Any, size: tuple[int, ...], dtype: str = "float32", batch: int | None = None
) -> str:
    """Why it is another function to Keras 3; nothing if it is not."""
    old = _graph(*stack, size=size, dtype=dtype, batch=batch)
    model = keras.models.model_from_json(json.dumps(upgrade(old, MODEL_STEPS)[0]))
    try:
        refuse_other_meanings(Path("m.h5"), model, replaced_calls(old))
    except UnsupportedModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["reduce_mean", "reduce_sum"])
def test_functions_of_integers_are_refused(name: str) -> None:
    """TensorFlow keeps the type: means are cut off, sums wrap around; seen in tf_keras 2.21."""
    function = _function(name, "x", 0, 0, {"axis": [1], "keepdims": True})
    why = _refused(function, size=(4, 3), dtype="uint8")
    assert why.startswith("m.h5: layer 'op' was a TensorFlow function and computes with integers")
    assert _refused(function, size=(4, 3)) == ""
    moved = _function("expand_dims", "x", 0, 0, {"axis": 1})
    assert _refused(moved, size=(4, 3), dtype="int32") == ""


def test_functions_of_unlike_ranks_are_refused() -> None:
    """(2, 4, 3) and (2, 3): the last axes meet in TensorFlow, the first in a layer of Keras."""
    mean = _function("reduce_mean", "x", 0, 0, {"axis": [1]}) | {"name": "mean"}
    both = _function("math.multiply", "x", 0, 0, {"y": ["mean", 0, 0]})
    assert "works on tensors of unlike rank" in _refused(mean, both, size=(4, 3))
    kept = _function("reduce_mean", "x", 0, 0, {"axis": [1], "keepdims": True}) | {"name": "mean"}
    assert _refused(kept, both, size=(4, 3)) == ""


def test_a_sum_of_what_keras_takes_for_a_bias_is_refused() -> None:
    """Of a batch of one, (1, 4, 1, 1) is added along the channels, where these are four, too."""
    kept = _function("reduce_mean", "x", 0, 0, {"axis": [2, 3], "keepdims": True})
    both = _function("math.add", "x", 0, 0, {"y": ["mean", 0, 0]})
    why = _refused(kept | {"name": "mean"}, both, batch=1, size=(4, 4, 4))
    assert "a TensorFlow function and adds what Keras 3 takes for a bias of another axis" in why
    assert _refused(kept | {"name": "mean"}, both, batch=1, size=(4, 4, 5)) == ""
    assert _refused(kept | {"name": "mean"}, both, size=(4, 4, 4)) == ""


def test_a_tensor_divided_by_zero_stays_a_division() -> None:
    divided = _function("math.truediv", "x", 0, 0, {"y": 0.0})
    graph = functional(layer("InputLayer", name="x"), divided, inputs=[], outputs=[])
    made = changed(operations.replace_operations, graph)["config"]["layers"][1]
    assert made["class_name"] == "TrueDivide"


def test_a_resize_that_does_not_say_where_pixels_are_has_them_in_corners() -> None:
    graph = functional(_node("ResizeBilinear", [3, 4]), inputs=[], outputs=[])
    assert not operations.replace_operations(graph)


def test_a_number_divided_by_a_tensor(tmp_path: Path) -> None:
    divided = _function("math.truediv", "_CONSTANT_VALUE", -1, 3.0, {"y": ["x", 0, 0]})
    model = _built(divided, size=(4, 4, 1))
    net = keras.Model(model.input, keras.layers.Conv2D(1, 2)(model.output))
    source, target = save(net, tmp_path / "net.keras"), tmp_path / "out.keras"
    convert(source, target)
    assert convfc.verify(source, target, samples=2).equivalent
