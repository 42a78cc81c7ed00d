"""A network with more filters that is the same function: Net2WiderNet, on the filter matrices.

    python docs/examples/wider.py [MODEL.keras] [--layer NAME].. [--times X] [--data mnist.npz]

Convert, repeat columns of a layer's matrix and share out the rows of the next one's, train on,
revert. The page beside this file says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from command_line import digits, model_file, positive, run
from numpy.typing import NDArray

import convfc

SAMPLES = Path(__file__).parents[2] / "sample_models"
BATCH = 128
Array = NDArray[Any]


def widened(model: keras.Model, layer: str, copies: Array) -> keras.Model:
    """A converted model in which a layer has columns of its matrix more than once.

    Args:
        model: a chain, in which a convolution or a Dense is the next with weights.
        layer: the layer, itself a convolution.
        copies: of each new column, which old one it is.

    Raises:
        ValueError: another kind of layer is the next with weights.
    """
    at = [one.name for one in model.layers].index(layer)
    reader, kernel = next((x.name, x.weights[0]) for x in model.layers[at + 1 :] if x.weights)
    if len(kernel.shape) != 2:
        raise ValueError(f"'{reader}', which reads '{layer}', is no product with one matrix")
    had = model.get_layer(layer).output.shape[-1]

    def clone(one: keras.Layer) -> keras.Layer:
        if not isinstance(one, keras.Model):
            return type(one).from_config(one.get_config())
        reads, makes = one.name == reader, one.name == layer
        return resized(one, had, len(copies), reads=reads, makes=makes)

    made = keras.models.clone_model(model, clone_function=clone)
    shares = 1 / np.bincount(copies)[copies]
    for old, new in zip(model.weights, made.weights, strict=True):
        numbers = np.asarray(old)
        *_, name, role = old.path.split("/")
        if name == layer:
            numbers = numbers[..., copies]
        elif (name, role) == (reader, "kernel"):  # of a Dense, too: the channel comes last
            columns = numbers.shape[-1]
            rows = numbers.reshape(-1, had, columns)[:, copies] * shares[:, None]
            numbers = rows.reshape(-1, columns)
        new.assign(numbers)
    return made


def resized(graph: keras.Model, had: int, now: int, *, reads: bool, makes: bool) -> keras.Model:
    """What stands for a convolution, with another number of channels coming in or going out.

    The last axis holds those that come in up to its Dense, and from there on those that go out.
    """
    changed = reads

    def clone(one: keras.Operation) -> keras.Operation:
        nonlocal changed
        config = one.get_config()
        if isinstance(one, keras.layers.Dense):
            changed = makes
        for key in ("units", "target_shape", "newshape"):
            if changed and key in config:
                *others, last = np.ravel(config[key]).tolist()
                last = last * now // had
                config[key] = (*others, last) if others else last
        return type(one).from_config(config)

    *sizes, channels = graph.input.shape[1:]
    given = keras.Input((*sizes, now if reads else channels), name=graph.inputs[0].name)
    return keras.models.clone_model(graph, given, clone_function=clone)


def with_noise(model: keras.Model, layer: str, had: int) -> None:
    """A little noise on the columns that are new: copies would be trained alike for ever."""
    kernel = model.get_layer(layer).weights[0]
    numbers = np.asarray(kernel).copy()
    new = numbers[:, had:]
    new += np.random.default_rng(1).normal(scale=numbers.std() / 20, size=new.shape)
    kernel.assign(numbers)


def train(model: keras.Model, loss: object, x: Array, y: Array, epochs: int) -> None:
    """Train on, at a rate that falls to nothing."""
    keras.utils.set_random_seed(0)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(x) // BATCH))
    model.compile(keras.optimizers.Adam(rate), loss=loss)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


def main(arguments: list[str] | None = None) -> None:
    """Print parameters and accuracy after each step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_small.keras")
    parser.add_argument("--layer", action="append", help="to be widened; all convolutions if none")
    parser.add_argument("--times", type=float, default=2, help="as many filters")
    parser.add_argument("--data", type=Path, help="mnist.npz; else 1,000 images to train on")
    parser.add_argument("--epochs", type=positive, default=10, help="passes over the training data")
    parser.add_argument("--samples", type=positive, help="train and test on so many images at most")
    options = parser.parse_args(arguments)

    x, y, x_test, y_test = digits(options.data, options.samples)

    print(f"{'':19} {'parameters':>10}  {'right':>6}  apart")

    def row(what: str, model: keras.Model, like: Array | None = None) -> Array:
        scores: Array = model.predict(x_test, verbose=0)
        right = (scores.argmax(axis=1) == y_test).mean()
        count = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
        apart = "" if like is None else f"  {np.abs(scores - like).max():.0e}"
        print(f"{what:19} {count:10,}  {right:6.2%}{apart}", flush=True)
        return scores

    original = keras.models.load_model(options.model)
    before, loss = row("original", original), original.loss
    train(original, loss, x, y, options.epochs)
    row("original, trained", original)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        converted = convfc.convert(options.model, folder / "m_fc.keras").out
        model = keras.models.load_model(converted)
        matrices = convfc.matrices(options.model, layers=options.layer or ())
        filters = {name: matrix.convolution.filters for name, matrix in matrices.items()}
        random = np.random.default_rng(0)
        for layer, had in filters.items():
            more = random.integers(had, size=round(had * options.times) - had)
            model = widened(model, layer, np.array([*range(had), *more]))
        row("widened", model, before)
        for layer, had in filters.items():
            with_noise(model, layer, had)
        train(model, loss, x, y, options.epochs)
        scores = row("widened, trained", model)
        model.save(folder / "wide_fc.keras")
        back = convfc.revert(folder / "wide_fc.keras", folder / "wide.keras", like=options.model)
        row("reverted", keras.models.load_model(back.out), scores)
        for layer, matrix in convfc.matrices(back.out, layers=[*filters]).items():
            print(f"{layer}: {filters[layer]} filters, now {matrix.convolution.filters}")


if __name__ == "__main__":
    run(main)
