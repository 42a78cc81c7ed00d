"""The samples of a verification: as many as are worth waiting for, in batches that run."""

from __future__ import annotations

from typing import Any

from convfc.formats.protocols import Model
from convfc.planning import plan
from convfc.samples.batches import Feeds
from convfc.samples.feeds import make_feeds
from convfc.verification.end_to_end import MANY, affordable, row_bytes, runnable


def feeds_of(
    a: Model,
    samples: int | None,
    **given: Any,  # noqa: ANN401 - handed on to `make_feeds` as they are
) -> tuple[Feeds, list[str]]:
    """What an original and another model are run on, and remarks on that.

    Args:
        a: the original.
        samples: how many at most; ``None``: as many as are worth waiting for.
        given: see `make_feeds`.

    Raises:
        DataError: the samples cannot be read or do not fit.
    """
    planned = plan(a.sites)
    wanted = MANY if samples is None else samples
    feeds = make_feeds(a.inputs, samples=wanted, row_bytes=row_bytes(planned), **given)
    notes = []
    enough = affordable(planned, feeds.row_numbers)
    if samples is None and enough < feeds.rows:
        feeds = feeds.limited(enough)
        notes.append(f"Fewer than {MANY} samples, as each takes long: --samples sets how many")
    feeds, one_by_one = runnable(a, feeds)
    return feeds, notes if one_by_one is None else [*notes, one_by_one]
