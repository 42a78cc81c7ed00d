"""The tensors between the layers of a graph: which there are, and of which sizes on a feed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from convfc.formats.inner import Tensor
from convfc.formats.keras.internals import calls_of


def made_in(graph: Any) -> dict[str, tuple[Any, Any]]:
    """What each call of a graph makes, by a name: a symbolic tensor, and what is called.

    The name is the layer's, with a number behind if it makes several or is called again.

    Args:
        graph: a Functional model.
    """
    seen: Counter[str] = Counter()
    found = {}
    for call in calls_of(graph):
        for tensor in [] if call.is_input else call.outputs:
            name = call.operation.name
            found[f"{name}:{seen[name]}" if seen[name] else name] = tensor, call.operation
            seen[name] += 1
    return found


def tensors_of(graph: Any, shapes: Sequence[tuple[int | None, ...]]) -> list[Tensor]:
    """What each call of a graph makes.

    Args:
        graph: a Functional model.
        shapes: of what its inputs are fed.
    """
    made = made_in(graph)
    if not made:
        return []
    probe = keras.Model(graph.inputs, [tensor for tensor, _ in made.values()])
    dtypes = (tensor.dtype for tensor in graph.inputs)
    fed = [keras.KerasTensor(*one) for one in zip(shapes, dtypes, strict=True)]
    sized = keras.tree.flatten(probe.compute_output_spec(fed))
    return [
        Tensor(name, operation.name, type(operation).__name__, tuple(x.shape), x.dtype, name)
        for (name, (_, operation)), x in zip(made.items(), sized, strict=True)
    ]
