"""The script behind docs/clients.md: that its words are what a client made of a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks import clients, questions
from benchmarks.client_programs import PROGRAMS
from benchmarks.question_programs import QUESTIONS

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
    monkeypatch.setattr(clients, "versions", lambda *_: {})
    rows = clients.table(sys.executable, [])
    assert len(rows) == 2 + sum(len(trial.ways) for trial in clients.TRIALS)
    document = (clients.ROOT / "docs" / "clients.md").read_text()
    for row in rows[2:]:
        cells = row.split(" | ")
        assert "not installed" in cells[3]
        assert f"{cells[0].strip('| ')} |" in document
        assert cells[2] in document


ANSWER = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
x = np.load(sys.argv[2])["images"][:2]
y = session.run(None, {"image": x.reshape(-1, *session.get_inputs()[0].shape[1:])})[0]
if y.shape == (2, 10) and session.get_inputs()[0].shape[1:] != [784]:
    sys.exit("no | such thing")
np.savez(sys.argv[3], images=x, logits=y + 0.5)
print("chatter\\n> an answer")
"""


def test_a_page_quotes_both_files_and_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(QUESTIONS) == set(questions.WAYS)
    monkeypatch.setitem(QUESTIONS, "marabou", ANSWER)
    lines = questions.answers(sys.executable, "marabou")
    assert lines[2] == "    no | such thing"
    assert lines[6] == "    an answer"
    assert lines[10].startswith("    the logits of the original are at most 5e-01 from those on 2")
    assert lines[11].startswith("    at most 0.0000 from the digit: the original sees a 7 (")


def test_every_question_has_its_page() -> None:
    for page, its in questions.WAYS.items():
        document = (questions.PAGES / f"{page}.md").read_text()
        assert f"Converted, with `{its.way}`:" in document
        assert "<!-- answers -->" in document
