"""Axes that happen to be as long as one another: nothing may take one of them for another.

Keras on TensorFlow does: `keras.ops.add` guesses by its length which axis a bias belongs to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from convfc.core.lowering import Lowering
from convfc.formats.keras import open_keras
from convfc.formats.keras.rewriting import replacement
from convfc.formats.keras.sites import Place
from tests.keras_models import FIRST, FORMATS, convert, converted, integer_weights, lowering, save
from tests.thinned import thinned

ALL = 4
"""So long is every axis: of the batch, the image, channels, groups, filters and taps."""
TAPS = {1: (4,), 2: (2, 2), 3: (1, 2, 2)}
OPEN = {
    1: ((), (0,)),
    2: ((), (0,), (1,), (0, 1)),
    3: ((), (0,), (2,), (0, 1), (0, 1, 2)),
}
"""Axes of unknown size, by the rank."""


def stack(rank: int) -> dict[str, Any]:
    """Layers of a rank; each has a bias."""
    kernel, double = TAPS[rank], tuple(min(taps, 2) for taps in TAPS[rank])
    conv, up = getattr(layers, f"Conv{rank}D"), getattr(layers, f"Conv{rank}DTranspose")
    made = {
        "plain": conv(ALL, kernel, padding="same"),
        "grouped": conv(ALL, kernel, groups=2, padding="same"),
        "alone": conv(ALL, kernel, groups=ALL, padding="same"),
        "pairs": conv(2 * ALL, kernel, groups=ALL, padding="same"),
        "tiled": conv(ALL, kernel, strides=double, padding="same"),
        "pointwise": conv(ALL, 1, groups=ALL),
        "up": up(ALL, kernel, strides=double, padding="same"),
    }
    if rank < 3:
        deep, apart = (getattr(layers, f"{kind}Conv{rank}D") for kind in ("Depthwise", "Separable"))
        made["deep"] = deep(kernel, padding="same")
        made["deeper"] = deep(kernel, padding="same", depth_multiplier=ALL)
        made["apart"] = apart(ALL, kernel, padding="same", depth_multiplier=2)
    return made


def built(layer: Any, shape: tuple[int | None, ...]) -> Any:
    """A layer with integers for weights; no two of a bias are alike and none is 0."""
    layer(keras.Input(shape))
    rng = np.random.default_rng(len(shape))
    for weight in layer.weights:
        drawn = rng.integers(-3, 4, weight.shape)
        weight.assign(1 + rng.permutation(weight.shape[0]) if weight.name == "bias" else drawn)
    return layer


def replaced(layer: Any, shape: tuple[int | None, ...], suffix: str) -> tuple[Any, list[str]]:
    """What takes the place of a layer that is called on samples of a shape, and the remarks."""
    made = lowering(Place(layer.name, layer, None, [(None, *shape)]).site(suffix))
    assert isinstance(made, Lowering)
    return replacement(layer, made, suffix, ends_masks=False)


def guessed(model: Any) -> list[str]:
    """Layers whose bias has one axis longer than 1, and others: which it belongs to is a guess."""
    biases = {layer.name: getattr(layer, "bias", None) for layer in model.layers}
    return [
        name
        for name, bias in biases.items()
        if bias is not None and len(bias.shape) > 1 and sum(n > 1 for n in bias.shape) < 2
    ]


@pytest.mark.parametrize(
    ("rank", "opened"),
    thinned((pytest.param(rank, axes) for rank in OPEN for axes in OPEN[rank]), 4),
)
def test_all_axes_are_alike(rank: int, opened: tuple[int, ...]) -> None:
    for name, layer in stack(rank).items():
        size = 2 * ALL if name == "tiled" else ALL
        shape = (*(None if axis in opened else size for axis in range(rank)), ALL)
        built(layer, shape)
        x = np.random.default_rng(1).integers(-3, 4, (ALL, *[size] * rank, ALL)).astype(np.float32)
        expected = np.asarray(layer(x))
        for suffix in FORMATS:
            model, remarks = replaced(layer, shape, suffix)
            assert (remarks, guessed(model)) == ([], [])
            for batch in (ALL, 1):
                y = np.asarray(model(x[:batch]))
                np.testing.assert_array_equal(y, expected[:batch], err_msg=f"{name}{suffix}")


def test_a_bias_of_one_of_several_axes_would_be_seen() -> None:
    image = keras.Input((ALL, ALL, ALL, 2))
    for filters in (1, 2):
        dense = layers.EinsumDense(
            "bxtgi,tigo->bxgo", (None, ALL, filters), bias_axes="go", name="guess"
        )
        found = guessed(keras.Model(image, dense(image)))
        assert found == (["guess"] if filters == 1 else [])


@pytest.mark.parametrize("suffix", thinned(FORMATS))
@pytest.mark.parametrize("name", ["alone", "deep", "deeper", "apart"])
def test_a_graph_that_knows_no_size(name: str, suffix: str) -> None:
    """Nor the batch; it guesses when it is traced, not when it is run."""
    layer = built(stack(2)[name], (None, None, ALL))
    model, _ = replaced(layer, (None, None, ALL), suffix)
    spec = tf.TensorSpec((None, None, None, ALL), tf.float32)
    run = tf.function(lambda x: model(x, training=False), input_signature=[spec], autograph=False)
    for height, width in ((ALL, ALL), (ALL, 6), (5, ALL)):
        x = np.random.default_rng(2).integers(-3, 4, (ALL, height, width, ALL)).astype(np.float32)
        np.testing.assert_array_equal(run(x), layer(x))


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_of_which_all_axes_are_alike(tmp_path: Path, suffix: str) -> None:
    image = keras.Input((8, 8, 8))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(image)
    x = layers.SeparableConv2D(8, 3, padding="same")(x)
    model = keras.Model(image, layers.Conv2D(8, 2, groups=8, padding="same")(x))
    integer_weights(model)
    x = np.random.default_rng(3).integers(-2, 3, (8, 8, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(converted(model, tmp_path, suffix)(x), model(x))


@pytest.mark.parametrize("kind", ["Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose"])
def test_a_bias_that_keras_adds_along_another_axis(kind: str) -> None:
    """With channels first, where the last axis is as long as the filters are many."""
    made = {"filters": 5} if kind != "DepthwiseConv" else {}
    name = "Conv2DTranspose" if kind == "ConvTranspose" else f"{kind}2D"
    for width, bias, refused in ((5, True, True), (5, False, False), (4, True, False)):
        layer = getattr(layers, name)(
            **made, kernel_size=3, padding="same", use_bias=bias, data_format=FIRST
        )
        shape = (5, 7, width)
        layer(keras.Input(shape))
        reason = Place("x", layer, None, [(None, *shape)]).site(".keras").reason
        assert (reason is not None and "along the last axis" in reason) == refused
    layer = built(layer, (5, 7, None))
    _, (remark,) = replaced(layer, (5, 7, None), ".keras")
    assert remark.startswith(f"{layer.name}: where its last axis is as long as its filters")
    assert replaced(layer, (5, None, 4), ".keras")[1] == []


def test_a_layer_alone_is_compared_with_its_definition(tmp_path: Path) -> None:
    """Not with what Keras makes of it where a width that is not known is its filters' number."""
    conv = layers.Conv2D(5, 3, padding="same", data_format=FIRST)
    model = keras.Sequential([keras.Input((5, 7, None)), conv])
    built(conv, (5, 7, None))
    path, out = save(model, tmp_path / "a.keras"), tmp_path / "b.keras"
    (remark,) = convert(path, out)
    assert "Keras on TensorFlow adds its bias along that" in remark
    (pair,) = open_keras(path).align(open_keras(out)).pairs
    for width in (4, 5):
        x = np.random.default_rng(1).integers(-2, 3, (2, 5, 7, width)).astype(np.float32)
        for old, new in (pair.run(x, {}), pair.exact(x, {})):
            np.testing.assert_array_equal(old, new)
