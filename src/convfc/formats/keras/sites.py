"""Every convolution of a loaded Keras model, at any depth, in the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from convfc.core.geometry import Sizes
from convfc.core.lowering import PatchMethod
from convfc.formats.keras.archive import HDF5
from convfc.formats.keras.convolutions import CONVOLUTIONS, convolutions_of
from convfc.formats.keras.internals import (
    calls_of,
    flat_layers,
    has_calls,
    inner_graph,
    mask_on,
    run_through,
)
from convfc.formats.protocols import Site
from convfc.refusals import Code, Refusal

_LEFT: dict[type, str] = {
    **dict.fromkeys(
        (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
        "it convolves inside a recurrent cell",
    ),
    layers.STFTSpectrogram: "it convolves with fixed filters to compute a spectrogram",
}
_OPERATIONS = ("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "ExtractPatches")

_LARGEST_INDEX = 2**20
"""Longest index map that is stored: Keras writes it into the configuration, as text."""


@dataclass
class Place:
    """Where a convolution stands in the model.

    Attributes:
        name: of the site.
        layer: the layer, or the operation, that it is.
        inside: the class that one of its calls is hidden in, or ``None`` if all can be seen.
        shapes: of its input, one per call; empty where the call is hidden.
        names: of the site, by all its calls.
    """

    name: str
    layer: Any
    inside: str | None = None
    shapes: list[tuple[int | None, ...]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    @property
    def fed(self) -> Any:
        """What reads what it is fed."""
        return self.layer

    def site(self, file_format: str) -> Site:
        """What the rest of convfc sees, given the format."""
        kind = type(self.layer).__name__
        refusal = self._refusal()
        if refusal is not None:
            return Site(self.name, kind, None, refusal=refusal)
        conv, *rest = (each.geometry for each in convolutions_of(self.layer))
        sizes = tuple(_merged(axis) for axis in zip(*map(self._spatial, self.shapes), strict=True))
        dtype = self.layer.compute_dtype
        inner = conv.inner(sizes)
        methods = frozenset(PatchMethod) - {PatchMethod.TAPS, PatchMethod.SHIFT}
        positions = inner.positions(sizes)
        entries = None if file_format == HDF5 or positions is None else positions * inner.taps
        if entries is None or entries > _LARGEST_INDEX:
            methods -= {PatchMethod.GATHER}
        if entries is None or entries // inner.kernel[-1] > _LARGEST_INDEX:
            methods -= {PatchMethod.ROWS}
        return Site(
            self.name,
            kind,
            conv,
            sizes=sizes,
            dtype=dtype,
            bias=self.layer.use_bias,
            methods=methods,
            rest=tuple(rest),
            kept=self.layer.variable_dtype,
        )

    def _refusal(self) -> Refusal | None:
        """Why it is left as it is, or ``None``."""
        layer = self.layer
        if self.inside is not None:
            why = f"it is inside a {self.inside}, which convfc does not rewrite"
            return Refusal(why, Code.INSIDE)
        if type(layer) not in CONVOLUTIONS:
            return _why_left(layer)
        if getattr(layer, "lora_rank", None):
            why = "its kernel has a LoRA update beside it; merge it first"
            return Refusal(why, Code.MERGE_FIRST)
        if any(len(shape) != layer.rank + 2 for shape in self.shapes):
            why = f"its input does not have {layer.rank + 2} axes"
            return Refusal(why, Code.CONTRADICTION)
        if any(bias_goes_astray(layer, self._spatial(shape)) for shape in self.shapes):
            return Refusal(
                "Keras on TensorFlow adds its bias along the last axis, which is as long as its "
                "filters are many, and not to the filters",
                Code.BIAS_ASTRAY,
            )
        return None

    def _spatial(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[1:-1] if self.layer.data_format == "channels_last" else shape[2:]


def bias_goes_astray(layer: Any, sizes: Sizes) -> bool | None:
    """Whether Keras on TensorFlow adds a layer's bias along the last axis instead of the filters.

    `keras.ops.add` there guesses: a second term with one axis longer than 1 is a bias of the last
    axis where that is as long, and else of axis 1. With channels first it guesses wrong.

    Args:
        layer: a built convolution layer.
        sizes: spatial ones of its input.

    Returns:
        ``None`` if the length of that axis, not known before run time, decides.
    """
    if layer.data_format == "channels_last" or not layer.use_bias or layer.bias.shape[0] == 1:
        return False
    length = convolutions_of(layer)[0].geometry.output(sizes)[-1]
    return None if length is None else length == layer.bias.shape[0]


def is_graph(layer: Any) -> bool:
    """Whether it is a stock Sequential or Functional model, which shows all its calls."""
    stock = type(layer).__module__.startswith("keras.")
    return stock and isinstance(layer, keras.Model) and graph_of(layer) is not None


def shows_calls(layer: Any) -> bool:
    """Whether it is a graph, or a stock wrapper that only calls what is in it."""
    return type(layer) is layers.TimeDistributed or is_normed(layer) or is_graph(layer)


def is_normed(layer: Any) -> bool:
    """Whether it is a convolution whose kernel is divided by its norm, but only while it trains.

    The kernel in the file is what the last step of that made of it.
    """
    normed = type(layer) is layers.SpectralNormalization and _is_convolution(layer.layer)
    return normed and bool(layer.compute_dtype == layer.layer.compute_dtype)


def graph_of(model: Any) -> Any:
    """The Functional model that a stock model is or holds; ``None`` for any other class."""
    if isinstance(model, keras.Sequential):
        return inner_graph(model)
    return model if has_calls(model) else None


def makes_masks(model: Any) -> bool:
    """Whether some layer marks parts of its output as to be ignored, or hands on such a mark."""
    every = flat_layers(model)
    tensors = (
        x
        for layer in every
        if is_graph(layer)
        for call in calls_of(graph_of(layer))
        for x in call.outputs
    )
    return any(mask_on(x) is not None for x in tensors) or any(
        isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False) for layer in every
    )


def trains_always(model: Any) -> bool:
    """Whether some layer is called as in training, whatever the model is called for."""
    graphs = [graph_of(layer) for layer in flat_layers(model) if is_graph(layer)]
    return any(
        call.arguments.kwargs.get("training") not in (None, False)
        or any(x is True for x in call.arguments.args)
        for graph in graphs
        for call in calls_of(graph)
    )


def find_places(model: Any) -> list[Place]:
    """Every convolution of a model, in the order of execution; a shared layer once."""
    places: dict[int, Place] = {}

    def note(name: str, layer: Any, shape: tuple[int | None, ...], inside: str | None) -> None:
        place = places.setdefault(id(layer), Place(name, layer))
        place.inside = place.inside or inside
        place.shapes.append(shape)
        place.names.add(name)

    if is_graph(model):
        _follow(model, graph_of(model).inputs, "", note)
    else:
        _look_inside(model, "", note)
    _leave_normed(model, places)
    taken: set[str] = set()
    for place in places.values():
        stem, count = place.name, 1
        while place.name in taken:
            count += 1
            place.name = f"{stem}_{count}"
        taken.add(place.name)
    return list(places.values())


def _leave_normed(model: Any, places: Mapping[int, Place]) -> None:
    """Leave a convolution in a wrapper that is called as in training, or which another call shares.

    What takes its place is two models then, and Keras would load two sets of weights.
    """
    trains = trains_always(model)
    for wrapper in filter(is_normed, flat_layers(model)):
        place = places.get(id(wrapper.layer))
        if place is None:
            continue
        own = [wrapper.name, wrapper.layer.name]
        if trains:
            place.inside = "SpectralNormalization that is called as in training"
        elif any(name.split("/")[-2:] != own for name in place.names):
            place.inside = "SpectralNormalization"


_Note = Callable[[str, Any, tuple[int | None, ...], str | None], None]


def _follow(model: Any, inputs: Sequence[Any], prefix: str, note: _Note) -> Any:
    """Walk through a graph as its tensors do, into nested graphs with the sizes they get there.

    Returns:
        The outputs, symbolic as the inputs are.
    """

    def visited(operation: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = keras.tree.flatten([list(args), kwargs])
            tensors = [x for x in arguments if isinstance(x, keras.KerasTensor)]
            name = prefix + operation.name
            if is_graph(operation):
                return _follow(operation, tensors, f"{name}/", note)
            _visit(operation, tensors, name, note)
            return operation.compute_output_spec(*args, **kwargs)

        return call

    return run_through(graph_of(model), inputs, visited)


def _visit(operation: Any, tensors: Sequence[Any], name: str, note: _Note) -> None:
    """Note the convolutions in one call of what is no graph."""
    if _is_convolution(operation):
        note(name, operation, tuple(tensors[0].shape), None)
    elif type(operation) is layers.TimeDistributed:
        inner = operation.layer
        steps = [keras.KerasTensor((x.shape[0], *x.shape[2:]), x.dtype) for x in tensors]
        if is_graph(inner):
            _follow(inner, steps, f"{name}/{inner.name}/", note)
        else:
            _visit(inner, steps, f"{name}/{inner.name}", note)
    elif is_normed(operation):
        note(f"{name}/{operation.layer.name}", operation.layer, tuple(tensors[0].shape), None)
    elif isinstance(operation, keras.Layer):
        _look_inside(operation, f"{name}/", note)


def _look_inside(layer: Any, prefix: str, note: _Note) -> None:
    """Find convolutions in a layer of another kind, which calls them where nobody can see it."""
    for inner in flat_layers(layer)[1:]:
        if _is_convolution(inner):
            note(prefix + inner.name, inner, (), type(layer).__name__)


def _is_convolution(operation: Any) -> bool:
    if isinstance(operation, keras.Layer):
        return isinstance(operation, (*CONVOLUTIONS, *_LEFT))
    return type(operation).__name__ in _OPERATIONS


def _why_left(layer: Any) -> Refusal:
    if not isinstance(layer, keras.Layer):
        return Refusal("it is an operation in the model's graph, not a layer", Code.FOREIGN)
    known = _LEFT.get(type(layer))
    why = f"{type(layer).__name__} is a custom class; what it computes is not known"
    return Refusal(why if known is None else known, Code.FOREIGN)


def _merged(sizes: Sequence[int | None]) -> int | None:
    """The size that all calls share, else unknown."""
    return sizes[0] if len(set(sizes)) == 1 else None
