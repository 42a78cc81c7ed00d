"""The conformance suites that the onnx package ships: converted, with their own expected outputs.

Each case is run in onnxruntime; where that lacks an operator of the original, original and
converted model both run in the ONNX reference evaluator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import convfc
from tests.figures import count, worst
from tests.onnx_models import operators, run_anywhere
from tests.onnx_suites import CASES, DATA, KINDS, Case
from tests.thinned import thinned


def test_the_suites_are_there() -> None:
    """Their counts with onnx 1.23: a newer one may have more."""
    names = [case.name for case in CASES]
    assert sum(name.startswith("test_convtranspose") for name in names) >= 11
    assert sum("integer" in name for name in names) >= 2
    assert "test_qlinearconv" in names
    assert len(names) >= 60


@pytest.mark.parametrize("case", thinned(CASES), ids=lambda case: case.name)
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
