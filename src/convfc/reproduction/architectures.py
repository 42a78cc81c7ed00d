"""The architectures of the experiment, side by side with their shapes (the paper's figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convfc import plotting
from convfc.reproduction.settings import KERNEL, STRIDE, Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In units of the drawing: three columns, a row per step, from top to bottom.
_CENTRES = (2.0, 6.0, 10.0)
_WIDTH, _HEIGHT, _ARROW = 3.5, 0.62, 0.38
_PITCH = _HEIGHT + _ARROW

_PATCHES, _PRODUCT, _PLAIN = "#cfe8f7", "#fbe3b4", "#f2f2f2"


def architectures(settings: Settings, shape: Sequence[int]) -> Figure:
    """Three columns of layers, equal ones on one height, with the shapes between them.

    Args:
        settings: the filters are used.
        shape: height, width and channels of an image.
    """
    height, width, channels = shape
    filters, conv = settings.filters, settings.convolution(channels)
    rows, columns = conv.output((height, width))
    assert rows is not None and columns is not None  # noqa: S101, PT018 - the sizes are known
    image, pixels = f"{height}×{width}×{channels}", height * width * channels
    taps, flat = conv.patch_length, rows * columns * filters
    kernel = f"Conv2D {KERNEL}×{KERNEL}, stride {STRIDE}, {filters} filters"
    kernel += f"\n{KERNEL}×{KERNEL}×{channels}×{filters} = {conv.weights:,} weights"
    dense = f"Dense {filters}\n{taps}×{filters} = {conv.weights:,} weights"

    figure = plotting.new_figure(12, 8.5)
    axes = figure.add_subplot()
    axes.set_xlim(0.2, 11.8)
    axes.set_ylim(_top(8) - 0.1, 1.2)
    axes.axis("off")
    titles = ("CNN", "CNN converted by convfc", "Dense on patches")
    for centre, title in zip(_CENTRES, titles, strict=True):
        axes.text(centre, 0.75, title, ha="center", fontsize=15, fontweight="bold")
        _box(axes, centre, 0, image, "white")

    cnn, converted, prepared = _CENTRES
    maps, spread, matrix = (
        f"{rows}×{columns}×{filters}",
        f"{rows}×{columns}×{taps}",
        f"{rows * columns}×{taps}",
    )
    _arrow(axes, cnn, 0)
    _box(axes, cnn, 1, kernel, _PRODUCT, steps=2)
    _arrow(axes, converted, 0)
    _box(axes, converted, 1, f"patches, {KERNEL}×{KERNEL}, stride {STRIDE}", _PATCHES)
    _arrow(axes, converted, 1, spread)
    _box(axes, converted, 2, dense, _PRODUCT)
    _arrow(axes, prepared, 0)
    _box(axes, prepared, 1, "im2col, once, before training", _PATCHES, outside=True)
    _arrow(axes, prepared, 1, f"{matrix}, the input")
    _box(axes, prepared, 2, dense, _PRODUCT)
    for centre in _CENTRES:
        output = f"{rows * columns}×{filters}" if centre == prepared else maps
        rest = [
            (output, "ReLU"),
            (output, "Flatten"),
            (f"{flat:,}", f"Dense {pixels}\n{flat:,}×{pixels} = {flat * pixels:,} weights"),
            (f"{pixels}", "ReLU"),
            (f"{pixels}", "Reshape"),
            (image, ""),
        ]
        for row, (arrives, what) in enumerate(rest, 3):
            _arrow(axes, centre, row - 1, arrives)
            if what:
                _box(axes, centre, row, what, _PLAIN)
    return figure


def _top(row: float) -> float:
    return 0.5 - row * _PITCH


def _box(
    axes: Axes,
    centre: float,
    row: int,
    text: str,
    colour: str,
    *,
    steps: int = 1,
    outside: bool = False,
) -> None:
    from matplotlib.patches import FancyBboxPatch

    height = _HEIGHT + (steps - 1) * _PITCH
    low = _top(row) - height
    axes.add_patch(
        FancyBboxPatch(
            (centre - _WIDTH / 2, low),
            _WIDTH,
            height,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=colour,
            edgecolor=plotting.INK,
            linestyle="dashed" if outside else "solid",
        )
    )
    axes.text(centre, low + height / 2, text, ha="center", va="center")


def _arrow(axes: Axes, centre: float, row: int, text: str = "") -> None:
    """From a row to the next one, with the shape of what goes there."""
    start = _top(row) - _HEIGHT
    axes.annotate(
        "",
        (centre, start - _ARROW),
        (centre, start),
        arrowprops={"arrowstyle": "-|>", "color": plotting.INK, "shrinkA": 0, "shrinkB": 0},
    )
    axes.text(centre + 0.15, start - _ARROW / 2, text, va="center", fontsize=11)
