"""Small files as exporters write them: real ones, and some in the style of those long gone."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfc
from convfc import Fate, Verdict
from tests.onnx_models import Array, operators
from tests.thinned import thinned

REAL = Path(__file__).parent / "data" / "exported.zip"
FLOAT = TensorProto.FLOAT


def of(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> None:
    """Convert a file wholly, and have it proved."""
    done = convfc.convert(path)
    assert done.complete, [layer.reason for layer in done.layers]
    assert not {"Conv", "ConvTranspose"} & operators(done.out)
    found = convfc.verify(path, done.out, shapes=shapes or {}, samples=3)
    assert found.verdict is Verdict.EQUIVALENT, found.reason
    assert found.proved


def members() -> list[str]:
    with zipfile.ZipFile(REAL) as archive:
        return archive.namelist()


@pytest.mark.parametrize("name", thinned(members()))
def test_files_of_real_exporters(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(REAL) as archive:
        of(Path(archive.extract(name, tmp_path)))


class Writer:
    """Nodes and weights, named by what they make."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self._random = np.random.default_rng(0)

    def weight(self, name: str, *shape: int) -> str:
        self.weights[name] = (self._random.normal(size=shape) / 4).astype(np.float32)
        return name

    def numbers(self, name: str, array: Array) -> str:
        self.weights[name] = array
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def normalization(self, x: str, name: str, channels: int, **attributes: Any) -> str:
        """Variances are above zero."""
        made = [self.weight(f"{name}_{what}", channels) for what in ("gamma", "beta", "mean")]
        made.append(self.numbers(f"{name}_var", np.linspace(1, 2, channels, dtype=np.float32)))
        return self.node("BatchNormalization", [x, *made], name, **attributes)

    def save(
        self,
        path: Path,
        x: list[int | str],
        y: str,
        *,
        opset: int,
        ir_version: int,
        producer: str,
        listed: bool = False,
        domain: str = "",
    ) -> Path:
        inputs = [helper.make_tensor_value_info("data", FLOAT, x)]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        if listed:
            inputs += [helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights]
        outputs = [helper.make_tensor_value_info(y, FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(domain, 1)] if domain else []
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, producer_name=producer
        )
        onnx.save(model, path)
        return path


def mxnet(path: Path) -> Path:
    """All attributes are written, scalars are vectors of one, and weights are inputs."""
    w = Writer()
    plain = {"dilations": [1, 1], "group": 1, "pads": [1, 1, 1, 1], "strides": [1, 1]}
    w.numbers("scalar0", np.array([0.5], np.float32))
    x = w.node("Sub", ["data", "scalar0"], "minusscalar0")
    x = w.node(
        "Conv", [x, w.weight("c0_weight", 8, 3, 3, 3)], "conv0", kernel_shape=[3, 3], **plain
    )
    x = w.normalization(x, "bn0", 8, epsilon=2e-5, momentum=0.9, spatial=1)
    x = w.node("PRelu", [x, w.weight("relu0_gamma", 8, 1, 1)], "relu0")
    depthwise = {**plain, "group": 8, "strides": [2, 2]}
    kernel = w.weight("c1_weight", 8, 1, 3, 3)
    x = w.node("Conv", [x, kernel], "conv1", kernel_shape=[3, 3], **depthwise)
    up = {**plain, "strides": [2, 2], "output_padding": [1, 1], "kernel_shape": [3, 3]}
    x = w.node("ConvTranspose", [x, w.weight("up_weight", 8, 4, 3, 3)], "up", **up)
    x = w.node("Flatten", [x], "flatten0", axis=1)
    dense = [w.weight("fc_weight", 5, 4 * 8 * 8), w.weight("fc_bias", 5)]
    x = w.node("Gemm", [x, *dense], "fc", alpha=1.0, beta=1.0, transA=0, transB=1)
    return w.save(path, [1, 3, 8, 8], x, opset=8, ir_version=3, producer="", listed=True)


def caffe2(path: Path) -> Path:
    """Names of GPUs, shapes as weights called dummies, and few attributes."""
    w = Writer()
    made = [w.weight("gpu_0/conv1_w_0", 6, 3, 7, 7), w.weight("gpu_0/conv1_b_0", 6)]
    x = w.node(
        "Conv", ["data", *made], "gpu_0/conv1_1",
        kernel_shape=[7, 7], pads=[3, 3, 3, 3], strides=[2, 2],
    )  # fmt: skip
    x = w.node("LRN", [x], "gpu_0/norm1_1", alpha=1e-4, beta=0.75, bias=1.0, size=5)
    x = w.node(
        "MaxPool", [x], "gpu_0/pool1_1", kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2]
    )
    kernel = w.weight("gpu_0/conv2_w_0", 6, 3, 3, 3)
    x = w.node(
        "Conv", [x, kernel], "gpu_0/conv2_1", group=2, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )
    x = w.normalization(x, "gpu_0/bn", 6, epsilon=1e-5)
    x = w.node("Sum", [x, "gpu_0/pool1_1"], "gpu_0/sum_1")
    dummy = w.numbers("OC2_DUMMY_1", np.array([1, 6 * 4 * 4], np.int64))
    x = w.node("Reshape", [x, dummy], "OC2_DUMMY_0")
    x = w.node(
        "Gemm", [x, w.weight("gpu_0/pred_w_0", 5, 96), w.weight("gpu_0/pred_b_0", 5)],
        "gpu_0/pred_1", transB=1,
    )  # fmt: skip
    x = w.node("Softmax", [x], "gpu_0/softmax_1")
    return w.save(
        path, [1, 3, 16, 16], x, opset=9, ir_version=3, producer="onnx-caffe2", listed=True
    )


def cntk(path: Path) -> Path:
    """Padding by its name, biases that are added, and parameters that are reshaped in the graph."""
    w = Writer()
    same = {"auto_pad": "SAME_UPPER", "dilations": [1, 1]}
    kernel = w.weight("Parameter5", 8, 1, 5, 5)
    x = w.node(
        "Conv", ["data", kernel], "Convolution28_Output_0",
        kernel_shape=[5, 5], strides=[1, 1], group=1, **same,
    )  # fmt: skip
    x = w.node("Add", [x, w.weight("Parameter6", 8, 1, 1)], "Plus30_Output_0")
    x = w.node("Relu", [x], "ReLU32_Output_0")
    x = w.node(
        "MaxPool", [x], "Pooling66_Output_0",
        auto_pad="NOTSET", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0],
    )  # fmt: skip
    kernel = w.weight("Parameter87", 6, 8, 3, 3)
    x = w.node(
        "Conv", [x, kernel], "Convolution110_Output_0",
        kernel_shape=[3, 3], strides=[2, 2], group=1, **same,
    )  # fmt: skip
    kernel = w.weight("Parameter120", 6, 4, 2, 2)
    x = w.node(
        "ConvTranspose", [x, kernel], "ConvolutionTranspose_Output_0",
        auto_pad="SAME_UPPER", kernel_shape=[2, 2], strides=[2, 2], output_shape=[8, 8],
    )  # fmt: skip
    shape = w.numbers("Pooling160_Output_0_reshape0_shape", np.array([1, 256], np.int64))
    x = w.node("Reshape", [x, shape], "Pooling160_Output_0_reshape0")
    shape = w.numbers("Parameter193_reshape1_shape", np.array([256, 5], np.int64))
    dense = w.node("Reshape", [w.weight("Parameter193", 4, 8, 8, 5), shape], "Parameter193_r")
    x = w.node("MatMul", [x, dense], "Times212_Output_0")
    return w.save(path, [1, 1, 16, 16], x, opset=8, ir_version=3, producer="CNTK", listed=True)


def paddle(path: Path) -> Path:
    """Every weight is a Constant node, all sizes are open, and sizes are computed."""
    w = Writer()

    def constant(name: str, *shape: int) -> str:
        w.weight(name, *shape)
        return held(name, w.weights.pop(name))

    def held(name: str, array: Array) -> str:
        tensor = numpy_helper.from_array(array, name)
        w.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    plain = {"dilations": [1, 1], "group": 1, "pads": [1, 1, 1, 1], "strides": [2, 2]}
    kernel = constant("conv2d_0.w_0", 8, 3, 3, 3)
    x = w.node("Conv", ["data", kernel], "conv2d_0.tmp_0", kernel_shape=[3, 3], **plain)
    gate = w.node("HardSigmoid", [x], "gate", alpha=1 / 6, beta=0.5)
    x = w.node("Mul", [x, gate], "hardswish_0.tmp_0")
    kernel = constant("depthwise.w_0", 8, 1, 5, 5)
    x = w.node("Conv", [x, kernel], "depthwise", kernel_shape=[5, 5], group=8, pads=[2, 2, 2, 2])
    pooled = w.node("GlobalAveragePool", [x], "pool2d_0.tmp_0")
    less = w.node("Conv", [pooled, constant("squeeze.w_0", 2, 8, 1, 1)], "squeeze.tmp_0")
    more = w.node("Conv", [less, constant("excite.w_0", 8, 2, 1, 1)], "excite.tmp_0")
    x = w.node("Mul", [x, w.node("Sigmoid", [more], "sigmoid_0.tmp_0")], "elementwise_mul")
    up = {"dilations": [1, 1], "group": 1, "kernel_shape": [2, 2], "strides": [2, 2]}
    kernel = constant("conv2d_transpose_0.w_0", 8, 4, 2, 2)
    x = w.node("ConvTranspose", [x, kernel], "conv2d_transpose_0.tmp_0", pads=[0] * 4, **up)
    bias = w.node(
        "Reshape",
        [constant("conv2d_transpose_0.b_0", 4), held("shape", np.array([1, 4, 1, 1]))],
        "bias",
    )
    x = w.node("Add", [x, bias], "conv2d_transpose_0.tmp_1")
    sizes = w.node("Cast", [w.node("Shape", [x], "shape_0.tmp_0")], "sizes", to=TensorProto.INT64)
    limits = [held(n, np.array(v)) for n, v in (("from", [0]), ("till", [2]), ("on", [0]))]
    first = w.node("Slice", [sizes, *limits], "slice_0.tmp_0")
    sizes = w.node("Concat", [first, held("wanted", np.array([24, 24]))], "concat_0", axis=0)
    empty = held("none", np.zeros(0, np.float32))
    x = w.node(
        "Resize", [x, empty, empty, sizes], "bilinear_interp_v2_0.tmp_0",
        mode="linear", coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    head = constant("conv2d_4.w_0", 2, 4, 3, 3)
    x = w.node("Conv", [x, head], "head", kernel_shape=[3, 3], dilations=[2, 2], pads=[1, 0, 2, 1])
    sides: list[int | str] = ["DynamicDimension.0", 3, "DynamicDimension.1", "DynamicDimension.2"]
    return w.save(path, sides, x, opset=11, ir_version=7, producer="PaddlePaddle")


@pytest.mark.parametrize("write", thinned([mxnet, caffe2, cntk, paddle]))
def test_files_in_the_style_of_old_exporters(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    of(write(tmp_path / "m.onnx"))


def test_integer_operators_of_caffe2_are_left_by_name(tmp_path: Path) -> None:
    w = Writer()
    domain = "org.pytorch._caffe2"
    kernel = w.weight("conv_w_0", 4, 3, 3, 3)
    x = w.node("Int8Conv", ["data", kernel], "conv_1", domain=domain, order="NHWC")
    path = w.save(
        tmp_path / "m.onnx", [1, 3, 8, 8], x, opset=9, ir_version=4, producer="", domain=domain
    )
    (layer,) = convfc.convert(path).layers
    assert layer.fate is Fate.LEFT
    assert "knows no Int8Conv of" in str(layer.reason)
