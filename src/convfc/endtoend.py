"""Two models on the same samples, end to end: what does a user see of a conversion?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from convfc.differences import Comparison, OutputDifference, distance
from convfc.errors import ConvfcError, UnsupportedModelError
from convfc.model import Model
from convfc.samples import Feeds

FEW = 4
"""Samples on which more is measured than the difference: rounding varies little between them."""
_COSTLY = 10**11
"""Multiply-adds beyond which nobody waits for float64: about a minute on two cores."""


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


def compare(
    a: Model,
    b: Model,
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
        rtol: see `Comparison`.
        atol: see `Comparison`.
        judged: see `Comparison`.

    Raises:
        UnsupportedModelError: the runtime refuses one of the models.
        DataError: the samples cannot be read or do not fit.
    """
    comparisons = {
        port.name: Comparison(port.name, rtol, atol, judged=judged) for port in a.outputs
    }
    done = 0
    for feed in feeds.batches():
        progress(f"sample {done} of {feeds.rows}")
        expected, got = a.run(feed), b.run(feed)
        for name, comparison in comparisons.items():
            comparison.add(expected[name], got[name])
        done += feeds.rows_per_batch
    outputs = tuple(comparison.result() for comparison in comparisons.values())
    return Seen(feeds.said, feeds.rows, outputs)


def against_float64(
    a: Model, b: Model, feeds: Feeds, seen: Seen, progress: Callable[[str], None]
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
    products = rows * sum(
        site.convolution.multiply_adds(site.sizes) or 0
        for site in a.sites
        if site.convolution is not None
    )
    try:
        if products > _COSTLY:
            raise UnsupportedModelError(f"{products:.0e} multiply-adds would take too long")
        exact = a.run_in_float64(few)
        original, converted = a.run(few), b.run(few)
    except ConvfcError as error:
        return replace(seen, float64_missing=str(error))
    outputs = tuple(
        replace(
            out,
            original_error=distance(exact[out.name], original[out.name]),
            converted_error=distance(exact[out.name], converted[out.name]),
        )
        if "float" in out.dtype
        else out
        for out in seen.outputs
    )
    return replace(seen, outputs=outputs, float64_samples=rows)
