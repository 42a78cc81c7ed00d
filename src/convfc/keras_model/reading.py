"""From a file to a loaded Keras model, or to a sentence that says why not."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from convfc.errors import UnsupportedModelError
from convfc.keras_model.quiet import overheard
from convfc.keras_model.record import HDF5, ZIP, Envelope, read_envelope

_SUFFIXES = {HDF5: (".h5", ".hdf5"), ZIP: (".keras",)}


@dataclass(frozen=True)
class Loaded:
    """What a file holds.

    Attributes:
        model: as Keras loads it, compiled if the file says so.
        envelope: what the file says beside it.
        notes: what loading had to give up, a sentence each.
    """

    model: Any
    envelope: Envelope
    notes: tuple[str, ...]


def load(path: Path) -> Loaded:
    """Load a model, with Keras's safe mode on.

    Raises:
        FileError: the file is missing, damaged, or holds no Keras model.
        UnsupportedModelError: Keras cannot load what it holds.
    """
    envelope = read_envelope(path)
    for name in _layers_with_code(envelope.config):
        raise UnsupportedModelError(
            f"{path}: Lambda layer {name!r} holds Python code, which convfc never runs; "
            "replace it by a stock layer and save the model again"
        )
    # Keras goes by the file's name, convfc by its bytes: a link has the name that Keras expects.
    with tempfile.TemporaryDirectory(prefix="convfc-") as folder, overheard() as said:
        named = path
        if with_suffix(path, envelope.file_format) != path:
            named = Path(folder, f"model{envelope.file_format}")
            named.symlink_to(path.resolve())
        try:
            model = keras.saving.load_model(named, compile=True, safe_mode=True)
        except Exception as uncompilable:
            try:
                model = keras.saving.load_model(named, compile=False, safe_mode=True)
            except Exception as error:
                raise _refusal(path, error, envelope.version) from error
            note = (
                f"Its training setup could not be read ({brief(uncompilable)}); "
                "the converted file will not be compiled."
            )
            return Loaded(model, envelope, (note,))
    if envelope.file_format == HDF5 and model.compiled:
        restored = _restore_optimizer(model, path)
    else:
        restored = not any("optimizer" in message for message in said)
    if not restored:
        note = "Keras could not restore the optimizer's state; training would start afresh."
        return Loaded(model, envelope, (note,))
    return Loaded(model, envelope, ())


def _restore_optimizer(model: Any, path: Path) -> bool:
    """Read the optimizer's state from an HDF5 file; false if it does not fit.

    Keras writes it but, up to 3.15 at least, fails to read it back: it builds the optimizer for
    the variables that the model holds itself, which are none.
    """
    with h5py.File(path) as file:
        group = file.get("optimizer_weights")
        if group is None:
            return True
        # Keras cuts a list that is too long for one attribute into several: names0, names1, ..
        chunks = [name for name in group.attrs if name.startswith("weight_names")]
        chunks.sort(key=lambda name: int(name.removeprefix("weight_names") or 0))
        names = [name for chunk in chunks for name in group.attrs[chunk]]
        values = [np.asarray(group[name]) for name in names]
    with overheard():
        model.compile_from_config(model.get_compile_config())
    variables = model.optimizer.variables
    if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
        return False
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return True


def with_suffix(path: Path, file_format: str) -> Path:
    """`path`, or a neighbour of it, with a name that tells Keras the format."""
    if path.name.endswith(_SUFFIXES[file_format]):
        return path
    return path.with_name(path.name + file_format)


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def brief(error: BaseException) -> str:
    """The cause in an exception of Keras or tensorflow, on one line."""
    text = _COLOUR.sub("", str(error))
    text = text.split("Exception encountered:")[-1].split("<stack traces unavailable>")[-1]
    line = next(iter(text.strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 200 else f"{line[:200]}..."


def _layers_with_code(config: Any) -> Iterator[str]:
    """Names of the Lambda layers whose function is code, not a name."""
    if isinstance(config, dict):
        inner = config.get("config")
        if (
            config.get("class_name") == "Lambda"
            and isinstance(inner, dict)
            and not isinstance(inner.get("function"), str)
        ):
            yield inner.get("name", "lambda")
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _layers_with_code(value)


_UNKNOWN_NAME = re.compile(
    r"(?:Unknown (?P<old>\w+): |Could not locate (?P<new>\w+) )['\"](?P<name>[^'\"]+)['\"]"
)


def _refusal(path: Path, error: Exception, version: str) -> UnsupportedModelError:
    """What a failure of Keras's loader means to a person."""
    unknown = _UNKNOWN_NAME.search(str(error))
    if version.startswith(("1.", "2.")):
        return UnsupportedModelError(
            f"{path}: written by an older Keras ({version}); "
            f"Keras {keras.__version__} cannot read it: {brief(error)}\n"
            "convfc cannot read it yet: re-save it with a current Keras"
        )
    if unknown:
        kind = unknown["old"] or unknown["new"]
        return UnsupportedModelError(
            f"{path}: uses the custom {kind} {unknown['name']!r}, which Keras does not know\n"
            "Call convfc from Python, after importing the module that registers it "
            "with keras.saving.register_keras_serializable"
        )
    return UnsupportedModelError(
        f"{path}: written by Keras {version or '?'}; "
        f"Keras {keras.__version__} cannot load it: {brief(error)}"
    )
