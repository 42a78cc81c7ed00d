"""A model becomes a file: as Keras saves it, without what it could not load, with our record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.archive import HDF5, format_named, with_suffix, write_record
from convfc.formats.keras.loader import Loaded
from convfc.formats.keras.refusals import brief, write_error
from convfc.formats.keras.upgraded_copy import make_loadable
from convfc.refusals import Code


def write(model: Any, path: Path, record: str | None, *, source: Path, loaded: Loaded) -> None:
    """Save a model, in the format that the file is named after that it came from.

    Args:
        model: of Keras, which says no types.
        path: where to write, whatever its suffix.
        record: what convfc says of it; ``None``: nothing.
        source: the file that it came from.
        loaded: what that held.

    Raises:
        OSError: the file cannot be written.
        UnsupportedModelError: Keras cannot save what it has loaded.
    """
    file_format = format_named(source) or loaded.envelope.file_format
    named = with_suffix(path, file_format)
    try:
        keras.saving.save_model(model, named)
        if file_format == HDF5:
            make_loadable(named, loaded.operations)
        if record is not None:
            write_record(named, file_format, record)
    except (OSError, RuntimeError) as error:
        raise write_error(error) from error
    except Exception as error:
        raise UnsupportedModelError(
            f"{source}: Keras cannot save it again: {brief(error)}", code=Code.NOT_KEPT
        ) from error
    named.replace(path)
