"""Finding the convolutions of an ONNX model and reading their geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from convfc.errors import GeometryError
from convfc.geometry import Convolution, Pads, Same, Window
from convfc.lowering import PatchMethod
from convfc.model import Site

Body: TypeAlias = "ir.Graph | ir.Function"

_LEFT = {
    "ConvTranspose": "transposed convolutions are not covered yet",
    "ConvInteger": "quantized convolutions are not covered yet",
    "QLinearConv": "quantized convolutions are not covered yet",
    "DeformConv": "its taps move with the data: no matrix product expresses that",
}
_DOMAINS = ("", "ai.onnx")
_PADDINGS: dict[str, Pads | Same] = {
    "VALID": (0, 0),
    "SAME_UPPER": Same.UPPER,
    "SAME_LOWER": Same.LOWER,
}


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        node: the node.
        within: names of the enclosing functions, nodes and subgraphs, outermost first.
        body: the graph or function whose node list it is in.
        opset: version of the standard operators there.
        initializers: whether constants can be initializers there. A function has none, and before
            IR version 4 each was an input as well, which anybody could override.
    """

    node: ir.Node
    within: tuple[str, ...]
    body: Body
    opset: int
    initializers: bool


def places(model: ir.Model) -> Iterator[Place]:
    """Every node, in subgraphs and functions too, in the order of the file."""
    has_initializers = model.ir_version >= 4
    yield from _places(model.graph, (), _opset(model.graph), has_initializers)
    for function in model.functions.values():
        yield from _places(function, (function.name,), _opset(function), False)


def _places(body: Body, within: tuple[str, ...], opset: int, initializers: bool) -> Iterator[Place]:
    for node in body:
        yield Place(node, within, body, opset, initializers)
        for attribute in node.attributes.values():
            if attribute.type is ir.AttributeType.GRAPH:
                inner = (*within, label(node), attribute.name)
                yield from _places(attribute.as_graph(), inner, opset, initializers)
            elif attribute.type is ir.AttributeType.GRAPHS:
                for number, graph in enumerate(attribute.as_graphs()):
                    inner = (*within, label(node), f"{attribute.name}{number}")
                    yield from _places(graph, inner, opset, initializers)


def _opset(body: Body) -> int:
    imports = body.opset_imports
    return next((imports[domain] for domain in _DOMAINS if domain in imports), 1)


def label(node: ir.Node) -> str:
    """A node's name, or its first output's where it has none."""
    return node.name or next((value.name for value in node.outputs if value.name), node.op_type)


def is_convolution(node: ir.Node) -> bool:
    """Whether a node is one of the standard convolution operators."""
    return node.domain in _DOMAINS and (node.op_type == "Conv" or node.op_type in _LEFT)


def site_of(place: Place, inferred: ir.Node, name: str) -> Site:
    """Describe one convolution.

    Args:
        place: the node.
        inferred: the same node in the copy whose shapes are inferred.
        name: the site's name.
    """
    kind = place.node.op_type
    x = inferred.inputs[0]
    dtype = numpy_name(x.dtype if x is not None else None)
    if kind in _LEFT:
        return Site(name, kind, None, dtype=dtype, reason=_LEFT[kind])
    try:
        convolution = _convolution(inferred)
    except GeometryError as error:
        return Site(name, kind, None, dtype=dtype, reason=str(error))
    sizes: tuple[int | None, ...] = (None,) * convolution.rank
    shape = known_shape(x)
    if shape is not None and len(shape) == convolution.rank + 2:
        sizes = shape[2:]
    methods = set(PatchMethod)
    if place.opset < 10 and any(window.stride > 1 for window in convolution.windows):
        methods.remove(PatchMethod.SLICE)  # Slice got its steps in opset 10
    bias = len(inferred.inputs) > 2 and inferred.inputs[2] is not None
    return Site(name, kind, convolution, sizes, dtype, bias, frozenset(methods))


def _convolution(node: ir.Node) -> Convolution:
    """Geometry of a Conv node (ONNX operator Conv, all versions).

    Raises:
        GeometryError: the attributes or the kernel's shape do not say.
    """
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise GeometryError("its attributes come from the caller of its function")
    kernel = known_shape(node.inputs[1])
    known = tuple(size for size in kernel or () if size is not None)
    if kernel is None or len(known) != len(kernel) or len(kernel) < 3:
        raise GeometryError("the shape of its kernel is unknown before run time")
    filters, depth, *taps = known
    rank = len(taps)
    attributes = node.attributes
    stated = attributes.get_ints("kernel_shape", taps)
    if list(stated) != taps:
        raise GeometryError(f"its kernel_shape {list(stated)} is not its kernel's shape {taps}")
    strides = attributes.get_ints("strides", [1] * rank)
    dilations = attributes.get_ints("dilations", [1] * rank)
    pads = attributes.get_ints("pads", [0] * 2 * rank)
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    if not len(strides) == len(dilations) == len(pads) // 2 == rank:
        raise GeometryError("its strides, dilations or pads do not fit its kernel")
    explicit: list[Pads | Same] = list(zip(pads[:rank], pads[rank:], strict=True))
    paddings = [_PADDINGS[auto_pad]] * rank if auto_pad in _PADDINGS else explicit
    groups = attributes.get_int("group", 1)
    windows = tuple(map(Window, taps, strides, dilations, paddings))
    return Convolution(windows, depth * groups, filters, groups)


def known_shape(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """A value's shape with ``None`` for what is symbolic; ``None`` if it has no shape."""
    if value is None:
        return None
    shape = value.shape
    if shape is None:
        # Inside a function nothing is inferred, but a constant knows its own shape.
        tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tuple(tensor.shape.numpy())
    # Some exporters write -1 for a size that they do not know.
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in shape)


def numpy_name(dtype: ir.DataType | None) -> str:
    """Numpy's name of an element type; float32 where the model does not say."""
    if dtype is None or dtype is ir.DataType.UNDEFINED:
        return "float32"
    return "string" if dtype is ir.DataType.STRING else str(dtype.numpy().name)
