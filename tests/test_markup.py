"""Names out of a file are only names: to a terminal, in a table, in XML, in HTML, in a picture."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from onnx import helper

import convfc
from convfc.cli import terminal
from convfc.errors import FileError, UsageError
from convfc.text.jsontext import json_text
from convfc.text.visible import visible
from tests.onnx_models import integers, save
from tests.program import exit_code

NAME = "[/]\x1b[31m\nEQUIVALENT: a $x_{$ <b>&amp; --> \u202e\x85:cat:\ufffe\x07\r\t日"
"""Markup, an escape, new lines, mathematics, tags, a direction, an emoji, no character at all."""

Program = Callable[..., tuple[int, str, str]]


def steers(text: str) -> bool:
    """Whether there is anything in a text but what is seen, and ends of lines."""
    return any(not char.isprintable() for char in text.replace("\n", ""))


def test_what_steers_is_seen() -> None:
    assert all(map(steers, "\x1b\x07\r\t\u202e\x85\ufffe\udcff"))
    assert not steers("日 a\nb")


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    """Run the program in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        return exit_code(monkeypatch, *arguments), *capsys.readouterr()

    return run


def model(path: Path, name: str = NAME) -> Path:
    node = helper.make_node("Conv", [f"in{name}", "W"], [f"out{name}"], name=name)
    weights = {"W": integers([2, 2, 3, 3])}
    return save(path, [node], {f"in{name}": ["n", 2, 6, 6]}, [f"out{name}"], weights)


FILE = "a[b]\x1b[31m\nc.onnx"
MADE = FILE.replace(".onnx", "_fc.onnx")
COMMANDS: list[tuple[int, list[str]]] = [
    (0, ["shapes", FILE]),
    (1, ["convert", FILE, "--patches", "reshape"]),
    (0, ["convert", FILE, "--only", "*\nEQUI*"]),
    (0, ["convert", FILE, "--verify"]),
    (0, ["convert", FILE, "--dry-run"]),
    (0, ["shapes", FILE, "--sort", "layer"]),
    (0, ["verify", FILE, "--samples", "1"]),
    (0, ["verify", FILE, FILE, "--samples", "1", "--rtol", "1e-3"]),
    (0, ["verify", "--samples", "1"]),
    (0, ["explain", FILE]),
    (0, ["explain", FILE, "-o", "\x1b\n.html"]),
    (2, ["explain", FILE, "--layer", "\x1b\n"]),
    (2, ["convert", FILE, "--only", "\x1b\n"]),
    (2, ["convert", FILE, "-o", "\x1b\n.txt"]),
    (2, ["convert", FILE, "-o", "\x1b\n/a.onnx"]),
    (2, ["convert", f"{FILE}\x1b"]),
    (2, ["convert", FILE, "--patches", "\x1b\r"]),
    (2, ["verify", FILE, "--input", "\x1b\n=1"]),
    (2, ["verify", FILE, "--shape", "\x1b\n=1"]),
    (2, ["verify", FILE, "--data", "\x1b\n"]),
]


def test_no_name_steers_a_terminal_or_begins_a_line(program: Program, tmp_path: Path) -> None:
    model(tmp_path / FILE)
    for code, arguments in COMMANDS:
        (tmp_path / MADE).unlink(missing_ok=True)
        if arguments[0] == "verify":
            convfc.convert(FILE)
        ended, output, error = program(*arguments)
        assert ended == code, (arguments, error)
        assert not steers(output + error), arguments
        assert "\nEQUIVALENT: a $" not in output + error
        assert not error or error.startswith(("convfc: ", "Usage: "))
        assert not error.startswith("convfc: ") or len(error.splitlines()) <= 2
        if code < 2 and "-o" not in arguments:
            assert visible(NAME) in output, arguments
            assert visible(FILE) in output, arguments


class Terminal(io.StringIO):
    """Shows what is written, until it is gone."""

    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_sign_of_life_is_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.working("reading [/]\x1b]0;t\x07") as say:
        say("[/]\nb\x07")
        seen.flush()
    shown = seen.getvalue()
    assert "reading [/]\\x1b]0;t\\x07" in shown
    assert "\x07" not in shown
    assert "\x1b]" not in shown


def test_a_terminal_that_is_gone_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.working("reading") as say:
        seen.gone = True
        say("on")
        say("and on")
    with terminal.working("reading") as say:
        say("on")


def test_json_has_the_names_themselves(program: Program, tmp_path: Path) -> None:
    model(tmp_path / "\x1b\udcff.onnx")
    _, output, _ = program("shapes", "\x1b\udcff.onnx", "--json")
    document = json.loads(output)
    assert document["layers"][0]["name"] == NAME
    assert document["model"] == "\x1b\ufffd.onnx", "not all readers take half a character"


def test_json_has_no_nan_and_no_half_characters() -> None:
    text = json_text({"a": [float("nan"), -float("inf"), 1.5, True], "\ud800x": ("\udcff", "日")})
    assert json.loads(text, parse_constant=lambda _: pytest.fail("no JSON")) == {
        "a": ["nan", "-inf", 1.5, True],
        "\ufffdx": ["\ufffd", "日"],
    }


def test_an_error_keeps_its_lines(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileError(f"layer '{NAME}': cannot be read", "Save\nit anew")
    assert str(error).splitlines() == [f"layer '{visible(NAME)}': cannot be read", "Save\\nit anew"]

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(convfc, "shapes", fail, raising=False)
    assert program("shapes", "m.onnx") == (2, "", f"convfc: {error} [damaged]\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(36, "Name too long", "a\x1b"), "convfc: a\\x1b: Name too long [no-file]"),
        (MemoryError("for 9\nbytes"), "convfc: not enough memory for 9\\nbytes [too-large]"),
        (ValueError("a\x1b\n b"), "convfc: unforeseen ValueError: a\\x1b b\n(--debug shows where)"),
    ],
)
def test_what_nobody_foresaw_has_no_traceback(
    program: Program, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(convfc, "shapes", fail, raising=False)
    assert program("shapes", "m.onnx") == (2, "", f"{said}\n")
    code, output, _ = program("shapes", "m.onnx", "--json")
    assert (code, json.loads(output).keys()) == (2, {"schema", "error"})
    code, output, shown = program("shapes", "m.onnx", "--debug")
    assert (code, output, "Traceback" in shown, steers(shown)) == (2, "", True, False)


def test_nothing_is_written_if_it_cannot_be_told(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path / "m.onnx")
    monkeypatch.setattr("convfc.cli.tables.conversion_table", lambda _: 1 / 0)
    code, output, error = program("convert", "m.onnx")
    assert (code, output) == (2, "")
    assert "ZeroDivisionError" in error
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_pictures_and_pages_show_names_as_they_are(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model(tmp_path / "m.onnx")
    for name in ("e.svg", "e.png", "e.html"):
        assert program("explain", "m.onnx", "-o", name) == (0, f"wrote {name}\n", "")
    ElementTree.parse(tmp_path / "e.svg")  # noqa: S314 - our own
    assert "m.onnx: [/]\\x1b[31m" in (tmp_path / "e.svg").read_text()
    page = (tmp_path / "e.html").read_text()
    assert not steers(page)
    assert "<b>&amp;" not in page


def report(path: Path) -> list[tuple[str, str | None]]:
    """Of each case, what is in it and its message."""
    found = []
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314 - our own
        inner = next(iter(case), None)
        found.append(("fine", None) if inner is None else (inner.tag, inner.get("message")))
    return found


def test_a_report_is_xml_whatever_the_names_are(program: Program, tmp_path: Path) -> None:
    model(tmp_path / FILE)
    convfc.convert(FILE)
    verify = ("verify", FILE, "--samples", "1", "--junit", "r.xml")
    assert program(*verify)[0] == 0
    assert report(tmp_path / "r.xml") == [("fine", None), ("fine", None)]
    (tmp_path / MADE).write_bytes(model(tmp_path / "b.onnx").read_bytes()[:-1])
    code, output, error = program(*verify)
    assert (code, output) == (2, "")
    ((tag, message),) = report(tmp_path / "r.xml")
    assert (tag, f"convfc: {message} [damaged]\n") == ("error", error)


def test_a_report_replaces_a_report_and_nothing_else(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: Any, **__: Any) -> Any:
        raise UsageError("begun")

    monkeypatch.setattr(convfc, "verify", begun, raising=False)
    (tmp_path / "m.onnx").write_bytes(b"a model")
    (tmp_path / "page.xml").write_text("<html/>")
    (tmp_path / "link.xml").symlink_to("m.onnx")
    (tmp_path / "other.xml").hardlink_to("m.onnx")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = {file: file.is_file() and file.read_bytes() for file in tmp_path.iterdir()}
    for name, words in (
        ("m.onnx", "exists and is no JUnit XML report"),
        ("./m.onnx", "exists and is no JUnit XML report"),
        ("link.xml", "exists and is no JUnit XML report"),
        ("other.xml", "exists and is no JUnit XML report"),
        ("page.xml", "exists and is no JUnit XML report"),
        ("pipe", "is no regular file"),
        ("folder", "is a folder"),
        ("", "is a folder"),
        ("none/r.xml", "create it first"),
        ("r" * 300, "cannot be written"),
        ("/proc/r.xml", "cannot be written"),
    ):
        code, _, error = program("verify", "m.onnx", "--junit", name)
        assert code == 2
        assert words in error, name
        assert len(error.splitlines()) == 1
    assert {file: file.is_file() and file.read_bytes() for file in tmp_path.iterdir()} == before
    for old in (
        None,
        "",
        "<testsuite/>",
        "<?xml version='1.0'?>\n<!-- a -->\n<testsuites name=''/>",
    ):
        if old is not None:
            (tmp_path / "r.xml").write_text(old)
        assert program("verify", "m.onnx", "--junit", "r.xml") == (2, "", "convfc: begun [usage]\n")
        assert report(tmp_path / "r.xml") == [("error", "begun")]
    real = tmp_path / "folder" / "r.xml"
    (tmp_path / "far.xml").symlink_to(real)
    program("verify", "m.onnx", "--junit", "far.xml")
    assert (tmp_path / "far.xml").is_symlink()
    assert report(real) == [("error", "begun")]


def test_a_report_that_cannot_be_written_hides_no_verdict(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "m.onnx")
    convfc.convert(path)
    verify = convfc.verify

    def taken(*given: Any, **options: Any) -> Any:
        found = verify(*given, **options)
        (tmp_path / "r.xml").write_text("something else by now")
        return found

    monkeypatch.setattr(convfc, "verify", taken, raising=False)
    code, output, error = program("verify", "m.onnx", "--samples", "1", "--junit", "r.xml")
    assert code == 2
    assert "EQUIVALENT" in output.splitlines()[-1]
    words = "exists and is no JUnit XML report; choose another name [not-written]"
    assert error == f"convfc: r.xml: {words}\n"


def test_a_picture_replaces_a_picture_and_nothing_else(program: Program, tmp_path: Path) -> None:
    size = ("explain", "--input", "28x28x1", "--kernel", "14", "--stride", "14", "-o")
    (tmp_path / "e.html").write_bytes(model(tmp_path / "m.onnx").read_bytes())
    code, _, error = program(*size, "e.html")
    assert (code, error) == (
        2,
        "convfc: e.html: exists and is no HTML page; choose another name [not-written]\n",
    )
    (tmp_path / "e.html").unlink()
    assert program(*size, "e.html")[0] == program(*size, "e.html")[0] == 0


def test_an_experiment_begins_in_an_empty_folder(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "losses.csv").write_text("years of work")
    code, _, error = program("experiment", "-o", "mine")
    assert code == 2
    assert "mine: holds other things, like 'losses.csv'" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("shapes m.onnx --patch-memory 9..9GiB", "--patch-memory 9..9GiB"),
        ("shapes m.onnx --patch-memory " + "9" * 400, "write it as 8MiB"),
        ("shapes --input 9x9x9223372036854775808 --kernel 3", "below 2^63"),
        ("shapes --input " + "x".join("2" * 40) + " --kernel 1", "at most 32 sizes"),
        ("shapes --input 9x9x1 --kernel 1 --padding " + "9" * 40, "below 2^63"),
        ("shapes --input 9x9x1 --kernel 1 --filters " + "9" * 40, "below 2^63"),
        ("verify m.onnx m.onnx --atol inf --json", "atol is inf"),
        ("verify m.onnx m.onnx --rtol nan --json", "rtol is nan"),
        ("verify m.onnx m.onnx --shape x=", "--shape x=: write it as NAME=DIMS"),
        ("experiment -o out --learning-rate nan", "learning rate nan"),
        ("explain --input 9x9x1 --kernel 3 --filters 999999999", "explain shows at most"),
        ("explain --input 99999x99999x1 --kernel 3", "explain shows at most"),
    ],
)
def test_odd_arguments_are_refused_by_name(program: Program, arguments: str, words: str) -> None:
    code, _, error = program(*arguments.split())
    assert code == 2
    assert words in error
    assert len(error.splitlines()) == 1


def test_huge_sizes_are_told(program: Program) -> None:
    largest = str(2**63 - 1)
    code, output, _ = program("shapes", "--input", f"3x3x{largest}", "--kernel", "1x1")
    assert code == 0
    assert "309237645312.0 GiB" in output
