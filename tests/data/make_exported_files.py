"""Write exported.zip: a small net each, by exporters that can still be installed.

    pip install torch onnxscript              # 2.14.1; CPU
    python tests/data/make_exported_files.py dynamo
    pip install tensorflow tf2onnx            # 2.21, 1.17
    python tests/data/make_exported_files.py tf1
    pip install paddlepaddle paddle2onnx
    python tests/data/make_exported_files.py paddle

Each call puts its files into the archive beside this script, in place of those of the same name.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).with_name("exported.zip")
WHEN = (2026, 11, 28, 0, 0, 0)


def dynamo() -> Iterator[tuple[str, Any]]:
    """PyTorch 2: with metadata, and open sizes whose names are expressions."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
            self.norm = nn.BatchNorm2d(8)
            self.wide = nn.Conv2d(8, 8, 3, padding="same", groups=8, dilation=2)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
            self.head = nn.Linear(4, 5)

        def forward(self, x: Any) -> Any:
            x = nn.functional.silu(self.norm(self.first(x)))
            x = self.up(x + nn.functional.gelu(self.wide(x)))
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 16, 16)
    axes = ("batch", {}), ("h", {"min": 4, "max": 512}), ("w", {"min": 4, "max": 512})
    dims = [torch.export.Dim(name, **limits) for name, limits in axes]
    sizes = {"x": dict(zip((0, 2, 3), dims, strict=True))}
    for opset in (18, 23):
        for shapes in (None, sizes):
            # Without its optimizer, functions of torch are left in the file.
            program = torch.onnx.export(
                net, (x,), dynamo=True, opset_version=opset, dynamic_shapes=shapes,
                optimize=shapes is None, verbose=False,
            )  # fmt: skip
            yield f"dynamo_{opset}{'_open' if shapes else ''}.onnx", program.model_proto


def tf1() -> Iterator[tuple[str, Any]]:
    """Frozen graphs of TensorFlow 1 through tf2onnx: channels are last between Transposes."""
    import numpy as np
    import tensorflow
    import tf2onnx

    tf = tensorflow.compat.v1

    def frozen(*, sizes: list[int | None]) -> Any:
        random = np.random.default_rng(0)

        def weight(*shape: int) -> Any:
            return tf.constant((random.normal(size=shape) * 0.3).astype(np.float32))

        graph = tf.Graph()
        with graph.as_default():
            y = tf.placeholder(tf.float32, [*sizes, 3], name="input")
            y = tf.nn.conv2d(y, weight(3, 3, 3, 8), [1, 2, 2, 1], "SAME")
            y = tf.nn.relu6(tf.nn.bias_add(y, weight(8)))
            y = tf.nn.depthwise_conv2d_native(y, weight(3, 3, 8, 1), [1, 1, 1, 1], "SAME")
            scale, offset, mean, variance = (weight(8) for _ in range(4))
            y, *_ = tf.nn.fused_batch_norm(y, scale, offset, mean, abs(variance), is_training=False)
            y = tf.nn.leaky_relu(tf.nn.atrous_conv2d(y, weight(3, 3, 8, 6), 2, "SAME"))
            n, h, w, _ = tf.unstack(tf.shape(y))
            shape = tf.stack([n, h * 2, w * 2, 4])
            y = tf.nn.conv2d_transpose(y, weight(2, 2, 4, 6), shape, [1, 2, 2, 1], "SAME")
            y = tf.image.resize_bilinear(y, tf.shape(y)[1:3] * 2)
            y = tf.nn.conv2d(y, weight(1, 1, 4, 2), 1, "VALID")
            tf.identity(y, name="output")
        return graph.as_graph_def()

    for opset, sizes in ((9, [1, 16, 16]), (15, [None] * 3)):
        model, _ = tf2onnx.convert.from_graph_def(
            frozen(sizes=sizes), input_names=["input:0"], output_names=["output:0"], opset=opset
        )
        yield f"tf1_{opset}{'' if sizes[0] else '_open'}.onnx", model


def paddle() -> Iterator[tuple[str, Any]]:
    """PaddlePaddle, whose open sizes are computed from those of the input."""
    import onnx
    import paddle
    import paddle2onnx
    from paddle import nn
    from paddle.nn import functional

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False)
            self.norm = nn.BatchNorm2D(8)
            self.wide = nn.Conv2D(8, 8, 5, padding="SAME", groups=8)
            self.less, self.more = nn.Conv2D(8, 2, 1), nn.Conv2D(2, 8, 1)
            self.up = nn.Conv2DTranspose(8, 4, 2, stride=2)
            self.last = nn.Conv2D(4, 2, 3, padding=[1, 0, 2, 1], dilation=2)

        def forward(self, x: Any) -> Any:
            y = self.wide(functional.hardswish(self.norm(self.first(x))))
            less = functional.relu(self.less(functional.adaptive_avg_pool2d(y, 1)))
            y = self.up(y * functional.hardsigmoid(self.more(less)))
            size = [y.shape[2] * 2, y.shape[3] * 2]
            y = functional.interpolate(y, size=size, mode="bilinear")
            return functional.softmax(self.last(y), axis=1)

    paddle.seed(0)
    net = Net()
    net.eval()
    for opset, shape in ((9, [1, 3, 16, 16]), (15, [-1, 3, -1, -1])):
        spec = [paddle.static.InputSpec(shape, "float32", "x")]
        with tempfile.TemporaryDirectory() as folder:
            paddle.jit.save(paddle.jit.to_static(net, input_spec=spec), f"{folder}/net")
            files = (f"{folder}/net{end}" for end in (".json", ".pdiparams", ".onnx"))
            paddle2onnx.export(*files, opset_version=opset)
            yield (
                f"paddle_{opset}{'' if shape[0] > 0 else '_open'}.onnx",
                onnx.load(f"{folder}/net.onnx"),
            )


def main() -> None:
    """Put the files of one exporter into the archive."""
    made = dict({"dynamo": dynamo, "tf1": tf1, "paddle": paddle}[sys.argv[1]]())
    content = {name: model.SerializeToString() for name, model in made.items()}
    if ARCHIVE.exists():
        with zipfile.ZipFile(ARCHIVE) as archive:
            content = {name: archive.read(name) for name in archive.namelist()} | content
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            archive.writestr(zipfile.ZipInfo(name, WHEN), content[name], zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
