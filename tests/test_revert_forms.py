"""The way back of layers that others have given another form, by the tools that do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

import convfc
from convfc import Change, Fate, Verdict
from tests.onnx_models import Array, operators, save
from tests.test_revert import as_written, changed, stored
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("quiet")

SHAPE = ("n", 4, 7, 6)
"""What the network is fed."""


def network(path: Path, opset: int = 21, groups: int = 1) -> Path:
    """Three convolutions of unequal windows, the second one of single pixels."""
    random = np.random.default_rng(0)
    shapes = {
        "W1": [8, 4 // groups, 3, 2],
        "B1": [8],
        "W2": [6, 8, 1, 1],
        "B2": [6],
        "W3": [5, 6, 2, 3],
    }
    weights = {n: random.normal(size=s).astype(np.float32) / 3 for n, s in shapes.items()}
    first: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 0, 1], "group": groups}
    third: dict[str, Any] = {"strides": [1, 2], "pads": [0, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "W1", "B1"], ["a"], name="first", **first),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "W2", "B2"], ["c"], name="second"),
        helper.make_node("Sigmoid", ["c"], ["d"], name="sigmoid"),
        helper.make_node("Conv", ["d", "W3"], ["y"], name="third", **third),
    ]
    return save(path, nodes, {"x": [*SHAPE]}, ["y"], weights, opset=opset)


def fed(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(2, *SHAPE[1:])).astype(np.float32)


class Samples(CalibrationDataReader):  # type: ignore[misc] # it has no types
    """What the static quantizer looks at."""

    def __init__(self) -> None:
        self._left = iter([{"x": fed(seed)} for seed in range(3)])

    def get_next(self) -> Any:
        return next(self._left, None)


def packed(fc: Path, bits: int = 4, *, symmetric: bool = False) -> Path:
    """A file with the weights of its products in few bits, in its own place."""
    how = DefaultWeightOnlyQuantConfig(block_size=16, is_symmetric=symmetric, bits=bits)
    quantizer = MatMulNBitsQuantizer(onnx.load(fc), algo_config=how)
    quantizer.process()
    quantizer.model.save_model_to_file(str(fc))
    return fc


def reverted(fc: Path, *left: str) -> Path:
    """A file whose layers come back in another form, but for those named; it computes the same."""
    back = convfc.revert(fc, partial=bool(left), force=True)
    fates = {layer.way.site.name: layer.fate for layer in back.layers}
    reasons = [layer.way.reason for layer in back.layers]
    assert {name for name, fate in fates.items() if fate is Fate.LEFT} == {*left}, reasons
    before, after = (as_written(path, fed(9)) for path in (fc, back.out))
    assert np.allclose(before, after, rtol=1e-5, atol=1e-5)
    assert convfc.verify(fc, back.out).verdict is not Verdict.NOT_EQUIVALENT
    changes = {layer.way.site.name: layer.way.change for layer in back.layers}
    assert Change.FORM in changes.values()
    return back.out


@pytest.mark.parametrize(
    ("bits", "symmetric"),
    thinned(pytest.param(*given) for given in [(4, False), (4, True), (8, False), (8, True)]),
)
def test_packed_weights(tmp_path: Path, bits: int, symmetric: bool) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx", opset=17)).out
    large = fc.stat().st_size
    packed(fc, bits, symmetric=symmetric)
    assert "MatMulNBits" in operators(fc)
    back = reverted(fc)
    assert operators(back) == {
        *("Conv", "DequantizeLinear", "Relu", "Reshape", "Sigmoid", "Transpose")
    }
    kinds = {t.data_type for t in onnx.load(back).graph.initializer}
    few = {4: (TensorProto.INT4, TensorProto.UINT4), 8: (TensorProto.INT8, TensorProto.UINT8)}
    assert few[bits][not symmetric] in kinds
    assert back.stat().st_size < large
    assert onnx.load(back).opset_import[0].version == 21


def test_packed_weights_in_an_opset_that_cannot_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    network(path, opset=17)

    def mean(made: onnx.ModelProto) -> None:
        """An operator that opset 18 has otherwise."""
        made.graph.output[0].name = "mean"
        made.graph.node.append(helper.make_node("ReduceMean", ["y"], ["mean"], axes=[2]))

    changed(path, mean)
    fc = convfc.convert(path).out
    quantizer = MatMulNBitsQuantizer(onnx.load(fc), 4, 16)
    quantizer.process()
    quantizer.model.save_model_to_file(str(fc))
    reasons = [layer.way.reason for layer in convfc.revert(fc).layers]
    assert all("MatMulNBits" in str(reason) for reason in reasons)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantization(tmp_path: Path, per_channel: bool) -> None:
    """The first layer's windows leave out the last row of pixels, which is cut off."""
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    quantized = tmp_path / "dynamic.onnx"
    quantize_dynamic(fc, quantized, per_channel=per_channel)
    back = reverted(quantized)
    made = operators(back)
    assert {"ConvInteger", "DynamicQuantizeLinear", "Slice"} <= made
    assert not made & {"Conv", "MatMulInteger", "Gather"}


def test_dynamic_quantization_of_blocks(tmp_path: Path) -> None:
    """Each block is rounded to a scale of its own, as no convolution is."""
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path, only="first", patch_memory=500).out
    quantized = tmp_path / "dynamic.onnx"
    quantize_dynamic(fc, quantized)
    (layer,) = convfc.revert(quantized).layers
    assert layer.way.reason == "what is done to its rows is not the same for all of them"


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("per_channel", [False, True])
def test_static_quantization_of_products(tmp_path: Path, per_channel: bool, groups: int) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx", groups=groups)).out
    quantized = tmp_path / "static.onnx"
    quantize_static(
        fc,
        quantized,
        Samples(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        op_types_to_quantize=["MatMul"],
    )
    back = reverted(quantized)
    made = operators(back)
    assert {"Conv", "QuantizeLinear", "DequantizeLinear"} <= made
    assert not made & {"MatMul", "Gather"}
    if groups == 1:  # by channel, those of two groups have scales of something else
        assert not made & {"Reshape", "Transpose"}


def split_in_two(name: str, rank: int) -> Callable[[onnx.ModelProto], None]:
    """The product with a matrix becomes one with two factors, by its singular values."""

    def change(made: onnx.ModelProto) -> None:
        (tensor,) = [t for t in made.graph.initializer if t.name == f"{name}/filter_matrix"]
        u, s, v = np.linalg.svd(numpy_helper.to_array(tensor), full_matrices=False)
        made.graph.initializer.remove(tensor)
        for part, array in (("U", u[..., :rank]), ("V", s[..., :rank, None] * v[..., :rank, :])):
            made.graph.initializer.append(numpy_helper.from_array(array, f"{name}/{part}"))
        (product,) = [n for n in made.graph.node if tensor.name in n.input]
        inner = helper.make_node("MatMul", [product.input[0], f"{name}/U"], [f"{name}/inner"])
        made.graph.node.insert(list(made.graph.node).index(product), inner)
        product.input[:] = [f"{name}/inner", f"{name}/V"]

    return change


@pytest.mark.parametrize("groups", [1, 2])
def test_a_product_split_in_two(tmp_path: Path, groups: int) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx", groups=groups)).out
    changed(fc, split_in_two("first", 2))
    changed(fc, split_in_two("third", 3))
    back = reverted(fc)
    kernels = {n.name: n.input[1] for n in onnx.load(back).graph.node if n.op_type == "Conv"}
    shapes = {tensor: array.shape for tensor, array in stored(back).items()}
    assert len(kernels) == 5
    found = sorted(shapes[kernel] for kernel in kernels.values())
    assert found == sorted(
        [(2 * groups, 4 // groups, 3, 2), (8, 2, 1, 1), (6, 8, 1, 1), (3, 6, 2, 3), (5, 3, 1, 1)]
    )


def test_blocks_with_unlike_factors_are_left(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path, only="first", patch_memory=500).out

    def change(made: onnx.ModelProto) -> None:
        """One block's product gets a factor, a diagonal matrix."""
        product = next(n for n in made.graph.node if n.op_type == "MatMul")
        made.graph.initializer.append(
            numpy_helper.from_array(np.diag(np.arange(8, dtype=np.float32)), "factor")
        )
        place = list(made.graph.node).index(product)
        made.graph.node.insert(
            place + 1, helper.make_node("MatMul", ["inner", "factor"], [product.output[0]])
        )
        product.output[0] = "inner"

    changed(fc, change)
    (layer,) = convfc.revert(fc).layers
    assert layer.way.reason == "what is done to its rows is not the same for all of them"


def without_bias(made: onnx.ModelProto) -> None:
    (total,) = [n for n in made.graph.node if "B1" in n.input]
    (product,) = [n for n in made.graph.node if total.input[0] in n.output]
    product.output[0] = total.output[0]
    made.graph.node.remove(total)


def with_bias(made: onnx.ModelProto) -> None:
    (product,) = [n for n in made.graph.node if "third/filter_matrix" in n.input]
    (after,) = [n for n in made.graph.node if product.output[0] in n.input]
    made.graph.initializer.append(
        numpy_helper.from_array(np.arange(5, dtype=np.float32), "third.bias")
    )
    node = helper.make_node("Add", [product.output[0], "third.bias"], ["biased"])
    made.graph.node.insert(list(made.graph.node).index(after), node)
    after.input[0] = "biased"


def test_a_bias_that_is_gone_and_one_that_is_new(tmp_path: Path) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out
    changed(fc, with_bias)
    changed(fc, without_bias)
    back = reverted(fc)
    inputs = {n.name: len(n.input) for n in onnx.load(back).graph.node if n.op_type == "Conv"}
    assert inputs == {"first": 2, "second": 3, "third": 3}
    assert operators(back) == {"Conv", "Relu", "Sigmoid"}
    assert convfc.verify(fc, back).verdict is Verdict.EQUIVALENT


def test_what_is_added_and_no_bias(tmp_path: Path) -> None:
    """A number of its own for each row."""
    fc = convfc.convert(network(tmp_path / "m.onnx", opset=17)).out

    def change(made: onnx.ModelProto) -> None:
        with_bias(made)
        (tensor,) = [t for t in made.graph.initializer if t.name == "third.bias"]
        tensor.CopyFrom(numpy_helper.from_array(np.ones((9, 1), np.float32), tensor.name))

    changed(fc, change)
    reasons = [layer.way.reason for layer in convfc.revert(fc).layers]
    assert reasons == [None, None, "'third.bias', which is added, is no bias"]


def with_filters(kept: list[int]) -> Callable[[onnx.ModelProto], None]:
    """Some filters of the first layer, or some twice: what reads them gets a share of each."""
    shares = np.array([kept.count(one) for one in kept], np.float32)[:, None]

    def change(made: onnx.ModelProto) -> None:
        for tensor in made.graph.initializer:
            numbers = numpy_helper.to_array(tensor)
            if tensor.name in ("first/filter_matrix", "B1"):
                numbers = numbers[..., kept]
            elif tensor.name == "second/filter_matrix":
                numbers = numbers[kept] / shares
            elif tensor.name in ("first/shape_4", "second/shape"):
                assert numbers[-1] == 8
                numbers = np.array([*numbers[:-1], len(kept)], np.int64)
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
        made.graph.ClearField("value_info")

    return change


@pytest.mark.parametrize("kept", thinned([[0, 2, 3, 5, 7], [*range(8), 1, 6], [5, 4]]))
def test_fewer_and_more_filters(tmp_path: Path, kept: list[int]) -> None:
    """Structured pruning, and Net2WiderNet: the rest of the model agrees with it."""
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out
    changed(fc, with_filters(kept))
    back = reverted(fc)
    assert operators(back) == {"Conv", "Relu", "Sigmoid"}
    found, was = stored(back), stored(path)
    assert np.array_equal(found["W1"], was["W1"][kept])
    assert np.array_equal(found["B1"], was["B1"][kept])
    assert found["W2"].shape == (6, len(kept), 1, 1)
    assert np.array_equal(found["W3"], was["W3"])
    onnx.checker.check_model(onnx.load(back), full_check=True)
    assert convfc.verify(fc, back).verdict is Verdict.EQUIVALENT
    if len(kept) > 8:  # the same function as before
        assert np.allclose(as_written(path, fed(1)), as_written(back, fed(1)), atol=1e-5)


def test_filters_that_the_next_layer_does_not_agree_with(tmp_path: Path) -> None:
    fc = convfc.convert(network(tmp_path / "m.onnx")).out

    def change(made: onnx.ModelProto) -> None:
        (tensor,) = [t for t in made.graph.initializer if t.name == "first/filter_matrix"]
        numbers = numpy_helper.to_array(tensor)[:, :4]
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))

    changed(fc, change)
    back = convfc.revert(fc)
    assert back.layers[0].fate is Fate.LEFT


def one_layer(path: Path, size: int = 6) -> Path:
    """A convolution whose maps have as many rows and columns as it has filters."""
    random = np.random.default_rng(0)
    weights = {"W": random.normal(size=(size, 4, 3, 3)), "B": random.normal(size=size)}
    stored_as = {name: numbers.astype(np.float32) for name, numbers in weights.items()}
    node = helper.make_node("Conv", ["x", "W", "B"], ["y"], name="only", pads=[1, 1, 1, 1])
    return save(path, [node], {"x": ["n", 4, size, size]}, ["y"], stored_as, opset=21)


def test_what_is_added_along_another_axis(tmp_path: Path) -> None:
    """To each column of a map, where there are as many as filters."""
    fc = convfc.convert(one_layer(tmp_path / "m.onnx")).out

    def change(made: onnx.ModelProto) -> None:
        made.graph.node[-1].output[0] = "maps"
        made.graph.node.append(helper.make_node("Add", ["maps", "vector"], ["y"]))
        vector = numpy_helper.from_array(np.arange(6, dtype=np.float32), "vector")
        made.graph.initializer.append(vector)

    changed(fc, change)
    (layer,) = convfc.revert(fc).layers
    assert layer.way.reason == "what is added to its rows is not added to their columns"


@pytest.mark.parametrize("shape", [(1, 6), (1,), (72, 6)])
def test_a_bias_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A sum takes it, and a convolution does not."""
    fc = convfc.convert(one_layer(tmp_path / "m.onnx")).out

    def change(made: onnx.ModelProto) -> None:
        (tensor,) = [t for t in made.graph.initializer if t.name == "B"]
        tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), "B"))

    changed(fc, change)
    (layer,) = convfc.revert(fc).layers
    assert layer.way.reason == "its bias is not laid out as that of a convolution any more"


def test_grids_that_differ_in_an_attribute(tmp_path: Path) -> None:
    """Signed numbers in one block, unsigned ones in the next: the zero points are left out."""
    fc = convfc.convert(one_layer(tmp_path / "m.onnx"), patch_memory=2000).out

    def change(made: onnx.ModelProto) -> None:
        products = [n for n in made.graph.node if n.op_type == "MatMul"]
        assert len(products) > 1
        for number, node in enumerate(products):
            name, place = node.output[0], [*made.graph.node].index(node) + 1
            node.output[0] = f"{name}/real"
            dtype = (TensorProto.INT8, TensorProto.UINT8)[number % 2]
            grid = [
                helper.make_node(
                    "QuantizeLinear", [f"{name}/real", "step"], [f"{name}/q"], output_dtype=dtype
                ),
                helper.make_node("DequantizeLinear", [f"{name}/q", "step"], [name]),
            ]
            for each in reversed(grid):
                made.graph.node.insert(place, each)
        step = numpy_helper.from_array(np.array(0.07, np.float32), "step")
        made.graph.initializer.append(step)

    changed(fc, change)
    (layer,) = convfc.revert(fc).layers
    assert layer.way.reason == "what is done to its rows is not the same for all of them"
