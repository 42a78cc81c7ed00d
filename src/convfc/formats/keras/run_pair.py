"""A run of affine layers twice, alone: as Keras computes it, and as one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.core.arrays import Array, array_difference
from convfc.core.whole import Form
from convfc.formats.keras.affine import Affine, Numbers, fed_to, geometry_of
from convfc.formats.keras.calls import Calls
from convfc.formats.keras.flat import matrix_of
from convfc.formats.keras.likeness import emitted_unlike
from convfc.formats.keras.memory import hand_over
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import running
from convfc.formats.keras.runs import Run
from convfc.formats.protocols import Site

Layer = Any
"""A `keras.Layer`; keras has no types."""


class RunPair:
    """See `convfc.formats.protocols.LayerPair` for the members.

    Args:
        site: of the run.
        run: the original's layers.
        made: the Dense in their place.
        expected: the one that convfc would put there, without its numbers.
    """

    quantization = None
    rounds_to_integers = False
    form = Form.DENSE
    training = None

    def __init__(self, site: Site, run: Run, made: Layer, expected: Layer) -> None:
        self.site = site
        self._run, self._made, self._expected = run, made, expected

    @property
    def stages(self) -> tuple[int, ...]:
        """See `LayerPair.stages`."""
        return tuple(step.terms for step in self._run.steps if step.terms)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """See `LayerPair.input_shape`."""
        return (None, *fed_to(self._run.steps))

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """See `LayerPair.smallest_shape`."""
        return (1, *fed_to(self._run.steps))

    @property
    def channels_last(self) -> bool:
        """See `LayerPair.channels_last`."""
        return not geometry_of(self._run.steps)[2]

    @property
    def kernel_order(self) -> tuple[int, ...]:
        """See `LayerPair.kernel_order`."""
        conv = self.site.convolution
        return tuple(range(2 if conv is None else conv.rank + 2))

    @cached_property
    def parameters(self) -> Mapping[str, Array]:
        """See `LayerPair.parameters`."""
        return {
            _named(number, step, name): value
            for number, step in enumerate(self._run.steps)
            for name, value in step.numbers.items()
        }

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """See `LayerPair.parameter_shape`."""
        return self.parameters[name].shape

    def parameter_dtype(self, name: str) -> str:  # noqa: ARG002 - all are held alike
        """See `LayerPair.parameter_dtype`."""
        return str(self._made.variable_dtype)

    @cached_property
    def problem(self) -> str | None:
        """See `LayerPair.problem`."""
        for value, weight in zip(
            matrix_of(self._run, self._made), self._made.weights, strict=False
        ):
            new = np.asarray(weight)
            if value.shape != new.shape or value.dtype != new.dtype:
                continue
            difference = array_difference(value, new)
            if difference is not None:
                return f"its weights are not the convolution's: one {difference}"
        return None

    @cached_property
    def structure(self) -> str | None:
        """See `LayerPair.structure`."""
        words = emitted_unlike(self._expected, self._made)
        return None if words is None else f"'{self._made.name}' {words}"

    @property
    def unshown(self) -> str | None:
        """See `LayerPair.unshown`."""
        return "its numbers would go into another layer"

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.run`; activations are left out on both sides."""
        policy = self._made.dtype_policy
        return self.original(x, parameters), self._product(x, parameters, policy)

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        """See `LayerPair.original`."""
        return self._steps(x, parameters, self._made.dtype_policy)

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.exact`: Keras again, in float64."""
        wide = x.astype(np.float64)
        both = self._steps, self._product
        a, b = (compute(wide, parameters, "float64") for compute in both)
        return a, b

    def _steps(self, x: Array, parameters: Mapping[str, Array], policy: Any) -> Array:
        """What the original's layers make of it."""
        x = x.reshape(len(x), *self._run.before)
        with running(), overheard():
            for step, numbers in zip(self._run.steps, self._numbers(parameters), strict=True):
                x = step.original(x, numbers, policy)
        return x.reshape(len(x), -1)

    def _product(self, x: Array, parameters: Mapping[str, Array], policy: Any) -> Array:
        """What a Dense makes of it, without activation, with weights from the parameters.

        Without any, these are the file's own.
        """
        row = x.reshape(len(x), -1)
        own = self._made.weights
        adds = self._run.adds if parameters else len(own) > 1
        given = {"use_bias": adds, "kernel_initializer": "zeros", "dtype": policy}
        dense = layers.Dense(self._made.units, **given)
        with running(), overheard():
            dense.build(row.shape)
            if parameters:
                made = matrix_of(self._run, dense, self._numbers(parameters))
                for weight, value in zip(dense.weights, made, strict=True):
                    hand_over(value, weight)
            else:
                for weight, value in zip(dense.weights, own, strict=True):
                    weight.assign(value)
            return np.asarray(keras.ops.convert_to_numpy(Calls(dense)(row)))

    def _numbers(self, parameters: Mapping[str, Array]) -> list[Numbers]:
        """Those of each step, of which some may be given."""
        given = {**self.parameters, **parameters}
        return [
            {name: given[_named(number, step, name)] for name in step.numbers}
            for number, step in enumerate(self._run.steps)
        ]


def _named(number: int, step: Affine, name: str) -> str:
    """What a parameter is called, of which several layers may have one of the same name."""
    return f"{number}/{step.name}/{name}"
