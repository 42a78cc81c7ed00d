"""The program as a script runs it, and what its output is compared with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "sample_models"

GOLDEN = Path(__file__).parent / "golden"


def cli(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a script would: no terminal anywhere."""
    plain = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    return subprocess.run(
        [sys.executable, "-m", "convfc", *map(str, arguments)],
        cwd=cwd,
        env={**plain, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def without_figures(text: str) -> str:
    """A verification's words: how large the differences are depends on the machine."""
    lines = []
    for line in text.splitlines():
        # A column is as wide as its widest figure.
        cells = [" ".join(cell.split()) for cell in re.split("[│┃]", line)]
        if cells[3:4] == ["bit for bit"]:
            cells[6] = "#"
        elif len(cells) == 11 and "output" not in cells:
            cells[3:7] = "#" * 4
            cells[8:10] = "#" * 2
        if line[:1] not in "┏┡└":
            lines.append(" | ".join(cells).strip())
    return re.sub(r"(difference) .*", r"\1 #", "\n".join(lines) + "\n")
