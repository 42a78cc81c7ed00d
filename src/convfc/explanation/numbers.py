"""The numbers of one layer on one sample: y = P F + b with everything filled in."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.applying import NumpyOps, filter_matrices, patch_tensor
from convfc.conversion import convert
from convfc.datafiles import load_samples
from convfc.errors import DataError, UnsupportedModelError, UsageError
from convfc.formats import Format, format_of, open_model
from convfc.geometry import Convolution, Window
from convfc.lowering import Lowering, lower
from convfc.model import Model, Port, Site, Twin
from convfc.samples import Feeds, make_feeds

Array = NDArray[Any]


@dataclass(frozen=True)
class Explanation:
    """One convolution of two spatial axes (a first one of size 1 is added to a single one).

    With groups, matrices are those of the first block of channels.

    Attributes:
        title: what is explained.
        lowering: geometry and sizes.
        image: (height, width, channels), what the layer is fed.
        said: what the sample is.
        patches: P, (positions, taps * channels / groups).
        filters: F, (taps * channels / groups, filters / groups).
        bias: (filters / groups,) or ``None``.
        output: (positions, filters / groups), what the layer itself makes of the image, before
            its activation.
        difference: the largest distance between that and P F + b in double precision; ``None``
            without a model, where the output is P F.
    """

    title: str
    lowering: Lowering
    image: Array
    said: str
    patches: Array
    filters: Array
    bias: Array | None
    output: Array
    difference: float | None

    @property
    def convolution(self) -> Convolution:
        """The geometry."""
        return self.lowering.inner

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = self.lowering.output
        assert height is not None and width is not None  # noqa: S101, PT018 - all is known
        return height, width

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zeros before and after each axis."""
        pads = self.lowering.pads
        assert pads is not None  # noqa: S101 - all is known
        return pads

    def corner(self, position: int) -> tuple[int, int]:
        """Row and column of a window's first tap in the image; negative in the padding."""
        place = divmod(position, self.outputs[1])
        axes = zip(place, self.convolution.windows, self.pads, strict=True)
        row, column = (at * window.stride - before for at, window, (before, _) in axes)
        return row, column

    @property
    def telling(self) -> tuple[int, int]:
        """The window and the filter of the first block that have most to show."""
        window = int(np.argmax(np.ptp(self.patches, axis=1) + np.var(self.patches, axis=1)))
        varied = np.ptp(self.output, axis=0) * np.ptp(self.filters, axis=0)
        return window, int(np.argmax(varied))

    def patch_image(self, position: int, channel: int = 0) -> Array:
        """The window of a position, one channel of it: (taps, taps)."""
        window = self.patches[position].reshape(*self.convolution.kernel, -1)
        return np.asarray(window[..., channel])

    def filter_image(self, number: int, channel: int = 0) -> Array:
        """A filter laid out as it lies in the window, one channel of it: (taps, taps)."""
        window = self.filters[:, number].reshape(*self.convolution.kernel, -1)
        return np.asarray(window[..., channel])

    def output_image(self, number: int) -> Array:
        """What one filter makes of the image: (height, width)."""
        return self.output[:, number].reshape(self.outputs)


def heading(explained: Explanation) -> str:
    """The output's sizes, with the formula filled in (equations 5 and 6 of Ma & Lu, 2017)."""
    conv = explained.convolution
    axes = zip(explained.image.shape, conv.windows, explained.pads, explained.outputs, strict=False)
    formulas = [
        f"⌊({size} + {sum(pads)} - {window.extent}) / {window.stride}⌋ + 1 = {output}"
        for size, window, pads, output in axes
    ]
    return "output size: " + "  ×  ".join(dict.fromkeys(formulas))


def explain_model(
    model: str | Path,
    layer: str | None = None,
    *,
    sample: int | None = None,
    digit: int | None = None,
    data: str | Path = "mnist",
    imports: Sequence[str] = (),
) -> Explanation:
    """Explain a layer of a model file with its own kernel, on what it is really fed.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        layer: the name of a convolution; the first one if left out.
        sample: which sample of `data` the model is run on, from 0; the first if left out.
        digit: instead, the first sample with this label.
        data: what `load_samples` takes.
        imports: modules that register custom Keras classes.

    Raises:
        UsageError: no such layer, or both a sample and a digit.
        UnsupportedModelError: a layer that cannot be drawn in two dimensions, or whose kernel or
            input cannot be seen.
        FileError: the file cannot be read.
        DataError: the samples cannot be read or hold no such one.
    """
    path = Path(model)
    opened = open_model(path, imports)
    site = _site(opened, layer)
    where = f"{path}: layer {site.name!r}"
    index = _index(data, sample, digit)
    feeds = make_feeds(opened.inputs, data=data, samples=index + 1)
    x = _activation(opened, site, feeds, index, where)
    channels_first = format_of(path) is Format.ONNX or opened.inputs[0].channels_last is False
    with tempfile.TemporaryDirectory(prefix="convfc-") as folder:
        out = Path(folder) / path.name
        done = convert(path, out, only=[glob.escape(site.name)], imports=imports)
        if not done.written:
            reasons = [one.reason for one in done.layers if one.site.name == site.name]
            raise UnsupportedModelError(f"{where}: {reasons[0]}")
        twin = opened.align(open_model(out, imports)).twins[0]
        kernel, bias = _parameters(twin, site, path, where)
        y = np.asarray(twin.original(x, {}), np.float32)
    if channels_first:
        x, y = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)
    said = f"sample {index} of the {load_samples(data, 1).source}"
    assert isinstance(site.convolution, Convolution)  # noqa: S101 - `_site` saw to it
    return _explanation(f"{path.name}: {site.name}", site.convolution, x, kernel, bias, y, said)


def explain_convolution(
    convolution: Convolution,
    sizes: Sequence[int],
    *,
    sample: int | None = None,
    digit: int | None = None,
    data: str | Path = "mnist",
) -> Explanation:
    """Explain a convolution without a model: its filters are cosine patterns.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes.
        sample: which sample of `data` to take, from 0; it is resized to `sizes`.
        digit: instead, the first sample with this label.
        data: what `load_samples` takes.

    Raises:
        UsageError: both a sample and a digit.
        UnsupportedModelError: more than two spatial axes.
        GeometryError: the window does not fit the sizes.
        DataError: the samples cannot be read or hold no such one.
    """
    convolution.output(tuple(sizes))
    _require_flat(convolution, "the convolution")
    index = _index(data, sample, digit)
    port = Port("image", (None, *sizes, convolution.channels), "float32", channels_last=True)
    feeds = make_feeds([port], data=data, samples=index + 1)
    _require_row(feeds, index)
    x = feeds.take(range(index, index + 1))["image"]
    said = (
        f"sample {index} of the {load_samples(data, 1).source}; "
        "the filters are cosine patterns, as no model gives any"
    )
    kernel = _cosines(convolution)
    return _explanation("", convolution, x, kernel, None, None, said)


def _explanation(
    title: str,
    conv: Convolution,
    x: Array,
    kernel: Array,
    bias: Array | None,
    y: Array | None,
    said: str,
) -> Explanation:
    """Everything from one sample (1, sizes.., channels), the kernel, and the layer's output."""
    if conv.rank == 1:
        conv = replace(conv, windows=(Window(1), *conv.windows))
        x, kernel = x[:, None], kernel[None]
    lowering = lower(conv, x.shape[1:-1])
    assert isinstance(lowering, Lowering), lowering  # noqa: S101 - all sizes are known
    depth, width = conv.channels // conv.groups, conv.filters // conv.groups
    rows = patch_tensor(NumpyOps(kernel), x, lowering).reshape(-1, conv.taps, conv.channels)
    patches = rows[..., :depth].reshape(len(rows), conv.patch_length)
    filters = filter_matrices(kernel, conv.groups)[0]
    bias = None if bias is None else bias[:width]
    computed = patches.astype(np.float64) @ filters + (0 if bias is None else bias)
    output = computed if y is None else y.reshape(-1, conv.filters)[:, :width]
    return Explanation(
        title=title,
        lowering=lowering,
        image=x[0],
        said=said,
        patches=patches,
        filters=filters,
        bias=bias,
        output=output,
        difference=None if y is None else float(np.max(np.abs(computed - output))),
    )


def _site(opened: Model, layer: str | None) -> Site:
    names = [site.name for site in opened.sites]
    if not names:
        raise UsageError(f"{opened.path}: no convolution in it")
    if layer is not None and layer not in names:
        raise UsageError(
            f"{opened.path}: no convolution {layer!r} in it; there is {', '.join(names)}"
        )
    site = opened.sites[0 if layer is None else names.index(layer)]
    where = f"{opened.path}: layer {site.name!r}"
    if site.reason is not None or site.convolution is None:
        raise UnsupportedModelError(f"{where}: {site.reason}")
    if not isinstance(site.convolution, Convolution):
        raise UnsupportedModelError(
            f"{where}: is a transposed convolution, whose windows lie in its output; "
            "explain draws ordinary ones"
        )
    _require_flat(site.convolution, where)
    return site


def _require_flat(convolution: Convolution, where: str) -> None:
    if convolution.rank > 2:
        raise UnsupportedModelError(
            f"{where}: has {convolution.rank} spatial axes; explain draws one or two"
        )


def _index(data: str | Path, sample: int | None, digit: int | None) -> int:
    """The number of the sample that is meant."""
    if digit is None:
        return sample or 0
    if sample is not None:
        raise UsageError("give --sample or --digit, not both")
    labels = load_samples(data).labels
    if labels is None or digit not in labels:
        raise DataError(f"{data}: holds no sample with the label {digit}")
    return int(np.flatnonzero(labels == digit)[0])


def _require_row(feeds: Feeds, index: int) -> None:
    if feeds.rows <= index:
        raise DataError(f"sample {index}: there are only {feeds.rows}, the first is 0")


def _activation(opened: Model, site: Site, feeds: Feeds, index: int, where: str) -> Array:
    """What a layer is fed for one sample: (1, ..)."""
    _require_row(feeds, index)
    row = index % feeds.rows_per_batch
    first = index - row
    feed = feeds.take(range(first, min(first + feeds.rows_per_batch, feeds.rows)))
    found = opened.activations(feed, [site.name])
    if site.name not in found:
        raise UnsupportedModelError(
            f"{where}: what it is fed cannot be seen from outside (it is in a branch, a loop, "
            "another model, or called twice)"
        )
    return np.asarray(found[site.name][row : row + 1])


def _parameters(twin: Twin, site: Site, path: Path, where: str) -> tuple[Array, Array | None]:
    """The kernel, channels last, and the bias."""
    values = list(twin.parameters.values())
    known = [np.asarray(value, np.float32) for value in values if value is not None]
    if not values or len(known) < len(values) or len(twin.stages) > 1:
        raise UnsupportedModelError(
            f"{where}: explain needs one stored kernel of real numbers; this layer is separable, "
            "quantized, or its kernel is computed at run time"
        )
    assert site.convolution is not None  # noqa: S101 - `_site` saw to it
    kernel, *biases = known
    if format_of(path) is Format.ONNX:
        kernel = kernel.transpose(*range(2, kernel.ndim), 1, 0)
    return kernel.reshape(site.convolution.kernel_shape), biases[0] if biases else None


def _cosines(conv: Convolution) -> Array:
    """Filters of waves, from flat to ever more of them along either axis."""
    grids = np.meshgrid(*((np.arange(size) + 0.5) / size for size in conv.kernel), indexing="ij")
    waves = sorted(np.ndindex(*(conv.filters,) * conv.rank), key=lambda wave: (sum(wave), wave))
    patterns = [
        np.prod([np.cos(np.pi * n * grid) for n, grid in zip(wave, grids, strict=True)], axis=0)
        for wave in waves[: conv.filters]
    ]
    kernel = np.stack(patterns, axis=-1)[..., None, :] / conv.patch_length
    return np.broadcast_to(kernel, conv.kernel_shape).astype(np.float32)
