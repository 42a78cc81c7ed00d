"""Keras loads and saves a model, and holds its large weights once.

Left alone it draws random numbers for every weight before it reads it, and its allocator keeps the
room they took; and while it reads or writes HDF5, a layer's weights are in memory up to three times
more. Of a file that is mostly one large layer, that made five times its size.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import h5py
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from convfc.formats.keras.internals import (
    ADD_VARIABLE,
    ADD_WEIGHT,
    READ_WEIGHTS,
    TEMPORARY_FOLDER,
    TO_NUMPY,
    find_function,
    guarded_dataset,
    weight_names,
)
from convfc.system.atomic import temporary_folder

LARGE = 2**20
"""Bytes from which on a weight is held once."""

_SHARED = [np.dtype(kind) for kind in (np.float16, np.float32, np.float64)]
"""What numpy and tensorflow can hand each other in place."""

_ALIGNMENT = 64
"""Bytes; where tensorflow wants a tensor to begin."""

_one_at_a_time = threading.RLock()


class TooLargeError(Exception):
    """Raised within Keras, which may wrap it or drop it, where a layer asks for too much."""


class Taken:
    """Bytes that weights take, up to a limit.

    Attributes:
        size: the most that was asked for at once.
    """

    def __init__(self, limit: int | None) -> None:
        self.size = 0
        self._limit = limit

    def ask(self, size: int) -> None:
        """Refuse to take bytes that are too many.

        Raises:
            TooLargeError: they are.
        """
        self.size = max(self.size, size)
        if self._limit is not None and size > self._limit:
            raise TooLargeError(f"{size} bytes of weights are too many")


@contextmanager
def held_once(limit: int | None = None) -> Iterator[Taken]:
    """Keras loads and saves with little more memory than the weights take, in this thread.

    The large weights of layers that are built while the block runs start as zeros, if they would
    be drawn: they must be read or assigned before it ends. What Keras puts aside meanwhile is
    gone then, and does not stay for ever if the run is killed.

    Args:
        limit: bytes that the weights of these layers may take; what asks for more is refused.

    Yields:
        What they take.
    """
    built, stack = Taken(limit), ExitStack()

    def temporary(_: Callable[..., str]) -> str:
        return str(stack.enter_context(temporary_folder()))

    ours: dict[str, Callable[..., Any]] = {
        TEMPORARY_FOLDER: temporary,
        ADD_WEIGHT: partial(_add_weight, built),
        ADD_VARIABLE: partial(_add_variable, built),
        READ_WEIGHTS: partial(_read, built),
        TO_NUMPY: _view,
    }
    with _one_at_a_time, stack:
        for name, function in ours.items():
            found = find_function(name)
            # A Keras that has it no more, or computes elsewhere, does it in its own way.
            if found is not None and keras.backend.backend() == "tensorflow":
                stack.enter_context(patch.object(*found, _here(getattr(*found), function)))
        yield built


def zeros(shape: Sequence[int], kind: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros that a weight can take over without a copy."""
    return _room(shape, kind) if _is_large(shape, kind) else np.zeros(shape, kind)


def hand_over(array: NDArray[Any], weight: Any) -> None:
    """Let a weight have the numbers of an array that nobody else has, in its memory if large.

    Args:
        array: as `zeros` made it, or any other.
        weight: of Keras, of the same type.
    """
    placed = array.flags.c_contiguous and array.ctypes.data % _ALIGNMENT == 0
    weight.assign(_lent(array) if placed and _is_large(array.shape, array.dtype) else array)


def _here(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """`ours`, which gets `theirs` first, in this thread; any other sees no difference."""
    thread = threading.get_ident()

    @wraps(theirs)
    def either(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            return ours(theirs, *args, **kwargs)
        return theirs(*args, **kwargs)

    return either


def _add_weight(
    built: Taken, theirs: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any
) -> Any:
    """`keras.Layer.add_weight`, with zeros to begin with, which take no room until written to."""
    shape = kwargs.get("shape", args[0] if args else None)
    kind = _kind(keras.backend.standardize_dtype(kwargs.get("dtype") or layer.variable_dtype))
    # What is not known, Keras refuses.
    built.ask(built.size + _bytes((n for n in shape or () if n is not None), kind))
    initializer = kwargs.get("initializer")
    if initializer is not None:
        first = keras.initializers.get(initializer)

        def unread(shape: Sequence[int], dtype: str) -> Any:
            kind = _kind(dtype)
            if _is_large(shape, kind) and _may_be_zeros(first):
                return _lent(_room(shape, kind))
            return first(shape, dtype=dtype)

        kwargs["initializer"] = unread
    return theirs(layer, *args, **kwargs)


def _add_variable(
    built: Taken, theirs: Callable[..., Any], metric: Any, shape: Any, *args: Any, **kwargs: Any
) -> Any:
    """`keras.Metric.add_variable`, within the limit."""
    built.ask(built.size + _bytes(shape, np.dtype(np.float32)))
    return theirs(metric, shape, *args, **kwargs)


def _may_be_zeros(initializer: Any) -> bool:
    """Whether nobody can tell zeros from what it makes.

    Keras does not save all weights of a layer that is an activation: then those that a constant or
    a seed decides are what the file means.
    """
    if isinstance(initializer, keras.initializers.Zeros):
        return True
    settings = initializer.get_config() if hasattr(initializer, "get_config") else {}
    return settings.get("seed", 0) is None


def _read(built: Taken, _: Callable[..., Any], group: h5py.Group) -> list[Any]:
    """The weights of one layer; Keras makes arrays of them all, and then a tensor of each."""

    def read(data: h5py.Dataset) -> Any:
        if data.dtype.kind == "V":
            raise ValueError(
                "its weights are in bfloat16, which Keras writes to HDF5 but does not read; "
                "save the model as .keras, where it was made"
            )
        if not _is_large(data.shape, data.dtype):
            return np.asarray(data)
        room = _room(data.shape, data.dtype)
        data.read_direct(room)
        return _lent(room)

    found = [guarded_dataset(group, name) for name in weight_names(group)]
    built.ask(sum(_bytes(data.shape, data.dtype) for data in found))
    return [read(data) for data in found]


def _view(theirs: Callable[..., Any], value: Any) -> Any:
    """`keras.ops.convert_to_numpy`: the very bytes of a large weight, not to be written to."""
    if isinstance(value, keras.Variable) and _is_large(value.shape, _kind(value.dtype)):
        return np.asarray(memoryview(tf.convert_to_tensor(value)))
    return theirs(value)


def _kind(dtype: str) -> np.dtype[Any]:
    """What numpy calls an element type of Keras."""
    kind: np.dtype[Any] = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
    return kind


def _bytes(shape: Iterable[int], kind: np.dtype[Any]) -> int:
    return math.prod(map(int, shape)) * kind.itemsize


def _is_large(shape: Sequence[int], kind: np.dtype[Any]) -> bool:
    return kind in _SHARED and _bytes(shape, kind) >= LARGE


def _room(shape: Sequence[int], kind: np.dtype[Any]) -> NDArray[Any]:
    """Zeros, aligned for tensorflow."""
    size = _bytes(shape, kind)
    room = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(kind).reshape(shape)


def _lent(array: NDArray[Any]) -> Any:
    """A tensor in the memory of an array, which numpy frees when the tensor is gone."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
