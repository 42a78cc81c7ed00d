"""The numbers of a model's convolutions, to be read and replaced: what every format says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from convfc.core.arrays import Array
from convfc.core.geometry import AnyConvolution, Sizes
from convfc.errors import UnsupportedModelError
from convfc.refusals import Code, Refusal

Numbers = tuple[Array, Array | None]
"""A kernel of `AnyConvolution.kernel_shape`, and the bias (filters,), if there is one."""


@dataclass(frozen=True)
class Weights:
    """One convolution that a layer computes, with its numbers.

    Attributes:
        name: the layer's; those of a separable layer have "/depthwise" and "/pointwise" behind it.
        layer: the name of the `Site`.
        kind: the format's own word for it.
        convolution: its geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        channels_first: whether its input and output have their channels on axis 1.
        read: gives the numbers; those of a quantized layer as the real ones that they stand for.
        dtype: numpy's name of the type that the file has them in.
        zero: of a quantized layer, the integer that stands for 0 in its input.
        scale: what one step of that integer stands for.
        fixed: why its numbers cannot be replaced; ``None``: they can.
    """

    name: str
    layer: str
    kind: str
    convolution: AnyConvolution
    sizes: Sizes
    channels_first: bool
    read: Callable[[], Numbers]
    dtype: str
    zero: int = 0
    scale: float = 1.0
    fixed: str | None = None


@dataclass(frozen=True)
class Unread:
    """A layer of which there is no matrix.

    Attributes:
        name: of the layer.
        kind: the format's own word for it.
        refusal: why.
    """

    name: str
    kind: str
    refusal: Refusal


@dataclass(frozen=True)
class Chain:
    """Whether the convolutions of a model are computed one of another's output.

    Attributes:
        layers: names of those that are, in their order.
        between: kinds of what stands between them, each once: none of it can move two samples
            further apart.
        broken: what comes behind the last of them and is nothing of that kind, or is read by
            others too, where there are convolutions left; ``None``: there are none.
    """

    layers: tuple[str, ...]
    between: tuple[str, ...]
    broken: str | None = None


class Weighted(Protocol):
    """A model with convolutions, opened to read and replace their numbers."""

    @property
    def files(self) -> Sequence[Path]:
        """The file, and those beside it that hold weights of it."""

    @property
    def layers(self) -> Sequence[Weights | Unread]:
        """Every convolution, in the order of execution."""

    @property
    def chain(self) -> Chain:
        """Which of them follow each other."""

    def save(self, path: Path, numbers: Mapping[str, Numbers]) -> None:
        """Write a copy with other numbers.

        May be called once: it changes the model in memory.

        Args:
            path: where to write; files that the model needs beside it are written there too.
            numbers: by `Weights.name`, of the shapes that are there.

        Raises:
            UnsupportedModelError: other parts of the model would get other numbers as well.
            OSError: the file cannot be written.
        """


class Rewriting(Protocol):
    """A converted file whose layers are to get other numbers."""

    @property
    def files(self) -> Sequence[Path]:
        """The file, and those beside it that hold weights of it."""

    def rewrite(self, path: Path, numbers: Mapping[str, Sequence[Numbers]]) -> None:
        """Write a copy with other numbers in the places of those that there are.

        Args:
            path: where to write; files that the model needs beside it are written there too.
            numbers: by the name of a layer, those of its convolutions.

        Raises:
            UnsupportedModelError: a layer is not laid out as convfc does it any more.
            OSError: the file cannot be written.
        """


def altered(path: Path, layer: str) -> UnsupportedModelError:
    """What is raised of a layer that others have given another form since it was converted."""
    return UnsupportedModelError(
        f"{path}: layer '{layer}': it is not as convfc has converted it any more",
        remedy="revert the file, and give the reverted one the numbers",
        layer=layer,
        code=Code.NOT_KEPT,
    )
