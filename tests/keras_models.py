"""What the tests of Keras files share: models with a branch per kind of layer, and a stock reader.

Weights and inputs are small integers, so that every product and sum is exact in the branch's own
float type and two ways to compute it must agree in every bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convfc.core.lowering import Lowering, PatchMethod, lower
from convfc.formats.keras import open_keras
from convfc.formats.keras.archive import read_provenance, write_record
from convfc.formats.keras.quiet import importing, overheard
from convfc.formats.protocols import Model, Site
from convfc.formats.provenance import LayerRecord, Provenance
from convfc.planning import plan
from convfc.refusals import Refusal
from convfc.system.atomic import sha256_of

with importing():
    import keras
    from keras import layers

    from convfc.formats.keras.loader import load

FORMATS = (".h5", ".keras")
FIRST = "channels_first"

Branch = tuple[tuple[int | None, ...], Any]
"""Shape of one sample, and the layer."""


def branches() -> dict[str, Branch]:
    """Layers that are converted, by the name of their branch; no two axes are alike."""
    c1, c2, c3 = layers.Conv1D, layers.Conv2D, layers.Conv3D
    d1, d2 = layers.DepthwiseConv1D, layers.DepthwiseConv2D
    s1, s2 = layers.SeparableConv1D, layers.SeparableConv2D
    t1, t2, t3 = layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose
    timed = layers.TimeDistributed
    return {
        "valid": ((7, 6, 2), c2(3, (3, 2), strides=(1, 3), use_bias=False)),
        "same": ((7, 6, 2), c2(3, (3, 2), strides=(2, 1), padding="same", activation="relu")),
        "dilated": ((9, 8, 2), c2(3, (2, 3), dilation_rate=(3, 2), padding="same")),
        "pointwise": ((5, 4, 3), c2(2, 1, activation="softmax")),
        "strided_point": ((5, 4, 3), c2(2, 1, strides=(2, 3))),
        "patch_embedding": ((8, 10, 2), c2(3, (2, 3), strides=(2, 3))),
        "grouped": ((7, 6, 4), c2(6, (3, 2), groups=2, dilation_rate=(1, 2), activation="relu")),
        "depthwise": ((9, 8, 3), d2((3, 2), strides=2, depth_multiplier=2, padding="same")),
        "depthwise_dilated": ((9, 8, 3), d2((3, 2), dilation_rate=(2, 1), use_bias=False)),
        "causal": ((9, 2), c1(3, 3, dilation_rate=2, padding="causal")),
        "conv1d": ((10, 2), c1(3, 4, strides=3, padding="same")),
        "grouped1d": ((7, 4), c1(6, 3, groups=2, padding="same", use_bias=False)),
        "depthwise1d": ((9, 3), d1(3, strides=2, depth_multiplier=2, activation="relu")),
        "conv3d": ((5, 6, 7, 2), c3(3, (2, 3, 1), strides=(2, 1, 3), padding="same")),
        "grouped3d": ((5, 6, 4, 4), c3(6, (3, 2, 2), groups=2)),
        "separable": (
            (7, 6, 3),
            s2(4, (3, 2), depth_multiplier=2, padding="same", activation="relu"),
        ),
        "separable1d": ((8, 3), s1(4, 3, strides=2, use_bias=False)),
        "separable_dilated": ((9, 8, 2), s2(3, (2, 3), dilation_rate=(2, 3))),
        "transposed": ((4, 3, 2), t2(3, (3, 2), strides=(2, 3), padding="same", activation="relu")),
        "transposed_valid": ((4, 3, 2), t2(3, (5, 4), strides=(2, 3), use_bias=False)),
        "transposed_dilated": ((4, 5, 2), t2(3, (3, 2), dilation_rate=(2, 3), padding="same")),
        "transposed_added": ((4, 3, 2), t2(3, 3, strides=2, output_padding=(1, 0))),
        "transposed_tiles": ((4, 3, 2), t2(3, (2, 3), strides=(2, 3), activation="softmax")),
        "transposed1d": ((5, 2), t1(3, 4, strides=3, padding="same", output_padding=2)),
        "transposed3d": ((3, 4, 2, 2), t3(3, (2, 3, 4), strides=(2, 1, 3), padding="same")),
        "first_separable": ((3, 7, 6), s2(5, 3, data_format=FIRST, activation="softmax")),
        "first_transposed": ((2, 4, 3), t2(3, 3, strides=2, data_format=FIRST)),
        "timed": ((3, 7, 6, 2), timed(c2(3, (3, 2), strides=2, padding="same"))),
        "timed_twice": ((3, 2, 7, 6, 2), timed(timed(s2(3, (3, 2))))),
        "unknown_timed": ((None, None, 6, 2), timed(t2(3, (3, 2), strides=(2, 3)))),
        "first": (
            (3, 7, 6),
            c2(4, (3, 2), padding="same", activation="softmax", data_format=FIRST),
        ),
        "first1d": ((3, 7), c1(4, 3, strides=2, data_format=FIRST)),
        "first_depthwise": ((3, 7, 6), d2(3, data_format=FIRST)),
        "unknown": ((None, None, 2), c2(3, (3, 2), padding="same", activation="relu")),
        "unknown_strided": ((None, None, 2), c2(3, (3, 2), strides=(2, 3))),
        "unknown_grouped": ((None, None, 4), c2(6, 3, groups=2, activation="relu")),
        "unknown_depthwise": ((None, None, 3), d2(3, padding="same", depth_multiplier=2)),
        "unknown_width": ((7, None, 3), d2(3)),
        "unknown3d": ((None, None, None, 2), c3(4, (2, 3, 2), groups=2)),
        "unknown_first": ((2, None, None), c2(3, 3, data_format=FIRST)),
        "unknown_separable": ((None, None, 2), s2(3, (3, 2), padding="same")),
        "unknown_transposed": ((None, None, 2), t2(3, (3, 2), strides=(2, 3), padding="same")),
        "unknown_transposed3d": ((None, None, None, 2), t3(3, 3, strides=(2, 1, 3))),
        "half": ((5, 6, 2), c2(3, 3, strides=2, dtype="float16")),
        "half3d": ((5, 6, 7, 2), c3(3, 3, strides=2, dtype="float16")),
        "double3d": ((5, 6, 7, 2), c3(3, (3, 2, 3), strides=(3, 1, 2), dtype="float64")),
        "unknown_double3d": (
            (None, None, None, 2),
            c3(3, (3, 2, 1), strides=(2, 3, 1), padding="same", dtype="float64"),
        ),
        "bfloat": ((5, 6, 2), c2(3, 3, strides=2, dtype="mixed_bfloat16")),
        "bfloat3d": ((5, 6, 7, 2), c3(3, 3, strides=(1, 2, 3), dtype="mixed_bfloat16")),
        "double": ((5, 6, 4), c2(6, 3, groups=2, dtype="float64")),
        "mixed": ((5, 6, 2), c2(3, 3, dtype="mixed_float16")),
        "prelu": ((5, 6, 2), c2(3, 3, activation=layers.PReLU())),
        "grouped_prelu": ((5, 6, 2), c2(4, 3, groups=2, activation=layers.PReLU())),
    }


def many(chosen: Mapping[str, Branch]) -> Any:
    """One model with an input and an output per branch; each layer is named like its branch."""
    inputs, outputs = [], []
    for name, (shape, layer) in chosen.items():
        config = layer.get_config()
        config["name"] = name
        inputs.append(keras.Input(shape, name=f"{name}_in"))
        outputs.append(type(layer).from_config(config)(inputs[-1]))
    model = keras.Model(inputs, outputs, name="many")
    integer_weights(model)
    return model


def integer_weights(model: Any) -> None:
    for weight in model.weights:
        rng = np.random.default_rng(zlib.crc32(weight.path.encode()))
        weight.assign(rng.integers(-2, 3, weight.shape))


def integer_feed(model: Model) -> dict[str, NDArray[Any]]:
    """Two samples for every input; unknown sizes are 6, 7 and 8."""
    rng = np.random.default_rng(2)
    feed = {}
    for port in model.inputs:
        assert port.shape is not None
        shape = [2, *(size or 5 + axis for axis, size in enumerate(port.shape[1:], 1))]
        feed[port.name] = rng.integers(-2, 3, shape).astype(port.dtype)
    return feed


def save(model: Any, path: Path) -> Path:
    with overheard():
        keras.saving.save_model(model, path)
    return path


def stock(path: Path) -> Any:
    """A file as Keras loads it, compiled."""
    with overheard():
        return keras.saving.load_model(path)


def loaded(path: Path) -> Any:
    """A file as convfc loads it, compiled."""
    return load(path).model


def lowering(
    site: Site, patches: PatchMethod = PatchMethod.AUTO, memory: int | None = None
) -> Lowering | Refusal:
    assert site.convolution is not None
    return lower(site.convolution, site.sizes, patches, site.methods, site.itemsize, memory)


def convert(
    source: Path,
    out: Path,
    patches: PatchMethod = PatchMethod.AUTO,
    memory: int | None = None,
) -> list[str]:
    """Convert what can be converted, with AUTO where the method does not fit; the remarks."""
    model = open_keras(source)
    lowerings = {}
    for site in model.sites:
        if site.convolution is not None:
            made = lowering(site, patches, memory)
            if isinstance(made, Refusal):
                made = lowering(site, PatchMethod.AUTO)
            assert isinstance(made, Lowering), (site.name, made)
            lowerings[site.name] = made
    records = tuple(LayerRecord.of(name, made) for name, made in lowerings.items())
    record = Provenance(source.name, "0" * 64, "0.0", records)
    return list(model.save_converted(out, lowerings, record))


def converted(model: Any, folder: Path, suffix: str = ".keras") -> Any:
    """A model after saving, converting, and loading in stock Keras."""
    source = save(model, folder / f"original{suffix}")
    out = folder / f"converted{suffix}"
    assert convert(source, out) == []
    return stock(out)


_READER = """
import sys
sys.modules["convfc"] = None  # an import of it fails
import json, pathlib
import keras, numpy, tensorflow

folder = pathlib.Path(sys.argv[1])
feed = numpy.load(folder / "feed.npz")
found = {}
for path in map(pathlib.Path, sys.argv[2:]):
    model = keras.saving.load_model(path)
    # Autograph would read the source of Keras's layers again and again, for nothing.
    run = tensorflow.function(lambda *xs: model(list(xs), training=False), autograph=False)
    xs = [tensorflow.constant(feed[x.name]) for x in model.inputs]
    graph = run.get_concrete_function(*xs).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    kinds = {type(layer).__name__ for layer in model._flatten_layers()} | {n.op for n in nodes}
    ys = [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(run(*xs))]
    numpy.savez(f"{path}.npz", **{
        name: y.astype("float64") for name, y in zip(model.output_names, ys)
    })
    found[path.name] = {
        "convolutions": sorted(k for k in kinds if "Conv" in k or "Patches" in k),
        "dtypes": {name: str(y.dtype) for name, y in zip(model.output_names, ys)},
    }
print(json.dumps(found))
"""


def read_without_convfc(folder: Path, files: list[Path], feed: Mapping[str, Any]) -> Any:
    """Load and run files in an interpreter that has no convfc; what it found, by file name.

    The outputs go to `<file>.npz`.
    """
    np.savez(folder / "feed.npz", **feed)
    done = subprocess.run(
        [sys.executable, "-I", "-c", _READER, folder, *files],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def dense_of_before(source: Path, out: Path) -> Path:
    """A file in the dense form as it was first: each layer is a model of three."""
    model = open_keras(source)
    lowerings = {
        layer.site.name: layer.lowering
        for layer in plan(model.sites, form="dense")
        if layer.lowering is not None
    }
    records = tuple(LayerRecord.of(name, one) for name, one in lowerings.items())
    model.save_converted(out, lowerings, Provenance(source.name, sha256_of(source), "1", records))
    return out


def edited(fc: Path, change: Callable[[Any], Any]) -> Path:
    """A converted file with something changed by Keras, and its record as it was."""
    record = read_provenance(fc)
    assert record is not None
    model = stock(fc)
    save(change(model) or model, fc)
    write_record(fc, fc.suffix, record.to_json())
    return fc
