"""The formats by what their files are called: the one list of suffixes."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """A file format; the value lists its suffixes, the usual one first."""

    ONNX = (".onnx",)
    HDF5 = (".h5", ".hdf5")
    KERAS = (".keras",)


SUFFIXES = tuple(suffix for kind in Format for suffix in kind.value)
"""Of all files that convfc reads."""
