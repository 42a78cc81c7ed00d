"""What the examples have in common at the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import convfc


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


def run(main: Callable[[], None]) -> None:
    """Run an example; a file that is missing or unfit is one line and exit code 2."""
    try:
        main()
    except convfc.ConvfcError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
