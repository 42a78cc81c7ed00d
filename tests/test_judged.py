"""What the samples may show of a true conversion, and what contradicts it; the verdict on both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from convfc import Verdict
from convfc.formats.protocols import Alignment
from convfc.verification.differences import DifferenceCollector, Distance, OutputDifference
from convfc.verification.proof import LayerProof
from convfc.verification.verdict import Contradiction, conclude, contradiction

Array = NDArray[Any]
RANDOM = np.random.default_rng(3)
A = RANDOM.normal(size=(40, 50)).astype(np.float32)


def seen(
    a: Array, b: Array, errors: tuple[float, float] | None = None, batches: int = 4
) -> OutputDifference:
    collector = DifferenceCollector("y", judged=False)
    parts: Any = zip(np.array_split(a, batches), np.array_split(b, batches), strict=True)
    for x, y in parts:
        collector.add(x, y)
    out = collector.result()
    if errors is None:
        return out
    original, converted = (Distance(error, error) for error in errors)
    return replace(out, original_error=original, converted_error=converted)


def moved(share: float, by: float) -> Array:
    """`A` with some of its numbers, spread evenly, moved by a share of the largest."""
    b = A.copy()
    b.flat[:: round(1 / share)] += np.float32(by * abs(A).max())
    return b


@pytest.mark.parametrize(
    ("by", "errors", "certain"),
    [
        (1e-6, (1e-7, 1e-6), None),
        (5e-5, (1e-6, 5e-5), None),
        (1e-3, (1e-6, 1e-3), True),
        (1e-3, (1e-3, 1e-6), False),
        (0.2, (0.1, 0.2), None),
        (0.5, (0.1, 0.5), False),
        (0.005, None, None),
        (0.05, None, False),
    ],
)
def test_real_numbers_are_judged_by_their_distance_from_float64(
    by: float, errors: tuple[float, float] | None, certain: bool | None
) -> None:
    """Shares of the largest number; without float64 a percent of it counts."""
    scaled = None if errors is None else tuple(error * float(abs(A).max()) for error in errors)
    out = seen(A, moved(0.001, by), scaled)  # type: ignore[arg-type]
    found = contradiction(out, steps=False)
    assert (found and found.certain) == certain
    if found is not None:
        assert found.witness is not None
        assert found.witness.sample in range(40)
        assert f"{out.max_abs:.3g}" in found.what


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_the_type_decides_what_rounding_is(dtype: type) -> None:
    a: Array = A.astype(dtype)
    b: Array = (a * (1 + 0.01)).astype(dtype)
    assert (contradiction(seen(a, b), steps=False) is None) == (dtype is np.float16)


@pytest.mark.parametrize(
    ("share", "by", "fine"),
    [(0.0005, 2.0, True), (0.005, 2.0, False), (0.01, 0.01, True), (1, 0.004, False)],
)
def test_steps_move_a_few_numbers_far_or_more_of_them_a_little(
    share: float, by: float, fine: bool
) -> None:
    out = seen(A, moved(share, by))
    assert (contradiction(out, steps=True) is None) == fine
    assert contradiction(out, steps=False) is None or by > 0.005
    swaying = replace(out, evidence=replace(out.evidence, sway=(out.max_abs, out.mean_abs)))
    assert contradiction(swaying, steps=True) is None


@pytest.mark.parametrize(
    ("different", "steps", "fine"),
    [(0, False, True), (1, False, False), (1, True, True), (2, True, False)],
)
def test_integers_differ_where_a_tie_went_the_other_way(
    different: int, steps: bool, fine: bool
) -> None:
    a = RANDOM.integers(0, 9, 100)
    b = a.copy()
    b[:different] += 5
    found = contradiction(seen(a, b), steps=steps)
    assert (found is None) == fine
    assert found is None or not found.certain
    big = np.array([2**53, 7, 8])
    assert contradiction(seen(big, big + np.array([1, 0, 0]), batches=1), steps=True) is not None


def test_what_is_certain() -> None:
    wrong: list[tuple[Array, Array]] = [(A, A[:, :-1]), (A, A.astype(np.float64))]
    for a, b in wrong:
        found = contradiction(seen(a, b), steps=True)
        assert found is not None
        assert found.certain


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_rounding_may_do_next_to_a_pole_is_not_certain(bad: float) -> None:
    """A sum that is zero on one side, and almost on the other: its logarithm is, or is not."""
    some, far = np.where(A > 2, bad, A), float("inf")
    for a, b, errors, certain in (
        (A, some, (1e-7, far), True),
        (A, some, (far, 1e-7), False),
        (A, some, (far, far), False),
        (A, some, None, False),
        (some, A, (1e-7, far), False),
    ):
        found = contradiction(seen(a, b, errors), steps=False)
        assert found is not None
        assert found.certain == certain


def test_a_text_that_was_chosen_is_not_certain() -> None:
    words = A.astype(str).astype(object)
    for steps in (False, True):
        found = contradiction(seen(words, words[::-1]), steps=steps)
        assert found is not None
        assert found.certain != steps


def test_a_length_that_the_data_decide_is_not_certain() -> None:
    collector = DifferenceCollector("boxes", judged=False)
    for found, again in ((3, 3), (5, 4), (2, 2)):
        collector.add(np.zeros((found, 4)), np.zeros((again, 4)))
    judged = contradiction(collector.result(), steps=True)
    assert judged is not None
    assert not judged.certain


PROVED = LayerProof("conv", "Conv", parameters_equal=True, draws=5, chance=1e-7)
CERTAIN = Contradiction("y", "it is off", certain=True, witness=None)
DOUBTFUL = replace(CERTAIN, what="it may be off", certain=False)
Y, N, X = Verdict.EQUIVALENT, Verdict.NOT_EQUIVALENT, Verdict.COULD_NOT_CHECK


@pytest.mark.parametrize(
    ("layer", "alignment", "found", "refused", "verdict", "reason"),
    [
        ({}, {}, [], None, Y, "None"),
        ({}, {"remarks": ("other words",)}, [], None, Y, "None"),
        ({"reason": "it differs"}, {}, [], None, N, "layer 'conv': it differs"),
        ({}, {"differences": ("a", "b")}, [], None, N, "converted layers: a (and 1 more)"),
        ({}, {"unknown": ("a", "b")}, [], None, X, "not known: a (and 1 more); 7 agree"),
        ({"unchecked": "too wide"}, {}, [], None, X, "layer 'conv': too wide"),
        ({}, {}, [DOUBTFUL, CERTAIN], None, N, "output 'y': it is off"),
        ({}, {}, [DOUBTFUL], None, X, "the files say the same, but not the samples"),
        ({}, {"unknown": ("a",)}, [DOUBTFUL], None, N, "output 'y': it may be off"),
        ({"unchecked": "too wide"}, {}, [DOUBTFUL], None, N, "output 'y': it may be off"),
        ({}, {}, [], "no such kernel", X, "only the original runs: no such kernel"),
    ],
)
def test_what_was_seen_comes_first_and_doubt_before_proof(
    layer: dict[str, Any],
    alignment: dict[str, Any],
    found: list[Contradiction],
    refused: str | None,
    verdict: Verdict,
    reason: str,
) -> None:
    layers = [PROVED, replace(PROVED, **layer)]
    judged, why = conclude(Alignment((), **alignment), layers, found, "7 agree", refused)
    assert judged is verdict
    assert reason in str(why)
