"""What convfc shows of itself to those who import it."""

from __future__ import annotations

import pydoc
import subprocess
import sys

import pytest

import convfc


def test_what_is_public_is_seen_before_it_is_used() -> None:
    script = "import convfc; print(*dir(convfc))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(convfc.__all__)


def test_help_shows_what_is_public() -> None:
    text = pydoc.plain(pydoc.render_doc(convfc))
    for name in set(convfc.__all__) - {"__version__"}:
        assert f" {name}" in text, name
    assert "import_module" not in text


@pytest.mark.parametrize("name", ["Settings", "Comparison", "Trained", "draw", "apply"])
def test_names_that_say_nothing_at_the_top_are_not_there(name: str) -> None:
    assert not hasattr(convfc, name)
