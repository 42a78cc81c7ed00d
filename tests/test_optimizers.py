"""Converted files that onnxsim, onnxslim and onnxoptimizer have been through: back, and proved.

These are installed for these tests alone; onnxruntime's own optimization is in
`test_verify_rebuilt.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import convfc
from convfc import Verdict
from tests.onnx_models import integers, run
from tests.test_revert import stored
from tests.test_revert_optimized import network

pytestmark = pytest.mark.slow


def by_onnxsim(model: onnx.ModelProto) -> Any:
    made, ok = pytest.importorskip("onnxsim").simplify(model)
    assert ok
    return made


def by_onnxslim(model: onnx.ModelProto) -> Any:
    return pytest.importorskip("onnxslim").slim(model)


def by_onnxoptimizer(model: onnx.ModelProto) -> Any:
    optimizer = pytest.importorskip("onnxoptimizer")
    return optimizer.optimize(model, optimizer.get_fuse_and_elimination_passes())


@pytest.mark.parametrize("optimize", [by_onnxsim, by_onnxslim, by_onnxoptimizer])
def test_optimized_files_come_back_and_are_proved(
    tmp_path: Path, optimize: Callable[[onnx.ModelProto], Any]
) -> None:
    path = network(tmp_path / "m.onnx")
    fc = convfc.convert(path).out
    onnx.save(optimize(onnx.load(fc)), fc)
    x = integers([2, 4, 9, 6])
    assert np.allclose(run(path, x=x)[0], run(fc, x=x)[0])
    back = convfc.revert(fc)
    assert [layer.way.reason for layer in back.layers] == [None] * 4
    found, was = stored(back.out), stored(path)
    assert all(np.array_equal(found[name], array) for name, array in was.items())
    for other in (path, back.out):
        verified = convfc.verify(other, fc, samples=2)
        assert verified.verdict is Verdict.EQUIVALENT, verified.reason
