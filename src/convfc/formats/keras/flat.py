"""A model in the dense form: matrices on rows, and an image only where something looks at one.

What a matrix makes is a row. A Reshape makes an image of it, but nobody reads that if all that
follows works on rows as well: the next matrix, what looks at one number at a time, a sum of two, a
Flatten. So between neighbours there is none. With rows for its inputs and outputs, a chain of such
layers is a Sequential of Dense.

    Conv2D, ReLU, Conv2D, Flatten, Dense    =    Reshape, Dense, Dense, Dense
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.core.arrays import Array, numpy_type
from convfc.errors import UnsupportedModelError
from convfc.formats.keras.affine import Numbers, Shape
from convfc.formats.keras.composition import one_matrix
from convfc.formats.keras.internals import calls_of, run_through, source
from convfc.formats.keras.memory import hand_over
from convfc.formats.keras.runs import Own, Run, Strand
from convfc.formats.keras.sites import graph_of
from convfc.formats.keras.steps import by_number
from convfc.formats.keras.stock import MAXIMUM
from convfc.refusals import Code

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""
Tensor = Any
"""A `keras.KerasTensor`."""

_MERGING = (
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Average),
    *(layers.Maximum, layers.Minimum),
)
"""What does number by number, too, with several images of the same sizes."""
_CHAINED = (
    *(layers.Dense, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU),
    layers.Softmax,
)
"""What a Sequential of Dense is made of."""


class Flattened:
    """A model in the dense form; it shares all other layers with the one that it is made of.

    Args:
        model: a stock Sequential or Functional model.
        strands: of it.
        converted: the names of the runs that become matrices.
        rows: whether its inputs and outputs are rows.
        numbers: whether the matrices have theirs; else they are zeros.

    Attributes:
        model: the result.
        made: the Dense of each run, by its name.
        obstacle: why it is no Sequential of Dense, in a phrase; ``None``: it is, or need not be.

    Raises:
        UnsupportedModelError: a layer becomes several matrices, of which only some are converted.
    """

    def __init__(
        self,
        model: Layer,
        strands: Sequence[Strand],
        converted: Collection[str],
        *,
        rows: bool,
        numbers: bool = True,
    ) -> None:
        self.made: dict[str, Layer] = {}
        self.obstacle: str | None = None
        self._converted, self._rows, self._numbers = converted, rows, numbers
        graph = graph_of(model)
        calls = [call for call in calls_of(graph) if not call.is_input]
        self._calls = Counter(id(call.operation) for call in calls)
        outputs = set(map(id, graph.outputs))
        self._ends = {
            id(call.operation) for call in calls if outputs.intersection(map(id, call.outputs))
        }
        self._end_names = {
            call.operation.name for call in calls if id(call.operation) in self._ends
        }
        self._taken = {operation.name for operation in graph.operations}
        self._row_of: dict[int, Tensor] = {}
        self._held: list[Tensor] = []  # or another tensor may have the id of one
        self._first = {id(one.calls[0].operation): one for one in strands}
        self._last = {id(one.calls[-1].operation): one for one in strands}
        self._within = {id(call.operation) for one in strands for call in one.calls[:-1]}
        self._fed: dict[int, Tensor] = {}
        images = [self._input(x) for x in graph.inputs]
        found = run_through(graph, [image for _, image in images], self._visited)
        if rows:
            found = keras.tree.map_structure(self._returned, graph.output, found)
        inputs = keras.tree.pack_sequence_as(graph.input, [given for given, _ in images])
        whole = keras.Model(inputs, found, name=model.name)
        self.model = (self._in_sequence(whole) if rows else None) or whole

    def _input(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """An input, a row if that is wanted, and the image that is read."""
        sizes, batch = tuple(tensor.shape[1:]), tensor.shape[0]
        as_row = self._rows and len(sizes) > 1 and None not in sizes
        shape = (math.prod(sizes),) if as_row else sizes
        given = keras.Input(shape, batch_size=batch, dtype=tensor.dtype, name=tensor.name)
        if not as_row:
            return given, given
        return given, self._image(given, sizes, self._fresh(f"{tensor.name}_image"))

    def _returned(self, output: Tensor, made: Tensor) -> Tensor:
        """The row of an output, if that is called as the output is: another reader may have one."""
        row = self._row_of.get(id(made), made)
        return row if source(row)[0].name == source(output)[0].name else made

    def _visited(self, operation: Layer) -> Callable[..., Any]:
        """What is done in the place of an operation."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if id(operation) in self._first:
                self._fed[id(self._first[id(operation)])] = args[0]
            if id(operation) in self._within:
                return args[0]  # nobody reads it but the strand
            if id(operation) in self._last:
                return self._strand(self._last[id(operation)])
            return self._other(operation, *args, **kwargs)

        return call

    def _strand(self, strand: Strand) -> Tensor:
        """A chain, one item after another."""
        runs = [item for item in strand.items if isinstance(item, Run)]
        self._refuse_parts(runs)
        final, x = strand.calls[-1].operation, self._fed[id(strand)]
        end = final if id(final) in self._ends else None
        after, count = tuple(strand.calls[-1].outputs[0].shape[1:]), len(strand.items)
        while self._only_shapes(strand.items[count - 1]):
            count -= 1
        applied: set[int] = set()
        for number, item in enumerate(strand.items):
            last = number == count - 1
            if isinstance(item, Run) and self._is_made(item):
                x = self._run(item, x, end if last else None, after if last else item.after)
            elif isinstance(item, Own) and id(item.layer) in applied:
                continue
            elif isinstance(item, Own):
                x = self._own(item.layer, x, end if number == len(strand.items) - 1 else None)
            elif not isinstance(item, Run):
                x = self._one(item, x, end if last else None, after if last else None)
            elif not (number >= count and tuple(x.shape[1:]) == after):
                for layer in item.layers:
                    x = x if id(layer) in applied else self._other(layer, x)
                    applied.add(id(layer))
        made = {source(one)[0].name for one in (x, self._row_of.get(id(x), x))}
        # What does nothing is left out, unless it gives an output its name.
        return x if end is None or end.name in made else self._one(end, x, end, after)

    def _only_shapes(self, item: Run | Own | Layer) -> bool:
        return isinstance(item, Run) and not self._is_made(item) and item.only_shapes

    def _is_made(self, run: Run) -> bool:
        return run.is_site and run.name in self._converted

    def _refuse_parts(self, runs: Sequence[Run]) -> None:
        """Refuse to convert a part of a layer."""
        fates: dict[int, bool] = {}
        for run in runs:
            for layer in run.layers:
                if fates.setdefault(id(layer), self._is_made(run)) != self._is_made(run):
                    raise UnsupportedModelError(
                        f"'{layer.name}' becomes several matrices, of which some are left",
                        remedy="convert all of them, or leave --max-pool out",
                        code=Code.NOT_KEPT,
                    )

    def _run(self, run: Run, x: Tensor, end: Layer | None, sizes: Shape) -> Tensor:
        """One matrix."""
        own = {layer.name for layer in run.layers}
        stem = run.name.rpartition("/")[2]  # which no name of a layer has in it
        free = stem in own or stem not in self._taken
        free = free and not (end is None and stem in self._end_names)
        name, image = self._names(end, sizes, stem if free else self._fresh(stem))
        dense = layers.Dense(
            math.prod(run.after),
            activation=run.activation,
            use_bias=run.adds or self._rows,
            kernel_initializer="zeros",  # random numbers take long
            name=name,
            dtype=run.head.dtype_policy,
        )
        y = dense(self._row(x, stem))
        dense.trainable = any(layer.trainable for layer in run.layers)
        self.made[run.name] = dense
        if self._numbers:
            for weight, value in zip(dense.weights, matrix_of(run, dense), strict=True):
                hand_over(value, weight)
        return self._image(y, sizes, image)

    def _own(self, layer: Layer, x: Tensor, end: Layer | None) -> Tensor:
        """An activation that looks at an image, or has a penalty on it."""
        name = self._fresh(f"{layer.name}_activation") if end is None else end.name
        given = {"activity_regularizer": layer.activity_regularizer, "dtype": layer.dtype_policy}
        return layers.Activation(layer.activation, name=name, **given)(x)

    def _one(self, layer: Layer, x: Tensor, end: Layer | None, sizes: Shape | None) -> Tensor:
        """What looks at one number at a time, on rows if it stands behind a matrix."""
        row = self._row_of.get(id(x), x if len(x.shape) == 2 else None)
        if row is None or not by_number(layer):
            return layer(x)
        made = tuple(x.shape[1:]) if sizes is None else sizes
        name, image = self._names(end, made, layer.name)
        return self._image(_copy(layer, name)(row), made, image)

    def _other(self, operation: Layer, *args: Any, **kwargs: Any) -> Any:
        """What is no matrix: on rows, where that is the same."""
        tensors = [
            x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
        ]
        rows = [self._row_of.get(id(x)) for x in tensors]
        kind, is_end = type(operation), id(operation) in self._ends
        if not rows or None in rows or self._calls[id(operation)] != 1:
            return operation(*args, **kwargs)
        if _keeps_order(operation, tensors[0].dtype) and not is_end:
            made = tuple(operation.compute_output_spec(*args).shape[1:])
            return self._image(rows[0], made, self._fresh(f"{operation.name}_image"))
        told = any(value not in (None, False) for value in (*args[1:], *kwargs.values()))
        if by_number(operation) and len(tensors) == 1 and not told:
            return self._one(operation, tensors[0], operation if is_end else None, None)
        sizes = {tuple(x.shape[1:]) for x in tensors}
        if kind not in _MERGING or len(args) != 1 or kwargs or len(sizes) != 1:
            return operation(*args, **kwargs)
        (made,) = sizes
        name, image = self._names(operation if is_end else None, made, operation.name)
        return self._image(_copy(operation, name)(rows), made, image)

    def _row(self, x: Tensor, name: str) -> Tensor:
        """The row of an image."""
        if len(x.shape) == 2:
            return x
        if id(x) not in self._row_of:
            shape = (math.prod(x.shape[1:]),)
            row = layers.Reshape(shape, name=self._fresh(f"{name}_row"), dtype=x.dtype)(x)
            self._row_of[id(x)] = row
            self._held.append(x)
        return self._row_of[id(x)]

    def _image(self, row: Tensor, sizes: Shape, name: str) -> Tensor:
        """The image of a row, which is no part of the model if nobody reads it."""
        if len(sizes) == 1:
            return row
        made = layers.Reshape(sizes, name=name, dtype=row.dtype)(row)
        self._row_of[id(made)] = row
        self._held.append(made)
        return made

    def _names(self, end: Layer | None, sizes: Shape, name: str) -> tuple[str, str]:
        """Of what makes a row, and of the image: an output is called as in the original."""
        if end is None:
            return name, self._fresh(f"{name}_image")
        if self._rows or len(sizes) == 1:
            return end.name, self._fresh(f"{end.name}_image")
        return (self._fresh(name) if name == end.name else name), end.name

    def _fresh(self, name: str) -> str:
        """A name that no layer has."""
        count, found = 0, name
        while found in self._taken:
            count += 1
            found = f"{name}_{count}"
        self._taken.add(found)
        return found

    def _in_sequence(self, made: Layer) -> Layer | None:
        """A chain as a Sequential; ``None`` where something stands in the way."""
        calls = [call for call in calls_of(graph_of(made)) if not call.is_input]
        others = [x for x in calls if type(x.operation) not in _CHAINED]
        wide = [x for x in calls if len(x.outputs[0].shape) != 2]
        for call in (x for x in (*others, *wide) if type(x.operation) is not layers.Reshape):
            kind = type(call.operation)
            looks = ", and looks at an image" if kind in _CHAINED else ""
            relu = "; --max-pool relu writes it in Dense" if kind in MAXIMUM else ""
            self.obstacle = f"'{call.operation.name}' is of class {kind.__name__}{looks}{relu}"
            return None
        if not len(made.inputs) == len(made.outputs) == 1:
            self.obstacle = "it has several inputs or outputs"
            return None
        often = Counter(call.operation.name for call in calls)
        shared = next((name for name, count in often.items() if count > 1), None)
        if shared is not None:
            self.obstacle = f"'{shared}' is called more than once"
            return None
        (x,) = made.inputs
        for call in calls:
            if call.input_tensors[0] is not x:
                self.obstacle = f"'{call.operation.name}' does not read what is before it"
                return None
            (x,) = call.outputs
        door = keras.Input(
            made.inputs[0].shape[1:],
            batch_size=made.inputs[0].shape[0],
            dtype=made.inputs[0].dtype,
            name=made.inputs[0].name,
        )
        return keras.Sequential([door, *(call.operation for call in calls)], name=made.name)


def matrix_of(run: Run, dense: Layer, numbers: Sequence[Numbers] | None = None) -> list[Array]:
    """Matrix and bias of a run, as a Dense holds them.

    Args:
        run: the layers.
        dense: tells of which types its weights are, and whether it has a bias.
        numbers: for each step of the run; ``None``: its own.
    """
    dtype = numpy_type(dense.kernel.dtype)
    numbers = [step.numbers for step in run.steps] if numbers is None else numbers
    matrix, added = one_matrix(run.steps, numbers, dtype)
    if added is None:
        added = np.zeros(matrix.shape[1])
    with np.errstate(all="ignore"):
        return [matrix, added.astype(dtype, copy=False)][: len(dense.weights)]


def _keeps_order(operation: Layer, dtype: str) -> bool:
    """Whether it hands on a row as it is; a Flatten of channels first moves them behind."""
    flattens = type(operation) is layers.Flatten and operation.data_format == "channels_last"
    kept = flattens or type(operation) is layers.Reshape
    return kept and bool(operation.compute_dtype == dtype)  # or it rounds, say to half precision


def _copy(layer: Layer, name: str) -> Layer:
    return type(layer).from_config({**layer.get_config(), "name": name})
