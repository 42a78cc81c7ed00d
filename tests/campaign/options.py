"""What the command lines of the campaign and of the fuzzing share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """One that knows which cases, for how long, in how many processes."""
    made = argparse.ArgumentParser(
        program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("cases", nargs="*", metavar="CASE", help="names of cases, and no others")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--minutes", type=float, default=600, help="begin no case after so many")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    made.add_argument("--save", type=Path, default=Path("failures"), help="where findings go")
    return made
