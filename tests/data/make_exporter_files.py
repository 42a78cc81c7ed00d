"""Writes the models of exporters.zip, as exporters of all times write them.

python make_exporter_files.py torch FOLDER     # torch 2.14, onnxscript 0.7
python make_exporter_files.py tf FOLDER        # the dev extra: tensorflow 2.21, tf2onnx 1.17
python make_exporter_files.py paddle FOLDER    # paddlepaddle 3.3, paddle2onnx 2.1
python make_exporter_files.py mxnet FOLDER     # mxnet 1.9, onnx 1.13
python make_exporter_files.py by-hand FOLDER   # onnx; exporters that no Python of today runs
python make_exporter_files.py zip FOLDER       # all files of the folder into exporters.zip
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
random = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    """Small random numbers."""
    return (random.normal(size=shape) / 2).astype(np.float32)


def torch_files(folder: Path) -> None:
    """What `torch.onnx.export(.., dynamo=True)` writes: metadata at each node, open sizes."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels: int, filters: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, filters, 3, padding=1, stride=2, bias=False)
            self.norm = nn.BatchNorm2d(filters)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.norm(self.conv(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(Block(2, 3), Block(3, 4))
            self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
            self.line = nn.Conv1d(2, 2, 3, padding="same", padding_mode="reflect")

        def forward(self, x: Any) -> tuple[Any, Any]:
            y = self.up(self.down(x))
            if_positive = torch.cond(
                y.sum() > 0, lambda t: self.line(t), lambda t: -t, (y.mean(2),)
            )
            return if_positive, y

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 2, 8, 8)
    shapes = {"x": dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)}
    for opset, name in ((18, ""), (21, "_open"), (24, "_open")):
        torch.onnx.export(
            net,
            (x,),
            str(folder / f"dynamo_{opset}{name}.onnx"),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            dynamic_shapes=shapes if name else None,
        )


def tf_files(folder: Path) -> None:
    """Frozen graphs of TensorFlow 1, channels last, through tf2onnx."""
    import tensorflow as tf
    import tf2onnx

    def constant(*shape: int) -> Any:
        return tf.constant(weights(*shape))

    tf1 = tf.compat.v1
    for name, opset, sizes in (("9", 9, (12, 10)), ("open_13", 13, (None, None))):
        with tf1.Graph().as_default() as graph:
            x = tf1.placeholder(tf.float32, [None, *sizes, 3], name="input")
            y = tf1.pad(x, [[0, 0], [1, 1], [2, 2], [0, 0]])
            y = tf1.nn.conv2d(y, constant(3, 3, 3, 4), strides=[1, 2, 2, 1], padding="VALID")
            y = tf1.nn.relu6(tf1.nn.bias_add(y, constant(4)))
            y = tf1.nn.depthwise_conv2d_native(
                y, constant(3, 3, 4, 2), strides=[1, 1, 1, 1], padding="SAME"
            )
            y = tf1.nn.relu(y * constant(8) + constant(8))  # a batch normalization, folded
            y = tf1.nn.conv2d(y, constant(2, 2, 8, 4), [1, 1, 1, 1], "SAME", dilations=[1, 2, 2, 1])
            size = tf1.shape(y)
            shape = tf1.stack([size[0], size[1] * 2, size[2] * 2, 3])
            y = tf1.nn.conv2d_transpose(y, constant(3, 3, 3, 4), shape, [1, 2, 2, 1], "SAME")
            tf1.identity(y, name="output")
        tf2onnx.convert.from_graph_def(
            graph.as_graph_def(),
            input_names=["input:0"],
            output_names=["output:0"],
            opset=opset,
            output_path=str(folder / f"tf1_{name}.onnx"),
        )


def paddle_files(folder: Path) -> None:
    """Every size open, as PaddlePaddle's models are."""
    import paddle
    import paddle2onnx
    from paddle import nn

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(
                nn.Conv2D(3, 4, 3, stride=2, padding=1, bias_attr=False),
                nn.BatchNorm2D(4),
                nn.Hardswish(),
                nn.Conv2D(4, 4, 3, padding="SAME", groups=4),
                nn.ReLU6(),
            )
            self.up = nn.Conv2DTranspose(4, 2, 2, stride=2)

        def forward(self, x: Any) -> Any:
            y = self.up(self.first(x))
            return nn.functional.interpolate(y, size=x.shape[2:]) + 1.0

    paddle.seed(0)
    net = Net()
    net.eval()
    spec = paddle.static.InputSpec([None, 3, None, None], "float32", name="x")
    with tempfile.TemporaryDirectory() as work:
        paddle.jit.save(net, f"{work}/net", input_spec=[spec])
        program = next(p for p in Path(work).iterdir() if p.suffix in {".json", ".pdmodel"})
        for opset in (11, 16):
            paddle2onnx.export(
                str(program),
                f"{work}/net.pdiparams",
                str(folder / f"paddle_{opset}.onnx"),
                opset_version=opset,
            )


def mxnet_files(folder: Path) -> None:
    """A network of Gluon: nodes named like what they make, a gamma that is fixed to ones."""
    import mxnet
    import mxnet.onnx
    from mxnet.gluon import nn

    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(4, 3, 2, 1, use_bias=False, in_channels=3),
        nn.BatchNorm(in_channels=4, scale=False),
        nn.PReLU(),
        nn.Conv2D(4, 3, padding=1, groups=4, in_channels=4),
        nn.Conv2DTranspose(2, 4, 2, 1, in_channels=4),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(5, in_units=2),
    )
    net.initialize(mxnet.init.Normal(0.5))
    net.hybridize()
    net(mxnet.nd.ones((1, 3, 10, 10)))
    with tempfile.TemporaryDirectory() as work:
        net.export(f"{work}/net")
        parts = [f"{work}/net-symbol.json", f"{work}/net-0000.params"]
        out = str(folder / "mxnet_13.onnx")
        mxnet.onnx.export_model(*parts, [(1, 3, 10, 10)], np.float32, out)


def write(
    path: Path,
    producer: tuple[str, str],
    nodes: list[onnx.NodeProto],
    ports: tuple[onnx.ValueInfoProto, onnx.ValueInfoProto],
    constants: dict[str, Any],
    opset: int,
) -> None:
    """A file of IR 3: each weight is an input, too, which some put first and some last."""
    x, y = ports
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    listed = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    inputs = [*listed, x] if producer[0] == "onnx-caffe2" else [x, *listed]
    model = helper.make_model(
        helper.make_graph(nodes, producer[0], inputs, [y], tensors),
        producer_name=producer[0],
        producer_version=producer[1],
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=3,
    )
    onnx.save(model, path)


def caffe2(folder: Path) -> None:
    """Nameless nodes, a Dropout with a mask, LRN, and a Reshape by an initializer."""
    constants = {
        "conv1_w_0": weights(4, 3, 3, 3),
        "conv1_b_0": weights(4),
        "conv2_w_0": weights(6, 2, 3, 3),
        "conv2_b_0": weights(6),
        "bn_s_0": weights(6),
        "bn_b_0": weights(6),
        "bn_m_0": weights(6),
        "bn_v_0": abs(weights(6)) + 1,
        "OC2_DUMMY_1": np.array([1, 54]),
        "fc_w_0": weights(5, 54),
        "fc_b_0": weights(5),
    }
    plain = {"strides": [1, 1], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    norm = [f"bn_{letter}_0" for letter in "sbmv"]
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["data_0", "conv1_w_0", "conv1_b_0"], ["conv1_1"], **plain),
        helper.make_node("Relu", ["conv1_1"], ["conv1_2"]),
        helper.make_node("LRN", ["conv1_2"], ["norm1_1"], size=3, alpha=1e-4, beta=0.75, bias=1.0),
        helper.make_node("MaxPool", ["norm1_1"], ["pool1_1"], **pool),
        helper.make_node(
            "Conv", ["pool1_1", "conv2_w_0", "conv2_b_0"], ["conv2_1"], group=2, **plain
        ),
        helper.make_node("BatchNormalization", ["conv2_1", *norm], ["bn_1"], epsilon=1e-5),
        helper.make_node("Relu", ["bn_1"], ["conv2_2"]),
        helper.make_node("MaxPool", ["conv2_2"], ["pool2_1"], **pool),
        helper.make_node("Dropout", ["pool2_1"], ["drop_1", "_drop_mask_1"], ratio=0.5),
        helper.make_node("Reshape", ["drop_1", "OC2_DUMMY_1"], ["OC2_DUMMY_0"]),
        helper.make_node("Gemm", ["OC2_DUMMY_0", "fc_w_0", "fc_b_0"], ["fc_1"], transB=1),
        helper.make_node("Softmax", ["fc_1"], ["prob_1"]),
    ]
    x = helper.make_tensor_value_info("data_0", FLOAT, [1, 3, 12, 12])
    y = helper.make_tensor_value_info("prob_1", FLOAT, [1, 5])
    write(folder / "caffe2_8.onnx", ("onnx-caffe2", ""), nodes, (x, y), constants, 8)


def cntk(folder: Path) -> None:
    """Paddings by name, biases of three axes, and a reshaped weight."""
    constants = {
        "Parameter5": weights(4, 1, 5, 5),
        "Parameter6": weights(4, 1, 1),
        "Parameter87": weights(3, 4, 4, 4),
        "Parameter88": weights(3, 1, 1),
        "Pooling160_Output_0_reshape0_shape": np.array([1, 27]),
        "Parameter193": weights(3, 3, 3, 5),
        "Parameter193_reshape1_shape": np.array([27, 5]),
        "Parameter194": weights(1, 5),
    }
    same = {"strides": [1, 1], "auto_pad": "SAME_UPPER", "group": 1, "dilations": [1, 1]}
    lower = {**same, "auto_pad": "SAME_LOWER", "kernel_shape": [4, 4]}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "auto_pad": "NOTSET"}
    reshapes = [
        ["Parameter193", "Parameter193_reshape1_shape"],
        ["Pooling160_Output_0", "Pooling160_Output_0_reshape0_shape"],
    ]
    steps: list[tuple[str, str, list[str], dict[str, Any]]] = [
        ("Reshape", "Times212_reshape1", reshapes[0], {}),
        ("Conv", "Convolution28", ["Input3", "Parameter5"], {**same, "kernel_shape": [5, 5]}),
        ("Add", "Plus30", ["Convolution28_Output_0", "Parameter6"], {}),
        ("Relu", "ReLU32", ["Plus30_Output_0"], {}),
        ("MaxPool", "Pooling66", ["ReLU32_Output_0"], pool),
        ("Conv", "Convolution110", ["Pooling66_Output_0", "Parameter87"], lower),
        ("Add", "Plus112", ["Convolution110_Output_0", "Parameter88"], {}),
        ("Elu", "ELU114", ["Plus112_Output_0"], {"alpha": 1.0}),
        ("MaxPool", "Pooling160", ["ELU114_Output_0"], pool),
        ("Reshape", "Times212_reshape0", reshapes[1], {}),
        ("MatMul", "Times212", ["Times212_reshape0_Output_0", "Times212_reshape1_Output_0"], {}),
        ("Add", "Plus214", ["Times212_Output_0", "Parameter194"], {}),
    ]
    nodes = [
        helper.make_node(kind, inputs, [f"{name}_Output_0"], name=name, **settings)
        for kind, name, inputs, settings in steps
    ]
    x = helper.make_tensor_value_info("Input3", FLOAT, [1, 1, 12, 12])
    y = helper.make_tensor_value_info("Plus214_Output_0", FLOAT, [1, 5])
    write(folder / "cntk_8.onnx", ("CNTK", "2.5.1"), nodes, (x, y), constants, 8)


def torch_lib(folder: Path) -> None:
    """What `torch.onnx.dynamo_export` of PyTorch 2.1 wrote: a function for each module and
    operator, all settings of a convolution as attributes of its caller."""
    library, ours = "pkg.onnxscript.torch_lib", "pkg.torch.2.1.0"
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(library, 1)]
    names = ["strides", "pads", "dilations", "group"]
    node = helper.make_node("Conv", ["input", "weight", "bias"], ["y"], name="n0")
    for name in names:
        kind = onnx.AttributeProto.INT if name == "group" else onnx.AttributeProto.INTS
        node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=name, type=kind))
    operator = helper.make_function(
        library, "_aten_convolution_onnx", node.input, ["y"], [node], imports, names
    )

    def module(name: str, channels: int, filters: int) -> onnx.FunctionProto:
        call = helper.make_node(
            "_aten_convolution_onnx",
            ["x", "weight", "bias"],
            ["convolution"],
            domain=library,
            name="_aten_convolution_onnx_0",
            strides=[1, 1],
            pads=[1, 1, 1, 1],
            dilations=[1, 1],
            group=1,
        )
        act = helper.make_node("Relu", ["convolution"], ["relu"], name="aten_relu_1")
        function = helper.make_function(
            ours, name, ["x", "weight", "bias"], ["relu"], [call, act], imports
        )
        function.doc_string = f"Conv2d({channels}, {filters}, kernel_size=(3, 3))"
        return function

    modules = [module("Block_block_0", 3, 4), module("Block_block_1", 4, 2)]
    constants = {
        "block_0.conv.weight": weights(4, 3, 3, 3),
        "block_0.conv.bias": weights(4),
        "block_1.conv.weight": weights(2, 4, 3, 3),
        "block_1.conv.bias": weights(2),
    }
    last, nodes = "l_x_", []
    for number, function in enumerate(modules):
        inputs = [last, f"block_{number}.conv.weight", f"block_{number}.conv.bias"]
        last = f"block_{number}"
        nodes.append(helper.make_node(function.name, inputs, [last], name=last, domain=ours))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "main_graph",
            [helper.make_tensor_value_info("l_x_", FLOAT, ["s0", 3, "s1", "s2"])],
            [helper.make_tensor_value_info(last, FLOAT, ["s0", 2, "s1", "s2"])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        producer_name="pytorch",
        producer_version="2.1.0",
        functions=[operator, *modules],
        opset_imports=[*imports, helper.make_opsetid(ours, 1)],
        ir_version=8,
    )
    onnx.save(model, folder / "torch_lib_18.onnx")


def by_hand(folder: Path) -> None:
    """In the style of exporters that run on no Python of today."""
    for make in (caffe2, cntk, torch_lib):
        make(folder)


def pack(folder: Path) -> None:
    """All files of the folder, in one archive beside this script."""
    with zipfile.ZipFile(Path(__file__).with_name("exporters.zip"), "w") as archive:
        for path in sorted(folder.glob("*.onnx")):
            entry = zipfile.ZipInfo(path.name)  # of no date: the same files are the same archive
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


KINDS = {
    "torch": torch_files,
    "tf": tf_files,
    "paddle": paddle_files,
    "mxnet": mxnet_files,
    "by-hand": by_hand,
    "zip": pack,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
