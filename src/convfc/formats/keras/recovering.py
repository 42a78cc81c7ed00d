"""The numbers of a layer that was converted, from where its products have them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from convfc.core.arrangement import LayOut, put_back, torn
from convfc.core.arrays import Array
from convfc.core.whole import Form
from convfc.formats.keras.convolutions import TRANSPOSED, lowered
from convfc.formats.keras.likeness import weights_of
from convfc.formats.keras.matching import Match, Part
from convfc.formats.keras.outline import Outline, convolution_in
from convfc.formats.outline import digest_of

Numbers = Sequence[tuple[Any, Any, Array]]
"""Weights of the file, what they were in the layer, and the numbers that this is to have."""


def numbers_of(match: Match) -> Numbers | str:
    """What the weights of a layer are now.

    Returns:
        In words, which of them is not laid out as one of a convolution any more, if any is.
    """
    found: list[tuple[Any, Any, Array]] = []
    for part in match.parts:
        numbers = _numbers(part)
        if isinstance(numbers, str):
            return numbers
        found += numbers
    return found


def _numbers(part: Part) -> Numbers | str:
    """The same of one convolution."""
    first = part.layer.data_format == "channels_first"
    left = iter(part.weights)
    found: list[tuple[Any, Any, Array]] = []
    for each, its in lowered(part.layer, part.lowering):
        how: dict[str, Any] = {"lowering": its, "channels_first": first}
        same = each.keeps_bytes and its.form is not Form.DENSE
        roles = {each.prefix: (each.kernel, None if same else partial(each.inner_kernel, **how))}
        if each.bias is not None:
            roles["bias"] = each.bias, partial(each.inner_bias, **how)
        for role, (weight, lay_out) in roles.items():
            stored = next(left)
            numbers = _back(np.asarray(stored), tuple(weight.shape), lay_out)
            if numbers is None and lay_out is not None and isinstance(part.layer, TRANSPOSED):
                return torn(role, np.asarray(stored), tuple(weight.shape), lay_out)
            if numbers is None:
                return f"its {role} is not laid out as that of a convolution any more"
            found.append((stored, weight, numbers))
    return found


def _back(arranged: Array, shape: Sequence[int], lay_out: LayOut | None) -> Array | None:
    """Numbers of some shape, from where they are laid out, whatever shape that has."""
    if lay_out is None:
        return arranged.reshape(shape)
    return put_back(arranged.reshape(-1), shape, lambda numbers: lay_out(numbers).reshape(-1))


def has_changed(outline: Outline, match: Match, numbers: Numbers) -> bool:
    """Whether any weight of a layer is another than it was."""
    now = {id(weight): digest_of(array) for _, weight, array in numbers}
    own = weights_of(convolution_in(match.layer))
    return [now[id(weight)] for weight in own] != [*outline.digests]


def recovered(outline: Outline, match: Match) -> dict[int, Any]:
    """Give a layer its numbers.

    Args:
        outline: of the layer.
        match: it; its numbers can be had.

    Returns:
        Its weights, by the `id` of those in the file that are the same bytes.
    """
    numbers = numbers_of(match)
    assert not isinstance(numbers, str)  # noqa: S101 - then it has no way back
    for _, weight, array in numbers:
        weight.assign(keras.ops.convert_to_tensor(array))
    inner = {id(weight) for part in match.parts for weight in part.layer.weights}
    rest = [weight for weight in match.layer.weights if id(weight) not in inner]
    for weight, state in zip(rest, outline.state, strict=False):
        if np.shape(state) == tuple(weight.shape):
            weight.assign(state)
    (part, *_) = match.parts
    if part.lowering.form is Form.DENSE or isinstance(part.layer, TRANSPOSED):
        return {}
    return {id(stored): weight for stored, weight, _ in numbers}
