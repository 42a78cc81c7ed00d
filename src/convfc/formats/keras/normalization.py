"""What scales and shifts each channel, with numbers that are known at inference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convfc.core.arrays import Array
from convfc.formats.keras.affine import Affine, Layer, Scale, Shape


def normalized(layer: Layer, before: Shape, _: Shape) -> list[Affine] | None:
    """BatchNormalization, of the mean and the variance that it has learned."""
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    shape = [1] * (len(before) + 1)
    shape[axis] = before[axis - 1] if axis > 0 else before[axis]
    if shape[0] != 1:
        return None
    wide = {
        name: np.asarray(getattr(layer, name), np.float64)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
        if getattr(layer, name, None) is not None
    }
    with np.errstate(all="ignore"):
        scale = wide.get("gamma", 1.0) / np.sqrt(wide["moving_variance"] + layer.epsilon)
        shift = wide.get("beta", 0.0) - wide["moving_mean"] * scale
    return _finite(
        layer, before, {"scale": scale.reshape(shape[1:]), "shift": shift.reshape(shape[1:])}
    )


def rescaled(layer: Layer, before: Shape, _: Shape) -> list[Affine] | None:
    """Rescaling: a factor and an offset, of all numbers or of each channel."""
    given = {"scale": layer.scale, "shift": layer.offset}
    wide = {name: np.asarray(value, np.float64) for name, value in given.items()}
    if any(one.ndim > 1 or one.size not in (1, before[-1]) for one in wide.values()):
        return None
    ones = [1] * (len(before) - 1)
    return _finite(
        layer, before, {name: one.reshape([*ones, one.size]) for name, one in wide.items()}
    )


def _finite(layer: Layer, before: Shape, numbers: Mapping[str, Array]) -> list[Affine] | None:
    if not all(np.isfinite(one).all() for one in numbers.values()):
        return None
    return [Scale(layer.name, before, numbers)]
