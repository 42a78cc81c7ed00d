"""One convolution of an ONNX file twice, alone: the original's node and what replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.core.lowering import Lowering
from convfc.core.quantization import Quantization
from convfc.core.whole import Form
from convfc.errors import UnsupportedModelError
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.alignment import Replacement
from convfc.formats.onnx.demand import demand_of
from convfc.formats.onnx.float64 import widen
from convfc.formats.onnx.operators import is_integer, known_shape, operands, operator_of
from convfc.formats.onnx.polynomial import why_not_polynomial
from convfc.formats.onnx.runtimes import Reference, Session, run_anywhere
from convfc.formats.onnx.sites import numpy_name
from convfc.formats.onnx.standalone import Standalone, tensor_of
from convfc.formats.onnx.structure import Difference, first_difference, tensor_difference
from convfc.formats.onnx.zero_points import quantization_of
from convfc.formats.protocols import Site
from convfc.refusals import Code

DType = np.dtype[Any]


class OnnxLayerPair:
    """See `convfc.formats.protocols.LayerPair` for the members.

    Args:
        site: the convolution.
        replacement: its node in the original and the nodes in the converted file.
        expected: what the emitter makes of the original's node, in the whole model.
        lowering: how it was lowered.
        ir_version: of the original.
        batch: of the layer's input, if that is fixed.
        forms: how the converted file's products are written.
    """

    def __init__(
        self,
        site: Site,
        replacement: Replacement,
        expected: ir.Value,
        lowering: Lowering,
        ir_version: int,
        batch: int | None,
        forms: Forms = DEFAULT,
    ) -> None:
        self.site = site
        self._replacement = replacement
        self._expected = expected
        self._lowering = lowering
        self._batch = batch
        self._alone = Standalone(site, replacement, lowering, ir_version, forms)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """See `LayerPair.input_shape`."""
        convolution = self._lowering.convolution
        return (self._batch, convolution.channels, *self.site.sizes)

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """See `LayerPair.smallest_shape`."""
        convolution = self._lowering.convolution
        sizes = (window.probe_size for window in convolution.windows)
        return (self._batch or 1, convolution.channels, *sizes)

    @property
    def form(self) -> Form:
        """See `LayerPair.form`."""
        return self._lowering.form

    @property
    def stages(self) -> tuple[int, ...]:
        """See `LayerPair.stages`."""
        return (self._lowering.convolution.patch_length,)

    @cached_property
    def parameters(self) -> Mapping[str, Array | None]:
        """See `LayerPair.parameters`."""
        given = operands(self._replacement.place.node)
        values = [given[role] for role in ("kernel", "bias") if role in given]
        fed = self._replacement.place.node.inputs[0]
        return {v.name: _stored(v) for v in values if v.name and v is not fed}

    def parameter_dtype(self, name: str) -> str:
        """See `LayerPair.parameter_dtype`."""
        given = operands(self._replacement.place.node)
        role, value = next((role, v) for role, v in given.items() if v.name == name)
        if role == "bias" and self.rounds_to_integers:
            return "int32"  # whatever the rest is made of
        tensor = tensor_of(value)
        dtype = value.dtype if tensor is None else tensor.dtype
        return self.site.dtype if dtype is None else numpy_name(dtype)

    channels_last = False

    @property
    def kernel_order(self) -> tuple[int, ...]:
        """See `LayerPair.kernel_order`."""
        return (*range(2, self._lowering.convolution.rank + 2), 1, 0)

    @property
    def quantization(self) -> Quantization | None:
        """See `LayerPair.quantization`."""
        node, filters = self._replacement.place.node, self._lowering.convolution.filters
        return quantization_of(node, filters) if is_integer(node) else None

    @property
    def rounds_to_integers(self) -> bool:
        """See `LayerPair.rounds_to_integers`."""
        return operator_of(self._replacement.place.node).rounds

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """See `LayerPair.parameter_shape`."""
        node, convolution = self._replacement.place.node, self._lowering.convolution
        if name != operands(node)["kernel"].name:
            return (convolution.filters,)
        channels, filters, groups = convolution.channels, convolution.filters, convolution.groups
        return (*operator_of(node).axes(channels, filters, groups), *convolution.kernel)

    @cached_property
    def _difference(self) -> Difference | None:
        place, nodes = self._replacement.place, set(self._replacement.nodes)
        given = {value.name for value in place.node.inputs if value}
        return first_difference(self._expected, self._replacement.end, given, nodes, place.opset)

    @property
    def structure(self) -> str | None:
        """See `LayerPair.structure`."""
        return None if self._difference is None else self._difference.text

    @property
    def problem(self) -> str | None:
        """See `LayerPair.problem`."""
        found = self._difference
        if found is None or not found.in_numbers:
            return None
        return f"its parameters are not the convolution's: {found.text}"

    @cached_property
    def unshown(self) -> str | None:
        """See `LayerPair.unshown`."""
        node, pairs = self._replacement.place.node, self._paired_matrices
        if pairs is None or any(tensor_difference(a, b) is not None for a, b in pairs):
            return "its numbers are not laid out as convfc lays them out"
        if None in self.site.sizes:
            return "its sizes are open, and its constants may depend on them"
        if is_integer(node):
            return "its sums may wrap around"
        fed = next(
            (
                v
                for n in self._replacement.nodes
                for v in n.inputs
                if v and v.name == self._alone.fed
            ),
            None,
        )
        if fed is None:
            return f"it does not read '{self._alone.fed}'"
        names = {name for name, _ in self._alone.matrices(self._replacement.end)}
        names |= {value.name for value in node.inputs[1:] if value is not None}
        rank, degree = len(self.input_shape), len(self.stages) + 1
        batched = self._batch is None
        return why_not_polynomial(self._replacement.end, fed, rank, names, degree, batched=batched)

    @cached_property
    def _paired_matrices(self) -> list[tuple[ir.TensorProtocol, ir.TensorProtocol]] | None:
        """Its constants of real or 8-bit numbers beside those that convfc emits.

        ``None`` if they are not as many, so that nobody knows which stands for which.
        """
        mine, theirs = (
            self._alone.matrices(self._replacement.end),
            self._alone.matrices(self._alone.emitted({}).graph),
        )
        if len(mine) != len(theirs):
            return None
        return [(a, b) for (_, a), (_, b) in zip(mine, theirs, strict=True)]

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.run`."""
        return self.original(x, parameters), self._run(self._converted(parameters), x)

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        """See `LayerPair.original`."""
        return self._run(self._alone.original({**self._stand_ins, **parameters}), x)

    def _converted(self, parameters: Mapping[str, Array]) -> ir.Model:
        given = {**self._stand_ins, **parameters}
        return self._alone.converted(given, own=self.structure is None)

    @cached_property
    def _stand_ins(self) -> Mapping[str, Array]:
        """Numbers for scales and zero points that a layer gets at run time, by name."""
        given, random = operands(self._replacement.place.node), np.random.default_rng(0)
        filters = self._lowering.convolution.filters

        def one_or_each(role: str) -> tuple[int, ...]:
            shape = known_shape(given.get(role)) or ()
            return tuple(filters if size is None else size for size in shape)

        def zeros(dtype: DType, shape: tuple[int, ...] = ()) -> Array:
            return random.integers(0, 100, shape).astype(dtype)

        kernel = np.dtype(self.parameter_dtype(given["kernel"].name or ""))
        # onnxruntime wants no zero point but 0 of a kernel with a sign.
        signed = kernel == np.int8
        numbers: dict[str, Array] = {
            "x_scale": np.array(0.03, np.float32),
            "x_zero": zeros(np.dtype(self.site.dtype)),
            "kernel_scale": np.full(one_or_each("kernel_scale"), 0.05, np.float32),
            "kernel_zero": zeros(kernel, one_or_each("kernel_zero")) * kernel.type(not signed),
            "y_scale": np.array(7, np.float32),
            "y_zero": zeros(self._alone.output_type.numpy()),
        }
        return {
            value.name: numbers[role]
            for role, value in given.items()
            if role in numbers and value.name and tensor_of(value) is None
        }

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.exact`."""
        given = {**self._stand_ins, **parameters}
        models = self._alone.original(given), self._converted(parameters)
        a, b = (self._run_widely(model, x) for model in models)
        return a, b

    def _run(self, model: ir.Model, x: Array) -> Array:
        y, feed, whole = self._fed(model, x)
        proto = ir.to_proto(model)
        if not whole:  # onnx's evaluator makes what it is asked for before it sees what is wrong
            return Session(proto.SerializeToString(), self.site.name).run([y], feed)[0]
        return run_anywhere(proto, [y], feed, self.site.name)[0]

    def _fed(self, model: ir.Model, x: Array) -> tuple[str, dict[str, Array], bool]:
        """The name of what comes out, what goes in, and whether all sizes follow from that.

        A wrong layer may read nothing at all. What convfc emits takes what is known, but others'
        nodes anything.
        """
        names = [value.name or "" for value in model.graph.inputs]
        feed, whole = dict.fromkeys(names[:1], x), True
        if self.structure is not None:
            # A copy through its message, as what branches read by name is of the whole model.
            copy = ir.serde.deserialize_model(ir.to_proto(model))
            copy.graph.sort()
            found, whole = demand_of(copy, feed)
            if found is not None:
                found.check(feed, self.site.name)
        return model.graph.outputs[0].name or "", feed, whole

    def _run_widely(self, model: ir.Model, x: Array) -> Array:
        """In float64, by an evaluator of which we know that it takes no short cuts.

        Half precision is computed in float32, which is wide enough and quick. Integers stay what
        they are, and so does what scales and rounds them.
        """
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
            widen(model, ir.DataType.FLOAT)
            return self._run(model, x.astype(np.float32))
        if x.dtype.kind not in "iu":
            widen(model)
            x = x.astype(np.float64)
        y, feed, whole = self._fed(model, x)
        if not whole:
            raise UnsupportedModelError(
                f"{self.site.name}: its sizes do not follow from its input", code=Code.NOT_RUN
            )
        return Reference(ir.to_proto(model), self.site.name).run([y], feed)[0]


def _stored(value: ir.Value) -> Array | None:
    tensor = tensor_of(value)
    return None if tensor is None else tensor.numpy()
