"""The outline of a model: its layers that were converted, as they were, without their numbers.

It is in the record of a converted file, and what the way back begins with. All other layers are in
the file as they were; so are the numbers, but for what a wrapper of a convolution remembers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from convfc.formats.keras.bounds import read_json
from convfc.formats.keras.convolutions import CONVOLUTIONS, DEPTHWISE
from convfc.formats.keras.internals import flat_layers
from convfc.formats.keras.lambdas import layers_with_code
from convfc.formats.keras.likeness import lacking, plain, weights_of
from convfc.formats.keras.refusals import brief
from convfc.formats.keras.sites import Place, is_normed
from convfc.formats.outline import content_of, damaged, digest_of, text_of

Layer = Any
"""A `keras.Layer` or a `keras.Model`; keras has no types."""

_KINDS = {kind.__name__ for kind in (*CONVOLUTIONS, layers.SpectralNormalization)}


@dataclass(frozen=True)
class Outline:
    """A layer that was converted.

    Attributes:
        name: of its site.
        path: what stands in its place in the converted model: names of models and wrappers, and
            its own, with slashes.
        layer: it, or the wrapper that was converted with it, as Keras writes it down.
        digests: of its weights.
        state: the other weights of the wrapper, if there is one.
    """

    name: str
    path: str
    layer: Mapping[str, Any]
    digests: Sequence[str]
    state: Sequence[Any] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The class of the convolution."""
        return str(self._convolution(self.layer)["class_name"])

    @property
    def use_bias(self) -> bool:
        """Whether it added one."""
        return bool(self._convolution(self.layer)["config"].get("use_bias", True))

    def fitted(self, made: Layer, *, use_bias: bool) -> dict[str, Any]:
        """What Keras writes of the layer with as many channels and filters as it has now.

        Args:
            made: the model in its place.
            use_bias: whether it adds a bias now.
        """
        config = copy.deepcopy(dict(self.layer))
        inner = self._convolution(config)
        settings = inner["config"]
        axis = -1 if settings["data_format"] == "channels_last" else 1
        channels, filters = (int(x.shape[axis]) for x in (made.inputs[0], made.outputs[0]))
        if inner["class_name"] in {kind.__name__ for kind in DEPTHWISE}:
            settings["depth_multiplier"] = filters // channels
        else:
            settings["filters"] = filters
        settings["use_bias"] = use_bias
        for each in (config, inner):
            each["build_config"]["input_shape"][axis] = channels
        return config

    def built(self, config: Mapping[str, Any], made: Layer) -> Layer:
        """The layer again, or its wrapper.

        Its numbers are whatever it starts from, but for those of an activation, which is that of
        the converted layer.

        Args:
            config: from `fitted`.
            made: the model in its place.

        Raises:
            Exception: whatever Keras raises of a configuration that is none.
        """
        layer = keras.saving.deserialize_keras_object(
            lacking(config, "build_config"), safe_mode=True
        )
        inner = convolution_in(layer)
        if isinstance(inner.activation, keras.Layer):
            inner.activation = _activation(made) or inner.activation
        layer.build(tuple(config["build_config"]["input_shape"]))
        return layer

    def _convolution(self, layer: Mapping[str, Any]) -> Any:
        """What Keras writes of the convolution, which may be in a wrapper."""
        return layer["config"].get("layer", layer)


def convolution_in(layer: Layer) -> Layer:
    """The convolution that a layer is, or that is in the wrapper that it is."""
    return layer.layer if is_normed(layer) else layer


def _activation(made: Layer) -> Layer | None:
    """The layer that is the activation of what a convolution was converted to."""
    found = (getattr(layer, "activation", None) for layer in made.layers)
    return next((each for each in found if isinstance(each, keras.Layer)), None)


def outlines(model: Layer, places: Iterable[Place]) -> list[Outline]:
    """The outlines of layers that are going to be converted.

    Args:
        model: that they are in.
        places: of the layers.
    """
    wrappers = {id(layer.layer): layer for layer in flat_layers(model) if is_normed(layer)}
    return [_outline(place, wrappers.get(id(place.layer))) for place in places]


def _outline(place: Place, wrapper: Layer | None) -> Outline:
    own = weights_of(place.layer)
    path, outer, state = min(place.names), place.layer, []
    if wrapper is not None:
        path, outer = path.rpartition("/")[0], wrapper
        mine = set(map(id, place.layer.weights))
        state = [np.asarray(x).tolist() for x in wrapper.weights if id(x) not in mine]
    written = plain(keras.saving.serialize_keras_object(outer))
    return Outline(place.name, path, written, [digest_of(np.asarray(x)) for x in own], state)


def packed(found: Sequence[Outline]) -> str:
    """Outlines as a text for a record; empty where that would be too long, or there are none."""
    return pack([asdict(one) for one in found]) if found else ""


def pack(content: Any) -> str:
    """Plain data as a text for a record; empty where that would be too long."""
    return text_of(json.dumps(content, separators=(",", ":")).encode())


def unpack(text: str) -> Any:
    """What `pack` made such a text of.

    Raises:
        Exception: it made none such.
    """
    return read_json(content_of(text), "outline")


def unpacked(text: str, path: Path) -> list[Outline]:
    """What `packed` made.

    Args:
        text: the outlines.
        path: the file that they were found in, for the message.

    Raises:
        FileError: they are none.
    """
    try:
        found = [Outline(**one) for one in unpack(text)]
        for one in found:
            _check(one)
    except Exception as error:  # whatever there is in the place of what Keras writes
        raise damaged(path, brief(error)) from error
    return found


def _check(outline: Outline) -> None:
    """Refuse what is no stock convolution, before Keras makes anything of it.

    Raises:
        ValueError: it is not.
    """
    texts = [outline.name, outline.path, *outline.digests]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is no text")
    for weight in outline.state:
        np.asarray(weight, np.float32)
    layer: Any = outline.layer
    for each in (layer, layer["config"].get("layer", layer)):
        stock = each["module"] == "keras.layers" and each["class_name"] in _KINDS
        shape = each["build_config"]["input_shape"]
        if not stock or not isinstance(each["config"], dict) or not isinstance(shape, list):
            raise ValueError("a layer is no convolution")
    if next(layers_with_code(layer), None) is not None:
        raise ValueError("a layer holds code")
