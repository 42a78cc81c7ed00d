"""What the layers of a model make, to be looked at while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from convfc.core.arrays import numpy_type


@dataclass(frozen=True)
class Tensor:
    """What a layer makes of a feed.

    Attributes:
        name: unique in the model.
        maker: the name of the layer.
        kind: the format's own word for that.
        shape: its sizes, ``None`` where only the run tells; ``None`` as a whole if not even their
            number is known.
        dtype: numpy's name of the element type.
        own: what it is called in the original of a converted model, where it may be laid out
            otherwise.
    """

    name: str
    maker: str
    kind: str
    shape: tuple[int | None, ...] | None
    dtype: str
    own: str

    @property
    def bytes(self) -> int:
        """What it takes in memory, unknown sizes left out."""
        itemsize = 8 if self.dtype == "string" else numpy_type(self.dtype).itemsize
        return math.prod(size or 1 for size in self.shape or ()) * itemsize


@dataclass(frozen=True)
class LayerOutput:
    """Which value of a converted file holds what a layer makes.

    Attributes:
        name: of the value.
        layout: ``own``, that of the original, under whose name it then is; ``channels_last``;
            ``rows``, what its product makes, before it is reshaped: a row for each position (of
            grouped layers, for each position and group), or of pointwise layers that stay
            channels first, a column; ``flat``, a row for each sample.
    """

    name: str
    layout: str


class Inner(Protocol):
    """A model that can be looked into while it runs."""

    def tensors(self, feed: Mapping[str, NDArray[Any]]) -> Sequence[Tensor]:
        """What its layers make of a feed, in the order of execution, without constants.

        What is inside other layers, functions, branches and loops cannot be seen.

        Raises:
            UnsupportedModelError: on such a feed it takes more than this machine has.
        """

    def values(
        self, feed: Mapping[str, NDArray[Any]], names: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        """Some of its `tensors` by their names; those that are no arrays lack.

        Raises:
            UnsupportedModelError: the runtime refuses the model or the feed.
        """
