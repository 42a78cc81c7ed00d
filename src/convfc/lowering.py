"""From a convolution to patches + Dense: which patch method, on which sizes, at what cost.

What a lowering computes is in `convfc.applying`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from convfc.geometry import AnyConvolution, Convolution, Pads, Sizes, product


class PatchMethod(str, Enum):
    """How the patch matrix is built."""

    AUTO = "auto"
    """The first of the others that fits; see `lower` for their order."""
    NONE = "none"
    """A 1x1 kernel with stride 1: the input is its own patch matrix."""
    RESHAPE = "reshape"
    """Kernel == stride: windows tile the input, a reshape and a transpose cut it up."""
    GATHER = "gather"
    """The index map as a constant: one gather over all pixels. Needs known, moderate sizes."""
    SLICE = "slice"
    """One strided slice per tap, concatenated. Works with unknown sizes."""


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be lowered, in words for the person who asked."""

    reason: str


@dataclass(frozen=True)
class Lowering:
    """A convolution on an input of given sizes, and the method that builds its patch matrix.

    Attributes:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        method: never AUTO: the method that was chosen.
        block: rows of output positions, along the first axis, that are computed at once. Patches
            of so many rows exist at the same time; ``None`` for all.
    """

    convolution: AnyConvolution
    sizes: Sizes
    method: PatchMethod
    block: int | None = None

    @property
    def framed(self) -> tuple[AnyConvolution, Sizes]:
        """What is computed, on which sizes; see `AnyConvolution.framed`."""
        return self.convolution.framed(self.sizes)

    @property
    def inner(self) -> Convolution:
        """The ordinary convolution that computes it; patches and product are those of it."""
        convolution, sizes = self.framed
        return convolution.inner(sizes)

    @property
    def pads(self) -> tuple[Pads, ...] | None:
        """Zeros around the input per axis, or what a transposed convolution crops off.

        ``None`` if they depend on an unknown size and are found at run time.
        """
        return self.convolution.pads(self.sizes)

    @property
    def output(self) -> Sizes:
        """Spatial output sizes."""
        return self.convolution.output(self.sizes)

    @property
    def patch_matrix(self) -> tuple[int | None, int]:
        """Rows and columns of P for one sample, all groups together."""
        conv = self.inner
        return conv.positions(self.framed[1]), conv.taps * conv.channels

    @property
    def filter_matrix(self) -> tuple[int, int]:
        """Rows and columns of F (of each block, with groups)."""
        conv = self.inner
        return conv.patch_length, conv.filters // conv.groups

    def input_bytes(self, itemsize: int) -> int | None:
        """Bytes of the unpadded input for one sample, ``None`` if unknown."""
        pixels = product(self.sizes)
        return None if pixels is None else pixels * self.convolution.channels * itemsize

    def patch_bytes(self, itemsize: int) -> int | None:
        """Bytes that P takes for one sample; 0 where the input itself is P, ``None`` if unknown."""
        if self.method is PatchMethod.NONE:
            return 0
        rows, columns = self.patch_matrix
        return None if rows is None else rows * columns * itemsize

    def block_bytes(self, itemsize: int) -> int | None:
        """Bytes of P that exist at the same time, for one sample; ``None`` if unknown."""
        whole, rows = self.patch_bytes(itemsize), self._rows
        if whole is None or rows is None or self.block is None:
            return whole
        return whole // rows * self.block

    @property
    def _rows(self) -> int | None:
        return self.inner.output(self.framed[1])[0]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """First row of each block and the row behind its last; empty where there is but one."""
        rows = self._rows
        if rows is None or self.block is None:
            return []
        return [(start, min(start + self.block, rows)) for start in range(0, rows, self.block)]


_LARGEST_BLOCK = 2**28
"""Bytes of patches for one sample up to which they are made at once: 256 MB."""
_SMALL_INDEX_MAP = 2**16
"""Entries up to which AUTO gathers: 256 KB in the file, which a few slices do not take."""
_LARGEST_INDEX_MAP = 2**22
"""Entries up to which one may ask for a gather: 16 MB in the file, more than most nets weigh."""


def lower(
    convolution: AnyConvolution,
    sizes: Sizes,
    patches: PatchMethod = PatchMethod.AUTO,
    available: frozenset[PatchMethod] = frozenset(PatchMethod),
    itemsize: int = 4,
) -> Lowering | Refusal:
    """Choose how a convolution's patches are built.

    A 1x1 kernel with stride 1 needs no patches, whatever was asked for. Otherwise AUTO prefers
    reshape (no copy per tap at all). Then comes gather (one node) while its index map is small,
    else slice; a single tap is a single slice, so there is nothing to gather.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        patches: the method that the user asked for.
        available: the methods that the model's format can hold.
        itemsize: bytes of a number in the patches, by which they are cut into blocks.

    Returns:
        A `Lowering`, or a `Refusal` when the method that was asked for does not fit.

    Raises:
        GeometryError: the window does not fit the sizes.
    """
    convolution.output(sizes)
    framed, known = convolution.framed(sizes)
    inner = framed.inner(known)
    order = [PatchMethod.NONE, patches]
    if patches is PatchMethod.AUTO:
        order = [PatchMethod.NONE, PatchMethod.RESHAPE, PatchMethod.GATHER, PatchMethod.SLICE]
        if inner.taps == 1 or _index_entries(inner, known) > _SMALL_INDEX_MAP:
            order[2:] = PatchMethod.SLICE, PatchMethod.GATHER
    refusals = []
    for method in order:
        misfit = _misfit(method, inner, known)
        if misfit is None and method not in available:
            misfit = "is not to be had here, in this format or opset"
        if misfit is None:
            whole = Lowering(convolution, sizes, method)
            return replace(whole, block=_block(whole, itemsize))
        refusals.append(f"{method.value} {misfit}")
    remedy = "" if patches is PatchMethod.AUTO else "; use --patches auto"
    return Refusal("; ".join(refusals[1:]) + remedy)


def _block(lowering: Lowering, itemsize: int) -> int | None:
    """Rows whose patches may exist at once, where not all may."""
    size, rows = lowering.patch_bytes(itemsize), lowering._rows
    if size is None or rows is None or size <= _LARGEST_BLOCK:
        return None
    return max(rows * _LARGEST_BLOCK // size, 1)


def _misfit(method: PatchMethod, convolution: Convolution, sizes: Sizes) -> str | None:
    """Why a method does not fit a convolution, or ``None``."""
    windows = convolution.windows
    if method is PatchMethod.NONE:
        pointwise = all(w.kernel == w.stride == 1 for w in windows)
        return None if pointwise else "fits a 1x1 kernel with stride 1 only"
    if method is PatchMethod.RESHAPE and any(not w.kernel == w.extent == w.stride for w in windows):
        return "needs kernel == stride and no dilation"
    if method is not PatchMethod.SLICE and None in sizes:
        return "needs sizes that are known before run time"
    entries = _index_entries(convolution, sizes)
    if method is PatchMethod.GATHER and entries > _LARGEST_INDEX_MAP:
        return f"would need an index map of {entries:,} entries in the file"
    return None


def _index_entries(convolution: Convolution, sizes: Sizes) -> int:
    return (convolution.positions(sizes) or 0) * convolution.taps
