"""One convolution of an ONNX file twice, alone: the original's node and what replaces it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.lowering import Lowering
from convfc.model import Quantization, Site
from convfc.onnx_model.cutting import Cut, tensor_difference
from convfc.onnx_model.emitting import constant_of
from convfc.onnx_model.operators import is_integer, known_shape, operands
from convfc.onnx_model.rewriting import rewrite
from convfc.onnx_model.running import Reference, run_anywhere
from convfc.onnx_model.sites import numpy_name, places
from convfc.onnx_model.widening import widen
from convfc.onnx_model.zero_points import quantization_of

Array = NDArray[Any]
DType = np.dtype[Any]


class OnnxTwin:
    """See `convfc.model.Twin` for the members.

    Args:
        site: the convolution.
        cut: its node in the original and the nodes in the converted file.
        lowering: how it was lowered.
        ir_version: of the original.
    """

    def __init__(self, site: Site, cut: Cut, lowering: Lowering, ir_version: int) -> None:
        self.site = site
        self._cut = cut
        self._lowering = lowering
        self._ir_version = ir_version

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """See `Twin.input_shape`."""
        convolution = self._lowering.convolution
        return (None, convolution.channels, *self.site.sizes)

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """See `Twin.smallest_shape`."""
        convolution = self._lowering.convolution
        sizes = (window.ample for window in convolution.windows)
        return (1, convolution.channels, *sizes)

    @property
    def stages(self) -> tuple[int, ...]:
        """See `Twin.stages`."""
        return (self._lowering.convolution.patch_length,)

    @cached_property
    def parameters(self) -> Mapping[str, Array | None]:
        """See `Twin.parameters`."""
        given = operands(self._cut.place.node)
        values = [given[role] for role in ("kernel", "bias") if role in given]
        fed = self._cut.place.node.inputs[0]
        return {v.name: _stored(v) for v in values if v.name and v is not fed}

    def parameter_dtype(self, name: str) -> str:
        """See `Twin.parameter_dtype`."""
        value = next(v for v in self._cut.place.node.inputs if v is not None and v.name == name)
        tensor = _tensor(value)
        dtype = value.dtype if tensor is None else tensor.dtype
        return self.site.dtype if dtype is None else numpy_name(dtype)

    channels_last = False

    @property
    def quantization(self) -> Quantization | None:
        """See `Twin.quantization`."""
        node, filters = self._cut.place.node, self._lowering.convolution.filters
        return quantization_of(node, filters, _tensor) if is_integer(node) else None

    @property
    def rounds_to_integers(self) -> bool:
        """See `Twin.rounds_to_integers`."""
        return self._cut.place.node.op_type == "QLinearConv"

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """See `Twin.parameter_shape`."""
        node, convolution = self._cut.place.node, self._lowering.convolution
        if name != operands(node)["kernel"].name:
            return (convolution.filters,)
        depth, filters = convolution.channels // convolution.groups, convolution.filters
        outer = (filters, depth)
        if node.op_type == "ConvTranspose":
            outer = (convolution.channels, filters // convolution.groups)
        return (*outer, *convolution.kernel)

    @cached_property
    def problem(self) -> str | None:
        """See `Twin.problem`."""
        made = {value.name for node in self._cut.nodes for value in node.outputs}
        given = {value.name for value in self._cut.place.node.inputs if value}
        for value in (value for node in self._cut.nodes for value in node.inputs if value):
            if value.name not in made | given and _tensor(value) is None:
                return f"it reads '{value.name}', which the convolution does not"
        lowered = self._lowered({}).graph
        extra = _operators(self._cut.nodes) - _operators(lowered)
        if extra:
            return f"it holds {', '.join(sorted(extra))}, which convfc does not put there"
        mine, theirs = self._matrices(self._cut.nodes), self._matrices(lowered)
        if len(mine) != len(theirs):
            return f"it holds {len(mine)} matrices of numbers instead of {len(theirs)}"
        for (_, tensor), (_, expected) in zip(mine, theirs, strict=True):
            difference = tensor_difference(expected, tensor)
            if difference is not None:
                return f"its filter matrix is not the kernel: it {difference}"
        return None

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `Twin.run`."""
        replacement = self._replacement({**self._stand_ins, **parameters})
        return self.original(x, parameters), self._run(replacement, x)

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        """See `Twin.original`."""
        return self._run(self._alone({**self._stand_ins, **parameters}), x)

    @cached_property
    def _stand_ins(self) -> Mapping[str, Array]:
        """Numbers for scales and zero points that a layer gets at run time, by name."""
        given, random = operands(self._cut.place.node), np.random.default_rng(0)
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
            "y_zero": zeros(self._output_type.numpy()),
        }
        return {
            value.name: numbers[role]
            for role, value in given.items()
            if role in numbers and value.name and _tensor(value) is None
        }

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `Twin.exact`."""
        given = {**self._stand_ins, **parameters}
        models = self._alone(given), self._replacement(given)
        a, b = (self._run_widely(model, x) for model in models)
        return a, b

    def _alone(self, parameters: Mapping[str, Array], *, constant: bool = True) -> ir.Model:
        """The original's node as a model, `parameters` in the place of its own.

        What is computed at run time or can be overridden is a constant here, or else an input.
        """
        node = self._cut.place.node
        values = {
            value.name: self._copy(value, parameters)
            if constant or constant_of(value) is not None
            else self._input(value)
            for value in node.inputs
            if value is not None
        }
        return self._model(values, [node])

    def _lowered(self, parameters: Mapping[str, Array]) -> ir.Model:
        """What convfc makes of the original's node today: it knows where parameters go."""
        model = self._alone(parameters, constant=False)
        place = next(iter(places(model)))
        first = self._cut.nodes[-1].op_type == "Reshape"
        rewrite(model, {self.site.name: (place, self._lowering)}, channels_first=first)
        return model

    def _replacement(self, parameters: Mapping[str, Array]) -> ir.Model:
        """The converted file's nodes as a model, `parameters` in the place of its own."""
        values: dict[str | None, ir.Value] = {}
        produced = {value.name for node in self._cut.nodes for value in node.outputs}
        originals = {value.name: value for value in self._cut.place.node.inputs if value}
        matrices = {}
        if parameters:
            lowered = [tensor for _, tensor in self._matrices(self._lowered(parameters).graph)]
            names = [name for name, _ in self._matrices(self._cut.nodes)]
            matrices = dict(zip(names, lowered, strict=True))
        for node in self._cut.nodes:
            for value in node.inputs:
                if value is not None and value.name not in produced:
                    source = originals.get(value.name, value)
                    values[value.name] = self._copy(source, parameters)
        for name, tensor in matrices.items():
            if name in values:
                values[name].const_value = tensor
        return self._model(values, self._cut.nodes, matrices)

    def _matrices(
        self, nodes: Sequence[ir.Node] | ir.Graph
    ) -> list[tuple[str | None, ir.TensorProtocol]]:
        """Every constant of real or 8-bit numbers that the nodes read, in their order, each once.

        Those of more bits are indices and shapes; the convolution's own inputs are not among them.
        """
        found: dict[str | None, ir.TensorProtocol] = {}
        own = {value.name for value in self._cut.place.node.inputs if value}
        # Where there are no integer constants, Casts of real ones stand for them.
        reading = [node for node in nodes if node.op_type != "Cast"]
        for value in (value for node in reading for value in node.inputs if value):
            tensor = _tensor(value)
            if tensor is not None and value.name not in own and _is_numbers(tensor.dtype):
                found.setdefault(value.name, tensor)
        return list(found.items())

    def _model(
        self,
        values: Mapping[str | None, ir.Value],
        nodes: Sequence[ir.Node],
        matrices: Mapping[str | None, ir.TensorProtocol] | None = None,
    ) -> ir.Model:
        known = dict(values)
        copies = []
        for node in nodes:
            attributes = list(node.attributes.values())
            if node.op_type == "Constant" and matrices and node.outputs[0].name in matrices:
                attributes = [ir.AttrTensor("value", matrices[node.outputs[0].name])]
            inputs = [None if value is None else known[value.name] for value in node.inputs]
            outputs = [ir.Value(name=value.name) for value in node.outputs]
            known.update({value.name: value for value in outputs})
            copies.append(ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs))
        end = copies[-1].outputs[0]
        end.type = ir.TensorType(self._output_type)
        graph = ir.Graph(
            [value for value in values.values() if value.const_value is None],
            [end],
            nodes=copies,
            initializers=[value for value in values.values() if value.const_value is not None],
            opset_imports={"": self._cut.place.opset},
            name=self.site.name,
        )
        return ir.Model(graph, ir_version=max(self._ir_version, 4))

    def _copy(self, value: ir.Value, parameters: Mapping[str, Array]) -> ir.Value:
        """A value for a model of its own: constant where it was, or where a parameter says.

        What the convolution slides over is an input here, whatever it was.
        """
        name = value.name or ""
        tensor = ir.tensor(parameters[name]) if name in parameters else _tensor(value)
        if tensor is None or value is self._cut.place.node.inputs[0]:
            return self._input(value)
        if isinstance(tensor, ir.ExternalTensor):  # a model in memory has no folder to look in
            tensor = ir.Tensor(tensor.numpy(), dtype=tensor.dtype)
        shape = ir.Shape(tensor.shape.numpy())
        return ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor
        )

    def _input(self, value: ir.Value) -> ir.Value:
        return ir.Value(name=value.name, type=ir.TensorType(_type_named(self.site.dtype)))

    @property
    def _output_type(self) -> ir.DataType:
        node = self._cut.place.node
        if node.op_type == "ConvInteger":
            return ir.DataType.INT32
        if node.op_type == "QLinearConv" and (zero := node.inputs[7]) is not None:
            tensor = _tensor(zero)
            return ir.DataType.UINT8 if tensor is None else tensor.dtype
        return _type_named(self.site.dtype)

    def _run(self, model: ir.Model, x: Array) -> Array:
        y, name = model.graph.outputs[0].name or "", model.graph.inputs[0].name or ""
        return run_anywhere(ir.to_proto(model), [y], {name: x}, self.site.name)[0]

    def _run_widely(self, model: ir.Model, x: Array) -> Array:
        """In float64, by an evaluator of which we know that it takes no short cuts.

        Integers stay what they are, and so does what scales and rounds them.
        """
        y, name = model.graph.outputs[0].name or "", model.graph.inputs[0].name or ""
        if x.dtype.kind not in "iu":
            widen(model)
            x = x.astype(np.float64)
        return Reference(ir.to_proto(model), self.site.name).run([y], {name: x})[0]


def _type_named(name: str) -> ir.DataType:
    if name == "bfloat16":
        return ir.DataType.BFLOAT16
    return ir.DataType.from_numpy(np.dtype(name))


def _is_numbers(dtype: ir.DataType) -> bool:
    return dtype.is_floating_point() or dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def _tensor(value: ir.Value) -> ir.TensorProtocol | None:
    return value.const_value if value.is_initializer() else constant_of(value)


def _stored(value: ir.Value) -> Array | None:
    tensor = _tensor(value)
    return None if tensor is None else tensor.numpy()


def _operators(nodes: Sequence[ir.Node] | ir.Graph) -> set[str]:
    """What the nodes do; how a constant comes about does not count."""
    return {
        f"{node.op_type} to {to.value}" if (to := node.attributes.get("to")) else node.op_type
        for node in nodes
        if not all(value and constant_of(value) for value in node.inputs)
    }
