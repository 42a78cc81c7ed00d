"""A small sample of the campaign, and twins of it in which it must find something."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest

from tests.campaign import fields, pool, working
from tests.campaign.cases import Outcome
from tests.campaign.judging import Judgement, judge
from tests.campaign.onnx_seeds import seed
from tests.campaign.report import Report, describe
from tests.figures import count

SAMPLE = [f"onnx mutant {number}" for number in range(16)]
SAMPLE += [f"keras mutant {number}" for number in range(1)]
SAMPLE += [f"onnx true {number}" for number in range(4)]


def outcomes(cases: list[str], folder: Path) -> list[Outcome]:
    return [working.work(case, 1, None, folder, folder / "failures") for case in cases]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("campaign")


@pytest.mark.slow
def test_a_sample_finds_nothing(folder: Path) -> None:
    found = outcomes(SAMPLE, folder)
    for outcome in found:
        computes = outcome.judgement or "true"
        count("campaign", f"{computes}: {outcome.verdict}")
    assert [describe(outcome) for outcome in found if outcome.failure] == []
    assert sum(outcome.judgement is Judgement.DIFFERENT for outcome in found) > 5


def test_a_verifier_that_always_says_yes_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "answer", lambda *_: ("equivalent", ""))
    found = outcomes(SAMPLE[:12], folder)
    assert {outcome.failure for outcome in found} == {"wrong yes", None}
    wrong = next(outcome for outcome in found if outcome.failure)
    assert wrong.folder is not None
    assert len(list(wrong.folder.iterdir())) == 3  # both files, and what came of them
    assert wrong.case in describe(wrong)


def test_one_that_always_says_no_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "answer", lambda *_: ("not equivalent", ""))
    report = Report()
    for outcome in outcomes(["onnx true 1", "onnx true 2", "onnx mutant 1"], folder):
        report.add(outcome)
    assert {outcome.failure for outcome in report.failures} == {"wrong no"}


DENSE = [f"onnx dense {number}" for number in (0, 1, 2, 3, 4, 6, 7)]
"""One layer alone, rows in and rows out, as it is and with six changes."""


def test_a_sample_of_dense_mutants_finds_nothing(folder: Path) -> None:
    true, *mutants = outcomes(DENSE, folder)
    assert (true.verdict, true.judgement) == ("equivalent", Judgement.SAME)
    assert {outcome.judgement for outcome in mutants} == {Judgement.DIFFERENT}
    assert {outcome.verdict for outcome in mutants} == {"not equivalent"}


def test_a_yes_to_a_dense_mutant_is_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "answer", lambda *_: ("equivalent", ""))
    assert {outcome.failure for outcome in outcomes(DENSE[1:], folder)} == {"wrong yes"}


def test_the_judge() -> None:
    a = np.array([1.0, 2.0, np.nan], np.float32)
    near, far = a + np.float32(1e-7), a + np.float32(1e-3)
    for found, expected in (
        (a, Judgement.SAME),
        (near, Judgement.ROUNDING),
        (far, Judgement.DIFFERENT),
        (np.nan_to_num(a), Judgement.DIFFERENT),
        (a[:2], Judgement.DIFFERENT),
        (a.astype(np.float64), Judgement.DIFFERENT),
        (None, Judgement.DIFFERENT),
    ):
        outputs = [None if found is None else {"y": found}]
        assert judge([{"y": a}], [{"y": a}], outputs)[0] is expected
    # What rounds more in the true conversion may round more in a mutant.
    assert judge([{"y": a}], [{"y": far}], [{"y": a + np.float32(2e-3)}])[0] is Judgement.ROUNDING
    assert judge([{"y": a}], [{"y": a}], [{"z": a}])[0] is Judgement.DIFFERENT
    assert judge([None], [None], [{"z": a}])[0] is Judgement.SAME


def test_every_field_is_reached() -> None:
    """Of a model with subgraphs and of one with a function, in both of which much is empty."""
    for name in ("loop", "function"):
        model = seed(name)
        reached = {path for path, *_ in fields.places(model)}
        assert "graph.initializer.raw_data" in reached
        assert "graph.sparse_initializer" in reached
        inside = {"loop": "graph.node.attribute.g.node", "function": "functions.node"}[name]
        assert f"{inside}.op_type" in reached
        changed = set()
        for number in range(200):
            mutant = onnx.ModelProto()
            mutant.CopyFrom(model)
            fields.mutate(mutant, Random(number))  # noqa: S311 - nothing is secret here
            changed.add(mutant.SerializeToString())
        assert len(changed) > 100


def _crash(connection: Connection, *_: object) -> None:
    connection.recv()
    os._exit(3)


def test_a_worker_that_crashes_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "serve", _crash)
    found = list(pool.outcomes(["onnx mutant 1", "onnx mutant 2"], 1, 0, None, tmp_path, 1e9))
    assert [outcome.verdict for outcome in found] == ["crashes", "crashes"]
    assert found[0].reason == "exit code 3"
    report = Report()
    report.add(found[0])
    assert report.stops == found[:1]
    assert report.failures == []
