"""What a user sees: how far both sides are from the original in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verification, convolution
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.registry import open_model
from tests.onnx_models import attributes, save
from tests.reference import convolve

with importing():
    import keras
    from keras import layers

Array = NDArray[Any]
RANDOM = np.random.default_rng(8)
CONV = convolution([3, 2], channels=2, filters=3, strides=[1, 2], padding=[(1, 0), (0, 1)])
KERNEL = RANDOM.normal(size=(3, 2, 2, 3)).astype(np.float32)
BIAS = RANDOM.normal(size=3).astype(np.float32)
X = RANDOM.normal(size=(3, 7, 8, 2)).astype(np.float32)


def expected() -> Array:
    """Conv, then Relu, in float64."""
    y = convolve(X.astype(np.float64), KERNEL.astype(np.float64), BIAS.astype(np.float64), CONV)
    return np.maximum(y, 0)


def onnx_file(folder: Path) -> Path:
    weights = {"W": KERNEL.transpose(3, 2, 0, 1).copy(), "B": BIAS}
    nodes = [
        helper.make_node("Conv", ["x", "W", "B"], ["c"], **attributes(CONV)),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    return save(folder / "m.onnx", nodes, {"x": ["n", 2, 7, 8]}, ["y"], weights)


def keras_file(folder: Path, suffix: str) -> Path:
    pad = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")
    conv = layers.Conv2D(3, (3, 2), strides=(1, 2), name="conv")
    inner = keras.Sequential([keras.Input((8, 9, 2)), conv, layers.ReLU(name="relu")], name="y")
    model = keras.Sequential([keras.Input((7, 8, 2), name="x"), pad, inner])
    conv.set_weights([KERNEL, BIAS])
    with overheard():
        model.save(folder / f"m{suffix}")
    return folder / f"m{suffix}"


def verified(path: Path, **options: Any) -> Verification:
    done = convfc.convert(path)
    assert done.complete
    result = convfc.verify(path, **options)
    assert result.equivalent, result.reason
    return result


@pytest.mark.parametrize("suffix", [".onnx", ".keras", ".h5"])
def test_both_sides_have_their_distance_from_float64(tmp_path: Path, suffix: str) -> None:
    path = onnx_file(tmp_path) if suffix == ".onnx" else keras_file(tmp_path, suffix)
    first = suffix == ".onnx"
    x = X.transpose(0, 3, 1, 2) if first else X
    result = verified(path, inputs={"x": x})
    assert (result.float64_samples, result.float64_missing) == (3, None)
    (out,) = result.outputs
    exact = expected().transpose(0, 3, 1, 2) if first else expected()
    for file, error in (
        (path, out.original_error),
        (convfc.convert(path).out, out.converted_error),
    ):
        (y,) = open_model(file).run({"x": x}).values()
        assert error is not None
        assert error.max_abs == pytest.approx(abs(y - exact).max(), rel=1e-6)
        assert 0 < error.max_abs < 1e-5
        assert 0 < error.max_rel < 1e-2


def test_what_onnxruntime_lacks_in_float64_is_had_elsewhere(tmp_path: Path) -> None:
    """Branches, functions, dequantized weights, scales that are float32 by definition."""

    def value(name: str, *dims: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims or None)

    then = helper.make_graph([helper.make_node("Conv", ["r", "W"], ["t"])], "a", [], [value("t")])
    other = helper.make_graph([helper.make_node("Neg", ["p"], ["e"])], "b", [], [value("e")])
    body = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Mul", ["a", "half"], ["b"]),
    ]
    halve = helper.make_function("here", "Halve", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["W"]),
        helper.make_node("Halve", ["x"], ["h"], domain="here"),
        helper.make_node("Resize", ["h", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
    ]
    weights: dict[str, Array] = {
        "q": RANDOM.integers(-9, 9, (3, 2, 2, 2)).astype(np.int8),
        "s": np.array(0.1, np.float32),
        "scales": np.array([1, 1, 2, 1], np.float32),
        "yes": np.array(True),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", "n", 2, 5, 6)],
        [value("y", "n", None, None, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("here", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, functions=[halve], ir_version=10), path
    )
    x = X.transpose(0, 3, 1, 2)[:, :, :5, :6]
    result = verified(path, inputs={"x": x})
    assert (result.float64_samples, result.float64_missing) == (3, None)
    (layer,) = result.layers
    assert layer.on_random, "a branch hides what it is fed"
    assert layer.share is not None
    (out,) = result.outputs
    assert out.original_error is not None
    # The dequantized weights are those of the model: rounded once, and not again.
    kernel = (weights["q"] * weights["s"]).astype(np.float64).transpose(2, 3, 1, 0)
    wide = np.repeat(x.astype(np.float64) * 0.5, 2, 2).transpose(0, 2, 3, 1)
    exact = convolve(wide, kernel, np.zeros(3), convolution([2, 2], channels=2, filters=3))
    (y,) = open_model(path).run({"x": x}).values()
    gap = abs(y - exact.transpose(0, 3, 1, 2)).max()
    assert out.original_error.max_abs == pytest.approx(gap, rel=1e-6)


def test_why_there_is_no_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="rounding"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("Conv", ["d", "W"], ["y"]),
    ]
    weights = {"s": np.array(0.1, np.float32), "W": KERNEL.transpose(3, 2, 0, 1).copy()}
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 5, 6]}, ["y"], weights)
    result = verified(path, samples=2)
    assert "QuantizeLinear ('rounding') has no float64 form" in str(result.float64_missing)
    assert result.outputs[0].original_error is None

    nodes = [
        helper.make_node("Conv", ["x", "W"], ["c"]),
        helper.make_node("AveragePool", ["c"], ["y"], kernel_shape=[1, 1], name="slow"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["n", 2, 5, 6]}, ["y"], {"W": weights["W"]})
    assert verified(path, samples=2).float64_missing is None
    monkeypatch.setattr("convfc.formats.onnx.stepwise._SLOW_NUMBERS", 50)
    assert "AveragePool ('slow') would take" in str(verified(path, samples=2).float64_missing)
    monkeypatch.setattr("convfc.verification.end_to_end._COSTLY", 100)
    assert "multiply-adds would take" in str(verified(path, samples=2).float64_missing)


def test_what_tensorflow_computes_in_float32_only(tmp_path: Path) -> None:
    with overheard():
        model = keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                layers.Conv2D(2, 2),
                layers.UpSampling2D(interpolation="bilinear", name="smooth"),
            ]
        )
        model.save(tmp_path / "m.keras")
    missing = verified(tmp_path / "m.keras", samples=2).float64_missing
    assert "layer 'smooth' (UpSampling2D) computes in float32 only" in str(missing)
