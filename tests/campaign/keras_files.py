"""A Keras file in parts that can be changed, and how to run one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from convfc.formats.keras.quiet import importing, overheard

with importing():
    import keras

Array = NDArray[Any]
Feed = list[Array]
Outputs = dict[str, Array]

CONFIG, WEIGHTS, RECORD = "config.json", "model.weights.h5", "convfc.json"


@dataclass
class Parts:
    """What is in a file.

    Attributes:
        suffix: ".keras" or ".h5".
        config: the model's configuration.
        record: convfc's record; empty if there is none.
        hdf5: the bytes of the HDF5 file with the weights.
        members: the other members of a zip.
    """

    suffix: str
    config: Any
    record: str
    hdf5: bytes
    members: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Parts:
        """Take a file apart."""
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                config, record = file.attrs["model_config"], file.attrs.get("convfc", "")
            return cls(".h5", json.loads(config), record, path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(members.pop(CONFIG))
        record = members.pop(RECORD, b"").decode()
        return cls(".keras", config, record, members.pop(WEIGHTS), members)

    def write(self, path: Path) -> None:
        """Put it together again."""
        if self.suffix == ".h5":
            path.write_bytes(self.hdf5)
            with h5py.File(path, "r+") as file:
                file.attrs["model_config"] = json.dumps(self.config)
                if self.record:
                    file.attrs["convfc"] = self.record
            return
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self.members.items():
                archive.writestr(name, content)
            archive.writestr(CONFIG, json.dumps(self.config))
            archive.writestr(WEIGHTS, self.hdf5)
            if self.record:
                archive.writestr(RECORD, self.record)

    @contextmanager
    def weights(self) -> Iterator[dict[str, h5py.Dataset]]:
        """The data in it by name, to be changed in place."""
        stored = io.BytesIO(self.hdf5)
        with h5py.File(stored, "r+") as file:
            found: dict[str, h5py.Dataset] = {}

            def visit(name: str, item: object) -> None:
                if isinstance(item, h5py.Dataset):
                    found[name] = item

            file.visititems(visit)
            yield found
        self.hdf5 = stored.getvalue()


def load(path: Path) -> Any:
    """A model as Keras loads it, in safe mode.

    Raises:
        Exception: of any kind.
    """
    with overheard():
        return keras.saving.load_model(path, compile=False)


SIZES = {1: 9, 2: 8, 3: 10, 5: 71}
"""What an open size is, by the batch."""


def probes(model: Any) -> list[Feed]:
    """Inputs of several batches, sizes and magnitudes for a model."""
    random = np.random.default_rng(0)

    def feed(batch: int, draw: Callable[[Sequence[int]], Array]) -> Feed:
        made = []
        for tensor in model.inputs:
            sizes = [SIZES.get(batch, 9) if size is None else size for size in tensor.shape[1:]]
            whole = "int" in tensor.dtype
            x = random.integers(0, 10, (batch, *sizes)) if whole else draw((batch, *sizes))
            made.append(np.asarray(x, tensor.dtype))
        return made

    def normal(scale: float) -> Callable[[Sequence[int]], Array]:
        return lambda shape: np.asarray(random.normal(size=shape) * scale)

    def one_hot(shape: Sequence[int]) -> Array:
        x = np.full(shape, -1.0)
        x.flat[random.integers(x.size)] = 0.1234005
        return x

    made = [feed(batch, normal(1)) for batch in SIZES]
    made += [feed(batch, normal(scale)) for batch, scale in ((3, 1e-3), (2, 1e3), (2, 1e6))]
    made += [feed(1, np.zeros), feed(2, one_hot), feed(130, normal(1))]
    return made


def run(path: Path, feeds: Sequence[Feed], names: Sequence[str]) -> Iterator[Outputs | None]:
    """All outputs for each feed, in Keras; ``None`` where it does not run.

    Args:
        path: the file.
        feeds: an array per input.
        names: of the inputs: a file with others does not run.
    """
    try:
        model = load(path)
    except Exception:  # Keras's many kinds
        model = None
    if model is not None and [tensor.name for tensor in model.inputs] != list(names):
        model = None
    for feed in feeds:
        yield None if model is None else _attempt(model, feed)


def _attempt(model: Any, feed: Feed) -> Outputs | None:
    try:
        with overheard():
            outputs = model(feed if len(feed) > 1 else feed[0], training=False)
            found = keras.tree.flatten_with_path(outputs)
            return {str(path): keras.ops.convert_to_numpy(value) for path, value in found}
    except Exception:  # as above
        return None
