"""The outline of a model: all of it but the numbers of its weights, in the record of its file.

It is what the way back from a converted file begins with: which nodes there were, in which order,
what they were called and what was told of them. The numbers are those of the converted file; of
kernels and biases there is a digest, which shows whether they have changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from convfc.formats.onnx.carried_types import unpack
from convfc.formats.onnx.emitter import constant_of
from convfc.formats.onnx.operators import is_convolution, operands
from convfc.formats.onnx.protos import first_line
from convfc.formats.onnx.reader import deserialized
from convfc.formats.onnx.sites import Place, convolutions, places, site_names
from convfc.formats.onnx.writer import Form, form_of, relist, undescribe
from convfc.formats.outline import content_of, damaged, digest_of, text_of

_FEW = 64
"""Bytes of a constant that is in the outline as it is: shapes, axes, limits."""
_NO_DIGEST = "elsewhere"


@dataclass(frozen=True)
class Outline:
    """A model without the numbers of its weights: zeros stand for them.

    Attributes:
        model: the model.
        form: of its file.
        places: its convolutions by the names of their sites.
        digests: of the numbers of kernels and biases.
    """

    model: ir.Model
    form: Form
    places: dict[str, Place]
    digests: dict[ir.Value, str]


def digest(tensor: ir.TensorProtocol) -> str:
    """Tells the numbers of a tensor from others."""
    found = digest_of(tensor.numpy())
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()  # or in the end the whole file would be in memory
    return found


def outline_of(model: ir.Model, form: Form) -> str:
    """The outline of a model that is going to be converted; empty where it would be too long.

    Args:
        model: stays as it is.
        form: of its file.
    """
    copy = model.clone()
    relist(copy, form)
    undescribe(copy, form)
    own, others = _operands(copy)
    for value, tensor in _constants(copy):
        if value in own or (value not in others and tensor.nbytes > _FEW):
            told = digest(tensor) if value in own else _NO_DIGEST
            _put(value, _placeholder(tensor, told))
    proto = ir.to_proto(copy)
    unpack(proto)
    return text_of(proto.SerializeToString())


def _operands(model: ir.Model) -> tuple[set[ir.Value], set[ir.Value]]:
    """Constants that convolutions read: kernels and biases, and all others, which are small."""
    own: set[ir.Value] = set()
    others: set[ir.Value] = set()
    for node in (place.node for place in places(model) if is_convolution(place.node)):
        for role, value in operands(node).items():
            if role != "x":
                (own if role in ("kernel", "bias") else others).add(value)
    return own, others - own


def _constants(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Every stored tensor but texts: weights, those that callers may replace, and constants."""
    stored = [value for graph in model.graphs() for value in graph.initializers.values()]
    made = [value for place in places(model) for value in place.node.outputs]
    for value in (*stored, *(v for v in made if _constant_node(v) is not None)):
        tensor = value.const_value if value.is_initializer() else constant_of(value)
        if tensor is not None and tensor.dtype is not ir.DataType.STRING:
            yield value, tensor


def _constant_node(value: ir.Value) -> ir.Node | None:
    """The Constant with a tensor that makes a value."""
    node = value.producer()
    return (
        node
        if node is not None and node.op_type == "Constant" and "value" in node.attributes
        else None
    )


def _put(value: ir.Value, tensor: ir.TensorProtocol) -> None:
    node = _constant_node(value)
    if node is None:
        value.const_value = tensor
    else:
        node.attributes["value"] = ir.AttrTensor("value", tensor)


def _placeholder(tensor: ir.TensorProtocol, told: str) -> ir.TensorProtocol:
    return ir.ExternalTensor(
        *(told, None, None, tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def read_outline(text: str, path: Path) -> Outline:
    """What `outline_of` wrote.

    Args:
        text: the outline.
        path: the file that it was found in, for the message.

    Raises:
        FileError: it is none.
    """
    try:
        proto = onnx.ModelProto.FromString(content_of(text))
        form, model = form_of(proto), deserialized(proto)
        digests = {}
        for value, tensor in _constants(model):
            if isinstance(tensor, ir.ExternalTensor):
                digests[value] = str(tensor.location)
                _put(value, _zeros(tensor))
        found = [place for place, _ in convolutions(model, model)]
    except Exception as error:  # onnx_ir has many kinds for what is no model
        raise damaged(path, first_line(error)) from error
    return Outline(model, form, dict(zip(site_names(found), found, strict=True)), digests)


def put_zeros(value: ir.Value, shape: Sequence[int]) -> None:
    """Let zeros of another shape stand for a weight."""
    tensor = constant_of(value)
    assert tensor is not None  # noqa: S101 - it is a weight
    like = ir.ExternalTensor(
        "", None, None, tensor.dtype, shape=ir.Shape(shape), name=tensor.name or ""
    )
    _put(value, _zeros(like))
    value.shape = ir.Shape(shape)


def _zeros(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """What stands for the numbers of a weight; made when somebody looks at it."""
    shape, dtype = tensor.shape.numpy(), tensor.dtype
    return ir.LazyTensor(
        lambda: ir.Tensor(np.zeros(shape, dtype.numpy()), dtype=dtype),
        dtype=dtype,
        shape=ir.Shape(shape),
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )
