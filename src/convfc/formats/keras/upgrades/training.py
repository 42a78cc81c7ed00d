"""What a model was compiled with."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

_LOSSES = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
    "huber_loss": "huber",
}
"""Names under which Keras 3 does not load a loss, or not from every file."""

_MEAN = "sum_over_batch_size"

_WRAPPERS = ("MeanMetricWrapper", "SparseMeanMetricWrapper")


def rename_optimizer(config: Config) -> bool:
    """`lr`, arguments and modules that went away; `decay` is a schedule now."""
    optimizer = config.get("optimizer_config") or config.get("optimizer")
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("config"), dict):
        return False
    given = optimizer["config"]
    changed = optimizer.get("module") == "keras.optimizers.experimental"
    if changed:
        optimizer["module"] = "keras.optimizers"
    before = dict(given)
    if "lr" in given:
        given["learning_rate"] = given.pop("lr")
    decay = given.pop("decay", 0.0)
    if decay and isinstance(given.get("learning_rate"), float):
        given["learning_rate"] = {
            "module": "keras.optimizers.schedules",
            "class_name": "InverseTimeDecay",
            "config": {
                "initial_learning_rate": given["learning_rate"],
                "decay_steps": 1,
                "decay_rate": decay,
            },
            "registered_name": None,
        }
    for name in ("jit_compile", "is_legacy_optimizer", "schedule_decay"):
        given.pop(name, None)
    if given.get("epsilon", 0) is None:
        del given["epsilon"]
    return changed or given != before


def spell_out_losses(config: Config) -> bool:
    """Keras 3 writes short names of losses but does not load them from HDF5.

    The reduction that Keras 2 called "auto" was the mean, as it is today unless one asks.
    """

    def spelled(value: Any) -> Any:
        if isinstance(value, dict) and "class_name" in value:
            given = value.get("config")
            if not isinstance(given, dict) or given.get("reduction") != "auto":
                return value
            return {**value, "config": {**given, "reduction": _MEAN}}
        if isinstance(value, dict):
            return {key: spelled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spelled(inner) for inner in value]
        return _LOSSES.get(value.lower(), value) if isinstance(value, str) else value

    before = config.get("loss")
    if before is not None:
        config["loss"] = spelled(before)
    return bool(config.get("loss") != before)


def name_metrics(config: Config) -> bool:
    """Keras 2 wrapped the function of a metric in a class that has none of its own."""
    changed = False

    def named(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, dict) and value.get("class_name") in _WRAPPERS:
            given = value["config"]
            function = given.get("fn")
            if isinstance(function, str):
                changed = True
                kind = _LOSSES.get(function, function).title().replace("_", "")
                kept = {key: given[key] for key in ("name", "dtype") if key in given}
                return {
                    "module": "keras.metrics",
                    "class_name": kind,
                    "config": kept,
                    "registered_name": None,
                }
        if isinstance(value, dict):
            return {key: named(inner) for key, inner in value.items()}
        return [named(inner) for inner in value] if isinstance(value, list) else value

    for key in ("metrics", "weighted_metrics"):
        if config.get(key) is not None:
            config[key] = named(config[key])
    return changed


def unwrap_metrics(config: Config) -> bool:
    """Keras 2 wrote a list of lists, one for each output, and also where there is one output."""
    changed = False
    for key in ("metrics", "weighted_metrics"):
        metrics = config.get(key)
        if isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list):
            config[key] = metrics[0]
            changed = True
    return changed
