"""onnxruntime's quantizers on the converted sample network: as accurate as before, on MNIST."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import convfc
from tests.onnx_models import Array, session
from tests.program import SAMPLES

LOSS = 0.005
"""Of accuracy, at most."""
MNIST = Path(convfc.__file__).parent / "samples" / "data" / "mnist.npz"
CALIBRATION = 50


def digits(part: str, count: int | None = None) -> tuple[Array, Array]:
    with np.load(MNIST) as data:
        images, labels = data[f"x_{part}"][:count], data[f"y_{part}"][:count]
    return (images[:, np.newaxis] / 255).astype(np.float32), labels


def accuracy(path: Path, count: int | None = None) -> float:
    images, labels = digits("test", count)
    (scores,) = session(path).run(None, {"image": images})
    return float((scores.argmax(1) == labels).mean())


class Calibration(CalibrationDataReader):  # type: ignore[misc] # onnxruntime ships no types
    """A few of the images that the network was trained on."""

    def __init__(self) -> None:
        images, _ = digits("train", CALIBRATION)
        self._batches: Iterator[dict[str, Array]] = iter([{"image": images}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


def four_bits(path: Path, out: Path) -> None:
    quantizer = MatMulNBitsQuantizer(onnx.load(path), bits=4, block_size=32, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def dynamic(path: Path, out: Path) -> None:
    quantize_dynamic(path, out, op_types_to_quantize=["MatMul"])


def static(path: Path, out: Path) -> None:
    quantize_static(
        path, out, Calibration(), QuantFormat.QDQ, op_types_to_quantize=["MatMul"], per_channel=True
    )


def whole(path: Path, out: Path) -> None:
    """Everything that it knows, in operators of integers."""
    quantize_static(
        *(path, out, Calibration(), QuantFormat.QOperator),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


QUANTIZERS = {"four bits": four_bits, "dynamic": dynamic, "static": static, "whole": whole}
SEEN = {
    ("four bits", None): {"MatMulNBits": 5},
    ("four bits", "matmul-quantizer"): {"MatMulNBits": 5, "MatMul": 1},  # a batch of matrices
    ("dynamic", None): {"MatMulInteger": 6},  # and the Dense layer, which was one before
    ("dynamic", "matmul-quantizer"): {"MatMulInteger": 7},
    ("static", None): {"MatMul": 5, "QuantizeLinear": 10},
    ("static", "matmul-quantizer"): {"MatMul": 6, "QuantizeLinear": 12},
    ("whole", None): {"QLinearMatMul": 5, "QGemm": 1},
    ("whole", "matmul-quantizer"): {"QLinearMatMul": 6, "QGemm": 1},
}
"""Operators that there are then, by quantizer and client, of the sample's 6 convolutions."""


def quantized(folder: Path, kind: str, client: str | None) -> tuple[Path, Path]:
    """The converted sample, and what a quantizer makes of it."""
    path, out = folder / "sample.onnx", folder / "quantized.onnx"
    sample = SAMPLES / "mnist_cnn.onnx"
    assert convfc.convert(sample, path, client=client, check=False).complete
    QUANTIZERS[kind](path, out)
    found = Counter(node.op_type for node in onnx.load(out).graph.node)
    expected = SEEN[kind, client]
    assert {name: found[name] for name in expected} == expected
    return path, out


@pytest.mark.parametrize("client", [None, "matmul-quantizer"])
@pytest.mark.parametrize("kind", ["four bits", "dynamic"])
def test_a_quantized_sample(tmp_path: Path, kind: str, client: str | None) -> None:
    path, out = quantized(tmp_path, kind, client)
    assert accuracy(out, 100) >= accuracy(path, 100) - LOSS


@pytest.mark.slow
@pytest.mark.parametrize("client", [None, "matmul-quantizer"])
@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_quantized_sample_on_all_images(tmp_path: Path, kind: str, client: str | None) -> None:
    path, out = quantized(tmp_path, kind, client)
    known = accuracy(SAMPLES / "mnist_cnn.onnx")
    assert known > 0.98
    assert accuracy(path) == known
    assert accuracy(out) >= known - LOSS


def test_a_quantized_file_that_is_wrong_is_seen(tmp_path: Path) -> None:
    """The twin: one matrix of 4-bit numbers lost."""
    _, out = quantized(tmp_path, "four bits", None)
    model = onnx.load(out)
    weight = next(w for w in model.graph.initializer if w.data_type == onnx.TensorProto.UINT8)
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(model, out)
    assert accuracy(out, 100) < 0.9
