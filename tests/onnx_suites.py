"""The conformance suites that the onnx package ships: those models that hold a convolution."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import onnx
from onnx import numpy_helper

from tests.onnx_models import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it computes infinities and the like, on purpose
    from onnx.backend.test.case import node as suite

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"

KINDS = {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"}


@dataclass(frozen=True)
class Case:
    """A model with inputs and the outputs that belong to them."""

    name: str
    model: onnx.ModelProto
    samples: Sequence[tuple[Sequence[Array], Sequence[Array]]]


def node_cases() -> Iterator[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(suite.__file__).parent  # all of them take seconds
        for path in sorted(folder.glob("*conv*.py")):
            import_module(f"{suite.__name__}.{path.stem}")
        for case in suite._NodeTestCases:
            model, samples = case.model, case.data_sets
            assert model is not None
            if any(node.op_type in KINDS for node in model.graph.node):
                yield Case(case.name, model, samples or [])


def packaged_cases(suite: str) -> Iterator[Case]:
    for folder in sorted((DATA / suite).iterdir()):
        model = onnx.load(folder / "model.onnx")
        if any(node.op_type in KINDS for node in model.graph.node):
            samples = [(arrays(data, "input"), arrays(data, "output")) for data in sets(folder)]
            yield Case(folder.name, model, samples)


def sets(folder: Path) -> list[Path]:
    return sorted(folder.glob("test_data_set_*"))


def arrays(folder: Path, role: str) -> list[Array]:
    count = len(list(folder.glob(f"{role}_*.pb")))
    return [array(folder / f"{role}_{number}.pb") for number in range(count)]


def array(path: Path) -> Array:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


CASES = [
    *node_cases(),
    *packaged_cases("pytorch-converted"),
    *packaged_cases("pytorch-operator"),
]
