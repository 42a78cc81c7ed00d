"""What is said of the numbers of an explanation, in every kind of output alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convfc.explanation.agreement import scaled
from convfc.explanation.numbers import Explanation


def heading(explained: Explanation) -> str:
    """The output's sizes, with the formula filled in (equations 5 and 6 of Ma & Lu, 2017)."""
    conv = explained.convolution
    axes = zip(explained.image.shape, conv.windows, explained.pads, explained.outputs, strict=False)
    height, width = (
        f"⌊({size} + {sum(pads)} - {window.extent}) / {window.stride}⌋ + 1 = {output}"
        for size, window, pads, output in axes
    )
    if height == width:
        return f"output height and width: {height}"
    return f"output height: {height},  width: {width}"


def product_name(explained: Explanation) -> str:
    """What the output is."""
    return "P · F" if explained.bias is None else "P · F + b"


def number(value: Any, digits: int) -> str:  # noqa: ANN401 - a number of any type
    """An integer as it is, any other rounded to so many digits."""
    if isinstance(value, np.integer):
        return f"{value:,}"
    return f"{value + 0.0:.{digits}g}"  # no -0


def factor(value: Any, digits: int) -> str:  # noqa: ANN401 - a number of any type
    """A number as it stands in a product or sum: in parentheses if it is negative."""
    text = number(value, digits)
    return f"({text})" if text.startswith("-") else text


def largest(explained: Explanation, position: int, filter_: int, count: int) -> Sequence[int]:
    """The columns of P whose products say most about one number of the output, in order."""
    magnitudes = np.abs(explained.products(position, filter_))
    return sorted(np.argsort(-magnitudes, kind="stable")[:count].tolist())


def sum_text(explained: Explanation, position: int, filter_: int, count: int) -> list[str]:
    """How one number of the output comes about, in lines: its largest products, then all.

    Args:
        explained: the numbers.
        position: of the window.
        filter_: of the first block.
        count: how many products are written down.
    """
    products = explained.products(position, filter_)
    shown = largest(explained, position, filter_, count)
    row, column = explained.patches[position], explained.filters[:, filter_]
    written = " + ".join(f"{factor(row[n], 3)} · {factor(column[n], 3)}" for n in shown)
    lines = [f"{written} = {number(products[shown].sum(), 4)}"]
    total = products.sum()
    if len(shown) < len(products):
        lines[0] += f": these are {len(shown)} of {len(products):,} products"
        lines.append(f"all {len(products):,} products add up to {number(total, 4)}")
    if explained.bias is not None:
        bias, output = explained.bias[filter_], explained.output[position, filter_]
        lines.append(f"{number(total, 4)} + {factor(bias, 4)}, the bias, = {number(output, 4)}")
    return [*lines, *scaling_text(explained, position, filter_)]


def scaling_text(explained: Explanation, position: int, filter_: int) -> list[str]:
    """What a quantized layer makes of one of its sums: a line, or none."""
    scaling, own = explained.scaling, explained.own
    if scaling is None or own is None:
        return []
    output = explained.output[position, filter_]
    steps = scaled(explained.output, scaling)[position, filter_]
    low, high = scaling.limits
    factors = (
        f"{scaling.x_scale:.6g} · {scaling.kernel_scales[filter_]:.6g} / {scaling.y_scale:.6g}"
    )
    zero = f", plus the zero point {factor(np.int64(scaling.y_zero), 0)}"
    return [
        f"scaled: {factor(output, 0)} · {factors} ≈ {number(steps, 6)}; to the nearest integer"
        f"{zero}, kept within {low} to {high}: {own[position, filter_]}"
    ]


def agreement_text(explained: Explanation) -> str:
    """How near the layer's own output is to what is drawn; empty without a layer."""
    found = explained.agreement
    if found is None:
        return ""
    name = product_name(explained)
    if explained.scaling is not None:
        return f"each number of the layer's own output is that of {name}, scaled and rounded"
    if explained.integral:
        return f"the layer's own output is {name}, number by number"
    total = explained.output.size
    why = f"not finite, or {explained.dtype} may round them to anything"
    if found.free == total:
        return f"the layer's own output is not compared with {name}: its sums are {why}"
    said = (
        f"the layer's own output, before any activation, and {name} in double precision differ by "
        f"at most {found.difference:.1e}, {found.share:.2%} of what rounding may do"
    )
    left = f"; {found.free:,} of {total:,} sums are left out: they are {why}"
    return f"{said}{left}" if found.free else said


def batch_text(explained: Explanation) -> str:
    """That it is one of several images; empty if it is alone."""
    count, (rows, columns) = len(explained.batch), explained.patches.shape
    if count == 1:
        return ""
    return f"the first image of {count:,}: P of the batch is {count * rows:,}×{columns:,}"


def rounding_text(explained: Explanation, digits: str) -> str:
    """Whether the numbers that one reads are rounded, and to how many digits."""
    return (
        "all numbers are exact" if explained.integral else f"numbers are rounded to {digits} digits"
    )
