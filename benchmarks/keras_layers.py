"""Single layers in TensorFlow: what one would write by hand instead of convfc's output."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.keras_nets import graph, load
from benchmarks.tables import Row
from benchmarks.timing import in_turns
from convfc import convert
from convfc.formats.keras.quiet import importing

with importing():
    import keras
    import tensorflow as tf


class Layer(NamedTuple):
    """A square convolution without pads."""

    size: int
    channels: int
    kernel: int
    stride: int
    filters: int

    @property
    def outputs(self) -> int:
        """Height and width of the output."""
        return (self.size - self.kernel) // self.stride + 1

    def __str__(self) -> str:
        """The layer in a few words."""
        kernel = f"{self.kernel}x{self.kernel} stride {self.stride}"
        return f"{kernel}, {self.size}x{self.size}x{self.channels} to {self.filters}"


LAYERS = (
    Layer(58, 64, 3, 1, 64),
    Layer(30, 128, 3, 1, 128),
    Layer(16, 256, 3, 1, 256),
    Layer(57, 128, 3, 2, 128),
    Layer(229, 3, 7, 2, 64),
    Layer(224, 3, 16, 16, 768),
)
"""Layers of ResNet50 (a 3x3 of each of three sizes, one with a stride, the first) and of ViT."""

_BY_HAND: dict[str, Callable[[Layer, Any], Any]] = {}


def _patches(name: str) -> Callable[[Callable[[Layer, Any], Any]], Callable[[Layer, Any], Any]]:
    def register(make: Callable[[Layer, Any], Any]) -> Callable[[Layer, Any], Any]:
        _BY_HAND[name] = make
        return make

    return register


@_patches("tf.image.extract_patches")
def _tf_image(layer: Layer, x: Any) -> Any:
    k, s = layer.kernel, layer.stride
    return tf.image.extract_patches(x, [1, k, k, 1], [1, s, s, 1], [1, 1, 1, 1], "VALID")


@_patches("keras.ops.image.extract_patches")
def _keras_image(layer: Layer, x: Any) -> Any:
    return keras.ops.image.extract_patches(x, layer.kernel, layer.stride, padding="valid")


@_patches("slices + concat")
def _slices(layer: Layer, x: Any) -> Any:
    last = layer.stride * (layer.outputs - 1) + 1
    taps = itertools.product(range(layer.kernel), repeat=2)
    step = layer.stride
    return tf.concat([x[:, i : i + last : step, j : j + last : step] for i, j in taps], -1)


COLUMNS = ["layer", "native ms", "convfc", *_BY_HAND]
RATIOS = COLUMNS[2:]


def measure(layer: Layer, folder: Path, seconds: float) -> Row:
    """A row of ratios: the native layer, convfc's, and patches by hand + Dense."""
    keras.utils.set_random_seed(0)
    conv = keras.layers.Conv2D(layer.filters, layer.kernel, layer.stride)
    path, out = folder / "layer.keras", folder / "layer_fc.keras"
    keras.Sequential([keras.Input((layer.size, layer.size, layer.channels)), conv]).save(path)
    if not convert(path, out, force=True).written:
        raise RuntimeError(f"{layer} was not converted")
    kernel, bias = (tf.constant(weight.numpy()) for weight in conv.weights)
    matrix = tf.reshape(kernel, [-1, layer.filters])

    def by_hand(patches: Callable[[Layer, Any], Any], x: Any, training: bool) -> Any:
        del training
        rows = tf.reshape(patches(layer, x), [-1, matrix.shape[0]])
        shape = [-1, layer.outputs, layer.outputs, layer.filters]
        return tf.reshape(tf.linalg.matmul(rows, matrix) + bias, shape)

    runs = {"native": graph(load(path)), "convfc": graph(load(out))}
    runs |= {name: graph(partial(by_hand, make)) for name, make in _BY_HAND.items()}
    shape = [1, layer.size, layer.size, layer.channels]
    x = tf.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    expected = runs["native"](x)
    for name, run in runs.items():
        np.testing.assert_allclose(run(x), expected, rtol=1e-3, atol=1e-3, err_msg=name)
    calls = [partial(run, x) for run in runs.values()]
    times = dict(zip(runs, in_turns(calls, seconds), strict=True))
    native = times.pop("native")
    return {
        "layer": str(layer),
        "native ms": native,
        **{name: found / native for name, found in times.items()},
    }
