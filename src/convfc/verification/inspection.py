"""A look at a converted file before it is published: one sample through it and the original.

It proves nothing, that is what `verification.verify` is for; but a fault of the conversion, of a
runtime or of a processor shows on almost any numbers.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.errors import ConvfcError, DataError, GeometryError, UnsupportedModelError
from convfc.formats.demand import too_much
from convfc.formats.protocols import Feed, LayerPair, Model, Port, Site
from convfc.formats.registry import open_model
from convfc.samples.feeds import make_feeds
from convfc.samples.slots import is_float
from convfc.verification.differences import DifferenceCollector, Witness
from convfc.verification.proof import prove
from convfc.verification.rounding import LOOK_RTOL

_SECONDS = 10.0
"""What a look may take, both files together, by what is known of its convolutions."""
_PRODUCTS = 1e10
"""Multiply-adds in a second, in both files together: two slow cores do more."""
_COPIES = 1e8
"""Numbers of patches that are put together in a second, likewise."""
_AS_NEAR = 16
"""How many times further from float64 than the original may be, where outputs differ much."""
_OPEN = 16
"""An unknown size of a layer: the sample is wider, but what is behind strides is not."""
_ROWS, _QUICK = 2, 0.1
"""Samples of random numbers for a layer which takes up to so many seconds; else one.

One cannot tell whether a batch is baked in.
"""
_NUMBERS = 2**26
"""How many numbers may be fed at most."""
_LARGE = 2**26
"""Bytes of a file: it is not in memory twice."""


@dataclass(frozen=True)
class Look:
    """What was seen of a converted model next to its original.

    Attributes:
        samples: how many samples went through both as a whole.
        difference: the largest difference of an output on them.
        differs: whether that is more than rounding usually does.
        reason: why there was more to look at, or nothing at all; ``None``: the outputs agree.
        layers: how many converted layers were then looked at one by one.
        share: the largest difference in them, as a share of what rounding may do at most; ``None``
            if there were none of real numbers.
        unseen: how many converted layers could not be looked at either.
        problem: what is wrong with the converted model, or ``None``.
    """

    samples: int = 0
    difference: float | None = None
    differs: bool = False
    reason: str | None = None
    layers: int = 0
    share: float | None = None
    unseen: int = 0
    problem: str | None = None


def look(
    original: Model, path: Path, imports: Sequence[str] = (), *, by_layers: bool = True
) -> Look:
    """Run one sample through a model and the file that it was converted to.

    Where that cannot be, would take more than about ten seconds, or ends in numbers that differ
    by more than rounding usually does, every converted layer is looked at by itself: there it is
    known what rounding may do. A net that makes much of little is none the worse for it.

    Args:
        original: the model; it may have been used to write the file.
        path: the file.
        imports: modules that register custom Keras classes.
        by_layers: whether to look at layers where the whole is not enough.
    """
    random = np.random.default_rng(0)
    feed: Feed = {}
    try:
        feed, rows = _sample(original.inputs, random)
        found = _whole(original, path, feed, rows)
    except DataError as error:
        found = Look(reason=str(error).split(":", maxsplit=1)[0])
    if found.reason is None or found.problem is not None or not by_layers:
        return found
    # Writing the file may have changed what is in memory.
    second = open_model(path, imports)
    first = open_model(original.path, imports, original.reading)
    return _by_layers(found, first, second, feed, random)


def _whole(original: Model, path: Path, feed: Feed, rows: int) -> Look:
    """Compare the outputs on one sample."""
    if rows * sum(map(_seconds, original.sites)) > _SECONDS:
        return Look(reason="as a whole it would take more than ten seconds")
    try:
        expected = original.run_once(feed)
    except UnsupportedModelError as error:
        return Look(reason=_on_one_line(error, original.path))
    if path.stat().st_size > _LARGE:
        gc.collect()  # what wrote the file may hold all of it, in circles
    try:
        got = original.run_once(feed, path)
    except UnsupportedModelError as error:
        return Look(problem=f"only the original can be run: {_on_one_line(error, path)}")
    return _compared(expected, got, rows)


def _sample(ports: Sequence[Port], random: np.random.Generator) -> tuple[Feed, int]:
    """A feed of one sample, or of as many as the model insists on; and how many there are in it.

    Real numbers are random, so that no two channels are alike; so are 8-bit images. What may be
    an index or a size is zero.

    Raises:
        DataError: an input that cannot be made up.
    """
    if sum(_least_numbers(port) for port in ports) > _NUMBERS:
        raise DataError("its inputs are too large for a look")
    fixed = {port.name: 0.5 for port in ports if is_float(port)}
    made, rows = make_feeds(ports, samples=1, inputs=fixed).few(1)
    images = {port.name for port in ports if port.dtype in ("uint8", "int8")}

    def drawn(name: str, array: NDArray[Any]) -> NDArray[Any]:
        if name in images and array.ndim >= 3:
            limits = np.iinfo(array.dtype)
            return random.integers(limits.min, limits.max + 1, array.shape, array.dtype)
        if name in fixed and array.ndim >= 2:
            return random.random(array.shape).astype(array.dtype)
        return array

    return {name: drawn(name, array) for name, array in made.items()}, rows


def _least_numbers(port: Port) -> int:
    return math.prod(size or 1 for size in port.shape or ())


def _seconds(site: Site) -> float:
    """About how long one sample takes in a convolution and in what it was converted to."""
    convolution = site.convolution
    if convolution is None:
        return 0.0
    sizes = zip(site.sizes, convolution.windows, strict=True)
    try:
        products = convolution.multiply_adds(
            tuple(size or max(window.probe_size, _OPEN) for size, window in sizes)
        )
    except GeometryError:  # a window that does not fit, in a layer that was left
        return 0.0
    assert products is not None, "all sizes are known"  # noqa: S101 - `multiply_adds` says so
    copies = products * convolution.groups / convolution.filters
    return products / _PRODUCTS + copies / _COPIES


def _compared(expected: Feed, got: Feed, rows: int) -> Look:
    """What two runs on the same samples tell."""
    largest, wrong, has_numbers = 0.0, None, False
    for name, array in expected.items():
        collector = DifferenceCollector(name, rtol=LOOK_RTOL.get(array.dtype.name, 0.0))
        collector.add(array, got[name])
        result = collector.result()
        largest = max(largest, result.max_abs)
        has_numbers = has_numbers or bool((array == array).any())
        if result.reason is not None and wrong is None:
            how = (
                result.reason
                if result.max_abs in (0, math.inf)
                else f"it differs by {result.max_abs:.2g}"
            )
            wrong = f"output '{name}' on a sample: {how}"
    if wrong is None and not has_numbers:
        return Look(rows, largest, reason="on a sample its outputs are empty or not a number")
    return Look(rows, largest, wrong is not None, wrong)


def _by_layers(
    found: Look, first: Model, second: Model, feed: Feed, random: np.random.Generator
) -> Look:
    """Compare the converted layers with their convolutions, the quickest first.

    Where the outputs differ, on what the original feeds them.
    """
    alignment = first.align(second)
    if alignment.differences:
        wrong = f"outside of the converted layers: {alignment.differences[0]}"
        return replace(found, problem=wrong)
    pairs = sorted(alignment.pairs, key=lambda pair: _seconds(pair.site))
    lost = _recorded(second) - {pair.site.name for pair in pairs}
    why = next(iter(alignment.unknown), None)
    if lost:
        why = f"layer '{min(lost)}': nothing in the converted model can be told to be its own"
    found = replace(found, unseen=len(lost))
    fed: Feed = {}
    if found.differs:
        with suppress(UnsupportedModelError):
            fed = first.activations(feed, [pair.site.name for pair in pairs])
    seconds = 0.0
    shares: list[float] = []
    for number, pair in enumerate(pairs):
        alone = _seconds(pair.site)
        rows = _ROWS if alone < _QUICK else 1
        seconds += 1.5 * rows * alone  # the original is run twice
        if seconds > _SECONDS and not found.differs:
            unseen = found.unseen + len(pairs) - number
            return replace(found, unseen=unseen, share=max(shares, default=None))
        x = fed.get(pair.site.name)
        excess = _excess(pair, rows) if x is None else None
        if excess is not None:
            why = why or f"layer '{pair.site.name}': {excess}"
            found = replace(found, unseen=found.unseen + 1)
            continue
        x = _numbers(pair, rows, random) if x is None else x
        proof = prove(pair, x, random, quick=True)
        if proof.reason is not None:
            at = "" if proof.witness is None else f": {_at(proof.witness)}"
            return replace(found, problem=f"layer '{proof.name}': {proof.reason}{at}")
        if proof.unchecked is not None:
            why = why or f"layer '{proof.name}': {proof.unchecked}"
            found = replace(found, unseen=found.unseen + 1)
        else:
            found = replace(found, layers=found.layers + 1)
            shares += [] if proof.share is None else [proof.share]
    if found.differs and first.rewritten and not first.has_steps:
        why = why or _far_from_float64(first, second, feed)
    if found.differs and why is not None:
        return replace(found, problem=f"{found.reason}; and {why}")
    return replace(found, share=max(shares, default=None))


def _far_from_float64(first: Model, second: Model, feed: Feed) -> str | None:
    """How much further from float64 a model is than its original; ``None`` if it is as near.

    The layers are compared with what is read, and not with what stands in the file.
    """
    with suppress(UnsupportedModelError):
        exact, own, made = first.run_in_float64(feed), first.run(feed), second.run(feed)
        for name, truth in exact.items():
            if truth.dtype != np.float64:  # numbers written as text, for example
                continue
            near, far = (np.abs(run[name] - truth).max(initial=0.0) for run in (own, made))
            if far > _AS_NEAR * near:
                return f"it is {far:.2g} from float64, the original {near:.2g}"
    return None


def _recorded(converted: Model) -> set[str]:
    """The names of the layers that were converted, by the file itself."""
    record = converted.provenance
    return set() if record is None else {layer.name for layer in record.layers}


def _small(pair: LayerPair, rows: int) -> tuple[int, ...]:
    """A shape of a layer's input as small as its sizes allow."""
    sizes = zip(pair.input_shape[1:], pair.smallest_shape[1:], strict=True)
    return (rows, *(size or least for size, least in sizes))


def _excess(pair: LayerPair, rows: int) -> str | None:
    """Why a layer is too large to be looked at, or ``None``."""
    try:
        return too_much(pair, _small(pair, rows))
    except GeometryError as error:
        return str(error)


def _numbers(pair: LayerPair, rows: int, random: np.random.Generator) -> NDArray[Any]:
    """Random numbers for a layer, as small as its sizes allow."""
    shape = _small(pair, rows)
    if "float" in pair.site.dtype:
        return random.normal(size=shape)
    limits = np.iinfo(pair.site.dtype)
    return random.integers(limits.min, limits.max + 1, shape)


def _at(witness: Witness) -> str:
    place = (witness.sample, *witness.position)
    return f"{witness.original:.6g} became {witness.converted:.6g} at {place}"


def _on_one_line(error: ConvfcError, path: Path) -> str:
    """What went wrong, without the file, which the reader knows."""
    return " ".join(str(error).split()).removeprefix(f"{path}: ")
