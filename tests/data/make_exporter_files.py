"""Writes the models of exporters.zip, as exporters that take a Python of their own write them.

python make_exporter_files.py torch FOLDER     # torch 2.14, onnxscript 0.7
python make_exporter_files.py tf FOLDER        # the dev extra: tensorflow 2.21, tf2onnx 1.17
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


def pack(folder: Path) -> None:
    """All files of the folder, in one archive beside this script."""
    with zipfile.ZipFile(Path(__file__).with_name("exporters.zip"), "w") as archive:
        for path in sorted(folder.glob("*.onnx")):
            entry = zipfile.ZipInfo(path.name)  # of no date: the same files are the same archive
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


KINDS = {
    "mxnet": mxnet_files,
    "torch-lib": torch_lib,
    "zip": pack,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
