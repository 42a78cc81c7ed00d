"""The fuzzing: thousands of spoiled files and odd command lines, and what convfc makes of them.

    python -m tests.fuzz [--count N] [--minutes M] [--seed S] [--jobs J] [--save FOLDER]
                         [--format onnx|keras|samples|numbers] [--models FOLDER] [CASE..]

A case is one or two model files (or samples, or only numbers) with something spoiled in them: any
field of an ONNX message, attributes, data and links of HDF5, members and directory of a zip, what
is written in JSON, convfc's own record, data in other files, or any bytes; and one command about
them: convert, verify, revert, shapes, explain or matrix. The command is run through the program's
entry point, under limits, and judged by the rules in `judging`: no traceback, nothing unforeseen,
no hang, not much memory, no crash, no stray or partial file, no changed input, nothing that steers
a terminal, JSON where it was asked for, an exit code and a message that say what happened.

What is found is kept in the folder of `--save`, one case for each sort of fault: the files, a
script that does it again (`again.sh`), what came of it, and in `smaller/` the files made smaller.
A case has a name, from which it is made again: `python -m tests.fuzz "onnx 17"` does that one
alone, under the same seed. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.campaign.options import parser
from tests.campaign.pool import Work, results
from tests.fuzz.cases import Fault, Outcome
from tests.fuzz.making import FORMATS
from tests.fuzz.report import Report, describe
from tests.fuzz.serving import serve

SHARES = {"onnx": 17, "keras": 1, "samples": 1, "numbers": 1}
"""Cases of each format out of twenty: those of Keras take ten times as long."""

LIMIT = 600.0
"""Seconds after which a worker itself is taken for hung: one that makes a file smaller is slow."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    options = _options(arguments)
    # Before anything is imported in a worker: a fork must find no threads.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    console = Console(width=None if sys.stdout.isatty() else 130)
    cases = options.cases or _cases(options.count, options.format)
    report, start, kept = Report(), time.monotonic(), {}
    found = _results(cases, options, options.minutes * 60)
    for number, outcome in enumerate(found, 1):
        new = report.add(outcome)
        for fault in new:
            console.print(describe(outcome, fault), markup=False, soft_wrap=True, highlight=False)
            kept[outcome.case] = outcome
        if not new and outcome.folder is not None:
            shutil.rmtree(outcome.folder)
        if number % 500 == 0:
            took = time.monotonic() - start
            console.print(f"{number:,} of {len(cases):,} cases in {took:.0f} s")
    took = time.monotonic() - start
    smaller = [f"smaller {case}" for case in kept]
    for outcome in _results(smaller, options, options.smaller * 60):
        console.print(f"{outcome.case}: {outcome.what}", markup=False, soft_wrap=True)
    report.show(console)
    console.print(f"{took:.0f} s, {report.total / took:.1f} cases in a second")
    if report.total < len(cases):
        console.print(f"{len(cases) - report.total:,} cases were not begun in time")
    return 1 if report.found else 0


def _results(
    cases: Sequence[str], options: argparse.Namespace, seconds: float
) -> Iterator[Outcome]:
    """What comes of the cases: those of Keras last, in workers that have imported it."""
    end = time.monotonic() + seconds
    heavy = [case for case in cases if "keras" in case.split()[:2]]
    light = [case for case in cases if case not in set(heavy)]
    for some, formats in ((light, ("onnx",)), (heavy, ("keras",))):
        share = seconds * len(light) / len(cases) if some is light and heavy else seconds
        share = min(share, end - time.monotonic())
        with TemporaryDirectory(prefix="fuzz-") as folder:
            arguments = (formats, options.seed, options.models, options.save, Path(folder))
            work = Work(serve, arguments, lost, lambda _: LIMIT)
            yield from results(some, options.jobs, work, share)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("python -m tests.fuzz", __doc__)
    made.add_argument("--count", type=int, default=2000)
    made.add_argument("--format", choices=FORMATS)
    made.add_argument("--models", type=Path, help="a folder of models to spoil as well")
    made.add_argument(
        "--smaller", type=float, default=5, help="minutes for making what is found smaller"
    )
    return made.parse_args(arguments)


def _cases(count: int, only: str | None) -> list[str]:
    """The names of the cases of a run."""
    if only:
        return [f"{only} {number}" for number in range(count)]
    wheel = [name for name, share in SHARES.items() for _ in range(share)]
    return [f"{wheel[number % len(wheel)]} {number}" for number in range(count)]


def lost(case: str, verdict: str, reason: str) -> Outcome:
    """What came of a case whose worker itself ended, which it never should."""
    fault = Fault("worker", f"the worker {verdict}: {reason}", verdict)
    return Outcome(case, "", (), "", (), verdict, faults=(fault,))


if __name__ == "__main__":
    sys.exit(main())
