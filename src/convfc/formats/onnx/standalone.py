"""One layer as a model of its own: the original's node, what is emitted for it, what a file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from convfc.core.arrays import Array
from convfc.core.lowering import Lowering
from convfc.errors import UnsupportedModelError
from convfc.formats.forms import DEFAULT, Forms
from convfc.formats.onnx.alignment import Replacement
from convfc.formats.onnx.emitter import constant_of, constant_value
from convfc.formats.onnx.operators import operands, operator_of
from convfc.formats.onnx.rewriting import rewrite
from convfc.formats.onnx.sites import places
from convfc.formats.onnx.structure import is_numbers
from convfc.formats.protocols import Site
from convfc.refusals import Code


class Standalone:
    """Makes the models.

    Args:
        site: the convolution.
        replacement: its node in the original and the nodes in the converted file.
        lowering: how it was lowered.
        ir_version: of the original.
        forms: how the file's products are written.
    """

    def __init__(
        self,
        site: Site,
        replacement: Replacement,
        lowering: Lowering,
        ir_version: int,
        forms: Forms = DEFAULT,
    ) -> None:
        self._site = site
        self._replacement = replacement
        self._lowering = lowering
        self._ir_version = ir_version
        self._forms = forms

    @property
    def fed(self) -> str | None:
        """Name of what the convolution slides over."""
        value = self._replacement.place.node.inputs[0]
        return None if value is None else value.name

    def original(self, parameters: Mapping[str, Array], *, constant: bool = True) -> ir.Model:
        """The original's node as a model, `parameters` in the place of its own.

        What is computed at run time or can be overridden is a constant here, or else an input.
        """
        node = self._replacement.place.node
        values = {
            value.name: self._copy(value, parameters)
            if constant or constant_of(value) is not None
            else self._input(value)
            for value in node.inputs
            if value is not None
        }
        return self._model(values, [node])

    def emitted(self, parameters: Mapping[str, Array]) -> ir.Model:
        """What convfc makes of the original's node today: it knows where parameters go."""
        model = self.original(parameters, constant=False)
        graph, place = model.graph, next(iter(places(model)))
        first = self._replacement.end.producer()
        reshapes = first is not None and first.op_type == "Reshape"
        rewrite(model, {self._site.name: (place, self._lowering)}, reshapes, self._forms)
        # Laid out at run time, as the layer has them; from here on they may be constants.
        originals = [
            value for value in self._replacement.place.node.inputs[1:] if value is not None
        ]
        stored = {value.name or "": value.const_value for value in originals if parameters}
        stored |= {name: ir.tensor(array) for name, array in parameters.items()}
        for value in [value for value in graph.inputs if stored.get(value.name or "") is not None]:
            value.const_value = stored[value.name or ""]
            graph.inputs.remove(value)
            graph.register_initializer(value)
        return model

    def converted(self, parameters: Mapping[str, Array], *, own: bool) -> ir.Model:
        """The converted file's nodes as a model, `parameters` in the place of its own.

        Where its structure is the emitter's `own`, that is what the emitter makes with those.

        Raises:
            UnsupportedModelError: nobody knows where the parameters go.
        """
        if parameters and own:
            return self.emitted(parameters)
        values: dict[str | None, ir.Value] = {}
        produced = {value.name for node in self._replacement.nodes for value in node.outputs}
        originals = {value.name: value for value in self._replacement.place.node.inputs if value}
        matrices = {}
        if parameters:
            lowered = [tensor for _, tensor in self.matrices(self.emitted(parameters).graph)]
            names = [name for name, _ in self.matrices(self._replacement.end)]
            if len(names) != len(lowered):
                what = f"holds {len(names)} matrices of numbers instead of {len(lowered)}"
                raise UnsupportedModelError(f"it {what}", code=Code.NOT_RUN)
            matrices = dict(zip(names, lowered, strict=True))
        for node in self._replacement.nodes:
            for value in node.inputs:
                if value is not None and value.name not in produced:
                    source = originals.get(value.name, value)
                    values[value.name] = self._copy(source, parameters)
        for name, tensor in matrices.items():
            if name in values:
                values[name].const_value = tensor
        return self._model(values, self._replacement.nodes, matrices)

    def matrices(self, end: ir.Value | ir.Graph) -> list[tuple[str | None, ir.TensorProtocol]]:
        """Every constant of real or 8-bit numbers that leads to a value, each once.

        In the order in which the operands are met from the end backwards. Those of more bits are
        indices and shapes; what the convolution itself gets at run time is not among them.
        """
        given = [value for value in self._replacement.place.node.inputs[1:] if value is not None]
        spared = {self.fed, *(value.name for value in given if tensor_of(value) is None)}
        found: dict[str | None, ir.TensorProtocol] = {}
        todo: list[ir.Value | None] = [end.outputs[0] if isinstance(end, ir.Graph) else end]
        seen: set[ir.Value] = set()
        while todo:
            value = todo.pop()
            if value is None or value in seen or value.name in spared:
                continue
            seen.add(value)
            tensor, node = tensor_of(value), value.producer()
            if tensor is not None and is_numbers(tensor.dtype):
                found[value.name] = tensor
            # Where there are no integer constants, Casts of real ones stand for them.
            elif tensor is None and node is not None and not _makes_integers(node):
                todo += reversed(node.inputs)
        return list(found.items())

    def _model(
        self,
        values: Mapping[str | None, ir.Value],
        nodes: Sequence[ir.Node],
        matrices: Mapping[str | None, ir.TensorProtocol] | None = None,
    ) -> ir.Model:
        known = dict(values)
        copies = copies_of(nodes, known)
        for node in copies:
            if node.op_type == "Constant" and matrices and node.outputs[0].name in matrices:
                node.attributes.clear()
                node.attributes.add(ir.AttrTensor("value", matrices[node.outputs[0].name]))
        end = copies[-1].outputs[0]
        end.type = ir.TensorType(self.output_type)
        graph = ir.Graph(
            [value for value in values.values() if value.const_value is None],
            [end],
            nodes=copies,
            initializers=[value for value in values.values() if value.const_value is not None],
            opset_imports={"": self._replacement.place.opset},
            name=self._site.name,
        )
        return ir.Model(graph, ir_version=max(self._ir_version, 4))

    def _copy(self, value: ir.Value, parameters: Mapping[str, Array]) -> ir.Value:
        """A value for a model of its own: constant where it was, or where a parameter says.

        What the convolution slides over is an input here, whatever it was.
        """
        name = value.name or ""
        tensor = ir.tensor(parameters[name]) if name in parameters else tensor_of(value)
        if tensor is None or value is self._replacement.place.node.inputs[0]:
            return self._input(value)
        return constant_value(name, in_memory(tensor))

    def _input(self, value: ir.Value) -> ir.Value:
        return ir.Value(name=value.name, type=ir.TensorType(type_named(self._site.dtype)))

    @property
    def output_type(self) -> ir.DataType:
        """Of what the layer makes."""
        node = self._replacement.place.node
        operator = operator_of(node)
        if operator.sums is not None:
            return operator.sums
        if operator.rounds and (zero := operands(node).get("y_zero")) is not None:
            tensor = tensor_of(zero)
            return ir.DataType.UINT8 if tensor is None else tensor.dtype
        return type_named(self._site.dtype)


def copies_of(nodes: Sequence[ir.Node], known: dict[str | None, ir.Value]) -> list[ir.Node]:
    """Nodes for a model of their own.

    Args:
        nodes: each behind those that it reads from.
        known: what they read, by name; what they make is added.
    """
    copies = []
    for node in nodes:
        inputs = [None if value is None else known[value.name] for value in node.inputs]
        outputs = [ir.Value(name=value.name) for value in node.outputs]
        known.update({value.name: value for value in outputs})
        attributes = node.attributes.values()
        copies.append(ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs))
    return copies


def in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor for a model without a file, which has no folder to look in."""
    external = isinstance(tensor, ir.ExternalTensor)
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype) if external else tensor


def type_named(name: str) -> ir.DataType:
    """The element type that numpy calls so, bfloat16 included."""
    if name == "bfloat16":
        return ir.DataType.BFLOAT16
    return ir.DataType.from_numpy(np.dtype(name))


def _makes_integers(node: ir.Node) -> bool:
    """Whether it is a Cast of real numbers that stand for integers."""
    return node.op_type == "Cast" and constant_of(node.inputs[0] or node.outputs[0]) is not None


def tensor_of(value: ir.Value) -> ir.TensorProtocol | None:
    """The numbers of a constant, or of a weight that callers may replace."""
    return value.const_value if value.is_initializer() else constant_of(value)
