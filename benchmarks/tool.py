"""How long `convfc` itself takes, beside loading and saving the file with onnx_ir or Keras."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tables import Row
from benchmarks.timing import Process, in_process

COLUMNS = [
    *("file", "MB", "load + save s", "start-up s", "convert s", "ratio"),
    *("load + save peak MB", "convert peak MB", "shapes s"),
]
_TIMES = 3
"""Runs of each program, of which the fastest counts."""


def measure(path: Path, tiny: Path, folder: Path) -> Row:
    """Seconds and peak memory of both.

    The ratio is what conversion takes beyond the start of the program, over load + save.

    Args:
        path: the model.
        tiny: one that takes no time; what is left is the start of the program.
        folder: for what is written.
    """
    out = folder / f"tool{path.suffix}"

    def best(module: str, *arguments: str) -> Process:
        return min(in_process(module, *arguments) for _ in range(_TIMES))

    copy = best("benchmarks.child", "copy", str(path), str(out))
    copied = float(copy.output)  # without the imports
    start = best("convfc", "convert", str(tiny), "-o", str(out), "--force")
    convert = best("convfc", "convert", str(path), "-o", str(out), "--force")
    shapes = best("convfc", "shapes", str(path))
    out.unlink()
    return {
        "file": path.name,
        "MB": path.stat().st_size / 1e6,
        "load + save s": copied,
        "start-up s": start.seconds,
        "convert s": convert.seconds,
        "ratio": (convert.seconds - start.seconds) / copied,
        "load + save peak MB": copy.peak,
        "convert peak MB": convert.peak,
        "shapes s": shapes.seconds,
    }
