"""The original of a file in the dense form, as the record of that has it.

It is the whole configuration: layers are in no place of their own there. For each matrix there are
digests of the numbers that it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras

from convfc.errors import FileError
from convfc.formats.keras.bounds import check_size, limit
from convfc.formats.keras.lambdas import layers_with_code
from convfc.formats.keras.likeness import plain
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.outline import outlines, pack, packed, unpack
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import brief
from convfc.formats.keras.runs import Run
from convfc.formats.keras.sites import Place, is_graph
from convfc.formats.outline import damaged, digest_of
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""


def outline_of(model: Layer, reading: Reading, places: Mapping[str, Place | Run]) -> str:
    """What the record of a converted file says of the original.

    Args:
        model: the original.
        reading: of it.
        places: of what is converted, by name.
    """
    runs = {name: one for name, one in places.items() if isinstance(one, Run)}
    if not (runs or reading.flat_io):
        return packed(outlines(model, [x for x in places.values() if not isinstance(x, Run)]))
    digests = {name: digests_of(run) for name, run in runs.items()}
    return pack({"model": _written(model), "digests": digests})


def _written(model: Layer) -> Any:
    """What Keras writes of a model; what it was compiled with is in the converted file, too."""
    written = plain(keras.saving.serialize_keras_object(model))
    return {key: value for key, value in written.items() if key != "compile_config"}


def is_flat(record: Provenance) -> bool:
    """Whether a file is the dense form of a whole model, not of some layers in their places."""
    if not (record.affine or record.flat_io):
        return False
    with suppress(Exception):  # a damaged one is not
        return isinstance(unpack(record.outline), dict)
    return not record.outline and bool(record.layers)


def digests_of(run: Run) -> list[str]:
    """Of the numbers of a run, in their order."""
    return [digest_of(one) for step in run.steps for one in step.numbers.values()]


def built(path: Path, outline: str) -> tuple[Layer, Mapping[str, Any]]:
    """The original, with zeros for its weights, and the digests of what its runs had, by name.

    Args:
        path: the file, for the message.
        outline: from its record.

    Raises:
        FileError: it is none, or makes far too much of so small a file.
    """
    most = limit(path.stat().st_size)
    try:
        content = unpack(outline)
        if next(layers_with_code(content["model"]), None) is not None:
            raise ValueError("a layer holds code")
        with overheard(), held_once(most) as taken:
            model = keras.saving.deserialize_keras_object(content["model"], safe_mode=True)
        if not is_graph(model):
            raise ValueError("it is of no model")
        check_size(path, taken.size, "the weights of its layers")
        return model, dict(content["digests"])
    except FileError:
        raise
    except Exception as error:  # whatever there is in the place of what Keras writes
        raise damaged(path, brief(error)) from error
