"""The sizes of every convolution in a model, without converting it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convfc.formats import open_model
from convfc.planning import Layer, plan


def shapes(model: str | Path, *, imports: Sequence[str] = ()) -> tuple[Layer, ...]:
    """Every convolution of a model with its geometry and the lowering that it would get.

    For a single convolution without a model, `convfc.lower(convfc.convolution(..), sizes)` has
    the same figures.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Raises:
        UsageError: one of the modules cannot be imported.
        FileError: the file cannot be read.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    return plan(open_model(Path(model), imports).sites)
