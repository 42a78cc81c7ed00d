"""The decision, before anything is written: what becomes of each convolution of a model."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from convfc import arguments
from convfc.core.arrays import numpy_type
from convfc.core.dense import DENSE_LIMIT, lower_chain
from convfc.core.figures import Order, figure
from convfc.core.geometry import AnyConvolution
from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.core.whole import Form
from convfc.errors import GeometryError, UsageError
from convfc.formats.inner import LayerOutput
from convfc.formats.protocols import Site
from convfc.formats.reading import Reading
from convfc.formats.registry import open_model
from convfc.gates import gated
from convfc.refusals import Code, Refusal
from convfc.system.surroundings import undisturbed
from convfc.text.shown import Shown
from convfc.text.sizes import bytes_text


class Fate(StrEnum):
    """What became of one convolution."""

    CONVERTED = "converted"
    REVERTED = "reverted"
    """It is a convolution again."""
    LEFT = "left"
    """It was asked for and could not be converted, or reverted."""
    SKIPPED = "skipped"
    """It was not asked for."""


@dataclass(frozen=True, repr=False)
class Layer:
    """One convolution and what became of it.

    Attributes:
        site: the convolution.
        fate: converted, left or skipped.
        lowering: how, where there is a way.
        refusal: why it was left, else ``None``.
        output: what holds its output in the converted file, where values have names.
    """

    site: Site
    fate: Fate
    lowering: Lowering | None = None
    refusal: Refusal | None = None
    output: LayerOutput | None = None

    @property
    def reason(self) -> str | None:
        """Why it was left, in words; else ``None``."""
        return None if self.refusal is None else self.refusal.reason

    def __repr__(self) -> str:
        reason = "" if self.reason is None else f": {self.reason}"
        return f"<Layer {self.site.name!r}: {self.site.kind}, {self.fate.value}{reason}>"


@dataclass(frozen=True)
class Totals:
    """Sums over the layers that can be converted; ``None`` where an open size leaves one unknown.

    Attributes:
        layers: how many these are.
        left: how many others there are.
        weights: numbers in their kernels.
        multiply_adds: of one sample.
        patch_bytes: of their patch matrices, for one sample, if all were there at once.
        matrix_bytes: of their matrices in the dense form.
    """

    layers: int
    left: int
    weights: int
    multiply_adds: int | None
    patch_bytes: int | None
    matrix_bytes: int | None


class ModelShapes(Shown, tuple[Layer, ...]):
    """Every convolution of a model, in the order of execution.

    Attributes:
        model: the file.
        form: the form that was asked about.
    """

    model: Path
    form: Form

    def __new__(cls, layers: Iterable[Layer], model: Path, form: Form) -> ModelShapes:
        """The layers of a file."""
        made = super().__new__(cls, layers)
        made.model, made.form = model, form
        return made

    def __getnewargs__(self) -> tuple[tuple[Layer, ...], Path, Form]:
        return tuple(self), self.model, self.form

    @property
    def totals(self) -> Totals:
        """Sums over its layers."""
        known = [layer for layer in self if layer.lowering is not None]

        def total(order: Order) -> int | None:
            numbers = [_number(layer, order) for layer in known]
            there = [number for number in numbers if number is not None]
            return sum(there) if len(there) == len(numbers) else None

        orders = (Order.MULTIPLY_ADDS, Order.PATCHES, Order.MATRIX)
        weights = total(Order.WEIGHTS) or 0
        return Totals(len(known), len(self) - len(known), weights, *map(total, orders))

    def sorted(self, order: Order | str) -> ModelShapes:
        """The same layers in another order; those whose number is unknown come last.

        Args:
            order: what they are sorted by.

        Raises:
            UsageError: there is no such order.
        """
        order = arguments.choice("order", order, Order)

        def key(layer: Layer) -> tuple[bool, int, str]:
            number = _number(layer, order)
            return number is None, -(number or 0), layer.site.name if order is Order.LAYER else ""

        return ModelShapes(sorted(self, key=key), self.model, self.form)


def _number(layer: Layer, order: Order) -> int | None:
    """What a layer is sorted by, if that is known."""
    if layer.lowering is None:
        return None
    return figure(layer.lowering, layer.site.itemsize, order)


def plan(
    sites: Sequence[Site],
    patches: PatchMethod | str = PatchMethod.AUTO,
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    memory: int | None = None,
    methods: frozenset[PatchMethod] = frozenset(PatchMethod),
    form: Form | str = Form.PATCHES,
    dense_limit: int | None = None,
) -> tuple[Layer, ...]:
    """Decide the fate of every site.

    Args:
        sites: the convolutions of a model.
        patches: how patches are to be built.
        only: patterns of the names to convert (`*`, `?`, `[..]`), or one of them; all when empty.
        skip: patterns of the names to leave alone.
        memory: bytes that the patches of one sample may take in a layer; see `lower`.
        methods: those that may be taken, where a site has them.
        form: what they become.
        dense_limit: bytes that the matrices of all layers in the dense form may take together;
            1 GiB if ``None``. One that is too much is left, and those behind it may still fit.

    Raises:
        UsageError: a pattern that matches no site, or an argument of another kind.
    """
    method = arguments.choice("patches", patches, PatchMethod)
    dense = arguments.choice("form", form, Form) is Form.DENSE
    if dense_limit is not None:
        dense_limit = arguments.whole("dense_limit", dense_limit, 1)
    if memory is not None:
        memory = arguments.whole("patch_memory", memory, 1)
    wanted = asked_for([site.name for site in sites], only, skip)
    choose = cache(lower)  # nets repeat their layers
    room = _Room(DENSE_LIMIT if dense_limit is None else dense_limit)

    def decided(site: Site) -> Layer:
        if site.name not in wanted:
            return Layer(site, Fate.SKIPPED)
        if dense:
            return _layer(site, lambda conv: _dense(site, conv, room))
        how = (site.sizes, method, site.methods & methods)
        return _layer(site, lambda conv: choose(conv, *how, site.itemsize, memory, site.banded))

    return tuple(map(decided, sites))


def asked_for(
    names: Sequence[str], only: str | Sequence[str], skip: str | Sequence[str]
) -> frozenset[str]:
    """The names of the layers that are to be worked on.

    Args:
        names: of all layers.
        only: patterns of those that are wanted, or one of them; all when empty.
        skip: patterns of those that are not.

    Raises:
        UsageError: a pattern that matches none.
    """
    only, skip = arguments.texts("only", only), arguments.texts("skip", skip)
    for pattern in (*only, *skip):
        if not any(fits([name], [pattern]) for name in names):
            raise UsageError(no_layer_called(pattern, names))
    return frozenset(n for n in names if (fits([n], only) or not only) and not fits([n], skip))


def fits(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether one of a layer's names fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def no_layer_called(pattern: str, names: Sequence[str]) -> str:
    """What is said of a pattern that fits no layer.

    Args:
        pattern: that.
        names: of all layers.
    """
    there = ", ".join(names[:8]) or "none"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"no convolution is called '{pattern}'; there are: {there}{more}"


@dataclass
class _Room:
    """Bytes that the matrices of a file may take, and what they take so far."""

    limit: int
    taken: int = 0


def _dense(site: Site, convolution: AnyConvolution, room: _Room) -> Lowering | Refusal:
    """A site as one matrix, if that can be and there is room for it."""
    chain = lower_chain((convolution, *site.rest), site.sizes, site.itemsize)
    if isinstance(chain, Refusal):
        return chain
    shapes = [lowering.filter_matrix for lowering in chain]
    size = (
        sum(rows * columns for rows, columns in shapes)
        * numpy_type(site.kept or site.dtype).itemsize
    )
    if room.taken + size > room.limit:
        beside = f", beside {bytes_text(room.taken)} of others"
        others = beside if size <= room.limit else ""
        told = " and ".join(f"{rows:,} x {columns:,}" for rows, columns in shapes)
        what = "matrix of {} takes" if len(shapes) == 1 else "matrices of {} take"
        why = f"its {what.format(told)} {bytes_text(size)}{others}"
        return Refusal(f"{why}, and {bytes_text(room.limit)} is the limit", Code.DENSE_LIMIT)
    room.taken += size
    return chain[0]


def _layer(site: Site, choose: Callable[[AnyConvolution], Lowering | Refusal]) -> Layer:
    if site.convolution is None or site.refusal is not None:
        return Layer(site, Fate.LEFT, refusal=site.refusal)
    try:
        lowering = choose(site.convolution)
    except GeometryError as error:
        return Layer(site, Fate.LEFT, refusal=Refusal(str(error), error.code))
    if isinstance(lowering, Refusal):
        return Layer(site, Fate.LEFT, refusal=lowering)
    return Layer(site, Fate.CONVERTED, lowering)


@undisturbed()
@gated
def shapes(
    model: str | Path,
    *,
    form: Form | str = Form.PATCHES,
    patch_memory: int | None = None,
    imports: Sequence[str] = (),
) -> ModelShapes:
    """Every convolution of a model with its geometry and the lowering that it would get.

    For a single convolution without a model, `convfc.lower(convfc.convolution(..), sizes)` has
    the same figures.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        form: which form is asked about: in the dense one, what is affine around convolutions is
            one, too. The lowerings are those of patches all the same, and say what M is.
        patch_memory: bytes that the patches of one sample may take in a layer; see `lower`.
        imports: modules that register custom Keras classes; looked for in the current folder, too.

    Returns:
        The layers, as a tuple that also has their `totals` and puts them into another order.

    Raises:
        UsageError: one of the modules cannot be imported, or an argument of another kind.
        FileError: the file cannot be read.
        UnsupportedModelError: it holds something that convfc cannot load.
    """
    form = arguments.choice("form", form, Form)
    opened = open_model(Path(model), imports, Reading(affine=form is Form.DENSE))
    return ModelShapes(plan(opened.sites, memory=patch_memory), Path(model), form)
