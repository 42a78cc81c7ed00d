"""Two models on the same samples, end to end: what does a user see of a conversion?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.errors import ConvfcError, UnsupportedModelError
from convfc.formats.demand import products_of
from convfc.formats.protocols import Model, Site
from convfc.planning import Layer
from convfc.refusals import Code
from convfc.samples.batches import Feeds
from convfc.samples.feeds import make_feeds
from convfc.verification.counterpart import Runs
from convfc.verification.differences import (
    DifferenceCollector,
    Distance,
    OutputDifference,
    distance,
)
from convfc.verification.rounding import FAR
from convfc.verification.verdict import Contradiction, contradiction

FEW = 4
"""Samples on which more is measured than the difference: rounding varies little between them."""
_RANDOM = 4
"""Samples of random numbers, for each of their magnitudes."""
_MAGNITUDES = 1.0, 30.0
MANY = 100
"""Samples that go through both models if nobody says how many."""
_COSTLY = 10**11
"""Multiply-adds beyond which nobody waits for float64: about a minute on two cores."""
_MOVES = 3
_MOVE = 1 / 255 / 50
"""How far numbers are moved, as a share of their range: a fiftieth of a step of 8 bits."""
_AFFORDABLE = 2 * 10**11
"""Multiply-adds of all samples that are worth waiting for: about ten seconds on two cores."""
_PER_NUMBER = 2000
"""Multiply-adds for a number of the input: a small net for images; what else a net may do."""
_PER_PATCH_BYTE = 6
"""Multiply-adds that take as long as to write a byte of patches and to read it again."""


@dataclass(frozen=True)
class Seen:
    """What two models made of the same samples.

    Attributes:
        fed: what the samples were, a line per input.
        samples: how many of them went through both.
        outputs: the differences, output by output.
        float64_samples: how many went through the original in float64 as well.
        float64_missing: why none did, or ``None``.
    """

    fed: tuple[str, ...] = ()
    samples: int = 0
    outputs: tuple[OutputDifference, ...] = ()
    float64_samples: int = 0
    float64_missing: str | None = None


def affordable(layers: Sequence[Layer], numbers: int) -> int:
    """How many samples go through a model and its conversion in about ten seconds; at least one.

    Args:
        layers: its convolutions; what is of unknown size is not counted.
        numbers: how many numbers one sample has.
    """
    products = _products([layer.site for layer in layers])
    patches = sum(
        layer.lowering.patch_bytes(layer.site.itemsize) or 0
        for layer in layers
        if layer.lowering is not None
    )
    effort = max(products + patches * _PER_PATCH_BYTE, numbers * _PER_NUMBER, 1)
    return max(_AFFORDABLE // effort, 1)


def row_bytes(layers: Sequence[Layer]) -> int:
    """The most bytes that one sample's patches can take in the converted model."""
    sizes = [
        layer.lowering.block_bytes(layer.site.itemsize)
        for layer in layers
        if layer.lowering is not None
    ]
    return max((size for size in sizes if size is not None), default=0)


def _products(sites: Sequence[Site]) -> int:
    """Multiply-adds of one sample, as far as sizes are known."""
    return sum(map(products_of, sites))


def runnable(model: Model, feeds: Feeds) -> tuple[Feeds, str | None]:
    """Feeds of a size that the model takes: some say that they take any, and take one sample only.

    Returns:
        The feeds, one by one where that helps; and then a sentence that says so.
    """
    few, rows = feeds.few(FEW)
    if rows == 1 or feeds.batch is not None or _runs(model, few):
        return feeds, None
    single = feeds.singly()
    if not _runs(model, single.few(1)[0]):
        return feeds, None
    return single, (
        f"'{model.path.name}' says that it takes any number of samples at once, but it runs with "
        "one at a time only: they were fed so"
    )


def _runs(model: Model, feed: Mapping[str, NDArray[Any]]) -> bool:
    try:
        model.run(feed)
    except UnsupportedModelError:
        return False
    return True


class RefusedError(UnsupportedModelError):
    """A runtime refuses a model on the samples.

    Args:
        error: what it said.
        original: whether it is the original.
    """

    def __init__(self, error: UnsupportedModelError, *, original: bool) -> None:
        super().__init__(str(error))
        self.original = original


def compare(
    a: Model,
    b: Runs,
    feeds: Feeds,
    progress: Callable[[str], None],
    rtol: float | None = None,
    atol: float | None = None,
    *,
    judged: bool = True,
) -> Seen:
    """Run all samples through both models.

    Args:
        a: the original.
        b: the converted model.
        feeds: the samples.
        progress: called with a few words for every batch.
        rtol: see `DifferenceCollector`.
        atol: see `DifferenceCollector`.
        judged: see `DifferenceCollector`.

    Raises:
        RefusedError: the runtime refuses one of the models.
        DataError: the samples cannot be read or do not fit.
    """
    collectors = {
        port.name: DifferenceCollector(
            port.name, rtol, atol, judged=judged, batch=next(iter(port.shape or ()), None)
        )
        for port in a.outputs
    }
    done = 0
    for feed in feeds.batches():
        progress(f"sample {done} of {feeds.rows}")
        expected, got = _run(a, feed, original=True), _run(b, feed, original=False)
        for name, collector in collectors.items():
            collector.add(expected[name], got[name])
        done += feeds.rows_per_batch
    outputs = tuple(collector.result() for collector in collectors.values())
    return Seen(feeds.said, feeds.rows, outputs)


def _run(
    model: Runs, feed: Mapping[str, NDArray[Any]], *, original: bool
) -> dict[str, NDArray[Any]]:
    try:
        return model.run(feed)
    except UnsupportedModelError as error:
        raise RefusedError(error, original=original) from error


def against_float64(
    a: Model, b: Runs, feeds: Feeds, seen: Seen, progress: Callable[[str], None]
) -> Seen:
    """Add how far each side is from what the original computes in float64, on a few samples.

    Args:
        a: the original.
        b: the converted model.
        feeds: the samples.
        seen: what `compare` found.
        progress: called with a few words.
    """
    if not any("float" in out.dtype for out in seen.outputs):
        return seen
    progress("the original in float64")
    few, rows = feeds.few(FEW)
    try:
        errors = _errors(a, b, few, rows)
    except ConvfcError as error:
        return replace(seen, float64_missing=str(error))
    outputs = tuple(_with(out, errors.get(out.name)) for out in seen.outputs)
    return replace(seen, outputs=outputs, float64_samples=rows)


def random_feeds(a: Model, feeds: Feeds, random: np.random.Generator) -> Iterator[Feeds]:
    """Random numbers for the same inputs: images have edges where a pixel more is no difference.

    Of several magnitudes, as small numbers never meet the bound of a ReLU6. None if there is
    nothing to feed numbers to.
    """
    feed, rows = feeds.few(_RANDOM)
    shapes = {n: x for n, x in feed.items() if x.ndim > 1 and x.dtype.kind == "f"}
    for magnitude in _MAGNITUDES if shapes else ():
        arrays = {
            name: (magnitude * random.standard_normal(x.shape)).astype(x.dtype)
            for name, x in shapes.items()
        }
        yield make_feeds(a.inputs, samples=rows, inputs={**feed, **arrays})


def looked_closer(
    a: Model, b: Model, feeds: Feeds, seen: Seen, progress: Callable[[str], None]
) -> Seen:
    """Measure again where an output differs suspiciously: on the batch of its largest difference.

    Some samples are harder than the few on which the distance from float64 was measured. And some
    models draw random numbers: their outputs are left out of what is returned.

    Args:
        a: the original.
        b: the converted model.
        feeds: the samples.
        seen: what `against_float64` found.
        progress: called with a few words.
    """
    outputs = []
    judge = partial(contradiction, steps=a.has_steps, precision=a.precision)
    for out in seen.outputs:
        near = out.max_abs <= FAR.get(out.dtype, 0.0) * out.evidence.largest
        if (out.reason and out.max_abs < math.inf) or (near and judge(out) is None):
            outputs.append(out)
            continue
        progress(f"a closer look at '{out.name}'")
        rows = _rows_of_worst(a, out, feeds)
        feed = feeds.take(rows)
        once, again = a.run(feed)[out.name], a.run(feed)[out.name]
        if distance(once, again).max_abs > FAR.get(out.dtype, 0.0) * out.evidence.largest:
            continue
        errors: Mapping[str, tuple[Distance, Distance]] = {}
        try:
            if out.original_error is not None:
                errors = _errors(a, b, feed, len(rows))
        except ConvfcError:
            pass  # it is judged without
        closer = _with(out, errors.get(out.name))
        if a.has_steps and closer.original_error is None:
            sway = _sway(a, feed, out.name)
            closer = replace(closer, evidence=replace(closer.evidence, sway=sway))
        outputs.append(closer)
    return replace(seen, outputs=tuple(outputs))


def contradictions(a: Model, seen: Seen) -> dict[str, Contradiction]:
    """By the name of an output, what speaks against its being the same."""
    found = [contradiction(out, steps=a.has_steps, precision=a.precision) for out in seen.outputs]
    return {one.output: one for one in found if one is not None}


def _rows_of_worst(a: Model, out: OutputDifference, feeds: Feeds) -> range:
    """The batch with the largest difference; where that is too much for float64, the sample."""
    start = out.evidence.batch * feeds.rows_per_batch
    rows = range(start, min(start + feeds.rows_per_batch, feeds.rows))
    worst = out.evidence.worst
    if feeds.batch is None and worst is not None and worst.sample in rows:
        one = range(worst.sample, worst.sample + 1)
        return one if len(rows) * _products(a.sites) > _COSTLY else rows
    return rows


def _sway(a: Model, feed: Mapping[str, NDArray[Any]], name: str) -> tuple[float, float]:
    """The largest and the mean difference of an output when the input moves a little.

    By as much as makes one number in a hundred tip over to the next step of 8 bits: then others
    tip over, layer after layer, as they do where sums are rounded in another order.
    """
    random = np.random.default_rng(0)
    collector = DifferenceCollector(name, judged=False)
    once = a.run(feed)[name]
    for _ in range(_MOVES):
        moved = {
            port: x + (random.uniform(-1, 1, x.shape) * np.ptp(x) * _MOVE).astype(x.dtype)
            if x.dtype.kind == "f" and x.size
            else x
            for port, x in feed.items()
        }
        collector.add(once, a.run(moved)[name])
    found = collector.result()
    return found.max_abs, found.mean_abs


def _with(out: OutputDifference, errors: tuple[Distance, Distance] | None) -> OutputDifference:
    if errors is None or "float" not in out.dtype:
        return replace(out, original_error=None, converted_error=None)
    return replace(out, original_error=errors[0], converted_error=errors[1])


def _errors(
    a: Model, b: Runs, feed: Mapping[str, NDArray[Any]], rows: int
) -> dict[str, tuple[Distance, Distance]]:
    """How far both sides are from float64, for outputs that have its shape.

    Raises:
        ConvfcError: there is no float64 to be had, or not in a time that anybody waits.
    """
    products = rows * _products(a.sites)
    if products > _COSTLY:
        raise UnsupportedModelError(
            f"{products:.0e} multiply-adds would take too long", code=Code.TOO_LONG
        )
    exact = a.run_in_float64(feed)
    original, converted = a.run(feed), b.run(feed)
    return {
        name: (distance(y, original[name]), distance(y, converted[name]))
        for name, y in exact.items()
        if y.shape == original[name].shape == converted[name].shape and y.dtype == np.float64
    }
