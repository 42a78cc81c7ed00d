"""Runs ONNX files on inputs that are made to tell two functions apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    open_ = {port.name: constants[port.name] for port in model.graph.input if port.name in constants}

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
        dim.dim_value if dim.HasField("dim_value") else sizes.get(dim.dim_param, SIZES.get(batch, 9))
        for dim in dims
    )


def run(path: Path, feeds: Sequence[Feed]) -> list[Outputs | None]:
    """All outputs for each feed, in onnxruntime or else in onnx's evaluator; ``None``: no run."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return [_attempt(session, names, feed) for feed in feeds]
    except Exception:  # onnxruntime's many kinds
        return run_reference(path, feeds)


def run_reference(path: Path, feeds: Sequence[Feed]) -> list[Outputs | None]:
    """The same in onnx's evaluator alone."""
    try:
        evaluator = ReferenceEvaluator(str(path))
        names = list(evaluator.output_names)
    except Exception:  # it foresees nothing
        return [None] * len(feeds)
    return [_attempt(evaluator, names, feed) for feed in feeds]


def _attempt(runtime: Any, names: list[str], feed: Mapping[str, Array]) -> Outputs | None:
    try:
        with np.errstate(all="ignore"):
            values = runtime.run(names, dict(feed))
    except Exception:  # as above
        return None
    made = {f"{place} {name}": value for place, (name, value) in enumerate(zip(names, values, strict=True))}
    return {name: np.asarray(value) for name, value in made.items()}


def element_types(model: onnx.ModelProto) -> dict[str, str]:
    """The text form's name of the type of each value that shape inference knows."""
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # types are a help, no more
        return {}
    found: dict[str, str] = {}

    def visit(graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type.elem_type
            if kind:
                found[value.name] = _TEXT.get(kind, "float")
        for tensor in graph.initializer:
            found[tensor.name] = _TEXT.get(tensor.data_type, "float")
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
