"""From a convolution to one matrix: whether that can be, and whether it is not too large."""

from __future__ import annotations

from collections.abc import Sequence

from convfc.core.geometry import AnyConvolution, Sizes
from convfc.core.limits import excess_of
from convfc.core.lowering import Lowering, PatchMethod
from convfc.core.whole import Form
from convfc.refusals import Code, Refusal

DENSE_LIMIT = 2**30
"""Bytes of the matrices of one file, where nobody says: 1 GiB."""


def lower_dense(convolution: AnyConvolution, sizes: Sizes, itemsize: int = 4) -> Lowering | Refusal:
    """A convolution as one matrix.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        itemsize: bytes of a number.

    Returns:
        A `Lowering`, or a `Refusal` where a size is open or no file could hold it.

    Raises:
        GeometryError: the window does not fit the sizes.

    >>> from convfc.core.builders import convolution
    >>> lower_dense(convolution([3], channels=1, filters=2), (None,)).reason
    'one matrix needs every size, and some are open'
    >>> lower_dense(convolution([3], channels=1, filters=2), (8,)).filter_matrix
    (8, 12)
    """
    convolution.output(sizes)
    excess = excess_of(convolution, sizes, itemsize)
    if excess is not None:
        return excess
    lowering = Lowering(convolution, sizes, PatchMethod.NONE, form=Form.DENSE)
    if lowering.whole is None:
        return Refusal("one matrix needs every size, and some are open", Code.OPEN_SIZE)
    excess = excess_of(lowering.inner, sizes, itemsize)
    return lowering if excess is None else excess


def lower_chain(
    convolutions: Sequence[AnyConvolution], sizes: Sizes, itemsize: int = 4
) -> list[Lowering] | Refusal:
    """Convolutions that are computed one of another's output, each as one matrix.

    Args:
        convolutions: in their order; more than one for a separable layer.
        sizes: spatial input sizes of the first, ``None`` where unknown.
        itemsize: bytes of a number.

    Raises:
        GeometryError: a window does not fit the sizes.
    """
    found: list[Lowering] = []
    for each in convolutions:
        lowering = lower_dense(each, found[-1].output if found else sizes, itemsize)
        if isinstance(lowering, Refusal):
            return lowering
        found.append(lowering)
    return found
