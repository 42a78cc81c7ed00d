"""Worker processes that may crash or hang: then another takes over, and that is an outcome too."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.campaign.cases import Outcome
from tests.campaign.working import serve

LIMIT = 60.0
"""Seconds for one case.

The first of a worker may take longer, as it imports what it needs, and so may real models.
"""
_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    seed: int
    only: str | None
    save: Path
    case: str | None = None
    since: float = 0.0
    fresh: bool = True
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.connection, other = _SPAWN.Pipe()
        arguments = (other, self.seed, self.only, self.save)
        self.process = _SPAWN.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.fresh = True

    def give(self, case: str) -> None:
        self.case, self.since = case, time.monotonic()
        self.connection.send(case)

    def late(self) -> bool:
        real = (self.case or "").startswith("file ")
        return time.monotonic() - self.since > LIMIT * (20 if real else 3 if self.fresh else 1)

    def replace(self, verdict: str) -> Outcome:
        """End the process, begin another; what came of the case."""
        if verdict == "hangs":
            self.process.kill()
        self.process.join()
        reason = f"exit code {self.process.exitcode}"
        self.connection.close()
        case, self.case = self.case or "", None
        self.start()
        return Outcome(case, verdict, "", verdict, reason)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def outcomes(
    cases: Sequence[str], jobs: int, seed: int, only: str | None, save: Path, seconds: float
) -> Iterator[Outcome]:
    """What comes of each case, as they end.

    Args:
        cases: their names; see `working.work`.
        jobs: how many processes work on them.
        seed: of the campaign.
        only: the one family that mutants are made of.
        save: where failures are kept.
        seconds: after which no more is begun.
    """
    end, queue = time.monotonic() + seconds, list(reversed(cases))
    workers = [_Worker(seed, only, save) for _ in range(min(jobs, len(queue)))]
    try:
        while True:
            for worker in workers:
                if worker.case is None and queue and time.monotonic() < end:
                    worker.give(queue.pop())
            busy = [worker for worker in workers if worker.case is not None]
            if not busy:
                return
            ready = wait([worker.connection for worker in busy], timeout=1.0)
            for worker in busy:
                if worker.connection in ready:
                    yield _answer(worker)
                elif worker.late():
                    yield worker.replace("hangs")
    finally:
        for worker in workers:
            worker.end()


def _answer(worker: _Worker) -> Outcome:
    try:
        found = worker.connection.recv()
    except EOFError:
        return worker.replace("crashes")
    worker.case, worker.fresh = None, False
    if not isinstance(found, Outcome):
        raise TypeError(f"a worker answers {found!r}")
    return found
