"""Converted over native, on onnxruntime's CPU with its default options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import peers
from benchmarks.tables import Row
from benchmarks.timing import in_turns, peaks
from convfc import PatchMethod, convert

METHODS = [method.value for method in PatchMethod if method is not PatchMethod.NONE]
"""The values of --patches, auto first."""
OWN_COLUMNS = ["net", "native ms", *METHODS, "native MB", "auto MB", "memory"]
COLUMNS = [*OWN_COLUMNS, *peers.PEERS]
RATIOS = [*METHODS, "memory", *peers.PEERS]

_UNEQUAL = 1e-2
"""Difference of outputs, over the largest, that no order of summation explains."""


def session(path: str | Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session as everybody gets it; 0 threads are as many as there are cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(
    opened: onnxruntime.InferenceSession, sizes: Sequence[int] = ()
) -> dict[str, NDArray[Any]]:
    """Random images, one of each where the batch size is open; of these sizes if given."""
    random = np.random.default_rng(0)
    shapes = {
        port.name: [size if isinstance(size, int) else 1 for size in port.shape]
        for port in opened.get_inputs()
    }
    return {
        name: random.normal(size=[1, *sizes] if sizes else shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def measure(
    path: Path, folder: Path, seconds: float, others: Mapping[str, str]
) -> tuple[Row, list[str]]:
    """A row of ratios, and notes.

    Args:
        path: the native model.
        folder: for the converted ones, which are removed again.
        seconds: to measure each variant for.
        others: the interpreters of peers that are installed, by name.
    """
    notes: list[str] = []
    net = path.stem.removesuffix("_folded")
    files, same = _variants(path, folder, others, notes)
    opened = {"native": session(path)}
    x = feed(opened["native"])
    expected = opened["native"].run(None, x)
    for name, file in files.items():
        try:
            opened[name] = session(file)
        except Exception:  # onnxruntime has no base class for its errors
            if name not in others:
                raise
            notes.append(f"{net}: {name}: onnxruntime cannot load what it made")
            continue
        for a, b in zip(expected, opened[name].run(None, x), strict=True):
            scale = np.abs(a).max()
            if not np.abs(a - b).max() <= _UNEQUAL * scale:
                raise RuntimeError(f"{path.stem}: {name} computes something else")
    runs = [partial(one.run, None, x) for one in opened.values()]
    times = dict(zip(opened, in_turns(runs, seconds * len(runs)), strict=True))
    runs.clear()
    opened.clear()
    row: Row = {"net": net, "native ms": times["native"]}
    row |= {name: times[name] / times["native"] for name in files if name in times}
    row |= {name: row[other] for name, other in same.items()}
    row |= peaks("onnx", path, files["auto"])
    for file in files.values():
        file.unlink()
    return row, notes


def _variants(
    path: Path, folder: Path, others: Mapping[str, str], notes: list[str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """The converted files by method and peer, and the methods that do the same as another."""
    files: dict[str, Path] = {}
    same: dict[str, str] = {}
    known: list[tuple[str, object]] = []
    for method in METHODS:
        out = folder / f"{path.stem}_{method}.onnx"
        done = convert(path, out, patches=method, force=True)
        if not done.written:
            continue
        lowerings = [layer.lowering for layer in done.layers]
        twin = next((name for name, its in known if its == lowerings), None)
        if twin is not None:
            same[method] = twin
            out.unlink()
            continue
        known.append((method, lowerings))
        files[method] = out
    for peer, python in others.items():
        out = folder / f"{path.stem}_{peer}.onnx"
        said = peers.lower(peer, python, path, out)
        notes.append(f"{path.stem.removesuffix('_folded')}: {peer}: {said}")
        if out.exists():
            files[peer] = out
    return files, same
