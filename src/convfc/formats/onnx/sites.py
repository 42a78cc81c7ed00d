"""Finding the convolutions of an ONNX model and reading their geometry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import onnx_ir as ir

from convfc.core.geometry import AnyConvolution, Convolution, Sizes
from convfc.core.limits import default_memory, excess_of
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.errors import GeometryError
from convfc.formats.demand import Tensor, counted, padded
from convfc.formats.onnx.operators import (
    DOMAINS,
    geometry,
    is_convolution,
    is_integer,
    known_shape,
    operands,
    operator_of,
    sounds_like_convolution,
    why_left,
)
from convfc.formats.protocols import Site
from convfc.refusals import Code, Refusal

Body: TypeAlias = "ir.Graph | ir.Function"


@dataclass(frozen=True)
class Place:
    """Where a node stands.

    Attributes:
        node: the node.
        within: names of the enclosing functions, nodes and subgraphs, outermost first.
        body: the graph or function whose node list it is in.
        opset: version of the standard operators there.
        initializers: whether constants can be initializers there. A function has none; nor has a
            subgraph before IR version 4, when each was an input as well.
    """

    node: ir.Node
    within: tuple[str, ...]
    body: Body
    opset: int
    initializers: bool


def places(model: ir.Model) -> Iterator[Place]:
    """Every node, in subgraphs and functions too, in the order of the file."""
    yield from _places(model.graph, (), opset_of(model.graph), True, model.ir_version >= 4)
    for function in model.functions.values():
        yield from _places(function, (function.name,), opset_of(function), False, False)


def _places(
    body: Body, within: tuple[str, ...], opset: int, initializers: bool, deeper: bool
) -> Iterator[Place]:
    for node in body:
        yield Place(node, within, body, opset, initializers)
        for attribute in node.attributes.values():
            several = attribute.type is ir.AttributeType.GRAPHS
            for number, graph in enumerate(subgraphs(attribute)):
                inner = (*within, label(node), f"{attribute.name}{number if several else ''}")
                yield from _places(graph, inner, opset, deeper, deeper)


def subgraphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    """The graphs that an attribute holds, mostly none."""
    if attribute.is_ref():
        return ()
    if attribute.type is ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type is ir.AttributeType.GRAPHS else ()


def convolutions(model: ir.Model, inferred: ir.Model) -> list[tuple[Place, ir.Node]]:
    """Every convolution, each with its node that has shapes; what may be one, too."""
    pairs = zip(places(model), places(inferred), strict=True)

    def counts(node: ir.Node) -> bool:
        own = node.op_identifier() in model.functions  # of which the body is looked at
        return is_convolution(node) or (sounds_like_convolution(node) and not own)

    return [(place, shaped.node) for place, shaped in pairs if counts(place.node)]


def site_names(found: Sequence[Place]) -> list[str]:
    """What the convolutions of a model are called: a number tells those of one name apart."""
    names: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for place in found:
        name = unique = "/".join((*place.within, label(place.node)))
        while unique in names:
            counts[name] += 1
            unique = f"{name}#{counts[name] + 1}"
        names[unique] = None
    return list(names)


def open_layers(inferred: ir.Model) -> dict[str, int]:
    """By the names of their outputs, convolutions on open sizes, and in how many bands they are.

    Patches of a band are made all at once.
    """
    found = {}
    for place in places(inferred):
        name = place.node.outputs[0].name
        if name and is_convolution(place.node):
            x = known_shape(operands(place.node).get("x")) or (None,)
            if None in x[1:]:
                found[name] = _bands(site_of(place, place.node, name))
    return found


def _bands(site: Site) -> int:
    conv, sizes = site.convolution, site.sizes
    if conv is None or site.refusal is not None:
        return 1
    found = lower(conv, sizes, available=site.methods, itemsize=site.itemsize, banded=site.banded)
    return found.bands if isinstance(found, Lowering) else 1


def steps_of(
    inferred: ir.Model, whole: Mapping[str, int] = MappingProxyType({})
) -> Iterator[list[Tensor]]:
    """Shape and bytes per number of what is there while a node works, as far as they are known.

    That is what it reads and makes; what waits for those that read it later; what the model is fed,
    and its outputs; and the outputs of the other file, with which these are going to be compared.

    Args:
        inferred: a model with shapes.
        whole: see `open_layers`.
    """
    fed = [value for value in inferred.graph.inputs if not value.is_initializer()]
    outputs = inferred.graph.outputs
    kept = set(outputs)
    compared = [tensor for y in outputs if (tensor := _tensor(y)) is not None]
    nodes = [place.node for place in places(inferred)]
    last = {value: at for at, node in enumerate(nodes) for value in node.inputs}
    waiting: dict[ir.Value, tuple[bool, int]] = {}
    sums = {False: 0, True: 0}  # bytes of what waits, in all and for each sample
    for at, node in enumerate(nodes):
        for value in node.inputs:
            of_each, size = waiting.pop(value, (False, 0)) if value is not None else (False, 0)
            sums[of_each] -= size
        values = {v for v in (*node.inputs, *node.outputs, *fed, *outputs) if v is not None}
        there = {value: tensor for value in values if (tensor := _tensor(value)) is not None}
        held = [((None if of_each else 1, size), 1) for of_each, size in sums.items() if size]
        yield [*there.values(), *compared, *held]
        for value, tensor in there.items():
            if value.producer() is not None and last.get(value, at) > at and value not in kept:
                waiting[value] = of_each, size = counted(tensor)
                sums[of_each] += size
        if is_convolution(node):
            made = _on_the_way(node, whole.get(node.outputs[0].name or ""))
            if made is not None:
                yield [made, *compared, *held]


def _on_the_way(node: ir.Node, bands: int | None) -> Tensor | None:
    """What a converted convolution makes on its way: its padded input, and patches of each sample.

    Patches are made a block at a time, or else all of a band, with the slices that they are made
    of. A transposed one makes its products of one sample, of which it adds up its output.
    """
    given = operands(node)
    x, kernel, y = (known_shape(v) for v in (given.get("x"), given.get("kernel"), node.outputs[0]))
    if not (x and kernel and y):
        return None
    itemsize = _itemsize(given["x"].dtype)
    if operator_of(node).transposed:
        return (1, *kernel[1:], *x[2:]), itemsize
    try:
        convolution, sizes = geometry(node)
        sizes = padded(convolution.inner(sizes), sizes)
    except GeometryError:  # it is left, and pads nothing
        sizes = x[2:]
    groups = node.attributes.get_int("group", 1) or 1
    rows = -(-(y[2] or 1) // (bands or 1)) if len(y) > 2 else 1
    patches = rows * math.prod(size or 1 for size in (*y[3:], *kernel[1:])) * groups * itemsize
    made = 2 * patches if bands else min(patches, default_memory(patches))
    return (y[0], math.prod(size or 1 for size in (x[1], *sizes)) * itemsize + made), 1


def _tensor(value: ir.Value) -> Tensor | None:
    """A value's shape and the bytes of a number of it, if it has a shape."""
    shape = known_shape(value)
    return None if shape is None else (shape, _itemsize(value.dtype))


def _itemsize(dtype: ir.DataType | None) -> int:
    """Bytes of a number; of what is none, as many as it takes to point to it.

    Real numbers of 16 bits are there twice: processors compute with them in 32.
    """
    if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return 2 + 4
    known = dtype not in (None, ir.DataType.UNDEFINED, ir.DataType.STRING)
    return math.ceil(dtype.itemsize) if known and dtype is not None else 8


def opset_of(body: Body) -> int:
    """Version of the standard operators in a graph or function."""
    imports = body.opset_imports
    return next((imports[domain] for domain in DOMAINS if domain in imports), 1)


def label(node: ir.Node) -> str:
    """A node's name, or its first output's where it has none."""
    return node.name or next((value.name for value in node.outputs if value.name), node.op_type)


def site_of(place: Place, inferred: ir.Node, name: str) -> Site:
    """Describe one convolution.

    Args:
        place: the node.
        inferred: the same node in the copy whose shapes are inferred.
        name: the site's name.
    """
    kind = place.node.op_type
    dtype = _input_type(inferred)
    text = Refusal("its input is text", Code.NO_NUMBERS)
    refusal = text if dtype == "string" else why_left(inferred)
    if refusal is not None:
        return Site(name, kind, None, dtype=dtype, refusal=refusal)
    try:
        convolution, sizes = geometry(inferred)
        moves = _moves_with_size(convolution, sizes)
        shape = known_shape(operands(inferred).get("x")) or (None,)
        excess = excess_of(convolution, sizes, 8 * (shape[0] or 1))
    except GeometryError as error:
        refusal = Refusal(str(error), error.code)
        return Site(name, kind, None, dtype=dtype, refusal=refusal)
    if excess is not None:
        return Site(name, kind, convolution, sizes, dtype, refusal=excess)
    if moves > place.opset:
        why = f"its padding depends on an unknown size, which opset {place.opset} cannot express"
        return Site(name, kind, None, dtype=dtype, refusal=Refusal(why, Code.OPSET))
    if _pads_integers(inferred) > place.opset:
        why = f"it has no zero point to pad with, which opset {place.opset} needs"
        return Site(name, kind, None, dtype=dtype, refusal=Refusal(why, Code.OPSET))
    methods = set(PatchMethod)
    if is_integer(inferred) or place.opset < 7:  # operators did not broadcast
        methods.remove(PatchMethod.TAPS)
    if is_integer(inferred) or place.opset < 10:  # slices had no steps
        methods.remove(PatchMethod.SHIFT)
    if place.opset < 10 and _strided(convolution) and not _pools(convolution, dtype):
        methods -= {PatchMethod.SLICE, PatchMethod.TAPS}
    if place.opset < 11 and None in convolution.framed(sizes)[1]:
        methods -= {PatchMethod.GATHER, PatchMethod.ROWS}  # nothing counts up there
    bias = "bias" in operands(inferred)
    return Site(
        *(name, kind, convolution, sizes, dtype, bias, frozenset(methods)),
        banded=place.opset >= 11,  # nothing counts up before
    )


def lowest_opset(inferred: ir.Node) -> int:
    """The version of the standard operators from which on patches + MatMul can be run.

    Args:
        inferred: a convolution, with its shapes.
    """
    if why_left(inferred) is not None:
        return 1
    try:
        convolution, sizes = geometry(inferred)
        moves = _moves_with_size(convolution, sizes)
    except GeometryError:
        return 1
    if max(moves, _pads_integers(inferred)) > 1:
        return max(moves, _pads_integers(inferred))
    if None in sizes and _strided(convolution):
        return 7 if _pools(convolution, _input_type(inferred)) else 10  # Slice with steps
    return 5  # no runtime knows the Reshape before


def _moves_with_size(convolution: AnyConvolution, sizes: Sizes) -> int:
    """The opset that pads or crops need if they depend on an unknown size, else 1."""
    framed, known = convolution.framed(sizes)
    if framed.inner(known).pads(known) is None:
        return 11  # Pad with computed amounts
    return 1 if known == sizes else 10  # Slice with computed starts


def _pads_integers(node: ir.Node) -> int:
    """The opset that pads of integers need if no zero point says which type they have, else 1."""
    return 11 if is_integer(node) and "x_zero" not in operands(node) else 1


def _strided(convolution: AnyConvolution) -> bool:
    """Whether slices of its input need steps; those of a transposed one do not."""
    return isinstance(convolution, Convolution) and any(w.stride > 1 for w in convolution.windows)


def _pools(convolution: AnyConvolution, dtype: str) -> bool:
    """Whether pooling of single numbers can make the steps of slices."""
    return dtype == "float32" and convolution.rank <= 3


def _input_type(node: ir.Node) -> str:
    """Numpy's name of the type of a convolution's input.

    Behind a custom operator nothing is inferred; then a zero point tells what it is the zero of.
    """
    given = operands(node)
    for value in (given.get("x"), given.get("x_zero")):
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        dtype = None if value is None else value.dtype
        if tensor is not None:
            dtype = tensor.dtype
        if dtype is not None and dtype is not ir.DataType.UNDEFINED:
            return numpy_name(dtype)
    return "uint8" if is_integer(node) else "float32"


def numpy_name(dtype: ir.DataType | None) -> str:
    """Numpy's name of an element type; float32 where the model does not say."""
    if dtype is None or dtype is ir.DataType.UNDEFINED:
        return "float32"
    return "string" if dtype is ir.DataType.STRING else str(dtype.numpy().name)
