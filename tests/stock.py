"""Runs two model files in their stock runtime, without convfc, and prints how far they are apart.

    python -m tests.stock A B

The last line is a number: the largest difference of an output, as a share of its largest number,
over a few random inputs; or "not comparable: " and why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Runner = Callable[[Sequence[Array]], Sequence[Any]]

OPEN = 48
"""What an open size is; of the first axis, 2."""


def array_of(random: np.random.Generator, shape: Sequence[int | None], dtype: str) -> Array:
    """Random numbers for an input; small whole ones for integers, which may be indices."""
    sizes = [size or (OPEN if axis else 2) for axis, size in enumerate(shape)]
    if np.dtype(dtype).kind == "f":
        return random.normal(size=sizes).astype(dtype)
    return random.integers(0, 2, sizes).astype(dtype)


def onnx_runner(path: Path) -> tuple[Runner, list[tuple[tuple[int | None, ...], str]]]:
    """How to run an ONNX file in onnxruntime, as it is by default, and its inputs."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {"float": "float32", "double": "float64"}
    ports = []
    for port in session.get_inputs():
        shape = tuple(size if isinstance(size, int) else None for size in port.shape)
        word = port.type.removeprefix("tensor(").removesuffix(")")
        ports.append((shape, names.get(word, word)))
    fed = [port.name for port in session.get_inputs()]
    return lambda xs: session.run(None, dict(zip(fed, xs, strict=True))), ports


def keras_runner(path: Path) -> tuple[Runner, list[tuple[tuple[int | None, ...], str]]]:
    """How to run a Keras file in Keras, and its inputs."""
    import keras

    model = keras.saving.load_model(path, compile=False)
    ports = [(tuple(tensor.shape), str(tensor.dtype)) for tensor in model.inputs]

    def run(xs: Sequence[Array]) -> Sequence[Any]:
        made = model(list(xs) if len(xs) > 1 else xs[0], training=False)
        return [np.asarray(y) for y in keras.tree.flatten(made)]

    return run, ports


def differences(a: Sequence[Any], b: Sequence[Any]) -> Iterator[float]:
    """Of each pair of outputs, as a share of the first one's largest number."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} outputs and {len(b)}")
    for x, y in zip(a, b, strict=True):
        p, q = np.asarray(_plain(x)), np.asarray(_plain(y))
        if p.shape != q.shape or p.dtype != q.dtype:
            raise ValueError(f"{p.dtype}{p.shape} and {q.dtype}{q.shape}")
        if p.dtype.kind not in "iufb":
            yield float(not np.array_equal(p, q))
            continue
        p, q = p.astype(np.float64), q.astype(np.float64)
        if not np.array_equal(np.isfinite(p), np.isfinite(q)):
            yield np.inf
        gap = abs(p - q)[np.isfinite(p) & np.isfinite(q)]
        scale = float(abs(p[np.isfinite(p)]).max(initial=0)) or 1.0
        yield float(gap.max(initial=0)) / scale


def _plain(output: Any) -> Any:
    """A sequence of maps as the numbers in them, by their keys in order."""
    if isinstance(output, list) and output and isinstance(output[0], dict):
        return [[one[key] for key in sorted(one)] for one in output]
    return output


def compare(a: Path, b: Path, rounds: int = 3) -> float:
    """The largest difference over some random inputs."""
    runner = onnx_runner if a.suffix == ".onnx" else keras_runner
    (first, ports), (second, others) = runner(a), runner(b)
    if len(ports) != len(others):
        raise ValueError(f"{len(ports)} inputs and {len(others)}")
    random = np.random.default_rng(0)
    # What convfc fixed to a size takes only that; all else takes any.
    shapes = [
        [own or other for own, other in zip(p[0], q[0], strict=True)]
        for p, q in zip(ports, others, strict=True)
    ]
    worst = 0.0
    for _ in range(rounds):
        pairs = zip(shapes, ports, strict=True)
        feed = [array_of(random, shape, dtype) for shape, (_, dtype) in pairs]
        worst = max(worst, *differences(first(feed), second(feed)))
    return worst


def main() -> None:
    """Compare the two files that the command line names."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        said = f"{compare(Path(sys.argv[1]), Path(sys.argv[2])):.3g}"
    except Exception as error:  # runtimes raise what they like; it is what the table says
        said = f"not comparable: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main()
