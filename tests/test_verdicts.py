"""docs/verdicts.md: one change to a converted file per line, and what verify says of it."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc.formats.keras.quiet import importing, overheard
from tests.onnx_edits import as_gemm, branch, node_of
from tests.onnx_models import save
from tests.thinned import thinned

with importing():
    import keras
    from keras import layers

Case = Callable[[Path], convfc.Verification]
CASES: dict[tuple[str, str], Case] = {}
TABLE = Path(__file__).parents[1] / "docs" / "verdicts.md"


def rows() -> list[tuple[str, str, str]]:
    """What is changed, in which format, and the verdict."""
    cells = (re.split(r"\s*\|\s*", line)[2:5] for line in TABLE.read_text().splitlines())
    found = [row for row in cells if len(row) == 3 and row[0] not in ("---", "")][1:]
    named = [(row[0], name, row[place]) for row in found for place, name in FORMATS]
    return [row for row in named if row[2]]


FORMATS = ((1, "ONNX"), (2, "Keras"))


def network(path: Path, sizes: tuple[Any, ...] = (9, 10)) -> Path:
    """A convolution by a gather, elementwise nodes, a function, and another convolution."""
    alpha = helper.make_attribute("alpha", 0.25)
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(
        onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    )
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [leaky], [helper.make_opsetid("", 17)], attribute_protos=[alpha]
    )
    pads: dict[str, Any] = {"pads": [1, 0, 0, 2], "strides": [2, 1], "dilations": [1, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "W", "B"], ["c"], name="conv", **pads),
        helper.make_node("F", ["c"], ["f"], domain="own", name="call"),
        helper.make_node("Conv", ["f", "V"], ["v"], name="last"),
        helper.make_node("Sub", ["v", "shift"], ["d"], name="difference"),
        helper.make_node("Elu", ["d"], ["y"], name="elu", alpha=0.5),
    ]
    random = np.random.default_rng(2)
    weights = {"W": [4, 3, 3, 2], "B": [4], "V": [2, 4, 1, 1], "shift": [2, 1, 1]}
    arrays = {n: random.normal(size=shape).astype(np.float32) for n, shape in weights.items()}
    return save(
        path, nodes, {"x": ["n", 3, *sizes]}, ["y"], arrays, ir_version=9, functions=[function]
    )


def changes_onnx(
    text: str, sizes: tuple[Any, ...] = (9, 10), patches: str = "auto"
) -> Callable[[Callable[[onnx.ModelProto], None]], Callable[[onnx.ModelProto], None]]:
    """A case: the network, with something changed after the conversion."""

    def register(edit: Callable[[onnx.ModelProto], None]) -> Callable[[onnx.ModelProto], None]:
        def case(folder: Path) -> convfc.Verification:
            path = network(folder / "m.onnx", sizes)
            out = convfc.convert(path, patches=patches).out
            model = onnx.load(out)
            edit(model)
            onnx.save(model, out)
            return convfc.verify(path, out, samples=4)

        CASES[text, "ONNX"] = case
        return edit

    return register


def edited(model: onnx.ModelProto, ending: str, change: Callable[[Any], Any]) -> None:
    """Another initializer in the place of that whose name ends so."""
    tensor = next(t for t in model.graph.initializer if t.name.endswith(ending))
    array = np.array(change(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def last_bit(array: Any) -> Any:
    array.flat[-1] = np.nextafter(array.flat[-1], np.float32(np.inf))
    return array


@changes_onnx("the last bit of a number of a filter matrix")
def _(model: onnx.ModelProto) -> None:
    edited(model, "conv/filter_matrix", last_bit)


@changes_onnx("the last bit of a number of a bias")
def _(model: onnx.ModelProto) -> None:
    edited(model, "B", last_bit)


@changes_onnx("the last bit of a number outside of the layers")
def _(model: onnx.ModelProto) -> None:
    edited(model, "shift", last_bit)


@changes_onnx("an attribute or setting outside of the layers")
def _(model: onnx.ModelProto) -> None:
    node_of(model, "Elu").attribute[0].f = 0.51


@changes_onnx("the default of a function's attribute")
def _(model: onnx.ModelProto) -> None:
    model.functions[0].attribute_proto[0].f = 0.26


@changes_onnx("the opset of a function")
def _(model: onnx.ModelProto) -> None:
    model.functions[0].opset_import[0].version = 16


@changes_onnx("the two operands of a subtraction are exchanged")
def _(model: onnx.ModelProto) -> None:
    names = node_of(model, "Sub").input
    names[0], names[1] = names[1], names[0]


@changes_onnx("an entry of an index map", patches="gather")
def _(model: onnx.ModelProto) -> None:
    def other(array: Any) -> Any:
        array[5] += 1
        return array

    edited(model, "/index_map", other)


@changes_onnx("the end of a slice, beyond every size that is tried", sizes=(None, None))
def _(model: onnx.ModelProto) -> None:
    for name in [
        t.name for t in model.graph.initializer if t.name.rpartition("/")[2][:4] == "ends"
    ]:
        edited(model, name, lambda array: np.where(array > 2**40, 2**20, array))


changes_onnx("a product and a sum became one Gemm, sizes known")(as_gemm)


@changes_onnx("a product and a sum became one Gemm, sizes open", sizes=(None, 10))
def _(model: onnx.ModelProto) -> None:
    """Here the sum of the bias alone is written otherwise: there is no Gemm of three axes."""
    node_of(model, "Add").op_type = "Sum"


def behind(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Nodes at the end of the first layer: they read 'raw' and make 'c'."""
    end = next(node for node in model.graph.node if "c" in node.output)
    place = list(model.graph.node).index(end)
    end.output[0] = "raw"
    for number, node in enumerate(nodes, 1):
        model.graph.node.insert(place + number, node)


def constant(model: onnx.ModelProto, name: str, value: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


@changes_onnx("a branch that nothing takes, inside a layer")
def _(model: onnx.ModelProto) -> None:
    constant(model, "yes", np.bool_(False))
    taken = branch(helper.make_node("Neg", ["raw"], ["o"]))
    behind(model, taken, helper.make_node("Add", ["raw", "more"], ["c"]))


@changes_onnx("a clip that nothing reaches, inside a layer")
def _(model: onnx.ModelProto) -> None:
    constant(model, "far", np.float32(1e30))
    behind(model, helper.make_node("Clip", ["raw", "", "far"], ["c"]))


@changes_onnx("something that changes nothing, outside of the layers")
def _(model: onnx.ModelProto) -> None:
    node_of(model, "Elu").input[0] = "same"
    model.graph.node.insert(0, helper.make_node("Identity", ["d"], ["same"], name="same"))


@changes_onnx("an activation too many, outside of the layers")
def _(model: onnx.ModelProto) -> None:
    node_of(model, "Elu").input[0] = "less"
    model.graph.node.insert(0, helper.make_node("Relu", ["d"], ["less"], name="less"))


@changes_onnx("the order and the names of nodes")
def _(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for number, node in enumerate(model.graph.node):
        node.name = str(number)


@changes_onnx("something that may be read in two ways")
def _(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))


@changes_onnx("an open size of the input became fixed", sizes=("h", 10))
def _(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64


@changes_onnx("a layer turns the order of the samples round")
def _(model: onnx.ModelProto) -> None:
    for name, value in (("from", -1), ("to", -(2**62)), ("axis", 0), ("step", -1)):
        constant(model, name, np.array([value]))
    behind(model, helper.make_node("Slice", ["raw", "from", "to", "axis", "step"], ["c"]))


@changes_onnx("a description, a name, an entry of metadata that no runtime reads")
def _(model: onnx.ModelProto) -> None:
    model.doc_string = "another"
    model.graph.name = "another"
    model.graph.node[0].doc_string = "another"
    model.metadata_props.add(key="author", value="another")


@changes_onnx("the IR version, from 4 on")
def _(model: onnx.ModelProto) -> None:
    model.ir_version += 1


@changes_onnx("onnxruntime's own settings (`ort_config`), denotations, quantization annotations")
def _(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="ort_config", value="{}")


@changes_onnx("the opset of the model")
def _(model: onnx.ModelProto) -> None:
    model.opset_import[0].version -= 1
    model.functions[0].opset_import[0].version -= 1


@changes_onnx("a size that is stated for an inner value, and follows from nothing", sizes=("h", 10))
def _(model: onnx.ModelProto) -> None:
    for info in [info for info in model.graph.value_info if info.name == "d"]:
        model.graph.value_info.remove(info)
    value = helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, [None, 2, 64, None])
    model.graph.value_info.append(value)


@changes_onnx("another name of an output")
def _(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"
    node_of(model, "Elu").output[0] = "z"


@changes_onnx("another patch method, sizes known", patches="gather")
def _(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "convfc")
    entry.value = entry.value.replace('"gather"', '"slice"')


def keras_network(path: Path) -> Path:
    """Two inputs, a separable layer with an activation, a gather, a subtraction, a Dense layer."""
    keras.utils.set_random_seed(4)
    a, b = (keras.Input((6, 7, 3), name=name) for name in "ab")
    separable = layers.SeparableConv2D(4, (3, 2), activation="relu", name="separable")
    first, second = (layers.Rescaling(0.5, 0.1, name=f"half_{x.name}")(x) for x in (a, b))
    left, right = separable(first), layers.Conv2D(4, (3, 2), name="conv")(second)
    both = layers.Add(name="both")([left, right])
    bent = layers.Activation("tanh", name="bent")(both)
    y = layers.Dense(5, name="scores")(layers.Subtract(name="difference")([bent, both]))
    with overheard():
        keras.Model([a, b], y).save(path)
    return path


@cache
def keras_files() -> dict[str, bytes]:
    """The network and its conversion, made once for all cases."""
    with TemporaryDirectory() as folder:
        path = keras_network(Path(folder) / "m.keras")
        out = convfc.convert(path, patches="gather").out
        return {file.name: file.read_bytes() for file in (path, out)}


def changes_keras(text: str) -> Callable[[Callable[[Any, Any], None]], Callable[[Any, Any], None]]:
    """A case: its configuration and its weights (an open HDF5 file) are changed."""

    def register(edit: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def case(folder: Path) -> convfc.Verification:
            for name, content in keras_files().items():
                (folder / name).write_bytes(content)
            path, out = folder / "m.keras", folder / "m_fc.keras"
            change(out, edit)
            return convfc.verify(path, out, samples=4)

        CASES[text, "Keras"] = case
        return edit

    return register


def change(path: Path, edit: Callable[[Any, Any], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = path.with_suffix(".weights")
    weights.write_bytes(members["model.weights.h5"])
    config = json.loads(members["config.json"])
    with h5py.File(weights, "r+") as file:
        edit(config["config"], file)
    members |= {
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": weights.read_bytes(),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def array_of(weights: Any, *shape: int) -> Any:
    """The first array of a shape."""
    found: list[Any] = []

    def note(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == shape:
            found.append(item)

    weights.visititems(note)
    return found[0]


def layer_of(config: Any, name: str) -> Any:
    return next(layer for layer in config["layers"] if layer["name"] == name)


@changes_keras("the last bit of a number of a filter matrix")
def _(_: Any, weights: Any) -> None:
    item = array_of(weights, 18, 4)
    item[...] = last_bit(item[()])


@changes_keras("the last bit of a number of a bias")
def _(_: Any, weights: Any) -> None:
    item = array_of(weights, 4)
    item[...] = last_bit(item[()])


@changes_keras("the last bit of a number outside of the layers")
def _(_: Any, weights: Any) -> None:
    item = array_of(weights, 4, 5)
    item[...] = last_bit(item[()])


@changes_keras("an attribute or setting outside of the layers")
def _(config: Any, _: Any) -> None:
    layer_of(config, "half_a")["config"]["offset"] = 0.11


@changes_keras("the activation stands behind another part of the layer")
def _(config: Any, _: Any) -> None:
    inner = layer_of(config, "separable")["config"]["layers"]
    last = next(x["config"] for x in inner if x["config"].get("activation") == "relu")
    last["activation"] = "linear"
    first = next(x["config"] for x in inner if x["class_name"] == "EinsumDense")
    first["activation"] = "relu"


@changes_keras("the two operands of a subtraction are exchanged")
def _(config: Any, _: Any) -> None:
    (node,) = layer_of(config, "difference")["inbound_nodes"]
    node["args"][0].reverse()


@changes_keras("an entry of an index map")
def _(config: Any, _: Any) -> None:
    text = json.dumps(layer_of(config, "conv"))
    changed, count = re.subn(r"\[0, 1, ", "[0, 2, ", text, count=1)
    assert count
    layer_of(config, "conv").update(json.loads(changed))


@changes_keras("something that changes nothing, outside of the layers")
def _(config: Any, _: Any) -> None:
    insert(config, "linear")


@changes_keras("an activation too many, outside of the layers")
def _(config: Any, _: Any) -> None:
    insert(config, "tanh")


def insert(config: Any, activation: str) -> None:
    """An Activation between the subtraction and the dense layer."""
    scores = layer_of(config, "scores")
    made = json.loads(json.dumps(layer_of(config, "half_a")).replace("half_a", "extra"))
    made |= {"class_name": "Activation"}
    made["config"] = {"name": "extra", "activation": activation, "dtype": made["config"]["dtype"]}
    made["inbound_nodes"] = json.loads(json.dumps(scores["inbound_nodes"]))
    (node,) = scores["inbound_nodes"]
    node["args"][0]["config"]["keras_history"][0] = "extra"
    config["layers"].insert(config["layers"].index(scores), made)


@changes_keras("whether a layer is trained on")
def _(config: Any, _: Any) -> None:
    layer_of(config, "scores")["config"]["trainable"] = False


def other_vocabulary(folder: Path) -> convfc.Verification:
    look = layers.IntegerLookup()
    look.adapt(np.array([5, 7, 7, 9, 9, 9, 30]))
    words = keras.Input((10,), dtype="int64", name="words")
    x = layers.Conv1D(3, 2, name="conv")(layers.Embedding(9, 4)(look(words)))
    path, other = folder / "m.keras", folder / "other.keras"
    with overheard():
        keras.Model(words, layers.GlobalMaxPooling1D()(x)).save(path)
    out = convfc.convert(path).out
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            words = b"-1\n30\n5\n9\n7"  # the same, in another order
            new.writestr(name, words if name.endswith("vocabulary.txt") else content)
    return convfc.verify(path, other, samples=2)


CASES["a vocabulary", "Keras"] = other_vocabulary


@pytest.mark.parametrize(("text", "kind", "verdict"), thinned(pytest.param(*row) for row in rows()))
def test_each_line_is_what_verify_says(tmp_path: Path, text: str, kind: str, verdict: str) -> None:
    result = CASES[text, kind](tmp_path)
    assert result.verdict.value.upper() == verdict, result.reason
    assert result.reason or result.verdict is convfc.Verdict.EQUIVALENT


def test_every_change_has_its_line() -> None:
    assert CASES.keys() == {(text, kind) for text, kind, _ in rows()}


@pytest.mark.parametrize("kind", ["ONNX", "Keras"])
def test_without_a_change_it_is_equivalent(tmp_path: Path, kind: str) -> None:
    make, name = (network, "m.onnx") if kind == "ONNX" else (keras_network, "m.keras")
    path = make(tmp_path / name)
    result = convfc.verify(path, convfc.convert(path, patches="gather").out, samples=4)
    assert result.equivalent, result.reason
    assert not any("changed" in note for note in result.notes)
