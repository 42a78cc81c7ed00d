"""What convfc raises: one tree, each message one or two lines that a person can act on."""

from __future__ import annotations

from pathlib import Path

from convfc.refusals import Code
from convfc.text.visible import visible


class ConvfcError(Exception):
    r"""Any failure that convfc foresees; the message names the file or layer and the remedy.

    Every argument is a line of the message, and stays one, whatever the names in it hold:

        >>> print(ConvfcError("layer 'a\nb': cannot be read", "Save it anew"))
        layer 'a\nb': cannot be read
        Save it anew

    Args:
        lines: the message.
        remedy: what is to be done about it, where that is no line of its own but ends the last:

            >>> print(ConvfcError("m.h5: is cut short", remedy="get a fresh copy of it"))
            m.h5: is cut short; get a fresh copy of it

        path: see below.
        layer: see below.
        code: see below; without it, that of the kind of error.

    Attributes:
        code: why, in a word that stays the same; docs/refusals.md has a row for each.
        path: the file that it is about; ``None`` where that is not known.
        layer: the layer in it, as the file calls it; ``None`` where that is not known.
    """

    code: Code = Code.DAMAGED

    def __init__(
        self,
        *lines: object,
        remedy: str | None = None,
        path: str | Path | None = None,
        layer: str | None = None,
        code: Code | None = None,
    ) -> None:
        if remedy is not None:
            *before, last = lines
            lines = (*before, f"{last}; {remedy}")
        super().__init__(*lines)
        self._remedy = remedy
        self.path = None if path is None else Path(path)
        self.layer = layer
        if code is not None:
            self.code = code

    @property
    def remedy(self) -> str:
        """What is to be done about it: what the message says of that, else what its code does."""
        said = self.args[1] if len(self.args) > 1 else self._remedy
        return self.code.remedy if said is None else visible(str(said))

    def __str__(self) -> str:
        return "\n".join(visible(str(line)) for line in self.args)


class GeometryError(ConvfcError, ValueError):
    """Sizes, kernels, strides, dilations, pads or groups that describe no convolution."""

    code = Code.GEOMETRY


class FileError(ConvfcError):
    """A file that is missing, unreadable, of no known format, damaged, or cannot be written."""

    code = Code.DAMAGED


class UnsupportedModelError(ConvfcError):
    """A readable file that holds something convfc cannot load or run."""

    code = Code.NOT_LOADED


class ConversionError(ConvfcError):
    """A converted model that is seen to be another function; nothing was written."""

    code = Code.DIFFERS


class DataError(ConvfcError):
    """Samples or inputs that cannot be read or do not fit the model."""

    code = Code.SAMPLES


class UsageError(ConvfcError):
    """A call whose arguments contradict each other or name nothing."""

    code = Code.USAGE
