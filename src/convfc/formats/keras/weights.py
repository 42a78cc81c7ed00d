"""The numbers of a Keras file's convolutions: read, and replaced in the layers that have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convfc.core.transposed import TransposedConvolution
from convfc.formats.keras.chain import chain_of
from convfc.formats.keras.convolutions import WeightedConvolution, convolutions_of, own_kernel
from convfc.formats.keras.loader import load
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import NO_CONFIG, refusing
from convfc.formats.keras.sites import find_places
from convfc.formats.keras.writer import write
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.formats.weights import Chain, Numbers, Unread, Weights


class KerasWeighted:
    """See `convfc.formats.weights.Weighted` for the members.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
        UsageError: it has no such input, or one that takes another shape.
    """

    def __init__(self, path: Path, reading: Reading = AS_IT_IS) -> None:
        self._path = path
        self.files: Sequence[Path] = (path,)
        with refusing(path, NO_CONFIG):
            self._loaded = load(path, reading)
            self._places = find_places(self._loaded.model)
        self._convolutions: dict[str, WeightedConvolution] = {}
        self.layers: Sequence[Weights | Unread] = [
            layer for place in self._places for layer in self._matrices(place)
        ]

    @cached_property
    def chain(self) -> Chain:
        """See `Weighted.chain`."""
        named = {id(place.layer): place.name for place in self._places}
        return chain_of(self._loaded.model, named)

    def _matrices(self, place: Any) -> Sequence[Weights | Unread]:
        site = place.site(self._loaded.envelope.file_format)
        if site.convolution is None:
            return [Unread(site.name, site.kind, site.refusal)]
        sizes, found = site.sizes, []
        chain = convolutions_of(place.layer)
        first = place.layer.data_format == "channels_first"
        for each in chain:
            name = site.name if len(chain) == 1 else f"{site.name}/{each.prefix}"
            self._convolutions[name] = each
            reader = partial(_numbers, each)
            named = name, site.name, site.kind
            dtype = keras.backend.standardize_dtype(each.kernel.dtype)
            found.append(Weights(*named, each.geometry, sizes, first, reader, dtype))
            sizes = each.geometry.output(sizes)
        return found

    def save(self, path: Path, numbers: Mapping[str, Numbers]) -> None:
        """See `Weighted.save`."""
        for name, own in numbers.items():
            assign(self._convolutions[name], own)
        loaded = self._loaded
        made = loaded.envelope.provenance
        record = None if made is None else made.to_json()
        with overheard(), held_once():
            write(loaded.model, path, record, source=self._path, loaded=loaded)


def assign(weighted: WeightedConvolution, numbers: Numbers) -> None:
    """Give the variables of a convolution other numbers."""
    kernel, bias = numbers
    if isinstance(weighted.geometry, TransposedConvolution):
        kernel = kernel.swapaxes(-1, -2)
    weighted.kernel.assign(kernel.reshape(weighted.kernel.shape))
    if bias is not None:
        weighted.bias.assign(bias)


def _numbers(weighted: WeightedConvolution) -> Numbers:
    """Kernel and bias of a convolution, as copies."""
    kernel = own_kernel(np.asarray(weighted.kernel).copy(), weighted.geometry)
    bias = weighted.bias
    return kernel, None if bias is None else np.asarray(bias).copy()
