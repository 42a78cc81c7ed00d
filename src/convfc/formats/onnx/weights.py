"""The numbers of an ONNX file's convolutions: read, and replaced where they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from convfc.core.arrangement import put_back
from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution
from convfc.errors import GeometryError, UnsupportedModelError
from convfc.formats.onnx.ancestry import leading_to
from convfc.formats.onnx.chain import chain_of
from convfc.formats.onnx.computed_weights import is_computed
from convfc.formats.onnx.emitter import constant_of, constant_value
from convfc.formats.onnx.external import files_of
from convfc.formats.onnx.filter_matrix import channels_last
from convfc.formats.onnx.operators import is_integer, operands, operator_of
from convfc.formats.onnx.preparing import prepare
from convfc.formats.onnx.reader import read
from convfc.formats.onnx.runtimes import run_anywhere
from convfc.formats.onnx.sites import (
    Place,
    convolutions,
    label,
    numpy_name,
    places,
    site_names,
    site_of,
)
from convfc.formats.onnx.standalone import copies_of, in_memory, tensor_of
from convfc.formats.onnx.writer import write
from convfc.formats.onnx.zero_points import quantization_of
from convfc.formats.protocols import Site
from convfc.formats.provenance import KEY
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.formats.weights import Chain, Numbers, Unread, Weights
from convfc.refusals import Code, Refusal


class OnnxWeighted:
    """See `convfc.formats.weights.Weighted` for the members.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError: the file or its external data cannot be read.
        UnsupportedModelError: it holds something that would be lost on the way back.
        UsageError: it has no such input, or one that takes another shape.
    """

    def __init__(self, path: Path, reading: Reading = AS_IT_IS) -> None:
        self._path = path
        self._prepared = prepare(path, reading)
        self.files: Sequence[Path] = files_of(path, self._prepared.model)
        found = convolutions(self._prepared.model, self._prepared.inferred)
        names = site_names([place for place, _ in found])
        self._shaped = {shaped: name for name, (_, shaped) in zip(names, found, strict=True)}
        self._places = {name: place for name, (place, _) in zip(names, found, strict=True)}
        self._convolutions: dict[str, AnyConvolution] = {}
        self.layers: Sequence[Weights | Unread] = [
            self._layer(site_of(place, shaped, name), place)
            for name, (place, shaped) in zip(names, found, strict=True)
        ]

    @cached_property
    def chain(self) -> Chain:
        """See `Weighted.chain`."""
        return chain_of(self._prepared.inferred.graph, self._shaped)

    def _layer(self, site: Site, place: Place) -> Weights | Unread:
        conv, given = site.convolution, operands(place.node)
        if conv is None:
            why = site.refusal or Refusal("its geometry is not known", Code.UNKNOWN_KERNEL)
            return Unread(site.name, site.kind, why)
        try:
            conv.output(site.sizes)
        except GeometryError as error:
            return Unread(site.name, site.kind, Refusal(str(error), error.code))
        operands_ = [given[role] for role in ("kernel", "bias") if role in given]
        if not all(map(_is_known, operands_)):
            refusal = Refusal("its kernel or bias is computed at run time", Code.UNKNOWN_KERNEL)
            return Unread(site.name, site.kind, refusal)
        zero, scale, fixed = 0, 1.0, None
        reader = partial(_numbers, place, conv, self._path)
        if is_integer(place.node):
            try:
                quantization = quantization_of(place.node, conv.filters)
            except UnsupportedModelError as error:
                return Unread(site.name, site.kind, Refusal(str(error), error.code))
            zero = quantization.x_zero
            scale = 1.0 if quantization.scaling is None else quantization.scaling.x_scale
            fixed = "they are integers, with scales and zero points of their own"
        elif any(tensor_of(value) is None for value in operands_):
            fixed = "they are computed from others"
        self._convolutions[site.name] = conv
        named = site.name, site.name, site.kind
        tensor = tensor_of(given["kernel"])
        dtype = site.dtype if tensor is None else numpy_name(tensor.dtype)
        return Weights(*named, conv, site.sizes, True, reader, dtype, zero, scale, fixed)

    def save(self, path: Path, numbers: Mapping[str, Numbers]) -> None:
        """See `Weighted.save`."""
        tensors: dict[str, ir.TensorProtocol] = {}
        for name, given in numbers.items():
            node = self._places[name].node
            for role, array in arrays_of(given, self._convolutions[name], node).items():
                value = operands(node)[role]
                self._require_own(value, name)
                tensors[value.name or ""] = tensor_like(value, array)
        save_with(tensors, self.files, path)

    def _require_own(self, value: ir.Value, layer: str) -> None:
        """See that only convolutions read an operand.

        Raises:
            UnsupportedModelError: something else does.
        """
        nodes = {place.node for place in self._places.values()}
        for reader in (node for node, _ in value.uses() if node not in nodes):
            raise UnsupportedModelError(
                f"{self._path}: layer '{layer}': '{label(reader)}' reads '{value.name}', too",
                remedy="leave this layer as it is",
                layer=layer,
                code=Code.NOT_KEPT,
            )


def arrays_of(numbers: Numbers, conv: AnyConvolution, node: ir.Node) -> dict[str, Array]:
    """Kernel and bias as a node of ONNX has them, by their roles."""
    kernel, bias = numbers
    shape = (*operator_of(node).axes(conv.channels, conv.filters, conv.groups), *conv.kernel)
    own = put_back(kernel, shape, lambda array: channels_last(array, conv))
    found = {"kernel": own, "bias": bias}
    return {role: array for role, array in found.items() if array is not None}


def tensor_like(value: ir.Value, array: Array) -> ir.TensorProtocol:
    """Numbers of the type of a constant."""
    old = tensor_of(value)
    assert old is not None  # noqa: S101 - layers without are `fixed`
    with np.errstate(over="ignore"):
        return ir.Tensor(np.ascontiguousarray(array.astype(old.dtype.numpy())), dtype=old.dtype)


def save_with(tensors: Mapping[str, ir.TensorProtocol], files: Sequence[Path], path: Path) -> None:
    """Write a copy of a file in which constants have other numbers; all else is as it is there.

    Args:
        tensors: by the names of values, in whatever graph or function.
        files: the file, and those beside it that hold weights of it.
        path: where to write.

    Raises:
        UnsupportedModelError: there is no such constant of that type and shape, or more than one.
        OSError: the file cannot be written.
    """
    source, *apart = files
    model, _, _, form = read(source)  # what was read of it to find them has been changed since
    there = list(_constants(model))
    for name, new in tensors.items():
        found = [value for value in there if value.name == name]
        old = tensor_of(found[0]) if len(found) == 1 else None
        same = old is not None and (old.dtype, old.shape) == (new.dtype, new.shape)
        if not same:
            raise UnsupportedModelError(
                f"{source}: its weight '{name}' is not stored as it is read: operators that were "
                "fused or functions were taken apart",
                remedy="convert it, and give the converted file the numbers",
                code=Code.NOT_KEPT,
            )
        (value,) = found
        node = value.producer()
        if node is None:
            value.const_value = new
        else:
            node.attributes.clear()
            node.attributes.add(ir.AttrTensor("value", new))
    write(model, path, form, model.metadata_props.get(KEY, ""), apart=bool(apart))


def _constants(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()
    for place in places(model):
        if place.node.op_type == "Constant" and constant_of(place.node.outputs[0]) is not None:
            yield place.node.outputs[0]


def _is_known(value: ir.Value) -> bool:
    return tensor_of(value) is not None or is_computed(value)


def _numbers(place: Place, conv: AnyConvolution, path: Path) -> Numbers:
    """Kernel and bias of a node, as real numbers."""
    node = place.node
    given = operands(node)
    kernel = channels_last(_array(given["kernel"], place, path), conv)
    bias = _array(given["bias"], place, path) if "bias" in given else None
    if not is_integer(node):
        return kernel, bias
    quantization = quantization_of(node, conv.filters)
    kernel = kernel.astype(np.float64) - quantization.kernel_zeros
    if quantization.scaling is None:
        return kernel, bias
    scales = quantization.scaling.kernel_scales.astype(np.float64)
    if bias is not None:
        bias = bias * scales * quantization.scaling.x_scale
    return kernel * scales, bias


def _array(value: ir.Value, place: Place, path: Path) -> Array:
    """A constant, or what constants make; real numbers that numpy has not itself in float32."""
    tensor = tensor_of(value)
    found = _evaluated(value, place, path) if tensor is None else tensor.numpy()
    own = found.dtype.kind in "fiu"
    return found if own else found.astype(np.float32)


def _evaluated(value: ir.Value, place: Place, path: Path) -> Array:
    """What nodes that read nothing but constants make."""
    end = value.producer()
    assert end is not None  # noqa: S101 - it is computed
    nodes = leading_to(end, set())
    inner = {made for node in nodes for made in node.outputs}
    known: dict[str | None, ir.Value] = {
        given.name: constant_value(given.name or "", in_memory(tensor))
        for node in nodes
        for given in node.inputs
        if given is not None and given not in inner and (tensor := tensor_of(given)) is not None
    }
    stored = list(known.values())
    copies = copies_of(nodes, known)
    last = known[value.name]
    last.type = ir.TensorType(value.dtype or ir.DataType.FLOAT)
    opsets = dict(place.body.opset_imports)
    graph = ir.Graph(
        [], [last], nodes=copies, initializers=stored, opset_imports=opsets, name="weights"
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    return np.asarray(run_anywhere(proto, [value.name or ""], {}, str(path))[0])
