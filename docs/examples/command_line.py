"""What the examples have in common: arguments, and digits to train on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convfc
from convfc.samples.files import packed_mnist, read_arrays


def model_file(text: str) -> Path:
    """A file that convfc reads."""
    convfc.shapes(text)
    return Path(text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return int(text)


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def digits(path: Path | None, most: int | None) -> list[NDArray[Any]]:
    """Images of an mnist.npz and their labels, to train on and then to test with.

    Args:
        path: the file; 1,000 images of each kind if ``None``.
        most: take so many of each kind at most.
    """
    arrays = packed_mnist() if path is None else read_arrays(path)
    x, y, x_test, y_test = (
        arrays[name][:most] for name in ("x_train", "y_train", "x_test", "y_test")
    )
    x, x_test = (images[..., None].astype(np.float32) / 255 for images in (x, x_test))
    return [x, y, x_test, y_test]


def run(main: Callable[[], None]) -> None:
    """Run an example; a file that is missing or unfit is one line and exit code 2."""
    try:
        main()
    except convfc.ConvfcError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
