"""A network with filter matrices of low rank, as one of convolutions: fewer multiply-adds.

    python docs/examples/low_rank.py [MODEL.onnx] [--layer NAME].. [--share X].. [--samples N]

Convert, split products in two by singular values, revert: each becomes a convolution with fewer
filters and one of single pixels. The page beside this file says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from command_line import fraction, model_file, positive, run
from onnx import helper, numpy_helper

import convfc
from convfc.samples.files import load_samples

SAMPLES = Path(__file__).parents[2] / "sample_models"
LAYERS = ["conv_unequal", "conv_dilated", "conv_strided"]
SHARES = [0.75, 0.5, 0.375, 0.25, 0.125]


def split(converted: Path, ranks: Mapping[str, int], out: Path) -> None:
    """Write P F as (P U) V in a converted file, U and V being of some rank.

    What convfc calls the constants of a layer begins with its name.
    """
    model = onnx.load(converted)
    graph = model.graph
    for layer, rank in ranks.items():
        (matrix,) = (t for t in graph.initializer if t.name == f"{layer}/filter_matrix")
        u, s, v = np.linalg.svd(numpy_helper.to_array(matrix), full_matrices=False)
        for name, factor in (("U", u[:, :rank] * s[:rank]), ("V", v[:rank])):
            graph.initializer.append(numpy_helper.from_array(factor, f"{layer}/{name}"))
        for product in [node for node in graph.node if matrix.name in node.input]:
            inner = f"{product.output[0]}/inner"
            first = helper.make_node("MatMul", [product.input[0], f"{layer}/U"], [inner])
            graph.node.insert(list(graph.node).index(product), first)
            product.input[:] = [inner, f"{layer}/V"]
        graph.initializer.remove(matrix)
    onnx.save(model, out)


def right(path: Path, samples: int) -> float:
    """The share of MNIST's test images that a model tells right."""
    data = load_samples("mnist", samples)
    images = np.stack([*data.images])[:, None].astype(np.float32)
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (scores, *_) = run.run(None, {run.get_inputs()[0].name: images})
    if data.labels is None:
        raise ValueError("no labels")
    return float((scores.argmax(axis=1) == data.labels[: len(images)]).mean())


def multiply_adds(path: Path) -> int:
    """Those of all convolutions, for one image."""
    found = convfc.shapes(path)
    return sum(
        layer.site.convolution.multiply_adds(layer.site.sizes) or 0
        for layer in found
        if layer.site.convolution is not None
    )


def main(arguments: list[str] | None = None) -> None:
    """Print accuracy and multiply-adds over the ranks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_cnn.onnx")
    parser.add_argument("--layer", action="append", help="to be split; repeatable")
    parser.add_argument("--share", type=fraction, action="append", help="of the rank to be kept")
    parser.add_argument("--samples", type=positive, default=1000, help="of MNIST, at most 1000")
    options = parser.parse_args(arguments)

    layers = options.layer or LAYERS
    full = {
        name: min(m.F.shape) for name, m in convfc.matrices(options.model, layers=layers).items()
    }
    before, score = multiply_adds(options.model), right(options.model, options.samples)
    print(f"{'share':>6}  {'ranks':16} {'multiply-adds':>13}  {'':>5}  right")
    print(f"{'all':>6}  {_told(full):16} {before:13,}  {1:5.0%}  {score:.1%}")
    with tempfile.TemporaryDirectory() as folder:
        converted = convfc.convert(options.model, Path(folder) / "m_fc.onnx", only=layers).out
        for share in options.share or SHARES:
            ranks = {name: max(round(share * rank), 1) for name, rank in full.items()}
            low = Path(folder) / "low_fc.onnx"
            split(converted, ranks, low)
            back = convfc.revert(low, Path(folder) / "low.onnx", force=True)
            count, score = multiply_adds(back.out), right(back.out, options.samples)
            print(
                f"{share:6.3g}  {_told(ranks):16} {count:13,}  {count / before:5.0%}  {score:.1%}"
            )


def _told(ranks: Mapping[str, int]) -> str:
    return ", ".join(map(str, ranks.values()))


if __name__ == "__main__":
    run(main)
