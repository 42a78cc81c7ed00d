"""Models that a program holds: converted by way of files that nobody gets to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import convfc
from convfc import UnsupportedModelError, UsageError, convolution
from convfc.formats.keras.quiet import importing
from tests.onnx_models import conv_file, integers

with importing():
    import keras

CONV = convolution([3, 3], channels=2, filters=4)


@pytest.fixture
def proto(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(conv_file(tmp_path / "m.onnx", CONV, (6, 6)))


def ran(proto: onnx.ModelProto, x: Any) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]


def test_an_onnx_model(
    proto: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = proto.SerializeToString()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    made = convfc.convert(proto)
    assert isinstance(made, onnx.ModelProto)
    assert proto.SerializeToString() == before
    assert "Conv" not in {node.op_type for node in made.graph.node}
    x = integers([2, 2, 6, 6]).astype(np.float32)
    assert np.array_equal(ran(made, x), ran(proto, x))
    assert not [*(tmp_path / "temporary").iterdir()]


def test_a_keras_model() -> None:
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(4, 3, name="conv")])
    model.compile("sgd", "mse")
    kernel = model.layers[0].kernel.numpy()
    made = convfc.convert(model, form="dense")
    assert isinstance(made, keras.Model)
    assert not [one for one in made._flatten_layers() if isinstance(one, keras.layers.Conv2D)]
    assert np.array_equal(model.layers[0].kernel.numpy(), kernel)
    assert made.compiled
    x = integers([2, 6, 6, 2]).astype(np.float32)
    difference = made(x).numpy() - model(x).numpy()
    assert np.abs(difference).max() < 1e-4


def test_what_is_asked_for_is_done(proto: onnx.ModelProto) -> None:
    said: list[str] = []
    made: Any = convfc.convert(proto, skip="conv", progress=said.append)
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    assert said[0] == "reading"


def test_a_layer_that_must_be_left_is_an_error(proto: onnx.ModelProto) -> None:
    with pytest.raises(UnsupportedModelError, match="'conv' cannot be converted") as one:
        convfc.convert(proto, patches="reshape")
    assert (one.value.layer, one.value.code) == ("conv", convfc.Code.METHOD)
    made: Any = convfc.convert(proto, patches="reshape", partial=True)
    assert [node.op_type for node in made.graph.node] == ["Conv"]


def test_errors_name_the_model_and_no_file() -> None:
    with pytest.raises(convfc.ConvfcError, match=r"^the model: ") as caught:
        convfc.convert(onnx.ModelProto())
    assert ".onnx" not in str(caught.value)


@pytest.mark.parametrize("other", [3, b"m", None, [onnx.ModelProto()]])
def test_anything_else_is_none(other: object) -> None:
    with pytest.raises(UsageError, match=r"it takes a path, an onnx\.ModelProto or a keras\.Model"):
        convfc.convert(other)


def test_a_dry_run_is_for_files(proto: onnx.ModelProto) -> None:
    with pytest.raises(UsageError, match="dry_run is for files"):
        convfc.convert(proto, dry_run=True)
