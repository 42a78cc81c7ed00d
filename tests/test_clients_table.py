"""The script behind docs/clients.md: that its words are what a client made of a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks import clients
from benchmarks.client_programs import PROGRAMS

RUN = """
import sys
import numpy as np, onnxruntime
y = onnxruntime.InferenceSession(sys.argv[1]).run(None, {"image": np.load(sys.argv[2])})[0]
"""
SAID = {
    "np.save(sys.argv[3], y)": "the same numbers (0e+00)",
    "np.save(sys.argv[3], y + 0.5)": "numbers 0.5 off",
    "np.save(sys.argv[3], np.stack([y - 1, y + 1]))": "bounds of width 2",
    "np.save(sys.argv[3], np.stack([y + 1, y + 2]))": "bounds that are WRONG",
    "sys.exit('no | such thing')": "fails: no / such thing",
}


@pytest.mark.parametrize("end", SAID)
def test_what_is_said_of_a_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path = clients.small(tmp_path / "small.onnx")
    monkeypatch.setitem(PROGRAMS, "mine", RUN + end)
    assert clients.tried(sys.executable, "mine", path, tmp_path) == SAID[end]


def test_every_trial_has_a_program_and_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {trial.client for trial in clients.TRIALS} == set(PROGRAMS)
    monkeypatch.setattr(clients, "versions", lambda _: {})
    rows = clients.table(sys.executable, [])
    assert len(rows) == 2 + sum(len(trial.ways) for trial in clients.TRIALS)
    document = (clients.ROOT / "docs" / "clients.md").read_text()
    for row in rows[2:]:
        cells = row.split(" | ")
        assert "not installed" in cells[3]
        assert f"{cells[0].strip('| ')} |" in document
        assert cells[2] in document
