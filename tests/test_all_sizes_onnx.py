"""What is written into ONNX files, proved for every size, by the solver z3.

**What is proved.** The theorem of `tests.test_all_sizes`, of the nodes themselves: the graph that
`convfc.formats.onnx.rewriting.rewrite` makes of a Conv or ConvTranspose node, with every node of it
evaluated as the ONNX standard defines it (`tests.symbolic.onnx_graphs`), on an input whose batch
and sizes are unknown. So it holds of the tables that pads are taken from (Shape, Mod, Gather), of
slices that count from the end, of crops that are computed in the graph (Shape, Mul, Add, Abs, Div,
Sub), of reshapes that must not bake in a size, and of the filter matrix and the bias in the file.

**Enumerated** besides: opsets with other forms of the nodes, kernels that are constants and such
that come at run time, prescribed outputs of sizes that are too small for them and too large.

**Not covered**: what follows a product of integers in QLinearConv (scales and rounding), which has
nothing to do with sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from convfc.core.geometry import AnyConvolution, Convolution, Pads, Same, Sizes, Window
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.formats.onnx.rewriting import rewrite
from convfc.formats.onnx.sites import places
from tests.symbolic.forms import Form
from tests.symbolic.forms import plus as plus_weight
from tests.symbolic.geometries import AXES, BANDED, FEW, MANY, OPEN, TRANSPOSED, cases, one_axis
from tests.symbolic.laws import Layer, sized
from tests.symbolic.numbers import Number
from tests.symbolic.onnx_graphs import Value, evaluate
from tests.symbolic.tensors import Tensor
from tests.thinned import thinned


def kernel_of(conv: AnyConvolution) -> NDArray[np.float32]:
    """The kernel of a `Layer` as ONNX has it."""
    kernel = Layer(conv).kernel.astype(np.float32)
    if not isinstance(conv, TransposedConvolution):
        return np.moveaxis(kernel, (-1, -2), (0, 1))
    each = conv.filters // conv.groups
    blocks = [
        np.moveaxis(kernel[..., group * each : (group + 1) * each], (-2, -1), (0, 1))
        for group in range(conv.groups)
    ]
    return np.concatenate(blocks)


def emitted(
    conv: AnyConvolution,
    sizes: Sizes,
    *,
    method: PatchMethod = PatchMethod.AUTO,
    memory: int | None = None,
    opset: int = 17,
    channels_first: bool = False,
    constant: bool = True,
    bands: int = 1,
) -> tuple[ir.Graph, dict[str, Value]]:
    """The graph that is written for one layer, and those inputs of it that are not the image."""
    bias = Layer(conv).bias.astype(np.float32)
    arrays = {"W": np.ascontiguousarray(kernel_of(conv)), "B": bias}
    kind = "ConvTranspose" if isinstance(conv, TransposedConvolution) else "Conv"
    lowering = lower(conv, sizes, method, memory=memory)
    assert isinstance(lowering, Lowering)
    lowering = replace(lowering, bands=bands)
    graph = rewritten(kind, arrays, lowering, opset, channels_first, constant)
    return graph, {} if constant else dict(arrays)


def rewritten(
    kind: str,
    arrays: dict[str, NDArray[Any]],
    lowering: Lowering,
    opset: int = 17,
    channels_first: bool = False,
    constant: bool = True,
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> ir.Graph:
    """The graph that is written for one node, which has these inputs besides the image."""
    given = {name: ir.Value(name=name, type=ir.TensorType(dtype)) for name in ("x", *arrays)}
    for name, array in arrays.items():
        given[name].shape = ir.Shape(array.shape)
        given[name].type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        if constant:
            given[name].const_value = ir.tensor(array, name=name)
    x, *weights = given.values()
    x.shape = ir.Shape([None, lowering.convolution.channels, *lowering.sizes])
    node = ir.node(kind, list(given.values()), name="conv")
    node.outputs[0].name = "y"
    graph = ir.Graph(
        [x] if constant else [x, *weights],
        node.outputs,
        nodes=[node],
        initializers=weights if constant else [],
        opset_imports={"": opset},
    )
    model = ir.Model(graph, ir_version=8)
    (place,) = places(model)
    rewrite(model, {"conv": (place, lowering)}, channels_first)
    return graph


def prove(conv: AnyConvolution, sizes: Sizes, graph: ir.Graph, given: dict[str, Value]) -> None:
    """Show that a graph nowhere departs from the definition of the layer."""
    rank = conv.rank
    for case in sized(conv, sizes):
        facts = case.facts
        x = case.image(facts).transpose([0, rank + 1, *range(1, rank + 1)])
        (y,) = evaluate(graph, {"x": x, **given}, facts)
        assert isinstance(y, Tensor)
        case.prove(y.transpose([0, *range(2, rank + 2), 1]), facts)


def depends_on_size(window: Window) -> bool:
    return isinstance(window.padding, Same) and window.stride > 1


@pytest.mark.parametrize("window", thinned(cases(FEW, MANY)), ids=repr)
def test_every_tap_meets_its_pixel(window: Window | TransposedWindow) -> None:
    conv = one_axis(window)
    prove(conv, OPEN, *emitted(conv, OPEN))


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("opset", thinned([6, 9, 12]))
@pytest.mark.parametrize(
    "window", [Window(3, 2, 2, (2, 1)), TransposedWindow(3, 2, 3, (2, 1))], ids=repr
)
def test_older_forms(window: Window | TransposedWindow, opset: int, constant: bool) -> None:
    conv = one_axis(window)
    prove(conv, OPEN, *emitted(conv, OPEN, opset=opset, constant=constant))


LAYERS = {
    "plain": Convolution(AXES, 2, 2),
    "groups": Convolution(AXES, 4, 2, 2),
    "depthwise": Convolution(AXES, 2, 2, 2),
    "depthwise, two filters each": Convolution(AXES, 2, 4, 2),
    "transposed": TransposedConvolution(TRANSPOSED, 1, 2),
    "transposed, groups": TransposedConvolution(TRANSPOSED, 2, 2, 2),
}


SHIFTED = {
    "plain": Convolution((Window(3, 1, 2, (2, 1)), Window(2, 2, 1, (0, 1))), 2, 2),
    "transposed": TransposedConvolution((TransposedWindow(3, 2), TransposedWindow(2)), 1, 2),
}


@pytest.mark.parametrize("sizes", thinned([(None, 3), (3, None), (None, None)]), ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_axes_do_not_mix(kind: str, sizes: Sizes) -> None:
    prove(LAYERS[kind], sizes, *emitted(LAYERS[kind], sizes, method=PatchMethod.SLICE))


@pytest.mark.parametrize("constant", thinned([True, False]), ids=["constant", "computed"])
@pytest.mark.parametrize("opset", thinned([12, 17]))
@pytest.mark.parametrize("sizes", [(None, 3), (3, None), (None, None)], ids=str)
@pytest.mark.parametrize("each", [1, 2])
def test_taps(each: int, sizes: Sizes, opset: int, constant: bool) -> None:
    conv = Convolution(AXES, 2, 2 * each, 2)
    taps = PatchMethod.TAPS
    prove(conv, sizes, *emitted(conv, sizes, method=taps, opset=opset, constant=constant))


@pytest.mark.parametrize("constant", thinned([True, False]), ids=["constant", "computed"])
@pytest.mark.parametrize("opset", thinned([10, 17]))
@pytest.mark.parametrize("sizes", [(None, 3), (3, None), (None, None)], ids=str)
@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_shifted_products(kind: str, sizes: Sizes, opset: int, constant: bool) -> None:
    conv = SHIFTED[kind]
    method = PatchMethod.SHIFT
    prove(conv, sizes, *emitted(conv, sizes, method=method, opset=opset, constant=constant))


def test_blocks_of_shifted_products() -> None:
    conv, sizes = SHIFTED["plain"], (6, None)
    prove(conv, sizes, *emitted(conv, sizes, method=PatchMethod.SHIFT, memory=20))


@pytest.mark.parametrize("window", thinned(cases(FEW, MANY)), ids=repr)
def test_shifted_products_of_one_axis(window: Window | TransposedWindow) -> None:
    conv = one_axis(window)
    if isinstance(lower(conv, OPEN, PatchMethod.SHIFT), Lowering):
        prove(conv, OPEN, *emitted(conv, OPEN, method=PatchMethod.SHIFT))


@pytest.mark.parametrize("count", thinned([2, 4]))
@pytest.mark.parametrize("window", thinned(cases(BANDED, FEW)), ids=repr)
def test_bands(window: Window | TransposedWindow, count: int) -> None:
    """Of any size, with fewer positions than bands, too."""
    conv = one_axis(window)
    prove(conv, OPEN, *emitted(conv, OPEN, method=PatchMethod.SLICE, bands=count))


@pytest.mark.parametrize("opset", thinned([11, 17]))
@pytest.mark.parametrize("method", [PatchMethod.SLICE, PatchMethod.GATHER])
@pytest.mark.parametrize("sizes", thinned([(None, 3), (None, None)]), ids=str)
@pytest.mark.parametrize("kind", thinned(["transposed", "plain", "groups"]))
def test_bands_of_axes(kind: str, sizes: Sizes, method: PatchMethod, opset: int) -> None:
    conv = LAYERS[kind]
    prove(conv, sizes, *emitted(conv, sizes, method=method, opset=opset, bands=3))


@pytest.mark.parametrize("kind", SHIFTED)
def test_bands_of_shifted_products(kind: str) -> None:
    conv, sizes = SHIFTED[kind], (None, None)
    prove(conv, sizes, *emitted(conv, sizes, method=PatchMethod.SHIFT, bands=3))


@pytest.mark.parametrize("window", thinned(cases(FEW, MANY)), ids=repr)
def test_a_computed_index_map(window: Window | TransposedWindow) -> None:
    """For any size; a stride of which the pads depend on the size is taken in along."""
    conv = one_axis(window)
    if lower(conv, OPEN) != lower(conv, OPEN, PatchMethod.NONE):
        prove(conv, OPEN, *emitted(conv, OPEN, method=PatchMethod.GATHER))


@pytest.mark.parametrize(
    ("kind", "method"),
    [*((kind, PatchMethod.GATHER) for kind in LAYERS), ("groups", PatchMethod.ROWS)],
)
@pytest.mark.parametrize("opset", thinned([11, 17]))
@pytest.mark.parametrize("sizes", thinned([(None, 3), (3, None), (None, None)]), ids=str)
def test_a_computed_index_map_of_axes(
    kind: str, method: PatchMethod, sizes: Sizes, opset: int
) -> None:
    prove(LAYERS[kind], sizes, *emitted(LAYERS[kind], sizes, method=method, opset=opset))


def test_a_computed_index_map_of_three_unknown_sizes() -> None:
    conv = Convolution((Window(2, 2, 1, (1, 0)), Window(2, 1, 2), Window(2, 3)), 1, 1)
    open_ones = (None, None, None)
    prove(conv, open_ones, *emitted(conv, open_ones, method=PatchMethod.GATHER))


@pytest.mark.parametrize("sizes", [(None, 3), (3, None)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_channels_first(groups: int, sizes: Sizes) -> None:
    conv = Convolution((Window(1), Window(1)), 4, 4, groups)
    prove(conv, sizes, *emitted(conv, sizes, channels_first=True))


@pytest.mark.parametrize("zero", [np.uint8(7), np.int8(-5)], ids=["uint8", "int8"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [(2, 1), Same.UPPER])
def test_integers(padding: Pads | Same, groups: int, zero: np.generic) -> None:
    """Pads are zero points, and the product is one of what is above them."""
    conv = Convolution((Window(3, 2, 1, padding),), 2, groups, groups)
    kernel = kernel_of(conv).astype(np.int8) + np.int8(3)
    arrays = {"W": kernel, "x_zero": np.asarray(zero), "W_zero": np.asarray(np.int8(3))}
    lowering = lower(conv, OPEN)
    assert isinstance(lowering, Lowering)
    dtype = ir.DataType.from_numpy(zero.dtype)
    graph = rewritten("ConvInteger", arrays, lowering, 13, dtype=dtype)
    for case in sized(conv, OPEN):
        facts = case.facts
        image = case.image(facts).transpose([0, 2, 1])

        def at(index: Sequence[Number], image: Tensor = image) -> Form:
            return {1: image.at(index)[1] + int(zero.item())}

        (y,) = evaluate(graph, {"x": replace(image, at=at)}, facts)
        assert isinstance(y, Tensor)
        case.prove(y.transpose([0, 2, 1]).with_constant(Layer(conv).bias, plus_weight), facts)


def frames(kernels: int, strides: int, lengths: tuple[int, ...]) -> list[TransposedWindow]:
    """Windows with outputs of prescribed length."""
    steps = itertools.product(range(1, kernels + 1), range(1, strides + 1), (1, 2), SAME, lengths)
    return [
        TransposedWindow(kernel, stride, dilation, same, (kernel + length) % 2, length)
        for kernel, stride, dilation, same, length in steps
        if kernel > 1 or dilation == 1
    ]


SAME = (Same.UPPER, Same.LOWER)


@pytest.mark.parametrize(
    "window", thinned(cases(frames(3, 3, (1, 4)), frames(5, 4, (1, 2, 5, 8))), 2), ids=repr
)
def test_a_prescribed_length(window: TransposedWindow) -> None:
    conv = TransposedConvolution((window,), 1, 1)
    prove(conv, OPEN, *emitted(conv, OPEN))


@pytest.mark.parametrize("method", [PatchMethod.SLICE, PatchMethod.GATHER])
def test_blocks_of_a_prescribed_length(method: PatchMethod) -> None:
    conv = TransposedConvolution((TransposedWindow(5, 2, 1, Same.LOWER, 0, 9),), 1, 1, 1)
    prove(conv, OPEN, *emitted(conv, OPEN, memory=20, method=method))


def test_lengths_of_which_one_is_prescribed() -> None:
    axes = (TransposedWindow(3, 2, 1, Same.UPPER, 0, 3), TransposedWindow(2, 2, 1, (1, 0), 1, None))
    conv = TransposedConvolution(axes, 1, 1)
    prove(conv, (None, None), *emitted(conv, (None, None)))


def constant_of(value: ir.Value | None) -> NDArray[Any]:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def changed(role: str, change: Callable[[NDArray[np.int64]], None]) -> Callable[[ir.Graph], None]:
    """Change the constant of a role."""

    def apply(graph: ir.Graph) -> None:
        (value,) = [v for name, v in graph.initializers.items() if name.endswith(role)]
        assert value.const_value is not None
        array = value.const_value.numpy().copy()
        change(array)
        value.const_value = ir.tensor(array, name=value.name)

    return apply


def plus(place: int | tuple[int, int], number: int) -> Callable[[NDArray[np.int64]], None]:
    def change(array: NDArray[np.int64]) -> None:
        array[place] += number

    return change


SAME_PADS = Window(5, 3, 1, Same.UPPER)
FRAME = TransposedWindow(3, 3, 1, Same.LOWER, length=5)


@pytest.mark.parametrize(
    ("window", "wrong"),
    [
        *((SAME_PADS, changed("pads_by_remainder", plus((row, 0), 1))) for row in (1, 2, 3)),
        *((SAME_PADS, changed("pads_by_remainder", plus((row, 1), -1))) for row in (1, 2, 3)),
        (SAME_PADS, changed("strides", plus(1, 1))),
        (FRAME, changed("shifts", plus(0, 1))),
        (FRAME, changed("rounding", plus(0, -2))),
        (FRAME, changed("four", plus(0, 1))),
    ],
)
def test_a_wrong_constant_is_found(
    window: Window | TransposedWindow, wrong: Callable[[ir.Graph], None]
) -> None:
    """The twin: what is wrong for some sizes only, and the sizes."""
    conv = one_axis(window)
    graph, given = emitted(conv, OPEN)
    wrong(graph)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(conv, OPEN, graph, given)


def test_a_tap_by_the_weights_of_another_is_found() -> None:
    """The twin: at most sizes no tap but these two meets a pixel."""
    conv = Convolution((Window(4, 1, 1, (3, 3)),), 2, 2, 2)
    graph, given = emitted(conv, OPEN, method=PatchMethod.TAPS)
    first, second = [node for node in graph if node.op_type == "Mul"][:2]
    rows = first.inputs[1], second.inputs[1]
    first.replace_input_with(1, rows[1])
    second.replace_input_with(1, rows[0])
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(conv, OPEN, graph, given)


@pytest.mark.parametrize("place", [0, 1])
def test_a_product_that_is_shifted_like_another_is_found(place: int) -> None:
    """The twin: a part from another row, or of the filters of another tap."""
    conv = Convolution((Window(2, 1, 1, (1, 1)),), 1, 1)
    graph, given = emitted(conv, OPEN, method=PatchMethod.SHIFT)
    first, second = [node for node in graph if node.op_type == "Slice"]
    for slot in (1, 2):
        mine, other = (constant_of(node.inputs[slot]) for node in (first, second))
        wrong = mine.copy()
        wrong[place] = other[place]
        name = f"wrong_{slot}"
        value = ir.Value(name=name, const_value=ir.tensor(wrong, name=name))
        graph.register_initializer(value)
        first.replace_input_with(slot, value)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(conv, OPEN, graph, given)


@pytest.mark.parametrize(
    ("window", "role"),
    [(Window(3), "steps"), (Window(3), "starts"), (Window(2, 3), "stride")],
    ids=str,
)
def test_a_wrong_band_is_found(window: Window, role: str) -> None:
    """The twin: of other rows, more or fewer of them."""
    conv = one_axis(window)
    graph, given = emitted(conv, OPEN, method=PatchMethod.SLICE, bands=2)
    changed(role, plus(0, 1))(graph)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(conv, OPEN, graph, given)


@pytest.mark.parametrize("wrong", [changed("taps", plus((0, 1), 1)), changed("starts", plus(0, 1))])
def test_a_wrong_index_map_is_found(wrong: Callable[[ir.Graph], None]) -> None:
    """The twin: a tap that is too far, a window that starts too late."""
    conv = one_axis(Window(2, 1))
    graph, given = emitted(conv, OPEN, method=PatchMethod.GATHER)
    wrong(graph)
    with pytest.raises(AssertionError, match=r"m0 = \d+"):
        prove(conv, OPEN, graph, given)


def test_a_map_with_the_size_of_another_axis_is_found() -> None:
    """The twin: right for squares alone."""
    conv, sizes = Convolution((Window(2), Window(2)), 1, 1), (None, None)
    graph, given = emitted(conv, sizes, method=PatchMethod.GATHER)
    first, second = [node for node in graph if node.op_type == "Gather"][:2]
    (mul,) = [node for node in graph if node.op_type == "Mul"]
    assert mul.inputs[1] is second.outputs[0]
    mul.replace_input_with(1, first.outputs[0])
    with pytest.raises(AssertionError, match="another length"):
        prove(conv, sizes, graph, given)


def test_an_end_that_is_far_away_is_found() -> None:
    """The twin: a slice that ends at 1,000 whatever the size."""
    conv = one_axis(Window(2, 1))
    graph, given = emitted(conv, OPEN)
    for value in graph.initializers.values():
        assert value.const_value is not None
        if value.const_value.numpy().reshape(-1)[0] == np.iinfo(np.int64).max:
            value.const_value = ir.tensor(np.array([1000]), name=value.name)
    with pytest.raises(AssertionError, match=r"m0 = \d{4,}"):
        prove(conv, OPEN, graph, given)
