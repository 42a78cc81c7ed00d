"""Bringing a model into a form in which its convolutions can be replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from convfc.core.geometry import Sizes
from convfc.core.whole import MaxPool
from convfc.formats.onnx.affine import as_convolutions
from convfc.formats.onnx.carried_types import carried, unpack
from convfc.formats.onnx.fixed_sizes import fixed, restate
from convfc.formats.onnx.flat_ports import flatten_ports
from convfc.formats.onnx.gemm import biased
from convfc.formats.onnx.inlining import inlined, readiness, undetermined
from convfc.formats.onnx.protos import first_line, read_proto
from convfc.formats.onnx.raising import raised
from convfc.formats.onnx.reader import copies_of, read
from convfc.formats.onnx.sites import convolutions, lowest_opset, opset_of, places
from convfc.formats.onnx.unfused import CAUSAL, DEFORMED, is_fused, unfused
from convfc.formats.onnx.writer import Form, form_of
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.text.sizes import sizes_text


@dataclass(frozen=True)
class Prepared:
    """A model to be converted.

    Attributes:
        model: the model.
        inferred: the same with every shape that can be inferred; see `reader.read`.
        altered: it as a message, if it is no longer what the file holds.
        remarks: what was done to it and what it takes for granted, a sentence each.
        ambiguous: what may be read in two ways in the file, a phrase each.
        form: what is to be written as the file had it.
        flat: by the name of an input or output that is rows now, the shape that it had.
    """

    model: ir.Model
    inferred: ir.Model
    altered: onnx.ModelProto | None
    remarks: tuple[str, ...]
    ambiguous: tuple[str, ...]
    form: Form
    flat: Mapping[str, Sizes]


def prepare(path: Path, reading: Reading = AS_IT_IS) -> Prepared:
    """Read a model file, open up functions and raise the opset where a convolution needs that.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError, UnsupportedModelError: see `reader.read`.
        UsageError: see `fixed_sizes.fixed`.
    """
    shapes = reading.shapes
    model, inferred, ambiguous, form = read(path)
    altered: onnx.ModelProto | None = None
    remarks = []
    if shapes:
        altered = fixed(read_proto(path), shapes)
        model, inferred = copies_of(path, altered, shapes)
    if _has_fused(model):
        plain, counts = unfused(read_proto(path) if altered is None else altered)
        if counts:
            altered = plain
            model, inferred = copies_of(path, altered, shapes)
        deformed, causal = counts.pop(DEFORMED, 0), counts.pop(CAUSAL, 0)
        if counts:
            remarks.append(
                "Convolutions that onnxruntime's optimizer fused with what is around them, now in "
                f"standard operators again: {counts.total()}."
            )
        if deformed:
            remarks.append(
                "Deformable convolutions, now a sampling of their input and a convolution of "
                f"that: {deformed}."
            )
        if causal:
            remarks.append(
                f"Causal convolutions, now one of what comes in behind what came before: {causal}."
            )
    if undetermined(inferred):
        opened = _opened_up(path, read_proto(path) if altered is None else altered)
        if opened is not None:
            before = len(model.functions)
            altered, model, inferred = opened
            remarks.append(
                f"{before - len(model.functions)} of {before} functions hold convolutions that "
                "each caller determines; they stand in the places of their calls now."
            )
    needed = max((lowest_opset(node) for _, node in convolutions(model, inferred)), default=1)
    before = opset_of(model.graph)
    if needed > before:
        newer = _raised(path, read_proto(path) if altered is None else altered, needed)
        if isinstance(newer, str):
            remarks.append(f"The opset stays {before}: {newer}.")
        else:
            altered, model, inferred = newer
            remarks.append(
                f"The opset was raised from {before} to {needed}, which patches + MatMul need here."
            )
    flat: Mapping[str, Sizes] = {}
    if reading.affine or reading.flat_io:
        proto = read_proto(path) if altered is None else altered
        with carried(proto):
            shell = ir.serde.deserialize_model(proto)
        affine = (
            as_convolutions(shell, model, inferred, max_pool=reading.max_pool is MaxPool.RELU)
            if reading.affine
            else Counter[str]()
        )
        zeros = biased(shell, model, inferred) if reading.biased else 0
        flat = flatten_ports(shell, inferred) if reading.flat_io else {}
        if affine or zeros or flat:
            altered = ir.serde.serialize_model(shell)
            unpack(altered)
            model, inferred = copies_of(path, altered, shapes)
        if affine:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(affine.items()))
            remarks.append(
                f"Now part of a neighbour, or a matrix (MaxPool: matrices and ReLU): {kinds}."
            )
        if zeros:
            remarks.append(f"Zeros are added now where {zeros} products had no bias.")
        for name, (_, *sizes) in flat.items():
            remarks.append(
                f"'{name}' is flat now: a row has its {sizes_text(sizes)} in that order."
            )
    if model.ir_version < 4 and convolutions(model, inferred):
        remarks.append(
            f"Its IR version {model.ir_version} lists all weights as inputs; they are "
            "constants here, as they are to onnxruntime."
        )
    if altered is not None:
        form = form_of(altered)
    if shapes:
        restate(model, inferred)
    return Prepared(model, inferred, altered, tuple(remarks), ambiguous, form, flat)


def _has_fused(model: ir.Model) -> bool:
    return any(is_fused(place.node) for place in places(model))


_Altered = tuple[onnx.ModelProto, ir.Model, ir.Model]


def _opened_up(path: Path, proto: onnx.ModelProto) -> _Altered | None:
    """Put functions in the places of their calls until their convolutions are determined.

    Returns:
        ``None`` if that helps none of them.
    """
    model, inferred = copies_of(path, proto)
    first = readiness(inferred)
    while functions := undetermined(inferred):
        try:
            proto = inlined(proto, functions)
        except Exception:  # onnx_ir has many kinds, for functions that take graphs for example
            return None
        model, inferred = copies_of(path, proto)
    return (proto, model, inferred) if readiness(inferred) > first else None


def _raised(path: Path, proto: onnx.ModelProto, opset: int) -> _Altered | str:
    """The model with a newer version of the standard operators, without functions.

    Returns:
        Why not, if it cannot have that.
    """
    try:
        functions = {(f.domain, f.name, f.overload) for f in proto.functions}
        newer = raised(inlined(proto, functions) if functions else proto, opset)
        return newer, *copies_of(path, newer)
    except Exception as error:  # functions that take graphs, and what reading does not take
        return first_line(error)
