"""What is written into Keras files, proved for every size, by the solver z3.

**What is proved.** The theorem of `tests.test_all_sizes`, of the models that stand for layers: each
layer and operation of what `convfc.formats.keras.rewriting.replacement` makes is evaluated as Keras
defines it (`tests.symbolic.keras_graphs`), on an input whose batch and sizes are unknown. So it
holds of the pads that are rotated or chosen by masks, of the grids that reshapes with two unknown
sizes take their rows by, and of the masks that phases are interleaved by.

**Enumerated** besides: both formats (stock layers for `.h5`, operations for `.keras`), plain,
grouped, depthwise and transposed layers, one axis and two. **Assumed** besides: numbers are finite,
for a mask multiplies them by zero.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from convfc.core.geometry import AnyConvolution, Pads, Sizes, Window
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.formats.keras.quiet import importing
from tests.symbolic.geometries import cases
from tests.symbolic.laws import Layer, sized
from tests.thinned import thinned

with importing():
    from keras import layers

    from convfc.formats.keras.archive import HDF5, ZIP
    from convfc.formats.keras.convolutions import convolutions_of
    from convfc.formats.keras.rewriting import replacement
    from tests.symbolic.keras_graphs import evaluate

FORMATS = [HDF5, ZIP]


def replaced(
    layer: Any, sizes: Sizes, file_format: str, channels: int = 2
) -> tuple[Any, AnyConvolution]:
    """What stands for a layer, and its geometry."""
    first = layer.data_format == "channels_first"
    layer.build((None, channels, *sizes) if first else (None, *sizes, channels))
    (weighted,) = convolutions_of(layer)
    conv = weighted.geometry
    weights = Layer(conv)
    kernel = weights.kernel if weighted.keeps_bytes else np.swapaxes(weights.kernel, -1, -2)
    layer.set_weights([kernel.reshape(layer.kernel.shape), weights.bias])
    lowering = lower(conv, sizes, PatchMethod.SLICE)
    assert isinstance(lowering, Lowering)
    model, _ = replacement(layer, lowering, file_format, ends_masks=False)
    return model, conv


def prove(model: Any, conv: AnyConvolution, sizes: Sizes, *, channels_first: bool = False) -> None:
    """Show that a model nowhere departs from the definition of a layer."""
    rank = conv.rank
    for case in sized(conv, sizes):
        facts = case.facts
        x = case.image(facts)
        if channels_first:
            y = evaluate(model, x.transpose([0, rank + 1, *range(1, rank + 1)]))
            y = y.transpose([0, *range(2, rank + 2), 1])
        else:
            y = evaluate(model, x)
        case.prove(y, facts)


WINDOWS = cases(
    [(1, 2, 1), (2, 1, 2), (3, 2, 1), (5, 3, 1), (2, 3, 1)],
    [
        (kernel, stride, dilation)
        for kernel, stride, dilation in itertools.product(range(1, 6), range(1, 5), (1, 2, 3))
        if stride == 1 or dilation == 1
    ],
)
"""Kernel, stride and dilation; Keras has no two of the last."""


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("steps", thinned(WINDOWS, 4), ids=str)
def test_every_tap_meets_its_pixel(
    steps: tuple[int, int, int], padding: str, file_format: str
) -> None:
    kernel, stride, dilation = steps
    layer = layers.Conv1D(1, kernel, strides=stride, dilation_rate=dilation, padding=padding)
    prove(*replaced(layer, (None,), file_format), (None,))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("steps", WINDOWS, ids=str)
def test_transposed(steps: tuple[int, int, int], padding: str, file_format: str) -> None:
    kernel, stride, dilation = steps
    given = {"strides": stride, "dilation_rate": dilation, "padding": padding}
    layer = layers.Conv1DTranspose(1, kernel, **given)
    prove(*replaced(layer, (None,), file_format), (None,))


LAYERS = {
    "plain": lambda: layers.Conv2D(1, (3, 2), strides=(2, 2), padding="same"),
    "groups": lambda: layers.Conv2D(2, (3, 2), strides=2, padding="same", groups=2),
    "depthwise": lambda: layers.DepthwiseConv2D((2, 3), strides=2, padding="same"),
    "depthwise, two filters each": lambda: layers.DepthwiseConv2D((1, 2), depth_multiplier=2),
    "transposed": lambda: layers.Conv2DTranspose(1, (3, 2), strides=(2, 3), padding="same"),
}


@pytest.mark.parametrize("file_format", thinned(FORMATS))
@pytest.mark.parametrize("sizes", thinned([(None, 3), (3, None), (None, None)]), ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_axes_do_not_mix(kind: str, sizes: Sizes, file_format: str) -> None:
    channels = 4 if kind == "groups" else 2
    prove(*replaced(LAYERS[kind](), sizes, file_format, channels), sizes)


@pytest.mark.parametrize("file_format", thinned(FORMATS))
def test_channels_first(file_format: str) -> None:
    sizes = (None, None)
    layer = layers.Conv2D(2, (3, 2), strides=2, padding="same", data_format="channels_first")
    prove(*replaced(layer, sizes, file_format), sizes, channels_first=True)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("sizes", thinned([(None, 2, None), (None, None, 5)]), ids=str)
def test_three_axes_of_which_two_are_unknown(sizes: Sizes, file_format: str) -> None:
    layer = layers.Conv3D(1, (2, 1, 3), strides=(1, 1, 2), padding="same")
    prove(*replaced(layer, sizes, file_format, 1), sizes)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_wrong_table_of_pads_is_found(monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    """The twin: the pads of another remainder."""
    right = Window.pads_by_remainder

    def wrong(self: Window, size: int | None) -> tuple[Pads, ...]:
        table = right(self, size)
        return (*table[1:], table[0])

    monkeypatch.setattr(Window, "pads_by_remainder", wrong)
    layer = layers.Conv1D(1, 4, strides=3, padding="same")
    model, conv = replaced(layer, (None,), file_format)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(model, conv, (None,))


@pytest.mark.parametrize("sizes", [(None,), (None, None)], ids=str)
def test_a_wrong_mask_is_found(sizes: Sizes) -> None:
    """The twin: whatever says where something is, one place further."""
    if len(sizes) == 1:
        layer = layers.Conv1D(1, 5, strides=3, padding="same")
    else:
        layer = layers.Conv2DTranspose(1, 2, strides=(2, 3))
    model, conv = replaced(layer, sizes, HDF5)
    pads = [each for each in model.layers if isinstance(each, layers.ZeroPadding1D)]
    movable = [each for each in pads if each.padding[1]]
    assert len(movable) > 2
    for each in movable:
        before, after = each.padding
        each.padding = (before + 1, after - 1)
        with pytest.raises(AssertionError, match=r"m0 = \d+|only of masks"):
            prove(model, conv, sizes)
        each.padding = (before, after)
