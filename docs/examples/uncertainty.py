"""How sure a network of convolutions is, when its filter matrices are drawn at random.

    python docs/examples/uncertainty.py [MODEL.keras] [--passes T] [--picture FILE.svg]

Convert, so that every layer is a Dense; draw their weights anew for each pass, by dropout and by
Gaussian noise; see how far the passes agree on digits that are turned. The page beside this file
says more.
"""
# ruff: noqa: T201 - a script speaks by printing

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from command_line import fraction, model_file, positive, run
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

import convfc
from convfc import plotting
from convfc.samples.files import load_samples

SAMPLES = Path(__file__).parents[2] / "sample_models"
ANGLES = range(0, 181, 15)
COLOURS = (plotting.BLUE, plotting.ORANGE, plotting.GREEN, plotting.RED, plotting.PURPLE)
Array = NDArray[Any]
Draw = Callable[[Array, Generator], Array]
"""Makes other weights of a matrix, which may be one of several in a stack."""


def dropped(matrix: Array, random: Generator, rate: float = 0.1) -> Array:
    """Dropout on the weights: some rows are zero (Gal & Ghahramani 2016)."""
    kept = random.random((matrix.shape[-2], 1)) >= rate
    made: Array = matrix * kept / (1 - rate)
    return made


def gaussian(matrix: Array, random: Generator, scale: float = 0.2) -> Array:
    """Weights around those of the file, each column with a scale (after Blundell et al. 2015)."""
    sigma = scale * matrix.std(axis=-2, keepdims=True)
    made: Array = matrix + sigma * random.normal(size=matrix.shape)
    return made


def passes(model: keras.Model, x: Array, times: int, draw: Draw) -> Array:
    """The probabilities of every pass: (times, images, classes).

    All layers are alike, those that were convolutions and those that were not.
    """
    random = np.random.default_rng(0)
    kernels = [w for w in model.trainable_weights if w.path.endswith("/kernel")]
    own = [np.asarray(kernel) for kernel in kernels]
    found = []
    for _ in range(times):
        for kernel, matrix in zip(kernels, own, strict=True):
            kernel.assign(draw(matrix, random))
        found.append(probabilities(model, x))
    for kernel, matrix in zip(kernels, own, strict=True):
        kernel.assign(matrix)
    return np.stack(found)


def probabilities(model: keras.Model, x: Array) -> Array:
    """What a model makes of images, as probabilities where it ends in logits, too."""
    scores: Array = model.predict(x, verbose=0, batch_size=256)
    if model.layers[-1].activation is keras.activations.softmax:
        return scores
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def entropy(p: Array) -> Array:
    """That of the last axis, in nats: 0 is certain, ln 10 = 2.303 is any of ten."""
    made: Array = -(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1)
    return made


def mutual_information(p: Array) -> Array:
    """How much of the entropy is there because the passes disagree."""
    made: Array = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
    return made


def turned(image: Array, angle: float) -> Array:
    """An image, counterclockwise."""
    made = Image.fromarray(image.astype(np.float32)).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(made)


def report(drawn: Mapping[str, Array], groups: Sequence[str], labels: Array) -> None:
    """Print what the passes of each kind say of each group of images.

    Args:
        drawn: by what drew the weights, (passes, groups, images, classes).
        groups: their names, noise last.
        labels: of the images of every other group.
    """
    print(f"{'':5}" + "".join(f"  {name:>8}{'':15}" for name in drawn).rstrip())
    print(f"{'':5}" + "     right entropy  mutual" * len(drawn))
    for at, group in enumerate(groups):
        line = f"{group:5}"
        for p in drawn.values():
            mean = p[:, at].mean(axis=0)
            right = f"{(mean.argmax(axis=-1) == labels).mean():.1%}"
            spread = max(mutual_information(p[:, at]).mean(), 0)
            line += f"    {right if group != groups[-1] else '-':>6}"
            line += f"  {entropy(mean).mean():6.3f}  {spread:6.3f}"
        print(line)


def draw_picture(three: Array, of_three: Array, curves: Mapping[str, Array], path: Path) -> None:
    """The turned digit, what the passes take it for, and the averages of all digits.

    Args:
        three: the digit at every angle.
        of_three: (passes, angles, classes).
        curves: mutual information by what drew the weights, at every angle.
        path: the file to write.
    """
    with plotting.styled():
        figure = plotting.new_figure(9, 7.5)
        strip, classes, averages = figure.subplots(3, 1, sharex=True, height_ratios=[1, 4, 3])
        half = ANGLES.step / 2
        edges = (ANGLES[0] - half, ANGLES[-1] + half, 0, 1)
        strip.imshow(np.hstack([*three]), cmap="gray_r", extent=edges, aspect="auto")
        strip.set_axis_off()
        strip.set_title(f"{len(of_three)} passes with dropout: their mean, and the middle 80 %")
        most = np.argsort(of_three.mean(axis=0).max(axis=0))[::-1]
        for number, colour in zip(most, COLOURS, strict=False):
            low, high = np.quantile(of_three[..., number], [0.1, 0.9], axis=0)
            classes.fill_between(ANGLES, low, high, color=colour, alpha=0.25, linewidth=0)
            mean = of_three[..., number].mean(axis=0)
            classes.plot(ANGLES, mean, color=colour, marker="o", markersize=4, label=f"{number}")
        classes.set_ylabel("probability")
        for (name, curve), line in zip(curves.items(), ("-", "--"), strict=True):
            averages.plot(ANGLES, curve, color=plotting.INK, linestyle=line, label=name)
        averages.set_ylabel("mutual information\n(nats), all digits")
        averages.set_ylim(bottom=0)
        averages.set_xticks([*ANGLES][::2], [f"{angle}°" for angle in ANGLES[::2]])
        for axes in (classes, averages):
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        plotting.save_figure(figure, path)


def main(arguments: list[str] | None = None) -> None:
    """Print accuracy, entropy and mutual information over the angle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=model_file, nargs="?", default=SAMPLES / "mnist_cnn.keras")
    parser.add_argument("--passes", type=positive, default=50, help="with weights of their own")
    parser.add_argument("--samples", type=positive, default=200, help="of MNIST, at most 1000")
    parser.add_argument("--rate", type=fraction, default=0.1, help="of rows that are dropped")
    parser.add_argument(
        "--scale", type=float, default=0.2, help="of the noise; 1: the column's own"
    )
    parser.add_argument("--picture", type=Path, help="an .svg or .png to be drawn")
    options = parser.parse_args(arguments)
    if options.picture:
        plotting.require_matplotlib()

    data = load_samples("mnist", options.samples)
    if data.labels is None:
        raise ValueError("no labels")
    images, labels = np.stack([*data.images]), data.labels[: options.samples]
    groups = {f"{angle}°": [turned(image, angle) for image in images] for angle in ANGLES}
    groups["noise"] = [*np.random.default_rng(0).random(images.shape)]
    fed = np.array([*groups.values()], np.float32)
    x = fed.reshape(-1, *images.shape[1:], 1)

    with tempfile.TemporaryDirectory() as folder:
        converted = convfc.convert(options.model, Path(folder) / "m_fc.keras").out
        model = keras.models.load_model(converted, compile=False)
    by_rows, by_noise = partial(dropped, rate=options.rate), partial(gaussian, scale=options.scale)
    drawn = {
        "as it is": probabilities(model, x)[None],
        "dropout": passes(model, x, options.passes, by_rows),
        "Gaussian": passes(model, x, options.passes, by_noise),
    }
    drawn = {name: p.reshape(len(p), *fed.shape[:2], -1) for name, p in drawn.items()}
    report(drawn, [*groups], labels)
    if options.picture:
        three = [*labels].index(3)
        at = slice(len(ANGLES))
        curves = {name: mutual_information(p[:, at]).mean(axis=-1) for name, p in drawn.items()}
        del curves["as it is"]
        draw_picture(fed[at, three], drawn["dropout"][:, at, three], curves, options.picture)


if __name__ == "__main__":
    run(main)
