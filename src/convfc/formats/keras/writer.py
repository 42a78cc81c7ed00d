"""A model becomes a file: as Keras saves it, without what it could not load, with our record."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import keras

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.archive import HDF5, with_suffix, write_record
from convfc.formats.keras.refusals import brief
from convfc.formats.keras.upgraded_copy import make_loadable
from convfc.refusals import Code


def write(
    model: Any,
    path: Path,
    file_format: str,
    record: str | None,
    *,
    operations: Set[str],
    source: Path,
) -> None:
    """Save a model.

    Args:
        model: of Keras, which says no types.
        path: where to write, whatever its suffix.
        file_format: `HDF5` or `ZIP`.
        record: what convfc says of it; ``None``: nothing.
        operations: what stands among its layers and is none, by its name.
        source: the file that it came from, for the message.

    Raises:
        OSError: the file cannot be written.
        UnsupportedModelError: Keras cannot save what it has loaded.
    """
    named = with_suffix(path, file_format)
    try:
        keras.saving.save_model(model, named)
        if file_format == HDF5:
            make_loadable(named, operations)
        if record is not None:
            write_record(named, file_format, record)
    except (OSError, RuntimeError) as error:
        raise _write_error(error) from error
    except Exception as error:
        raise UnsupportedModelError(
            f"{source}: Keras cannot save it again: {brief(error)}", code=Code.NOT_KEPT
        ) from error
    named.replace(path)


def _write_error(error: BaseException) -> OSError:
    """What kept a file from being written, in the system's words.

    h5py wraps it in a paragraph, and in a RuntimeError or two if it comes up while it closes the
    file: only the paragraph has the number then.
    """
    cause: BaseException | None = error
    while cause is not None:
        told = re.search(r"errno = (\d+)", str(cause))
        number = getattr(cause, "errno", None) or (int(told[1]) if told else None)
        if number is not None:
            return OSError(number, os.strerror(number))
        cause = cause.__cause__ or cause.__context__
    return OSError(errno.EIO, os.strerror(errno.EIO))
