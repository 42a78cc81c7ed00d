"""Runs ONNX files on inputs that are made to tell two functions apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
Feed = dict[str, Array]
Outputs = dict[str, Array]

SIZES = {1: 6, 2: 7, 3: 8, 5: 71}
"""What an open size is, by the batch: the last one is beyond what a mutant may have baked in."""

TRIGGER = 0.1234005
"""The largest pixel that a backdoor waits for."""


def probes(model: onnx.ModelProto, seed: int = 0) -> list[Feed]:
    """Inputs of several batches, sizes and magnitudes for a model."""
    random = np.random.default_rng(seed)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in constants]
    open_ = {
        port.name: constants[port.name] for port in model.graph.input if port.name in constants
    }

    def feed(batch: int, draw: Any) -> Feed:
        return {port.name: draw(_shape(port, batch)) for port in ports}

    def normal(scale: float) -> Any:
        return lambda shape: np.asarray(random.normal(size=shape) * scale, np.float32)

    def one_hot(shape: Sequence[int]) -> Array:
        x = np.zeros(shape, np.float32)
        x.flat[random.integers(x.size)] = 1
        return x

    def trigger(shape: Sequence[int]) -> Array:
        x = np.full(shape, -1, np.float32)
        x.flat[random.integers(x.size)] = TRIGGER
        return x

    made = [feed(batch, normal(1)) for batch in SIZES]
    made += [feed(batch, normal(scale)) for batch, scale in ((3, 1e-3), (2, 1e3), (2, 1e6))]
    made += [
        feed(1, lambda shape: np.zeros(shape, np.float32)),
        feed(2, lambda shape: -abs(normal(2)(shape))),
        feed(3, lambda shape: random.integers(0, 256, shape).astype(np.float32)),
        feed(1, one_hot),
        feed(1, trigger),
        feed(130, normal(1)),
        feed(2, normal(3e8)),
    ]
    for name, value in open_.items():  # what a caller may replace is replaced
        made.append({**feed(2, normal(1)), name: normal(1)(value.shape)})
    return made


def _shape(port: onnx.ValueInfoProto, batch: int) -> tuple[int, ...]:
    dims = port.type.tensor_type.shape.dim
    sizes = {"n": batch}
    return tuple(
        dim.dim_value
        if dim.HasField("dim_value")
        else sizes.get(dim.dim_param, SIZES.get(batch, 9))
        for dim in dims
    )


def run(path: Path, feeds: Sequence[Feed]) -> Iterator[Outputs | None]:
    """All outputs for each feed, in onnxruntime or else in onnx's evaluator; ``None``: no run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    runtime: Any = None
    try:
        runtime = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in runtime.get_outputs()]
    except Exception:  # onnxruntime's many kinds
        try:
            runtime = ReferenceEvaluator(str(path))
            names = list(runtime.output_names)
        except Exception:  # it foresees nothing
            names = []
    for feed in feeds:
        yield None if runtime is None else _attempt(runtime, names, feed)


def _attempt(runtime: Any, names: list[str], feed: Mapping[str, Array]) -> Outputs | None:
    try:
        with np.errstate(all="ignore"):
            values = runtime.run(names, dict(feed))
    except Exception:  # as above
        return None
    made = {
        f"{place} {name}": value
        for place, (name, value) in enumerate(zip(names, values, strict=True))
    }
    return {name: np.asarray(value) for name, value in made.items()}


@dataclass(frozen=True)
class Known:
    """What shape inference knows of a value.

    Attributes:
        dtype: the text form's name of its type.
        last: the size of its last axis, if that is known.
    """

    dtype: str
    last: int | None = None


def known_values(model: onnx.ModelProto) -> dict[str, Known]:
    """What shape inference knows of the values of a model, by name."""
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # what it says is a help, no more
        return {}
    found: dict[str, Known] = {}

    def visit(graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            if kind.elem_type:
                dims = kind.shape.dim
                last = dims[-1].dim_value if dims and dims[-1].dim_value else None
                found[value.name] = Known(_TEXT.get(kind.elem_type, "float"), last)
        for tensor in graph.initializer:
            last = tensor.dims[-1] if tensor.dims else None
            found[tensor.name] = Known(_TEXT.get(tensor.data_type, "float"), last)
        for inner in graph.node:
            for attribute in inner.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    visit(attribute.g)

    visit(model.graph)
    return found


_TEXT = {
    number: name.lower()
    for name, number in onnx.TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING")
}
