"""The campaign: thousands of spoiled conversions and of true ones, and what convfc says of them.

    python -m tests.campaign [--mutants N] [--dense N] [--true N] [--seed S] [--minutes M]
                             [--format onnx|keras] [--only FAMILY] [--jobs J]
                             [--models FOLDER] [--simplify COMMAND].. [--save FOLDER] [CASE..]

A **mutant** is the conversion of a small model with something changed: any field of the file by
chance, or something out of the hand-made families (`onnx_families`, `keras_families`). Both the
original and the mutant are *run*, with several batches, sizes and magnitudes, and with the inputs
that the hostile ones wait for; that tells whether the mutant computes something else. If it does
and convfc says EQUIVALENT, that is a failure; so is every exception that is not a ConvfcError.
Cases that hang or crash are listed (a mutant may hold a loop that never ends, and onnxruntime may
abort), and go on in another process.

A **dense** mutant (`dense`) is the dense form of a random layer with another matrix.

A **true** conversion is one of a random layer, of a model of onnx's own suites, or of a file in
the folder of `--models`, also after a simplifier (a command that takes two file names, such as
"onnxsim" or "onnxslim"). If convfc says NOT EQUIVALENT, that is a failure.

A case has a name, from which it is made again: `python -m tests.campaign "onnx mutant 17"` does
that one alone; failures are listed with theirs, and their files are kept in the folder of
`--save`. The exit code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.campaign.options import parser
from tests.campaign.pool import outcomes
from tests.campaign.report import Report, describe
from tests.campaign.truths import file_cases, suite_cases

KERAS_SHARE = 6
"""One in so many mutants and true conversions is one of a Keras file: they take longer."""


def main() -> int:
    """Run the campaign; the exit code."""
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 110)
    cases = options.cases or _cases(options)
    report, start = Report(), time.monotonic()
    found = outcomes(
        cases, options.jobs, options.seed, options.only, options.save, options.minutes * 60
    )
    for number, outcome in enumerate(found, 1):
        report.add(outcome)
        if outcome.failure is not None or options.cases:
            console.print(describe(outcome), markup=False, soft_wrap=True, highlight=False)
        if number % 500 == 0:
            took = time.monotonic() - start
            console.print(f"{number:,} of {len(cases):,} cases in {took:.0f} s")
    report.show(console)
    if report.total < len(cases):
        console.print(f"{len(cases) - report.total:,} cases were not begun in time")
    return 1 if report.failures else 0


def _options() -> argparse.Namespace:
    made = parser("python -m tests.campaign", __doc__)
    made.add_argument("--mutants", type=int, default=5400)
    made.add_argument("--dense", type=int, default=8000)
    made.add_argument("--true", type=int, default=2000)
    made.add_argument("--format", choices=["onnx", "keras"])
    made.add_argument("--only", help="the one family that mutants are made of")
    made.add_argument("--models", type=Path, help="a folder of models to convert")
    made.add_argument("--simplify", action="append", default=[], metavar="COMMAND")
    return made.parse_args()


def _cases(options: argparse.Namespace) -> list[str]:
    """The names of the cases of a run, those of files first: they take longest."""
    suite = suite_cases() if options.true and options.format != "keras" else []
    cases = file_cases(options.models, options.simplify) if options.models else []
    cases += suite[: options.true]
    for sort, count in (("true", options.true - len(suite)), ("mutant", options.mutants)):
        for number in range(max(count, 0)):
            kind = options.format or ("keras" if number % KERAS_SHARE == 0 else "onnx")
            cases.append(f"{kind} {sort} {number}")
    for kind in (options.format,) if options.format else ("onnx", "keras"):
        share = options.dense // (1 if options.format else 2)
        cases += [f"{kind} dense {number}" for number in range(share)]
    return cases


if __name__ == "__main__":
    sys.exit(main())
