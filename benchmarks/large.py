"""What a file of large weights and one of many layers take to convert."""

from __future__ import annotations

from pathlib import Path

import onnx

from benchmarks import nets
from benchmarks.tables import Row
from benchmarks.timing import Process, in_process

COLUMNS = [
    *("file", "MB", "convolutions", "convert s", "CPU s", "peak MB", "over file"),
    *("no look: convert s", "no look: CPU s", "no look: peak MB"),
]
_START = 300
"""MB that the program takes with all that it imports, at most."""
_WIDE = 512


def heavy(megabytes: int, folder: Path) -> Path:
    """A file in one piece with so many MB of weights, at least, in wide convolutions."""
    count = -(-megabytes * 10**6 // (_WIDE * _WIDE * 9 * 4))
    return _saved(nets.chain([(_WIDE, _WIDE, 3, 1)] * count, size=8, pad=1), folder / "heavy.onnx")


def many(count: int, folder: Path) -> Path:
    """A file with so many small convolutions, each with a Relu behind it."""
    return _saved(nets.chain([(4, 4, 3, 1)] * count, size=8, pad=1), folder / "many.onnx")


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def measure(path: Path, folder: Path, turns: int = 3) -> Row:
    """Seconds and peak memory of `convfc convert`, with its look and without: the least of some.

    Memory over the file's own size leaves out what any start of the program takes.

    Args:
        path: the model.
        folder: for what is written.
        turns: how often each is run.
    """
    out = folder / "large_fc.onnx"
    count = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)

    def least(*options: str) -> Process:
        arguments = ["convert", str(path), "-o", str(out), "--force", *options]
        runs = [in_process("convfc", *arguments) for _ in range(turns)]
        seconds, cpu, peak = (min(figures) for figures in zip(*(r[:3] for r in runs), strict=True))
        return Process(seconds, cpu, peak, "")

    look, plain = least(), least("--no-check")
    out.unlink()
    megabytes = path.stat().st_size / 1e6
    return {
        "file": path.name,
        "MB": megabytes,
        "convolutions": str(count),
        "convert s": look.seconds,
        "CPU s": look.cpu,
        "peak MB": look.peak,
        "over file": max(look.peak * 2**20 / 1e6 - _START, 0) / megabytes,
        "no look: convert s": plain.seconds,
        "no look: CPU s": plain.cpu,
        "no look: peak MB": plain.peak,
    }
