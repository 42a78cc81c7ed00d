"""One convolution layer of Keras twice, alone: the original's and the model in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np

from convfc.core.arrays import Array, array_difference
from convfc.core.lowering import Lowering
from convfc.core.whole import Form
from convfc.errors import UnsupportedModelError
from convfc.formats.demand import too_much
from convfc.formats.keras.any_processor import compute_anywhere
from convfc.formats.keras.calls import Calls
from convfc.formats.keras.convolutions import convolutions_of, lowered
from convfc.formats.keras.float64 import wide_copy
from convfc.formats.keras.likeness import described, emitted_unlike, first_unlike, weights_of
from convfc.formats.keras.linear import unshown
from convfc.formats.keras.lockstep import Fault, Pairing, lockstep
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.refusals import running
from convfc.formats.keras.workspace import too_much_work
from convfc.formats.protocols import Site
from convfc.refusals import Code

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""

_PLAIN = {"activation": "linear", "data_format": "channels_last"}


class KerasLayerPair:
    """See `convfc.formats.protocols.LayerPair` for the members.

    Args:
        site: the convolution.
        layer: the original's layer.
        made: the model in its place.
        expected: the model that convfc would put there.
        lowering: how that computes it.
        ends_masks: see `replacement`.
    """

    def __init__(
        self,
        site: Site,
        layer: Layer,
        made: Layer,
        expected: Layer,
        lowering: Lowering,
        *,
        ends_masks: bool,
    ) -> None:
        self.site = site
        self._layer = layer
        self._made = made
        self._expected = expected
        self._lowering = lowering
        self._ends_masks = ends_masks

    @property
    def stages(self) -> tuple[int, ...]:
        """See `LayerPair.stages`."""
        return tuple(each.geometry.patch_length for each in convolutions_of(self._layer))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """See `LayerPair.input_shape`."""
        return (None, *self._arranged(self.site.sizes))

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """See `LayerPair.smallest_shape`."""
        windows = convolutions_of(self._layer)[0].geometry.windows
        sizes = tuple(window.probe_size for window in windows)
        return (1, *(size for size in self._arranged(sizes) if size is not None))

    def _arranged(self, sizes: tuple[int | None, ...]) -> tuple[int | None, ...]:
        channels = convolutions_of(self._layer)[0].geometry.channels
        return (*sizes, channels) if self.channels_last else (channels, *sizes)

    @property
    def channels_last(self) -> bool:
        """See `LayerPair.channels_last`."""
        return bool(self._layer.data_format == "channels_last")

    @property
    def kernel_order(self) -> tuple[int, ...]:
        """See `LayerPair.kernel_order`."""
        return tuple(range(convolutions_of(self._layer)[0].geometry.rank + 2))

    quantization = None

    @property
    def form(self) -> Form:
        """See `LayerPair.form`."""
        return self._lowering.form

    @cached_property
    def parameters(self) -> Mapping[str, Array | None]:
        """See `LayerPair.parameters`."""
        return {weight.name: np.asarray(weight) for weight in weights_of(self._layer)}

    def parameter_shape(self, name: str) -> tuple[int, ...]:
        """See `LayerPair.parameter_shape`."""
        return tuple(self._parameter(name).shape)

    def parameter_dtype(self, name: str) -> str:
        """See `LayerPair.parameter_dtype`."""
        return str(self._parameter(name).dtype)

    def _parameter(self, name: str) -> Any:
        return next(weight for weight in weights_of(self._layer) if weight.name == name)

    @property
    def rounds_to_integers(self) -> bool:
        """See `LayerPair.rounds_to_integers`."""
        return False

    @cached_property
    def problem(self) -> str | None:
        """See `LayerPair.problem`."""
        for weight, value in zip(self._made_weights, self._expected_weights, strict=False):
            old, new = np.asarray(value), np.asarray(weight)
            if old.size != new.size or old.dtype != new.dtype:
                continue
            difference = array_difference(old.reshape(-1), new.reshape(-1))
            # In another structure another order may be right: `_misfit`. Not in the emitter's own.
            own = self.structure is None
            if difference is not None and (own or not _arranged_otherwise(old, new)):
                return f"its weights are not the convolution's: one {difference}"
        return None

    @cached_property
    def structure(self) -> str | None:
        """See `LayerPair.structure`."""
        faults = self._pairing.faults
        return faults[0].said if faults else None

    @cached_property
    def unshown(self) -> str | None:
        """See `LayerPair.unshown`."""
        if self._misfit is not None:
            return self._misfit
        return unshown(
            self._made,
            self._layer.activation,
            len(self.stages),
            open_sizes=None in self.site.sizes,
            ends_masks=self._ends_masks,
        )

    @cached_property
    def training(self) -> str | None:
        """What is not as convfc sets it and matters to training only; ``None``: nothing."""
        for old, new in self._pairing.pairs if self.structure is None else ():
            words = first_unlike(described(old).trains, described(new).trains)
            if words is not None:
                return f"layer '{self.site.name}': {words}"
        return None

    @cached_property
    def _pairing(self) -> Pairing:
        """What of the converted layer stands for what of the one that convfc would put there."""
        if isinstance(self._layer.activation, keras.Layer):
            # It gets its numbers at a call, unless it had them when it was saved.
            pairs = zip(self.input_shape, self.smallest_shape, strict=True)
            shape = [size or least for size, least in pairs]
            why = too_much(self, shape)
            if why is not None:
                raise UnsupportedModelError(
                    f"{self.site.name}: it is not run: {why}", code=Code.TOO_LONG
                )
            once = np.zeros(shape, np.float32)
            for model in (self._expected, self._made):
                self._call(Calls(model), once)
        return paired(self._expected, self._made)

    @cached_property
    def _expected_weights(self) -> Sequence[Any]:
        return _weights_in(self._expected)

    @cached_property
    def _made_weights(self) -> Sequence[Any]:
        """The converted layer's, in the order of the expected one's.

        Of a SeparableConv2D: depthwise kernel, pointwise kernel, bias, whatever order Keras has
        them in there.
        """
        if self._pairing.faults:
            return _weights_in(self._made)
        stands_for = self._pairing.weights
        return [stands_for[id(weight)] for weight in self._expected_weights]

    @cached_property
    def _misfit(self) -> str | None:
        """Why it cannot be given the numbers of the original, in a phrase; ``None``: it can."""
        old, new = (
            [np.asarray(w) for w in ws] for ws in (self._expected_weights, self._made_weights)
        )
        if len(old) != len(new):
            return f"it has {len(new)} weights instead of {len(old)}"
        for value, weight in zip(old, new, strict=True):
            if value.dtype != weight.dtype or value.size != weight.size:
                return f"a weight is {weight.dtype} of {weight.shape}, not {value.dtype}"
            if _arranged_otherwise(value, weight):
                return "its weights are in another order"
        return None

    def run(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.run`; activations are left out on both sides."""
        y = self.original(x, parameters)
        if parameters:
            self._carry_over()
        else:
            self._put_back()
        return y, self._call(self._made_calls, x)

    def original(self, x: Array, parameters: Mapping[str, Array]) -> Array:
        """See `LayerPair.original`."""
        self._assign(parameters)
        return self._call_original(self._linear_layer, x)

    def exact(self, x: Array, parameters: Mapping[str, Array]) -> tuple[Array, Array]:
        """See `LayerPair.exact`: Keras again; its float64 has no short cut that would show."""
        self._assign(parameters)
        self._carry_over()
        wide = x.astype(np.float64)
        widened = wide_copy(self._linear_layer)
        compute_anywhere(widened)
        a = self._call_original(widened, wide)
        return a, self._call(Calls(wide_copy(self._linear_made)), wide)

    def _assign(self, parameters: Mapping[str, Array]) -> None:
        for weight, old in zip(self._linear_layer.weights, weights_of(self._layer), strict=True):
            weight.assign(parameters.get(old.name, old))

    def _carry_over(self) -> None:
        """Give the converted layer the numbers that the original's has now, as its matrices.

        A kernel (3, 3, 2, 4) of a Conv2D is the matrix (18, 4), byte for byte. (2, 2, filters 4,
        channels 3) of a Conv2DTranspose with a stride of 2 is (3, 16): one tap, four phases of 4.
        """
        if self._misfit is not None:
            raise UnsupportedModelError(self._misfit, code=Code.NOT_RUN)
        first = not self.channels_last
        values = [
            value
            for each, its in lowered(self._linear_layer, self._lowering)
            for value in each.inner_weights(its, channels_first=first)
        ]
        for weight, value in zip(self._linear_weights, values, strict=True):
            weight.assign(keras.ops.reshape(value, weight.shape))

    def _put_back(self) -> None:
        """Give the copy of the converted layer the numbers that are in the file."""
        for weight, value in zip(self._linear_made.weights, _weights_in(self._made), strict=True):
            weight.assign(value)

    @cached_property
    def _linear_layer(self) -> Layer:
        """The original's layer without its activation.

        Channels last, whatever its own data format: with channels first it is not what is to be
        shown where `bias_goes_astray`, and `compute_anywhere` computes what Keras does there, too.
        """
        config = {**self._layer.get_config(), **_PLAIN}
        copy = type(self._layer).from_config(config)
        copy.build((None, *self.site.sizes, convolutions_of(self._layer)[0].geometry.channels))
        compute_anywhere(copy)
        return copy

    @cached_property
    def _linear_made(self) -> Layer:
        config = self._made.get_config()
        for layer in config["layers"]:
            if "activation" in layer["config"]:
                layer["config"]["activation"] = "linear"
        return type(self._made).from_config(config)

    @cached_property
    def _made_calls(self) -> Calls:
        return Calls(self._linear_made)

    @cached_property
    def _linear_weights(self) -> Sequence[Any]:
        """Those of the copy without activations, in the order of `_made_weights`."""
        copies = {
            id(old): new
            for layer in self._made.layers
            for old, new in zip(
                weights_of(layer), self._linear_made.get_layer(layer.name).weights, strict=True
            )
        }
        return [copies[id(weight)] for weight in self._made_weights]

    def _call_original(self, layer: Layer, x: Array) -> Array:
        """What the original computes, by a layer that has its channels last."""
        why = too_much_work(self.site, x.shape[1:-1] if self.channels_last else x.shape[2:])
        if why is not None:
            raise UnsupportedModelError(f"it is not run: {why}", code=Code.TOO_LONG)
        if self._layer.data_format == "channels_last":
            return self._call(Calls(layer), x)
        return np.moveaxis(self._call(Calls(layer), np.moveaxis(x, 1, -1)), -1, 1)

    def _call(self, call: Calls, x: Array) -> Array:
        with running(), overheard():
            return np.asarray(keras.ops.convert_to_numpy(call(x)))


def paired(expected: Layer, made: Layer) -> Pairing:
    """What of a model stands for what of the one that convfc would emit, and what is different.

    The numbers of weights are not looked at, but for those of an activation.
    """
    found = lockstep(expected, made, _unlike)
    weighted = [pair for pair in found.pairs if any(map(weights_of, pair))]
    for old, new in weighted:
        if sum(old is x or new is y for x, y in weighted) > 1:
            found.faults.append(Fault(old, new, "shares its weights otherwise"))
    return found


def _unlike(old: Layer, new: Layer) -> Sequence[Fault]:
    """What is different about an operation that convfc would emit and one in its place."""
    words = emitted_unlike(old, new)
    return [] if words is None else [Fault(old, new, words)]


def _weights_in(model: Layer) -> Sequence[Any]:
    """All weights that a file has of a model."""
    return [weight for layer in model.layers for weight in weights_of(layer)]


def _arranged_otherwise(old: Array, new: Array) -> bool:
    """Whether two arrays of the same size hold the same numbers, but not in the same order."""
    a, b = (np.frombuffer(x.tobytes(), f"u{x.itemsize}") for x in (old, new))
    return not np.array_equal(a, b) and np.array_equal(np.sort(a), np.sort(b))
