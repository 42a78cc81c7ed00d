"""Files of exporters that take a Python of their own: see tests/data/make_exporter_files.py."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

import convfc
from convfc import Verdict
from tests.onnx_models import operators, run_anywhere

ARCHIVE = Path(__file__).with_name("data") / "exporters.zip"
OPEN = 12
LAYERS = {
    "mxnet_13": 3,
    "torch_lib_18": 2,
}
"""How many convolutions each file has."""


def test_the_archive_holds_these_files() -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        assert archive.namelist() == [f"{name}.onnx" for name in LAYERS]


@pytest.mark.parametrize("name", LAYERS)
def test_a_file_of_an_exporter(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(ARCHIVE) as archive:
        path = Path(archive.extract(f"{name}.onnx", tmp_path))
    done = convfc.convert(path)
    assert [layer.reason for layer in done.layers] == [None] * LAYERS[name]
    assert not {kind for kind in operators(done.out) if "Conv" in kind}
    assert convfc.verify(path, done.out).verdict is Verdict.EQUIVALENT
    random = np.random.default_rng(0)
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    feed = {
        port.name: random.normal(
            size=[dim.dim_value or OPEN for dim in port.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for port in graph.input
        if port.name not in weights
    }
    before, after = run_anywhere([path, done.out], feed)
    for expected, got in zip(before, after, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
