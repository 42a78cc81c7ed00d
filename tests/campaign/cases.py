"""What one case of the campaign is, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.judging import Judgement


@dataclass(frozen=True)
class Mutant:
    """A converted file that was changed.

    Attributes:
        kind: its family.
        what: what was changed, in words.
        original: the file that was converted.
        path: the mutant.
        judge: runs both.
    """

    kind: str
    what: str
    original: Path
    path: Path
    judge: Callable[[], tuple[Judgement, str]]


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        case: its name, from which it is made again.
        kind: its family.
        what: what was changed, or where the file is from.
        verdict: the verdict, "refused" for a foreseen error, or the name of another exception.
        reason: in convfc's words.
        judgement: of a mutant: what running it showed.
        why: what is different about it.
        folder: where its files lie, if it is a failure.
        seconds: what it took.
    """

    case: str
    kind: str
    what: str
    verdict: str
    reason: str = ""
    judgement: Judgement | None = None
    why: str = ""
    folder: Path | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def failure(self) -> str | None:
        """What may never be, if it is."""
        if self.verdict in STOPS:
            return None  # so does the runtime alone, of which convfc cannot know: a loop of 2^62
        if self.verdict not in VERDICTS:
            return "unforeseen"
        if self.verdict == "equivalent" and self.judgement is Judgement.DIFFERENT:
            return "wrong yes"
        if self.verdict == "not equivalent" and self.judgement is None:
            return "wrong no"
        return None


VERDICTS = ("equivalent", "samples agree", "could not check", "not equivalent", "refused")
"""What convfc may answer; "samples agree" is an EQUIVALENT that claims no proof."""

STOPS = ("hangs", "crashes")
"""What may befall a worker; the one that watches it says so."""
