"""Pipes, full disks, closed descriptors, signals: 0, 1 and 2 mean what they say, always."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import convfc
from convfc import convolution
from convfc.system import signals
from tests.onnx_models import conv_file

PROGRAM = [sys.executable, "-m", "convfc"]
CALCULATOR = "shapes --input 28x28x1 --kernel 4"


@pytest.fixture(scope="module")
def gone() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture(scope="module")
def full() -> Iterator[IO[str]]:
    """A disk with no room on it."""
    with Path("/dev/full").open("w") as file:
        yield file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return conv_file(tmp_path / "m.onnx", convolution([3, 3], channels=2, filters=2), (6, 6))


def run(
    line: str, stdout: int | IO[str] = subprocess.PIPE, stderr: int | IO[str] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *line.split()], stdout=stdout, stderr=stderr, text=True, check=False
    )


def closed(line: str, which: str) -> subprocess.CompletedProcess[str]:
    """Run the program with descriptors closed, like `>&- 2>&-`."""
    script = ["/bin/sh", "-c", f'exec "$@" {which}', "sh"]
    return subprocess.run(
        [*script, *PROGRAM, *line.split()], capture_output=True, text=True, check=False
    )


LINES = ["--help", "--version", CALCULATOR]


@pytest.mark.parametrize("line", LINES)
def test_a_reader_that_is_gone_is_neither_yes_nor_no_and_quiet(line: str, gone: int) -> None:
    done = run(line, stdout=gone)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("line", LINES)
def test_a_stdout_that_cannot_be_written_is_one_line_and_exit_code_2(
    line: str, full: IO[str]
) -> None:
    done = run(line, stdout=full)
    said = "convfc: standard output: cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_stdout_that_is_closed_is_one_line_and_exit_code_2() -> None:
    done = closed(CALCULATOR, ">&-")
    said = "convfc: standard output: cannot be written: it is closed\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_what_cannot_be_said_on_stderr_changes_nothing(
    tmp_path: Path, gone: int, full: IO[str]
) -> None:
    right = run(CALCULATOR)
    assert (right.returncode, right.stderr) == (0, "")
    for done in (
        run(CALCULATOR, stderr=gone),
        run(CALCULATOR, stderr=full),
        closed(CALCULATOR, "2>&-"),
        closed(CALCULATOR, "<&-"),
    ):
        assert (done.returncode, done.stdout) == (0, right.stdout)
    missing = f"convert {tmp_path / 'none.onnx'}"
    for done in (
        run(missing, stderr=gone),
        run("convert --what", stderr=full),
        closed(missing, "<&- >&- 2>&-"),
    ):
        assert (done.returncode, done.stdout or "") == (2, "")


def test_with_no_descriptor_at_all_a_file_is_written_whole(model: Path) -> None:
    """The next file that is opened would be descriptor 1 or 2, and get what libraries print."""
    assert closed(f"convert {model}", "<&- >&- 2>&-").returncode == 2, "no word reached anybody"
    assert convfc.verify(model, samples=1, quick=True).equivalent
    assert {file.name for file in model.parent.iterdir()} == {"m.onnx", "m_fc.onnx"}


def test_a_reader_that_has_seen_enough_fails_no_build(model: Path) -> None:
    convfc.convert(model)
    program = " ".join(f"'{part}'" for part in PROGRAM)
    script = f"set -o pipefail; {program} verify {model} --samples 1 | grep -q m_fc.onnx"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("convert /none.onnx", "FileError", "/none.onnx: no such file"),
        ("shapes", "UsageError", "give a model"),
        ("convert --what", "UsageError", "No such option: --what"),
        ("verify a b --samples x", "UsageError", "Invalid value for '--samples'"),
    ],
)
def test_an_error_is_a_json_document_and_the_same_line(line: str, kind: str, words: str) -> None:
    plain, done = run(line), run(f"{line} --json")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert (done.returncode, done.stderr) == (2, plain.stderr)
    error = json.loads(done.stdout)["error"]
    assert error.keys() == {"kind", "code", "message", "remedy", "path", "layer"}
    assert error["kind"] == kind
    assert words in error["message"]
    assert words in done.stderr


def test_debug_changes_no_exit_code() -> None:
    done = run("convert /none.onnx --debug --json")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "FileError"


BEGIN = """
import hashlib, os, sys, time
from convfc.cli import program
from convfc.system import signals
signals.PATIENCE = 0.5

def begun():
    print("begun", file=sys.stderr, flush=True)

def command():
"""
"""A program that waits for a signal in the way that is put behind this."""

TIDY = """
    try:
        begun()
        time.sleep(60)
    finally:
        print("tidied", file=sys.stderr)
"""
NEVER = """
    try:
        begun()
        time.sleep(60)
    finally:
        begun()
        time.sleep(60)
"""
DEAF = """
    begun()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def signalled(body: str, *numbers: int) -> tuple[int, list[str]]:
    """How a program ends that gets these signals, one for each time that it says it has begun."""
    script = f"{BEGIN}{body}\nprogram.run(command)"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as one:
        assert one.stderr is not None
        for number in numbers:
            assert one.stderr.readline() == "begun\n"
            one.send_signal(number)
        said = one.stderr.read().splitlines()
    return one.returncode, said


@pytest.mark.parametrize("name", signals.SAID)
def test_a_signal_lets_the_program_tidy_up(name: str) -> None:
    number = signal.Signals[name]
    found = signalled(TIDY, number)
    assert found == (128 + number, ["tidied", f"convfc: {signals.SAID[name]}"])


def test_a_second_signal_ends_it_at_once() -> None:
    assert signalled(NEVER, signal.SIGINT, signal.SIGTERM) == (-signal.SIGTERM, [])


def test_a_reader_that_is_stuck_can_be_left() -> None:
    """Neither is the rest written in the end, when Python flushes once more."""
    script = f"{BEGIN}    begun()\n    print('x' * 2**20)\n    return 0\nprogram.run(command)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stderr is not None
        assert one.stdout is not None
        assert one.stderr.readline() == "begun\n"
        one.stdout.read(1)  # it writes now
        one.send_signal(signal.SIGTERM)
        assert one.stderr.read() == "convfc: terminated\n"
        assert one.wait() == 143


def test_a_library_that_does_not_come_back_cannot_keep_it() -> None:
    assert signalled(DEAF, signal.SIGTERM) == (143, ["convfc: terminated"])


def test_what_somebody_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raised():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_as_they_were() -> None:
    numbers = [signal.Signals[name] for name in signals.SAID]
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(signals.Stopped) as stopped, signals.raised():
        os.kill(os.getpid(), signal.SIGTERM)
    assert (stopped.value.code, stopped.value.said) == (143, "terminated")
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_ctrl_c_while_something_is_imported(tmp_path: Path, package: str) -> None:
    """The first is imported before any command is known, the second by the command."""
    (tmp_path / f"{package}.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*PROGRAM, *CALCULATOR.split()],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "convfc: interrupted\n")
