"""The networks of the experiment, in Keras: all start from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from tensorflow.python.framework import config  # what is public can only be switched on

from convfc.conversion import convert
from convfc.core.arrays import Array
from convfc.core.im2col import patch_tensor
from convfc.core.lowering import Lowering, lower
from convfc.core.numpy_ops import NumpyOps
from convfc.reproduction.settings import KERNEL, STRIDE, Settings
from convfc.system.atomic import temporary_folder
from convfc.system.surroundings import Library

_TENSORFLOW = Library("tensorflow")
"""It warns of every new network as of a retracing."""

FIRST = "conv"
"""The name of the first layer, in every network."""


def network(name: str, settings: Settings, shape: tuple[int, ...]) -> Any:
    """Build one of `settings.NETWORKS`, with the weights that all of them start from.

    Args:
        name: a key of `NETWORKS`.
        settings: filters and seed are used.
        shape: height, width and channels of an image.
    """
    cnn = _cnn(settings, shape)
    if name == "patches":
        kernel, dense = cnn.get_weights()
        on_patches = _on_patches(settings, shape)
        on_patches.set_weights([kernel.reshape(-1, settings.filters), dense])
        return on_patches
    if name == "converted":
        with temporary_folder() as folder:
            path = folder / "cnn.keras"
            cnn.save(path)
            return keras.saving.load_model(convert(path).out, compile=False)
    return cnn


def prepared(name: str, settings: Settings, images: Array) -> Array:
    """What a network is fed: the images, or for "patches" (images, positions, 16 * channels).

    The patches are cut by the numpy im2col that is the meaning of every conversion.
    """
    if name != "patches":
        return images
    lowering = _lowering(settings, images.shape[1:])
    patches = patch_tensor(NumpyOps(np.empty(0)), images, lowering)
    return np.ascontiguousarray(patches.reshape(len(images), -1, patches.shape[-1]))


def first_kernel(model: Any) -> Array:
    """The filter matrix of the first layer: (16 * channels, filters)."""
    (kernel,) = model.get_layer(FIRST).get_weights()
    return np.asarray(kernel).reshape(-1, kernel.shape[-1])


def first_output(name: str, settings: Settings, kernel: Array, images: Array) -> Array:
    """What a network's first layer, with a filter matrix, makes of images.

    Args:
        name: a key of `NETWORKS`.
        settings: filters and seed are used.
        kernel: (16 * channels, filters).
        images: (images, height, width, channels).

    Returns:
        (images, positions, filters).
    """
    model = network(name, settings, images.shape[1:])
    first = model.get_layer(FIRST)
    (variable,) = first.weights
    variable.assign(kernel.reshape(variable.shape))
    output = np.asarray(first(prepared(name, settings, images)))
    return output.reshape(len(output), -1, output.shape[-1])


@contextmanager
def deterministic() -> Iterator[None]:
    """While the block runs, the same steps give the same bits, in the whole process."""
    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        with _TENSORFLOW.overheard():
            yield
    finally:
        if not before:
            config.disable_op_determinism()


def _lowering(settings: Settings, shape: tuple[int, ...]) -> Lowering:
    *sizes, channels = shape
    found = lower(settings.convolution(channels), tuple(sizes))
    assert isinstance(found, Lowering), found  # noqa: S101 - the sizes are known
    return found


def _cnn(settings: Settings, shape: tuple[int, ...]) -> Any:
    conv = keras.layers.Conv2D(
        settings.filters,
        KERNEL,
        strides=STRIDE,
        use_bias=False,
        kernel_initializer=keras.initializers.HeUniform(settings.seed),
        name=FIRST,
    )
    return keras.Sequential([keras.Input(shape, name="image"), conv, *_rest(settings, shape)])


def _on_patches(settings: Settings, shape: tuple[int, ...]) -> Any:
    rows, columns = _lowering(settings, shape).patch_matrix
    dense = keras.layers.Dense(settings.filters, use_bias=False, name=FIRST)
    inputs = keras.Input((rows, columns), name="patches")
    return keras.Sequential([inputs, dense, *_rest(settings, shape)])


def _rest(settings: Settings, shape: tuple[int, ...]) -> list[Any]:
    """What follows the first layer."""
    layers = keras.layers
    return [
        layers.ReLU(name="relu_conv"),
        layers.Flatten(name="flatten"),
        layers.Dense(
            int(np.prod(shape)),
            use_bias=False,
            kernel_initializer=keras.initializers.HeUniform(settings.seed + 1),
            name="dense",
        ),
        layers.ReLU(name="relu_dense"),
        layers.Reshape(shape, name="reconstruction"),
    ]
