"""Classes, their modules and their arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import initializers, layers

from convfc.formats.keras.internals import APPLICATION_LAYERS, MODEL_MODULES

Config = dict[str, Any]

_CONVOLUTIONS = (
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
)
_SPATIAL_DROPOUT = ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")

_AUGMENTING = (
    *("RandomBrightness", "RandomContrast", "RandomFlip"),
    *("RandomRotation", "RandomTranslation", "RandomZoom"),
)

_KERNEL = (*_CONVOLUTIONS[:4],)
"""They have a depthwise kernel and a pointwise one; what was said of a third meant nothing."""

_ANY = object()


_SAYS_NOTHING: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    "groups": (_CONVOLUTIONS, (1, None)),
    "kernel_initializer": (_KERNEL, (_ANY,)),
    "kernel_regularizer": (_KERNEL, (_ANY,)),
    "kernel_constraint": (_KERNEL, (_ANY,)),
    "time_major": (_RECURRENT, (False, None)),
    "implementation": ((*_RECURRENT, "GRUCell", "LSTMCell"), (_ANY,)),
    "trainable": (_SPATIAL_DROPOUT, (True,)),
    "noise_shape": (_SPATIAL_DROPOUT, (None,)),
    "renorm": (("BatchNormalization",), (False, None)),
    "virtual_batch_size": (("BatchNormalization",), (None,)),
    "fused": (("BatchNormalization",), (_ANY,)),
    "mode": (("BatchNormalization",), (0,)),
    "input_length": (("Embedding",), (_ANY,)),
    "rng_type": (_AUGMENTING, (_ANY,)),
    "causal": (("Attention", "AdditiveAttention"), (False,)),
    "softmax_robust_masking": (("MultiHeadAttention",), (False,)),
    **dict.fromkeys(
        ("query_shape", "key_shape", "value_shape"), (("MultiHeadAttention",), (_ANY,))
    ),
}
"""Per argument that Keras 3 lacks: the classes that had it, and its values that change nothing."""

_EVERYWHERE = ("batch_input_shape", "input_dtype")
"""Arguments of any layer that only say what its input looks like, which its graph says too."""

_RENAMED = {
    ("LeakyReLU", "alpha"): "negative_slope",
    ("InputLayer", "batch_input_shape"): "batch_shape",
}


_POLICIES = ("Policy", "PolicyV1")
"""What a DTypePolicy was called; a name says it all."""


def objects(config: Any) -> Iterator[Config]:
    """Every class with arguments in a configuration, outer ones first: layers, initializers, .."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and "config" in config:
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from objects(value)


def arguments(config: Any) -> Iterator[tuple[str, Config]]:
    """The class and the arguments of every object that has some."""
    for found in objects(config):
        if isinstance(found["config"], dict):
            yield found["class_name"], found["config"]


def name_lists(config: Config) -> bool:
    """Up to Keras 2.2.2 the configuration of a Sequential was the list of its layers."""
    changed = False
    for found in objects(config):
        if found["class_name"] == "Sequential" and isinstance(found["config"], list):
            found["config"] = {"name": "sequential", "layers": found["config"]}
            changed = True
    return changed


def name_modules(config: Config) -> bool:
    """Keras 3 finds a class by its module: 2.15 knew others, and earlier ones named none."""
    changed = False
    for found in objects(config):
        kind, package = found["class_name"], found.get("registered_name")
        if package not in (None, kind):
            continue
        today = "Functional" if kind == "Model" else kind
        if today in MODEL_MODULES:
            new: Config = {"class_name": today, "module": MODEL_MODULES[today]}
        elif isinstance(getattr(layers, kind, None), type):
            new = {"module": "keras.layers"}
        elif kind in APPLICATION_LAYERS:
            new = {"module": APPLICATION_LAYERS[kind]}
        else:
            continue
        new["registered_name"] = None
        changed |= found.get("module") != new["module"]
        found.update(new)
    return changed


_AT_INFERENCE = {"RandomHeight": "Identity", "RandomWidth": "Identity", "RandomCrop": "Resizing"}
"""Layers that Keras 3 lacks, or skips when a model is called, and what they are then in Keras 2.

A RandomCrop is meant from 2.9 on, which has an `rng_type`: it resizes what it does not crop.
"""


def _becomes(found: Config) -> str | None:
    """The class that a layer is given here, if any; a custom one of that name is left alone."""
    kind, given = found["class_name"], found["config"]
    if kind == "ThresholdedReLU":
        return None if found.get("registered_name") else "ReLU"
    stock = found.get("registered_name") in (None, kind) and isinstance(given, dict)
    fits = stock and (kind != "RandomCrop" or "rng_type" in given)
    return _AT_INFERENCE.get(kind) if fits else None


def augment_no_more(config: Any) -> list[str]:
    """What `replace_classes` makes of layers that augment, a sentence each."""
    return [
        f"{found['config'].get('name', kind)}: a {kind} is replaced by what it is when a model is "
        f"called, the layer {new}; training on would be another training."
        for found in objects(config)
        if (kind := found["class_name"]) in _AT_INFERENCE and (new := _becomes(found))
    ]


def replace_classes(config: Config) -> bool:
    """A class that is a case of another one now."""
    changed = False
    for found in objects(config):
        new, given = _becomes(found), found["config"]
        if new is None:
            continue
        if new == "ReLU":
            given["threshold"] = given.pop("theta", 1.0)
        else:
            kept = ["name", "dtype", "trainable", "batch_input_shape"]
            kept += ["height", "width"] if new == "Resizing" else []
            found["config"] = {key: given[key] for key in kept if key in given}
        if new == "Resizing":
            found["config"] |= {"crop_to_aspect_ratio": True, "data_format": "channels_last"}
        found.update(class_name=new, module="keras.layers", registered_name=None)
        found.pop("build_config", None)
        changed = True
    return changed


def drop_arguments(config: Config) -> bool:
    """Arguments that are gone, where their value changes nothing; else Keras refuses them."""
    changed = False
    for found in objects(config):
        if found["class_name"] == "MultiHeadAttention":
            # It named one shape, and is built for two or three, from its call.
            changed |= found.pop("build_config", None) is not None
    for kind, given in arguments(config):
        for name in list(given):
            kinds, values = _SAYS_NOTHING.get(name, ((), ()))
            idle = kind in kinds and (_ANY in values or given[name] in values)
            idle |= name in _EVERYWHERE and hasattr(layers, kind) and kind != "InputLayer"
            idle |= name == "dtype" and hasattr(initializers, kind)
            if idle:
                del given[name]
                changed = True
    return changed


def rename_arguments(config: Config) -> bool:
    """Arguments with another name or default, and values with another form."""
    changed = False
    for kind, given in arguments(config):
        if kind == "GRU" and "reset_after" not in given:
            given["reset_after"] = False
            changed = True
        for name in list(given):
            new_name, value = _RENAMED.get((kind, name), name), given[name]
            if name == "axis" and isinstance(value, list) and len(value) == 1:
                value = value[0]  # of a BatchNormalization
            elif name == "dtype" and isinstance(value, dict) and value["class_name"] in _POLICIES:
                value = value["config"]["name"]
            elif kind == "VarianceScaling" and (name, value) == ("distribution", "normal"):
                value = "truncated_normal"
            if (new_name, value) != (name, given[name]):
                del given[name]
                given[new_name] = value
                changed = True
    return changed


def leave_score(config: Config) -> bool:
    """Leave out the score of an Attention that is the default.

    Keras writes it into HDF5 and cannot read it there: it takes "dot" for its function `dot`.
    """
    changed = False
    for kind, given in arguments(config):
        if kind == "Attention" and given.get("score_mode") == "dot":
            del given["score_mode"]
            changed = True
    return changed
