"""What TensorFlow takes for a convolution beside what it reads and makes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from convfc.core.geometry import Convolution, Sizes
from convfc.errors import GeometryError
from convfc.formats.demand import Tensor, padded
from convfc.formats.protocols import Site
from convfc.system.capacity import excess

_WINDOWS = 4
"""Of how many windows, one below the other, oneDNN lays out the rows; seen were three."""


def workspace(site: Site) -> Sequence[Tensor]:
    """Count it: where it cannot be had, TensorFlow aborts the process.

    That is the padded input, and where there is a single channel, each row that a window sees once
    for each of its taps, in each thread. It is a bound, of what oneDNN 3.7 does with large kernels.

    Returns:
        Nothing where sizes are unknown, or the window does not fit.
    """
    if site.convolution is None:
        return ()
    try:
        framed, known = site.convolution.framed(site.sizes)
        inner = framed.inner(known)
        sizes = padded(inner, known)
    except GeometryError:
        return ()
    if None in sizes:
        return ()
    counted: list[Tensor] = [((None, *sizes, inner.channels), site.itemsize)]
    if isinstance(framed, Convolution) and inner.rank == 2 and inner.channels == 1:
        height, width = (size or 0 for size in sizes)
        window = inner.windows[0]
        rows = min(height, _WINDOWS * window.kernel * window.stride)
        counted.append(((_threads(), rows, width, math.prod(inner.kernel)), site.itemsize))
    return counted


def too_much_work(site: Site, sizes: Sizes) -> str | None:
    """Why TensorFlow cannot compute a convolution on an input of some sizes, or ``None``."""
    tensors = workspace(replace(site, sizes=tuple(sizes)))
    return excess(sum(math.prod(size or 1 for size in shape) * one for shape, one in tensors))


def _threads() -> int:
    chosen: int = tf.config.threading.get_intra_op_parallelism_threads()
    return chosen or os.cpu_count() or 1
