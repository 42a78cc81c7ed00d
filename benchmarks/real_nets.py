"""Networks of the kinds that people have, with random weights: small, open, quantized, 1-D, 3-D."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """A graph under construction, on values that are names; batch of one, channels first.

    Args:
        shape: channels and spatial sizes of the input, which is called ``x``.
        opened: whether the spatial sizes are left open in the file.
    """

    def __init__(self, shape: Sequence[int], opened: bool) -> None:
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._channels = {"x": shape[0]}
        names = [f"size{axis}" for axis in range(1, len(shape))]
        self._shape = [1, shape[0], *(names if opened else shape[1:])]
        self._rank = len(shape) - 1

    def add(self, op: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        """A node; the name of its output, which has the channels of its first input if not told."""
        y = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [y], name=y, **attributes))
        self._channels[y] = channels or self._channels[inputs[0]]
        return y

    def weight(self, array: NDArray[Any]) -> str:
        """A constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, fan_in: int) -> str:
        """A random one, of a scale with which activations neither grow nor vanish."""
        numbers = self._random.normal(size=shape) * math.sqrt(2 / fan_in)
        return self.weight(numbers.astype(np.float32))

    def conv(
        self,
        x: str,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        act: str | None = "Relu",
    ) -> str:
        """A convolution that keeps the size, but for its stride, with its bias and activation."""
        depth, rank = self._channels[x] // groups, self._rank
        weights = self.random(filters, depth, *[kernel] * rank, fan_in=depth * kernel**rank)
        bias = self.random(filters, fan_in=100)
        pad = (kernel - 1) * dilation
        y = self.add(
            "Conv",
            *(x, weights, bias),
            channels=filters,
            kernel_shape=[kernel] * rank,
            strides=[stride] * rank,
            dilations=[dilation] * rank,
            pads=[pad // 2] * rank + [pad - pad // 2] * rank,
            group=groups,
        )
        return y if act is None else self.act(y, act)

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, act: str = "Relu") -> str:
        """A convolution with a group for each channel."""
        return self.conv(x, self._channels[x], kernel, stride, self._channels[x], act=act)

    def act(self, x: str, act: str) -> str:
        """An activation; Silu and Relu6 of their parts."""
        if act == "Silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if act == "Relu6":
            ends = [self.weight(np.array(end, np.float32)) for end in (0, 6)]
            return self.add("Clip", x, *ends)
        return self.add(act, x)

    def concat(self, *xs: str) -> str:
        """Along the channels."""
        return self.add("Concat", *xs, channels=sum(self._channels[x] for x in xs), axis=1)

    def pool(self, x: str, op: str = "MaxPool") -> str:
        """Of windows of 2 with stride 2."""
        two = [2] * self._rank
        return self.add(op, x, kernel_shape=two, strides=two)

    def upsample(self, x: str) -> str:
        """Twice as large, nearest neighbours."""
        scales = self.weight(np.array([1, 1, *[2] * self._rank], np.float32))
        return self.add("Resize", x, "", scales, mode="nearest")

    def residual(self, x: str, y: str) -> str:
        """The sum, where sizes and channels allow it."""
        return self.add("Add", x, y) if self._channels[x] == self._channels[y] else y

    def classes(self, x: str, count: int) -> str:
        """Mean over all positions, and a dense layer."""
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        weights = self.random(self._channels[x], count, fan_in=self._channels[x])
        return self.add("Gemm", flat, weights, self.random(count, fan_in=100))

    def model(self, y: str) -> onnx.ModelProto:
        """The finished model."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self._shape)
        rank = 2 if y.startswith("gemm") else self._rank + 2
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, [None] * rank)
        graph = helper.make_graph(self._nodes, "net", [x], [out], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def _mobilenet_v1(g: Graph, width: float) -> str:
    def scaled(filters: int) -> int:
        return int(filters * width)

    y = g.conv("x", scaled(32), 3, 2, act="Relu6")
    for filters, stride in [
        *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
        *[(512, 1)] * 5,
        *((1024, 2), (1024, 1)),
    ]:
        y = g.conv(g.depthwise(y, 3, stride, "Relu6"), scaled(filters), 1, act="Relu6")
    return g.classes(y, 1000)


_V2 = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
    *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
)
_LITE0 = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)


def _inverted(g: Graph, width: float, rows: Sequence[tuple[int, int, int, int, int]]) -> str:
    """Inverted residuals: expansion, filters, times, stride and kernel of each stage."""

    def scaled(filters: int) -> int:
        return max(8, int(filters * width + 4) // 8 * 8)

    y, channels = g.conv("x", scaled(32), 3, 2, act="Relu6"), scaled(32)
    for expansion, filters, times, stride, kernel in rows:
        for number in range(times):
            wide = y if expansion == 1 else g.conv(y, channels * expansion, 1, act="Relu6")
            step = 1 if number else stride
            z = g.conv(g.depthwise(wide, kernel, step, "Relu6"), scaled(filters), 1, act=None)
            y = g.residual(y, z) if number else z
            channels = scaled(filters)
    return g.classes(g.conv(y, 1280, 1, act="Relu6"), 1000)


def _yolo(g: Graph) -> str:
    """As YOLOv5n: stages with a cut across, pooling of several sizes, two scales joined."""

    def stage(x: str, filters: int, times: int) -> str:
        y = g.conv(x, filters // 2, 1, act="Silu")
        for _ in range(times):
            z = g.conv(g.conv(y, filters // 2, 1, act="Silu"), filters // 2, act="Silu")
            y = g.residual(y, z)
        return g.conv(g.concat(y, g.conv(x, filters // 2, 1, act="Silu")), filters, 1, act="Silu")

    y, kept = g.conv("x", 16, 6, 2, act="Silu"), ""
    for filters, times in ((32, 1), (64, 2), (128, 3), (256, 1)):
        kept, y = y, stage(g.conv(y, filters, 3, 2, act="Silu"), filters, times)
    y = g.conv(y, 128, 1, act="Silu")
    pools = [y]
    for _ in range(3):
        pooled = g.add("MaxPool", pools[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
        pools.append(pooled)
    y = g.conv(g.conv(g.concat(*pools), 256, 1, act="Silu"), 128, 1, act="Silu")
    y = stage(g.concat(g.upsample(y), kept), 128, 1)
    return g.conv(y, 255, 1, act=None)


def _unet(g: Graph) -> str:
    def twice(x: str, filters: int) -> str:
        return g.conv(g.conv(x, filters), filters)

    y, kept = "x", []
    for filters in (16, 32, 64):
        kept.append(twice(y, filters))
        y = g.pool(kept[-1])
    y = twice(y, 128)
    for filters in (64, 32, 16):
        y = twice(g.concat(g.upsample(y), kept.pop()), filters)
    return g.conv(y, 2, 1, act=None)


def _keywords(g: Graph) -> str:
    y = g.conv("x", 64, 5, 2)
    for _ in range(4):
        y = g.conv(g.depthwise(y), 64, 1)
    return g.classes(y, 12)


def _audio(g: Graph) -> str:
    """A waveform by strides to frames, then residual blocks of growing dilation."""
    y = "x"
    for kernel, stride in ((10, 5), (8, 4), (4, 2)):
        y = g.conv(y, 64, kernel, stride)
    for dilation in (1, 2, 4, 8) * 2:
        z = g.conv(y, 128, 3, dilation=dilation)
        y = g.residual(y, g.conv(z, 64, 1, act=None))
    return g.classes(y, 35)


def _text(g: Graph) -> str:
    """As the detector of PP-OCR: mobile stages, their sum, transposed layers up again."""
    y, kept = g.conv("x", 8, 3, 2, act="HardSwish"), []
    for filters, kernel, stride in (
        *((16, 3, 1), (32, 3, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1)),
        *((128, 3, 2), (128, 5, 1), (128, 5, 1), (256, 5, 2), (256, 5, 1)),
    ):
        y = g.conv(g.depthwise(y, kernel, stride, "HardSwish"), filters, 1, act="HardSwish")
        if stride == 2:
            kept.append("")
        if kept:
            kept[-1] = y
    y, *rest = (g.conv(x, 96, 1, act=None) for x in reversed(kept))
    for x in rest:
        y = g.residual(g.upsample(y), x)
    y = g.conv(y, 24)
    for filters, act in ((24, "Relu"), (1, "Sigmoid")):
        weights = g.random(24, filters, 2, 2, fan_in=24)
        said = {"kernel_shape": [2, 2], "strides": [2, 2]}
        y = g.act(g.add("ConvTranspose", y, weights, channels=filters, **said), act)
    return y


def _style(g: Graph) -> str:
    """Fast style transfer: wide first and last kernels, InstanceNormalization throughout."""

    def normal(x: str, filters: int, kernel: int = 3, stride: int = 1, act: str = "Relu") -> str:
        y = g.conv(x, filters, kernel, stride, act=None)
        ones, zeros = (g.weight(np.full(filters, n, np.float32)) for n in (1, 0))
        y = g.add("InstanceNormalization", y, ones, zeros)
        return g.act(y, act) if act else y

    y = normal(normal(normal("x", 32, 9), 64, 3, 2), 128, 3, 2)
    for _ in range(5):
        y = g.residual(y, normal(normal(y, 128), 128, act=""))
    return g.conv(normal(g.upsample(normal(g.upsample(y), 64)), 32), 3, 9, act=None)


def _video(g: Graph) -> str:
    y = "x"
    for filters in (16, 32, 64, 64):
        y = g.pool(g.conv(y, filters))
    return g.classes(y, 101)


class Net(NamedTuple):
    """A network: what builds it, its input without the batch, and what is special about it."""

    build: Callable[[Graph], str]
    shape: tuple[int, ...]
    opened: bool = False
    quantized: bool = False

    def feeds(self, count: int = 1) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Random inputs."""
        random = np.random.default_rng(1)
        for _ in range(count):
            yield {"x": random.normal(size=(1, *self.shape)).astype(np.float32)}


_IMAGE = (3, 224, 224)
NETS = {
    "mobilenet_v1": Net(lambda g: _mobilenet_v1(g, 1.0), _IMAGE),
    "mobilenet_v1_0.25": Net(lambda g: _mobilenet_v1(g, 0.25), _IMAGE),
    "mobilenet_v2": Net(lambda g: _inverted(g, 1.0, _V2), _IMAGE),
    "mobilenet_v2_0.35": Net(lambda g: _inverted(g, 0.35, _V2), _IMAGE),
    "efficientnet_lite": Net(lambda g: _inverted(g, 1.0, _LITE0), _IMAGE),
    "yolo": Net(_yolo, (3, 320, 320)),
    "unet": Net(_unet, (3, 128, 128)),
    "keywords": Net(_keywords, (1, 49, 10)),
    "audio": Net(_audio, (1, 16000)),
    "video": Net(_video, (3, 16, 64, 64)),
    "mobilenet_v2_int8": Net(lambda g: _inverted(g, 1.0, _V2), _IMAGE, quantized=True),
    "text_open": Net(_text, (3, 320, 320), opened=True),
    "style_open": Net(_style, (3, 160, 160), opened=True),
}
"""By name."""


def make(name: str, folder: Path, opened: bool | None = None) -> Path:
    """The file of a network; made if it is not in the folder yet.

    Args:
        name: of `NETS`.
        folder: where to.
        opened: whether its sizes are left open, as `NETS` says if ``None``.
    """
    net = NETS[name]
    opened = net.opened if opened is None else opened
    path = folder / f"{name}{'' if opened == net.opened else '_known'}.onnx"
    if not path.exists():
        graph = Graph(net.shape, opened)
        onnx.save(graph.model(net.build(graph)), path)
        if net.quantized:
            _quantize(path, net)
    return path


def _quantize(path: Path, net: Net) -> None:
    """To 8-bit integers, by QuantizeLinear and DequantizeLinear around every operator."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self._feeds = net.feeds(2)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    plain = path.with_suffix(".float.onnx")
    path.rename(plain)
    logging.disable(logging.WARNING)  # it recommends what changes nothing here
    quantize_static(str(plain), str(path), Reader())
    logging.disable(logging.NOTSET)
    plain.unlink()
