"""How much further apart a network moves two images at most, and what that is good for.

    python docs/examples/lipschitz.py [MODEL.onnx] [--samples N]

Every layer has a Lipschitz constant in the 2-norm; the product of all is one of the network. The
page beside this file says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from command_line import model_file, positive, run
from numpy.typing import NDArray
from onnx import numpy_helper

import convfc
from convfc.samples.files import load_samples

SAMPLES = Path(__file__).parents[2] / "sample_models"
KEEPING = ("Relu", "Flatten", "Reshape", "Dropout", "Softmax")
"""What moves no two samples further apart."""


def constants(path: Path) -> list[tuple[str, str, float]]:
    """Name, kind and Lipschitz constant of every node of a network that is one chain.

    A BatchNormalization scales the filters of the convolution before it: they have one together.
    """
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    matrices = convfc.matrices(path)
    found: list[tuple[str, str, float]] = []
    before = None
    for node in graph.node:
        if before is not None and node.input[0] != before.output[0]:
            raise ValueError(f"'{node.name}' does not read what '{before.name}' makes: no chain")
        kind = node.op_type
        if kind == "Conv":
            constant = norm(matrices[node.name])
        elif kind == "Gemm":
            constant = float(np.linalg.norm(stored[node.input[1]].astype(np.float64), 2))
        elif kind == "BatchNormalization" and before is not None and before.op_type == "Conv":
            scale, _, _, variance = (stored[name] for name in node.input[1:])
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            matrix = matrices[before.name]
            constant = norm(replace(matrix, F=matrix.F * (scale / np.sqrt(variance + epsilon))))
            kind = f"with {found.pop()[0]}"
        elif kind in KEEPING:
            constant = 1.0
        else:
            raise ValueError(f"'{node.name}' is a {kind}: add what it does to distances")
        found.append((node.name, kind, constant))
        before = node
    return found


def norm(matrix: convfc.Matrix) -> float:
    """The Lipschitz constant of a layer on a whole sample."""
    if matrix.norm is None:
        raise ValueError(f"'{matrix.name}' has open sizes")
    return matrix.norm.value + matrix.norm.error


def largest_seen(run: onnxruntime.InferenceSession, images: NDArray[np.float32]) -> float:
    """How much further apart the network really moves an image and its like.

    Of each image and the next one, of each and itself with a little noise.
    """
    name = run.get_inputs()[0].name
    noise = np.random.default_rng(0).normal(size=images.shape).astype(np.float32) / 100
    own, seen = run.run(None, {name: images})[0], 0.0
    for others in (np.roll(images, 1, axis=0), images + noise):
        there, here = (
            np.linalg.norm(difference.reshape(len(images), -1), axis=1)
            for difference in (own - run.run(None, {name: others})[0], images - others)
        )
        seen = max(seen, float((there / here).max()))
    return seen


def certain(scores: NDArray[np.float32], labels: NDArray[np.int64], constant: float) -> list[float]:
    """Of each digit that is told right: no noise of a smaller 2-norm makes it another one.

    Two scores together move by at most sqrt(2) times what all of them do.
    """
    best = np.sort(scores, axis=1)
    margins = (best[:, -1] - best[:, -2])[scores.argmax(axis=1) == labels]
    return list(margins / (math.sqrt(2) * constant))


def main(arguments: list[str] | None = None) -> None:
    """Print the constants of a model's layers, their product, and what is seen on MNIST."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_small.onnx")
    parser.add_argument("--samples", type=positive, default=1000, help="of MNIST, at most 1000")
    options = parser.parse_args(arguments)

    found = constants(options.model)
    print(f"{'layer':20} {'operator':18} constant")
    for name, kind, constant in found:
        print(f"{name:20} {kind:18} {constant:8.4g}")
    bound = math.prod(constant for _, _, constant in found)
    print(f"{'the network':39} {bound:8.4g}")

    data = load_samples("mnist", options.samples)
    images = np.stack([*data.images])[:, None].astype(np.float32)
    run = onnxruntime.InferenceSession(str(options.model), providers=["CPUExecutionProvider"])
    print(f"largest seen on {len(images)} images: {largest_seen(run, images):.4g}")
    if found[-1][1] != "Softmax" and data.labels is not None:
        scores = run.run(None, {run.get_inputs()[0].name: images})[0]
        radii = certain(scores, data.labels[: len(images)], bound)
        print(
            f"{len(radii)} of {len(images)} digits right; whatever moves one by less than "
            f"{np.median(radii):.3f} (the median) leaves it so"
        )


if __name__ == "__main__":
    run(main)
