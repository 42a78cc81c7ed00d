"""One convolution layer of Keras twice, alone: the original's and the model in its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convfc.differences import array_difference
from convfc.errors import UnsupportedModelError
from convfc.keras_model.parts import parts
from convfc.keras_model.quiet import overheard
from convfc.keras_model.reading import brief
from convfc.keras_model.widening import wide_copy
from convfc.model import Site

Array = NDArray[Any]
Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""


class KerasTwin:
    """See `convfc.model.Twin` for the members.

    Args:
        site: the convolution.
        layer: the original's layer.
        made: the model in its place.
        expected: the model that convfc would put there.
    """

    def __init__(self, site: Site, layer: Layer, made: Layer, expected: Layer) -> None:
        self.site = site
        self._layer = layer
        self._made = made
        self._expected = expected

    @property
    def stages(self) -> tuple[int, ...]:
        """See `Twin.stages`."""
        return tuple(part.convolution.patch_length for part in parts(self._layer))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """See `Twin.input_shape`."""
        return (None, *self._arranged(self.site.sizes))

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """See `Twin.smallest_shape`."""
        windows = parts(self._layer)[0].convolution.windows
        sizes = tuple(window.ample for window in windows)
        return (1, *(size for size in self._arranged(sizes) if size is not None))

    def _arranged(self, sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = parts(self._layer)[0].convolution.channels
        return (*sizes, channels) if self.channels_last else (channels, *sizes)

    @property
    def channels_last(self) -> bool:
        """See `Twin.channels_last`."""
        return bool(self._layer.data_format == "channels_last")

    quantization = None

    @cached_property
    def parameters(self) -> Mapping[str, Array | None]:
        """See `Twin.parameters`."""
        return {weight.name: np.asarray(weight) for weight in self._layer.weights}

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """See `Twin.parameter_shape`."""
        return next(tuple(weight.shape) for weight in self._layer.weights if weight.name == name)

    def parameter_dtype(self, name: str) -> str:
        """See `Twin.parameter_dtype`."""
        return next(str(weight.dtype) for weight in self._layer.weights if weight.name == name)

    @property
    def rounds_to_integers(self) -> bool:
        """See `Twin.rounds_to_integers`."""
        return False

    @cached_property
    def problem(self) -> str | None:
        """See `Twin.problem`."""
        extra = _operations(self._made) - _operations(self._expected)
        if extra:
            return f"it holds {', '.join(sorted(extra))}, which convfc does not put there"
        types = _types(self._made) - _types(self._expected)
        if types:
            return f"it computes in {', '.join(sorted(types))}"
        if _activations(self._made) != _activations(self._expected):
            return "its activation changed"
        weights = [np.asarray(weight) for weight in self._made.weights]
        expected = [np.asarray(weight) for weight in self._expected.weights]
        if len(weights) != len(expected):
            return f"it has {len(weights)} weights instead of {len(expected)}"
        for weight, value in zip(weights, expected, strict=True):
            difference = array_difference(value, weight)
            if difference is not None:
                return f"its weights are not the convolution's: one {difference}"
        return None

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `Twin.run`; activations are left out on both sides."""
        y = self.original(x, parameters)
        if parameters:
            self._carry_over()
        else:
            self._put_back()
        return y, self._call(self._linear_made, x)

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        """See `Twin.original`."""
        self._assign(parameters)
        return self._call(self._linear_layer, x)

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `Twin.exact`: Keras again; its float64 has no short cut that would show."""
        self._assign(parameters)
        self._carry_over()
        wide = x.astype(np.float64)
        a, b = (
            self._call(wide_copy(layer), wide) for layer in (self._linear_layer, self._linear_made)
        )
        return a, b

    def _assign(self, parameters: Mapping[str, Array]) -> None:
        for weight, old in zip(self._linear_layer.weights, self._layer.weights, strict=True):
            weight.assign(parameters.get(old.name, old))

    def _carry_over(self) -> None:
        """Give the converted layer the numbers that the original's has now."""
        values = [value for part in parts(self._linear_layer) for value in part.weights]
        for weight, value in zip(self._linear_made.weights, values, strict=True):
            weight.assign(keras.ops.reshape(value, weight.shape))

    def _put_back(self) -> None:
        """Give the copy of the converted layer the numbers that are in the file."""
        for weight, value in zip(self._linear_made.weights, self._made.weights, strict=True):
            weight.assign(value)

    @cached_property
    def _linear_layer(self) -> Layer:
        config = {**self._layer.get_config(), "activation": "linear"}
        copy = type(self._layer).from_config(config)
        copy.build(self.input_shape)
        return copy

    @cached_property
    def _linear_made(self) -> Layer:
        config = self._made.get_config()
        for layer in config["layers"]:
            if "activation" in layer["config"]:
                layer["config"]["activation"] = "linear"
        return type(self._made).from_config(config)

    def _call(self, layer: Layer, x: Array) -> Array:
        try:
            with overheard():
                return np.asarray(keras.ops.convert_to_numpy(layer(x, training=False)))
        except Exception as error:
            raise UnsupportedModelError(f"Keras cannot run it: {brief(error)}") from error


def _operations(model: Layer) -> set[str]:
    return {type(operation).__name__ for operation in model.operations}


def _types(model: Layer) -> set[str]:
    """The types that the layers of a model compute in, those of a model in it included."""
    return {
        operation.compute_dtype
        for operation in model.operations
        if getattr(operation, "compute_dtype", None) is not None
    }


def _activations(model: Layer) -> list[Any]:
    """The activations in a model, in the order of its layers, but for those that do nothing."""
    found = [getattr(operation, "activation", None) for operation in model.operations]
    real = [item for item in found if item not in (None, keras.activations.linear)]
    return [keras.saving.serialize_keras_object(item) for item in real]
