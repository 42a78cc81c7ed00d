"""Layers for which TensorFlow has no kernel on some processors, computed with what it has on all.

Without oneDNN, which it leaves off on processors without AVX-512 and on all that are not x86, it
convolves and pools no channels first, and no transposed convolution is dilated. With it, none of
them is to be had in float64 all the same, nor a dilated transposed one over three axes.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import keras

from convfc.core.arrays import to_first, to_last
from convfc.formats.keras.convolutions import CONVOLUTIONS, TRANSPOSED
from convfc.formats.keras.internals import flat_layers
from convfc.formats.keras.stock import POOLING

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Tensor = Any

_LAST: dict[str, Any] = {"data_format": "channels_last", "use_bias": False, "activation": None}
"""Attributes of a layer that only convolves or pools, and that channels last."""


def compute_anywhere(model: Layer) -> bool:
    """Have a model computed as any processor can.

    Its channels are moved behind before a layer convolves or pools, and back before bias and
    activation; a kernel is dilated by zeros in it. That is the same function by definition.

    Args:
        model: a model or a layer, changed in place, as long as it lives: neither its weights nor
            its configuration, only the way that some of its layers, at any depth, go.

    Returns:
        Whether there are any such layers that went another way before.
    """
    found = [layer for layer in flat_layers(model) if _is_rare(layer)]
    for layer in found:
        # Not as an attribute is set usually: Keras would look after it.
        layer.__dict__["call"] = partial(_call, layer)
    return bool(found)


def _is_rare(layer: Layer) -> bool:
    if "call" in vars(layer) or type(layer) not in (*CONVOLUTIONS, *POOLING):
        return False
    return layer.data_format == "channels_first" or _dilates_outputs(layer)


def _dilates_outputs(layer: Layer) -> bool:
    return isinstance(layer, TRANSPOSED) and max(layer.dilation_rate) > 1


def _call(layer: Layer, inputs: Tensor) -> Tensor:
    """What the layer's own class computes, with other attributes meanwhile."""
    given: dict[str, Any] = {}
    if _dilates_outputs(layer):
        rates = layer.dilation_rate
        given = {"kernel": _dilated(layer.kernel, rates), "dilation_rate": (1,) * len(rates)}
    first = layer.data_format == "channels_first"
    if first:
        given |= {name: value for name, value in _LAST.items() if name in vars(layer)}
    own = {name: vars(layer)[name] for name in given}
    rank = len(inputs.shape)
    x = keras.ops.transpose(inputs, to_last(rank)) if first else inputs
    layer.__dict__.update(given)
    try:
        y = type(layer).call(layer, x)
    finally:
        layer.__dict__.update(own)
    if not first:
        return y
    y = keras.ops.transpose(y, to_first(rank))
    if own.get("use_bias"):
        y = keras.ops.add(y, keras.ops.reshape(layer.bias, (1, -1, *[1] * (rank - 2))))
    return y if own.get("activation") is None else own["activation"](y)


def _dilated(kernel: Tensor, rates: tuple[int, ...]) -> Tensor:
    """A kernel (k1, .., kr, .., ..) with `rates` - 1 zeros between its taps."""
    sizes = kernel.shape
    taps = itertools.chain(*((size, 1) for size in sizes[: len(rates)]))
    gaps = itertools.chain(*(((0, 0), (0, rate - 1)) for rate in rates))
    spread = keras.ops.reshape(kernel, (*taps, *sizes[len(rates) :]))
    spread = keras.ops.pad(spread, (*gaps, (0, 0), (0, 0)))
    extents = [size * rate for size, rate in zip(sizes, rates, strict=False)]
    spread = keras.ops.reshape(spread, (*extents, *sizes[len(rates) :]))
    return spread[tuple(slice(n - r + 1) for n, r in zip(extents, rates, strict=True))]
