"""Integers that may be unknown: Python's own, or terms of z3."""

from __future__ import annotations

from typing import Any

import z3

Number = Any
"""An `int`, or an integer term of z3; z3 ships no types."""

Claim = Any
"""A `bool`, or a truth of z3."""


def divide(number: Number, by: int) -> tuple[Number, Number]:
    """Floor of a quotient, and the remainder; what divides evenly is taken out of the term."""
    if isinstance(number, int):
        return divmod(number, by)
    whole: Number = 0
    rest: Number = 0
    for term in _summands(z3.simplify(number, som=True)):
        factor, atom = _factor(term)
        whole += factor // by * atom
        rest += factor % by * atom
    if not isinstance(rest, int):
        rest = z3.simplify(rest)
        rest = rest.as_long() if z3.is_int_value(rest) else rest
    if isinstance(rest, int):
        return simple(whole + rest // by), rest % by
    return simple(whole + rest / by), rest % by


def _summands(term: Number) -> list[Number]:
    return term.children() if z3.is_add(term) else [term]


def _factor(term: Number) -> tuple[int, Number]:
    """A summand as a number times something that has none."""
    if z3.is_int_value(term):
        return term.as_long(), 1
    if z3.is_mul(term) and z3.is_int_value(term.arg(0)):
        return term.arg(0).as_long(), z3.Product(term.children()[1:])
    return 1, term


def simple(number: Number) -> Number:
    """The same, as an `int` if it is one."""
    if isinstance(number, int):
        return number
    number = z3.simplify(number)
    return number.as_long() if z3.is_int_value(number) else number


def is_one(number: Number) -> bool:
    """Whether a number is known to be 1."""
    return isinstance(number, int) and number == 1


def is_zero(number: Number) -> bool:
    """Whether a number is known to be 0."""
    return isinstance(number, int) and number == 0


def both(*claims: Claim) -> Claim:
    """Whether all hold."""
    if any(claim is False for claim in claims):
        return False
    open_ones = [claim for claim in claims if claim is not True]
    return z3.And(*open_ones) if open_ones else True


def choose(condition: Claim, yes: Number, no: Number) -> Number:
    """One of two numbers."""
    if isinstance(condition, bool):
        return yes if condition else no
    if yes is no:
        return yes
    return z3.If(condition, yes, no)


class Facts:
    """What is given about the unknown sizes."""

    def __init__(self, *given: Claim) -> None:
        self._solver = z3.Solver()
        self._solver.add(*given)
        self._known: dict[Any, bool] = {}

    @property
    def possible(self) -> bool:
        """Whether there are such sizes at all."""
        return bool(self._solver.check() == z3.sat)

    def counterexample(self, claim: Claim) -> str | None:
        """Numbers for which a claim is false, in words; ``None`` if there are none: a proof.

        Raises:
            AssertionError: the solver does not know.
        """
        if isinstance(claim, bool):
            return None if claim else "always"
        self._solver.push()
        self._solver.add(z3.Not(claim))
        answer = self._solver.check()
        assert answer != z3.unknown, self._solver.reason_unknown()
        found = None if answer == z3.unsat else _words(self._solver.model())
        self._solver.pop()
        return found

    def follow(self, claim: Claim) -> bool:
        """Whether a claim is true for all sizes."""
        if isinstance(claim, bool):
            return claim
        if claim not in self._known:
            self._known[claim] = self.counterexample(claim) is None
        return self._known[claim]

    def demand(self, claim: Claim, what: str) -> None:
        """Go on only if a claim is true for all sizes.

        Raises:
            AssertionError: it is not; with the sizes.
        """
        found = None if self.follow(claim) else self.counterexample(claim)
        assert found is None, f"{what}: {found}"

    def choose(self, condition: Claim, yes: Number, no: Number) -> Number:
        """`choose`, decided as far as the facts do."""
        if self.follow(condition):
            return yes
        if not isinstance(condition, bool) and self.follow(z3.Not(condition)):
            return no
        return choose(condition, yes, no)


def _words(model: Any) -> str:
    numbers = [name for name in model.decls() if name.arity() == 0]
    return ", ".join(sorted(f"{name} = {model[name]}" for name in numbers))
