"""What convfc raises: one tree, each message one or two lines that a person can act on."""

from __future__ import annotations


class ConvfcError(Exception):
    """Any failure that convfc foresees; the message names the file or layer and the remedy."""


class GeometryError(ConvfcError, ValueError):
    """Sizes, kernels, strides, dilations, pads or groups that describe no convolution."""


class FileError(ConvfcError):
    """A file that is missing, unreadable, of no known format, damaged, or cannot be written."""


class UnsupportedModelError(ConvfcError):
    """A readable file that holds something convfc cannot load or run."""


class ConversionError(ConvfcError):
    """A converted model that is seen to be another function; nothing was written."""


class DataError(ConvfcError):
    """Samples or inputs that cannot be read or do not fit the model."""


class UsageError(ConvfcError):
    """A call whose arguments contradict each other or name nothing."""
