"""What a Dense layer takes over from a convolution layer: initializers, regularizers, constraints.

Mostly its kernel is the convolution's own bytes in another shape, and they mean the same there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras import constraints, initializers, regularizers

from convfc.formats.keras.convolutions import WeightedConvolution

Layer = Any
"""A `keras.Layer`; keras has no types."""

_REGULARIZERS = (regularizers.L1, regularizers.L2, regularizers.L1L2)
_INITIALIZERS = (
    initializers.VarianceScaling,
    initializers.RandomNormal,
    initializers.RandomUniform,
    initializers.TruncatedNormal,
    initializers.Orthogonal,
    initializers.Zeros,
    initializers.Ones,
)
_NORMS = (constraints.MaxNorm, constraints.MinMaxNorm, constraints.UnitNorm)


def taken_over(
    layer: Layer, weighted: WeightedConvolution, kernel_shape: _Shape, bias_shape: _Shape
) -> tuple[dict[str, Any], list[str]]:
    """Arguments for a Dense or EinsumDense layer that stands for a convolution of `layer`.

    Args:
        layer: a built convolution layer.
        weighted: one of its convolutions.
        kernel_shape: shape of its kernel as the new layer holds it.
        bias_shape: the same for its bias.

    Returns:
        The arguments, and a remark for each thing that means something else on a matrix.
    """
    kept: dict[str, Any] = {}
    remarks = []
    once = max(weighted.geometry.phases) == 1
    roles = [("kernel", weighted.prefix, weighted.kernel, kernel_shape, weighted.keeps_bytes)]
    if weighted.bias is not None:
        roles.append(("bias", "bias", weighted.bias, bias_shape, once))
    for role, word, weight, shape, same in roles:
        for what, translate in _TRANSLATIONS.items():
            value = getattr(layer, f"{word}_{what}")
            if value is None:
                continue
            old = tuple(weight.shape) if same else None
            # Zeros that a matrix has beside the kernel's numbers add nothing; a repeated bias does.
            repeated = what == "regularizer" and role == "bias" and not once
            new = None if repeated else translate(value, old, shape)
            if new is None:
                remarks.append(
                    f"{layer.name}: its {word} {what} {type(value).__name__} means something "
                    "else on the filter matrix and was left out."
                )
            else:
                kept[f"{role}_{what}"] = new
    return kept, remarks


def left_out(layer: Layer, weighted: WeightedConvolution) -> list[str]:
    """A remark for each regularizer and constraint of a convolution in the dense form.

    Its matrix has each weight many times, and zeros: no norm or penalty means the same on it.
    """
    words = [weighted.prefix] + (["bias"] if weighted.bias is not None else [])
    found = [
        (word, what, getattr(layer, f"{word}_{what}"))
        for word in words
        for what in ("regularizer", "constraint")
    ]
    return [
        f"{layer.name}: its {word} {what} {type(value).__name__} means something else on one "
        "matrix for all positions and was left out."
        for word, what, value in found
        if value is not None
    ]


def reshaped_axes(axes: Iterable[int], old: Sequence[int], new: Sequence[int]) -> list[int] | None:
    """The axes of a reshaped array that run over the same numbers as some axes did before.

    Of (3, 3, 2, 4) as (18, 4), the axes 0, 1 and 2 are axis 0, and axis 3 is axis 1; axis 2 alone
    is none, for the 18 numbers of axis 0 are more than its 2.

    Args:
        axes: axes of the old shape.
        old: a shape.
        new: another shape of the same bytes, which merges or splits axes of the old one.

    Returns:
        Axes of the new shape, or `None` if one of them runs over more.
    """
    chosen = {axis % len(old) for axis in axes}
    found = []
    for axis, (low, high) in enumerate(_spans(new)):
        covered = {
            index in chosen
            for index, (start, stop) in enumerate(_spans(old))
            if max(low, start) < min(high, stop)
        }
        if len(covered) > 1:
            return None
        if covered == {True}:
            found.append(axis)
    return found or None


def _spans(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Per axis: the step between its neighbours in memory, and the step of the axis before."""
    spans = []
    step = 1
    for size in reversed(shape):
        spans.append((step, step * size))
        step *= size
    return spans[::-1]


def _initializer(value: Any, old: _Shape | None, new: _Shape) -> Any:  # noqa: ARG001 - one signature for all three
    return value if isinstance(value, _INITIALIZERS) else None


def _regularizer(value: Any, old: _Shape | None, new: _Shape) -> Any:  # noqa: ARG001 - one signature for all three
    return value if type(value) in _REGULARIZERS else None


def _constraint(value: Any, old: _Shape | None, new: _Shape) -> Any:
    if type(value) is constraints.NonNeg:
        return value
    if type(value) not in _NORMS or old is None:
        return None
    config = value.get_config()
    axis = config["axis"]
    axes = reshaped_axes([axis] if isinstance(axis, int) else axis, old, new)
    if axes is None:
        return None
    return type(value)(**{**config, "axis": axes[0] if len(axes) == 1 else axes})


_Shape = tuple[int, ...]
"""Of a weight, in the layer and in its stand-in; no old one where its numbers change places."""

_TRANSLATIONS = {
    "initializer": _initializer,
    "regularizer": _regularizer,
    "constraint": _constraint,
}
