"""What commands look like in a terminal of 80 columns, as pictures, light and dark.

    .venv/bin/python docs/screens.py FOLDER [NAME ..]

runs all of them, or those that are named. docs/screens holds those that pages show.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 80
SCREENS = {
    "convert": "convert mnist_cnn.h5",
    "convert-dry": "convert mnist_small.onnx --form dense --dry-run",
    "convert-list": "convert --for list",
    "verify": "verify mnist_cnn.h5",
    "verify-other": "verify mnist_small.onnx mnist_cnn.onnx",
    "verify-layers": "verify mnist_small.onnx mnist_small.keras --layers --samples 4",
    "revert": "revert mnist_cnn_fc.h5",
    "shapes": "shapes mnist_cnn.h5 --sort patches",
    "shapes-dense": "shapes mnist_small.onnx --form dense",
    "shapes-one": "shapes --input 28x28x1 --kernel 4 --stride 2 --filters 128",
    "matrix": "matrix mnist_small.onnx",
    "explain": "explain mnist_small.onnx",
    "explain-one": "explain --input 6x6x1 --kernel 3 --filters 2",
    "experiment": "experiment --epochs 1 --images 64 --filters 2",
    "error": "convert missing.onnx",
    "usage": "convert mnist_small.onnx --stride 2",
    "help": "--help",
}
"""What is typed, by the name of its picture; in this order, as some read what others wrote."""


def _theme(back: str, fore: str, colours: str) -> TerminalTheme:
    first, second, *rest = [
        (r, g, b) for r, g, b in map(bytes.fromhex, (back, fore, *colours.split()))
    ]
    return TerminalTheme(first, second, rest)


THEMES = {  # black, red, green, yellow, blue, magenta, cyan, white
    "light": _theme("ffffff", "1f2328", "24292f cf222e 116329 4d2d00 0969da 8250df 1b7c83 6e7781"),
    "dark": _theme("0d1117", "e6edf3", "484f58 ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4"),
}


def typed(arguments: str, folder: Path) -> str:
    """What a terminal gets to see of a command."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "LINES": "50"}
    running = subprocess.Popen(  # noqa: S603 - convfc itself
        [shutil.which("convfc") or "convfc", *shlex.split(arguments)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = bytearray()
    while True:
        try:
            seen += os.read(leader, 65536)
        except OSError:  # all of it has been read, and the other end is closed
            break
    running.wait()
    return seen.decode()


def still(seen: str) -> str:
    """What stays on the screen: without the lines that tell of work while it lasts."""
    lines, row = [""], 0
    for part in re.split(r"(\r?\n|\r|\x1b\[1A|\x1b\[2K|\x1b\[\?25[hl])", seen):
        if part.endswith("\n"):
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?25"):
            lines[row] += part
    return "\n".join(lines).rstrip()


def picture(arguments: str, seen: str, theme: TerminalTheme) -> str:
    """A command and what it showed, as SVG that loads nothing."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text(f"$ convfc {arguments}", "bold"))
    console.print(Text.from_ansi(still(seen)))
    svg = console.export_svg(title="", theme=theme, unique_id="screen")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "DejaVu Sans Mono")


def main(folder: Path, names: list[str]) -> None:
    """Run commands and write their pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for path in (ROOT / "sample_models").glob("mnist_*"):
            shutil.copy(path, work)
        for name, arguments in SCREENS.items():
            if names and name not in names:
                continue
            seen = typed(arguments, Path(work))
            for scheme, theme in THEMES.items():
                (folder / f"{name}-{scheme}.svg").write_text(picture(arguments, seen, theme))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
