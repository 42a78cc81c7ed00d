"""A folder of people's model files: each is converted, verified, and compared without convfc.

    python -m tests.corpus [FOLDER ..]

Prints a row per file and then counts: what was converted, left and refused, by code. The exit code
is 1 if something is wrong: a verdict that the stock runtime contradicts, a converted file that
convfc does not call equivalent, a traceback, more than 60 seconds, or too much memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / "sample_models"]
SUFFIXES = (".onnx", ".h5", ".hdf5", ".keras")

PATIENCE = 600
"""Seconds for anything."""
SECONDS = 60
TIMES, FREE = 4, 1 << 30
"""Memory that a conversion may take: so many times the file, and what Python and Keras take."""
TELLING = 1e-3
"""A share by which outputs of the same function hardly differ: in float32 and int8."""
EQUIVALENT = "equivalent"


@dataclass
class Found:
    """What became of a file.

    Attributes:
        path: the file.
        fates: how many of its convolutions have which fate, and what code.
        refused: the code of the error that ended its conversion.
        verdict: that of `convfc verify`; empty where nothing was written.
        apart: what the stock runtime says.
        seconds: of convert.
        peak: bytes, of convert.
        wrong: what should not be, a few words each.
    """

    path: Path
    fates: Counter[str] = field(default_factory=Counter)
    refused: str = ""
    verdict: str = ""
    apart: str = ""
    seconds: float = 0.0
    peak: int = 0
    wrong: list[str] = field(default_factory=list)


def program(*arguments: object) -> tuple[int, str, str, float, int]:
    """Run a program of Python: exit code, stdout, stderr, seconds, bytes at its peak.

    The exit code is -9 of one that took longer than anybody would wait.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.launch",
        sys.executable,
        "-m",
        *map(str, arguments),
    ]
    child = subprocess.Popen(
        command, stdout=PIPE, stderr=PIPE, cwd=ROOT, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return -signal.SIGKILL, "", err, PATIENCE, 0
    *lines, figures = out.splitlines()
    seconds, _, peak = map(float, figures.split())
    return child.returncode, "\n".join(lines).strip(), err, seconds, int(peak * 2**20)


def examine(path: Path, folder: Path) -> Found:
    """Convert a file into a folder, verify the result, and compare both without convfc."""
    found, out = Found(path), folder / path.name
    code, said, err, found.seconds, found.peak = program(
        "convfc", "convert", path, "-o", out, "--partial", "--json"
    )
    if "Traceback" in err or "unforeseen" in err or code not in (0, 1, 2):
        found.wrong.append(f"convert: exit code {code}: {err.strip()[-100:]}")
        return found
    told: dict[str, Any] = json.loads(said)
    if "error" in told:
        found.refused = told["error"]["code"]
        return found
    for layer in told["layers"]:
        found.fates[layer["fate"] if layer["code"] is None else layer["code"]] += 1
    code, said, *_ = program("convfc", "verify", path, out, "--json")
    told = json.loads(said or "{}")
    found.verdict = told["error"]["code"] if "error" in told else told.get("verdict", f"{code}")
    lines = [f"not in {PATIENCE} s", *program("tests.stock", path, out)[1].split("\n")]
    found.apart = next(line for line in reversed(lines) if line)
    found.wrong += wrongs(found)
    return found


def wrongs(found: Found) -> list[str]:
    """What should not be, of a file that was converted."""
    apart = float(found.apart) if found.apart[:1].isdigit() or found.apart == "inf" else 0.0
    wrong = []
    if found.verdict != EQUIVALENT:
        wrong.append(f"verdict: {found.verdict}")
    elif apart > TELLING:
        wrong.append(f"EQUIVALENT, but {apart:.2g} apart")
    if found.seconds > SECONDS:
        wrong.append(f"{found.seconds:.0f} s")
    if found.peak > FREE + TIMES * found.path.stat().st_size:
        wrong.append(f"{found.peak >> 20} MiB")
    return wrong


def show(all_found: Sequence[Found], console: Console) -> None:
    """A row per file, and the counts."""
    table = Table(title="convert, verify, and the stock runtime")
    table.add_column("file", no_wrap=True)
    for name in ("converted", "left or refused", "verdict", "apart", "s", "MiB"):
        table.add_column(name, overflow="fold")
    left: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for one in all_found:
        fates = {**one.fates}
        converted, total = fates.pop("converted", 0), one.fates.total()
        left.update(fates)
        refused.update([one.refused] if one.refused else [])
        words = ", ".join(f"{count} {code}" for code, count in fates.items())
        table.add_row(
            one.path.name,
            "" if one.refused else f"{converted} of {total}",
            f"refused: {one.refused}" if one.refused else words,
            one.verdict,
            one.apart,
            f"{one.seconds:.1f}",
            f"{one.peak >> 20}",
        )
    console.print(table)
    whole = sum(not one.refused and set(one.fates) <= {"converted"} for one in all_found)
    equal = sum(one.verdict == EQUIVALENT for one in all_found)
    console.print(f"{len(all_found)} files: {whole} wholly converted, {equal} equivalent")
    for name, counts in (("layers left", left), ("files refused", refused)):
        said = ", ".join(f"{count} {code}" for code, count in counts.most_common()) or "none"
        console.print(f"{name}: {said}")
    for one in all_found:
        for words in one.wrong:
            console.print(f"WRONG: {one.path}: {words}", soft_wrap=True, markup=False)


def main(folders: Sequence[str]) -> int:
    """Go through all files in the folders, and those in theirs."""
    places = [Path(folder).resolve() for folder in folders] or FOLDERS
    files = sorted(
        path for place in places for path in place.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    width = None if sys.stdout.isatty() else 160
    console, all_found = Console(highlight=False, width=width), []
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(files):
            (place := Path(folder) / str(number)).mkdir()
            all_found.append(one := examine(path, place))
            console.print(f"{path.name}: {one.refused or one.verdict}", markup=False)
    show(all_found, console)
    return int(not all_found or any(one.wrong for one in all_found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
