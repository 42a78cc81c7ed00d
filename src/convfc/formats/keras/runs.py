"""Runs of affine layers in a graph: each is one matrix, or some, where that is smaller.

A strand is a chain of calls, each of which alone reads what the one before it makes, of layers that
are affine or look at one number at a time. Affine ones in a row, with nothing between them, are
cut into runs so that their matrices have the fewest numbers.

    Conv2D, BatchNormalization, ReLU, AveragePooling2D, Flatten, Dense
    one run, which carries the ReLU; and another of three layers
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import keras
from keras import activations, layers

from convfc.core.whole import MaxPool
from convfc.formats.keras.affine import Affine, Move, Product, Shape, geometry_of
from convfc.formats.keras.archive import ZIP
from convfc.formats.keras.convolutions import CONVOLUTIONS
from convfc.formats.keras.internals import calls_of, flat_layers, mask_on
from convfc.formats.keras.max_pooling import maximum
from convfc.formats.keras.sites import Place, graph_of
from convfc.formats.keras.steps import (
    NOTHING,
    WIDE,
    Call,
    fits,
    function_of,
    is_elementwise,
    is_regular,
    is_simple,
    is_wide,
    steps_of,
)
from convfc.formats.keras.stock import GLOBAL_AVERAGE, MAXIMUM, POOLING
from convfc.formats.protocols import Site
from convfc.formats.reading import Reading

Layer = Any
"""A `keras.Layer`; keras has no types."""
_NOT_NEGATIVE = (
    *(activations.relu, activations.relu6, activations.sigmoid, activations.hard_sigmoid),
    *(activations.softplus, activations.exponential),
)
"""Activations of which nothing negative comes."""
_MOST_NUMBERS = 2**38
"""Of a matrix: a terabyte. Nobody looks into layers beyond it, whose rows alone take gigabytes."""
_POOLED = (*POOLING, *GLOBAL_AVERAGE)


@dataclass(frozen=True)
class _Piece:
    """A layer, or a part of one, and what it does; no steps of one that does nothing."""

    layer: Layer
    steps: Sequence[Affine] = ()
    inner: bool = False


@dataclass(frozen=True, eq=False)
class Own:
    """An activation that looks at an image: a layer of its own, behind that of which it is.

    Attributes:
        layer: whose it is.
    """

    layer: Layer


@dataclass(eq=False)
class Run:
    """Affine layers in a row that become one matrix.

    Attributes:
        steps: what they do.
        layers: the model's own, in their order; also those that do nothing, and what it carries.
        rows: whether the model is to take and make rows.
        inner: whether it begins within a layer, so that nobody sees what it is fed.
        activation: what its matrix carries.
        name: of the site.
        stem: of that name: what its head is called.
    """

    steps: list[Affine]
    layers: list[Layer]
    rows: bool
    inner: bool
    activation: Any = activations.linear
    name: str = ""
    stem: str = ""

    @classmethod
    def of(cls, pieces: Sequence[_Piece], *, rows: bool) -> Run:
        """A run of such pieces."""
        steps = [step for piece in pieces for step in piece.steps]
        return cls(steps, [piece.layer for piece in pieces], rows, pieces[0].inner)

    @property
    def kind(self) -> str:
        """The class of the layer that it is named after."""
        return type(self.head).__name__

    @property
    def only_shapes(self) -> bool:
        """Whether all numbers stay where and what they are."""
        moves = all(step.stays for step in self.steps)
        return moves and self.activation is activations.linear

    @property
    def head(self) -> Layer:
        """The layer that it is named after: a convolution, if it has one."""
        kinds = (CONVOLUTIONS, _POOLED, (layers.Dense,))
        found = (one for kind in kinds for one in self.layers if isinstance(one, kind))
        return next(found, self.layers[0])

    @property
    def is_site(self) -> bool:
        """Whether it is to be written as a matrix: not what is one, or only changes places."""
        if any(isinstance(one, (*CONVOLUTIONS, *_POOLED)) for one in self.layers):
            return True
        left = [one for one in self.steps if not one.stays]
        dense = len(left) == 1 and isinstance(left[0], Product) and len(left[0].before) == 1
        return self.rows and bool(left) and not (dense and "bias" in left[0].numbers)

    @property
    def before(self) -> Shape:
        """Sizes of a sample of its input."""
        return self.steps[0].before

    @property
    def after(self) -> Shape:
        """Sizes of a sample of its output."""
        return self.steps[-1].after

    @property
    def adds(self) -> bool:
        """Whether it adds anything."""
        return any({"bias", "shift"} & step.numbers.keys() for step in self.steps)

    @property
    def layer(self) -> Layer:
        """See `Place.layer`."""
        return self.head

    @property
    def fed(self) -> Layer | None:
        """See `Place.fed`; ``None`` where nobody can see that."""
        return None if self.inner else self.layers[0]

    def site(self, _format: str) -> Site:
        """See `Place.site`."""
        conv, sizes, _first = geometry_of(self.steps)
        return Site(
            self.name,
            self.kind,
            conv,
            sizes=sizes,
            dtype=self.head.compute_dtype,
            bias=self.adds,
            kept=self.head.variable_dtype,
        )


@dataclass(eq=False)
class Strand:
    """A chain of calls.

    Attributes:
        calls: in their order.
        items: what they are: runs, activations, and layers that look at one number at a time.
        dropped: layers that do nothing at inference and something while a model trains.
    """

    calls: list[Call]
    items: list[Run | Own | Layer] = field(default_factory=list)
    dropped: list[Layer] = field(default_factory=list)


def strands_of(model: Any, reading: Reading, stems: Mapping[int, str]) -> list[Strand]:
    """The strands of a stock model with a run that is a site in them, in the order of execution.

    Args:
        model: Sequential or Functional.
        reading: whether MaxPool is written in products and ReLU, and whether the ports are rows.
        stems: what layers are called, by `id`, if not by their names.
    """
    graph = graph_of(model)
    calls = [call for call in calls_of(graph) if not call.is_input]
    readers: Counter[int] = Counter(id(x) for call in calls for x in call.input_tensors)
    outputs = set(map(id, graph.outputs))
    often = Counter(id(call.operation) for call in calls)
    inner = (
        x
        for call in calls
        if isinstance(call.operation, keras.Layer)
        for x in flat_layers(call.operation)[1:]
    )
    often.update(map(id, inner))
    by_input = {id(call.input_tensors[0]): call for call in calls if len(call.input_tensors) == 1}
    found, done = list[Strand](), set[int]()
    for first in calls:
        builder, call = _Builder(reading), first
        while id(call) not in done and often[id(call.operation)] == 1 and builder.takes(call):
            done.add(id(call))
            (made,) = call.outputs
            after = by_input.get(id(made))
            if id(made) in outputs or readers[id(made)] != 1 or after is None:
                break
            call = after
        strand = builder.end()
        if any(isinstance(item, Run) and item.is_site for item in strand.items):
            found.append(strand)
    _name(found, stems)
    return found


def runs_of(strands: Sequence[Strand]) -> Iterator[Run]:
    """The runs that are sites."""
    for strand in strands:
        yield from (one for one in strand.items if isinstance(one, Run) and one.is_site)


def _name(strands: Sequence[Strand], stems: Mapping[int, str]) -> None:
    taken: set[str] = set()
    for run in runs_of(strands):
        run.stem = stems.get(id(run.head), run.head.name)
        run.name, count = run.stem, 1
        while run.name in taken:
            count += 1
            run.name = f"{run.stem}_{count}"
        taken.add(run.name)


class _Builder:
    """Takes calls one after another, as long as they belong to one strand."""

    def __init__(self, reading: Reading) -> None:
        self._relu, self._rows = reading.max_pool is MaxPool.RELU, reading.flat_io
        self._strand = Strand([])
        self._pending: list[_Piece] = []
        self._negative = True

    def takes(self, call: Call) -> bool:
        """Add a call, if it goes on; whether it does."""
        taken = is_simple(call) and self._take(call)
        if taken:
            self._strand.calls.append(call)
        return taken

    def end(self) -> Strand:
        """All of it."""
        self._close()
        return self._strand

    def _take(self, call: Call) -> bool:
        layer, x, y = call.operation, call.input_tensors[0], call.outputs[0]
        before, after = tuple(x.shape[1:]), tuple(y.shape[1:])
        masked = mask_on(x) is not None
        if type(layer) in CONVOLUTIONS:
            refused = Place(layer.name, layer, shapes=[tuple(x.shape)]).site(ZIP).refusal
            alone = masked or not is_wide(layer) or x.dtype != layer.compute_dtype
            steps = steps_of(layer, before, after) if refused is None else None
            return steps is not None and self._add(layer, [steps], alone=alone)
        if masked or x.dtype not in WIDE:
            return False
        if type(layer) in NOTHING and x.dtype == layer.compute_dtype:
            return self._nothing(layer)
        if is_elementwise(layer, before):
            return self._elementwise(layer, after)
        if not is_wide(layer) or x.dtype != layer.compute_dtype:
            return False
        if math.prod((*before, *after)) > _MOST_NUMBERS:
            return False
        if type(layer) in MAXIMUM:
            lists = maximum(layer, before, negative=self._negative) if self._relu else None
            return lists is not None and self._add(layer, lists)
        steps = steps_of(layer, before, after)
        return steps is not None and self._add(layer, [steps])

    def _add(self, layer: Layer, lists: Sequence[list[Affine]], *, alone: bool = False) -> bool:
        """Add what a layer does: steps, with a ReLU between each of several such lists."""
        if alone or any(one.layer.dtype_policy != layer.dtype_policy for one in self._pending):
            self._close()
        moves = all(isinstance(step, Move) for step in lists[0])
        # The largest of what is not negative is not; of anything else that is affine, who knows?
        negative = self._negative if len(lists) > 1 or moves else True
        for number, steps in enumerate(lists):
            if number:
                self._close(activations.relu)
            self._pending.append(_Piece(layer, steps, inner=number > 0))
        self._negative = negative
        own = getattr(layer, "activation", None) or activations.linear
        if not fits(own, lists[-1][-1].after) or is_regular(layer):
            self._close()
            self._strand.items.append(Own(layer))
        elif own is not activations.linear or alone:
            self._close(own)
        return True

    def _nothing(self, layer: Layer) -> bool:
        """Dropout, which hands on what it reads."""
        if self._rows or self._pending:
            self._strand.dropped.append(layer)
            self._pending += [_Piece(layer)] if self._pending else []
            return True
        kept = type(layer) is layers.Dropout and layer.noise_shape is None
        self._strand.items += [layer] if kept else []
        return kept

    def _elementwise(self, layer: Layer, after: Shape) -> bool:
        own = function_of(layer)
        alike = self._pending and self._pending[-1].layer.dtype_policy == layer.dtype_policy
        if alike and own is not None and fits(own, after) and not is_regular(layer):
            self._pending.append(_Piece(layer))
            if own is not activations.linear:
                self._close(own)
        else:
            self._close()
            self._strand.items.append(layer)
            self._negative = own not in _NOT_NEGATIVE
        return True

    def _close(self, activation: Any = activations.linear) -> None:
        """End what is affine so far, by an activation or something else."""
        runs = [Run.of(part, rows=self._rows) for part in _cut(self._pending)]
        if runs:
            runs[-1].activation = activation
            self._strand.items += runs
            if activation is not activations.linear:
                self._negative = activation not in _NOT_NEGATIVE
        self._pending = []


def _cut(pending: Sequence[_Piece]) -> list[list[_Piece]]:
    """Layers in a row as parts, each one matrix, that have the fewest numbers together."""
    # What does nothing goes with what is before it.
    groups: list[list[_Piece]] = []
    for piece in pending:
        if piece.steps:
            groups.append([piece])
        else:
            groups[-1].append(piece)
    best: list[tuple[int, list[list[_Piece]]]] = [(0, [])]
    for end in range(1, len(groups) + 1):
        columns = math.prod(groups[end - 1][0].steps[-1].after)
        ways = [
            (best[at][0] + math.prod(groups[at][0].steps[0].before) * columns, at)
            for at in range(end)
        ]
        numbers, at = min(ways, key=lambda way: (way[0], -way[1]))  # or with what is before
        best.append((numbers, [*best[at][1], list(chain(*groups[at:end]))]))
    return best[-1][1]
