"""CausalConvWithState, of ONNX and of onnxruntime: a convolution of what was joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Verdict
from tests.onnx_models import Array, operators, run
from tests.thinned import thinned

FLOAT = TensorProto.FLOAT
OPSETS = {"": 27, "com.microsoft": 18}


def causal(
    path: Path,
    domain: str = "",
    *,
    activation: str = "none",
    inputs: str = "xWBP",
    taps: int = 4,
    length: int | str = 6,
    ndim: int | None = None,
) -> Path:
    """A file with one such operator; no letter but a space leaves an input out."""
    shapes: dict[str, list[int | str]] = {"x": ["n", 3, length], "P": ["n", 3, taps - 1]}
    rng = np.random.default_rng(0)
    weights = {"W": rng.normal(size=(3, 1, taps)), "B": rng.normal(size=3)}
    names = [*map(str.strip, inputs)]
    settings: dict[str, Any] = {"activation": activation}
    settings |= {} if ndim is None else {"ndim": ndim}
    node = helper.make_node(
        "CausalConvWithState", names, ["y", "Q"], name="it", domain=domain, **settings
    )
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info(n, FLOAT, shapes[n]) for n in shapes if n in names],
        [
            helper.make_tensor_value_info("y", FLOAT, shapes["x"]),
            helper.make_tensor_value_info("Q", FLOAT, shapes["P"]),
        ],
        [numpy_helper.from_array(weights[n].astype(np.float32), n) for n in "WB" if n in names],
    )
    opsets = [helper.make_opsetid("", OPSETS[domain])]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def fed(inputs: str, taps: int = 4, length: int = 6) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    shapes = {"x": (2, 3, length), "P": (2, 3, taps - 1)}
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items() if n in inputs}


@pytest.mark.parametrize("domain", thinned(OPSETS))
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("inputs", thinned(["xW", "xWB", "xWBP", "xW P"]))
def test_it_is_converted_and_proved(
    tmp_path: Path, inputs: str, activation: str, domain: str
) -> None:
    path = causal(tmp_path / "m.onnx", domain, activation=activation, inputs=inputs)
    done = convfc.convert(path)
    assert done.complete
    assert done.notes[0].startswith("Causal convolutions, now one of what comes in behind")
    assert not {"CausalConvWithState", "Conv"} & operators(done.out)
    feed = fed(inputs)
    for found, expected in zip(run(done.out, **feed), run(path, **feed), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert convfc.verify(path, done.out, samples=3).verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("domain", OPSETS)
@pytest.mark.parametrize(("taps", "length"), [(4, 1), (4, 2), (1, 3), (2, 1)])
def test_a_token_at_a_time(tmp_path: Path, taps: int, length: int, domain: str) -> None:
    path = causal(tmp_path / "m.onnx", domain, taps=taps, length="t")
    done, feed = convfc.convert(path), fed("xP", taps, length)
    for found, expected in zip(run(done.out, **feed), run(path, **feed), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_more_axes_it_is_left(tmp_path: Path) -> None:
    path = causal(tmp_path / "m.onnx", "com.microsoft", ndim=2)
    (layer,) = convfc.convert(path, check=False).layers
    assert "carries a state along: done over one axis" in str(layer.reason)
    assert layer.refusal is not None
    assert layer.refusal.code is convfc.Code.FOREIGN


def test_with_a_kernel_of_unknown_shape_it_is_left(tmp_path: Path) -> None:
    path = causal(tmp_path / "m.onnx", "com.microsoft")
    proto = onnx.load(path)
    proto.graph.node[0].input[1] = "made"
    weight = proto.graph.initializer[0].name
    proto.graph.node.insert(0, helper.make_node("Identity", [weight], ["made"]))
    onnx.save(proto, path)
    (layer,) = convfc.convert(path, check=False).layers
    assert layer.refusal is not None
    assert layer.refusal.code is convfc.Code.UNKNOWN_KERNEL
