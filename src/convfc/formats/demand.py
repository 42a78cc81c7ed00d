"""What a model takes to run, as far as its sizes are known: no run begins that cannot end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from convfc.core.geometry import Convolution, Sizes, product
from convfc.core.whole import Form, Whole
from convfc.errors import GeometryError, UnsupportedModelError
from convfc.formats.protocols import LayerPair, Site
from convfc.refusals import Code
from convfc.system.capacity import excess

Tensor = tuple[tuple[int | None, ...], int]
"""A shape and the bytes of a number of it."""


@dataclass(frozen=True)
class Demand:
    """The most that one step of a model takes, and all that its convolutions take.

    What is of unknown size is not counted; a first size that is unknown is taken for the batch's.

    Attributes:
        fixed: bytes that the largest step takes, whatever the batch.
        each: bytes that the largest step takes for each sample.
        products: multiply-adds of one sample.
    """

    fixed: int = 0
    each: int = 0
    products: int = 0

    @classmethod
    def of(cls, steps: Iterable[Sequence[Tensor]], sites: Sequence[Site]) -> Demand:
        """Count.

        Args:
            steps: what each step reads and makes.
            sites: the convolutions.
        """
        fixed = each = 0
        for tensors in steps:
            sums = [0, 0]
            for tensor in tensors:
                of_each, size = counted(tensor)
                sums[of_each] += size
            fixed, each = max(fixed, sums[0]), max(each, sums[1])
        return cls(fixed, each, sum(map(products_of, sites)))

    def check(self, feed: Mapping[str, NDArray[Any]], name: str, times: int = 1) -> None:
        """See that a run can end.

        Args:
            feed: what the model is going to be run on.
            name: of the model, for the message.
            times: as many bytes a number takes in that run as in the file.

        Raises:
            UnsupportedModelError: it takes more memory than there is, or hours.
        """
        rows = max((array.shape[0] for array in feed.values() if array.ndim), default=1)
        why = self.excess(rows, times)
        if why is not None:
            raise UnsupportedModelError(f"{name}: it is not run: {why}", code=Code.TOO_LONG)

    def excess(self, rows: int = 1, times: int = 1) -> str | None:
        """Why a run is too much for this machine, in a phrase; ``None``: it is not.

        Args:
            rows: samples.
            times: as many bytes a number takes in that run as in the file.
        """
        return excess((self.fixed + self.each * rows) * times, self.products * rows)


def counted(tensor: Tensor) -> tuple[bool, int]:
    """Whether a tensor is there for each sample, as its first size is unknown; and its bytes then.

    >>> counted(((None, 3, 5), 4)), counted(((2, None, 5), 4))
    ((True, 60), (False, 40))
    """
    shape, itemsize = tensor
    return bool(shape) and shape[0] is None, math.prod(size or 1 for size in shape) * itemsize


def padded(conv: Convolution, sizes: Sizes) -> tuple[int | None, ...]:
    """The spatial sizes of a convolution's input with its pads; ``None`` where unknown.

    Some runtimes make it: TensorFlow where pads are not its own, or where taps are apart.
    """
    pairs = zip(conv.windows, sizes, strict=True)
    pads = ((size, window.pads(size)) for window, size in pairs)
    return tuple(None if size is None or at is None else sum(at, size) for size, at in pads)


def products_of(site: Site) -> int:
    """Multiply-adds of a convolution for one sample, unknown sizes left out."""
    try:
        found = None if site.convolution is None else site.convolution.multiply_adds(site.sizes)
    except GeometryError:  # a window that does not fit, in a layer that is left
        return 0
    return found or 0


def too_much(pair: LayerPair, shape: Sequence[int]) -> str | None:
    """Why a layer cannot be run on an input of some shape; ``None``: it can.

    Raises:
        GeometryError: the window does not fit the shape.
    """
    sizes = tuple(shape[1:-1] if pair.channels_last else shape[2:])
    return _of_layer(pair.site, sizes, max(shape[0], _SAMPLES), pair.form)


def _of_layer(site: Site, sizes: Sizes, rows: int, form: Form) -> str | None:
    """Why a convolution is too much to be run alone, with numbers of our own; ``None``: it is not.

    Counted are the parameters, drawn and laid out in both layers, and input, patches and output.

    Args:
        site: the convolution.
        sizes: spatial ones of the input, all known.
        rows: samples.
        form: of the converted layer.

    Raises:
        GeometryError: the window does not fit the sizes.
    """
    conv = site.convolution
    if conv is None:
        return None
    if form is Form.DENSE:
        wholes = [Whole(conv, sizes)]
        for each in site.rest:
            wholes.append(Whole(each, wholes[-1].output))
        numbers = sum(math.prod(whole.shape) + rows * sum(whole.shape) for whole in wholes)
        return excess(_DENSE * numbers, rows * sum(math.prod(whole.shape) for whole in wholes))
    framed, known = conv.framed(sizes)
    inner = framed.inner(known)
    made, positions = product(conv.output(sizes)) or 0, inner.positions(known) or 0
    # Where sizes are known, patches are made block by block; see `limits.default_memory`.
    patches = positions * inner.taps * conv.channels
    if None not in site.sizes:
        patches = min(patches, _BLOCK)
    read = product(padded(inner, known)) or product(sizes) or 0
    numbers = read * conv.channels + made * conv.filters
    numbers = _PARAMETER * conv.weights + _LAID_OUT * inner.weights + _NUMBER * rows * numbers
    products = conv.multiply_adds(sizes) or 0
    return excess(numbers + rows * patches * site.itemsize, rows * products)


_PARAMETER, _LAID_OUT, _NUMBER = 16, 12, 16
"""Bytes: as an integer, in its own type, in a message, in a runtime."""
_DENSE = 24
"""The same for one matrix: made, in a message, in its bytes, in a runtime, and in half of it."""
_BLOCK = 2**26
_SAMPLES = 3
"""That a layer is run on at most when its batch is open: see `convfc.verification.proof`."""
