"""From a file to a loaded Keras model, or to a sentence that says why not.

`archive` reads what the file says and looks at its weights, in a child process first; `upgrades`
bring what it says up to date, `upgraded_copy` makes a file of that, and Keras loads it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import keras

from convfc.errors import ConvfcError, FileError, UnsupportedModelError
from convfc.formats.keras.archive import (
    HDF5,
    OPTIMIZER_WEIGHTS,
    Envelope,
    check_weights,
    format_named,
    read_envelope,
)
from convfc.formats.keras.assembly import assembled
from convfc.formats.keras.bounds import check_size, count_data, limit
from convfc.formats.keras.fixed_sizes import fixed
from convfc.formats.keras.internals import flat_layers
from convfc.formats.keras.lambdas import layers_with_code
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import NO_CONFIG, brief, refusing
from convfc.formats.keras.replaced_calls import refuse_other_meanings, replaced_calls
from convfc.formats.keras.upgraded_copy import upgraded_copy
from convfc.formats.keras.upgrades import up_to_date
from convfc.formats.keras.upgrades.classes import arguments
from convfc.formats.keras.upgrades.hdf5 import operations_in, own_operations
from convfc.formats.keras.upgrades.unknown import unknown_in
from convfc.formats.reading import AS_IT_IS, Reading
from convfc.gates import naming
from convfc.refusals import Code
from convfc.system.atomic import OTHER_PLACE
from convfc.text.sizes import shapes_text


@dataclass(frozen=True)
class Loaded:
    """What a file holds.

    Attributes:
        model: as Keras loads it, compiled if the file says so.
        envelope: what the file says beside it.
        notes: what loading had to change or give up, a sentence each.
        operations: what stands among the layers and is none, by its name.
    """

    model: Any
    envelope: Envelope
    notes: tuple[str, ...]
    operations: frozenset[str]


_MOST_THRESHOLDS = 2**16


def load(path: Path, reading: Reading = AS_IT_IS) -> Loaded:
    """Load a model, with Keras's safe mode on.

    Args:
        path: the file.
        reading: what the file does not say itself.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds, or not at these sizes.
        UsageError: it has no such input, or one that takes another shape; or it is whole and needs
            no architecture.
    """
    with refusing(path, NO_CONFIG):
        if reading.architecture is None:
            return _load(path, reading)
        with assembled(path, reading.architecture) as whole, naming(path, whole):
            return _load(whole, reading)


def _load(path: Path, reading: Reading) -> Loaded:
    shapes = reading.shapes
    envelope = read_envelope(path)
    _refuse_contents(path, envelope)
    notes = _other_name(path, envelope)
    check_weights(path, envelope.file_format)
    upgraded = up_to_date(path, envelope, keeps=reading.keras2_numbers)
    if shapes:
        upgraded = replace(upgraded, config=fixed(upgraded.config, shapes), altered=True)
    with overheard() as said, upgraded_copy(path, envelope.file_format, upgraded) as copy:
        notes += _upgrade_notes(envelope, copy.done, upgraded.cautions)
        try:
            model, left_out = _compiled_if_possible(path, envelope, copy.path, reading)
        except UnsupportedModelError as error:
            if not shapes:
                raise
            why = brief(error.__cause__ or error)
            raise UnsupportedModelError(
                f"{path}: cannot be built for {shapes_text(shapes)}: {why}", code=Code.NOT_LOADED
            ) from error
    if envelope.is_old:
        refuse_other_meanings(path, model, replaced_calls(envelope.config))
    notes += left_out
    _untrack(model)
    notes += _optimizer_notes(path, envelope, model, said)
    return Loaded(model, envelope, tuple(notes), own_operations(upgraded.config))


def _refuse_contents(path: Path, envelope: Envelope) -> None:
    """Refuse what Keras would run, or make far too much of.

    Raises:
        UnsupportedModelError: there is such a layer or metric.
    """
    for name, remedy in layers_with_code(envelope.config):
        raise UnsupportedModelError(
            f"{path}: Lambda layer {name!r} holds Python code, which convfc never runs",
            remedy=remedy,
            code=Code.LAMBDA,
        )
    for kind, given in arguments(envelope.training):
        if (number := given.get("num_thresholds")) and number > _MOST_THRESHOLDS:
            raise UnsupportedModelError(
                f"{path}: its metric {kind!r} asks for {number} thresholds, which Keras lists one "
                "by one",
                remedy="compile the model with fewer and save it again",
                code=Code.TOO_LARGE,
            )


def _upgrade_notes(envelope: Envelope, done: Sequence[str], cautions: Sequence[str]) -> list[str]:
    if not done:
        return [*cautions]
    by = f"Keras {envelope.version}" if envelope.version else "an old Keras"
    return [f"Brought a file of {by} up to date: {'; '.join(done)}.", *cautions]


def _compiled_if_possible(
    path: Path, envelope: Envelope, copy: Path, reading: Reading
) -> tuple[Any, list[str]]:
    """The model, and what of it had to be given up.

    Args:
        path: the file.
        envelope: what it says.
        copy: what Keras is to load in its place.
        reading: whether it is to be compiled at all.

    Raises:
        FileError: see `_keras_load`.
        UnsupportedModelError: Keras cannot load it.
    """
    why = ""
    try:
        if reading.compiled:
            return _keras_load(path, copy, compile=True), []
    except ConvfcError:
        raise
    except Exception as uncompilable:
        why = brief(uncompilable)
    try:
        model = _keras_load(path, copy, compile=False)
    except ConvfcError:
        raise
    except Exception as error:
        raise _refusal(path, error, envelope) from error
    if not reading.compiled:
        return model, []
    names = unknown_in(envelope.training)
    why = f"Keras does not know {', '.join(map(repr, names[:3]))}" if names else why
    note = f"Its training setup could not be read ({why}); the converted file will not be compiled."
    return model, [note]


def _keras_load(path: Path, copy: Path, **how: bool) -> Any:
    """The model as Keras loads it, if its layers are not far larger than the file.

    Raises:
        FileError: they are.
    """
    most = limit(path.stat().st_size)
    with held_once(most) as built:
        try:
            model = keras.saving.load_model(copy, safe_mode=True, **how)
        except Exception:
            # Keras wraps what is raised in a layer.
            check_size(path, built.size, "the weights of its layers")
            raise
    check_size(path, built.size, "the weights of its layers")
    return model


def _other_name(path: Path, envelope: Envelope) -> list[str]:
    """What to say of a file that is named like the other format."""
    if format_named(path) in (None, envelope.file_format):
        return []
    if envelope.file_format == HDF5:
        return ["It is an HDF5 file by another name; a converted file is what its name says."]
    for name in operations_in(envelope.config):
        raise UnsupportedModelError(
            f"{path}: is a .keras zip with the operation {name!r}, which HDF5 cannot hold",
            remedy="rename it to end in .keras",
            code=Code.NOT_LOADED,
        )
    return ["It is a .keras zip by another name; a converted file is what its name says."]


def _untrack(model: Any) -> None:
    """Let go of lists of numbers: Keras tracks any list, and cannot save one inside a Sequential.

    It copies the configuration there, with the list, and so what the list is tracked by.
    """
    for layer in flat_layers(model):
        for name, value in vars(layer).items():
            tracked = isinstance(value, list) and type(value) is not list
            if tracked and all(isinstance(item, int | float) for item in value):
                layer.__dict__[name] = list(value)


_UNTRAINED = re.compile("saved optimizer has [012] variables")
"""Keras warns, too, where all there is to restore is a step and a learning rate."""


def _optimizer_notes(path: Path, envelope: Envelope, model: Any, said: Sequence[str]) -> list[str]:
    """What is lost of an optimizer's state, which a model out of HDF5 gets anew here.

    Args:
        path: the file.
        envelope: what it says.
        model: as Keras loaded it.
        said: of what Keras warned meanwhile.
    """
    if model.compiled and envelope.file_format == HDF5:
        # Keras builds the optimizer for the variables that the model holds itself, which are none.
        with overheard():
            model.compile(**keras.saving.deserialize_keras_object(model.get_compile_config()))
        if _was_trained(path):
            return ["Keras restores no optimizer from HDF5; training would start it afresh."]
    elif any("optimizer" in message and not _UNTRAINED.search(message) for message in said):
        return ["Keras could not restore the optimizer's state; training would start afresh."]
    return []


def _was_trained(path: Path) -> bool:
    """Whether an HDF5 file has more of an optimizer than its step and its learning rate."""
    with h5py.File(path) as file:
        return OPTIMIZER_WEIGHTS in file and count_data(file[OPTIMIZER_WEIGHTS], path) > 2


_UNKNOWN_NAME = re.compile(
    r"(?:Unknown (?P<old>\w+): |Could not locate (?P<new>\w+) |(?P<gone>Could not deserialize ))"
    r"['\"](?:keras\.layers\.)?(?P<name>[^'\"]+)['\"]"
)

_GONE = (
    *("LocallyConnected1D", "LocallyConnected2D", "CuDNNLSTM", "CuDNNGRU"),
    *("RandomHeight", "RandomWidth", "DenseFeatures"),
)
"""Layers of Keras 2 that Keras 3 lacks."""


def _refusal(path: Path, error: Exception, envelope: Envelope) -> ConvfcError:
    """What a failure of Keras's loader means to a person."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FileError(
            f"{path}: Keras cannot unpack it: {error.strerror}",
            remedy=OTHER_PLACE,
            code=Code.NOT_WRITTEN,
        )
    unknown, version = _UNKNOWN_NAME.search(str(error)), envelope.version
    of_today = envelope.file_format == HDF5 and not envelope.is_old
    unheld = operations_in(envelope.config) if of_today else set()
    if unheld and (unknown is None or unknown["name"] in unheld):
        return UnsupportedModelError(
            f"{path}: holds the operation {min(unheld)!r}, which Keras writes to HDF5 but "
            "does not load",
            remedy="build the model again and save it again as .keras",
            code=Code.NOT_LOADED,
        )
    if unknown and unknown["name"] in _GONE:
        return UnsupportedModelError(
            f"{path}: uses the layer {unknown['name']!r}, which Keras 3 no longer has",
            "Build the model without it; or register a class of yours by that name, and name its "
            "module with --import MODULE",
            code=Code.OLD_KERAS,
        )
    if unknown and not unknown["gone"]:
        kind = unknown["old"] or unknown["new"]
        return UnsupportedModelError(
            f"{path}: uses the custom {kind} {unknown['name']!r}, which Keras does not know",
            "Register it with @keras.saving.register_keras_serializable() in a module of yours, "
            "and name that with --import MODULE",
            code=Code.CUSTOM,
        )
    return UnsupportedModelError(
        f"{path}: written by Keras {version or '?'}; "
        f"Keras {keras.__version__} cannot load it: {brief(error)}",
        code=Code.NOT_LOADED,
    )
