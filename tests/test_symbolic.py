"""What the proofs for all sizes stand on: numbers, tensors and paths mean what they say."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import z3
from numpy.typing import NDArray

from convfc.errors import GeometryError
from tests.symbolic.numbers import Facts, divide
from tests.symbolic.paths import paths, term
from tests.symbolic.tensors import Tensor, concatenate

Array = NDArray[Any]


def tensor(array: Array) -> Tensor:
    """A tensor of numbers that are known."""
    lengths = tuple(array.shape)
    return Tensor(
        Facts(), lengths, (1,) * len(lengths), lambda index: {1: int(array[tuple(index)])}
    )


def entries(x: Tensor) -> Array:
    numbers = [x.at(index).get(1, 0) for index in np.ndindex(*x.lengths)]
    return np.array(numbers).reshape(x.lengths)


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("length", range(5))
def test_a_cut_is_a_slice(length: int, step: int) -> None:
    array = np.arange(1, length + 1)
    bounds = range(-length - 2, length + 3)
    for start, stop in itertools.product(bounds, [*bounds, None, 2**62]):
        cut = tensor(array).cut(0, start, stop, step)
        assert entries(cut).tolist() == array[start:stop:step].tolist(), (start, stop)


@pytest.mark.parametrize(
    ("shape", "new"),
    [
        ((2, 3, 4), (6, 4)),
        ((2, 3, 4), (-1, 4)),
        ((2, 3, 4), (2, -1)),
        ((2, 3, 4), (4, 3, 2)),
        ((6, 4), (2, 1, 3, -1)),
        ((2, 3, 4), (1, 24, 1)),
        ((2, 12), (2, 3, -1, 2)),
        ((2, 1, 3), (-1,)),
    ],
)
def test_a_reshape_keeps_the_order(shape: Sequence[int], new: Sequence[int]) -> None:
    array = np.random.default_rng(1).permutation(24)[: np.prod(shape)].reshape(shape)
    assert np.array_equal(entries(tensor(array).reshape(new)), array.reshape(new))


def test_axes_move_grow_and_join() -> None:
    array = np.random.default_rng(2).integers(1, 99, (2, 3, 4))
    x = tensor(array)
    assert np.array_equal(entries(x.transpose([2, 0, 1])), array.transpose([2, 0, 1]))
    assert np.array_equal(entries(x.pad(1, 1, 2)), np.pad(array, [(0, 0), (1, 2), (0, 0)]))
    twice = np.concatenate([array, array[:, ::2]], 1)
    assert np.array_equal(entries(concatenate([x, x.cut(1, 0, None, 2)], 1)), twice)
    assert np.array_equal(entries(x.take(1, np.array([2, 0]))), array.take([2, 0], 1))
    assert np.array_equal(entries(x.sum(1)), array.sum(1))


def test_axes_of_unknown_lengths_come_apart_again() -> None:
    n, m, i, j = z3.Ints("n m i j")
    facts = Facts(n >= 1, m >= 1)
    x = Tensor(facts, (n, 2, m), (1, 1, 1), lambda index: {1: index[0] * 100 + index[2]})
    flat = x.reshape([-1])
    assert flat.parts == (2,)
    again = flat.unravel(0, [n, 2, m])
    assert facts.counterexample(again.at([i, 1, j])[1] == i * 100 + j) is None
    with pytest.raises(AssertionError, match="m = "):
        flat.unravel(0, [n, 2, m + 1])


@pytest.mark.parametrize("by", [1, 2, 3, 6])
def test_a_quotient_is_rounded_down(by: int) -> None:
    n, m = z3.Ints("n m")
    for number in (n, 6 * n - 7, 4 * m + 9 * n + 5, -3 * n + 2, 2 * n + z3.If(m > n, m, 3)):
        whole, rest = divide(number, by)
        right = z3.And(whole * by + rest == number, rest >= 0, rest < by)
        assert Facts().counterexample(right) is None


def test_every_way_through_the_code_is_taken() -> None:
    n = z3.Int("n")

    def compute(size: Any) -> int:
        if size < 3:
            raise GeometryError("small")
        return int(max(size, 7) > 9)

    found = [(path.found, path.claims) for path in paths([n >= 1], n, compute)]
    assert sorted(str(answer) for answer, _ in found) == ["0", "0", "1", "None"]
    facts = Facts(n >= 1)
    assert facts.counterexample(z3.Or(*(z3.And(*claims) for _, claims in found))) is None
    (large,) = [claims for answer, claims in found if answer == 1]
    assert Facts(*large).counterexample(n > 9) is None


def test_a_counterexample_has_numbers() -> None:
    n = z3.Int("n")
    assert Facts(n >= 5).counterexample(n != 5) == "n = 5"
    with pytest.raises(AssertionError, match="too large: n = 5"):
        Facts(n >= 5, n < 6).demand(n < 5, "too large")


def test_what_stands_for_a_number_is_never_compared_by_accident() -> None:
    (path,) = paths([], z3.Int("n"), lambda size: size + 1)
    assert path.found is not None
    assert str(term(path.found)) == "n + 1"
    with pytest.raises(TypeError):
        hash(path.found)
