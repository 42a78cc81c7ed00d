"""The dense form of ONNX files: one product per layer, chains without Reshapes, proved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc import Code, Refusal, Verdict
from convfc.core.whole import Whole
from convfc.errors import UsageError
from convfc.formats.provenance import Provenance
from tests.onnx_layers import random_layer
from tests.onnx_models import Array, operators, run, run_anywhere, save
from tests.onnx_suites import CASES, KINDS, Case
from tests.program import Here
from tests.thinned import thinned

Node = onnx.NodeProto
NEVER = {"Transpose", "Gather", "Pad", "Slice", "Concat"}


def small(shape: Sequence[int], seed: int) -> Array:
    """Integers so small that sums are exact behind some layers, too."""
    return np.random.default_rng(seed).integers(-2, 3, tuple(shape)).astype(np.float32)


WEIGHTS: dict[str, Array] = {
    "W": small([4, 3, 3, 3], 1),
    "b": small([4], 2),
    "V": small([4, 4, 3, 3], 3),
    "U": small([5, 4, 3, 3], 4),
    "c": small([5], 5),
    "G": small([5 * 3 * 3, 10], 6),
    "g": small([10], 7),
    "each": small([4, 1, 1], 8),
    "whole": small([1, 4, 1, 1], 9) + 0.5,
    "map": small([1, 7], 10),
    "one": np.array(0.5, np.float32),
    "ones": np.full([1, 1, 1], 3, np.float32),
    "low": np.array(-2, np.float32),
    "high": np.array(8, np.float32),
    "flat": np.array([-1, 45], np.int64),
    "kept": np.array([0, -1], np.int64),
    "three": np.array([3, 45], np.int64),
}


def node(op: str, inputs: str, output: str, **attributes: Any) -> Node:
    return helper.make_node(op, inputs.split(), [output], name=f"n_{output}", **attributes)


FLATTEN = [node("Flatten", "r1", "f")]


def net(
    path: Path,
    between: Sequence[Node] = (node("Relu", "y0", "r0"),),
    flatten: Sequence[Node] = FLATTEN,
    *outputs: str,
    batch: int | str = "n",
) -> Path:
    """Conv, something, Conv, Relu, Flatten, Gemm."""
    nodes = [
        node("Conv", "x W b", "y0", pads=[1] * 4),
        *between,
        node("Conv", "r0 U c", "y1", strides=[2, 2]),
        node("Relu", "y1", "r1"),
        *flatten,
        node("Gemm", "f G g", "y"),
    ]
    return save(path, nodes, {"x": [batch, 3, 7, 7]}, ["y", *outputs], WEIGHTS)


def dense(path: Path, **options: Any) -> convfc.Conversion:
    done: convfc.Conversion = convfc.convert(path, form="dense", force=True, **options)
    return done


def chain(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def checked(path: Path, **feed: Array) -> list[str]:
    """The operators of the dense form, which is proved and gives the same numbers to the bit."""
    done = dense(path)
    assert done.complete
    for a, b in zip(run(path, **feed), run(done.out, **feed), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert all(layer.structure is None for layer in found.layers)
    assert not operators(done.out) & (KINDS | NEVER - operators(path))
    return chain(done.out)


X = small([2, 3, 7, 7], 11)


def test_a_small_net_is_a_chain(tmp_path: Path) -> None:
    found = checked(net(tmp_path / "m.onnx"), x=X)
    products = ["MatMul", "Add", "Relu"]
    assert found == ["Reshape", *products, *products, "MatMul", "Add"]
    model = onnx.load(tmp_path / "m_fc.onnx")
    assert [node.name for node in model.graph.node if node.op_type == "Add"] == [
        "n_y0",
        "n_y1",
        "n_y",
    ]
    matrices = {one.name: one for one in model.graph.initializer if len(one.dims) == 2}
    assert {*matrices} == {"n_y0/dense_matrix", "n_y1/dense_matrix", "G", "map"}
    shapes = [[*one.dims] for one in model.graph.initializer if one.name.endswith("shape")]
    assert shapes == [[2]]  # of the only Reshape


BETWEEN: dict[str, tuple[list[Node], int]] = {
    "Clip": ([node("Clip", "y0 low high", "r0")], 1),
    "a number for each channel": ([node("Mul", "y0 each", "m"), node("Add", "whole m", "r0")], 1),
    "a number for each place": ([node("Sub", "map y0", "r0")], 1),
    "one number": ([node("Mul", "y0 one", "m"), node("Add", "m ones", "r0")], 1),
    "PRelu": ([node("PRelu", "y0 each", "r0")], 1),
    "Where": ([node("Greater", "y0 one", "g0"), node("Where", "g0 y0 each", "r0")], 1),
    "Cast": ([node("Cast", "y0", "d", to=11), node("Cast", "d", "r0", to=1)], 1),
    "HardSwish": (
        [
            node("Add", "y0 one", "a"),
            node("Clip", "a low high", "k"),
            node("Mul", "y0 k", "m"),
            node("Div", "m high", "r0"),
        ],
        1,
    ),
    "a residual": (
        [
            node("Relu", "y0", "s"),
            node("Conv", "s V", "t", pads=[1] * 4),
            node("Add", "s t", "u"),
            node("Relu", "u", "r0"),
        ],
        1,
    ),
    "a pool": ([node("MaxPool", "y0", "r0", kernel_shape=[3, 3], pads=[1] * 4)], 3),
    "a pool behind Relu": (
        [node("Relu", "y0", "s"), node("MaxPool", "s", "r0", kernel_shape=[3, 3], pads=[1] * 4)],
        3,
    ),
    "a sum of a pool": (
        [
            node("MaxPool", "y0", "p", kernel_shape=[3, 3], pads=[1] * 4),
            node("Add", "p y0", "r0"),
        ],
        3,
    ),
    "one of two readers": (
        [
            node("Relu", "y0", "s"),
            node("Sigmoid", "y0", "t"),
            node("Round", "t", "t1"),
            node("Add", "s t1", "r0"),
        ],
        1,
    ),
}
"""What stands between two layers, and how many Reshapes are left in the file."""


@pytest.mark.parametrize("case", thinned(BETWEEN))
def test_what_is_elementwise_works_on_rows(case: str, tmp_path: Path) -> None:
    between, reshapes = BETWEEN[case]
    assert checked(net(tmp_path / "m.onnx", between), x=X).count("Reshape") == reshapes


@pytest.mark.parametrize(
    ("flatten", "batch", "reshapes"),
    thinned(
        pytest.param(*way)
        for way in [
            ([node("Flatten", "r1", "f", axis=-3)], "n", 1),
            ([node("Reshape", "r1 flat", "f")], "n", 1),
            ([node("Reshape", "r1 kept", "f")], "n", 1),
            ([node("Reshape", "r1 three", "f")], 3, 1),
            ([node("Flatten", "r1", "k"), node("Dropout", "k", "f")], "n", 1),
            (
                [node("Flatten", "r1", "k"), node("Flatten", "y1", "h"), node("Max", "k h", "f")],
                "n",
                1,
            ),
            ([node("Flatten", "r1", "k", axis=2), node("Reshape", "k flat", "f")], "n", 4),
        ]
    ),
)
def test_what_flattens_is_as_good_as_a_layer(
    flatten: list[Node], batch: int | str, reshapes: int, tmp_path: Path
) -> None:
    path = net(tmp_path / "m.onnx", flatten=flatten, batch=batch)
    found = checked(path, x=small([3, 3, 7, 7], 1))
    assert found.count("Reshape") + (found.count("Flatten")) == reshapes


@pytest.mark.parametrize("output", thinned(["y0", "r0", "y1", "r1", "f"]))
def test_what_is_returned_stays_what_it_is(output: str, tmp_path: Path) -> None:
    nodes = [node("Relu", "y0", "r0")]
    found = checked(net(tmp_path / "m.onnx", nodes, FLATTEN, output), x=X)
    assert found.count("Reshape") == (1 if output == "f" else 2)  # rows are returned as they are
    assert "Flatten" not in found


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([node("Relu", "x", "r")], ["y"]),
        ([node("Relu", "x", "r"), node("Tanh", "r", "s")], ["y", "s"]),
        ([node("Relu", "x", "r"), node("LogSoftmax", "r", "s", axis=1)], ["y", "s"]),
    ],
)
def test_what_works_on_rows_that_a_model_is_fed(
    nodes: list[Node], outputs: list[str], tmp_path: Path
) -> None:
    image = [node("Reshape", "r image", "j"), node("Conv", "j W b", "y")]
    weights = {"W": small([4, 1, 2, 2], 1), "b": small([4], 2)}
    weights["image"] = np.array([0, 1, 3, 3], np.int64)
    path = save(tmp_path / "m.onnx", [*nodes, *image], {"x": ["n", 9]}, outputs[:1], weights)
    proto = onnx.load(path)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs[1:])
    onnx.save(proto, path)
    checked(path, x=small([2, 9], 3))


def test_what_a_layer_reads_is_none_of_it(tmp_path: Path) -> None:
    """What is not flat, and made of an input of rows: the indices of an embedding."""
    looked_up = [node("Gather", "table x", "e"), node("Transpose", "e", "t", perm=[0, 2, 1])]
    weights = {"table": small([11, 3], 1), "W": small([4, 3, 2], 2)}
    nodes = [*looked_up, node("Conv", "t W", "c"), node("Relu", "c", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 9]}, ["y"], weights)
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    proto.graph.output[0].ClearField("type")
    onnx.save(proto, path)
    checked(path, x=np.arange(18).reshape(2, 9) % 11)


def test_names_may_say_flat_or_rows_of_themselves(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x W b", "in/flatten/y", pads=[1] * 4),
        node("Relu", "in/flatten/y", "in/rows"),
        node("Conv", "in/rows U c", "y1", strides=[2, 2]),
    ]
    for outputs in (["y1"], ["y1", "in/rows"]):
        path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 7, 7]}, outputs, WEIGHTS)
        assert checked(path, x=X).count("Reshape") == len(outputs) + 1


@pytest.mark.parametrize("case", thinned(CASES, 9), ids=lambda case: case.name)
def test_a_case_of_the_suites_has_its_outputs(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(case.model, path)
    done = dense(path, check=False)
    if not done.complete:
        assert case.name == "test_operator_conv"
        assert "takes 2.8 GiB, and 1.0 GiB is the limit" in (done.layers[0].reason or "")
        return
    assert not operators(done.out) & KINDS
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.samples:
        feed = dict(zip(names, map(np.asarray, inputs), strict=False))
        for mine, expected in zip(run_anywhere([done.out], feed)[0], outputs, strict=True):
            assert mine.dtype == expected.dtype
            loose = 2e-3 if expected.dtype == np.float16 else 1e-5
            a, b = mine.astype(np.float64), expected.astype(np.float64)
            np.testing.assert_allclose(a, b, rtol=loose, atol=loose)


def of_known_sizes(seed: int) -> tuple[onnx.ModelProto, Array]:
    layer = random_layer(Random(seed))  # noqa: S311 - nothing is secret here
    dims = layer.model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in list(zip(dims, layer.inputs[0].shape, strict=True))[1:]:
        dim.dim_value = size
    return layer.model, layer.inputs[0]


def compared(seeds: range, folder: Path) -> int:
    """How many random layers were compared: original and dense, alone and three at once."""
    count = 0
    for seed in seeds:
        model, x = of_known_sizes(seed)
        path = folder / "m.onnx"
        onnx.save(model, path)
        done = dense(path, check=False)
        if not done.complete:
            assert done.layers[0].site.convolution is None, (seed, done.layers[0].reason)
            continue
        for batch in (x, np.concatenate([x, x[:, :, ::-1], x])):
            try:
                (expected,), (got,) = run_anywhere([path, done.out], {"x": batch})
            except ValueError:  # the evaluator has no pads for some transposed ones
                assert model.graph.node[0].op_type == "ConvTranspose"
                break
            assert got.dtype == expected.dtype, seed
            assert np.array_equal(got, expected), seed
        else:
            count += 1
    return count


def test_random_layers_are_the_same_to_the_bit(tmp_path: Path) -> None:
    assert compared(range(60), tmp_path) > 50


@pytest.mark.slow
def test_many_random_layers_are_the_same_to_the_bit(tmp_path: Path) -> None:
    assert compared(range(1000, 1600), tmp_path) > 500


@pytest.mark.parametrize("seed", thinned(range(20, 44), 6))
def test_random_layers_are_proved(seed: int, tmp_path: Path) -> None:
    model, _ = of_known_sizes(seed)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    done = dense(path, check=False)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert [layer.structure for layer in found.layers] == [None]


@pytest.mark.parametrize("opset", thinned([5, 6, 7, 9, 21]))
def test_any_opset(opset: int, tmp_path: Path) -> None:
    nodes = [node("Conv", "x W b", "y", pads=[1] * 4)]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, 7, 7]}, ["y"], WEIGHTS, opset=opset)
    done = dense(path)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason


def test_weights_that_callers_may_override_stay_so(tmp_path: Path) -> None:
    nodes = [node("Conv", "x W b", "y", group=1)]
    weights = {name: WEIGHTS[name] for name in ("W", "b")}
    dims: dict[str, list[int | str | None]] = {"x": ["n", 3, 7, 7]}
    path = save(tmp_path / "m.onnx", nodes, dims, ["y"], weights, overridable=True)
    out = dense(path).out
    assert convfc.verify(path, out, samples=3).equivalent
    other = {"x": X, "W": -WEIGHTS["W"], "b": 2 * WEIGHTS["b"]}
    assert np.array_equal(run(path, **other)[0], run(out, **other)[0])
    assert chain(dense(path, freeze_weights=True).out) == ["Reshape", "MatMul", "Add", "Reshape"]


def mutated(path: Path, edit: Callable[[onnx.ModelProto], None]) -> convfc.Verification:
    out = dense(path, check=False).out
    model = onnx.load(out)
    edit(model)
    onnx.save(model, out)
    return convfc.verify(path, out, samples=3)


def in_matrix(change: Callable[[Array], Any], name: str = "n_y1/dense_matrix") -> Any:
    """Change one of the matrices in place, or for what is returned."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(one for one in model.graph.initializer if one.name == name)
        array = numpy_helper.to_array(tensor).copy()
        before = array.tobytes()
        changed = change(array)
        array = array if changed is None else changed
        assert array.tobytes() != before
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    return edit


def at(array: Array, index: int, what: Callable[[Array], Array]) -> None:
    """Change the entry of some number among those that are no zeros."""
    place = np.flatnonzero(array)[index]
    array.reshape(-1)[place] = what(array.reshape(-1)[place])


def other_axes(array: Array, *, columns: bool) -> Array:
    """Rows (or columns) in the order with channels last."""
    split = (196, 5, 3, 3) if columns else (4, 7, 7, 45)
    order = (0, 2, 3, 1) if columns else (1, 2, 0, 3)
    return array.reshape(split).transpose(order).reshape(array.shape)


IN_NUMBERS: dict[str, Callable[[Array], Any]] = {
    "one ulp": lambda m: at(m, 100, lambda n: np.nextafter(n, np.float32(99))),
    "one zero is no zero": lambda m: m.__setitem__((0, 44), 1e-30),
    "one zero has a sign": lambda m: m.__setitem__((0, 44), -0.0),
    "one weight is two": lambda m: at(m, -1, lambda n: n + 1),
    "a weight is gone": lambda m: at(m, 5, lambda n: n * 0),
    "two rows change places": lambda m: m[[1, 0, *range(2, len(m))]],
    "all rows move": lambda m: np.roll(m, 1, axis=0),
    "two columns change places": lambda m: m[:, [1, 0, *range(2, m.shape[1])]],
    "all columns move": lambda m: np.roll(m, 1, axis=1),
    "rows with channels last": lambda m: other_axes(m, columns=False),
    "columns with channels last": lambda m: other_axes(m, columns=True),
    "twice as much": lambda m: m * 2,
}


@pytest.mark.parametrize("case", thinned(IN_NUMBERS))
def test_a_wrong_number_is_found(case: str, tmp_path: Path) -> None:
    found = mutated(net(tmp_path / "m.onnx"), in_matrix(IN_NUMBERS[case]))
    assert found.verdict is Verdict.NOT_EQUIVALENT


def reading(output: str, place: int, value: str) -> Callable[[onnx.ModelProto], None]:
    """Let the node that makes something read another value."""

    def edit(model: onnx.ModelProto) -> None:
        (found,) = (node for node in model.graph.node if output in node.output)
        assert found.input[place] != value
        found.input[place] = value

    return edit


def renamed(**names: str) -> Callable[[onnx.ModelProto], None]:
    """Exchange names of values everywhere."""

    def edit(model: onnx.ModelProto) -> None:
        for one in model.graph.node:
            one.input[:] = [names.get(name, name) for name in one.input]
            one.output[:] = [names.get(name, name) for name in one.output]
        del model.graph.value_info[:]

    return edit


def becomes(output: str, op_type: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        (found,) = (node for node in model.graph.node if output in node.output)
        assert found.op_type != op_type
        found.op_type = op_type

    return edit


def shaped(*shape: int) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(one for one in model.graph.initializer if one.name.endswith("shape"))
        tensor.CopyFrom(numpy_helper.from_array(np.array(shape, np.int64), tensor.name))

    return edit


def with_a_number(model: onnx.ModelProto) -> None:
    """A number for each column, in front of a Relu, that is none for each channel."""
    numbers = np.ones(196, np.float32)
    numbers[7] = 2
    model.graph.initializer.append(numpy_helper.from_array(numbers, "more"))
    relu = next(node for node in model.graph.node if "r0/flat" in node.output)
    place = list(model.graph.node).index(relu)
    model.graph.node.insert(place, node("Mul", f"{relu.input[0]} more", "scaled"))
    relu.input[0] = "scaled"


def of_three_samples(model: onnx.ModelProto) -> None:
    """As many as are tried here, where any number may come."""
    (last,) = (node for node in model.graph.node if "r1/flat" in node.input)
    flatten = node("Reshape", f"{last.input[0]} three", "f")
    model.graph.node.insert(list(model.graph.node).index(last), flatten)
    last.input[0] = "f"


OF_NODES: dict[str, Callable[[onnx.ModelProto], None]] = {
    "Relu is passed by": reading("n_y1/product", 0, "y0/flat"),
    "the last Relu is passed by": reading("y", 0, "y1/flat"),
    "Relu is another": becomes("r0/flat", "Sigmoid"),
    "Add is another": becomes("y0/flat", "Sub"),
    "names are exchanged": renamed(**{"y0/flat": "r0/flat", "r0/flat": "y0/flat"}),
    "layers are exchanged": renamed(**{"y0/flat": "y1/flat", "y1/flat": "y0/flat"}),
    "for one sample": shaped(1, 147),
    "of three samples": of_three_samples,
    "over samples": shaped(147, -1),
    "a number for each column": with_a_number,
}


@pytest.mark.parametrize("case", thinned(OF_NODES))
def test_a_wrong_node_is_never_equivalent(case: str, tmp_path: Path) -> None:
    found = mutated(net(tmp_path / "m.onnx"), OF_NODES[case])
    assert found.verdict is not Verdict.EQUIVALENT


def test_a_wrong_number_of_a_column_is_found(tmp_path: Path) -> None:
    """Of a constant that was repeated for the positions of each channel."""
    path = net(tmp_path / "m.onnx", BETWEEN["a number for each channel"][0])
    dense(path)
    names = [one.name for one in onnx.load(tmp_path / "m_fc.onnx").graph.initializer]
    (name,) = (name for name in names if name.startswith("each"))
    found = mutated(path, in_matrix(lambda m: at(m, 9, lambda n: n + 1), name))
    assert found.verdict is Verdict.NOT_EQUIVALENT


def test_open_sizes_are_left_with_the_remedy(tmp_path: Path) -> None:
    nodes = [node("Conv", "x W b", "y0"), node("Relu", "y0", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 3, "h", 7]}, ["y"], WEIGHTS)
    done = dense(path)
    reason = "one matrix needs every size, and some are open"
    assert [layer.refusal for layer in done.layers] == [Refusal(reason, Code.OPEN_SIZE)]
    assert Code.OPEN_SIZE.remedy == "fix it with --shape NAME=DIMS"
    assert not done.written
    fixed = dense(path, shapes={"x": [2, 3, 7, 7]})
    assert fixed.complete
    assert convfc.verify(path, fixed.out, samples=3).equivalent


def test_the_limit_is_for_all_of_a_file(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    sizes = [147 * 196 * 4, 196 * 45 * 4]
    assert dense(path, dense_limit=sum(sizes)).complete
    done = dense(path, dense_limit=sum(sizes) - 1, partial=True)
    assert [layer.reason for layer in done.layers] == [
        None,
        "its matrix of 196 x 45 takes 34.5 KiB, beside 112.5 KiB of others, and 147.0 KiB is the "
        "limit",
    ]
    assert [layer.refusal.code for layer in done.layers if layer.refusal] == [Code.DENSE_LIMIT]
    assert convfc.verify(path, done.out, samples=3).equivalent
    done = dense(path, dense_limit=sizes[1], partial=True)
    assert [layer.reason is None for layer in done.layers] == [False, True]
    assert convfc.verify(path, done.out, samples=3).equivalent


def test_a_record_tells_the_form(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    out = dense(path).out
    (text,) = (one.value for one in onnx.load(out).metadata_props if one.key == "convfc")
    assert [layer["form"] for layer in json.loads(text)["layers"]] == ["dense", "dense"]
    patches = convfc.convert(path, tmp_path / "p.onnx").out
    (text,) = (one.value for one in onnx.load(patches).metadata_props if one.key == "convfc")
    assert "form" not in json.loads(text)["layers"][0]
    assert [one.form for one in Provenance.from_json(text, path).layers] == ["patches"] * 2


def test_matrices_are_made_when_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, each once; and none where only sizes are asked for."""
    made: list[tuple[int, int]] = []
    matrix = Whole.matrix

    def counted(self: Whole, *given: Any, **named: Any) -> Any:
        made.append(self.shape)
        return matrix(self, *given, **named)

    monkeypatch.setattr(Whole, "matrix", counted)
    path = net(tmp_path / "m.onnx")
    assert [layer.lowering is not None for layer in convfc.shapes(path)] == [True, True]
    assert made == []
    dense(path, check=False)
    assert sorted(made) == [(147, 196), (196, 45)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "dense", "patches": "gather"}, "--form dense does not go with --patches"),
        ({"form": "dense", "patch_memory": 9}, "--form dense does not go with --patch-memory"),
        ({"dense_limit": 9}, "--form patches does not go with --dense-limit"),
        ({"form": "dense", "dense_limit": 0}, "dense_limit is 0"),
        ({"form": "sparse"}, "form is 'sparse': it takes patches, dense"),
    ],
)
def test_options_that_do_not_go_together(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        convfc.convert(net(tmp_path / "m.onnx"), **options)


def test_the_command(tmp_path: Path, here: Here) -> None:
    path = net(tmp_path / "m.onnx")
    done = here("convert", path, "--form=dense", "--dense-limit=1MiB", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["form"] == "dense"
    lowering = told["layers"][0]["lowering"]
    assert (lowering["form"], lowering["filter_matrix"]) == ("dense", [147, 196])
    assert lowering["dense"] == {"matrix": [147, 196], "bytes": 115248, "weights": 4332}
    shown = here("shapes", path, "--form=dense", cwd=tmp_path).stdout
    assert "147×196" in shown
    assert "112.5 KiB │ 15 %" in shown
    assert "49×27" in shown
    assert "left" not in shown


def told_of(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a file tells of its first layer."""
    model = onnx.load(out)
    (entry,) = (one for one in model.metadata_props if one.key == "convfc")
    record = json.loads(entry.value)
    change(record["layers"][0])
    entry.value = json.dumps(record)
    onnx.save(model, out)


@pytest.mark.parametrize("form", ["patches", "dense"])
def test_a_record_of_the_other_form_proves_nothing(form: str, tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    out = convfc.convert(path, form=form).out
    told_of(out, lambda layer: layer.update(form={"patches": "dense"}.get(form, "patches")))
    assert convfc.verify(path, out, samples=3).verdict is Verdict.COULD_NOT_CHECK


def test_a_matrix_that_nobody_could_hold_is_not_made(tmp_path: Path) -> None:
    """A record may say so of a layer with large maps: 4 TB, and index maps of 4 GB."""
    nodes = [node("Conv", "x W b", "y", pads=[1] * 4)]
    weights = {name: WEIGHTS[name] for name in ("W", "b")}
    dims: dict[str, list[int | str | None]] = {"x": [1, 3, 600, 600]}
    path = save(tmp_path / "m.onnx", nodes, dims, ["y"], weights, overridable=True)
    out = convfc.convert(path, check=False).out
    told_of(out, lambda layer: layer.update(form="dense"))
    assert convfc.verify(path, out, samples=1, quick=True).equivalent


def random_net(path: Path, random: Random) -> Path:
    """Layers, what is elementwise and pools between them, in any order, and what flattens."""
    nodes: list[Node] = []
    values, flat = ["x0"], []
    nodes.append(node("Conv", "x W b", "x0", pads=[1] * 4))
    for number in range(1, random.randint(5, 12)):
        a, b = random.choice(values[-3:]), random.choice(values)
        made = f"x{number}"
        makers: dict[str, Node] = {
            "layer": node("Conv", f"{a} V", made, pads=[1] * 4),
            "one by one": node("Conv", f"{a} P b", made),
            "unary": node(random.choice(["Relu", "Sigmoid", "Abs"]), a, made),
            "sum": node(random.choice(["Add", "Max", "Mul"]), f"{a} {b}", made),
            "each": node("Mul", f"{a} each", made),
            "map": node("Add", f"map {a}", made),
            "pool": node("AveragePool", a, made, kernel_shape=[3, 3], pads=[1] * 4),
            "flatten": node("Flatten", a, f"f{number}"),
        }
        kind = random.choice([*makers, "layer", "unary"])
        nodes.append(makers[kind])
        if kind == "flatten":
            flat.append(f"f{number}")
            nodes.append(node("Gemm", f"f{number} H", f"g{number}"))
        else:
            values.append(made)
    shapes = {"P": (4, 4, 1, 1), "H": (4 * 49, 3)}
    weights = WEIGHTS | {name: small(shape, 3) for name, shape in shapes.items()}
    outputs = {values[-1], random.choice(values), *(name.replace("f", "g") for name in flat)}
    return save(path, nodes, {"x": ["n", 3, 7, 7]}, sorted(outputs), weights)


@pytest.mark.parametrize("seed", thinned(range(12), 6))
def test_random_nets_are_proved(seed: int, tmp_path: Path) -> None:
    path = random_net(tmp_path / "m.onnx", Random(seed))  # noqa: S311 - nothing is secret here
    done = dense(path)
    assert not operators(done.out) & (KINDS | NEVER)
    before, after = chain(convfc.convert(path, tmp_path / "p.onnx").out), chain(done.out)
    assert len(after) < len(before)
    found = convfc.verify(path, done.out, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert {layer.structure for layer in found.layers} == {None}


MEMORY = """
import resource, sys
import convfc
done = convfc.convert(sys.argv[1], form="dense", check=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, done.out.stat().st_size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_one_matrix_at_a_time_is_in_memory(tmp_path: Path) -> None:
    """Four of 100 MB each; the libraries take another 150."""
    nodes = [node("Conv", f"x{i} V{i}", f"x{i + 1}", pads=[1] * 4) for i in range(4)]
    weights = {f"V{i}": small([4, 4, 3, 3], i) for i in range(4)}
    path = save(tmp_path / "m.onnx", nodes, {"x0": ["n", 4, 35, 36]}, ["x4"], weights)
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, size = map(int, done.stdout.split())
    assert size > 4 * 100e6
    assert peak * 1024 < size
