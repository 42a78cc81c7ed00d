"""Matrices as files of numpy: all in one, or one for each in a folder."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from convfc import arguments
from convfc.analysis.feeding import Patches, patch_matrices
from convfc.analysis.kinds import Kind
from convfc.analysis.matrix import MOST_ENTRIES, Matrix
from convfc.analysis.reading import matrices
from convfc.core.arrays import Array
from convfc.core.whole import Whole
from convfc.errors import UsageError
from convfc.formats.shapes import Shapes
from convfc.gates import gated
from convfc.system import replacing
from convfc.system.atomic import writing
from convfc.system.surroundings import undisturbed


@undisturbed()
@gated
def save_matrices(
    model: str | Path,
    out: str | Path,
    *,
    kind: Kind | str = Kind.FILTER,
    layers: str | Sequence[str] = (),
    sample: int = 0,
    data: str | Path = "mnist",
    entries: int = MOST_ENTRIES,
    shapes: Shapes | None = None,
    imports: Sequence[str] = (),
) -> list[Path]:
    """Write the matrices of a model file into .npz files.

    In one file, an array is called "layer/F"; in a folder, the layer is the name of its file, and
    the array "F". Beside each matrix, "axes" says in words what its rows and columns are. One of
    `Kind.WHOLE` has the format of `scipy.sparse.save_npz`, with the bias as one more array "b".

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file, an original or a converted one.
        out: an .npz file, or a folder, which is made if it is not there; whole matrices go into a
            folder, if it is not just one.
        kind: "filter", "patches" or "whole".
        layers: patterns of layer names, or one of them; all when empty.
        sample: which sample of `data` patches are of, from 0.
        data: what `convfc.verify` takes.
        entries: how many a whole matrix may have.
        shapes: the whole shape of an input, by its name, where sizes are open.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        The files.

    Raises:
        FileError: the model cannot be read, or a file not be written.
        UnsupportedModelError: the model holds something that convfc cannot load or run, or a
            matrix is too large.
        DataError: the samples cannot be read, or hold no such one.
        UsageError: arguments of another kind, or a pattern that fits nothing.
    """
    kind = arguments.choice("kind", kind, Kind)
    entries = arguments.whole("entries", entries, 1)
    target = arguments.path("out", out)
    if target.suffix == ".npz":
        replacing.check(target, ARCHIVE)
    if kind is Kind.PATCHES:
        fed = patch_matrices(
            model, layers=layers, sample=sample, data=data, shapes=shapes, imports=imports
        )
        return _write(target, {name: _of_patches(patches) for name, patches in fed.items()})
    found = matrices(model, layers=layers, shapes=shapes, imports=imports)
    if kind is Kind.FILTER:
        return _write(target, {name: _of_filters(matrix) for name, matrix in found.items()})
    wholes = {name: matrix.require_whole(entries) for name, matrix in found.items()}
    single = target.suffix == ".npz"
    if single and len(found) != 1:
        raise UsageError(
            f"{target}: a whole matrix has a file of its own, and there are {len(found)} layers",
            remedy="name a folder, or one layer with --layer",
        )
    files = dict.fromkeys(found, target) if single else _files_in(target, [*found])
    for name, file in files.items():
        matrix = found[name]
        save_arrays(file, {**matrix.whole(entries).arrays(), **_bias(matrix, wholes[name])})
    return list(files.values())


Arrays = Mapping[str, Array]
ARCHIVE = replacing.Kind(".npz file", re.compile(rb"PK\x03\x04"))


def _of_filters(matrix: Matrix) -> Arrays:
    axes = matrix.axes
    said = f"F: rows {_told(axes['rows'])}; columns {_told(axes['columns'])}"
    bias = {} if matrix.b is None else {"b": matrix.b}
    return {"F": matrix.F, **bias, "axes": np.array(said)}


def _of_patches(patches: Patches) -> Arrays:
    axes, groups = patches.matrix.axes, patches.matrix.convolution.groups
    rows = [(f"position {axis}", size) for axis, size in enumerate(patches.outputs, 1)]
    blocks = f"group ({groups}); " if groups > 1 else ""
    said = f"P: {blocks}rows {_told(rows)}; columns {_told(axes['rows'])}"
    return {"P": patches.P, "axes": np.array(said)}


def _told(axes: Sequence[tuple[str, int]]) -> str:
    """Axes and their lengths in words: 'tap 1 (3), channel (16)'."""
    return ", ".join(f"{name} ({size})" for name, size in axes)


def _bias(matrix: Matrix, whole: Whole) -> Arrays:
    if matrix.b is None:
        return {}
    return {"b": whole.bias(matrix.b, channels_first=matrix.channels_first)}


def _write(target: Path, found: Mapping[str, Arrays]) -> list[Path]:
    """Write arrays by the names of matrices."""
    if target.suffix == ".npz":
        flat = {f"{name}/{key}": x for name, own in found.items() for key, x in own.items()}
        save_arrays(target, flat)
        return [target]
    files = _files_in(target, [*found])
    for name, file in files.items():
        save_arrays(file, found[name])
    return list(files.values())


def save_arrays(target: Path, arrays: Arrays) -> None:
    """Write arrays by their names, none of which needs pickle.

    Raises:
        FileError: the file cannot be written.
    """
    with replacing.replacing(target, ARCHIVE) as path, zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _files_in(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """A file in a folder for each name, which may hold anything."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
    found: dict[str, Path] = {}
    for name in names:
        stem = unique = re.sub(r"[^\w.-]", "_", name)[:100]
        count = 1
        while (folder / f"{unique}.npz") in found.values():
            count += 1
            unique = f"{stem}_{count}"
        found[name] = folder / f"{unique}.npz"
    return found
