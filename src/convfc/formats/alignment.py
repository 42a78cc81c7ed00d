"""How the layers of a converted model were lowered, found again from the record in its file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from convfc.core.dense import lower_chain
from convfc.core.geometry import AnyConvolution, Sizes
from convfc.core.lowering import MOST_OPERATIONS, Lowering, PatchMethod, lower
from convfc.core.whole import Form
from convfc.errors import GeometryError
from convfc.formats.protocols import Site
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.refusals import Refusal
from convfc.system.capacity import excess


def lowered_again(
    sites: Sequence[Site], made: Mapping[str, int], provenance: Provenance | None
) -> dict[str, Lowering]:
    """How the converted sites were lowered, by what their file says; those that cannot be lack.

    Args:
        sites: of the original.
        made: by the name of a site, how many operations the converted model has in its place.
        provenance: of the converted model.
    """
    told = () if provenance is None else reversed(provenance.layers)  # the first of a name counts
    records = {one.name: one for one in told if isinstance(one.name, str)}
    found = {
        site.name: _lowered_again(site, records.get(site.name), made[site.name])
        for site in sites
        if site.name in made
    }
    return {name: lowering for name, lowering in found.items() if lowering is not None}


def unlike_record(names: Iterable[str]) -> tuple[str, ...]:
    """What to say of layers that something stands for, in a way that a record cannot explain."""
    return tuple(f"{name}: cannot be converted as the file has it" for name in sorted(names))


def _lowered_again(site: Site, record: LayerRecord | None, operations: int) -> Lowering | None:
    """How a converted site was lowered, by what its file says; ``None`` if that cannot be."""
    if site.convolution is None:
        return None
    if record is not None and record.form == Form.DENSE:
        chain = lower_chain((site.convolution, *site.rest), site.sizes, site.itemsize)
        if not isinstance(chain, Refusal) and not _too_large(chain, site.itemsize):
            return chain[0]
    # A record may be wrong and the layer right all the same: what it is shows in its structure.
    conv, sizes = site.convolution, site.sizes
    for method, cut in _told(record, site):
        # As much memory as was given then, which may be what it takes to have few blocks.
        memory = _memory(conv, sizes, method, cut)
        found = lower(conv, sizes, method, site.methods, memory=memory, banded=site.banded)
        if isinstance(found, Lowering):
            made = found if cut is None else replace(found, block=cut[0], bands=cut[1])
            # Each block takes an operation at least: what is not there need not be emitted.
            if cut is None or (made.blocks <= operations and made.operations <= MOST_OPERATIONS):
                return made
    return None


def _too_large(chain: Sequence[Lowering], itemsize: int) -> bool:
    """Whether this machine could not hold its matrices, or index maps that make one at run time.

    Then it does not come from the file.
    """
    numbers = sum(math.prod(dense.filter_matrix) for dense in chain)
    return excess(numbers * max(itemsize, _INDEX)) is not None


_INDEX = 8
"""Bytes of a place in an index map, while it is made."""


_Cut = tuple[tuple[int, ...], int]
"""`Lowering.block` and `Lowering.bands`."""


def _told(record: LayerRecord | None, site: Site) -> Iterator[tuple[PatchMethod, _Cut | None]]:
    """The method and the cut (``None``: whichever) of a record, and then what may be instead."""
    if record is not None and record.patches in [method.value for method in PatchMethod]:
        if len(record.block) <= len(site.sizes):
            yield PatchMethod(record.patches), (tuple(record.block), record.bands)
        yield PatchMethod(record.patches), None
    yield PatchMethod.AUTO, None


def _memory(
    convolution: AnyConvolution, sizes: Sizes, method: PatchMethod, cut: _Cut | None
) -> int | None:
    """Bytes of a block's patches; ``None`` where nothing is cut, or there are no such patches."""
    if cut is None or not cut[0]:
        return None
    try:
        return Lowering(convolution, sizes, method, cut[0]).block_bytes(4) or None
    except GeometryError:  # which `lower` tells
        return None
