"""Structures of ill will in an ONNX model: bombs, deep graphs, functions, data elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz import hostile
from tests.fuzz.graphs import every_tensor

HUGE = (10**6, 10**9, 2**31, 2**40, 2**62, 2**63 - 1)


def _before(model: onnx.ModelProto, random: Random) -> tuple[onnx.NodeProto, int]:
    """A node, and which of its inputs something is to be put in front of."""
    nodes = [node for node in model.graph.node if node.input]
    if not nodes:
        nodes = [model.graph.node.add(op_type="Conv", input=["x", "W"], output=["y"])]
    node = random.choice(nodes)
    return node, random.randrange(len(node.input))


def _put(model: onnx.ModelProto, before: onnx.NodeProto, made: onnx.NodeProto) -> None:
    """A node in front of another one."""
    at = next(at for at, node in enumerate(model.graph.node) if node is before or node == before)
    model.graph.node.insert(at, made)


def _whole(model: onnx.ModelProto, name: str, values: list[int]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def bomb(model: onnx.ModelProto, random: Random) -> str:
    """A small operator whose result is huge, in front of some node."""
    node, at = _before(model, random)
    old, huge = node.input[at], random.choice(HUGE)
    op = random.choice(["ConstantOfShape", "Pad", "Expand", "Tile", "Range", "Resize", "Reshape",
                        "OneHot", "Slice", "Gather", "Concat", "RandomNormal"])  # fmt: skip
    dims = random.choice([[huge], [huge, 1, 1, 1], [1, 1, huge, huge], [1, huge, 3, 3], [-huge]])
    inputs: list[str] = [old]
    attributes: dict[str, Any] = {}
    if op == "ConstantOfShape":
        inputs = [_whole(model, "bomb_dims", dims)]
    elif op in ("Pad", "Expand", "Tile", "Reshape"):
        inputs.append(_whole(model, "bomb_dims", dims * (2 if op == "Pad" else 1)))
    elif op == "Range":
        ends = [numpy_helper.from_array(np.array(v, np.int64), f"bomb_{v}") for v in (0, huge, 1)]
        model.graph.initializer.extend(ends)
        inputs = [tensor.name for tensor in ends]
    elif op == "Resize":
        inputs += ["", "", _whole(model, "bomb_dims", dims)]
    elif op == "OneHot":
        inputs += [_whole(model, "bomb_dims", [huge]), _whole(model, "bomb_ends", [0, 1])]
    elif op == "Slice":
        inputs += [
            _whole(model, f"bomb_{i}", [end]) for i, end in enumerate((-huge, huge, 0, huge))
        ]
    elif op == "Gather":
        inputs.append(_whole(model, "bomb_index", [0, huge, -huge]))
    elif op == "Concat":
        inputs, attributes = [old] * 5000, {"axis": random.choice([0, 1, huge])}
    else:
        inputs, attributes = [], {"shape": dims}
    made = helper.make_node(op, inputs, ["bomb_out"], name="bomb", **attributes)
    node.input[at] = "bomb_out"
    _put(model, node, made)
    return f"{op} of {dims}"


def deep(random: Random) -> tuple[bytes, str]:
    """Branches in branches, as bytes to be put behind a model: protobuf joins the graphs.

    They are more than protobuf's own library would nest.
    """
    depth = random.choice([2, 20, 30, 33, 34, 60, 400, 20_000])
    node = _field(1, b"deep_input") + _field(2, b"deep") + _field(4, b"Identity")
    for _ in range(depth):
        graph = _field(1, node) + _field(2, b"g") + _field(12, _field(1, b"deep"))
        attribute = _field(1, b"then_branch") + _field(6, graph) + b"\xa0\x01\x05"
        node = _field(1, b"deep_c") + _field(2, b"deep") + _field(4, b"If") + _field(5, attribute)
    return _field(7, _field(1, node)), f"{depth} deep"


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def functions(model: onnx.ModelProto, random: Random) -> str:
    """Functions that call one another: more and more often, in a circle, or by a known name."""
    how, count = (
        random.choice(["twice", "twice", "circle", "known"]),
        random.choice([3, 12, 25, 60]),
    )
    node, at = _before(model, random)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]
    for number in range(count if how == "twice" else 1):
        inner, domain = f"F{number + 1}", "bomb"
        if how == "circle":
            inner = "F0"
        elif how == "known":
            inner, domain = node.op_type, node.domain
        last = how == "twice" and number == count - 1
        calls = [
            helper.make_node("Relu", ["a"], ["b"])
            if last
            else helper.make_node(inner, [source], [out], domain="bomb" if how != "known" else "")
            for source, out in (("a", "m"), ("m", "b"))
        ][-1 if last else 0 :]
        name = f"F{number}" if how != "known" else node.op_type
        function = helper.make_function(domain, name, ["a"], ["b"], calls, opsets)
        model.functions.append(function)
    if how != "known":
        model.opset_import.append(opsets[1])
        call = helper.make_node("F0", [node.input[at]], ["called"], domain="bomb")
        node.input[at] = "called"
        _put(model, node, call)
    return f"{how}, {len(model.functions)} of them"


def copies(model: onnx.ModelProto, random: Random) -> str:
    """The same nodes many times, one after another, or with the same names."""
    count = random.choice([2, 10, 60])
    nodes = list(model.graph.node)
    fresh = random.random() < 0.7
    for number in range(count):
        for node in nodes:
            copy = model.graph.node.add()
            copy.CopyFrom(node)
            if fresh:
                copy.output[:] = [f"{name}_{number}" for name in node.output]
    return f"{len(nodes)} nodes {count} times" + ("" if fresh else ", outputs too")


def external(model: onnx.ModelProto, random: Random, folder: Path) -> str:
    """The numbers of some tensors in another file, or said to be."""
    found = [tensor for tensor in every_tensor(model.graph) if tensor.HasField("raw_data")]
    if not found:
        found = [model.graph.initializer.add(name="W", data_type=1, dims=[1], raw_data=b"1234")]
    data = b"".join(tensor.raw_data for tensor in found)
    where, what = _place(random, folder, data)
    offset = 0
    spoiled = random.choice(found)
    for tensor in found:
        size = len(tensor.raw_data)
        entries = {"location": where, "offset": str(offset), "length": str(size)}
        offset += size
        if tensor is spoiled and random.random() < 0.7:
            key = random.choice(["offset", "length", "location", "checksum", "x", "prepacked_0"])
            entries[key] = random.choice([str(hostile.integer(random)), hostile.text(random)])
            what += f", {key} {entries[key][:30]!r}"
            if random.random() < 0.2:
                del entries[random.choice(list(entries))]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return what


def _place(random: Random, folder: Path, data: bytes) -> tuple[str, str]:
    """Where the numbers are to be, and what is there."""
    how = random.choice(["file", "file", "file", "short", "missing", "text", "itself", "folder",
                         "fifo", "link", "outside", "below"])  # fmt: skip
    name = "w.data"
    path = folder / name
    if os.path.lexists(path):  # of an earlier mutation: nothing is written through a link or pipe
        name = f"w{len(list(folder.iterdir()))}.data"
        path = folder / name
    if how in ("file", "short"):
        path.write_bytes(data if how == "file" else data[: len(data) // 2])
    elif how == "text":
        return hostile.text(random), "a strange name"
    elif how == "itself":
        name = "m.onnx"
    elif how == "folder":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(random.choice(["/etc/hostname", "/dev/zero", "nothing", name, ".."]))
    elif how == "outside":
        name = random.choice(["../w.data", "/etc/hostname", "/dev/zero", "/proc/self/environ"])
    elif how == "below":
        (folder / "sub").mkdir(exist_ok=True)
        name = "sub/w.data"
        (folder / name).write_bytes(data)
    return name, how


STRUCTURES: Mapping[str, Callable[[onnx.ModelProto, Random], str]] = {
    "bomb": bomb,
    "functions": functions,
    "copies": copies,
}
"""By name; each changes a model in place and says how."""
