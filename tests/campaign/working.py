"""A process that works on cases, one after the other; another process watches it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import convfc
from tests.campaign.cases import VERDICTS, Outcome

SAMPLES = 2
"""Samples that verify runs through both files of a case."""


def serve(connection: Connection, seed: int, only: str | None, save: Path) -> None:
    """Work on the cases that come in; each answer is an `Outcome`.

    Args:
        connection: gets the name of a case, gives its outcome; ``None`` ends it.
        seed: of the campaign.
        only: the one family that mutants are to be made of.
        save: where failures are kept.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        while (case := connection.recv()) is not None:
            connection.send(work(case, seed, only, Path(folder), save))


def one_thread() -> None:
    """Sessions of onnxruntime take one thread each: tiny models gain nothing from more."""
    import onnxruntime

    options = onnxruntime.SessionOptions

    def single() -> Any:
        made = options()
        made.intra_op_num_threads = 1
        return made

    onnxruntime.SessionOptions = single


def work(case: str, seed: int, only: str | None, folder: Path, save: Path) -> Outcome:
    """Make the files of a case, let convfc compare them, and judge.

    Args:
        case: "onnx mutant 17", "keras dense 5", "keras true 3" or "file PATH METHOD".
        seed: of the campaign.
        only: see `serve`.
        folder: for files that are gone afterwards.
        save: see `serve`.
    """
    start = time.monotonic()
    kind, subject, rest = case.split(" ", 2)
    random = Random(f"{seed} {case}")  # noqa: S311 - nothing is secret here
    if subject == "mutant":
        outcome, files = _mutant(case, _mutants(kind, folder).make(random, only))
    elif subject == "dense":
        from tests.campaign.dense import dense_mutant

        mutant = dense_mutant(kind, int(rest), seed, folder)
        if mutant is None:
            return Outcome(case, "nothing to change", "", "refused")
        outcome, files = _mutant(case, mutant)
    else:
        from tests.campaign.truths import true_conversion

        outcome, files = true_conversion(case, kind, rest, random, folder)
    if outcome.failure is not None:
        kept = save / case.replace("/", "_").replace(" ", "_")
        kept.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, kept)
        outcome = Outcome(**{**vars(outcome), "folder": kept})
        (kept / "outcome.txt").write_text(
            "".join(f"{name}: {value}\n" for name, value in vars(outcome).items())
        )
    return Outcome(**{**vars(outcome), "seconds": time.monotonic() - start})


@cache
def _mutants(kind: str, folder: Path) -> Any:
    if kind == "onnx":
        from tests.campaign.onnx_mutants import OnnxMutants

        return OnnxMutants(folder)
    from tests.campaign.keras_mutants import KerasMutants

    return KerasMutants(folder)


def _mutant(case: str, mutant: Any) -> tuple[Outcome, list[Path]]:
    verdict, reason = answer(mutant.original, mutant.path)
    judgement, why = mutant.judge()
    outcome = Outcome(case, mutant.kind, mutant.what, verdict, reason, judgement, why)
    return outcome, [mutant.original, mutant.path]


def answer(original: Path, converted: Path) -> tuple[str, str]:
    """What convfc says about two files, and why."""
    try:
        found = convfc.verify(original, converted, samples=SAMPLES)
    except convfc.ConvfcError as error:
        return "refused", str(error)
    except Exception as error:  # that is what is looked for
        return type(error).__name__, repr(error)[:300]
    said = found.verdict.value
    if found.verdict is convfc.Verdict.EQUIVALENT and not found.proved:
        said = "samples agree"
    assert said in VERDICTS
    return said, found.reason or ""
