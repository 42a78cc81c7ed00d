"""An explanation of a layer of a model file."""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from convfc import arguments
from convfc.conversion import convert
from convfc.core.arrays import Array, numpy_type
from convfc.core.geometry import Convolution
from convfc.core.quantization import Quantization
from convfc.errors import DataError, UnsupportedModelError, UsageError
from convfc.explanation.agreement import DisagreementError
from convfc.explanation.numbers import Explanation, explanation
from convfc.formats.protocols import LayerPair, Model, Site
from convfc.formats.registry import open_model
from convfc.gates import gated
from convfc.refusals import Code
from convfc.samples.feeds import Feeds, make_feeds
from convfc.samples.files import load_samples
from convfc.system.atomic import temporary_folder
from convfc.system.surroundings import undisturbed


@undisturbed()
@gated
def explain_model(
    model: str | Path,
    layer: str | None = None,
    *,
    sample: int | None = None,
    digit: int | None = None,
    data: str | Path = "mnist",
    batch: int = 1,
    imports: Sequence[str] = (),
) -> Explanation:
    """Explain a layer of a model file with its own kernel, on what it is really fed.

    Args:
        model: a .onnx, .h5, .hdf5 or .keras file.
        layer: the name of a convolution; the first one if left out.
        sample: which sample of `data` the model is run on, from 0; the first if left out.
        digit: instead, the first sample with this label.
        data: what `load_samples` takes.
        batch: how many samples, from that one on; see `Explanation.batch`.
        imports: modules that register custom Keras classes.

    Raises:
        UsageError: no such layer, or both a sample and a digit.
        UnsupportedModelError: a layer that has too many numbers, or whose kernel, zero points or
            input cannot be seen.
        DisagreementError: what the layer computes is not what would be drawn.
        FileError: the file cannot be read.
        DataError: the samples cannot be read or hold no such one.
    """
    arguments.sampling(data, sample, digit)
    batch = arguments.whole("batch", batch, 1)
    path = Path(model)
    opened = open_model(path, imports)
    site = _site(opened, layer)
    where = f"{path}: layer {site.name!r}"
    index = sample_index(data, sample, digit)
    feeds = make_feeds(opened.inputs, data=data, samples=index + batch)
    fed = [_activation(opened, site, feeds, index + n, where) for n in range(batch)]
    with temporary_folder() as folder:
        out = folder / path.name
        done = convert(path, out, only=[glob.escape(site.name)], imports=imports, check=False)
        if not done.written:
            reasons = [one.reason for one in done.layers if one.site.name == site.name]
            raise UnsupportedModelError(f"{where}: {reasons[0]}", code=Code.NOT_EXPLAINED)
        aligned = opened.align(open_model(out, imports))
        if not aligned.pairs:
            raise UnsupportedModelError(f"{where}: it cannot be run alone", code=Code.NOT_EXPLAINED)
        pair = aligned.pairs[0]
        quantization = _quantization(pair, where)
        kernel, bias = _parameters(pair, site, where)
        images = [x.astype(numpy_type(site.dtype), copy=False) for x, _ in fed]
        try:
            outputs = [pair.original(x, {}) for x in images]
        except UnsupportedModelError as error:
            raise UnsupportedModelError(
                f"{where}: it cannot be run alone: {error}", code=Code.NOT_EXPLAINED
            ) from None
    if not pair.channels_last:
        images, outputs = ([np.moveaxis(x, 1, -1) for x in each] for each in (images, outputs))
    assert isinstance(site.convolution, Convolution)  # noqa: S101 - `_site` saw to it
    require_small(site.convolution, images[0].shape[1:-1], batch, where)
    try:
        first, *others = [
            explanation(
                f"{path.name}: {site.name}",
                site.convolution,
                _exact(x, site.dtype),
                _exact(kernel, site.dtype),
                None if bias is None else _exact(bias, site.dtype),
                said,
                dtype=site.dtype,
                own=y,
                quantization=quantization,
            )
            for x, y, (_, said) in zip(images, outputs, fed, strict=True)
        ]
        return replace(first, others=tuple(others))
    except DisagreementError as error:
        raise DisagreementError(" ".join([f"{where}: {error}.", *done.notes])) from error


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
    if site.refusal is not None:
        raise UnsupportedModelError(f"{where}: {site.refusal.reason}", code=site.refusal.code)
    if not isinstance(site.convolution, Convolution):
        raise UnsupportedModelError(
            f"{where}: is a transposed convolution, whose windows lie in its output; "
            "explain draws ordinary ones",
            code=Code.NOT_EXPLAINED,
        )
    return site


NUMBERS = 10**8
"""How many numbers P, F and their product may have together: they are all held at once."""


def require_small(convolution: Convolution, sizes: Sequence[int], batch: int, where: str) -> None:
    """See that all of it can be held and looked at.

    Args:
        convolution: the geometry.
        sizes: spatial input sizes.
        batch: how many images.
        where: what an error starts with.

    Raises:
        UnsupportedModelError: it cannot.
    """
    outputs = convolution.output(tuple(sizes))[-2:]  # one slice of more
    positions = batch * math.prod(size for size in outputs if size is not None)
    length, width = convolution.patch_length, convolution.filters // convolution.groups
    total = positions * (length + width) + length * width
    if total > NUMBERS:
        raise UnsupportedModelError(
            f"{where}: P, F and their product have {total:,} numbers; "
            f"explain shows at most {NUMBERS:,}",
            code=Code.NOT_EXPLAINED,
        )


def sample_index(data: str | Path, sample: int | None, digit: int | None) -> int:
    """The number of the sample that is meant."""
    if digit is None:
        return sample or 0
    if sample is not None:
        raise UsageError("give --sample or --digit, not both")
    labels = load_samples(data).labels
    if labels is None or digit not in labels:
        raise DataError(f"{data}: holds no sample with the label {digit}", code=Code.SAMPLES)
    return int(np.flatnonzero(labels == digit)[0])


def sample_said(feeds: Feeds, index: int) -> str:
    """What the sample is; `feeds` says what it is one of."""
    return f"sample {index} of: {'; '.join(feeds.said)}"


def _activation(
    opened: Model, site: Site, feeds: Feeds, index: int, where: str
) -> tuple[Array, str]:
    """What a layer is fed for one sample, (1, ..), and what that is."""
    feed, place = feeds.batch_of(index)
    try:
        found = opened.activations(feed, [site.name])
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{where}: what it is fed cannot be computed: {error}", code=Code.NOT_EXPLAINED
        ) from None
    if site.name not in found:
        raise UnsupportedModelError(
            f"{where}: what it is fed cannot be seen from outside (it is in a branch, a loop, "
            "another model, or called twice)",
            code=Code.NOT_EXPLAINED,
        )
    x, rows = np.asarray(found[site.name]), feeds.batch or 1
    said = f"what the layer gets when the model is fed {sample_said(feeds, index)}"
    if rows == 1 and len(x) > 1:
        said = f"{said}; the first of {len(x):,} images that the layer is fed for it"
    elif len(x) != rows:
        raise UnsupportedModelError(
            f"{where}: is fed {len(x)} images for {rows} samples: which is whose cannot be told",
            code=Code.NOT_EXPLAINED,
        )
    return x[place:][:1], said


def _quantization(pair: LayerPair, where: str) -> Quantization | None:
    try:
        return pair.quantization
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{where}: explain needs zero points and scales that are stored; {error}",
            code=Code.NOT_EXPLAINED,
        ) from None


def _parameters(pair: LayerPair, site: Site, where: str) -> tuple[Array, Array | None]:
    """The kernel, channels last, and the bias."""
    known = [value for value in pair.parameters.values() if value is not None]
    if not known or len(known) < len(pair.parameters) or len(pair.stages) > 1:
        raise UnsupportedModelError(
            f"{where}: explain needs one stored kernel",
            remedy="this layer is separable, or its kernel or bias is computed at run time",
            code=Code.NOT_EXPLAINED,
        )
    assert site.convolution is not None  # noqa: S101 - `_site` saw to it
    kernel, *biases = known
    kernel = kernel.transpose(pair.kernel_order)
    return kernel.reshape(site.convolution.kernel_shape), biases[0] if biases else None


def _exact(values: Array, dtype: str) -> Array:
    """As the layer computes with them, in a type of numpy's own that holds them exactly."""
    if values.dtype.kind in "iu":
        return values
    wide = np.float64 if dtype == "float64" else np.float32
    return values.astype(numpy_type(dtype)).astype(wide)
