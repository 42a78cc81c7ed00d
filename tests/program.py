"""The program as a script runs it, and what its output is compared with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convfc.cli.main import main

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


Here = Callable[..., subprocess.CompletedProcess[str]]
"""Runs the program as `cli` does, but in this process, where all libraries are there already."""


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the program in this process, where it can be tampered with: its exit code."""
    monkeypatch.setattr(sys, "argv", ["convfc", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


AGREED = {"", "layer", "convolution", "parameters", "integer draws", "chance of a miss", "verdict"}
AGREED |= {"output", "shape", "top-1", "tensor", "made by"}
"""Columns of a verification that are the same on every machine, and what is beside the table."""


def without_figures(text: str) -> str:
    """A verification's words: how large the differences are depends on the machine."""
    lines, names = [], [""]
    for line in text.splitlines():
        # A column is as wide as its widest figure.
        cells = [" ".join(cell.split()) for cell in re.split("[│┃]", line)]
        if line[:1] == "┃":
            names = cells
        elif line[:1] == "│":
            columns = zip(names, cells, strict=True)
            cells = [cell if name in AGREED else "#" for name, cell in columns]
        if line[:1] not in "┏┡└":
            lines.append(" | ".join(cells).strip())
    return re.sub(r"(difference) .*", r"\1 #", "\n".join(lines) + "\n")
