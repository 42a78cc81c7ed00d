"""Converted over native on real kinds of networks, on one thread and on two."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.onnx_nets import session
from benchmarks.real_nets import NETS, make
from benchmarks.tables import Row
from benchmarks.timing import peaks, rounds
from convfc import convert

_THREADS = (1, 2)
_RATIOS = [f"{kind} {threads}" for threads in _THREADS for kind in ("ratio", "median")]
COLUMNS = ["net", "native ms", *_RATIOS, "over known", "native MB", "auto MB", "memory"]
"""`ratio` and `median` of shortest and of median times, by threads; `over known`: what open sizes
cost, over the same network with known ones, both converted, by the shortest time on one thread."""
RATIOS = [*_RATIOS, "memory"]

_UNEQUAL = {False: 1e-3, True: 0.5}
"""Difference of outputs, over the largest, that rounding explains, by whether it is quantized:
random weights leave classes alike, of which steps of 8 bits are a large part."""


def measure(name: str, folder: Path, scratch: Path, seconds: float) -> Row:
    """A row of ratios.

    Args:
        name: of `NETS`.
        folder: where networks are kept.
        scratch: for the converted ones, which are removed again.
        seconds: to measure each variant for.
    """
    net = NETS[name]
    paths = {"native": make(name, folder)}
    paths["converted"] = _converted(paths["native"], scratch)
    if net.opened:
        paths["known"] = _converted(make(name, folder, opened=False), scratch)
    (x,) = net.feeds()
    expected = session(paths["native"]).run(None, x)[0]
    row: Row = {"net": name}
    for threads in _THREADS:
        sessions = [session(path, threads) for path in paths.values()]
        for opened in sessions:
            found = opened.run(None, x)[0]
            scale = np.abs(expected).max()
            if not np.abs(found - expected).max() <= _UNEQUAL[net.quantized] * scale:
                raise RuntimeError(f"{name}: the converted model computes something else")
        runs = [partial(opened.run, None, x) for opened in sessions]
        times = dict(zip(paths, rounds(runs, seconds * len(runs)), strict=True))
        shortest = {variant: min(found) for variant, found in times.items()}
        median = {variant: float(np.median(found)) for variant, found in times.items()}
        if threads == 1:
            row["native ms"] = shortest["native"]
            if net.opened:
                row["over known"] = shortest["converted"] / shortest["known"]
        row[f"ratio {threads}"] = shortest["converted"] / shortest["native"]
        row[f"median {threads}"] = median["converted"] / median["native"]
        runs.clear()
    row |= peaks("onnx", paths.pop("native"), paths["converted"], *map(str, net.shape))
    for path in paths.values():
        path.unlink()
    return row


def _converted(path: Path, scratch: Path) -> Path:
    out = scratch / f"{path.stem}_fc.onnx"
    if not convert(path, out, force=True).written:
        raise RuntimeError(f"{path.stem} was not converted")
    return out
