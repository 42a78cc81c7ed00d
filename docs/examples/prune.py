"""A network with most of its filter weights set to zero, trained on, and turned back.

    python docs/examples/prune.py [MODEL.keras] [--data mnist.npz] [--share X].. [--epochs N]

Convert, set the smallest weights to zero, train on with these held at zero, revert. The page beside
this file says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np
from command_line import digits, fraction, model_file, positive, run
from numpy.typing import NDArray

import convfc

SAMPLES = Path(__file__).parents[2] / "sample_models"
Array = NDArray[Any]


def pruned(matrix: Array, share: float) -> Array:
    """A matrix without a share of its weights, the smallest ones."""
    sizes = np.abs(matrix)
    return np.where(sizes > np.quantile(sizes, share), matrix, 0)


def train(model: keras.Model, layers: Collection[str], x: Array, y: Array, epochs: int) -> None:
    """Train on, with the loss of the file; what is zero in the kernels of some layers stays so."""
    for weight in model.trainable_weights:
        if weight.path in {f"{layer}/kernel" for layer in layers}:
            kept = keras.ops.cast(keras.ops.not_equal(weight, 0), weight.dtype)
            weight.constraint = lambda now, kept=kept: now * kept
    model.compile(keras.optimizers.Adam(5e-4), loss=model.loss)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)


def right(path: Path, x: Array, y: Array) -> float:
    """The share of images that a model tells right."""
    scores = keras.models.load_model(path, compile=False).predict(x, verbose=0)
    return float((scores.argmax(axis=1) == y).mean())


def main(arguments: list[str] | None = None) -> None:
    """Print the accuracy after each step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_cnn.keras")
    parser.add_argument("--data", type=Path, help="mnist.npz; else 1,000 images to train on")
    parser.add_argument("--share", type=fraction, action="append", help="of weights to be pruned")
    parser.add_argument("--epochs", type=positive, default=2, help="passes over the training data")
    parser.add_argument("--samples", type=positive, help="train and test on so many images at most")
    options = parser.parse_args(arguments)

    x, y, *test = digits(options.data, options.samples)
    matrices = convfc.matrices(options.model)
    print(f"{'share':>5}  {'original':>8}  {'pruned':>7}  {'trained':>7}  {'reverted':>8}   zeros")
    before = right(options.model, *test)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        converted = convfc.convert(options.model, folder / "m_fc.keras").out
        for share in options.share or [0.5, 0.75, 0.9]:
            keras.utils.set_random_seed(0)
            less = {name: (pruned(m.F, share), m.b) for name, m in matrices.items()}
            small = convfc.with_matrices(converted, less, folder / "pruned_fc.keras")
            model = keras.models.load_model(small)
            train(model, less, x, y, options.epochs)
            model.save(folder / "trained_fc.keras")
            trained, out = folder / "trained_fc.keras", folder / "trained.keras"
            back = convfc.revert(trained, out, like=options.model).out
            now = [matrix.F for matrix in convfc.matrices(back).values()]
            zeros = sum(np.sum(F == 0) for F in now) / sum(F.size for F in now)
            steps = "  ".join(f"{right(path, *test):8.2%}" for path in (small, trained, back))
            print(f"{share:5.3g}  {before:8.2%}  {steps}  {zeros:6.1%}", flush=True)


if __name__ == "__main__":
    run(main)
