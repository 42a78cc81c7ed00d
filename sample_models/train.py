"""Trains the sample models on MNIST and saves each as .h5, .keras and .onnx.

    python sample_models/train.py [--data mnist.npz|IDX_FOLDER] [--out DIR] [--epochs N] [--only ..]

The seed is fixed: running it again on the same kind of machine gives the same accuracies.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import keras
import numpy as np
import onnx
import tensorflow as tf
from to_onnx import to_onnx

from convfc.samples.files import read_arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SEED = 2017
BATCH = 128
RATES = {"mnist_small": 1e-2}
"""Where training begins with another one than the others: few weights take larger steps."""
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def main() -> None:
    """Train, save and check the networks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="mnist.npz, or a folder with MNIST's IDX files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to save")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images")
    parser.add_argument("--filters", type=int, default=4, help="of the autoencoder; the paper: 128")
    parser.add_argument("--only", choices=("mnist_cnn", "mnist_small", "paper_autoencoder"))
    options = parser.parse_args()

    tf.config.experimental.enable_op_determinism()
    data = load(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    for build in (mnist_cnn, mnist_small):
        if options.only in (None, build.__name__):
            train_classifier(build, data, options.out, options.epochs)
    if options.only in (None, "paper_autoencoder"):
        train_autoencoder(options.filters, data, options.out, options.epochs)


def train_classifier(
    build: Callable[[], keras.Model], data: list[NDArray[Any]], out: Path, epochs: int
) -> None:
    """Train and save a network that says which digit it sees."""
    x_train, y_train, x_test, y_test = data
    keras.utils.set_random_seed(SEED)
    model = build()
    model.summary()
    logits = model.layers[-1].activation is keras.activations.linear
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    fit(model, x_train, y_train, loss, ["accuracy"], epochs)
    save(model, out, x_test)
    correct = int(np.sum(model.predict(x_test, verbose=0).argmax(1) == y_test))
    print(f"{model.name}: {correct} of {len(y_test)} test images right")


def train_autoencoder(filters: int, data: list[NDArray[Any]], out: Path, epochs: int) -> None:
    """Train and save the network that gives back its input."""
    x_train, _, x_test, _ = data
    keras.utils.set_random_seed(SEED)
    model = paper_autoencoder(filters)
    model.summary()
    fit(model, x_train, x_train, keras.losses.MeanSquaredError(), [], epochs)
    save(model, out, x_test)
    error = np.mean(np.square(model.predict(x_test, verbose=0) - x_test))
    print(f"{model.name}: mean squared error {error:.5f} on {len(x_test)} test images")


def mnist_cnn() -> keras.Model:
    """Build a classifier that holds one convolution of each kind: see the README's table."""
    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_same")(image)
    x = layers.Conv2D(32, (3, 5), strides=(1, 2), activation="relu", name="conv_unequal")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(32, 1, use_bias=False, activation="relu", name="pointwise")(x)
    x = layers.Conv2D(32, 3, dilation_rate=2, activation="relu", name="conv_dilated")(x)
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", name="conv_strided")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    scores = layers.Dense(10, activation="softmax", name="scores")(x)
    return keras.Model(image, scores, name="mnist_cnn")


def mnist_small() -> keras.Model:
    """Build a classifier for solvers and verifiers: 1,674 numbers from image to logits."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(
                4, 5, strides=(4, 3), padding="same", activation="relu", name="conv_unequal"
            ),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv_strided"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
        ],
        name="mnist_small",
    )


def paper_autoencoder(filters: int) -> keras.Model:
    """Build the network of Ma & Lu (2017), section 5, with ``filters`` in place of 128."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(
                filters,
                4,
                strides=2,
                use_bias=False,
                kernel_initializer="he_uniform",
                activation="relu",
                name="conv",
            ),
            layers.Flatten(name="flatten"),
            layers.Dense(
                784,
                use_bias=False,
                kernel_initializer="he_uniform",
                activation="relu",
                name="dense",
            ),
            layers.Reshape((28, 28, 1), name="reconstruction"),
        ],
        name="paper_autoencoder",
    )


def load(data: Path | None) -> list[NDArray[Any]]:
    """Return MNIST: training images and labels, test images and labels; images in 0..1."""
    if data is None:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    elif data.is_dir():
        x_train, y_train, x_test, y_test = (
            read_arrays(min(data.glob(f"{name}*")))[""] for name in IDX_FILES
        )
    else:
        arrays = read_arrays(data)
        x_train, y_train, x_test, y_test = (arrays[key] for key in NPZ_KEYS)
    x_train, x_test = (x[..., None].astype(np.float32) / 255 for x in (x_train, x_test))
    return [x_train, y_train, x_test, y_test]


def fit(
    model: keras.Model,
    x: NDArray[Any],
    y: NDArray[Any],
    loss: keras.Loss,
    metrics: list[str],
    epochs: int,
) -> None:
    """Train with Adam, its rate falling to nothing along half a cosine."""
    steps = epochs * -(-len(x) // BATCH)
    first = RATES.get(model.name, 2e-3)
    rate = keras.optimizers.schedules.CosineDecay(first, steps)
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=metrics)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=2)
    # Adam's two moments would triple the files; SGD keeps nothing, and training can still go on.
    model.compile(keras.optimizers.SGD(1e-2), loss=loss, metrics=metrics)


def save(model: keras.Model, folder: Path, x: NDArray[Any]) -> None:
    """Save all three formats, and stop if ONNX Runtime does not answer as Keras does."""
    path = folder / model.name
    model.save(path.with_suffix(".keras"))
    model.save(path.with_suffix(".h5"))
    # With this group in the file, Keras 3 binds the optimizer to no variables on loading, and
    # training cannot go on. Without it, the model loads compiled, with a fresh optimizer.
    with h5py.File(path.with_suffix(".h5"), "a") as file:
        del file["optimizer_weights"]
    onnx.save(to_onnx(model), path.with_suffix(".onnx"))
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # which it asks for when it is imported
    import onnxruntime

    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"))
    (found,) = session.run(None, {"image": np.moveaxis(x, -1, 1)})
    expected = model.predict(x, verbose=0)
    worst = np.abs(found.reshape(expected.shape) - expected).max()
    print(f"{model.name}: .onnx differs from Keras by at most {worst:.1e}")
    if not worst < 1e-5 * max(1, np.abs(expected).max()):
        raise SystemExit(f"{model.name}: the .onnx file is not the same function")


if __name__ == "__main__":
    main()
