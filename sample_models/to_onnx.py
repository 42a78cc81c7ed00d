"""Writes a plain chain of Keras layers as an ONNX graph, channels first, with the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8
ACTIVATIONS = {"relu": "Relu", "softmax": "Softmax"}


def to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Return ``model`` as ONNX: nodes named like the layers, NCHW, dynamic ``batch``.

    The model is one chain of the layers that the samples here are made of.

    Raises:
        NotImplementedError: it holds any other layer.
    """
    (image,) = model.inputs
    (result,) = model.outputs
    last = model.layers[-1].name
    graph = _Chain(image.name)
    for layer in model.layers:
        _add(graph, layer)
    graph.nodes[-1].output[0] = last
    onnx_model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            model.name,
            [_port(image.name, image)],
            [_port(last, result)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="convfc sample_models",
    )
    onnx.checker.check_model(onnx_model, full_check=True)
    return onnx_model


class _Chain:
    """Nodes and weights so far; each node reads what the one before it made."""

    def __init__(self, source: str) -> None:
        self.value = source
        self.flattened: tuple[int, ...] | None = None  # (h, w, c) that a Flatten has just undone
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(
        self,
        op: str,
        name: str,
        weights: dict[str, NDArray[Any]] | None = None,
        **attributes: Any,  # noqa: ANN401 - each operator has its own
    ) -> None:
        """Add one node called ``name``; ``weights`` follow its data input, in order."""
        inputs = [self.value]
        for key, value in (weights or {}).items():
            inputs.append(f"{name}.{key}")
            array = np.ascontiguousarray(value)
            self.weights.append(numpy_helper.from_array(array, inputs[-1]))
        self.value = f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [self.value], name=name, **attributes))


def _add(graph: _Chain, layer: keras.Layer) -> None:
    match layer:
        case keras.layers.DepthwiseConv2D() | keras.layers.Conv2D():
            _add_convolution(graph, layer)
        case keras.layers.BatchNormalization():
            names = {
                "scale": "gamma",
                "bias": "beta",
                "mean": "moving_mean",
                "var": "moving_variance",
            }
            weights = {ours: np.asarray(getattr(layer, keras_)) for ours, keras_ in names.items()}
            graph.add("BatchNormalization", layer.name, weights, epsilon=layer.epsilon)
        case keras.layers.InputLayer() | keras.layers.Dropout():
            pass  # the one is the graph's input, the other does nothing outside training
        case keras.layers.Flatten():
            graph.flattened = layer.input.shape[1:]
            graph.add("Flatten", layer.name)
        case keras.layers.Dense():
            kernel = np.asarray(layer.kernel)
            if graph.flattened:
                kernel = _channels_first_rows(kernel, graph.flattened)
                graph.flattened = None
            graph.add("Gemm", layer.name, {"weight": kernel} | _bias(layer))
        case keras.layers.Reshape(target_shape=(height, width, 1)):
            # With one channel, channels first and channels last are the same bytes.
            shape = np.array([0, 1, height, width], np.int64)
            graph.add("Reshape", layer.name, {"shape": shape})
        case keras.layers.ReLU():
            graph.add("Relu", layer.name)
        case _:
            raise NotImplementedError(f"{layer.name}: no ONNX writer for {type(layer).__name__}")
    activation = getattr(layer, "activation", keras.activations.linear).__name__
    if activation != "linear":
        graph.add(ACTIVATIONS[activation], f"{layer.name}_{activation}")


def _add_convolution(graph: _Chain, layer: keras.Layer) -> None:
    kernel = np.asarray(layer.kernel)
    if depthwise := isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    graph.add(
        "Conv",
        layer.name,
        {"weight": kernel.transpose(3, 2, 0, 1)} | _bias(layer),
        auto_pad={"same": "SAME_UPPER", "valid": "VALID"}[layer.padding],
        dilations=layer.dilation_rate,
        group=layer.input.shape[-1] if depthwise else layer.groups,
        kernel_shape=kernel.shape[:2],
        strides=layer.strides,
    )


def _bias(layer: keras.Layer) -> dict[str, NDArray[Any]]:
    return {"bias": np.asarray(layer.bias)} if layer.use_bias else {}


def _channels_first_rows(kernel: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A Dense kernel whose rows go from (h, w, c) order to (c, h, w)."""
    rows: NDArray[Any] = kernel.reshape((*shape, -1)).transpose(2, 0, 1, 3)
    return rows.reshape(kernel.shape)


def _port(name: str, tensor: keras.KerasTensor) -> onnx.ValueInfoProto:
    _, *sizes = tensor.shape
    if len(sizes) == 3:
        sizes = [sizes[2], *sizes[:2]]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes])
