"""Converted over native, in Keras on TensorFlow: `.keras` files, run as TensorFlow graphs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import Row
from benchmarks.timing import in_turns, peaks
from convfc import PatchMethod, convert
from convfc.formats.keras.quiet import importing

with importing():
    import keras
    import tensorflow

NETS = ("ResNet50", "VGG16", "MobileNetV2")
_FOREIGN = {PatchMethod.NONE, PatchMethod.TAPS, PatchMethod.SHIFT}
"""What nobody asks for, and what Keras files do not have."""
METHODS = [method.value for method in PatchMethod if method not in _FOREIGN]
COLUMNS = ["net", "native ms", *METHODS, "native MB", "auto MB", "memory"]
RATIOS = [*METHODS, "memory"]

_UNEQUAL = 1e-2


def make(net: str, folder: Path, suffix: str = ".keras") -> Path:
    """The file of a network of keras.applications with random weights."""
    path = folder / f"{net}{suffix}"
    if not path.exists():
        keras.utils.set_random_seed(0)
        getattr(keras.applications, net)(weights=None).save(path)
    return path


def make_tiny(folder: Path, suffix: str) -> Path:
    """A file that takes no time."""
    path = folder / f"tiny{suffix}"
    keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3)]).save(path)
    return path


def load(path: str | Path) -> Any:
    """A model, for inference only."""
    return keras.models.load_model(path, compile=False)


def graph(model: Any) -> Callable[[Any], Any]:
    """The model as one TensorFlow graph."""
    compiled = tensorflow.function(partial(model, training=False), autograph=False)
    return lambda x: compiled(x).numpy()


def feed(model: Any) -> Any:
    """One random image."""
    shape = [1, *model.input_shape[1:]]
    return tensorflow.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def measure(path: Path, folder: Path, seconds: float) -> Row:
    """A row of ratios.

    Args:
        path: the native model.
        folder: for the converted ones, which are removed again.
        seconds: to measure each variant for.
    """
    native = load(path)
    x = feed(native)
    runs = {"native": graph(native)}
    for method in METHODS:
        out = folder / f"{path.stem}_{method}.keras"
        if convert(path, out, patches=method, force=True).written:
            runs[method] = graph(load(out))
            if method != PatchMethod.AUTO.value:
                out.unlink()
    expected = runs["native"](x)
    for name, run in runs.items():
        if not np.abs(run(x) - expected).max() <= _UNEQUAL * np.abs(expected).max():
            raise RuntimeError(f"{path.stem}: {name} computes something else")
    calls = [partial(run, x) for run in runs.values()]
    times = dict(zip(runs, in_turns(calls, seconds * len(runs)), strict=True))
    row: Row = {"net": path.stem, "native ms": times["native"]}
    row |= {name: times[name] / times["native"] for name in METHODS if name in times}
    auto = folder / f"{path.stem}_{METHODS[0]}.keras"
    row |= peaks("keras", path, auto)
    auto.unlink()
    return row
