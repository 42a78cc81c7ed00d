"""Sizes that nobody has: counted, not listed; what cannot be held or run ends with a reason."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import signal
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution, Same, Window
from convfc.core.lowering import MOST_OPERATIONS, Lowering, PatchMethod, lower
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.errors import DataError, GeometryError, UnsupportedModelError
from convfc.formats.demand import Demand
from convfc.formats.onnx.emitter import Names
from convfc.formats.onnx.function_sizes import unfolds
from convfc.formats.protocols import Port
from convfc.refusals import Refusal
from convfc.samples import files
from convfc.samples.feeds import make_feeds
from convfc.samples.files import load_samples
from convfc.samples.slots import Slot
from convfc.system import capacity

HUGE = 2**62


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail what hangs in Python; a generous limit, for busy machines."""

    def late(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_alarm_rings() -> None:
    with pytest.raises(AssertionError, match="still at it"), within(1):
        for _ in itertools.count():
            pass


def save(
    path: Path,
    x: Sequence[int | str],
    kernel: Sequence[int],
    *,
    op: str = "Conv",
    computed: bool = False,
    **attributes: Any,
) -> Path:
    """A model of one convolution; a computed kernel is made by a node from its shape."""
    nodes, weights = [], []
    if computed:
        weights.append(numpy_helper.from_array(np.array(kernel, np.int64), "shape"))
        nodes.append(helper.make_node("ConstantOfShape", ["shape"], ["w"]))
    else:
        weights.append(numpy_helper.from_array(np.ones(kernel, np.float32), "w"))
    nodes.append(helper.make_node(op, ["x", "w"], ["y"], name="conv", **attributes))
    graph = helper.make_graph(
        nodes,
        "absurd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "f", *["s"] * (len(x) - 2)])],
        weights,
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


# Arithmetic in place of lists.


def test_blocks_are_as_many_as_their_edges() -> None:
    draw = random.Random(0)  # noqa: S311 - for shapes
    for _ in range(200):
        sizes = [draw.randint(3, 12) for _ in range(2)]
        conv = convolution([draw.randint(1, 3)] * 2, channels=1, filters=1)
        block = tuple(draw.randint(1, 12) for _ in range(draw.randint(0, 2)))
        lowering = Lowering(conv, tuple(sizes), PatchMethod.SLICE, block)
        edges = [lowering.block_edges(axis) for axis in range(len(block))]
        assert lowering.blocks == np.prod([len(each) for each in edges], initial=1)


def test_fresh_names_are_those_that_counting_from_one_finds() -> None:
    names, draw, taken = Names.__new__(Names), random.Random(0), {"a", "a_3", "b_2"}  # noqa: S311
    names.taken, names._numbers = set(taken), {}
    for _ in range(300):
        wanted = draw.choice(["a", "b", "a_2", "c"])
        numbered = itertools.chain([wanted], (f"{wanted}_{i}" for i in itertools.count(2)))
        expected = next(name for name in numbered if name not in taken)
        taken.add(expected)
        assert names.fresh(wanted) == expected


def test_many_fresh_names_of_one_kind_are_made_at_once() -> None:
    names = Names.__new__(Names)
    names.taken, names._numbers = set(), {}
    with within(30):
        made = {names.fresh("conv/Slice") for _ in range(100_000)}
    assert len(made) == 100_000


@pytest.mark.parametrize(
    ("conv", "sizes", "reason"),
    [
        (Convolution((Window(3, padding=(10**9, 10**9)),) * 2, 3, 2), (8, 8), "64 bits"),
        (Convolution((Window(3),) * 2, 3, 2), (HUGE, HUGE), "64 bits"),
        (Convolution((Window(3),) * 2, 3, 2), (10**5, 10**5), "give --patch-memory more"),
        (Convolution((Window(10**6),), 1, 1), (None,), "1,000,009 operations; at most 4,096"),
        (Convolution((Window(3, 10**6, padding=Same.UPPER),), 1, 1), (None,), "table of 1,000,000"),
        (Convolution((Window(3, 2**63 - 1),), 1, 1), (9,), "64 bits"),
        (Convolution((Window(3, 1, HUGE, (HUGE, HUGE)),), 1, 1), (9,), "64 bits"),
        (TransposedConvolution((TransposedWindow(3, 10**6),), 1, 1), (9,), "1,000,000 filters"),
        (TransposedConvolution((TransposedWindow(3, 1, 1, (0, 0), HUGE),), 4, 4), (9,), "64 bits"),
    ],
)
def test_what_no_graph_should_hold_is_refused_at_once(
    conv: Any, sizes: tuple[int | None, ...], reason: str
) -> None:
    with within(20):
        found = lower(conv, sizes)
    assert isinstance(found, Refusal)
    assert reason in found.reason


def test_more_memory_makes_blocks_few_enough() -> None:
    conv = convolution([3, 3], channels=3, filters=2)
    assert isinstance(lower(conv, (30_000, 30_000), memory=2**20), Refusal)
    found = lower(conv, (30_000, 30_000), memory=2**30)
    assert isinstance(found, Lowering)
    assert found.operations <= MOST_OPERATIONS


def test_random_absurd_geometry_is_lowered_or_refused() -> None:
    draw = random.Random(0)  # noqa: S311 - for shapes
    numbers = [1, 2, 3, 7, 64, 2**16, 2**31, HUGE, 2**63 - 1, 0, -1]
    with within(60):
        for _ in range(1500):
            few = draw.random() < 0.5

            def pick(few: bool = few) -> int:
                return draw.choice(numbers[:4] if few or draw.random() < 0.6 else numbers)

            rank = draw.randint(1, 3)
            sizes = tuple(draw.choice([None, pick() or 1]) for _ in range(rank))
            kind = draw.choice([Window, TransposedWindow])
            try:
                windows = tuple(kind(pick(), pick(), pick(), (pick(), pick())) for _ in range(rank))
                whole = Convolution if kind is Window else TransposedConvolution
                found = lower(whole(windows, pick(), pick()), sizes)
            except GeometryError:
                continue
            assert isinstance(found, Refusal) or found.operations <= MOST_OPERATIONS


# Models.


@pytest.mark.parametrize(
    ("x", "kernel", "attributes", "output"),
    [
        (["n", 3, 8, 8], [2, 3, 3, 3], {"pads": [10**9] * 4}, 2 * 10**9 + 6),
        (["n", 3, HUGE, HUGE], [2, 3, 3, 3], {}, HUGE - 2),
        ([10**9, 3, 8, 8], [2, 3, 3, 3], {}, 6),
        (["n", 3, 2**31, 8], [2, 3, 3, 3], {}, 2**31 - 2),
        (["n", 3, 8, 8], [2, 3, 3, 3], {"pads": [HUGE] * 4, "dilations": [HUGE] * 2}, 8),
    ],
)
def test_the_sizes_of_a_layer_are_told_and_its_file_stays_small(
    tmp_path: Path, x: list[Any], kernel: list[int], attributes: dict[str, Any], output: int
) -> None:
    path = save(tmp_path / "m.onnx", x, kernel, **attributes)
    with within(60):
        (layer,) = convfc.shapes(path)
        assert layer.site.convolution is not None
        assert layer.site.convolution.output(layer.site.sizes)[0] == output
        made = convfc.convert(path, partial=True)
        with pytest.raises((DataError, UnsupportedModelError), match=r"machine can hold|cannot"):
            convfc.verify(path, made.out, samples=1, rtol=1.0)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2**20


def test_a_kernel_that_unfolds_is_neither_run_nor_drawn(tmp_path: Path) -> None:
    kernel = [2**31, 2, 3, 3]
    path = save(tmp_path / "m.onnx", ["n", 2, 6, 6], kernel, computed=True)
    with within(60):
        made = convfc.convert(path)
        assert made.look is not None
        assert made.look.layers == 0
        assert "more than ten seconds" in (made.look.reason or "")
        found = convfc.verify(path, made.out)
    assert found.verdict is convfc.Verdict.COULD_NOT_CHECK
    assert "than this machine can hold" in (found.reason or "")


def test_an_endless_loop_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convfc.formats.onnx.model._LOOP_SECONDS", 0.6)
    none: list[int] = []
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["v", "w"], ["c"], name="conv", pads=[1] * 4),
            helper.make_node("Tanh", ["c"], ["out"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, none),
            helper.make_tensor_value_info("go", TensorProto.BOOL, none),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, none),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["trips", "true", "x"], ["y"], name="loop", body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w"),
            numpy_helper.from_array(np.array(HUGE), "trips"),
            numpy_helper.from_array(np.array(True), "true"),
        ],
    )
    imports = [helper.make_opsetid("", 17)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    with within(100):
        made = convfc.convert(path)
        assert made.look is not None
        assert "stopped after 1 seconds" in (made.look.reason or "")
        found = convfc.verify(path, made.out)
    assert not found.samples
    assert any("stopped after 1 seconds" in note for note in found.notes)


def functions(times: int, depth: int) -> onnx.ModelProto:
    """Functions of which each calls the one before a few times."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    first = helper.make_function(
        "my", "f0", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], imports
    )
    made = [first]
    for level in range(1, depth):
        calls = [
            helper.make_node(
                f"f{level - 1}",
                [f"v{i}" if i else "a"],
                [f"v{i + 1}" if i < times - 1 else "b"],
                domain="my",
            )
            for i in range(times)
        ]
        made.append(helper.make_function("my", f"f{level}", ["a"], ["b"], calls, imports))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node(f"f{depth - 1}", ["c"], ["y"], domain="my"),
    ]
    graph = helper.make_graph(
        nodes,
        "calls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 4, 4])],
        [numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=imports, ir_version=9, functions=made)


def test_functions_that_unfold_for_ever_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(functions(2, 25), path)
    with within(30), pytest.raises(UnsupportedModelError, match="unfold to more than"):
        convfc.shapes(path)


def test_functions_are_counted() -> None:
    assert not unfolds(functions(2, 20))  # 2**19 nodes and one
    assert unfolds(functions(2, 22))
    assert not unfolds(functions(1, 5000))
    circle = functions(1, 2)
    circle.functions[0].node[0].CopyFrom(helper.make_node("f1", ["a"], ["b"], domain="my"))
    assert unfolds(circle)


# What a machine can hold.


def test_what_is_too_much_is_told() -> None:
    assert capacity.excess(2**20) is None
    assert "this machine can hold" in (capacity.excess(2**60) or "")
    assert "would take hours" in (capacity.excess(0, 10**16) or "")


def test_a_demand_counts_what_is_there_at_once() -> None:
    demand = Demand.of([[((None, 4), 4), ((3,), 4)], [((10, 10), 8)]], [])
    assert (demand.fixed, demand.each) == (800, 16)
    demand.check({"x": np.zeros((5, 4))}, "m")
    with pytest.raises(UnsupportedModelError, match="m: it is not run"):
        Demand(each=2**60).check({"x": np.zeros((5, 4))}, "m")


@pytest.mark.parametrize("shape", [(10**9, 3, 9, 9), (None, 3, 10**9, 10**9), (None, HUGE, 3)])
def test_feeds_are_counted_before_they_are_made(shape: tuple[int | None, ...]) -> None:
    with (
        within(30),
        pytest.raises(DataError, match=r"input 'x' would be fed .* than this"),
    ):
        make_feeds([Port("x", shape, "float32")])


@pytest.mark.parametrize("shape", [(7, 2, 5, 5), (7, 9), (2, 7, 3)])
def test_a_batch_of_more_samples_than_there_are_repeats_them(shape: tuple[int, ...]) -> None:
    images = load_samples("mnist", 3).images
    axis = shape.index(7)
    slot = Slot(Port("x", shape, "float32"), shape, axis)
    array, _ = slot.fill(images, range(7))
    for row in range(7):
        one, _ = slot.fill(images, range(row, row + 1))
        np.testing.assert_array_equal(np.take(array, [row], axis), one)


def test_no_more_samples_are_made_than_there_are() -> None:
    assert make_feeds([Port("x", (None, 1, 8, 8), "float32")], samples=10**12).rows == 1000


# Files of samples.


def _idx(path: Path) -> None:
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31))


def _gz(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">HBB2I", 0, 14, 2, 2**31, 2**31)))


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(file, header)


def _objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([None, {}], object), allow_pickle=True)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _image(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:

        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


@pytest.mark.parametrize("make", [_idx, _gz, _npy, _objects, _pipe, _image])
def test_files_that_lie_are_refused(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "data"
    make(path)
    with within(30), pytest.raises(DataError, match=str(path)):
        load_samples(path)


@pytest.mark.parametrize("limit", ["memory", "file"])
def test_what_unfolds_to_too_much_is_not_unfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=np.zeros((8, 2**17), np.uint8))
    assert len(load_samples(tmp_path / "data.npz").images) == 8
    if limit == "memory":
        monkeypatch.setattr(capacity, "memory", lambda: 2**20)
    else:
        monkeypatch.setattr(files, "_FREE", 2**10)
    with pytest.raises(DataError, match=r"it would unfold to .* bytes: .*than"):
        load_samples(tmp_path / "data.npz")


@pytest.mark.parametrize("name", ["/dev/zero", "x" * 5000, "a\0b"])
def test_what_is_no_file_is_refused(name: str) -> None:
    with within(30), pytest.raises(DataError):
        load_samples(name)


@pytest.mark.parametrize("value", [10**30, np.zeros((1, 4), [("a", "i4")])])
def test_values_of_no_type_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match="cannot hold"):
        make_feeds([Port("x", (None, 4), "int32")], inputs={"x": value})
