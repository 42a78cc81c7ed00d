"""How the layers of a converted model were lowered, found again from the record in its file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from convfc.lowering import Lowering, PatchMethod, lower
from convfc.model import Alignment, Site, Twin
from convfc.provenance import LayerRecord, Provenance

T = TypeVar("T")


def lowered_again(
    sites: Sequence[Site], made: Collection[str], provenance: Provenance | None
) -> dict[str, Lowering]:
    """How the converted sites were lowered, by what their file says; those that cannot be lack.

    Args:
        sites: of the original.
        made: names of those that the converted model has something else for.
        provenance: of the converted model.
    """
    pairs = ((site, _lowered_again(site, provenance)) for site in sites if site.name in made)
    return {site.name: lowering for site, lowering in pairs if lowering is not None}


def align_sites(
    sites: Sequence[Site],
    made: Mapping[str, T],
    provenance: Provenance | None,
    differences: Sequence[str],
    twin: Callable[[Site, T, Lowering], Twin],
) -> Alignment:
    """What `Model.align` returns, once a format has found which part stands for which site.

    Args:
        sites: of the original.
        made: by the name of a site, what the converted model has in its place.
        provenance: of the converted model.
        differences: what is different outside of them.
        twin: makes a pair of a site, what was made of it, and how it was lowered.
    """
    lowerings = lowered_again(sites, made, provenance)
    found = [site for site in sites if site.name in lowerings]
    twins = (twin(site, made[site.name], lowerings[site.name]) for site in found)
    lost = (
        f"{name}: is no convolution that convfc converts" for name in made if name not in lowerings
    )
    return Alignment(tuple(twins), (*differences, *lost))


def _lowered_again(site: Site, provenance: Provenance | None) -> Lowering | None:
    """How a converted site was lowered, by what its file says; ``None`` if that cannot be."""
    if site.convolution is None:
        return None
    record = None if provenance is None else provenance.layer(site.name)
    names = [method.value for method in PatchMethod]
    if record is None or record.patches not in names:
        record = LayerRecord(site.name, PatchMethod.AUTO.value, {})
    found = lower(site.convolution, site.sizes, PatchMethod(record.patches), site.methods)
    block = tuple(record.block) if isinstance(record.block, list) else (0,)
    sane = all(isinstance(number, int) and number > 0 for number in block)
    if not isinstance(found, Lowering) or not sane or len(block) > site.convolution.rank:
        return None
    return replace(found, block=block)
