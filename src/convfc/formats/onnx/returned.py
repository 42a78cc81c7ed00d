"""What a runtime returns, as arrays: of sequences and maps, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from convfc.errors import UnsupportedModelError
from convfc.formats.onnx.carried_types import named
from convfc.refusals import Code

_KEYS = " (keys)"


def names_of(value: ir.Value) -> tuple[str, ...]:
    """Under which names `arrays_of` returns an output: a map has its keys beside its numbers."""
    name = value.name or ""
    maps = value.type is not None and "map(" in named(value.type)
    return (name, name + _KEYS) if maps else (name,)


def arrays_of(
    outputs: Sequence[ir.Value], found: Iterable[Any], path: str
) -> dict[str, NDArray[Any]]:
    """What a runtime returned, by the names of `names_of`.

    Raises:
        UnsupportedModelError: tensors of a sequence, or keys of maps, that are not alike.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for value, given in zip(outputs, found, strict=True):
        name, *keys = names_of(value)
        items = given if isinstance(given, list) else [given]
        if keys:
            of_each = [sorted(item) for item in items]
            numbers = [[item[key] for key in own] for item, own in zip(items, of_each, strict=True)]
            single = value.type is not None and "tensor(float)" in named(value.type)
            arrays[name] = _stacked(numbers, name, path, np.float32 if single else None)
            arrays[keys[0]] = _stacked(of_each, name, path)
        elif isinstance(given, list):
            arrays[name] = _stacked(items, name, path)
        else:
            arrays[name] = np.zeros(0) if given is None else given  # an optional that is not there
    return arrays


def _stacked(
    items: list[Any], name: str, path: str, dtype: type[np.generic] | None = None
) -> NDArray[Any]:
    """Things of one shape as an array of one more axis."""
    if len({np.shape(item) for item in items}) > 1:
        raise UnsupportedModelError(
            f"{path}: output '{name}' is a sequence of things that are not of one size",
            code=Code.NOT_RUN,
        )
    return np.array(items, dtype)
