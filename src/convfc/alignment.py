"""How the layers of a converted model were lowered, found again from the record in its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from convfc.errors import GeometryError
from convfc.geometry import AnyConvolution, Sizes
from convfc.lowering import MOST_OPERATIONS, Lowering, PatchMethod, lower
from convfc.model import Site
from convfc.provenance import LayerRecord, Provenance


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
    # A record may be damaged and the layer right all the same: what it is shows in its structure.
    auto = LayerRecord(site.name, PatchMethod.AUTO.value, {})
    for one in (record, auto):
        if one is None or one.patches not in [method.value for method in PatchMethod]:
            continue
        method, block = PatchMethod(one.patches), _block(one, site.convolution.rank)
        # As much memory as was given then, which may be what it takes to have few blocks.
        memory = _memory(site.convolution, site.sizes, method, block)
        found = lower(site.convolution, site.sizes, method, site.methods, memory=memory)
        if isinstance(found, Lowering):
            made = replace(found, block=block)
            # Each block takes an operation at least: what is not there need not be emitted.
            few = made.blocks <= operations and made.operations <= MOST_OPERATIONS
            return made if few else found
    return None


def _memory(
    convolution: AnyConvolution, sizes: Sizes, method: PatchMethod, block: tuple[int, ...]
) -> int | None:
    """Bytes of a block's patches; ``None`` where nothing is cut, or there are no such patches."""
    if not block:
        return None
    try:
        return Lowering(convolution, sizes, method, block).block_bytes(4) or None
    except GeometryError:  # which `lower` tells
        return None


def _block(record: LayerRecord, rank: int) -> tuple[int, ...]:
    """What a record says of the block; nothing if that is none of so many axes."""
    return tuple(record.block) if len(record.block) <= rank else ()
