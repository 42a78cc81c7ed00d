"""What only training needs and Keras does not know: somebody's own regularizer, metric or loss.

A function does not depend on any: weights come from the file, whatever they began as. So what is
unknown of them is left out, and named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from convfc.formats.keras.internals import MODEL_MODULES
from convfc.formats.keras.quiet import overheard
from convfc.formats.keras.upgrades.classes import objects
from convfc.text.visible import visible

Config = dict[str, Any]

_OF_LAYERS = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
"""By the ending of a setting, the module of Keras with what it names."""

_TRAINING = (
    *(keras, keras.optimizers, keras.optimizers.schedules, keras.losses, keras.metrics),
    *(keras.initializers, keras.regularizers, keras.constraints),
)
"""Where the classes and functions are that a training setup is made of."""

_SHOWN = 3
"""How many a sentence names."""


def drop_from_layers(config: Config) -> list[str]:
    """Leave unknown initializers, regularizers and constraints out of stock layers.

    Args:
        config: of a model; it is changed.

    Returns:
        What was left out, a phrase each.
    """
    phrases = []
    for layer in _stock_layers(config):
        given = layer["config"]
        for setting in list(given):
            kind = setting.rpartition("_")[2]
            home = _OF_LAYERS.get(kind)
            name = _named(given[setting])
            if home is not None and name and not (_own(given[setting]) or _has(home, name)):
                del given[setting]
                phrases.append(f"{kind} '{name}' of '{_shown(given.get('name', ''))}'")
    return phrases


def drop_metrics(training: Config) -> list[str]:
    """Leave unknown metrics out of what a model was compiled with.

    Args:
        training: it is changed.

    Returns:
        What was left out, a phrase each.
    """
    phrases: list[str] = []

    def known(value: Any) -> Any:
        if isinstance(value, list):
            return [known(item) for item in value if not _is_unknown(item, phrases)]
        if isinstance(value, dict) and "class_name" not in value:
            return {key: known(x) for key, x in value.items() if not _is_unknown(x, phrases)}
        return value

    for key in ("metrics", "weighted_metrics"):
        if training.get(key) is not None:
            training[key] = known(training[key])
    return phrases


def _is_unknown(metric: Any, phrases: list[str]) -> bool:
    if isinstance(metric, str):
        # By these two Keras means another one for each kind of output.
        known = metric in ("accuracy", "crossentropy") or _has(keras.metrics, metric)
    else:
        known = not _named(metric) or _is_known(metric)
    if not known:
        phrases.append(f"metric '{_named(metric)}'")
    return not known


def unknown_in(training: Config | None) -> list[str]:
    """Names of the optimizers, schedules, losses and metrics that Keras does not know."""
    names = [_named(found) for found in objects(training) if not _is_known(found)]
    losses = (training or {}).get("loss")
    if isinstance(losses, dict):
        losses = [] if "class_name" in losses else list(losses.values())
    losses = losses if isinstance(losses, list) else [losses]
    by_name = [loss for loss in losses if isinstance(loss, str)]
    names += [_shown(loss) for loss in by_name if not _has(keras.losses, loss)]
    return list(dict.fromkeys(names))


def listed(phrases: list[str]) -> str:
    """Some phrases, and how many more there are."""
    more = len(phrases) - _SHOWN
    return ", ".join(phrases[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _stock_layers(value: Any) -> Iterator[Config]:
    """All layers with arguments of which it is known that they are stock, outer ones first.

    What a custom layer takes its settings for, nobody knows. An activation that is a layer may have
    weights that are in no file: what they begin as is what it computes with.
    """
    if isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value:
        kind, package = value["class_name"], value.get("registered_name")
        stock = kind in MODEL_MODULES or isinstance(getattr(keras.layers, kind, None), type)
        if package not in (None, kind) or not stock or not isinstance(value["config"], dict):
            return
        yield value
        value = {key: inner for key, inner in value["config"].items() if key != "activation"}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _stock_layers(item)


def _named(value: Any) -> str:
    """What a file calls an object: by a name, or by a class or function with arguments."""
    if isinstance(value, dict):
        kind = value.get("class_name")
        value = value.get("config") if kind == "function" else kind
    return _shown(value) if isinstance(value, str) else ""


def _shown(name: Any) -> str:
    return visible(str(name))[:60]


def _has(home: Any, name: str) -> bool:
    """Whether a module of Keras has something by a name, its own or a short one such as "l2".

    What else a file says of it is not tried: that might fill memory.
    """
    try:
        with overheard():
            return hasattr(home, name) or home.get(name) is not None
    except Exception:
        return False


def _own(found: Any) -> bool:
    """Whether somebody gave Keras a class or function of that name."""
    package = found.get("registered_name") if isinstance(found, dict) else None
    names = (_named(found), package)
    return any(keras.saving.get_registered_object(name) is not None for name in names)


def _is_known(found: Config) -> bool:
    """Whether Keras has a class or function for it."""
    name = _named(found).rpartition(">")[2]  # a stock optimizer in HDF5 of tf_keras: "Custom>SGD"
    stock = str(found.get("module")).startswith("keras")
    stock |= any(hasattr(module, name) for module in _TRAINING)
    return stock or not name or _own(found)
