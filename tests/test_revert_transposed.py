"""Transposed layers that were pruned or trained while they were converted, in both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convfc
from convfc import Fate, Verdict
from tests.keras_models import save as saved
from tests.keras_models import stock
from tests.onnx_models import Array, save
from tests.test_revert import stored

UNLIKE = "entries of its bias that stand for one weight differ"
FILLED = "its kernel has numbers where a convolution of its size has zeros"


def pruned(array: Array) -> Array:
    """With the smaller half of what is not zero made zero."""
    limit = np.median(np.abs(array[array != 0]))
    return np.where(np.abs(array) < limit, 0, array).astype(np.float32)


def in_onnx(path: Path) -> Path:
    random = np.random.default_rng(0)
    shapes = {"W": (3, 4, 4, 5), "B": (4,), "V": (4, 3, 3, 2)}
    weights = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        helper.make_node(
            "ConvTranspose",
            ["x", "W", "B"],
            ["a"],
            name="first",
            strides=[2, 3],
            pads=[1, 0, 2, 1],
            output_padding=[1, 0],
        ),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node(
            "ConvTranspose",
            ["b", "V"],
            ["y"],
            name="second",
            strides=[3, 1],
            pads=[0, 1, 1, 0],
            group=2,
        ),
    ]
    return save(path, nodes, {"x": ["n", 3, 5, 4]}, ["y"], weights)


def test_onnx(tmp_path: Path) -> None:
    path = in_onnx(tmp_path / "m.onnx")
    fc = convfc.convert(path).out
    model = onnx.load(fc)
    tensors = {t.name: t for t in model.graph.initializer}
    for name in ("first/filter_matrix", "second/filter_matrix"):
        tensor = tensors[name]
        tensor.CopyFrom(numpy_helper.from_array(pruned(numpy_helper.to_array(tensor)), name))
    onnx.save(model, fc)
    back = convfc.revert(fc).out
    assert convfc.verify(fc, back, samples=2).verdict is Verdict.EQUIVALENT
    was, now = stored(path), stored(back)
    for name in ("W", "V"):
        kept = now[name] != 0
        assert 0 < kept.mean() < 0.6
        assert np.array_equal(now[name][kept], was[name][kept])

    bias = numpy_helper.to_array(tensors["first/bias"])
    other = bias + np.eye(1, len(bias), dtype=np.float32)[0]
    tensors["first/bias"].CopyFrom(numpy_helper.from_array(other, "first/bias"))
    onnx.save(model, fc)
    first, second = convfc.revert(fc, partial=True, force=True).layers
    assert (first.fate, first.way.reason) == (Fate.LEFT, UNLIKE)
    assert second.fate is Fate.REVERTED

    matrix = numpy_helper.to_array(tensors["first/filter_matrix"]).copy()
    matrix[np.nonzero(matrix == 0)] = 1
    tensors["first/bias"].CopyFrom(numpy_helper.from_array(bias, "first/bias"))
    tensors["first/filter_matrix"].CopyFrom(numpy_helper.from_array(matrix, "first/filter_matrix"))
    onnx.save(model, fc)
    first, _ = convfc.revert(fc, partial=True, force=True).layers
    assert first.way.reason == FILLED


def in_keras(path: Path) -> Path:
    """Strides that are the size of the window, so that nothing stands twice, and other ones."""
    keras.utils.set_random_seed(0)
    fed = keras.Input((5, 4, 3))
    how: dict[str, Any] = {"strides": (2, 3), "padding": "same", "activation": "relu"}
    x = keras.layers.Conv2DTranspose(4, (4, 5), name="first", **how)(fed)
    y = keras.layers.Conv2DTranspose(2, (3, 1), strides=(3, 1), use_bias=False, name="second")(x)
    return saved(keras.Model(fed, y), path)


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_keras(tmp_path: Path, trained: bool) -> None:
    path = in_keras(tmp_path / "m.keras")
    fc = convfc.convert(path).out
    model = stock(fc)
    if trained:
        model.compile("sgd", "mse")
        x = np.random.default_rng(0).normal(size=(4, 5, 4, 3))
        model.fit(x, np.ones_like(model(x)), verbose=0)
    else:
        for weight in model.weights:
            weight.assign(pruned(np.asarray(weight)) if len(weight.shape) > 1 else weight)
    saved(model, fc)
    reverted = convfc.revert(fc, like=path, partial=True)
    first, second = reverted.layers
    assert second.fate is Fate.REVERTED
    if trained:  # the zeros between the phases were trained as well
        assert (first.fate, first.way.reason) == (Fate.LEFT, FILLED)
        return
    assert first.fate is Fate.REVERTED
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    a, b = (stock(each)(x) for each in (fc, reverted.out))
    assert np.allclose(a, b, atol=1e-5)
