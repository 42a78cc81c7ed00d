"""The proof of one layer: what it must catch, and what it must not take for an error."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

import convfc
from convfc import Convolution, Site, Verdict, Window, convolution, lower
from convfc.core.geometry import Sizes
from convfc.core.im2col import apply
from convfc.core.lowering import Lowering
from convfc.core.numpy_ops import NumpyOps
from convfc.core.whole import Form
from convfc.verification import draws
from convfc.verification.proof import prove
from tests.onnx_layers import layers
from tests.onnx_models import conv_file
from tests.reference import convolve

Array = NDArray[Any]
CONV = convolution([2, 3], channels=3, filters=4, strides=[1, 2], padding=[(1, 0), (0, 2)])
SIZES = (5, 6)


@dataclass(frozen=True)
class NumpyTwin:
    """A layer as a plain loop over windows, and as lowered by another, perhaps wrong, geometry."""

    lowered: Convolution = CONV
    dtype: str = "float32"
    problem: str | None = None
    structure: str | None = None
    unshown: str | None = None
    error: float = 0.0
    unsteady: tuple[str, ...] = ()
    """Sides whose runtime is not exact on integers: it errs by a thousandth, here and there."""
    rounds_to_integers = False
    channels_last = True
    form = Form.PATCHES
    kernel_order = (0, 1, 2, 3)
    quantization = None

    @property
    def site(self) -> Site:
        return Site("layer", "Conv", CONV, SIZES, self.dtype)

    @property
    def stages(self) -> tuple[int, ...]:
        return (CONV.patch_length,)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return (None, *SIZES, CONV.channels)

    smallest_shape = (1, 4, 7, 3)

    @property
    def parameters(self) -> dict[str, Array]:
        kernel = np.random.default_rng(1).normal(size=CONV.kernel_shape)
        return {"kernel": kernel.astype(self.dtype), "bias": np.ones(4, self.dtype)}

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        return {"kernel": CONV.kernel_shape, "bias": (4,)}[name]

    def parameter_dtype(self, name: str) -> str:
        return {"kernel": self.dtype, "bias": self.dtype}[name]

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        given = {**self.parameters, **parameters}
        assert given["kernel"] is not None
        y = convolve(x, given["kernel"], given["bias"], CONV)
        return self.disturbed(y, "original")

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        y = self.converted(x, parameters)
        if not parameters:
            y = y * self.dtype_of(1 + self.error)
        return self.original(x, parameters), self.disturbed(y, "converted")

    def converted(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        given = {**self.parameters, **parameters}
        lowering = lower(self.lowered, SIZES)
        assert isinstance(lowering, Lowering)
        assert given["kernel"] is not None
        return apply(NumpyOps(given["kernel"], given["bias"]), x, lowering)

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        given = {**self.parameters, **parameters}
        given = {name: value.astype(np.float64) for name, value in given.items()}
        wide = x.astype(np.float64)
        calm = replace(self, unsteady=())
        return calm.original(wide, given), calm.converted(wide, given)

    def disturbed(self, y: Array, side: str) -> Array:
        if side not in self.unsteady:
            return y
        places = np.arange(y.size).reshape(y.shape) % 3 == ("original", "converted").index(side)
        return np.where(places, y * self.dtype_of(1.001), y)

    def dtype_of(self, number: float) -> Any:
        return np.dtype(self.dtype).type(number)


RANDOM = np.random.default_rng(4)
ACTIVATIONS = RANDOM.normal(size=(2, *SIZES, 3)).astype(np.float32)


def test_a_true_lowering() -> None:
    proof = prove(NumpyTwin(), ACTIVATIONS, np.random.default_rng(0))
    assert proof.reason is None
    assert proof.unchecked is None
    assert proof.parameters_equal
    assert proof.chance == pytest.approx((2 / 63) ** proof.draws)
    assert proof.draws == 4 + 1
    assert proof.share is not None
    assert proof.share < 1


def test_a_layer_that_takes_long_is_drawn_fewer_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is built as convfc builds it; of another structure, draws are the proof."""
    other = NumpyTwin(structure="another node")
    for worth, built, otherwise in ((1, 1, 5), (10**11, 5, 5)):
        monkeypatch.setattr(draws, "_WORTH", worth)
        proof = prove(NumpyTwin(), ACTIVATIONS, np.random.default_rng(0))
        assert proof.draws == built
        assert proof.chance == pytest.approx((2 / 63) ** built)
        assert prove(other, ACTIVATIONS, np.random.default_rng(0)).draws == otherwise
    monkeypatch.setattr(draws, "_WORTH", 1)
    wrong = replace(CONV, windows=(Window(2, 1, 1, (0, 1)), CONV.windows[1]))
    proof = prove(NumpyTwin(wrong), ACTIVATIONS, np.random.default_rng(0))
    assert "on integers" in str(proof.reason)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CONV, windows=(Window(2, 1, 1, (0, 1)), CONV.windows[1])),
        replace(CONV, windows=(CONV.windows[0], Window(3, 2, 1, (1, 1)))),
    ],
)
def test_a_pad_on_the_other_side(wrong: Convolution) -> None:
    proof = prove(NumpyTwin(wrong), None, np.random.default_rng(0))
    assert "on integers" in str(proof.reason)
    assert proof.witness is not None
    quick = prove(NumpyTwin(wrong), ACTIVATIONS, np.random.default_rng(0), quick=True)
    assert "more than rounding" in str(quick.reason)


def test_an_error_beyond_rounding_and_one_within() -> None:
    for error, fine in ((1e-3, False), (1e-7, True)):
        proof = prove(NumpyTwin(error=error), ACTIVATIONS, np.random.default_rng(0))
        assert (proof.reason is None) == fine
        assert proof.share is not None
        assert (proof.share <= 1) == fine


@pytest.mark.parametrize("unsteady", [("original",), ("converted",), ("original", "converted")])
def test_a_runtime_that_is_not_exact_on_integers(unsteady: tuple[str, ...]) -> None:
    pair = NumpyTwin(unsteady=unsteady)
    for quick in (False, True):
        proof = prove(pair, ACTIVATIONS, np.random.default_rng(0), quick=quick)
        assert proof.reason is None
        assert proof.inexact == unsteady
        assert proof.chance is not None
        if len(unsteady) == 2:
            assert proof.share is None
        else:
            assert proof.share is not None
            assert proof.share < 1


@pytest.mark.parametrize("unsteady", [("original",), ("converted",), ("original", "converted")])
def test_a_wrong_layer_is_caught_in_such_a_runtime(unsteady: tuple[str, ...]) -> None:
    wrong = replace(CONV, windows=(CONV.windows[0], Window(3, 2, 1, (1, 1))))
    for quick in (False, True):
        proof = prove(
            NumpyTwin(wrong, unsteady=unsteady), ACTIVATIONS, np.random.default_rng(0), quick=quick
        )
        assert proof.reason is not None
        assert proof.witness is not None
        # Integers differ by integers, not by what the runtime adds.
        assert quick or (proof.witness.original - proof.witness.converted) % 1 == 0


def test_activations_that_cannot_be_seen_are_random() -> None:
    proof = prove(NumpyTwin(), None, np.random.default_rng(0))
    assert proof.on_random
    assert proof.share is not None
    assert 0 < proof.share < 1
    assert not prove(NumpyTwin(), ACTIVATIONS, np.random.default_rng(0)).on_random


def test_a_problem_ends_it() -> None:
    proof = prove(NumpyTwin(problem="it is broken"), None, np.random.default_rng(0))
    assert (proof.reason, proof.draws) == ("it is broken", 0)


def test_small_types_need_more_draws_and_the_same_seed_gives_the_same() -> None:
    proof = prove(NumpyTwin(dtype="float16"), None, np.random.default_rng(0))
    largest = math.isqrt(2**11 // (CONV.patch_length + 1))
    assert proof.chance == pytest.approx((2 / (2 * largest + 1)) ** proof.draws)
    assert proof.draws > 5
    assert proof == prove(NumpyTwin(dtype="float16"), None, np.random.default_rng(0))


@dataclass(frozen=True)
class LongTwin(NumpyTwin):
    """The same, which takes its sums for longer than they are: real ones take minutes."""

    terms: int = 2**24

    @property
    def stages(self) -> tuple[int, ...]:
        return (self.terms,)


@pytest.mark.parametrize("terms", [2**23, 2**24 - 1, 2**24, 2**25, 2**40])
def test_long_sums_are_drawn_from_integers_that_tell(terms: int) -> None:
    proof = prove(LongTwin(terms=terms), ACTIVATIONS, np.random.default_rng(0))
    assert (proof.reason, proof.unchecked) == (None, None)
    assert proof.chance is not None
    assert proof.draws >= 2  # a batch of each size
    assert proof.chance <= 1e-6
    wrong = replace(CONV, windows=(CONV.windows[0], Window(3, 2, 1, (1, 1))))
    proof = prove(LongTwin(wrong, terms=terms), None, np.random.default_rng(0))
    assert "on integers" in str(proof.reason)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_too_long_for_any_type_are_left_unchecked(dtype: str) -> None:
    for quick in (False, True):
        pair = LongTwin(dtype=dtype, terms=2**53, structure="it is built otherwise")
        proof = prove(pair, ACTIVATIONS, np.random.default_rng(0), quick=quick)
        assert "too long to be exact" in str(proof.unchecked)
        assert (proof.draws, proof.chance) == (0, None)


SCALES = [1e-6, 1.0, 1e6, 1e-38]
SPECIAL = [np.nan, np.inf, -np.inf, 1e-42, 3e38, 0.0, -0.0]


anything = given(
    layers(),
    st.sampled_from(["auto", "slice"]),
    st.sampled_from(SCALES),
    st.lists(st.sampled_from(SPECIAL), max_size=4),
    st.integers(0, 2**32 - 1),
)


def check(
    layer: tuple[Convolution, Sizes], patches: str, scale: float, special: list[float], seed: int
) -> None:
    """A true conversion with weights of very different sizes, and anything in the data."""
    conv, sizes = layer
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = conv_file(Path(folder) / "m.onnx", conv, sizes)
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            shape = tuple(tensor.dims)
            weight = random.normal(size=shape) * scale * 10.0 ** random.integers(-6, 7, shape)
            with np.errstate(over="ignore", under="ignore"):
                tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float32), tensor.name))
        onnx.save(model, path)
        done = convfc.convert(path, patches=patches)
        assert done.complete
        spatial = [s or w.extent + 4 for s, w in zip(sizes, conv.windows, strict=True)]
        x = random.normal(size=(2, conv.channels, *spatial)).astype(np.float32)
        x.flat[random.integers(0, x.size, len(special))] = special
        result = convfc.verify(path, done.out, inputs={"x": x})
    assert result.verdict is Verdict.EQUIVALENT, result.reason


test_no_false_alarm = settings(max_examples=15)(anything(check))
test_no_false_alarm_at_length = pytest.mark.slow(settings(max_examples=3000)(anything(check)))
