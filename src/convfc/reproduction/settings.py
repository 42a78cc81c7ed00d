"""What an experiment is made of: its settings, the networks and the images they are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convfc import arguments
from convfc.core.arrays import Array
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution
from convfc.errors import DataError, UsageError
from convfc.samples.files import load_samples, packed_mnist, read_arrays

KERNEL, STRIDE = 4, 2
"""The convolution of the paper: 4x4, stride 2, no padding, no bias."""

NETWORKS = {
    "cnn": "CNN",
    "converted": "CNN converted by convfc",
    "patches": "Dense on patches",
    "again": "CNN, batches backwards",
}
"""The networks and what people call them. The others are compared with the first.

The last is the yardstick: the same CNN and the same batches, but each batch's images in reverse.
Nothing changes in it but the order in which its gradients are summed, so it shows what rounding
alone does. (Trained twice in the very same way, a network comes out the same bit for bit.)
"""

OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings:
    """What decides an experiment's result.

    Attributes:
        optimizers: "sgd", "adam" or both.
        epochs: passes over the training images.
        filters: of the convolution; the paper: 128.
        images: how many to train on, and as many others to validate on; the paper: 1000.
        batch: images per step.
        learning_rate: of the optimizers; ``None`` for Keras' own: 0.01 (SGD), 0.001 (Adam).
        seed: of the starting weights and of the order of the images.
        data: "mnist" (packed with convfc), or a file or folder; see `load_images`.
    """

    optimizers: tuple[str, ...] = OPTIMIZERS
    epochs: int = 100
    filters: int = 16
    images: int = 1000
    batch: int = 128
    learning_rate: float | None = None
    seed: int = 0
    data: str = "mnist"

    def __post_init__(self) -> None:
        for name in ("epochs", "filters", "images", "batch", "seed"):
            arguments.whole(name, getattr(self, name))
        unknown = [name for name in self.optimizers if name not in OPTIMIZERS]
        if unknown or not self.optimizers:
            raise UsageError(f"optimizer {', '.join(unknown) or 'none'}: choose sgd, adam or both")
        if min(self.epochs, self.filters, self.images, self.batch) < 1 or self.seed < 0:
            raise UsageError("epochs, filters, images and batch must be at least 1, the seed 0")
        rate = self.learning_rate
        if rate is not None and not 0 < arguments.real("learning_rate", rate) < np.inf:
            raise UsageError(f"learning rate {rate}: must be a positive number")

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Which images each step of an epoch sees, in order: the same for every network."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        return [order[start : start + self.batch] for start in range(0, self.images, self.batch)]

    def convolution(self, channels: int) -> Convolution:
        """The geometry of the first layer."""
        return convolution(
            [KERNEL, KERNEL], channels=channels, filters=self.filters, strides=[STRIDE, STRIDE]
        )


@dataclass(frozen=True)
class Images:
    """What the networks see, each (images, height, width, channels), float32, mostly 0..1.

    Attributes:
        training: to train on.
        validation: others, to measure the loss on after each epoch.
        new: others, to compare the outputs of the first layers on.
        source: one phrase that says what they are.
    """

    training: Array
    validation: Array
    new: Array
    source: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.training.shape[1:]
        return height, width, channels


def load_images(data: str, count: int) -> Images:
    """Read three times ``count`` images: to train on, to validate on, and new ones.

    An .npz with x_train and x_test, or the packed MNIST, gives the first images of x_train, those
    of x_test, and the next of x_train. Anything else that `load_samples` reads gives them in its
    own order. Where there are no more than two parts, the validation images are the new ones: no
    network is trained on them either.

    Raises:
        DataError: unreadable, too few, too small, or images of different sizes.
    """
    if data == "mnist":
        parts, source = _parts(packed_mnist()), "MNIST images packed with convfc"
    else:
        path = Path(data)
        arrays = read_arrays(path) if path.suffix == ".npz" else {}
        parts, source = _parts(arrays), f"images of {data}"
    if parts:
        training, validation = parts
        pools = [training[:count], validation[:count], training[count : 2 * count]]
    else:
        found = list(load_samples(data).images)
        if len({image.shape for image in found}) > 1:
            raise DataError(f"{data}: its images have different sizes; the networks need one size")
        pools = [np.asarray(found[n * count : (n + 1) * count]) for n in range(3)]
    if len(pools[1]) < count:
        held = len(parts[0]) if parts else len(pools[0]) + len(pools[1])
        raise DataError(
            f"{data}: holds too few images ({held})", remedy="ask for fewer with --images"
        )
    if len(pools[2]) < count:
        pools[2] = pools[1]
        source += ", the validation images as new ones"
    training, validation, new = (_prepared(pool, data) for pool in pools)
    return Images(training, validation, new, f"{count} + {count} {source}")


def _parts(arrays: dict[str, Array]) -> tuple[Array, Array] | None:
    if "x_train" in arrays and "x_test" in arrays:
        return arrays["x_train"], arrays["x_test"]
    return None


def _prepared(images: Array, data: str) -> Array:
    """Float32, 8-bit values scaled to 0..1, with a channel axis."""
    prepared = images.astype(np.float32)
    if images.dtype == np.uint8:
        prepared /= 255
    if prepared.ndim == 3:
        prepared = prepared[..., None]
    if prepared.ndim != 4 or min(prepared.shape[1:3]) < KERNEL:
        raise DataError(f"{data}: the networks need images of at least {KERNEL}x{KERNEL} pixels")
    return prepared
