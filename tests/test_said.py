"""Small things that are said: in the right number, alike everywhere, and of all tables uncut."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from rich.table import Table

import convfc
from convfc.cli import options, terminal
from convfc.cli.main import main
from convfc.cli.verification_tables import verification_summary
from convfc.core.builders import named_padding
from convfc.errors import GeometryError
from convfc.formats.onnx.runtimes import reason_in
from convfc.system.streams import Results, _encodable
from tests.onnx_models import conv_file
from tests.program import SAMPLES


def test_padding_has_the_same_names_in_help_and_message() -> None:
    _, option = get_args(options.Padding)
    with pytest.raises(GeometryError) as refused:
        named_padding("nothing", 3)
    known = str(refused.value).split("known: ")[1]
    assert str(option.help).startswith(f"{known}, N or T,B,L,R")


def texts(tree: ast.AST) -> Iterator[str]:
    """What a file may show: its strings without those that stand alone, which are docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_every_sign_has_another_one_where_a_locale_lacks_it() -> None:
    files = Path(convfc.__file__).parent.rglob("*.py")
    shown = {sign for file in files for text in texts(ast.parse(file.read_text())) for sign in text}
    signs = "".join(sorted(sign for sign in shown if not sign.isascii()))
    assert {*"×→σ∞"} <= {*signs}
    assert "?" not in _encodable(signs, "ascii")
    assert _encodable("é", "ascii") == "?"


def test_one_layer_is_one_layer(tmp_path: Path) -> None:
    conv = convfc.convolution([3, 3], channels=2, filters=2)
    path = conv_file(tmp_path / "m.onnx", conv, (6, 6))
    convfc.convert(path, check=False)
    assert "(1 layer proved)" in verification_summary(convfc.verify(path, samples=1))


RESHAPE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. "
    "Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/"
    "reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&,"
    " onnxruntime::TensorShapeVector&, bool) input_shape_size == requested_shape_size was false. "
    "The input tensor cannot be reshaped to the requested shape. Input shape:{1,2}, requested "
    "shape:{3,3}\n"
)


def test_what_onnxruntime_says_keeps_its_reason() -> None:
    said = reason_in(RESHAPE)
    assert said.startswith("Reshape: input_shape_size == requested_shape_size was false. The input")
    assert said.endswith("Input shape:{1,2}, requested shape:{3,3}")


CNN = str(SAMPLES / "mnist_cnn.onnx")
TABLES = [
    f"shapes {CNN}",
    f"shapes {CNN} --form dense",
    "shapes --input 1000x1000x512 --kernel 11 --filters 4096",
    f"convert {CNN} -o fc.onnx --no-check",
    "convert --for list",
    f"matrix {CNN}",
    f"verify {CNN} {CNN} --samples 1 --layers",
]
LINES = re.compile(r"[│┃━─┏┓┡┩└┘┳╇┴├┼┤╈╪]")


def shown(parts: list[terminal.Part], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the program prints at a terminal of so many columns."""
    console = Console(file=Results(sys.stdout), highlight=False, width=width, color_system=None)
    monkeypatch.setattr(terminal, "console", lambda: console)
    return terminal.rendered(parts)


@pytest.mark.parametrize("command", TABLES)
def test_no_table_is_cut_at_a_terminal(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each word of the wide one is in the narrow one, but the head of what blocks begin with."""
    parts: list[terminal.Part] = []

    def collected(given: Iterable[terminal.Part]) -> str:
        parts.extend(given)
        return ""

    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["convfc", *command.split()])
        patch.setattr(terminal, "rendered", collected)
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
    assert any(isinstance(part, Table) for part in parts)
    wide, narrow = (shown(parts, width, monkeypatch) for width in (1000, 80))
    words = set(LINES.sub(" ", wide).split()) - set(LINES.sub(" ", narrow).split())
    assert words <= {"layer", "output"}
    assert "…" not in narrow
    drawn = (line for line in narrow.splitlines() if LINES.search(line))
    assert max(map(len, drawn), default=0) <= 80


def test_a_terminal_is_as_wide_as_it_says() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    command = [sys.executable, "-m", "convfc", "shapes", CNN]
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    subprocess.run(command, stdout=theirs, env={**environment, "TERM": "xterm"}, check=True)
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while part := os.read(ours, 2**16):
            output += part
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).splitlines()
    assert 60 < max(map(len, lines)) <= 80
