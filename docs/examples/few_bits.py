"""4-bit weights for a network of convolutions, by a quantizer that only knows MatMul.

    python docs/examples/few_bits.py [MODEL.onnx] [--bits N].. [--block N].. [--samples N]

Convert, quantize with onnxruntime's MatMulNBitsQuantizer, revert: the kernels are then integers of
few bits behind DequantizeLinear. The page beside this file says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from command_line import model_file, positive, run
from numpy.typing import NDArray
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import convfc
from convfc.samples.files import load_samples

SAMPLES = Path(__file__).parents[2] / "sample_models"


def quantize(converted: Path, bits: int, block: int, out: Path) -> None:
    """Write a file whose products have weights of few bits, a scale for each block of them."""
    quantizer = MatMulNBitsQuantizer(onnx.load(converted), bits=bits, block_size=block)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def scores_of(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a model makes of images."""
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = run.run(None, {run.get_inputs()[0].name: images})[0]
    return scores


def main(arguments: list[str] | None = None) -> None:
    """Print file sizes and accuracies of the original, quantized and reverted files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_cnn.onnx")
    parser.add_argument("--bits", type=int, choices=(4, 8), action="append", help="of a weight")
    blocks = [2**power for power in range(4, 9)]
    parser.add_argument("--block", type=int, choices=blocks, action="append", help="of one scale")
    parser.add_argument("--samples", type=positive, default=1000, help="of MNIST, at most 1000")
    options = parser.parse_args(arguments)

    logging.disable(logging.INFO)  # the quantizer reports every node
    data = load_samples("mnist", options.samples)
    if data.labels is None:
        raise ValueError("no labels")
    images = np.stack([*data.images])[:, None].astype(np.float32)
    labels = data.labels[: len(images)]

    print(f"{'bits':>4} {'block':>5}  {'file':9} {'bytes':>8}  {'right':>6}  apart")

    def row(how: str, what: str, path: Path, apart: str = "") -> NDArray[np.float32]:
        scores = scores_of(path, images)
        right = (scores.argmax(axis=1) == labels).mean()
        line = f"{how:>10}  {what:9} {path.stat().st_size:8,}  {right:6.1%}  {apart}"
        print(line.rstrip())
        return scores

    row("32", "original", options.model)
    with tempfile.TemporaryDirectory() as folder:
        converted = convfc.convert(options.model, Path(folder) / "m_fc.onnx").out
        row("32", "converted", converted)
        for bits in options.bits or [8, 4]:
            for block in options.block or [16, 32, 128]:
                packed = Path(folder) / "packed_fc.onnx"
                quantize(converted, bits, block, packed)
                how = f"{bits:4} {block:5}"
                before = row(how, "quantized", packed)
                back = convfc.revert(packed, Path(folder) / "packed.onnx", force=True).out
                apart = np.abs(scores_of(back, images) - before).max()
                row(how, "reverted", back, f"{apart:.0e}")


if __name__ == "__main__":
    run(main)
