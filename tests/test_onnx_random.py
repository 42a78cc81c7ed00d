"""Random layers of every operator in one-node models, bit for bit against the original.

All numbers are small integers, so that every sum is exact in whatever order it is taken. The
runtime is onnxruntime; what it cannot run itself (SAME with dilation), the reference evaluator,
with two exceptions. ConvTranspose: with an output_shape or a rule for pads and output_padding, the
evaluator does not compute the pads of the specification, and neither does shape inference.
QLinearConv: it multiplies the scales in another order and so rounds some halves the other way.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest

import convfc
from convfc import Code, GeometryError, PatchMethod
from convfc.formats.onnx.runtimes import Session
from tests.figures import count
from tests.onnx_layers import random_layer
from tests.onnx_models import operators, run_anywhere

SAMPLE, MANY = 100, 4000


def check(seed: int, folder: Path) -> str:
    """Convert one random layer and compare; what happened."""
    happened = outcome(seed, folder)
    count("random ONNX layers", happened)
    return happened


def check_all(seeds: range, folder: Path) -> None:
    """Most of them must have been compared."""
    found = [check(seed, folder) for seed in seeds]
    assert found.count("equal bit for bit") > len(seeds) // 2


def outcome(seed: int, folder: Path) -> str:
    layer = random_layer(Random(seed))  # noqa: S311 - nothing is secret here
    path = folder / "m.onnx"
    onnx.save(layer.model, path)
    done = convfc.convert(path, patches=layer.patches, force=True)
    (row,) = done.layers
    if not done.complete:
        convolution, sizes = row.site.convolution, row.site.sizes
        if convolution is None:
            if row.site.refusal is not None and row.site.refusal.code is Code.CONTRADICTION:
                with pytest.raises(Exception, match="inconsistent"):  # onnxruntime's own word
                    Session(path, "original").run(["y"], {"x": layer.inputs[0]})
                return "that the runtimes refuse"
            assert "leaves nothing" in str(row.reason), (seed, row.reason)
            return "without output"
        try:
            method = PatchMethod(layer.patches)
            lowering = convfc.lower(convolution, sizes, method, row.site.methods)
        except GeometryError:
            return "without output"
        assert isinstance(lowering, convfc.Refusal), seed
        assert layer.patches != "auto", (seed, row.reason)
        return "with a method that does not fit"
    assert not {name for name in operators(done.out) if "Conv" in name}
    onnx.checker.check_model(str(done.out), full_check=True)
    evaluated = row.site.kind in ("Conv", "ConvInteger")
    if evaluated or row.site.kind == "QLinearConv":
        assert inferred_output(done.out) == inferred_output(path), seed
    for x in layer.inputs:
        try:
            # Exact also where onnxruntime's default QLinearConv saturates.
            (before,) = (
                run_anywhere([path], {"x": x})[0]
                if evaluated
                else Session(path, "original").run(["y"], {"x": x})
            )
        except Exception:  # such an output_shape means nothing to anybody
            return "that the runtimes refuse"
        (after,) = run_anywhere([path, done.out], {"x": x})[1]
        assert before.dtype == after.dtype, seed
        assert np.array_equal(before, after), seed
    return "equal bit for bit"


def inferred_output(path: Path) -> list[int | None]:
    """Static shape of the output, from shape inference alone."""
    (y,) = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph.output
    dims = y.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


@pytest.mark.slow
def test_a_sample_of_random_layers(tmp_path: Path) -> None:
    check_all(range(SAMPLE), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(SAMPLE, MANY, 100))
def test_many_random_layers(start: int, tmp_path: Path) -> None:
    check_all(range(start, start + 100), tmp_path)
