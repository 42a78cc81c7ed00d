"""Converted layers become convolutions again, with the numbers that are in the file.

The outlines in the record (`outline`) say what there was. Each is built again and converted again,
and what in the file is built like that is the layer (`matching`); its numbers are put back from
where the products have them (`recovering`), and it takes the place that it had (`rewriting`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from convfc.formats.keras.bounds import limit
from convfc.formats.keras.flat_outline import is_flat
from convfc.formats.keras.flat_reverting import FlatReverting, open_flat, open_flat_like
from convfc.formats.keras.loader import Loaded, load
from convfc.formats.keras.matching import Match, Matcher, graphs_in
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.outline import Outline, outlines, unpacked
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.rebuilt import KerasRebuilt
from convfc.formats.keras.recovering import has_changed, numbers_of, recovered
from convfc.formats.keras.refusals import NO_CONFIG, refusing
from convfc.formats.keras.rewriting import rewrite
from convfc.formats.keras.sites import find_places, makes_masks
from convfc.formats.keras.writer import write
from convfc.formats.outline import missing
from convfc.formats.protocols import Site
from convfc.formats.provenance import Provenance
from convfc.formats.reading import AS_IT_IS
from convfc.formats.reverted import Change, Rebuilt, WayBack
from convfc.refusals import Code, Refusal


def open_reverting(
    path: Path, record: Provenance | None, like: Path | None = None
) -> KerasReverting | FlatReverting:
    """Open a converted file for the way back.

    Args:
        path: the file.
        record: its record; ``None``: it was lost when Keras saved the file.
        like: the original, for a record without an outline or none at all.

    Raises:
        FileError: a file or the record cannot be read.
        UnsupportedModelError: Keras cannot load one of them, or see `open_flat`.
    """
    if record is not None and is_flat(record):
        return open_flat(path, record, like)
    if like is not None:
        found = _outlines_like(like, record)
    elif record is not None and (record.outline or not record.layers):
        found = unpacked(record.outline, path) if record.outline else []
    else:
        raise missing(path)
    with refusing(path, NO_CONFIG):
        loaded = load(path)
        opened = KerasReverting(path, loaded, record, found)
    if record is None and like is not None and all(w.lowering is None for w in opened.layers):
        return open_flat_like(path, loaded, like) or opened
    return opened


def _outlines_like(like: Path, record: Provenance | None) -> list[Outline]:
    """The outlines of the original, read as it was when it was converted."""
    reading = AS_IT_IS if record is None else record.reading(like)
    with refusing(like, NO_CONFIG):
        loaded = load(like, reading)
        kind = loaded.envelope.file_format
        places = [p for p in find_places(loaded.model) if p.site(kind).refusal is None]
        return outlines(loaded.model, places)


class KerasReverting:
    """See `convfc.formats.reverted.Reverting` for the members."""

    def __init__(
        self, path: Path, loaded: Loaded, record: Provenance | None, found: Sequence[Outline]
    ) -> None:
        self.files: Sequence[Path] = (path,)
        self.reading = AS_IT_IS
        self._path = path
        self._loaded = loaded
        self._model = loaded.model
        self._record = record or Provenance("", "", "", ())
        of_all = {outline.name: outline for outline in found}
        if record is not None:
            names = [layer.name for layer in record.layers]
        else:
            left = {name for place in find_places(self._model) for name in place.names}
            names = [name for name in of_all if name not in left]
        self._outlines = {name: of_all[name] for name in names if name in of_all}
        self._matches = self._found()
        self.layers: Sequence[WayBack] = list(map(self._way_back, names))

    def _found(self) -> dict[str, Match | str]:
        """What stands for each layer, or why nothing does: what is called so, or any other."""
        graphs = graphs_in(self._model)
        matcher = Matcher(
            self._loaded.envelope.file_format,
            self._record,
            limit(self._path.stat().st_size),
            ends_masks=makes_masks(self._model),
        )
        taken: set[int] = set()
        found: dict[str, Match | str] = {}

        def look(name: str, graph: Any) -> Match | str:
            if graph is None or id(graph) in taken:
                return _NOWHERE
            made = matcher.match(self._outlines[name], graph)
            if isinstance(made, Match):
                taken.add(id(graph))
            return made

        with overheard():
            for name, outline in self._outlines.items():
                found[name] = look(name, graphs.get(outline.path))
            for name in [name for name, made in found.items() if isinstance(made, str)]:
                others = (look(name, graph) for graph in graphs.values())
                found[name] = next((x for x in others if isinstance(x, Match)), found[name])
        return found

    def _way_back(self, name: str) -> WayBack:
        outline, found = self._outlines.get(name), self._matches.get(name)
        if outline is None or found is None:
            why = "there is no convolution of that name in the original"
            return WayBack(self._site(name, ""), None, refusal=Refusal(why, Code.NO_CONVOLUTION))
        if isinstance(found, str):
            site = self._site(name, outline.kind)
            return WayBack(site, None, refusal=Refusal(found, Code.NO_CONVOLUTION))
        numbers, lowering = numbers_of(found), found.parts[0].lowering
        if isinstance(numbers, str):
            refusal = Refusal(numbers, Code.NO_CONVOLUTION)
            return WayBack(found.site, lowering, refusal=refusal)
        if found.reshaped:
            change = Change.FORM
        else:
            change = Change.NUMBERS if has_changed(outline, found, numbers) else Change.NOTHING
        return WayBack(found.site, lowering, change)

    def _site(self, name: str, kind: str) -> Site:
        """A layer that is nowhere, as far as the record tells of it."""
        layer = self._record.layer(name)
        if layer is None:
            return Site(name, kind, None)
        return Site(name, kind, layer.convolution(), tuple(layer.geometry["sizes"]))

    @property
    def rebuilt(self) -> Sequence[Rebuilt]:
        """See `Reverting.rebuilt`."""
        names = {way.site.name for way in self.layers if way.refusal is None}
        found = [match for name, match in self._matches.items() if name in names]
        split = [one for one in found if isinstance(one, Match) and len(one.parts) > 1]
        return [KerasRebuilt(one) for one in split]

    def save(self, path: Path, names: Collection[str], record: str) -> Sequence[str]:
        """See `Reverting.save`."""
        model = self._model
        remarks: list[str] = []
        with overheard(), held_once():
            replaced: dict[int, Any] = {}
            weights: dict[int, Any] = {}
            for name in names:
                found = self._matches[name]
                assert isinstance(found, Match)  # noqa: S101 - it has a way back
                weights |= recovered(self._outlines[name], found)
                replaced[id(found.made)] = found.layer
            if replaced:
                model, remarks = rewrite(model, replaced, weights=weights)
            write(model, path, record, source=self._path, loaded=self._loaded)
        return [*self._loaded.notes, *remarks]


_NOWHERE = "nothing in the file can be told to be its own"
