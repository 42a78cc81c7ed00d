"""The convolution operators of ONNX: what their inputs are, and the geometry of a node."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx_ir as ir

from convfc.core.geometry import AnyConvolution, Convolution, Pads, Same, Sizes, Window
from convfc.core.transposed import TransposedConvolution, TransposedWindow
from convfc.errors import GeometryError
from convfc.refusals import Code, Refusal

DOMAINS = ("", "ai.onnx")
PACKED = "com.microsoft", "MatMulNBits"
"""onnxruntime's product with packed weights."""

_BEFORE = "convert the model as it was before onnxruntime optimized it"
_UNKNOWN = f"it is fused in a way that convfc does not know; {_BEFORE}"
_BLOCKS = f"its channels are in blocks (NCHWc) for one kind of processor; {_BEFORE}"
_LAST = f"its channels are last, as onnxruntime's optimizer laid them out; {_BEFORE}"
_TAKEN_APART = {
    "DeformConv": ("its taps move with the data: done over two axes with a known kernel shape", 2),
    "CausalConvWithState": (
        "it carries a state along: done over one axis with a known kernel shape",
        1,
    ),
}
"""What is taken apart before, if it can be; with the axes over which runtimes run it."""
_LEFT = {
    ("com.microsoft", "FusedConv"): Refusal(_UNKNOWN, Code.FUSED),
    ("com.microsoft", "NhwcConv"): Refusal(_LAST, Code.FUSED),
    ("com.microsoft", "NhwcFusedConv"): Refusal(_LAST, Code.FUSED),
    ("com.microsoft", "QLinearConv"): Refusal(_UNKNOWN, Code.FUSED),
    ("com.microsoft.nchwc", "Conv"): Refusal(_BLOCKS, Code.FUSED),
    ("com.microsoft", "ConvTransposeWithDynamicPads"): Refusal(
        "its pads are computed at run time", Code.RUN_TIME
    ),
    ("qonnx.custom_op.channels_last", "Conv"): Refusal(
        "its channels are last: no operator of ONNX", Code.FOREIGN
    ),
}
_SOUNDS_LIKE_ONE = re.compile("conv(?!ers|ert|ex|ey)", re.IGNORECASE)


@dataclass(frozen=True)
class Operator:
    """What sets a convolution operator apart from the others; everybody asks it, nobody its name.

    Attributes:
        roles: of its inputs, in their order.
        transposed: whether its kernel is (channels, filters / groups, k1, .., kr), and its output
            mostly larger than its input; otherwise (filters, channels / groups, k1, .., kr).
        integer: whether it computes with 8-bit integers and zero points.
        rounds: whether it scales and rounds its sums to 8-bit integers, of the type of `y_zero`.
        sums: type of its output where that is neither its input's nor that of `y_zero`.
    """

    roles: tuple[str, ...]
    transposed: bool = False
    integer: bool = False
    rounds: bool = False
    sums: ir.DataType | None = None

    def axes(self, channels: int, filters: int, groups: int) -> tuple[int, int]:
        """Sizes of the kernel's first two axes.

        With 6 channels, 4 filters and 2 groups a Conv has (4, 3), a ConvTranspose (6, 2).
        """
        return (channels, filters // groups) if self.transposed else (filters, channels // groups)


_FLOAT = ("x", "kernel", "bias")
_OPERATORS = {
    "Conv": Operator(_FLOAT),
    "ConvTranspose": Operator(_FLOAT, transposed=True),
    "ConvInteger": Operator(
        ("x", "kernel", "x_zero", "kernel_zero"), integer=True, sums=ir.DataType.INT32
    ),
    "QLinearConv": Operator(
        (
            *("x", "x_scale", "x_zero"),
            *("kernel", "kernel_scale", "kernel_zero"),
            *("y_scale", "y_zero"),
            "bias",
        ),
        integer=True,
        rounds=True,
    ),
}
_NO_CONVOLUTION = Operator(())
PADDINGS: dict[str, Pads | Same] = {
    "VALID": (0, 0),
    "SAME_UPPER": Same.UPPER,
    "SAME_LOWER": Same.LOWER,
}


def is_convolution(node: ir.Node) -> bool:
    """Whether a node is a convolution that convfc knows of."""
    ours = node.domain in DOMAINS and node.op_type in _OPERATORS
    return ours or identifier(node) in _LEFT or _was_not_taken_apart(node)


def sounds_like_convolution(node: ir.Node) -> bool:
    """Whether a node that is none convfc knows of is called like a convolution all the same."""
    return node.domain not in DOMAINS and _SOUNDS_LIKE_ONE.search(node.op_type) is not None


def why_left(node: ir.Node) -> Refusal | None:
    """Why convfc leaves an operator as it is, whatever its shapes; ``None`` if it does not."""
    if _was_not_taken_apart(node):
        return _why_not_taken_apart(node)
    known = _LEFT.get(identifier(node))
    if known is None and sounds_like_convolution(node):
        why = f"convfc knows no {node.op_type} of the domain '{node.domain}'"
        return Refusal(why, Code.FOREIGN)
    return known


def _was_not_taken_apart(node: ir.Node) -> bool:
    domain, kind = identifier(node)
    domains = ("", "com.microsoft") if kind == "CausalConvWithState" else ("",)
    return kind in _TAKEN_APART and domain in domains


def _why_not_taken_apart(node: ir.Node) -> Refusal:
    why, axes = _TAKEN_APART[node.op_type]
    kernel = known_shape(node.inputs[1]) if len(node.inputs) > 1 else None
    others = kernel is not None and len(kernel) != 2 + axes
    if others or node.attributes.get_int("ndim", axes) != axes:  # no runtime runs it over these
        return Refusal(why, Code.FOREIGN)
    stated = node.attributes.get_ints("kernel_shape", None)
    if kernel is None or None in kernel or stated is None or tuple(stated) == kernel[2:]:
        return Refusal(why, Code.UNKNOWN_KERNEL)
    return Refusal(why, Code.CONTRADICTION)


def identifier(node: ir.Node) -> tuple[str, str]:
    """Domain and name of an operator; the standard domain has two names."""
    return "" if node.domain in DOMAINS else node.domain, node.op_type


def operator_of(node: ir.Node) -> Operator:
    """The record of a node's operator, whatever its domain; an empty one of no convolution."""
    return _OPERATORS.get(node.op_type, _NO_CONVOLUTION)


def is_integer(node: ir.Node) -> bool:
    """Whether a node is a convolution of integers with zero points."""
    return operator_of(node).integer


def is_quantized(node: ir.Node) -> bool:
    """Whether a runtime may compute a node, or what is around it, with 8-bit integers."""
    return any(word in node.op_type for word in ("Quant", "QLinear", "Integer", "QGemm", "QAttent"))


def operands(node: ir.Node) -> dict[str, ir.Value]:
    """A node's inputs by their roles; those that are left out are not in it."""
    pairs = zip(operator_of(node).roles, node.inputs, strict=False)
    return {role: value for role, value in pairs if value is not None}


def geometry(node: ir.Node) -> tuple[AnyConvolution, Sizes]:
    """Geometry of a node (of all versions of its operator) and its spatial input sizes.

    Raises:
        GeometryError: attributes and shapes do not say, or contradict each other.
    """
    attributes, given = node.attributes, operands(node)
    if any(attribute.is_ref() for attribute in attributes.values()):
        raise GeometryError(
            "its attributes come from the caller of its function", code=Code.RUN_TIME
        )
    if not given.keys() >= {"x", "kernel"}:
        raise GeometryError("it has no input or no kernel", code=Code.CONTRADICTION)
    dtype = given["kernel"].dtype
    if dtype in (ir.DataType.STRING, ir.DataType.BOOL):
        raise GeometryError(
            f"its kernel holds no numbers but {dtype.name.lower()}s", code=Code.NO_NUMBERS
        )
    told = {given["x"].dtype, dtype} - {None, ir.DataType.UNDEFINED}
    if len(told) > 1 and not is_integer(node):
        raise GeometryError("its input and its kernel have different types", code=Code.NO_NUMBERS)
    transposed = operator_of(node).transposed
    groups = attributes.get_int("group", 1)
    channels, filters, taps = _kernel(node, given, groups, transposed)
    bias = known_shape(given.get("bias"))
    if bias is not None and (len(bias) != 1 or bias[0] not in (None, filters)):
        raise GeometryError(
            f"its bias is no list of {filters} numbers, one for each filter",
            code=Code.CONTRADICTION,
        )
    rank = len(taps)
    strides = attributes.get_ints("strides", [1] * rank)
    dilations = attributes.get_ints("dilations", [1] * rank)
    pads = attributes.get_ints("pads", [0] * 2 * rank)
    if not len(strides) == len(dilations) == len(pads) / 2 == rank:
        raise GeometryError(
            "its strides, dilations or pads do not fit its kernel", code=Code.CONTRADICTION
        )
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    explicit: list[Pads | Same] = list(zip(pads[:rank], pads[rank:], strict=True))
    paddings = [PADDINGS[auto_pad]] * rank if auto_pad in PADDINGS else explicit
    shape = known_shape(given["x"])
    sizes: Sizes = (None,) * rank
    if shape is not None:
        if len(shape) != rank + 2:
            raise GeometryError(
                f"its input has {len(shape)} axes, but its kernel {rank + 2}",
                code=Code.CONTRADICTION,
            )
        sizes = shape[2:]
    if not transposed:
        windows = map(Window, taps, strides, dilations, paddings)
        return Convolution(tuple(windows), channels, filters, groups), sizes
    added = attributes.get_ints("output_padding", [0] * rank)
    # Old files have the batch and the channels in it, too.
    prescribed = attributes.get_ints("output_shape", [])[-rank:]
    lengths: list[int | None] = [*prescribed] or [None] * rank
    if not len(added) == len(lengths) == rank:
        raise GeometryError(
            "its output_padding or output_shape does not fit its kernel", code=Code.CONTRADICTION
        )
    if lengths[0] is not None and auto_pad != "SAME_UPPER":
        paddings = [Same.LOWER] * rank
    axes = zip(taps, strides, dilations, paddings, added, lengths, strict=True)
    transposed_windows = tuple(TransposedWindow(*axis) for axis in axes)
    for window, size in zip(transposed_windows, sizes, strict=True):
        # Runtimes take no length that one more input would make, or more.
        if size and window.length and window.length >= size * window.stride + window.extent:
            raise GeometryError(
                f"its output_shape {window.length} is more than its windows make of {size}",
                code=Code.CONTRADICTION,
            )
    return TransposedConvolution(transposed_windows, channels, filters, groups), sizes


def _kernel(
    node: ir.Node, given: dict[str, ir.Value], groups: int, transposed: bool
) -> tuple[int, int, list[int]]:
    """Channels, filters and taps, from the kernel or from what stands around it.

    Raises:
        GeometryError: they are unknown or contradict each other.
    """
    stated: list[int | None] = [*node.attributes.get_ints("kernel_shape", [])]
    kernel = known_shape(given["kernel"]) or (None,) * (2 + len(stated))
    if len(kernel) < 3:
        raise GeometryError(
            "the shape of its kernel is unknown before run time", code=Code.UNKNOWN_KERNEL
        )
    first, second, *taps = kernel
    fits = len(stated) in (0, len(taps)) and all(map(_may_be, taps, stated or taps))
    if not fits:
        raise GeometryError(
            f"its kernel_shape {stated} is not its kernel's shape {taps}", code=Code.CONTRADICTION
        )
    taps = [tap or stated_tap for tap, stated_tap in zip(taps, stated or taps, strict=True)]
    if transposed:
        channels, filters = first, None if second is None else second * groups
    else:
        channels, filters = None if second is None else second * groups, first
    channels = channels or _axis(given["x"], 1)
    filters = filters or _axis(given.get("bias"), 0) or _axis(node.outputs[0], 1)
    known = [tap for tap in taps if tap is not None]
    if channels is None or filters is None or len(known) < len(taps):
        raise GeometryError(
            "the shape of its kernel is unknown before run time", code=Code.UNKNOWN_KERNEL
        )
    return channels, filters, known


def _may_be(size: int | None, stated: int | None) -> bool:
    return size in (None, stated)


def _axis(value: ir.Value | None, axis: int) -> int | None:
    shape = known_shape(value)
    return None if shape is None or len(shape) <= axis else shape[axis]


def known_shape(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """A value's shape with ``None`` for what is symbolic; ``None`` if it has no shape."""
    if value is None:
        return None
    shape = value.shape
    if shape is None:
        # Inside a function nothing is inferred, but a constant knows its own shape.
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tuple(tensor.shape.numpy())
    # Some exporters write -1 or 0 for a size that they do not know.
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
