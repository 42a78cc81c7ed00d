"""The matrices of ONNX files: they compute what the file computes, and can be replaced in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import FileError, Matrix, UnsupportedModelError, UsageError
from tests.onnx_layers import random_layer
from tests.onnx_models import (
    CONV,
    KERNEL,
    Array,
    conv_file,
    conv_node,
    integers,
    run,
    run_anywhere,
    save,
)
from tests.onnx_models import model as save_graph
from tests.program import SAMPLES
from tests.thinned import thinned


def through(matrix: Matrix, x: Array) -> Array:
    """What a layer makes of samples, channels first, by its matrix on a whole one."""
    conv = matrix.convolution
    y = x.reshape(len(x), -1) @ matrix.whole().dense().astype(np.float64)
    outputs = [size or 0 for size in conv.output(matrix.sizes)]
    y = y.reshape(len(x), conv.filters, *outputs)
    return y if matrix.b is None else y + matrix.b.reshape(-1, *[1] * conv.rank)


def by_patches(patches: convfc.Patches) -> Array:
    """P F + b of an ordinary convolution: one sample, channels first."""
    matrix = patches.matrix
    groups, _, columns = matrix.blocks.shape
    rows = patches.P.reshape(groups, -1, matrix.blocks.shape[1]).astype(np.float64)
    y: Array = np.moveaxis(rows @ matrix.blocks, 0, 1).reshape(-1, groups * columns)
    y = y.T if matrix.b is None else y.T + matrix.b[:, None]
    return y.reshape(-1, *patches.outputs)


def scaled(model: onnx.ModelProto, y: Array) -> Array:
    """Real numbers as the 8-bit integers of a QLinearConv."""
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    limits = np.iinfo(constants["yz"].dtype)
    steps: Array = np.rint(y / constants["ys"]) + constants["yz"]
    return steps.clip(limits.min, limits.max)


@pytest.mark.parametrize("seed", range(24))
def test_a_layer_is_its_matrices(tmp_path: Path, seed: int) -> None:
    layer = random_layer(Random(seed))  # noqa: S311 - it draws a test
    path, x = tmp_path / "m.onnx", layer.inputs[0]
    onnx.save(layer.model, path)
    shapes = {"x": x.shape}
    try:
        ((y,),) = run_anywhere([path], {"x": x})
        found = convfc.matrices(path, shapes=shapes)
    except Exception:
        pytest.skip("no runtime takes this layer")
    ((name, matrix),) = found.items()
    assert (name, matrix.layer, matrix.channels_first) == ("layer", "layer", True)
    kind = layer.model.graph.node[0].op_type
    constants = {one.name: numpy_helper.to_array(one) for one in layer.model.graph.initializer}
    real = x.astype(np.float64)
    zero = constants.get("xz", 0)
    if kind in ("ConvInteger", "QLinearConv"):
        real = (real - zero) * constants.get("xs", 1.0)
    made = through(matrix, real)
    np.savez(tmp_path / "x.npz", x=x)
    patches = convfc.patch_matrices(path, data=tmp_path / "x.npz", shapes=shapes)["layer"]
    if not kind.endswith("Transpose"):
        np.testing.assert_allclose(by_patches(patches), made[0], rtol=1e-12, atol=1e-9)
    if kind == "QLinearConv":
        assert abs(scaled(layer.model, made) - y).max() <= 1
    else:
        np.testing.assert_allclose(made, y, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("form", thinned(["patches", "dense"]))
@pytest.mark.parametrize("seed", range(9))
def test_converted_layers_have_the_same_and_take_others(
    tmp_path: Path, seed: int, form: str
) -> None:
    layer = random_layer(Random(seed + 100))  # noqa: S311 - it draws a test
    path, x = tmp_path / "m.onnx", layer.inputs[0]
    onnx.save(layer.model, path)
    shapes = {"x": x.shape}
    done = convfc.convert(path, form=form, shapes=shapes, partial=True, check=False)
    before = convfc.matrices(path, shapes=shapes)
    after = convfc.matrices(done.out)
    if not done.complete:
        pytest.skip("it is left")
    matrix, converted = before["layer"], after["layer"]
    assert np.array_equal(matrix.F, converted.F)
    assert (matrix.b is None) == (converted.b is None)
    if matrix.fixed is not None:
        with pytest.raises(UnsupportedModelError, match="they are integers"):
            convfc.with_matrices(done.out, {"layer": (matrix.F, matrix.b)}, tmp_path / "o.onnx")
        return
    other = (2 * matrix.F + (matrix.F != 0), None if matrix.b is None else matrix.b - 3)
    files = [
        convfc.with_matrices(one, {"layer": other}, tmp_path / f"{one.stem}_new.onnx")
        for one in (path, done.out)
    ]
    read = convfc.matrices(files[0], shapes=shapes)["layer"]
    assert np.array_equal(read.F, other[0])
    try:
        (first,), (second,) = run_anywhere(files, {"x": x})
    except ValueError:
        pytest.skip("no runtime takes the original")
    assert np.array_equal(first, second)
    np.testing.assert_allclose(through(read, x), first, rtol=1e-5, atol=1e-3)


def test_all_else_in_a_file_stays(tmp_path: Path) -> None:
    source = SAMPLES / "mnist_cnn.onnx"
    found = convfc.matrices(source)
    name = "conv_strided"
    bias = found[name].b
    assert bias is not None
    changed = {name: (found[name].F * 0.5, bias + 1)}
    out = convfc.with_matrices(source, changed, tmp_path / "new.onnx")
    before, after = onnx.load(source), onnx.load(out)
    differ = [
        one.name
        for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if one != other
    ]
    node = next(node for node in before.graph.node if node.name == name)
    assert differ == [one for one in node.input[1:] if one in differ]
    assert len(differ) == 2
    for model in (before, after):
        del model.graph.initializer[:]
    assert before == after


def two(tmp_path: Path, *, shared: bool = False, more: tuple[onnx.NodeProto, ...] = ()) -> Path:
    """Two convolutions one after the other, and what is read of their kernels."""
    weights = {"W": integers([2, 2, 3]), "V": integers([2, 2, 3], 1)}
    if shared:
        del weights["V"]
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], "one"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "W" if shared else "V"], ["y"], "two"),
        *more,
    ]
    outputs = ["y", *(node.output[0] for node in more)]
    return save(tmp_path / "two.onnx", nodes, {"x": [1, 2, 9]}, outputs, weights)


def test_a_shared_kernel_is_replaced_for_all_or_for_none(tmp_path: Path) -> None:
    path = two(tmp_path, shared=True)
    own = convfc.matrices(path)["one"].F
    with pytest.raises(UnsupportedModelError, match="'two' would get other numbers"):
        convfc.with_matrices(path, {"one": (2 * own, None)}, tmp_path / "o.onnx")
    assert not (tmp_path / "o.onnx").exists()
    both = {"one": (2 * own, None), "two": (2 * own, None)}
    out = convfc.with_matrices(path, both, tmp_path / "o.onnx")
    assert np.array_equal(convfc.matrices(out)["two"].F, 2 * own)
    with pytest.raises(UnsupportedModelError, match="would get other numbers"):
        convfc.with_matrices(path, {**both, "two": (own, None)}, tmp_path / "p.onnx")


def test_a_kernel_that_others_read_stays(tmp_path: Path) -> None:
    path = two(tmp_path, more=(helper.make_node("Neg", ["W"], ["z"], "elsewhere"),))
    own = convfc.matrices(path)["one"].F
    with pytest.raises(UnsupportedModelError, match="'elsewhere' reads 'W', too"):
        convfc.with_matrices(path, {"one": (2 * own, None)}, tmp_path / "o.onnx")


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    path, out = two(tmp_path), tmp_path / "o.onnx"
    out.write_bytes(path.read_bytes())
    given = {"one": (convfc.matrices(path)["one"].F + 1, None)}
    with pytest.raises(FileError, match="was not made by convfc"):
        convfc.with_matrices(path, given, out)
    with pytest.raises(UsageError, match="is the model itself"):
        convfc.with_matrices(path, given, path)
    convfc.with_matrices(path, given, out, force=True)
    assert np.array_equal(convfc.matrices(out)["one"].F, given["one"][0])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("three", lambda own: (own, None), "no matrix is called 'three'; there are: one, two"),
        (
            "one",
            lambda own: (own.T[:, :3], None),
            r"F is of float32 .* it takes numbers of \(6, 2\)",
        ),
        ("one", lambda own: (own.astype(str), None), "it takes numbers of"),
        ("one", lambda own: (own, own[0]), "there is no place for a bias"),
        (
            "one",
            lambda own: (own.astype(float) * 1e39, None),
            "F has numbers that float32 does not hold",
        ),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, name: str, change: Any, words: str) -> None:
    path = two(tmp_path)
    given = change(convfc.matrices(path)["one"].F)
    with pytest.raises(UsageError, match=words):
        convfc.with_matrices(path, {name: given}, tmp_path / "o.onnx")
    assert not (tmp_path / "o.onnx").exists()


def test_phases_without_a_tap_are_zero(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "W"], ["y"], "up", strides=[2])
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 1, 4]}, ["y"], {"W": integers([1, 1, 3])})
    own = convfc.matrices(path)["up"].F
    assert own.shape == (2, 2)
    assert np.count_nonzero(own == 0) == 1
    with pytest.raises(UsageError, match="F is not zero in phases where the kernel has no tap"):
        convfc.with_matrices(path, {"up": (own + 1, None)}, tmp_path / "o.onnx")


def test_kernels_that_constants_make_are_read_and_stay(tmp_path: Path) -> None:
    """As quantizers write them: 8 bits behind a DequantizeLinear."""
    weights = np.random.default_rng(0).integers(-9, 9, (6, 2, 2, 3)).astype(np.int8)
    constants = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.linspace(0.5, 1, 6).astype(np.float32), "scale"),
        numpy_helper.from_array(np.zeros(6, np.int8), "zero"),
    ]
    dequantize = helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["W"], axis=0)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph([dequantize, conv_node()], "net", [x], [y], constants)
    path = save_graph(tmp_path / "m.onnx", graph)
    (matrix,) = convfc.matrices(path).values()
    sample = integers([1, 4, 5, 6])
    np.testing.assert_allclose(
        through(matrix, sample), run(path, x=sample)[0], rtol=1e-5, atol=1e-4
    )
    with pytest.raises(UnsupportedModelError, match="they are computed from others"):
        convfc.with_matrices(path, {matrix.name: (matrix.F, None)}, tmp_path / "o.onnx")


def test_what_cannot_be_measured_says_why(tmp_path: Path) -> None:
    path = two(tmp_path)
    matrix = convfc.matrices(path)["one"]
    wrong = replace(matrix, F=matrix.F * np.float32(np.nan))
    assert (wrong.spectrum, wrong.norm) == (None, None)
    assert wrong.unbounded == wrong.unmeasured == "a number in it is not finite"
    long = replace(matrix, sizes=(2**40,))
    assert long.spectrum is not None
    assert long.norm is None
    assert "its patch matrix has 6,597,069,766,644 entries" in (long.unbounded or "")
    assert replace(matrix, sizes=(None,)).unbounded == "sizes are open"


def test_a_window_that_does_not_fit_has_no_matrix(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "W"], ["y"], "conv")]
    weights = {"W": integers([2, 2, 3])}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2, 2]}, ["y"], weights)
    (unread,) = convfc.measure(path).unread
    assert unread.refusal.code is convfc.Code.GEOMETRY


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_numbers_of_each_type_stay_to_the_bit(tmp_path: Path, kind: str) -> None:
    dtype = getattr(TensorProto, kind)
    weights = helper.make_tensor("W", dtype, [6, 2, 2, 3], KERNEL.ravel() / 7)
    x = helper.make_tensor_value_info("x", dtype, [1, 4, 5, 6])
    y = helper.make_tensor_value_info("y", dtype, [None] * 4)
    graph = helper.make_graph([conv_node()], "net", [x], [y], [weights])
    path = save_graph(tmp_path / "m.onnx", graph)
    ((name, matrix),) = convfc.matrices(path).items()
    assert matrix.dtype == kind.lower().replace("double", "float64")
    out = convfc.with_matrices(path, {name: (matrix.F, matrix.b)}, tmp_path / "o.onnx")
    before, after = (onnx.load(file).graph.initializer[0] for file in (path, out))
    assert numpy_helper.to_array(before).tobytes() == numpy_helper.to_array(after).tobytes()
    half = convfc.with_matrices(path, {name: (matrix.F / 2, matrix.b)}, tmp_path / "h.onnx")
    assert np.array_equal(convfc.matrices(half)[name].F, matrix.F / 2)


def test_a_kernel_of_the_run_has_no_matrix(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "W"], ["y"], "conv")]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2, 9], "W": [2, 2, 3]}, ["y"], {})
    assert convfc.matrices(path) == {}
    (unread,) = convfc.measure(path).unread
    assert (unread.name, unread.refusal.code) == ("conv", convfc.Code.UNKNOWN_KERNEL)


def chain(tmp_path: Path, node: onnx.NodeProto, *, opset: int = 17) -> convfc.Measurement:
    """What is measured of two convolutions with a node from a to b between."""
    weights = {"W": integers([2, 2, 3]), "V": integers([2, 2, 3], 1), "c": integers([2, 1])}
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["a"], "one"),
        node,
        helper.make_node("Conv", ["b", "V"], ["y"], "two"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2, 15]}, ["y"], weights, opset=opset)
    return convfc.measure(path)


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs"),
    [
        ("Relu", {}, ["a"]),
        ("LeakyRelu", {"alpha": 0.3}, ["a"]),
        ("MaxPool", {"kernel_shape": [2], "strides": [2]}, ["a"]),
        ("AveragePool", {"kernel_shape": [2], "strides": [3]}, ["a"]),
        ("Add", {}, ["a", "c"]),
        ("Tanh", {}, ["a"]),
    ],
)
def test_a_chain_has_a_product(
    tmp_path: Path, kind: str, attributes: dict[str, Any], inputs: list[str]
) -> None:
    found = chain(tmp_path, helper.make_node(kind, inputs, ["b"], "n", **attributes))
    assert found.chain.broken is None
    assert found.chain.between == (kind,)
    norms = [matrix.norm.value for matrix in found.matrices.values() if matrix.norm is not None]
    assert found.product == pytest.approx(norms[0] * norms[1])
    # Not even the worst of many pairs of samples gets further apart.
    path, random = found.model, np.random.default_rng(0)
    pairs = random.standard_normal((40, 2, 1, 2, 15)).astype(np.float32)
    grown = [
        np.linalg.norm(run(path, x=a)[0] - run(path, x=b)[0]) / np.linalg.norm(a - b)
        for a, b in pairs
    ]
    assert found.product is not None
    assert 0 < max(grown) < found.product


@pytest.mark.parametrize(
    ("kind", "attributes", "inputs"),
    [
        ("LeakyRelu", {"alpha": 2.0}, ["a"]),
        ("MaxPool", {"kernel_shape": [3], "strides": [2]}, ["a"]),
        ("MaxPool", {"kernel_shape": [2], "strides": [2], "dilations": [3]}, ["a"]),
        ("Add", {}, ["a", "a"]),
        ("Mul", {}, ["a", "c"]),
        ("Exp", {}, ["a"]),
    ],
)
def test_what_may_expand_breaks_a_chain(
    tmp_path: Path, kind: str, attributes: dict[str, Any], inputs: list[str]
) -> None:
    found = chain(tmp_path, helper.make_node(kind, inputs, ["b"], "n", **attributes))
    assert (found.product, found.chain.layers) == (None, ("one",))
    assert found.chain.broken is not None


def test_selected_layers(tmp_path: Path) -> None:
    path = two(tmp_path)
    assert [*convfc.matrices(path, layers="t*")] == ["two"]
    assert convfc.measure(path, layers="t*").product is None
    with pytest.raises(UsageError, match="no convolution is called 'x'; there are: one, two"):
        convfc.matrices(path, layers=["x"])


def test_open_sizes_have_filter_matrices_and_no_whole_ones(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (None, 6))
    matrix = convfc.matrices(path)["conv"]
    assert (matrix.norm, matrix.F.shape) == (None, (12, 6))
    with pytest.raises(UnsupportedModelError, match=r"some are open; fix it with --shape"):
        matrix.whole()
    fixed = convfc.matrices(path, shapes={"x": (1, 4, 5, 6)})["conv"]
    assert fixed.norm is not None


def test_a_whole_matrix_has_a_limit(tmp_path: Path) -> None:
    path = conv_file(tmp_path / "m.onnx", CONV, (5, 6))
    matrix = convfc.matrices(path)["conv"]
    count = matrix.whole().data.size
    assert matrix.whole(count).data.size == count
    with pytest.raises(UnsupportedModelError, match=f"has {count:,} entries that are weights"):
        matrix.whole(count - 1)
