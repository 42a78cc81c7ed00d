"""Code that compares sizes, run for all sizes: once for every way that it can take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import z3

from convfc.errors import GeometryError
from tests.symbolic.numbers import Claim, Facts, Number, divide

T = TypeVar("T")


@dataclass
class Path(Generic[T]):
    """One way through some code.

    Attributes:
        claims: what sizes go this way.
        found: what the code returned, ``None`` if it refused.
    """

    claims: list[Claim] = field(default_factory=list)
    found: T | None = None


def paths(given: list[Claim], term: Number, compute: Callable[[Any], T]) -> Iterator[Path[T]]:
    """Every way through `compute` on an unknown size of which something is given."""
    waiting: list[list[bool]] = [[]]
    while waiting:
        answers = waiting.pop()
        path: Path[T] = Path(list(given))
        asked = 0

        def ask(claim: Claim, path: Path[T] = path, answers: list[bool] = answers) -> bool:
            nonlocal asked
            asked += 1
            if asked > len(answers):
                yes, no = (Facts(*path.claims, c).possible for c in (claim, z3.Not(claim)))
                if yes and no:
                    waiting.append([*answers, False])
                answers.append(yes)
            answer = answers[asked - 1]
            path.claims.append(claim if answer else z3.Not(claim))
            return answer

        try:
            path.found = compute(Unknown(term, ask))
        except GeometryError:
            path.found = None
        yield path


class Unknown:
    """A size that nobody knows: a number to the code, a question wherever that compares it."""

    def __init__(self, term: Number, ask: Callable[[Claim], bool]) -> None:
        self.term = term
        self._ask = ask

    def _made(self, number: Number) -> Unknown:
        return Unknown(number, self._ask)

    def __add__(self, other: Number) -> Unknown:
        return self._made(self.term + term(other))

    def __sub__(self, other: Number) -> Unknown:
        return self._made(self.term - term(other))

    def __rsub__(self, other: Number) -> Unknown:
        return self._made(other - self.term)

    def __mul__(self, other: int) -> Unknown:
        return self._made(self.term * other)

    def __neg__(self) -> Unknown:
        return self._made(-self.term)

    def __floordiv__(self, other: int) -> Unknown:
        return self._made(divide(self.term, other)[0])

    def __mod__(self, other: int) -> Unknown:
        return self._made(divide(self.term, other)[1])

    def __lt__(self, other: Number) -> bool:
        return self._ask(self.term < term(other))

    def __gt__(self, other: Number) -> bool:
        return self._ask(self.term > term(other))

    def __bool__(self) -> bool:
        return self._ask(self.term != 0)

    __radd__ = __add__
    __rmul__ = __mul__
    __eq__ = None  # type: ignore[assignment]  # to be asked like the others, if code needs it
    __hash__ = None  # type: ignore[assignment]


def term(number: Number) -> Number:
    """What stands for a number."""
    return number.term if isinstance(number, Unknown) else number
