"""What layers of Keras do, as far as that is affine, or looks at one number at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
from keras import activations, layers

from convfc.core.geometry import Convolution, Window
from convfc.formats.keras.affine import Affine, Layer, Product, Shape, moved
from convfc.formats.keras.convolutions import CONVOLUTIONS, WeightedConvolution, convolutions_of
from convfc.formats.keras.linear import ELEMENTWISE
from convfc.formats.keras.normalization import normalized, rescaled
from convfc.formats.keras.pooling import (
    average,
    global_average,
    joined,
    known,
    parted,
)
from convfc.formats.keras.stock import AVERAGE, CROPPING, GLOBAL_AVERAGE, PADDING

Call = Any
"""A node of Keras: one call of an operation."""

_MOVING = (
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector),
    *(*PADDING, *CROPPING),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
)
NOTHING = (
    *(layers.Dropout, layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.ActivityRegularization, layers.Identity),
)
"""What hands on what it reads, at inference."""
_BY_NUMBER = (layers.ReLU, layers.LeakyReLU, layers.ELU)
"""What looks at one number at a time."""
WIDE = ("float32", "float64")


def steps_of(layer: Layer, before: Shape, after: Shape) -> list[Affine] | None:
    """What a layer does; ``None`` where that is not affine, or not known to be.

    Args:
        layer: built.
        before: sizes of a sample of its input.
        after: the same of its output.
    """
    rule = _RULES.get(type(layer))
    return None if rule is None else rule(layer, before, after)


def _convolves(layer: Layer, before: Shape, after: Shape) -> list[Affine]:
    """A convolution: one product, or a separable one's two."""
    first, *rest = convolutions_of(layer)
    if not rest:
        return [_product(layer, first, before, after)]
    (point,) = rest
    sizes, _ = parted(layer, before)
    middle = joined(layer, first.geometry.output(sizes), first.geometry.filters)
    return [
        known(layer, first.geometry, first.kernel, (before, middle), layer.padding),
        known(layer, point.geometry, point.kernel, (middle, after), bias=point.bias),
    ]


def _product(layer: Layer, one: WeightedConvolution, before: Shape, after: Shape) -> Product:
    config = {**layer.get_config(), "activation": "linear", "data_format": "channels_last"}
    stock = partial(_of_type, type(layer), config)
    first = layer.data_format == "channels_first"
    return Product(layer.name, one.geometry, before, after, first, one.kernel, one.bias, stock)


def _of_type(kind: type[Any], config: Mapping[str, Any], dtype: Any) -> Layer:
    return kind.from_config({**config, "dtype": dtype})


def _weighed(layer: Layer, before: Shape, after: Shape) -> list[Affine] | None:
    """A Dense: a convolution of a single tap."""
    if getattr(layer, "lora_rank", None) or getattr(layer, "quantization_mode", None):
        return None
    windows = [Window(1)] * max(len(before) - 1, 1)
    conv = Convolution(tuple(windows), before[-1], layer.units)
    config = {**layer.get_config(), "activation": "linear"}
    stock = partial(_of_type, layers.Dense, config)
    bias = layer.bias if layer.use_bias else None
    return [Product(layer.name, conv, before, after, False, layer.kernel, bias, stock)]


def _moves(layer: Layer, before: Shape, _: Shape) -> list[Affine] | None:
    nearest = getattr(layer, "interpolation", "nearest") == "nearest"
    return [moved(layer, before)] if nearest else None


_RULES: Mapping[type, Callable[[Layer, Shape, Shape], list[Affine] | None]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolves),
    **dict.fromkeys(_MOVING, _moves),
    **dict.fromkeys(AVERAGE, average),
    **dict.fromkeys(GLOBAL_AVERAGE, global_average),
    layers.BatchNormalization: normalized,
    layers.Rescaling: rescaled,
    layers.Dense: _weighed,
}
"""By the class of a layer."""


def is_simple(call: Call) -> bool:
    """Whether a layer is called on one tensor of known sizes, as at inference, and makes one."""
    tensors = (*call.input_tensors, *call.outputs)
    given = (*call.arguments.args[1:], *call.arguments.kwargs.values())
    plain = all(one is None or one is False for one in given)
    single = isinstance(call.operation, keras.Layer) and len(tensors) == 2 and plain
    return single and all(len(x.shape) > 1 and None not in x.shape[1:] for x in tensors)


def is_wide(layer: Layer) -> bool:
    """Whether it computes in the type of its numbers, and that is no half precision."""
    return layer.compute_dtype in WIDE and layer.compute_dtype == layer.variable_dtype


def is_regular(layer: Layer) -> bool:
    """Whether there is a penalty on what it makes."""
    return getattr(layer, "activity_regularizer", None) is not None


def is_elementwise(layer: Layer, before: Shape) -> bool:
    """Whether it does with a row, number by number, what it does with an image of some sizes."""
    own = function_of(layer)
    return by_number(layer) or (own is not None and fits(own, before))


def by_number(layer: Layer) -> bool:
    """Whether a layer of the model does with a row what it does with an image, at inference."""
    dropout = type(layer) is layers.Dropout and layer.noise_shape is None
    known = (activations.linear, *ELEMENTWISE)
    of_one = type(layer) is layers.Activation and layer.activation in known
    return of_one or dropout or type(layer) in _BY_NUMBER


def function_of(layer: Layer) -> Any:
    """The function of Keras that a layer applies; ``None``: it is none, or not known."""
    if type(layer) is layers.Activation:
        return layer.activation
    if type(layer) is layers.ReLU:
        plain = layer.max_value is None and layer.negative_slope == layer.threshold == 0
        return activations.relu if plain else None
    softmax = type(layer) is layers.Softmax and layer.axis == -1
    return activations.softmax if softmax else None


def fits(activation: Any, sizes: Shape) -> bool:
    """Whether a row may carry an activation: one of single numbers, or where it is the image."""
    stock = any(activation is function for function in vars(activations).values())
    return activation in (activations.linear, *ELEMENTWISE) or (stock and len(sizes) == 1)
