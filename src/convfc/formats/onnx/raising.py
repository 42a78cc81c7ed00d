"""A model with a newer version of the standard operators, where a convolution needs that.

Not by the official converter, which asks for all sizes where operators of before opset 7 broadcast,
puts their axes elsewhere, and makes of an Upsample one with other pixels.
"""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx.defs import OpSchema, SchemaError, get_schema
from onnx.shape_inference import InferenceError, infer_node_outputs

from convfc.formats.onnx.experimental import without_experimental
from convfc.formats.onnx.operators import DOMAINS
from convfc.formats.onnx.opset_steps import STEPS, Known, Step, StepError
from convfc.formats.onnx.protos import complaint, fresh_names, settings
from convfc.text.visible import visible


def raised(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of a model without functions, of another opset, at most 11.

    Raises:
        StepError: it cannot be; the text says of which node.
    """
    newer = without_experimental(proto)
    for entry in newer.opset_import:
        if entry.domain in DOMAINS:
            before, entry.version = entry.version, opset
    known = Known(fresh_names(newer), overridable=newer.ir_version >= 4)
    _raise_graph(newer.graph, before, opset, known)
    wrong = complaint(newer)
    if wrong is not None:
        raise StepError(wrong)
    return newer


def _raise_graph(graph: onnx.GraphProto, before: int, opset: int, outer: Known) -> None:
    known = replace(outer, types=dict(outer.types), constants=dict(outer.constants))
    for value in graph.input:
        known.types[value.name] = value.type
        known.constants.pop(value.name, None)  # of a weight around a graph that has its name
    fed = {value.name for value in graph.input} if known.overridable else set()
    for tensor in graph.initializer:
        if tensor.name not in fed:
            known.learn(tensor.name, tensor)
    nodes = []
    for node in graph.node:
        for subgraph in (entry.g for entry in node.attribute if entry.HasField("g")):
            _raise_graph(subgraph, before, opset, known)
        for newer in _raise_node(node, before, opset, known):
            _follow(newer, opset, known)
            nodes.append(newer)
    del graph.node[:]
    graph.node.extend(nodes)


def _raise_node(
    node: onnx.NodeProto, before: int, opset: int, known: Known
) -> list[onnx.NodeProto]:
    nodes = [node]
    for version in range(before + 1, opset + 1):
        newer: list[onnx.NodeProto] = []
        for older in nodes:
            try:
                step = step_of(older, version) if older.domain in DOMAINS else None
                newer.extend([older] if step is None else step(older, known))
            except StepError as error:
                name = visible(node.name or next(iter(node.output), ""))
                raise StepError(f"{visible(node.op_type)} '{name}': {error}") from None
        nodes = newer
    return nodes


def step_of(node: onnx.NodeProto, opset: int) -> Step | None:
    """What takes a standard operator to an opset from the one before; ``None``: it stays as it is.

    Raises:
        StepError: convfc knows no way.
    """
    step = STEPS.get((node.op_type, opset))
    if step is not None or node.op_type == "ThresholdedRelu":  # it was tried before opset 10
        return step
    try:
        before, after = (get_schema(node.op_type, version) for version in (opset - 1, opset))
    except SchemaError:
        raise StepError(f"opset {opset - 1} has no such operator") from None
    if not gains(before, after):
        raise StepError(f"it became another operator in opset {opset}")
    return None


def gains(before: OpSchema, after: OpSchema) -> bool:
    """Whether the later form of an operator takes all that the earlier does, alike."""
    old, new = before.attributes, after.attributes
    kept = all(
        name in new
        and new[name].type == entry.type
        and new[name].default_value == entry.default_value
        and new[name].required <= entry.required
        for name, entry in old.items()
    )
    added = not any(new[name].required for name in new.keys() - old.keys())
    inputs = after.min_input <= before.min_input and before.max_input <= after.max_input
    return kept and added and inputs and not after.deprecated


def _follow(node: onnx.NodeProto, opset: int, known: Known) -> None:
    """Learn the types of what a node makes; of another domain's, nothing is known."""
    if node.domain in DOMAINS and node.op_type == "Constant":
        tensor = settings(node).get("value")
        if isinstance(tensor, onnx.TensorProto):
            known.learn(node.output[0], tensor)
            return
    inside = any(entry.HasField("g") for entry in node.attribute)
    types = known.types if inside else {n: known.types[n] for n in node.input if n in known.types}
    try:
        schema = get_schema(node.op_type, opset, "" if node.domain in DOMAINS else node.domain)
        imports = [onnx.helper.make_opsetid("", opset)]
        found = infer_node_outputs(schema, node, types, known.constants, opset_imports=imports)
    except (SchemaError, InferenceError, KeyError, RuntimeError):
        return
    known.types.update(found)
