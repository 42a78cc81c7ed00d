"""Entries of tensors: sums of weights, each times a number of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from tests.symbolic.numbers import Claim, Number, choose, simple

Form = dict[int, Number]
"""An entry, as a sum: weights, by what each of them is multiplied. The weight 1 is the number.

Of an index map, weights are sizes: products of two unknown numbers are nothing for a solver.
"""


def either(condition: Claim, yes: Callable[[], Form], no: Callable[[], Form]) -> Form:
    """One of two entries."""
    if isinstance(condition, bool):
        return yes() if condition else no()
    a, b = yes(), no()
    return {weight: choose(condition, a.get(weight, 0), b.get(weight, 0)) for weight in {**a, **b}}


def case_by_case(number: Number, count: int, compute: Callable[[int], Form]) -> Form:
    """An entry that depends on a number, which is one of so many."""
    if isinstance(number, int):
        return compute(number)
    form = compute(count - 1)
    for case in reversed(range(count - 1)):
        form = either(number == case, partial(compute, case), partial(dict, form))
    return form


def add(forms: Iterable[Form]) -> Form:
    """The sum of entries."""
    total: Form = {}
    for form in forms:
        for weight, number in form.items():
            total[weight] = total[weight] + number if weight in total else number
    return total


def times(form: Form, weight: int) -> Form:
    """An entry times a weight; no weight meets another."""
    assert weight == 1 or set(form) <= {1}
    return {mine * weight: number for mine, number in form.items()} if weight else {}


def scaled(form: Form, by: Number) -> Form:
    """An entry times a number that may be unknown: its weights are then."""
    known = simple(sum(w * number for w, number in form.items() if isinstance(w, int)))
    unknown = {w: number for w, number in form.items() if not isinstance(w, int)}
    return {simple(w * by): number for w, number in {1: known, **unknown}.items()}


def plus(form: Form, weight: int) -> Form:
    """An entry and a weight."""
    return add([form, times({1: 1}, weight)])
