"""Models that a program holds, as files and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import brief
from convfc.refusals import Code


def put(model: Any, folder: Path) -> Path:
    """Write a model, as it is, into a folder.

    Raises:
        OSError: it cannot be written.
        UnsupportedModelError: Keras cannot save it.
    """
    path = folder / "model.keras"
    try:
        with overheard():
            keras.saving.save_model(model, path)
    except OSError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"the model: Keras cannot save it: {brief(error)}", code=Code.NOT_KEPT
        ) from error
    return path


def taken(path: Path) -> Any:
    """The model in a file, compiled if it was."""
    with overheard():
        return keras.saving.load_model(path)
