"""Large weights of an ONNX file stay where they are; what is read and written is what it was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import FileError, Verdict, Window
from convfc.core.geometry import Convolution
from convfc.formats.onnx import stored_weights
from convfc.formats.onnx.model import OnnxModel
from convfc.formats.onnx.one_piece import OnePiece
from convfc.formats.onnx.protos import read_proto
from convfc.formats.onnx.wire import field, varint
from tests.onnx_models import conv_file, integers, save

SAMPLES = Path(__file__).parents[1] / "sample_models"
CONV = Convolution((Window(3, 1, 1, (1, 1)), Window(3, 2, 1, (0, 0))), 2, 4)


def set_large(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in ("stored_weights", "one_piece", "protos"):
        monkeypatch.setattr(f"convfc.formats.onnx.{module}.LARGE", size)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight of some bytes is a large one."""
    set_large(monkeypatch, 8)


def expanded(model: onnx.ModelProto, data: bytes) -> tuple[onnx.ModelProto, int]:
    """A model with its own weights put back, and how many these were."""
    count = 0
    for tensor in model.graph.initializer:
        told = {entry.key: entry.value for entry in tensor.external_data}
        if told.get("location", "").startswith(stored_weights.HERE):
            start = int(told["offset"])
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = data[start : start + int(told["length"])]
            count += 1
    return model, count


def bits(model: onnx.ModelProto) -> bytes:
    """A message as bytes, but that one in which nothing lies apart may say so or not."""
    for tensor in model.graph.initializer:
        if not tensor.data_location:
            tensor.ClearField("data_location")
    return bytes(model.SerializeToString(deterministic=True))


def check(path: Path, data: bytes) -> int:
    """Whether a file is read as protobuf reads it; how many weights stayed in it."""
    path.write_bytes(data)
    try:
        plain = onnx.ModelProto.FromString(data)
    except DecodeError:
        with pytest.raises(DecodeError):
            stored_weights.read_skeleton(path)
        return 0
    model, count = expanded(stored_weights.read_skeleton(path), data)
    assert bits(model) == bits(plain)
    return count


def plain_model() -> onnx.ModelProto:
    """All kinds of weights, and of what may be beside them."""
    merged = numpy_helper.from_array(integers([3, 2]), "merged")
    merged.data_location = TensorProto.DEFAULT
    told = numpy_helper.from_array(integers([4]).astype(np.float16), "told")
    told.doc_string = "words"
    told.metadata_props.add(key="a", value="b")
    weights = [
        numpy_helper.from_array(integers([2, 3]), "w"),
        *(merged, told),
        helper.make_tensor("floats", TensorProto.FLOAT, [4], [1, 2, 3, 4]),
        TensorProto(name="text", data_type=8, dims=[2], string_data=[b"some text", b"more of it"]),
        helper.make_tensor("packed", TensorProto.INT4, [32], b"\x12" * 16, raw=True),
        helper.make_tensor("tiny", TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True),
        helper.make_tensor("bf16", TensorProto.BFLOAT16, [8], b"\x80\x3f" * 8, raw=True),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"], name="add")
    graph = helper.make_graph([node], "net", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="k", value="v")
    return model


PLAIN = plain_model().SerializeToString()
HELD = 4
"""How many of its weights stay in the file."""


def test_plain_weights_stay_in_the_file(tmp_path: Path) -> None:
    assert check(tmp_path / "m.onnx", PLAIN) == HELD


WEIGHT = TensorProto(name="w", data_type=1, dims=[4], raw_data=b"0123456789abcdef")


def model_of(weight: bytes, *, before: bytes = b"", behind: bytes = b"") -> bytes:
    return before + field(7, field(5, weight)) + behind


RAW = field(9, b"0123456789abcdef")
ODD = {
    "twice": WEIGHT.SerializeToString() + field(9, b"fedcba9876543210"),
    "two names": WEIGHT.SerializeToString() + field(8, b"other"),
    "two types": WEIGHT.SerializeToString() + b"\x10\x06",
    "no type": RAW,
    "floats beside": WEIGHT.SerializeToString() + field(4, b"\0" * 8),
    "apart as well": WEIGHT.SerializeToString() + b"\x70\x01",
    "apart, and told": WEIGHT.SerializeToString() + field(13, field(1, b"location")),
    "a segment": WEIGHT.SerializeToString() + field(3, b""),
    "unknown": WEIGHT.SerializeToString() + field(99, b"what"),
    "raw as a number": b"\x10\x01\x48\x05" + field(8, b"0123456789abcdef"),
    "a group": WEIGHT.SerializeToString() + b"\xfb\x01\xfc\x01",
    "a long number": WEIGHT.SerializeToString() + b"\x90\x00\x01",
    "cut": WEIGHT.SerializeToString()[:-1],
    "field 0": WEIGHT.SerializeToString() + b"\x00\x00",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_weights_are_left_to_protobuf(tmp_path: Path, name: str) -> None:
    assert check(tmp_path / "m.onnx", model_of(ODD[name])) == 0


def test_graphs_that_protobuf_merges(tmp_path: Path) -> None:
    weight = WEIGHT.SerializeToString()
    assert check(tmp_path / "m.onnx", model_of(weight, behind=model_of(weight))) == 2
    told = field(5, field(8, b"v") + field(13, field(1, b"location") + field(2, b"x")))
    assert check(tmp_path / "m.onnx", model_of(weight, behind=field(7, told))) == 0


def test_a_reader_that_takes_the_first_of_two_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: a reader that is less careful fails `check`."""
    monkeypatch.setitem(stored_weights._EXPECTED, 4, (2,))
    with pytest.raises(AssertionError):
        # Read as a weight of bytes alone, which then is one in another file.
        assert check(tmp_path / "m.onnx", model_of(ODD["floats beside"])) == 0
    monkeypatch.undo()


content = st.binary(max_size=24)
numbers = st.integers(0, 2**35).map(varint)


def messages(known: list[int]) -> st.SearchStrategy[bytes]:
    """Fields in the encoding of protobuf; most are well formed, so that it reads them."""
    number = st.sampled_from([*known, *known, 30])
    held = st.builds(field, number, content)
    told = st.builds(lambda n, c: varint(n << 3) + c, number, numbers)
    fixed = st.builds(lambda n: varint(n << 3 | 5) + b"1234", number)
    odd = st.sampled_from([b"\x00\x00", b"\xfb\x01\xfc\x01", b"\xf0\x81\x00\x05", b"\x72", b"\xff"])
    one = st.one_of(held, held, held, held, told, told, fixed, odd)
    return st.lists(one, max_size=4).map(b"".join)


tensors = st.permutations([RAW, b"\x10\x01", b"\x08\x04", field(8, b"w")]).map(b"".join)
weights = st.one_of(tensors, st.builds(bytes.__add__, tensors, messages([1, 2, 8, 9, 12, 14])))
graphs = st.lists(
    weights.map(lambda w: field(5, w)) | messages([2, 10]), min_size=1, max_size=4
).map(b"".join)
models = st.lists(graphs.map(lambda g: field(7, g)) | messages([2, 6]), min_size=1, max_size=4).map(
    b"".join
)
quickly, long = (
    settings(max_examples=number, suppress_health_check=[HealthCheck.function_scoped_fixture])
    for number in (100, 5000)
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Bytes changed, taken out, put in and doubled."""
    made = bytearray(PLAIN)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(made) - 1, 0)))
        end = draw(st.integers(at, min(at + 40, len(made))))
        piece = bytes(made[at:end])
        made[at:end] = draw(st.sampled_from([b"", piece * 2]) | st.binary(max_size=4))
    return bytes(made)


@quickly
@given(data=models | damaged())
def test_any_message_and_any_damage(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "m.onnx", data)


@pytest.mark.slow
@long
@given(data=models | damaged())
def test_many_messages_and_damages(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "m.onnx", data)


@pytest.mark.parametrize("net", ["plain", "mnist_cnn", "overridable", "old"])
def test_what_is_written_is_what_protobuf_makes(tmp_path: Path, net: str) -> None:
    path = tmp_path / "m.onnx"
    if net == "plain":
        path.write_bytes(PLAIN)
    elif net == "mnist_cnn":
        path.write_bytes((SAMPLES / "mnist_cnn.onnx").read_bytes())
    else:
        node = helper.make_node("Conv", ["x", "k"], ["y"], name="c")
        version = 8 if net == "overridable" else 3
        weight = {"k": integers([2, 2, 3, 3])}
        shape = {"x": [1, 2, 6, 6]}
        save(path, [node], shape, ["y"], weight, ir_version=version, overridable=True)
    model = OnnxModel(path)._model
    ir.save(model, tmp_path / "all.onnx")
    whole = OnePiece(model)
    whole.write(tmp_path / "parts.onnx")
    made = (tmp_path / "parts.onnx").read_bytes()
    assert made == (tmp_path / "all.onnx").read_bytes()
    assert whole.size == len(made)
    assert any(not isinstance(part, bytes) for part in whole._parts)


def test_the_size_of_weights_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converted, with weights that stay in the file or not, it is the same file."""
    path = SAMPLES / "mnist_cnn.onnx"
    assert any(tensor.external_data for tensor in read_proto(path).graph.initializer)
    out = convfc.convert(path, tmp_path / "a.onnx").out
    assert convfc.verify(path, out, samples=2).verdict is Verdict.EQUIVALENT
    set_large(monkeypatch, 2**40)
    assert not any(tensor.external_data for tensor in read_proto(path).graph.initializer)
    again = convfc.convert(path, tmp_path / "b.onnx").out
    assert again.read_bytes() == out.read_bytes()


def test_a_link_to_a_model_elsewhere(tmp_path: Path) -> None:
    """As download caches have them: onnxruntime takes no weights from behind a link."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "models").mkdir()
    conv_file(tmp_path / "blobs" / "abc", CONV, (5, 6))
    path = tmp_path / "models" / "m.onnx"
    path.symlink_to(Path("..", "blobs", "abc"))
    model = OnnxModel(path)
    x = integers([1, 2, 5, 6])
    (fed,) = model.activations({"x": x}, [site.name for site in model.sites]).values()
    np.testing.assert_array_equal(fed, x)


def test_activations_come_from_the_weights_in_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "m"], ["h"]),
        helper.make_node("Conv", ["h", "k"], ["y"], name="c"),
    ]
    given_weights = {"m": integers([6, 6], 1), "k": integers([1, 1, 2, 2], 2)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1, 6, 6]}, ["y"], given_weights)
    x = integers([1, 1, 6, 6])
    np.testing.assert_array_equal(
        OnnxModel(path).activations({"x": x}, ["c"])["c"], x @ given_weights["m"]
    )


@pytest.mark.parametrize("how", ["rewritten", "cut", "gone"])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, how: str) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (5, 6))
    model = OnnxModel(path)._model
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-40] if how == "cut" else data)
        os.utime(path, ns=(1, 1))
    with pytest.raises(FileError, match=r"m\.onnx: .*(changed while|any more)"):
        OnePiece(model).write(tmp_path / "out.onnx")
