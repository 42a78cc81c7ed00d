"""Small Keras models to convert and to spoil: every kind of layer and of wiring, once each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convfc.formats.keras.quiet import importing

with importing():
    import keras
    from keras import layers as kl


def plain() -> Any:
    """One layer after another, of several kinds."""
    return keras.Sequential(
        [
            keras.Input((7, 8, 2), name="image"),
            kl.Rescaling(0.5, name="half"),
            kl.Conv2D(4, (2, 3), strides=(1, 2), padding="same", activation="relu", name="one"),
            kl.BatchNormalization(name="norm"),
            kl.DepthwiseConv2D((3, 2), bias_initializer="normal", name="depth"),
            kl.Conv2D(2, 1, activation="tanh", use_bias=False, name="point"),
            kl.Flatten(name="flat"),
            kl.Dense(3, name="scores"),
        ]
    )


def separable() -> Any:
    """Two convolutions in one layer, with an activation at the end, on unknown sizes."""
    return keras.Sequential(
        [
            keras.Input((None, None, 3), name="image"),
            kl.SeparableConv2D(4, (3, 2), padding="same", activation="relu", name="sep"),
            kl.LeakyReLU(0.2, name="leaky"),
            kl.Conv2D(2, 3, dilation_rate=(2, 1), name="dilated"),
        ]
    )


def grouped() -> Any:
    """Groups, with an activation that is a layer."""
    return keras.Sequential(
        [
            keras.Input((6, 5, 4), name="image"),
            kl.Conv2D(4, (3, 2), groups=2, activation=kl.ReLU(negative_slope=0.1), name="conv"),
            kl.MaxPooling2D(2, name="pool"),
        ]
    )


def shared() -> Any:
    """One layer called on two inputs, whose results are subtracted."""
    a, b = keras.Input((6, 5, 2), name="a"), keras.Input((6, 5, 2), name="b")
    conv = kl.Conv2D(3, (3, 2), name="shared")
    return keras.Model([a, b], kl.Subtract(name="sub")([conv(a), conv(b)]))


def fork() -> Any:
    """Two layers of the same shapes side by side, and outputs with names."""
    image = keras.Input((6, 5, 2), name="image")
    left, right = (kl.Conv2D(2, 3, name=name)(image) for name in ("left", "right"))
    turned = kl.Permute((2, 1, 3), name="turned")(right)
    return keras.Model(image, {"gap": kl.Subtract(name="gap")([left, right]), "turned": turned})


def nested() -> Any:
    """A model in a model, called twice."""
    image = keras.Input((7, 6, 2), name="image")
    inside = keras.Input((7, 6, 2), name="inside")
    block = keras.Model(
        inside,
        kl.Conv2D(2, 3, padding="same", activation="relu", name="conv")(inside),
        name="block",
    )
    return keras.Model(image, kl.Add(name="sum")([block(block(image)), image]))


def timed() -> Any:
    """A layer over time."""
    return keras.Sequential(
        [
            keras.Input((3, 6, 5, 2), name="film"),
            kl.TimeDistributed(kl.Conv2D(3, (3, 2), strides=2, name="conv"), name="timed"),
        ]
    )


def transposed() -> Any:
    """A transposed layer and one after it."""
    return keras.Sequential(
        [
            keras.Input((4, 3, 2), name="image"),
            kl.Conv2DTranspose(3, (3, 4), strides=(2, 3), activation="relu", name="up"),
            kl.Conv2DTranspose(2, 3, padding="same", name="again"),
        ]
    )


def first() -> Any:
    """Channels first."""
    return keras.Sequential(
        [
            keras.Input((3, 6, 5), name="image"),
            kl.Conv2D(4, (3, 2), data_format="channels_first", use_bias=False, name="conv"),
            kl.Activation("tanh", name="act"),
        ]
    )


def lines() -> Any:
    """One axis, causal, after an embedding."""
    return keras.Sequential(
        [
            keras.Input((9,), dtype="int64", name="words"),
            _lookup(),
            kl.Embedding(12, 3, name="embed"),
            kl.Conv1D(3, 3, padding="causal", dilation_rate=2, name="conv"),
            kl.GlobalMaxPooling1D(name="most"),
        ]
    )


def _lookup() -> Any:
    look = kl.IntegerLookup(name="look")
    look.adapt(np.array([5, 7, 7, 9, 9, 9, 3]))
    return look


def volume() -> Any:
    """Three axes."""
    return keras.Sequential(
        [
            keras.Input((4, 5, 3, 2), name="volume"),
            kl.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), activation="relu", name="conv"),
        ]
    )


def embedding() -> Any:
    """Windows that tile the image."""
    return keras.Sequential(
        [
            keras.Input((6, 8, 3), name="image"),
            kl.Conv2D(4, (2, 4), strides=(2, 4), name="patches"),
            kl.Reshape((6, 4), name="tokens"),
            kl.LayerNormalization(name="norm"),
        ]
    )


SEEDS: Mapping[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        *(plain, separable, grouped, shared, fork, nested, timed, transposed, first, lines),
        *(volume, embedding),
    )
}
"""By name."""

ONLY_ZIP = {"lines"}
"""Those whose words an HDF5 file does not hold."""


def seed(name: str) -> Any:
    """One of the models, the same in every process."""
    model = SEEDS[name]()
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for weight in model.weights:
        if "float" in weight.dtype:
            values = random.normal(size=weight.shape)
            weight.assign(abs(values) + 0.1 if "variance" in weight.name else values)
    return model
