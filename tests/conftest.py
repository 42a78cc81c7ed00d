"""What every test shares."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

from tests import figures

# How long one example takes says more about the machine than about the code.
settings.register_profile("convfc", deadline=None)
settings.load_profile("convfc")


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
