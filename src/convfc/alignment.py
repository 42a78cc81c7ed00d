"""How the layers of a converted model were lowered, found again from the record in its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from convfc.lowering import Lowering, PatchMethod, lower
from convfc.model import Site
from convfc.provenance import LayerRecord, Provenance

_MOST_BLOCKS = 2**12
"""No layer is in more pieces, each of some nodes: else a record could keep anybody busy."""


def lowered_again(
    sites: Sequence[Site], made: Mapping[str, int], provenance: Provenance | None
) -> dict[str, Lowering]:
    """How the converted sites were lowered, by what their file says; those that cannot be lack.

    Args:
        sites: of the original.
        made: by the name of a site, how many operations the converted model has in its place.
        provenance: of the converted model.
    """
    found = {
        site.name: _lowered_again(site, provenance, made[site.name])
        for site in sites
        if site.name in made
    }
    return {name: lowering for name, lowering in found.items() if lowering is not None}


def unlike_record(names: Iterable[str]) -> tuple[str, ...]:
    """What to say of layers that something stands for, in a way that a record cannot explain."""
    return tuple(f"{name}: cannot be converted as the file has it" for name in sorted(names))


def _lowered_again(site: Site, provenance: Provenance | None, operations: int) -> Lowering | None:
    """How a converted site was lowered, by what its file says; ``None`` if that cannot be."""
    if site.convolution is None:
        return None
    record = None if provenance is None else provenance.layer(site.name)
    # A record may be damaged and the layer right all the same: what it is shows in its structure.
    auto = LayerRecord(site.name, PatchMethod.AUTO.value, {})
    for one in (record, auto):
        if one is None or one.patches not in [method.value for method in PatchMethod]:
            continue
        found = lower(site.convolution, site.sizes, PatchMethod(one.patches), site.methods)
        if isinstance(found, Lowering):
            made = replace(found, block=_block(one, site.convolution.rank))
            # Each block takes an operation at least: what is not there need not be emitted.
            return made if made.blocks <= min(_MOST_BLOCKS, operations) else found
    return None


def _block(record: LayerRecord, rank: int) -> tuple[int, ...]:
    """What a record says of the block; nothing if that is none of so many axes."""
    return tuple(record.block) if len(record.block) <= rank else ()
