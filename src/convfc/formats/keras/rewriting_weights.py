"""Other numbers for the layers of a converted file, laid out as the file has those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.convolutions import lowered
from convfc.formats.keras.flat_outline import is_flat
from convfc.formats.keras.loader import load
from convfc.formats.keras.matching import Match
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.outline import unpacked
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import NO_CONFIG, refusing
from convfc.formats.keras.reverting import KerasReverting
from convfc.formats.keras.weights import assign
from convfc.formats.keras.writer import write
from convfc.formats.outline import missing
from convfc.formats.provenance import Provenance
from convfc.formats.weights import Numbers, altered
from convfc.refusals import Code


class KerasRewriting(KerasReverting):
    """See `convfc.formats.weights.Rewriting` for the members."""

    def rewrite(self, path: Path, numbers: Mapping[str, Sequence[Numbers]]) -> None:
        """See `Rewriting.rewrite`."""
        for name, own in numbers.items():
            found = self._matches.get(name)
            if not isinstance(found, Match) or found.reshaped or len(found.parts) > 1:
                raise altered(self._path, name)
            (part,) = found.parts
            stored = iter(part.weights)
            first = part.layer.data_format == "channels_first"
            for (each, its), one in zip(lowered(part.layer, part.lowering), own, strict=True):
                assign(each, one)
                for value in each.inner_weights(its, channels_first=first):
                    weight = next(stored)
                    weight.assign(keras.ops.reshape(value, weight.shape))
        record = self._record.to_json()
        with overheard(), held_once():
            write(self._model, path, record, source=self._path, loaded=self._loaded)


def open_rewriting(path: Path, record: Provenance) -> KerasRewriting:
    """Open a converted file to give its layers other numbers.

    Args:
        path: the file.
        record: its record.

    Raises:
        FileError: a file or the record cannot be read, or it lacks what it takes.
        UnsupportedModelError: Keras cannot load it, or it is a whole model in the dense form.
    """
    if not record.outline:
        raise missing(path, "convert the original again")
    if is_flat(record):
        raise UnsupportedModelError(
            f"{path}: is in the dense form, whose matrices get no other numbers",
            remedy="revert it, give the reverted file the numbers, and convert that again",
            code=Code.NOT_KEPT,
        )
    with refusing(path, NO_CONFIG):
        return KerasRewriting(path, load(path), record, unpacked(record.outline, path))
