"""What every test shares."""

from __future__ import annotations

import gc
import logging
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from convfc.system import rehearsal
from tests import figures
from tests.program import GOLDEN, Here, exit_code

REHEARSED = {"test_keras_hostile", "test_onnx_demand", "test_onnx_hostile", "test_state"}
"""Tests whose files may be hostile, or that look at what a process does to open one."""

# How long one example takes says more about the machine than about the code.
settings.register_profile("convfc", deadline=None)
settings.load_profile("convfc")


@pytest.fixture(autouse=True, scope="module")
def honest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that the tests make themselves need no child that reads them first: minutes in all."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.split(".")[-1] not in REHEARSED:
            patch.setattr(rehearsal, "rehearse", lambda *_, **__: (0, ""))
        yield


gc.disable()  # what is imported and collected is no rubbish: seconds to look through it


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    """Take over the figures of a process that ran a part of the tests."""
    figures.merge(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = figures.told()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in figures.lines():
        terminalreporter.write_line(line)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name; `pytest --rewrite-golden` writes it instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text)
        assert text == path.read_text(), f"pytest --rewrite-golden if {path.name} should change"

    return compare


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The program in this process, for what it says and makes: a child imports for half a second.

    How it meets streams and signals is for `cli`, which starts a child.
    """

    def run(
        *arguments: str | Path, cwd: Path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.delenv("FORCE_COLOR", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            code = exit_code(patch, *arguments)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def quiet() -> Iterator[None]:
    """Quantizers tell each node to the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
