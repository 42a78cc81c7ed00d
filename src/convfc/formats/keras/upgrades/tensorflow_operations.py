"""TensorFlow functions that are operations of Keras 3: the same numbers for the same settings.

A `.h5` file holds them, too, where each says in which module it is: `upgrades.hdf5`.
"""

from __future__ import annotations

import math

from convfc.formats.keras.upgrades.graphs import is_reference
from convfc.formats.keras.upgrades.tensorflow_calls import Call, Operation
from convfc.formats.keras.upgrades.tensorflow_makers import (
    Maker,
    addition,
    constant,
    given_to,
    is_numbers,
    on,
    on_two,
    plain,
    sum_of,
    takes_one,
    together,
)

_MOST_PARTS = 2**12
"""How many outputs are listed, one by one."""


def operation_of(call: Call) -> Operation | None:
    """The operation that does what a call does; ``None`` if there is none, or if it is not sure."""
    make = _OPERATIONS.get(call.name)
    by_tensors = any(is_reference(value) for value in call.options.values())
    return None if make is None or by_tensors or not call.operands else make(call)


def _axes(call: Call) -> list[int] | None:
    """The axes that are named, if any, the batch not among them; none at all means each."""
    axes = call.options.get("axis")
    axes = [axes] if isinstance(axes, int) else axes
    if not isinstance(axes, list) or not axes or 0 in axes:
        return None
    return axes if all(isinstance(axis, int) for axis in axes) else None


def _reduction(kind: str) -> Maker:
    def make(call: Call) -> Operation | None:
        axes = _axes(call)
        if axes is None or not takes_one(call) or not call.says_only("axis", "keepdims"):
            return None
        kept = bool(call.options.get("keepdims"))
        return Operation(kind, {"axis": axes, "keepdims": kept}, call.operands)

    return make


def _norm(call: Call) -> Operation | None:
    axes, order = _axes(call), call.options.get("ord", "euclidean")
    fits = axes and takes_one(call) and call.says_only("axis", "keepdims", "ord")
    if not fits or axes is None or order not in ("euclidean", 2):
        return None
    if len(axes) > 2 or (
        len(axes) == 2 and order == 2
    ):  # 2 of a matrix is its largest singular value
        return None
    kept = bool(call.options.get("keepdims"))
    config = {"ord": 2 if len(axes) == 1 else "fro", "axis": axes, "keepdims": kept}
    return Operation("Norm", config, call.operands)


def _unit(call: Call) -> Operation | None:
    """TensorFlow bounds the square of the length from below, Keras the length."""
    axes, least = _axes(call), call.options.get("epsilon", 1e-12)
    if axes is None or not takes_one(call) or not call.says_only("axis", "epsilon"):
        return None
    config = {"axis": axes, "order": 2, "epsilon": math.sqrt(least)}
    return Operation("Normalize", config, call.operands)


def _expand(call: Call) -> Operation | None:
    axis = call.options.get("axis")
    fits = isinstance(axis, int) and takes_one(call) and call.says_only("axis")
    return Operation("ExpandDims", {"axis": axis}, call.operands) if fits else None


def _squeeze(call: Call) -> Operation | None:
    axes = _axes(call)
    fits = axes and takes_one(call) and call.says_only("axis")
    return Operation("Squeeze", {"axis": axes}, call.operands) if fits else None


def _split(call: Call) -> Operation | None:
    axis, sizes = call.options.get("axis"), call.options.get("num_or_size_splits")
    fits = isinstance(axis, int) and axis and takes_one(call)
    if not fits or not call.says_only("axis", "num_or_size_splits"):
        return None
    if isinstance(sizes, list) and all(isinstance(size, int) and size > 0 for size in sizes):
        sizes = [sum(sizes[:place]) for place in range(1, len(sizes))]  # where to cut
    elif not isinstance(sizes, int) or sizes > _MOST_PARTS:
        return None
    return Operation("Split", {"indices_or_sections": sizes, "axis": axis}, call.operands)


def _unstack(call: Call) -> Operation | None:
    axis, count = call.options.get("axis", 0), call.options.get("num")
    fits = isinstance(axis, int) and axis and takes_one(call) and call.says_only("axis", "num")
    fits = fits and (count is None or (isinstance(count, int) and count <= _MOST_PARTS))
    return Operation("Unstack", {"num": count, "axis": axis}, call.operands) if fits else None


def _tile(call: Call) -> Operation | None:
    times = call.options.get("multiples")
    fits = (
        isinstance(times, list)
        and is_numbers(times)
        and takes_one(call)
        and call.says_only("multiples")
    )
    return Operation("Tile", {"repeats": times}, call.operands) if fits else None


def _reverse(call: Call) -> Operation | None:
    axes = _axes(call)
    fits = axes and takes_one(call) and call.says_only("axis")
    return Operation("Flip", {"axis": axes}, call.operands) if fits else None


def _roll(call: Call) -> Operation | None:
    config = {name: call.options.get(name) for name in ("shift", "axis")}
    fits = all(isinstance(value, int) for value in config.values())
    fits = fits and takes_one(call) and call.says_only(*config)
    return Operation("Roll", config, call.operands) if fits else None


def _take(call: Call) -> Operation | None:
    axis, places = call.options.get("axis"), call.options.get("indices")
    fits = isinstance(axis, int) and axis and isinstance(places, list) and is_numbers(places)
    fits = fits and takes_one(call) and not call.options.get("batch_dims")
    if not fits or not call.says_only("axis", "indices", "batch_dims"):
        return None
    return Operation("Take", {"axis": axis}, [*call.operands, places])


def _pad(call: Call) -> Operation | None:
    pads, value = call.options.get("paddings"), call.options.get("constant_values") or 0
    mode = str(call.options.get("mode") or "CONSTANT").lower()
    fits = mode in ("constant", "reflect", "symmetric") and isinstance(value, int | float)
    fits &= isinstance(pads, list) and is_numbers(pads) and pads[0] == [0, 0]
    if not fits or not takes_one(call) or not call.says_only("paddings", "mode", "constant_values"):
        return None
    given = [*call.operands, value] if value and mode == "constant" else call.operands
    return Operation("Pad", {"pad_width": pads, "mode": mode}, given)


def _clip(call: Call) -> Operation | None:
    low, high = (call.options.get(f"clip_value_{end}") for end in ("min", "max"))
    fits = isinstance(low, int | float) and isinstance(high, int | float) and takes_one(call)
    fits &= call.says_only("clip_value_min", "clip_value_max")
    return Operation("Clip", {"x_min": low, "x_max": high}, call.operands) if fits else None


_DTYPES = {"DT_FLOAT": "float32", "DT_HALF": "float16", "DT_DOUBLE": "float64"}


def _cast(call: Call) -> Operation | None:
    dtype = call.options.get("dtype")
    dtype = _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else None
    fits = dtype in _DTYPES.values() and takes_one(call)
    fits = fits and call.says_only("dtype", "SrcT") and not call.options.get("Truncate")
    return Operation("Cast", {"dtype": dtype}, call.operands) if fits else None


def _blocks(kind: str) -> Maker:
    """Channels laid out in blocks of pixels, or the other way round."""

    def make(call: Call) -> Operation | None:
        size, order = call.options.get("block_size"), call.options.get("data_format") or "NHWC"
        fits = isinstance(size, int) and order == "NHWC" and takes_one(call)
        fits = fits and call.says_only("block_size", "data_format")
        config = {"block_size": size, "data_format": "channels_last"}
        return Operation(kind, config, call.operands) if fits else None

    return make


def _softmax(call: Call) -> Operation | None:
    axis = call.options.get("axis")
    fits = isinstance(axis, int) and takes_one(call) and call.says_only("axis")
    return Operation("Softmax", {"axis": axis}, call.operands) if fits else None


def _gelu(call: Call) -> Operation | None:
    rough = bool(call.options.get("approximate"))
    fits = takes_one(call) and call.says_only("approximate")
    return Operation("Gelu", {"approximate": rough}, call.operands) if fits else None


def _matmul(call: Call) -> Operation | None:
    transposed = call.options.get("transpose_a") or call.options.get("transpose_b")
    given = given_to(call)
    fits = given is not None and len(given) == 2 and not transposed
    fits = fits and call.says_only("transpose_a", "transpose_b")
    return Operation("Matmul", {}, given) if fits and given else None


def _rounded(call: Call) -> Operation | None:
    fits = takes_one(call) and call.says_only()
    return Operation("Round", {"decimals": 0}, call.operands) if fits else None


def _like(kind: str) -> Maker:
    def make(call: Call) -> Operation | None:
        fits = takes_one(call) and call.says_only()
        return Operation(kind, {"dtype": None}, call.operands) if fits else None

    return make


def _cumulative(call: Call) -> Operation | None:
    axes = _axes(call)
    fits = axes and takes_one(call) and call.says_only("axis")
    return (
        Operation("Cumsum", {"axis": axes[0], "dtype": None}, call.operands)
        if fits and axes
        else None
    )


def _bias(call: Call) -> Operation | None:
    bias = constant(call.options.get("bias", call.operands[-1]), call)
    last = call.options.get("data_format") in (None, "NHWC", "N...C")
    fits = last and bias is not None and is_reference(call.operands[0])
    fits = fits and call.says_only("bias", "data_format")
    return Operation("Add", {}, [call.operands[0], bias]) if fits else None


_OPERATIONS: dict[str, Maker] = {
    "abs": plain("Absolute"),
    "add": addition,
    "add_n": sum_of,
    "bias_add": _bias,
    "cast": _cast,
    "ceil": plain("Ceil"),
    "clip_by_value": _clip,
    "concat": together("Concatenate"),
    "cos": plain("Cos"),
    "cumsum": _cumulative,
    "depth_to_space": _blocks("DepthToSpace"),
    "divide": on_two("TrueDivide"),
    "equal": on_two("Equal"),
    "exp": plain("Exp"),
    "expand_dims": _expand,
    "floor": plain("Floor"),
    "floor_div": on_two("FloorDivide"),
    "floordiv": on_two("FloorDivide"),
    "floormod": on_two("Mod"),
    "gather": _take,
    "gelu": _gelu,
    "greater": on_two("Greater"),
    "greater_equal": on_two("GreaterEqual"),
    "l2_normalize": _unit,
    "less": on_two("Less"),
    "less_equal": on_two("LessEqual"),
    "log": plain("Log"),
    "logical_and": on_two("LogicalAnd"),
    "logical_not": plain("LogicalNot"),
    "logical_or": on_two("LogicalOr"),
    "matmul": _matmul,
    "maximum": on_two("Maximum"),
    "minimum": on_two("Minimum"),
    "multiply": on_two("Multiply"),
    "negative": plain("Negative"),
    "norm": _norm,
    "not_equal": on_two("NotEqual"),
    "ones_like": _like("OnesLike"),
    "pad": _pad,
    "pow": on_two("Power"),
    "reduce_logsumexp": _reduction("Logsumexp"),
    "reduce_max": _reduction("Max"),
    "reduce_mean": _reduction("Mean"),
    "reduce_min": _reduction("Min"),
    "reduce_prod": _reduction("Prod"),
    "reduce_std": _reduction("Std"),
    "reduce_sum": _reduction("Sum"),
    "reduce_variance": _reduction("Var"),
    "reverse": _reverse,
    "roll": _roll,
    "round": _rounded,
    "rsqrt": plain("Rsqrt"),
    "sign": plain("Sign"),
    "sin": plain("Sin"),
    "softmax": _softmax,
    "space_to_depth": _blocks("SpaceToDepth"),
    "split": _split,
    "sqrt": plain("Sqrt"),
    "square": plain("Square"),
    "squeeze": _squeeze,
    "stack": together("Stack"),
    "stop_gradient": plain("StopGradient"),
    "subtract": on_two("Subtract"),
    "tile": _tile,
    "truediv": on_two("TrueDivide"),
    "unstack": _unstack,
    "where": on(3, "Where"),
    "zeros_like": _like("ZerosLike"),
}
"""By the name of TensorFlow's Python function."""
