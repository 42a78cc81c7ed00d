"""What became of operators from one opset to the next, up to opset 11.

A step writes a node of the opset before as one or more of the next. An operator without a step has
only gained settings since, whose defaults are what it did before: see `raising.step_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from convfc.formats.onnx.protos import settings
from convfc.text.visible import visible

HIGHEST = 11
"""The opset up to which the steps go: no convolution needs a newer one than that."""
_MOST = 2**10
"""Numbers of a constant beyond which they are no sizes, scales or axes."""


class StepError(Exception):
    """A node cannot be written in the next opset; the text names it."""


@dataclass
class Known:
    """What is known of values while a graph is gone through.

    Attributes:
        fresh: makes a name for a value that nothing in the model has, of a wish.
        types: the types of values, with as much of their shapes as is known.
        constants: small tensors of the graph.
        overridable: whether weights that are inputs as well are no constants.
    """

    fresh: Callable[[str], str]
    overridable: bool = False
    types: dict[str, onnx.TypeProto] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def learn(self, name: str, tensor: onnx.TensorProto) -> None:
        """Take note of a constant."""
        self.types[name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        if math.prod(tensor.dims) <= _MOST and not tensor.external_data:
            self.constants[name] = tensor

    def rank(self, name: str) -> int:
        """The number of axes of a value.

        Raises:
            StepError: nothing tells it.
        """
        tensor = self.types[name].tensor_type if name in self.types else onnx.TypeProto.Tensor()
        if not tensor.HasField("shape"):
            raise StepError(f"the number of axes of '{name}' is not known")
        return len(tensor.shape.dim)

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """The type of a value's numbers, float32 where nothing tells it."""
        kind = self.types[name].tensor_type.elem_type if name in self.types else 0
        return helper.tensor_dtype_to_np_dtype(kind or onnx.TensorProto.FLOAT)

    def numbers(self, name: str) -> list[int | float]:
        """The numbers of a constant.

        Raises:
            StepError: it is none.
        """
        if name not in self.constants:
            raise StepError(f"'{name}' is computed")
        numbers: list[int | float] = numpy_helper.to_array(self.constants[name]).ravel().tolist()
        return numbers


Nodes = Iterator[onnx.NodeProto]
Step = Callable[[onnx.NodeProto, Known], Nodes]


def _altered(
    node: onnx.NodeProto,
    kind: str | None = None,
    without: Sequence[str] = (),
    inputs: Sequence[str] | None = None,
    given: Mapping[str, object] | None = None,
) -> onnx.NodeProto:
    """A copy with another operator, without some attributes, with other inputs, or with more."""
    more = given or {}
    newer = onnx.NodeProto()
    newer.CopyFrom(node)
    newer.op_type = kind or node.op_type
    kept = [entry for entry in node.attribute if entry.name not in {*without, *more}]
    del newer.attribute[:]
    newer.attribute.extend(kept)
    newer.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())
    if inputs is not None:
        del newer.input[:]
        newer.input.extend(inputs)
    return newer


def _constant(
    name: str, numbers: npt.ArrayLike, known: Known, dtype: npt.DTypeLike = np.int64
) -> onnx.NodeProto:
    with np.errstate(over="ignore"):  # no bound is the largest number of a float32
        tensor = numpy_helper.from_array(np.asarray(numbers).astype(dtype), name)
    known.learn(name, tensor)
    return helper.make_node("Constant", [], [name], value=tensor)


def _without(*names: str) -> Step:
    """Attributes that said nothing to whoever runs a model."""

    def step(node: onnx.NodeProto, _known: Known) -> Nodes:
        yield _altered(node, without=names)

    return step


def _operands(*whole: str, real: Sequence[str] = ()) -> Step:
    """Attributes that became inputs: integers, then numbers of the data's type, if they are set."""
    names = [*whole, *real]

    def step(node: onnx.NodeProto, known: Known) -> Nodes:
        given = settings(node)
        inputs = list(node.input[:1])
        for name in names:
            inputs.append(known.fresh(f"{node.output[0]}/{name}") if name in given else "")
            if name in given:
                dtype: npt.DTypeLike = known.dtype(node.input[0]) if name in real else np.int64
                yield _constant(inputs[-1], given[name], known, dtype)
        while not inputs[-1]:
            inputs.pop()
        yield _altered(node, without=(*names, "consumed_inputs"), inputs=inputs)

    return step


def _inference(node: onnx.NodeProto, _known: Known) -> Nodes:
    """Whether it trains is told by the outputs from opset 7 on."""
    outputs = [name for name in node.output if name]
    if settings(node).get("is_test") == 0:
        raise StepError("it says that it trains")
    if node.op_type == "BatchNormalization" and len(outputs) > 1:
        raise StepError("it has the outputs of training")
    yield _altered(node, without=["is_test"])


def _spatial(node: onnx.NodeProto, _known: Known) -> Nodes:
    if settings(node).get("spatial", 1) != 1:
        raise StepError("it has a mean for each pixel")
    yield _altered(node, without=["spatial"])


def _mask(node: onnx.NodeProto, known: Known) -> Nodes:
    """The mask of a Dropout had the type of the data, and is of truth values since."""
    newer = _altered(node)
    if len(node.output) > 1 and node.output[1]:
        mask = node.output[1]
        newer.output[1] = known.fresh(f"{mask}/bool")
        kind = helper.np_dtype_to_tensor_dtype(known.dtype(node.input[0]))
        yield newer
        yield helper.make_node("Cast", [newer.output[1]], [mask], to=kind)
    else:
        yield newer


def _cast(node: onnx.NodeProto, _known: Known) -> Nodes:
    """The type was a text."""
    kind = settings(node).get("to")
    if isinstance(kind, bytes):
        word = kind.decode()
        try:
            kind = onnx.TensorProto.DataType.Value(word.upper())
        except ValueError:
            raise StepError(f"there is no type '{visible(word)}'") from None
    yield _altered(node, given={"to": kind})


def _on_axis(node: onnx.NodeProto, known: Known) -> Nodes:
    """An operator that had to be told where the second operand lies in the first.

    From opset 7 on they end alike, as they did if no axis was given, so the second gets axes of
    size one at its end.
    """
    given = settings(node)
    newer = _altered(node, without=["axis", "broadcast"])
    axis = given.get("axis", -1)
    if given.get("broadcast") and axis != -1:
        first, second = node.input
        behind = known.rank(first) - axis - known.rank(second)
        if axis < 0 or behind < 0:
            raise StepError(f"its axis {axis} is none of its first operand")
        if behind:
            yield _unsqueezed(newer, behind, known)
    yield newer


def _slope(node: onnx.NodeProto, known: Known) -> Nodes:
    """The slopes of a PRelu were one per channel, the second axis."""
    newer = _altered(node)
    x, slope = node.input
    if known.rank(slope) == 1 and known.rank(x) > 2:
        yield _unsqueezed(newer, known.rank(x) - 2, known)
    yield newer


def _unsqueezed(node: onnx.NodeProto, behind: int, known: Known) -> onnx.NodeProto:
    """Give a node's second operand that many axes of size one behind its own."""
    second = node.input[1]
    rank = known.rank(second)
    node.input[1] = known.fresh(f"{node.output[0]}/{second}")
    axes = list(range(rank, rank + behind))
    return helper.make_node("Unsqueeze", [second], [node.input[1]], axes=axes)


def _power(node: onnx.NodeProto, _known: Known) -> Nodes:
    """The p of a norm was a real number."""
    power = settings(node).get("p", 2.0)
    if power != int(power):
        raise StepError(f"its p of {power} is no integer")
    yield _altered(node, given={"p": int(power)})


def _defaults(**given: object) -> Step:
    """Settings whose default was another, or that must be said since."""

    def step(node: onnx.NodeProto, _known: Known) -> Nodes:
        said = settings(node)
        more = {name: value for name, value in given.items() if name not in said}
        yield _altered(node, without=["consumed_inputs"], given=more)

    return step


def _pads(node: onnx.NodeProto, _known: Known) -> Nodes:
    given = settings(node)
    pads = given.get("paddings", given.get("pads"))
    yield _altered(node, without=["paddings"], given={"pads": pads})


def _parts(node: onnx.NodeProto, known: Known) -> Nodes:
    """The sizes of parts could be an input."""
    if "axis" not in settings(node):
        raise StepError("it has no axis")
    sizes = {"split": [*map(int, known.numbers(node.input[1]))]} if len(node.input) > 1 else {}
    yield _altered(node, inputs=node.input[:1], given=sizes)


def _tile(node: onnx.NodeProto, known: Known) -> Nodes:
    """It repeated along one axis."""
    if len(node.input) != 3:
        raise StepError("it does not say along which axis")
    data, tiles, axis = node.input
    repeats = [1] * known.rank(data)
    repeats[int(known.numbers(axis)[0])] = int(known.numbers(tiles)[0])
    name = known.fresh(f"{node.output[0]}/repeats")
    yield _constant(name, repeats, known)
    yield _altered(node, inputs=[data, name])


def _largest(node: onnx.NodeProto, known: Known) -> Nodes:
    name = known.fresh(f"{node.output[0]}/k")
    yield _constant(name, [settings(node)["k"]], known)
    yield _altered(node, without=["k"], inputs=[node.input[0], name])


def _scales(node: onnx.NodeProto, _known: Known) -> Nodes:
    given = settings(node)
    mode = given.get("mode", b"nearest").replace(b"bilinear", b"linear")
    scales = [1.0, 1.0, given["height_scale"], given["width_scale"]]
    more = {"scales": scales, "mode": mode}
    yield _altered(node, without=["height_scale", "width_scale"], given=more)


def _scales_apart(node: onnx.NodeProto, known: Known) -> Nodes:
    name = known.fresh(f"{node.output[0]}/scales")
    yield _constant(name, settings(node)["scales"], known, np.float32)
    yield _altered(node, without=["scales"], inputs=[node.input[0], name])


def _called(kind: str) -> Step:
    def step(node: onnx.NodeProto, _known: Known) -> Nodes:
        yield _altered(node, kind)

    return step


def _resize(node: onnx.NodeProto, known: Known) -> Nodes:
    """Pixels were at whole numbers; of two that are as near, see onnxruntime for opset 10."""
    data, scales = node.input
    more: dict[str, object] = {"coordinate_transformation_mode": "asymmetric"}
    if settings(node).get("mode", b"nearest") == b"nearest":
        factors = known.numbers(scales)
        if min(factors) < 1 < max(factors):
            raise StepError("it makes one axis smaller and another one larger")
        more["nearest_mode"] = "ceil" if min(factors) < 1 else "floor"
    roi = known.fresh(f"{node.output[0]}/roi")
    yield _constant(roi, [], known, np.float32)
    yield _altered(node, inputs=[data, roi, scales], given=more)


_FORGETS = _without("consumed_inputs")
"""Which input could be written over was a hint."""
_UNHINTED = (
    "Abs Add BatchNormalization Ceil Clip Div Dropout Elu Exp Floor HardSigmoid"
    " InstanceNormalization LeakyRelu Log Max Mean Min Mul Neg PRelu Reciprocal Relu Sigmoid Sqrt"
    " Sub Sum Tanh"
)
_PLACED = "Add And Div Equal Greater Less Mul Or Pow Sub Xor"
_RECURRENT = "GRU LSTM RNN"

STEPS: dict[tuple[str, int], Step] = {
    **{(kind, 6): _FORGETS for kind in _UNHINTED.split()},
    **{(kind, 7): _on_axis for kind in _PLACED.split()},
    **{(kind, 7): _without("output_sequence") for kind in _RECURRENT.split()},
    ("BatchNormalization", 7): _inference,
    ("BatchNormalization", 9): _spatial,
    ("Cast", 6): _cast,
    ("Clip", 11): _operands(real=["min", "max"]),
    ("Concat", 4): _defaults(axis=1),
    ("Dropout", 7): _inference,
    ("Dropout", 10): _mask,
    ("GRU", 3): _defaults(direction="forward"),
    ("Gemm", 7): _without("broadcast"),
    ("GlobalLpPool", 2): _power,
    ("LpPool", 2): _power,
    ("PRelu", 7): _slope,
    ("Pad", 2): _pads,
    ("Pad", 11): _operands("pads", real=["value"]),
    ("Reshape", 5): _operands("shape"),
    ("Resize", 11): _resize,
    ("Scatter", 11): _called("ScatterElements"),
    ("Selu", 6): _defaults(alpha=1.6732, gamma=1.0507),
    ("Slice", 10): _operands("starts", "ends", "axes"),
    ("Split", 2): _parts,
    ("Tile", 6): _tile,
    ("TopK", 10): _largest,
    ("Upsample", 7): _scales,
    ("Upsample", 9): _scales_apart,
    ("Upsample", 10): _called("Resize"),
}
"""By operator and opset: what takes it there."""
