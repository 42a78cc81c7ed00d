"""Brings what an older Keras wrote into a file up to date, before today's Keras sees it.

A list of small steps, each for one documented difference between Keras 2 and Keras 3, on the
configuration as JSON has it. None of them builds or runs anything that the file holds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convfc.errors import UnsupportedModelError
from convfc.formats.keras.archive import HDF5, Envelope
from convfc.formats.keras.upgrades import (
    classes,
    graphs,
    inputs,
    operations,
    sigmoids,
    slices,
    training,
    unknown,
    weight_paths,
)
from convfc.refusals import Code

Config = dict[str, Any]


class Step(NamedTuple):
    """One difference: what is done about it, in words, and how (false where nothing was due)."""

    says: str
    change: Callable[[Any], bool]


MODEL_STEPS: Sequence[Step] = (
    Step("gave the list of a Sequential a name", classes.name_lists),
    Step("named the modules of classes as Keras 3 does", classes.name_modules),
    Step("replaced classes that Keras 3 no longer has", classes.replace_classes),
    Step("turned input shapes on layers into input layers", graphs.make_inputs),
    Step("left out arguments that Keras 3 no longer has", classes.drop_arguments),
    Step("renamed arguments and values", classes.rename_arguments),
    Step("replaced '/' in layer names by '_'", graphs.rename_layers),
    Step("replaced TensorFlow operations by stock layers", operations.replace_operations),
    Step("replaced TensorFlow slices by Keras's own", slices.replace_slices),
    Step("named the tensors among the arguments of calls", graphs.name_tensors),
    Step("counted the calls of nested models from 0", graphs.count_calls),
    Step("unwrapped lists of one input or output", graphs.unwrap_singles),
)
"""On a model's configuration, in this order."""

HDF5_STEPS: Sequence[Step] = (
    Step("replaced classes that Keras 3 no longer has", classes.replace_classes),
    Step("left out what Keras writes into HDF5 but does not read", classes.leave_score),
)
"""On a model's configuration in an HDF5 file of Keras 3."""

TRAINING_STEPS: Sequence[Step] = (
    Step("renamed what the optimizer is given", training.rename_optimizer),
    Step("spelled out the names of losses", training.spell_out_losses),
    Step("named the metrics by their classes", training.name_metrics),
    Step("unwrapped the metrics of one output", training.unwrap_metrics),
)
"""On a training configuration."""

WEIGHTS_STEPS: Sequence[Step] = (
    Step("split the paths of layers where Windows does", weight_paths.split_paths),
    Step("renumbered the weights of layers", weight_paths.renumber),
)
"""On the HDF5 file with the weights in a zip."""


def upgrade(config: Config, steps: Sequence[Step]) -> tuple[Config, tuple[str, ...]]:
    """A configuration brought up to date.

    Args:
        config: as the file has it; it stays as it is.
        steps: what to try.

    Returns:
        The new configuration, and what was done, a phrase for each step that was due.
    """
    config = copy.deepcopy(config)
    return config, tuple(step.says for step in steps if step.change(config))


@dataclass(frozen=True)
class Upgraded:
    """What a file says beside its weights, as today's Keras takes it.

    Attributes:
        config: the model's configuration.
        training: what it was compiled with; ``None`` if it was not.
        done: what was brought up to date, a phrase each.
        cautions: what Keras 3 computes otherwise, and what was left out, a sentence each.
        altered: whether the configuration is another for a reason of its own.
    """

    config: Config
    training: Config | None
    done: tuple[str, ...]
    cautions: tuple[str, ...]
    altered: bool = False


def up_to_date(path: Path, envelope: Envelope, *, keeps: bool = False) -> Upgraded:
    """Bring what a file says up to date, by the steps for a file of its age and format.

    Args:
        path: the file, for messages.
        envelope: what it says; it stays as it is.
        keeps: whether functions of Keras 2 that are others in Keras 3 stay as they were.

    Raises:
        UnsupportedModelError: it lacks what no step makes up, or has what no stock layer does.
    """
    config, training_config = envelope.config, envelope.training
    of_hdf5 = envelope.file_format == HDF5
    done: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    if envelope.is_old:
        config, done = upgrade(config, MODEL_STEPS)
        said = sigmoids.KEPT if keeps else sigmoids.OTHER
        cautions = tuple(f"{name}: {said}" for name in sigmoids.users(config))
        if keeps:
            sigmoids.keep(config)
        cautions += tuple(classes.augment_no_more(envelope.config))
        if of_hdf5 and graphs.lacks_input(config) and (first := inputs.open_input(path, config)):
            config["config"]["layers"].insert(0, first)
            done += ("took the channels of the input from the first kernel, its sizes as open",)
        _refuse_leftovers(path, config)
    elif of_hdf5:
        config, done = upgrade(config, HDF5_STEPS)
    if training_config is not None and (envelope.is_old or of_hdf5):
        training_config, more = upgrade(training_config, TRAINING_STEPS)
        done += more
    config, training_config, left_out = _without_unknown(config, training_config)
    if keeps and not any(sigmoids.KEPT in caution for caution in cautions):
        cautions += ("No hard_sigmoid of Keras 2 is in it: keep_keras2_numbers changes nothing.",)
    if left_out:
        what = "Left out what only training needs and Keras does not know"
        cautions += (f"{what}: {unknown.listed(left_out)}.",)
    return Upgraded(config, training_config, done, cautions, altered=keeps or bool(left_out))


def _without_unknown(
    config: Config, training_config: Config | None
) -> tuple[Config, Config | None, list[str]]:
    """A configuration and a training setup without what `unknown` drops, and what that is."""
    trimmed = copy.deepcopy((config, training_config))
    left_out = unknown.drop_from_layers(trimmed[0])
    left_out += [] if trimmed[1] is None else unknown.drop_metrics(trimmed[1])
    return (*(trimmed if left_out else (config, training_config)), left_out)


def _refuse_leftovers(path: Path, config: Config) -> None:
    if graphs.lacks_input(config):
        raise UnsupportedModelError(
            f"{path}: does not say what its input looks like",
            remedy="build the model with an Input of known channels and save it again",
            code=Code.NO_INPUT,
        )
    for name, operation in operations.left_over(config):
        raise UnsupportedModelError(
            f"{path}: layer {name!r} is the TensorFlow operation {operation!r}, which "
            "Keras 3 does not load",
            remedy="build the model with a stock layer and save it again",
            code=Code.OLD_KERAS,
        )
