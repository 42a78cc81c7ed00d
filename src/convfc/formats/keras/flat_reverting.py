"""A model in the dense form becomes the original again, with the numbers that are in the file.

The record has the original's configuration. It is built, written in the dense form again, and what
stands for what in the file is found by wiring (`flat_form`, `cut`). All layers that are no matrix
get the file's numbers. The matrix of one convolution has its kernel in it; what several layers
make of theirs does not say what these were, so there it takes the original.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convfc.core.arrangement import LayOut, put_back
from convfc.core.arrays import Array, array_difference
from convfc.core.dense import lower_dense
from convfc.core.lowering import Lowering
from convfc.core.whole import MaxPool
from convfc.errors import UnsupportedModelError, UsageError
from convfc.formats.keras.affine import Affine, Product
from convfc.formats.keras.alignment import cut
from convfc.formats.keras.dense_form import compile_like, flat_form, strands_in
from convfc.formats.keras.flat import Flattened, matrix_of
from convfc.formats.keras.flat_outline import built, digests_of
from convfc.formats.keras.loader import Loaded, load
from convfc.formats.keras.lockstep import Fault, lockstep
from convfc.formats.keras.memory import held_once
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import NO_CONFIG, refusing
from convfc.formats.keras.rewriting import FRESH
from convfc.formats.keras.runs import Run, runs_of
from convfc.formats.keras.writer import write
from convfc.formats.outline import digest_of, missing
from convfc.formats.protocols import Site
from convfc.formats.provenance import Provenance
from convfc.formats.reading import Reading
from convfc.formats.reverted import Change, Rebuilt, WayBack
from convfc.refusals import Code, Refusal

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Numbers = Mapping[str, Array]
"""Of a convolution, by what they are: "kernel" and "bias"."""


def open_flat(path: Path, record: Provenance, like: Path | None) -> FlatReverting:
    """Open a file in the dense form for the way back.

    Args:
        path: the file.
        record: its record.
        like: the original; ``None``: the record tells what it was.

    Raises:
        FileError: a file or the record cannot be read, or nothing tells what the original was.
        UnsupportedModelError: Keras cannot load one of them, or the file is not made of that.
    """
    reading, names = record.reading(like), [layer.name for layer in record.layers]
    loaded = load(path)
    if like is not None:
        with refusing(like, NO_CONFIG):
            return FlatReverting(path, loaded, reading, load(like, reading).model, names)
    if not record.outline:
        raise missing(path)
    original, digests = built(path, record.outline)
    return FlatReverting(path, loaded, reading, original, names, digests)


def open_flat_like(path: Path, loaded: Loaded, like: Path) -> FlatReverting | None:
    """Open a file in the dense form whose record is lost, as when Keras saved it after training.

    Args:
        path: the file.
        loaded: what it holds.
        like: the original.

    Returns:
        ``None`` unless the file is built as one dense form of the original is, with all its runs.
    """
    for max_pool in MaxPool:
        reading = Reading(affine=True, max_pool=max_pool)
        original = load(like, reading).model  # anew: the last attempt may have given it numbers
        reading = replace(reading, flat_io=_takes_rows(loaded.model, original))
        try:
            return FlatReverting(path, loaded, reading, original)
        except (UnsupportedModelError, UsageError):  # it is not that one
            continue
    return None


def _takes_rows(model: Any, original: Any) -> bool:
    """Whether it is fed, or makes, rows of numbers where the original has maps of features."""
    ours, theirs = (
        [*(getattr(one, "inputs", None) or ()), *(getattr(one, "outputs", None) or ())]
        for one in (model, original)
    )
    pairs = zip(ours, theirs, strict=False)
    return any(len(a.shape) == 2 < len(b.shape) for a, b in pairs)


class FlatReverting:
    """See `convfc.formats.reverted.Reverting` for the members.

    Args:
        path: the file.
        loaded: what it holds.
        reading: how the original was read.
        original: a model that is built as that was; it gets the numbers of the file.
        names: of the runs that were converted; ``None``: all were.
        digests: of the original's numbers, by the name of the run; ``None``: it has them.

    Raises:
        UnsupportedModelError: the file is not what is made of such a model.
    """

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        reading: Reading,
        original: Layer,
        names: Sequence[str] | None = None,
        digests: Mapping[str, Any] | None = None,
    ) -> None:
        self.files: Sequence[Path] = (path,)
        self.reading = reading.way_back
        self._path, self._loaded, self._reading = path, loaded, reading
        self._model, self._digests = original, digests
        self._flat_model, self._strands = strands_in(original, reading, path)
        runs = {run.name: run for run in runs_of(self._strands)}
        self._names = list(runs if names is None else names)
        self._runs = {name: run for name, run in runs.items() if name in self._names}
        odd = next((name for name in self._names if name not in self._runs), None)
        if odd is not None:
            raise UnsupportedModelError(
                f"{path}: layer '{odd}' is within another one, is called twice, or is none of the "
                "original's: beside matrices on rows it does not come back",
                remedy="keep the original",
                code=Code.NO_CONVOLUTION,
            )
        with overheard(), held_once():
            self._dense = self._paired()
            found = {name: self._way_back(name) for name in self._names}
        self._numbers = {name: numbers for name, (_, numbers) in found.items()}
        self.layers: Sequence[WayBack] = self._as_wholes([way for way, _ in found.values()])

    def _not_made(self, why: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self._path}: is not built like the dense form of its original: {why}",
            remedy="revert the file from before that change, or keep the original",
            code=Code.NO_CONVOLUTION,
        )

    def _paired(self) -> dict[str, Layer]:
        """The matrices of the runs in the file; the other layers of the original get its numbers.

        Raises:
            UnsupportedModelError: anything else is in the file.
        """
        expected = self._flat(self._runs)
        model = self._flat_model if expected is None else expected.model
        made = {} if expected is None else expected.made
        apart = frozenset(map(id, made.values()))
        taken = {
            id(weight) for run in self._runs.values() for x in run.layers for weight in x.weights
        }

        def copied(old: Any, new: Any) -> Sequence[Fault]:
            if id(old) in apart or old is model:
                return ()
            ours, theirs = (getattr(one, "weights", []) for one in (old, new))
            if [tuple(w.shape) for w in ours] != [tuple(w.shape) for w in theirs]:
                return [Fault(old, new, "has weights of other shapes")]
            for mine, its in zip(ours, theirs, strict=True):
                mine.assign(np.asarray(its))
                taken.add(id(mine))
            return ()

        walked = lockstep(model, self._loaded.model, copied)
        cuts = cut(model, self._loaded.model, frozenset(), apart)
        said = [fault.said for fault in walked.faults] + cuts.differences + cuts.unknown
        lost = [x.name for x in self._model.weights if id(x) not in taken]
        found = {name: cuts.made.get(id(dense)) for name, dense in made.items()}
        said += [f"nothing stands for '{name}'" for name, dense in found.items() if dense is None]
        said += [f"the weight '{name}' is nowhere" for name in lost]
        if said:
            raise self._not_made(said[0])
        return found

    def _flat(self, names: Collection[str]) -> Flattened | None:
        return flat_form(self._flat_model, self._reading, self._strands, names, like=True)

    def _way_back(self, name: str) -> tuple[WayBack, Numbers]:
        """What there is to say of a run, and the numbers that its convolution is to have."""
        run, dense = self._runs[name], self._dense[name]
        site, lowering = _site(run)
        # Pooling has no weights: nothing but its settings is in its matrix.
        known = self._digests is None or not any(layer.weights for layer in run.layers)
        if known and _is_made(run, dense):
            return WayBack(site, lowering), {}
        found = _recovered(run, dense, known=known)
        if isinstance(found, Refusal):
            return WayBack(site, lowering, refusal=found), {}
        before = digests_of(run) if self._digests is None else self._digests.get(name)
        same = [digest_of(one) for one in found.values()] == before
        return WayBack(site, lowering, Change.NOTHING if same else Change.NUMBERS), found

    def _as_wholes(self, found: Sequence[WayBack]) -> list[WayBack]:
        """Ways back, but of a layer that became several matrices only with all of them."""
        ways = list(found)
        while True:
            split = self._split([way.site.name for way in ways if way.refusal is None])
            if split is None:
                return ways
            name, layer, other = split
            said = f"'{layer}' became several matrices, of which '{other}' is left"
            refusal = Refusal(said, Code.NO_OUTLINE)
            ways = [replace(w, refusal=refusal) if w.site.name == name else w for w in ways]

    def _split(self, names: Collection[str]) -> tuple[str, str, str] | None:
        """A run of these, a layer in it, and another run with a part of that which is left."""
        left = {
            id(x): run.name
            for run in self._runs.values()
            if run.name not in names
            for x in run.layers
        }
        shared = ((name, x) for name in names for x in self._runs[name].layers if id(x) in left)
        return next(((name, x.name, left[id(x)]) for name, x in shared), None)

    @property
    def rebuilt(self) -> Sequence[Rebuilt]:
        """See `Reverting.rebuilt`: a matrix is always in one piece."""
        return ()

    def save(self, path: Path, names: Collection[str], record: str) -> Sequence[str]:
        """See `Reverting.save`."""
        file, model = self._loaded, self._model
        left = [name for name in self._names if name not in names]
        split = self._split(names)
        if split is not None:
            _, layer, other = split
            raise UnsupportedModelError(
                f"{self._path}: '{layer}' became several matrices, of which '{other}' is left",
                remedy="revert all of them, or none",
                code=Code.NOT_KEPT,
            )
        with overheard(), held_once():
            for name in names:
                numbers = self._numbers[name]
                product = _product(self._runs[name])
                for role, array in numbers.items():
                    getattr(product, role).assign(array)
            compile_like(model, file.model)
            half = self._flat(left) if left else None
            if half is not None:
                model = half.model
                for name, dense in half.made.items():
                    for new, old in zip(dense.weights, self._dense[name].weights, strict=True):
                        new.assign(np.asarray(old))
            write(model, path, record, source=self._path, loaded=file)
        started = file.model.compiled and int(file.model.optimizer.iterations) > 0
        return [*file.notes, *([FRESH] if started else [])]


def _site(run: Run) -> tuple[Site, Lowering | None]:
    site = run.site("")
    assert site.convolution is not None  # noqa: S101 - a run always is one
    lowering = lower_dense(site.convolution, site.sizes)
    return site, lowering if isinstance(lowering, Lowering) else None


def _product(run: Run) -> Product | None:
    """The one convolution or Dense that a run is; ``None`` of what is more, and of pooling."""
    (step, *more) = _counting(run)
    if more or not isinstance(step, Product):
        return None
    own = {id(weight) for layer in run.layers for weight in layer.weights}
    held = [x for x in (step.kernel, step.bias) if x is not None]
    return step if own.issuperset(map(id, held)) else None


def _counting(run: Run) -> list[Affine]:
    """The steps of a run, but for those that only name the axes anew."""
    steps = [step for step in run.steps if not step.stays]
    return steps or run.steps


def _is_made(run: Run, dense: Layer) -> bool:
    """Whether a matrix is what is made of a run, number by number."""
    pairs = zip(matrix_of(run, dense), dense.weights, strict=True)
    return all(array_difference(made, np.asarray(has)) is None for made, has in pairs)


def _recovered(run: Run, dense: Layer, *, known: bool) -> Numbers | Refusal:
    """The numbers of the one convolution that a run is.

    Args:
        run: the layers.
        dense: what stands for them in the file.
        known: whether the original is known, of which the matrix is not made.
    """
    product = _product(run)
    if product is None:
        names = ", ".join(f"'{name}'" for name in dict.fromkeys(x.name for x in _counting(run)))
        if known:
            said = f"its matrix is no longer what is made of {names} in the original"
            return Refusal(said, Code.NO_CONVOLUTION)
        said = f"its matrix is made of {names}, whose own numbers it does not tell"
        return Refusal(said, Code.NO_OUTLINE)
    laid: dict[str, LayOut] = {
        "kernel": lambda x: product.matrix({"kernel": x}),
        "bias": lambda x: product.whole.bias(x, channels_first=product.channels_first),
    }
    found: dict[str, Array] = {}
    for role, weight in zip(("kernel", "bias"), dense.weights, strict=False):
        stored, shape = np.asarray(weight), product.numbers.get(role, np.empty(0)).shape
        if role not in product.numbers:
            if stored.any():
                return Refusal(f"it adds a bias, and '{run.name}' has none", Code.NO_CONVOLUTION)
            continue
        numbers = put_back(stored, shape, laid[role])
        if numbers is None:
            said = f"its {role} is not laid out as that of a convolution any more"
            return Refusal(said, Code.NO_CONVOLUTION)
        found[role] = numbers
    return found
