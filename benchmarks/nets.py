"""The ONNX networks: those that the onnx package ships without weights, and two of one kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LIGHT = (
    *("resnet50", "vgg19", "squeezenet", "densenet121"),
    *("inception_v2", "shufflenet", "bvlc_alexnet", "zfnet512"),
)
"""Networks of the onnx package."""
SIMPLE = ("patch_embedding", "pointwise")
"""A vision transformer's first layer, and a bottleneck of 1x1 convolutions."""


def make(net: str, folder: Path) -> Path:
    """The file of a network with random weights; made if it is not in the folder yet."""
    path = folder / f"{net}.onnx"
    if not path.exists():
        if net == "patch_embedding":
            model = _tokens(chain([(3, 768, 16, 16)], size=224))
        elif net == "pointwise":
            model = chain([(256, 64, 1, 1), (64, 256, 1, 1), (256, 64, 1, 1)], size=56)
        else:
            model = _light(net)
        onnx.checker.check_model(model)
        onnx.save(model, path)
    return path


def chain(layers: Sequence[tuple[int, int, int, int]], size: int, pad: int = 0) -> onnx.ModelProto:
    """Convolutions, each with a bias and a Relu.

    Args:
        layers: channels, filters, kernel size and stride of each.
        size: height and width of the input.
        pad: zeros on each side of each convolution.
    """
    random, nodes, weights, x = np.random.default_rng(0), [], [], "x"
    for number, (channels, filters, kernel, stride) in enumerate(layers):
        names = [f"{role}{number}" for role in ("w", "b", "c", "y")]
        shape = [filters, channels, kernel, kernel]
        weights.append(numpy_helper.from_array(_he(random, shape), names[0]))
        bias = random.normal(size=filters).astype(np.float32)
        weights.append(numpy_helper.from_array(bias, names[1]))
        inputs = [x, *names[:2]]
        said: dict[str, Any] = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "dilations": [1, 1],
        }
        said |= {"pads": [pad] * 4, "group": 1}  # some programs rely on it
        nodes.append(helper.make_node("Conv", inputs, names[2:3], **said))
        nodes.append(helper.make_node("Relu", names[2:3], names[3:]))
        x = names[3]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, layers[0][0], size, size])
    output = helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, None, None, None])
    graph = helper.make_graph(nodes, "chain", [image], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _tokens(model: onnx.ModelProto) -> onnx.ModelProto:
    """Instead of the last Relu, what follows a patch embedding: (batch, positions, filters)."""
    graph = model.graph
    relu = graph.node.pop()
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, -1]), "flat"))
    graph.node.append(helper.make_node("Reshape", [relu.input[0], "flat"], ["pixels"]))
    graph.node.append(helper.make_node("Transpose", ["pixels"], relu.output, perm=[0, 2, 1]))
    del graph.output[0].type.tensor_type.shape.dim[-1]
    return model


def _light(net: str) -> onnx.ModelProto:
    """A network of the onnx package with random weights in the place of its ConstantOfShape."""
    data = Path(onnx.__file__).parent / "backend/test/data/light" / f"light_{net}.onnx"
    model = onnx.load(data)
    graph, random = model.graph, np.random.default_rng(0)
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    users = {name: (node, n) for node in graph.node for n, name in enumerate(node.input)}
    nodes = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            nodes.append(node)
            continue
        shape = numpy_helper.to_array(shapes[node.input[0]]).tolist()
        value = (
            numpy_helper.to_array(node.attribute[0].t)
            if node.attribute
            else np.zeros(1, np.float32)
        )
        user, place = users[node.output[0]]
        array = _weight(random, user.op_type, place, shape, value)
        graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    constants = {tensor.name for tensor in weights}
    inputs = [port for port in graph.input if port.name in used - constants]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # from which on weights are no inputs
    return model


def _weight(
    random: np.random.Generator, op: str, place: int, shape: list[int], value: NDArray[Any]
) -> NDArray[Any]:
    """Numbers of a scale with which activations neither grow nor vanish."""
    if value.dtype != np.float32:
        return np.full(shape, value.item(), value.dtype)
    if op == "Conv" and place == 1:
        return _he(random, shape)
    if op in ("Gemm", "MatMul") and place == 1:
        return (random.normal(size=shape) / math.sqrt(max(shape))).astype(np.float32)
    if op == "Mul" or (op == "BatchNormalization" and place in (1, 4)):  # scale and variance
        return random.uniform(0.7, 1.3, size=shape).astype(np.float32)
    return (0.05 * random.normal(size=shape)).astype(np.float32)


def _he(random: np.random.Generator, shape: list[int]) -> NDArray[Any]:
    return (random.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)


def folds(path: Path) -> bool:
    """Whether a network has a BatchNormalization."""
    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == "BatchNormalization" for node in graph.node)


def folded(path: Path) -> Path:
    """The network as it is deployed: with onnxruntime's basic optimizations, saved.

    They fold each BatchNormalization into the convolution before it. The file names operator sets
    of onnxruntime's own, but its nodes are standard ones.
    """
    out = path.with_name(f"{path.stem}_folded.onnx")
    if not out.exists():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(out)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return out
