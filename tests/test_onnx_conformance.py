"""The conformance suites that the onnx package ships: converted, with their own expected outputs.

Each case is run in onnxruntime; where that lacks an operator of the original, original and
converted model both run in the ONNX reference evaluator.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import convfc
from tests.figures import count, worst
from tests.onnx_models import Array, operators, run_anywhere

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it computes infinities and the like, on purpose
    from onnx.backend.test.case.node import collect_testcases

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
        for case in collect_testcases(None):
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


def test_the_suites_are_there() -> None:
    """Their counts with onnx 1.23: a newer one may have more."""
    names = [case.name for case in CASES]
    assert sum(name.startswith("test_convtranspose") for name in names) >= 11
    assert sum("integer" in name for name in names) >= 2
    assert "test_qlinearconv" in names
    assert len(names) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_has_its_expected_outputs(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(case.model, path)
    done = convfc.convert(path)
    assert done.complete, [layer.reason for layer in done.layers]
    assert not operators(done.out) & KINDS
    count("conformance cases", "with no convolution left")
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.samples:
        feed = dict(zip(names, map(np.asarray, inputs), strict=False))
        got = run_anywhere([path, done.out], feed)[1]
        for mine, expected in zip(got, outputs, strict=True):
            assert mine.dtype == expected.dtype
            assert mine.shape == expected.shape
            if np.issubdtype(expected.dtype, np.integer):
                assert np.array_equal(mine, expected)
            else:
                gap = np.abs(mine.astype(np.float64) - expected.astype(np.float64))
                worst(f"conformance, worst difference in {expected.dtype}", gap.max(initial=0))
                half = expected.dtype == np.float16
                np.testing.assert_allclose(
                    mine, expected, rtol=2e-3 if half else 1e-5, atol=1e-3 if half else 1e-5
                )


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((DATA / "light").glob("*.onnx")), ids=lambda p: p.stem)
def test_a_whole_network_is_the_same(path: Path, tmp_path: Path) -> None:
    """Their weights are made while they run (ConstantOfShape), all numbers the same."""
    done = convfc.convert(path, tmp_path / "m.onnx")
    assert done.complete, [layer.reason for layer in done.layers]
    assert not operators(done.out) & KINDS
    verification = convfc.verify(path, done.out, samples=1)
    assert verification.equivalent, verification.reason
    count("light networks", "equivalent")
    for _ in done.layers:
        count("light networks", "convolutions")
    for output in verification.outputs:
        worst("light networks, worst difference", output.max_abs)
