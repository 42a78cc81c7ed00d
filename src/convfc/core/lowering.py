"""From a convolution to patches + Dense: which patch method, on which sizes, at what cost.

A patch method is a way to build the patch matrix P; all make the same P, of which the filter matrix
makes the same output. It lives in these places; CONTRIBUTING.md says how to add one:

- here: its name (`PatchMethod`), which axes it gathers or slices (`Lowering.gathered_axes`,
  `sliced_axes`), where it does not fit (`_misfit`), what it costs (`cost`); `lower` takes the
  cheapest that fits, among those that a format can hold (`Site.methods`, set in its `sites`)
- `core.im2col`: how P is made of it (`apply`), in operations that every format has (`Ops`)
- `formats.onnx.graph_ops`, `formats.keras.layer_ops`, `formats.keras.keras_ops`: those operations
  as nodes and layers; a method changes something there only if it needs a new operation
- `tests/test_all_sizes*.py`: that a method is the convolution for every size, by `tests/symbolic`
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from convfc.arguments import choice
from convfc.core import costs, limits
from convfc.core.folding import slices_for
from convfc.core.geometry import AnyConvolution, Convolution, Pads, Sizes, product
from convfc.core.whole import Form, Whole
from convfc.refusals import Code, Refusal


class PatchMethod(StrEnum):
    """How the patch matrix is built."""

    AUTO = "auto"
    """The cheapest of the others that fit; see `cost`."""
    NONE = "none"
    """The input is its own patch matrix: a 1x1 kernel with stride 1, or the dense form."""
    RESHAPE = "reshape"
    """Kernel == stride: windows tile the input, a reshape and a transpose cut it up."""
    GATHER = "gather"
    """One gather over all pixels. Its index map is a constant, or computed for unknown sizes."""
    ROWS = "rows"
    """Taps of the last axis by slices, then one gather of whole rows of taps. As `GATHER`."""
    SLICE = "slice"
    """Slices for the taps of one axis after another. Works with unknown sizes."""
    TAPS = "taps"
    """Groups of one channel: a slice per tap, times its weights, added up; P is never there."""
    SHIFT = "shift"
    """Slices for the taps of all axes but the first; what those of the first make is added up."""


@dataclass(frozen=True)
class Lowering:
    """A convolution on an input of given sizes, and the method that builds its patch matrix.

    Attributes:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        method: never AUTO: the method that was chosen.
        block: positions of the output that are computed at once, along the first axes; all along
            those that are not mentioned. Patches of so many exist at the same time.
        form: what it becomes; all that is said of patches is about the first one.
        bands: the same where the first size is unknown: how many pieces, see `core.bands`.
    """

    convolution: AnyConvolution
    sizes: Sizes
    method: PatchMethod
    block: tuple[int, ...] = ()
    form: Form = Form.PATCHES
    bands: int = 1

    @cached_property
    def whole(self) -> Whole | None:
        """The one matrix that it is; ``None`` where a size is unknown."""
        known = None not in self.sizes and None not in self.output
        return Whole(self.convolution, self.sizes) if known else None

    @cached_property
    def framed(self) -> tuple[AnyConvolution, Sizes]:
        """What is computed, on which sizes; see `AnyConvolution.framed`."""
        return self.convolution.framed(self.sizes)

    @cached_property
    def inner(self) -> Convolution:
        """The ordinary convolution that computes it; patches and product are those of it."""
        if self.form is Form.DENSE and self.whole is not None:
            return self.whole.inner
        convolution, sizes = self.framed
        return convolution.inner(sizes)

    @cached_property
    def pads(self) -> tuple[Pads, ...] | None:
        """Zeros around the input per axis, or a crop; ``None`` if they are found at run time."""
        return self.convolution.pads(self.sizes)

    @cached_property
    def output(self) -> Sizes:
        """Spatial output sizes."""
        return self.convolution.output(self.sizes)

    @cached_property
    def patch_matrix(self) -> tuple[int | None, int]:
        """Rows and columns of P for one sample, all groups together."""
        conv = self.inner
        return conv.positions(self.framed[1]), conv.taps * conv.channels

    @cached_property
    def filter_matrix(self) -> tuple[int, int]:
        """Rows and columns of F (of each block, with groups)."""
        conv = self.inner
        return conv.patch_length, conv.filters // conv.groups

    @property
    def gathered_axes(self) -> int:
        """How many axes, from the first on, an index map reaches over."""
        rank = self.convolution.rank
        return {PatchMethod.GATHER: rank, PatchMethod.ROWS: rank - 1}.get(self.method, 0)

    @property
    def sliced_axes(self) -> tuple[list[int], list[int]]:
        """Axes whose taps are slices: those with one tap, and the others, the last one first.

        The taps of the last one then vary fastest along the columns of P.
        """
        taps = list(enumerate(self.inner.kernel))[self.gathered_axes :]
        if self.method in (PatchMethod.NONE, PatchMethod.RESHAPE):
            taps = []
        single = [axis for axis, kernel in taps if kernel == 1]
        return single, [axis for axis, kernel in reversed(taps) if kernel > 1]

    @cached_property
    def index_entries(self) -> int:
        """Entries of the index map for one block; 0 without one."""
        size = self.block_bytes(1)
        folded = math.prod(self.inner.kernel[self.gathered_axes :]) * self.inner.channels
        return size // folded if size is not None and self.gathered_axes else 0

    def input_bytes(self, itemsize: int) -> int | None:
        """Bytes of the unpadded input for one sample, ``None`` if unknown."""
        pixels = product(self.sizes)
        return None if pixels is None else pixels * self.convolution.channels * itemsize

    def patch_bytes(self, itemsize: int) -> int | None:
        """Bytes that P takes for one sample; 0 where the input itself is P, ``None`` if unknown.

        By taps, only the column of one tap of each channel is there at a time; shifted, those of
        one tap of the first axis.
        """
        if self.method is PatchMethod.NONE:
            return 0
        rows, columns = self.patch_matrix
        if self.method is PatchMethod.TAPS:
            columns = self.inner.channels
        elif self.method is PatchMethod.SHIFT:
            columns //= self.inner.kernel[0]
        return None if rows is None else rows * columns * itemsize

    def block_bytes(self, itemsize: int) -> int | None:
        """Bytes of P that exist at the same time, for one sample; ``None`` if unknown."""
        size = self.patch_bytes(itemsize)
        for output, at_once in zip(self.inner.output(self.framed[1]), self.block, strict=False):
            if size is not None and output is not None:
                size = size // output * at_once
        return size

    @cached_property
    def blocks(self) -> int:
        """Into how many pieces the output is cut; 1 if it is not."""
        pairs = zip(self.inner.output(self.framed[1]), self.block, strict=False)
        known = (-(-output // at_once) for output, at_once in pairs if output is not None)
        return self.bands * math.prod(known)

    @property
    def operations(self) -> int:
        """About how many operations a graph of it has: what takes and joins taps, in each block."""
        conv, (_, several) = self.inner, self.sliced_axes
        if self.method is PatchMethod.TAPS:
            return self.blocks * (3 * conv.taps + _AROUND)
        known = None not in self.framed[1]
        taps = sum(slices_for(conv, axis) if known else conv.kernel[axis] for axis in several)
        return self.blocks * (taps + len(several) + _AROUND)

    def block_edges(self, axis: int) -> list[tuple[int, int]]:
        """First position along an axis and the one behind its last, for each block.

        Empty behind the last axis that `block` mentions.

        >>> from convfc.core.builders import convolution
        >>> pointwise = convolution([1], channels=1, filters=1)
        >>> Lowering(pointwise, (10,), PatchMethod.NONE, block=(4,)).block_edges(0)
        [(0, 4), (4, 8), (8, 10)]
        """
        output = self.inner.output(self.framed[1])[axis] if axis < len(self.block) else None
        if output is None:
            return []
        at_once = self.block[axis]
        return [(start, min(start + at_once, output)) for start in range(0, output, at_once)]


MOST_OPERATIONS = 2**12
"""Operations that one layer may become: so many are still loaded and compared in seconds."""
_AROUND = 8
"""Operations of a block that are not about taps: about as many as there are."""


def lower(
    convolution: AnyConvolution,
    sizes: Sizes,
    patches: PatchMethod | str = PatchMethod.AUTO,
    available: frozenset[PatchMethod] = frozenset(PatchMethod),
    itemsize: int = 4,
    memory: int | None = None,
    banded: bool = False,
) -> Lowering | Refusal:
    """Choose how a convolution's patches are built.

    A 1x1 kernel with stride 1 needs no patches, whatever was asked for. Otherwise AUTO takes
    reshape where it fits (the input itself is rearranged), else what `cost` finds cheapest.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes, ``None`` where unknown.
        patches: the method that the user asked for, or its name.
        available: the methods that the model's format can hold.
        itemsize: bytes of a number in the patches.
        memory: bytes that the patches of one sample may take; output is computed in blocks of
            positions where they would take more. Without it see `core.limits`. One position's
            patches are made at once, whatever they take, and where a size is unknown all of a band.
        banded: whether the model's format can cut an axis of unknown size into bands.

    Returns:
        A `Lowering`, or a `Refusal` when the method that was asked for does not fit.

    Raises:
        GeometryError: the window does not fit the sizes.
        UsageError: there is no such method.

    >>> from convfc.core.builders import convolution
    >>> lower(convolution([2], channels=1, filters=1), (4,), PatchMethod.RESHAPE).reason
    'reshape needs kernel == stride and no dilation; use --patches auto'
    """
    patches = choice("patches", patches, PatchMethod)
    convolution.output(sizes)
    excess = limits.excess_of(convolution, sizes, itemsize)
    if excess is not None:
        return excess
    methods = [PatchMethod.NONE, patches]
    if patches is PatchMethod.AUTO:
        methods = [method for method in PatchMethod if method is not patches]
    found, refusals = [], []
    for method in methods:
        lowering = _cut(Lowering(convolution, sizes, method), itemsize, memory, banded)
        misfit = _misfit(lowering)
        if misfit is None and method not in available:
            misfit = "is not to be had here, in this format or opset"
            if lowering.gathered_axes and None in lowering.framed[1]:
                misfit = _NEEDS_SIZES
        if misfit is None:
            found.append(lowering)
        else:
            refusals.append(f"{method.value} {misfit}")
    if found:
        return min(found, key=lambda lowering: cost(lowering, itemsize))
    remedy = "" if patches is PatchMethod.AUTO else "; use --patches auto"
    code = Code.METHOD
    if patches is PatchMethod.AUTO:  # slices fit whatever there is, if there are not too many
        lacks = PatchMethod.SLICE not in available
        code = Code.OPSET if lacks else Code.OPEN_SIZE if None in sizes else Code.LAYER_TOO_LARGE
    return Refusal("; ".join(refusals[1:]) + remedy, code)


def _cut(lowering: Lowering, itemsize: int, memory: int | None, banded: bool) -> Lowering:
    """The same in blocks or bands, of which the patches take less memory; see `lower`."""
    size, conv, sizes = lowering.patch_bytes(itemsize), lowering.inner, lowering.framed[1]
    if size is not None:
        outputs, copies = conv.output(sizes), 2 if conv.depthwise else 1  # P, and P times weights
        return replace(lowering, block=limits.block_of(size, outputs, copies, memory))
    if not banded or sizes[0] is not None or conv.groups > 1:
        return lowering
    size = replace(lowering, convolution=conv, sizes=_told(lowering)).patch_bytes(itemsize) or 0
    cut = replace(lowering, bands=limits.bands_of(size, conv.weights * itemsize, memory))
    return cut if cut.operations <= MOST_OPERATIONS else lowering


_NEEDS_SIZES = "needs sizes that are known before run time"


def cost(lowering: Lowering, itemsize: int) -> float:
    """What it takes to build P for one sample; see `convfc.core.costs`.

    Between methods that fit; 0 for those that are never worse than the others.
    """
    inner, method = lowering.inner, lowering.method
    if method in (PatchMethod.NONE, PatchMethod.RESHAPE):
        return 0.0
    told, conv = _told(lowering), inner.unpadded
    sizes: Sizes = tuple(
        size + sum(pad) for size, pad in zip(told, inner.pads(told) or (), strict=True)
    )
    entries, width = (conv.positions(sizes) or 0) * conv.taps, conv.channels * itemsize
    if method is PatchMethod.TAPS:
        return costs.by_taps(entries, width, conv.taps)
    total = costs.multiplied(entries, width) if inner.depthwise else 0.0
    single, several = lowering.sliced_axes
    for axis in single:
        conv, sizes = conv.folded(axis, sizes)
    if single:
        total += costs.cut(product(sizes) or 0, conv.channels * itemsize)
    for axis in several:
        if method is PatchMethod.SHIFT and axis == 0:
            return total + costs.shifted(product(sizes) or 0, conv.filters * itemsize, conv.taps)
        slices = slices_for(conv, axis)
        conv, sizes = conv.folded(axis, sizes)
        total += costs.joined(product(sizes) or 0, conv.channels * itemsize, slices)
    if lowering.gathered_axes:
        entries = (conv.positions(sizes) or 0) * conv.taps
        total += costs.gathered(entries, conv.channels * itemsize, None in lowering.framed[1])
    return total


def _told(lowering: Lowering) -> tuple[int, ...]:
    """Sizes of what is computed; what is not known is taken for some size."""
    axes = zip(lowering.framed[1], lowering.inner.windows, strict=True)
    return tuple(max(costs.UNKNOWN, w.extent) if size is None else size for size, w in axes)


def _misfit(lowering: Lowering) -> str | None:
    """Why a method does not fit a convolution, or ``None``."""
    method, (_, sizes) = lowering.method, lowering.framed
    inner, windows = lowering.inner, lowering.inner.windows
    if method is PatchMethod.NONE:
        pointwise = all(w.kernel == w.stride == 1 for w in windows)
        return None if pointwise else "fits a 1x1 kernel with stride 1 only"
    if method is PatchMethod.RESHAPE and any(not w.kernel == w.extent == w.stride for w in windows):
        return "needs kernel == stride and no dilation"
    endless = lowering.gathered_axes > 0 and inner.taps > MOST_OPERATIONS
    if None in sizes and (endless or method is PatchMethod.RESHAPE):
        return _NEEDS_SIZES
    if method is PatchMethod.ROWS and (inner.rank == 1 or windows[-1].kernel == 1):
        return "needs several taps along the last of several axes"
    if (entries := lowering.index_entries) > limits.LARGEST_INDEX_MAP:
        return f"would need an index map of {entries:,} entries in the file"
    if method is PatchMethod.TAPS and not inner.depthwise:
        return "needs groups of one channel"
    shifts = inner.groups == 1 and windows[0].kernel > windows[0].stride == 1
    if method is PatchMethod.SHIFT and not shifts:
        return "needs one group, and several taps with stride 1 along the first axis"
    if lowering.operations > MOST_OPERATIONS:
        return _of_many(lowering)
    return None


def _of_many(lowering: Lowering) -> str:
    """That a graph would be too long, and what there is to be done about it."""
    most = f"at most {MOST_OPERATIONS:,} are made of a layer"
    whole = replace(lowering, block=())
    if whole.operations > MOST_OPERATIONS:
        return f"would take {whole.operations:,} operations; {most}"
    made = f"{lowering.blocks:,} blocks, {lowering.operations:,} operations"
    return f"would be cut into {made}; {most}: give --patch-memory more"
