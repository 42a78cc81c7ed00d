"""Originals that TensorFlow has no kernel for on some processors, on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from convfc.core.transposed import TransposedConvolution
from convfc.errors import UnsupportedModelError
from convfc.formats.keras import open_keras
from convfc.formats.keras.any_processor import compute_anywhere
from convfc.formats.keras.convolutions import convolutions_of
from tests.keras_models import FIRST, integer_feed, integer_weights, save
from tests.reference import convolve_transposed

KINDS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "plain": ((2, 7, 6), layers.Conv2D, {"filters": 3, "kernel_size": (3, 2), "strides": (2, 1)}),
    "causal": ((2, 7), layers.Conv1D, {"filters": 3, "kernel_size": 3}),
    "grouped": ((4, 7, 5), layers.Conv2D, {"filters": 6, "kernel_size": 2, "groups": 2}),
    "volume": ((2, 5, 6, 4), layers.Conv3D, {"filters": 3, "kernel_size": (1, 2, 3)}),
    "deep": ((3, 7, 5), layers.DepthwiseConv2D, {"kernel_size": (3, 2), "depth_multiplier": 2}),
    "apart": ((3, 7), layers.SeparableConv1D, {"filters": 5, "kernel_size": 3, "strides": 2}),
    "up": ((2, 4, 3), layers.Conv2DTranspose, {"filters": 3, "kernel_size": 3, "strides": (2, 3)}),
    "largest": ((2, 7, 6), layers.MaxPooling2D, {"pool_size": (3, 2), "strides": (2, 1)}),
    "mean": ((2, 7, 6, 5), layers.AveragePooling3D, {"pool_size": (3, 2, 2)}),
}


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_first_is_the_same_layer_channels_last(kind: str, activation: str | None) -> None:
    shape, make, config = KINDS[kind]
    padding = "causal" if kind == "causal" else "same"
    config = {**config, "padding": padding}
    weighs = "kernel_size" in config
    first = make(**config, data_format=FIRST, **({"activation": activation} if weighs else {}))
    last = make(**config, data_format="channels_last")
    model = keras.Sequential([keras.Input(shape), first])
    last.build((None, *shape[1:], shape[0]))
    integer_weights(model)
    for weight, value in zip(last.weights, first.weights, strict=True):
        weight.assign(value)
    assert compute_anywhere(model)
    assert not compute_anywhere(model)
    x = np.random.default_rng(1).integers(-2, 3, (2, *shape)).astype(np.float32)
    expected = np.moveaxis(np.asarray(last(np.moveaxis(x, 1, -1))), -1, 1)
    if activation and weighs:  # along the last axis, whatever that is
        expected = np.asarray(keras.activations.softmax(keras.ops.convert_to_tensor(expected)))
    for _ in range(2):  # every call leaves the layer as it was
        np.testing.assert_array_equal(model(x), expected)
    assert first.data_format == FIRST


def test_a_bias_goes_where_keras_adds_it() -> None:
    """Which is a guess, where the last axis is as long as the filters are many."""
    layer = layers.Conv2D(5, 1, data_format=FIRST)
    model = keras.Sequential([keras.Input((2, 6, 5)), layer])
    layer.bias.assign([1, 2, 3, 4, 5])
    assert compute_anywhere(model)
    x = np.zeros((1, 2, 6, 5), np.float32)
    bias = keras.ops.reshape(layer.bias, (1, 5, 1, 1))
    expected = keras.ops.add(np.zeros((1, 5, 6, 5), np.float32), bias)
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("rank", "data_format"), [(1, "channels_last"), (2, FIRST), (3, FIRST)])
def test_a_dilated_transposed_layer_is_one_with_zeros_in_its_kernel(
    rank: int, data_format: str, padding: str
) -> None:
    layer = getattr(layers, f"Conv{rank}DTranspose")(
        3,
        (3, 2, 2)[:rank],
        dilation_rate=(2, 3, 1)[:rank],
        padding=padding,
        data_format=data_format,
    )
    sizes, last = (5, 6, 4)[:rank], data_format == "channels_last"
    model = keras.Sequential([keras.Input((*sizes, 2) if last else (2, *sizes)), layer])
    integer_weights(model)
    x = np.random.default_rng(2).integers(-2, 3, (2, *sizes, 2)).astype(np.float32)
    (weighted,) = convolutions_of(layer)
    assert isinstance(weighted.geometry, TransposedConvolution)
    kernel = np.swapaxes(np.asarray(weighted.kernel), -1, -2)
    expected = convolve_transposed(x, kernel, np.asarray(layer.bias), weighted.geometry)
    assert compute_anywhere(model)
    y = np.asarray(model(x if last else np.moveaxis(x, -1, 1)))
    np.testing.assert_array_equal(y if last else np.moveaxis(y, 1, -1), expected)


def test_layers_that_every_processor_has_stay() -> None:
    model = keras.Sequential(
        [keras.Input((7, 6, 2)), layers.Conv2D(3, 2, dilation_rate=2), layers.MaxPooling2D(2)]
    )
    assert not compute_anywhere(model)


def test_a_model_is_run_where_tensorflow_refuses_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nested ones and those in a wrapper too; what else fails is still an error."""
    image = keras.Input((3, 2, 6, 5))
    inner = keras.Sequential(
        [keras.Input((2, 6, 5)), layers.Conv2D(4, 3, data_format=FIRST, activation="relu")]
    )
    model = keras.Model(image, layers.TimeDistributed(inner)(image))
    integer_weights(model)
    opened = open_keras(save(model, tmp_path / "a.keras"))
    wrong = open_keras(save(model, tmp_path / "a.keras"))
    feed = integer_feed(opened)
    own, calls = layers.Conv2D.call, []

    def refusing(layer: Any, x: Any) -> Any:
        calls.append(layer.data_format)
        if layer.data_format == FIRST:
            raise NotImplementedError("only supports NHWC tensor format")
        return own(layer, x)

    compute_anywhere(model)
    (expected,) = (np.asarray(model(x)) for x in feed.values())
    monkeypatch.setattr(layers.Conv2D, "call", refusing)
    (y,) = opened.run(feed).values()
    np.testing.assert_array_equal(y, expected)
    assert calls[0] == FIRST
    (y,) = opened.run_in_float64(feed).values()
    np.testing.assert_array_equal(y, expected)
    monkeypatch.setattr(layers.Conv2D, "call", lambda *_: 1 / 0)
    with pytest.raises(UnsupportedModelError, match="Keras cannot run it"):
        wrong.run(feed)
