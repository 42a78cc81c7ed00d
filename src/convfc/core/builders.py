"""Convolutions by the words of the field: names of paddings, lists with an entry per axis."""

from __future__ import annotations

from collections.abc import Sequence

from convfc import arguments
from convfc.core.geometry import AnyWindow, Convolution, Pads, Same, Window
from convfc.core.transposed import TransposedWindow
from convfc.errors import GeometryError


def named_padding(name: str, kernel: int, dilation: int = 1) -> Pads | Same:
    """Padding of one axis by its name in the field.

    Args:
        name: "valid" (none), "same", "same_lower", "causal" (all before, so that no position sees
            a later one), "half" (extent // 2 on both sides) or "full" (extent - 1 on both sides).
        kernel: number of taps.
        dilation: step between taps.

    Raises:
        GeometryError: an unknown name.
    """
    extent = Window(kernel, dilation=dilation).extent
    paddings: dict[str, Pads | Same] = {
        "valid": (0, 0),
        "same": Same.UPPER,
        "same_lower": Same.LOWER,
        "causal": (extent - 1, 0),
        "half": (extent // 2, extent // 2),
        "full": (extent - 1, extent - 1),
    }
    if name not in paddings:
        raise GeometryError(f"unknown padding {name!r}; known: {', '.join(paddings)}")
    return paddings[name]


def convolution(
    kernel: Sequence[int],
    *,
    channels: int,
    filters: int,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    padding: str | Sequence[Pads] = "valid",
    groups: int = 1,
) -> Convolution:
    """A `Convolution` from lists with one entry per spatial axis.

    Args:
        kernel: taps per axis.
        channels: channels of the input.
        filters: channels of the output.
        strides: ones when left out.
        dilations: ones when left out.
        padding: a name that `named_padding` knows, or the pads of each axis.
        groups: blocks of channels.

    Raises:
        GeometryError: see `Window` and `Convolution`; also lists of different lengths.
        UsageError: an argument of another kind.
    """
    kernel = arguments.wholes("kernel", kernel)
    rank = len(kernel)
    strides = [1] * rank if strides is None else arguments.wholes("strides", strides)
    dilations = [1] * rank if dilations is None else arguments.wholes("dilations", dilations)
    channels = arguments.whole("channels", channels)
    filters = arguments.whole("filters", filters)
    groups = arguments.whole("groups", groups)
    if isinstance(padding, str):
        # A list that is too short is found below, whatever this makes of it.
        pairs = zip(kernel, dilations, strict=False)
        paddings: Sequence[Pads | Same] = [named_padding(padding, *pair) for pair in pairs]
    else:
        paddings = _pads(padding)
    for name, given in (("dilations", dilations), ("strides", strides), ("pads", paddings)):
        if len(given) != rank:
            raise GeometryError(f"{len(given)} {name} given for {rank} spatial axes")
    windows = map(Window, kernel, strides, dilations, paddings)
    return Convolution(tuple(windows), channels, filters, groups)


def _pads(given: Sequence[Pads]) -> Sequence[Pads]:
    """Two numbers for each axis."""
    try:
        pairs = [(before, after) for before, after in given]
    except (TypeError, ValueError) as error:
        raise arguments.wrong("padding", given, "a name, or two numbers for each axis") from error
    return [
        (arguments.whole("padding", before), arguments.whole("padding", after))
        for before, after in pairs
    ]


def named_transposed_window(
    name: str,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    output_padding: int | None = None,
) -> TransposedWindow:
    """One axis of a transposed convolution as Keras says it.

    Args:
        name: "valid" or "same".
        kernel: number of taps.
        stride: step between windows in the output.
        dilation: step between taps.
        output_padding: positions to add to the output: of all windows, or of the one position
            (two for an even window) that "same" leaves of the last window. ``None`` fills the
            last stride.

    Raises:
        GeometryError: an unknown name.
    """
    extent = AnyWindow(kernel, dilation=dilation).extent
    if name not in ("valid", "same"):
        raise GeometryError(f"unknown padding {name!r}; known: valid, same")
    padding: Pads | Same = Same.UPPER if name == "same" else (0, 0)
    if output_padding is None:
        output_padding = max(stride - extent, 0)
    elif name == "same":
        excess = extent - extent % 2 - output_padding
        padding, output_padding = Same.UPPER.split(max(excess, 0)), max(-excess, 0)
    return TransposedWindow(kernel, stride, dilation, padding, output_padding)
