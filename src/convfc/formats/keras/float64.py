"""A Keras layer or model with all its real numbers in float64: it hardly rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import brief
from convfc.refusals import Code

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""

_NARROW = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def wide_copy(layer: Layer) -> Layer:
    """A copy with the policy float64 and the same weights.

    Args:
        layer: built; a stock layer or a Sequential or Functional model.

    Raises:
        UnsupportedModelError: it cannot be had, or would round to float32 on the way.
    """
    for inner in _all_layers(layer):
        if _always_narrow(inner):
            raise UnsupportedModelError(
                f"layer '{inner.name}' ({type(inner).__name__}) computes in float32 only",
                code=Code.NOT_RUN,
            )
    try:
        with overheard():
            copy = type(layer).from_config(_widened(layer.get_config()))
            if not copy.built:
                copy.build_from_config(_widened(layer.get_build_config()))
            for weight, value in zip(copy.weights, layer.weights, strict=True):
                weight.assign(np.asarray(value, weight.dtype))
    except Exception as error:
        raise UnsupportedModelError(
            f"it cannot be had in float64: {brief(error)}", code=Code.NOT_RUN
        ) from error
    return copy


def _all_layers(layer: Layer) -> Iterator[Layer]:
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _all_layers(inner)


def _always_narrow(layer: Layer) -> bool:
    """Whether it is one of those that tensorflow interpolates in float32, whatever their policy."""
    smooth = isinstance(layer, layers.UpSampling2D) and layer.interpolation != "nearest"
    return smooth or isinstance(layer, layers.Resizing)


def _widened(config: Any) -> Any:
    """A configuration with float64 wherever it says a type or policy of real numbers."""
    if isinstance(config, dict):
        return {
            key: "float64" if _is_narrow(key, value) else _widened(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_widened(item) for item in config)
    return config


def _is_narrow(key: str, value: Any) -> bool:
    if key != "dtype":
        return False
    if isinstance(value, dict):  # a policy as an object
        value = value.get("config", {}).get("name")
    if isinstance(value, keras.DTypePolicy):
        value = value.name
    return value in _NARROW
