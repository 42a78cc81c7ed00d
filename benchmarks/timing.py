"""Times that can be compared, and the peak memory of a process."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_PAUSE = 0.03
"""Seconds in which a runtime's threads stop waiting for work: they keep a core busy until then."""
_COUNTED = 4
"""Runs of a turn whose time is kept."""
_TURNS = 3
"""The fewest turns."""


def in_turns(runs: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The shortest time that each function takes, in milliseconds; see `rounds`."""
    return list(map(min, rounds(runs, seconds)))


def rounds(runs: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Every time that each function takes, in milliseconds.

    In each turn, every function is called once for nothing, when its memory and its threads wake
    up, and then a few times. So whatever else the machine does falls on all of them alike; and
    that only ever adds to a time.

    Args:
        runs: what to measure.
        seconds: how long to go on, at least.
    """
    found: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(found[0]) < _TURNS * _COUNTED or time.perf_counter() < end:
        for run, times in zip(runs, found, strict=True):
            time.sleep(_PAUSE)
            run()
            for _ in range(_COUNTED):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
    return found


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns, called in a fresh process.

    What a network leaves behind in memory makes the next one in the process slower, and not all of
    its variants alike: a small one took 1.7 times as long, and its ratio was 3.9 instead of 2.4.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


class Process(NamedTuple):
    """What a process took: seconds, also of processors, MB at its peak, and what it printed."""

    seconds: float
    cpu: float
    peak: float
    output: str


def in_process(module: str, *arguments: str) -> Process:
    """Run a module as a program of its own; paths that it is given must be absolute.

    Raises:
        RuntimeError: it failed.
    """
    program = [sys.executable, "-m", module, *arguments]
    command = [sys.executable, "-m", "benchmarks.launch", *program]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{' '.join(program)} failed: {done.stderr.strip()[-500:]}")
    *lines, figures = done.stdout.splitlines()
    seconds, cpu, peak = map(float, figures.split())
    return Process(seconds, cpu, peak, "\n".join(lines))


def peaks(kind: str, native: Path, converted: Path, *sizes: str) -> dict[str, float]:
    """Peak memory of a process that runs a model, for both models in MB, and their ratio.

    `sizes` are those of its input but for the batch, where the file does not tell them.
    """
    before, after = (
        in_process("benchmarks.child", kind, str(path), *sizes).peak for path in (native, converted)
    )
    return {"native MB": before, "auto MB": after, "memory": after / before}
