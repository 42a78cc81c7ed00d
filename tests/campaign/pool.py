"""Worker processes that may crash or hang: then another takes over, and that is an outcome too."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.campaign.cases import Outcome
from tests.campaign.working import serve

LIMIT = 60.0
"""Seconds for one case.

The first of a worker may take longer, as it imports what it needs, and so may real models.
"""
_SPAWN = multiprocessing.get_context("spawn")

Found = TypeVar("Found")


@dataclass(frozen=True)
class Work(Generic[Found]):
    """What workers do.

    Attributes:
        serve: runs in the process; gets a connection, from which names of cases come and to which
            what came of them goes, and the arguments.
        arguments: for it.
        lost: what came of a case whose worker "hangs" or "crashes"; gets its name, that, and why.
        limit: seconds for a case, by its name.
    """

    serve: Callable[..., None]
    arguments: tuple[Any, ...]
    lost: Callable[[str, str, str], Found]
    limit: Callable[[str], float] = lambda _: LIMIT


@dataclass
class _Worker(Generic[Found]):
    work: Work[Found]
    case: str | None = None
    since: float = 0.0
    fresh: bool = True
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.connection, other = _SPAWN.Pipe()
        arguments = (other, *self.work.arguments)
        self.process = _SPAWN.Process(target=self.work.serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.fresh = True

    def give(self, case: str) -> None:
        self.case, self.since = case, time.monotonic()
        self.connection.send(case)

    def late(self) -> bool:
        limit = self.work.limit(self.case or "")
        return time.monotonic() - self.since > limit * (3 if self.fresh else 1)

    def answer(self) -> Found:
        """What came of the case."""
        try:
            found: Found = self.connection.recv()
        except EOFError:
            return self.replace("crashes")
        self.case, self.fresh = None, False
        return found

    def replace(self, verdict: str) -> Found:
        """End the process, begin another; what came of the case."""
        if verdict == "hangs":
            self.process.kill()
        self.process.join()
        reason = f"exit code {self.process.exitcode}"
        self.connection.close()
        case, self.case = self.case or "", None
        self.start()
        return self.work.lost(case, verdict, reason)

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def outcomes(
    cases: Sequence[str], jobs: int, seed: int, only: str | None, save: Path, seconds: float
) -> Iterator[Outcome]:
    """What comes of each case of the campaign, as they end.

    Args:
        cases: their names; see `working.work`.
        jobs: how many processes work on them.
        seed: of the campaign.
        only: the one family that mutants are made of.
        save: where failures are kept.
        seconds: after which no more is begun.
    """
    work = Work(
        serve,
        (seed, only, save),
        lambda case, verdict, reason: Outcome(case, verdict, "", verdict, reason),
        lambda case: LIMIT * (20 if case.startswith("file ") else 1),
    )
    return results(cases, jobs, work, seconds)


def results(cases: Sequence[str], jobs: int, work: Work[Found], seconds: float) -> Iterator[Found]:
    """What comes of each case, as they end.

    Args:
        cases: their names.
        jobs: how many processes work on them.
        work: what they do.
        seconds: after which no more is begun.
    """
    end, queue = time.monotonic() + seconds, list(reversed(cases))
    workers = [_Worker(work) for _ in range(min(jobs, len(queue)))]
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
                    yield worker.answer()
                elif worker.late():
                    yield worker.replace("hangs")
    finally:
        for worker in workers:
            worker.end()
