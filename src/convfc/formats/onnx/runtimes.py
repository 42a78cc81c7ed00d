"""onnxruntime, imported when it is needed: a conversion does without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from convfc.errors import UnsupportedModelError
from convfc.formats.onnx.unsaturated import steadied
from convfc.refusals import Code
from convfc.system import process
from convfc.text.visible import visible

_STOCK: Mapping[str, str] = {}
_WIDE = {"session.x64quantprecision": "1"}
"""Constant int8 weights become uint8, of which the sums of products are exact."""
_WIDE_AND_UNFUSED = {**_WIDE, "session.disable_quant_qdq": "1"}
"""And what is between DequantizeLinear and QuantizeLinear is computed in floating point."""
_UNFUSED = {"session.disable_quant_qdq": "1"}
"""The same for models with a QLinearConv of int8 and int8, of which `_WIDE` makes invalid ones."""

_ROWS_STAY = {"session.qdq_matmulnbits_accuracy_level": "1"}
"""A product with a matrix behind DequantizeLinear does not round its rows to 8 bits, either."""


class Session:
    """A model that onnxruntime has loaded, on the CPU.

    Where sums of 8-bit products saturate (see `saturates`), it is asked for exact ones.

    Args:
        model: a file, or the content of one.
        name: of the model, for messages.
        folder: where the external data of a content lies.
        options: entries of onnxruntime's session options to try, one set after another, instead of
            those that make sums exact.
        once: it is going to run once at most, for which it does not pay to compute anything
            beforehand, to lay out weights anew and to look for what could be fused.
        seconds: that a run may take, for a model which might never end; ``None``: any.

    Raises:
        UnsupportedModelError: onnxruntime cannot load it.
    """

    def __init__(
        self,
        model: Path | bytes,
        name: str,
        folder: Path | None = None,
        options: Sequence[Mapping[str, str]] = (),
        *,
        once: bool = False,
        seconds: float | None = None,
    ) -> None:
        self._name = name
        self._seconds = seconds
        self._late = False
        source = model if isinstance(model, bytes) else str(model)
        *others, last = options or _exact_options()
        for entries in others:
            try:
                self._session = _load(source, folder, entries, once=once)
            except Exception:  # noqa: S112 - what the last one says is what counts
                continue
            return
        try:
            self._session = _load(source, folder, last, once=once)
        except Exception as error:
            raise self._refusal("load", error) from error

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs.

        Raises:
            UnsupportedModelError: onnxruntime cannot run it, or not in time.
        """
        if self._late:
            raise self._overdue()
        options = _run_options()
        timer = None
        if self._seconds is not None:
            timer = Timer(self._seconds, setattr, (options, "terminate", True))
            timer.daemon = True
            timer.start()
        try:
            return list(self._session.run(list(names), dict(feed), options))
        except Exception as error:
            self._late = options.terminate
            raise self._overdue() if self._late else self._refusal("run", error) from error
        finally:
            if timer is not None:
                timer.cancel()

    def _overdue(self) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self._name}: it was stopped after {self._seconds:.0f} seconds; its loops may go on "
            "for hours or for ever",
            code=Code.TOO_LONG,
        )

    def _refusal(self, what: str, error: Exception) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self._name}: onnxruntime cannot {what} it: {reason_in(str(error))}",
            code=Code.NOT_RUN,
        )


_PREAMBLE = re.compile(r"\[ONNXRuntimeError\] : \d{1,4} : \w{1,40} : ")
_NODE = re.compile(
    r"Non-zero status code returned while running (\S{1,100}) node\. Name:'(.{0,200}?)' "
    r"Status Message: "
)
_PLACE = re.compile(r"/\S{1,200}\.(?:h|cc|cpp):\d{1,6} [^()]{1,200}\([^()]{0,200}\)(?: const)? ")
"""Where in onnxruntime's own source it happened, which is longer than what happened."""


def reason_in(text: str) -> str:
    """Why onnxruntime refuses a model, on one line: which node, and what about it.

    >>> said = "Non-zero status code returned while running Add node. Name:'sum' Status Message: "
    >>> reason_in(f"[ONNXRuntimeError] : 1 : FAIL : {said}/core/math.h:563 void Init(long) 3 by 4")
    "Add 'sum': 3 by 4"
    """
    line = _NODE.sub(r"\1 '\2': ", _PREAMBLE.sub("", " ".join(text.split())))
    return visible(_PLACE.sub("", line).replace(" '': ", ": ", 1))[:300]


def _load(
    source: bytes | str, folder: Path | None, entries: Mapping[str, str], *, once: bool
) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Load a model; with entries, those of `_exact_options`, its convolutions are exact as well."""
    with process.variable("ORT_DISABLE_TELEMETRY", "1"):  # which it asks for when it is imported
        import onnxruntime
    if process.is_ours():
        # What has no session to say it, it says in colours on descriptor 2.
        onnxruntime.set_default_logger_severity(4)

    if entries:
        home = Path(source).parent if isinstance(source, str) else folder
        steady = steadied(source, folder)
        source, folder = (source, folder) if steady is source else (steady, home)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # which would keep all that a run took
    if folder is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(folder))
    if once:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
        options.add_session_config_entry("session.disable_prepacking", "1")
    for key, value in {**_ROWS_STAY, **entries}.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _run_options() -> Any:  # noqa: ANN401 - onnxruntime ships no types
    import onnxruntime

    return onnxruntime.RunOptions()


def _exact_options() -> Sequence[Mapping[str, str]]:
    return [_WIDE_AND_UNFUSED, _UNFUSED] if saturates() else [_STOCK]


@cache
def saturates() -> bool:
    """Whether onnxruntime's sums of 8-bit products saturate on this processor; it is tried.

    On x86 with AVX2 or AVX-512 but without VNNI, those of uint8 and int8 are made of pairs in 16
    bits.
    """
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2])
    w = helper.make_tensor_value_info("w", TensorProto.INT8, [2, 1])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])
    imports = [helper.make_opsetid("", 10)]
    graph = helper.make_graph([node], "pair", [x, w], [y])
    model = helper.make_model(graph, opset_imports=imports, ir_version=4)
    session = Session(model.SerializeToString(), "pair", options=[_STOCK])
    feed = {"x": np.full([1, 2], 255, np.uint8), "w": np.full([2, 1], 127, np.int8)}
    return int(session.run(["y"], feed)[0][0, 0]) != 2 * 255 * 127


def default_differs(path: Path, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> bool:
    """Whether onnxruntime as it comes computes something else of a model than with exact sums.

    Args:
        path: the model file.
        names: of its outputs.
        feed: what to run it on.

    Raises:
        UnsupportedModelError: onnxruntime cannot run it.
    """
    if not saturates():
        return False
    found = (
        Session(path, str(path), options=options).run(names, feed)
        for options in ([_STOCK], [_WIDE, _STOCK])
    )
    return any(not _same(a, b) for a, b in zip(*found, strict=True))


SATURATED = (
    "on this processor onnxruntime's default gives other numbers for '{}': its sums of 8-bit "
    "products saturate. Here they are exact; in your own program, the session option "
    "session.x64quantprecision = 1 makes those of constant int8 weights so."
)
"""What to say then, of a file's name."""


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401 - an output may be a sequence or a map
    real = isinstance(a, np.ndarray) and a.dtype.kind in "fc"
    return bool(np.array_equal(a, b, equal_nan=True)) if real else bool(np.array_equal(a, b))


class Reference:
    """A model in onnx's own reference evaluator, which is slow, and rounds as numpy does.

    Convolutions of 8-bit integers are computed by their definition, see `reference_operators`.

    Args:
        model: what to run.
        name: of the model, for messages.

    Raises:
        UnsupportedModelError: it cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        from onnx.reference import ReferenceEvaluator

        from convfc.formats.onnx.reference_operators import OPERATORS

        self._name = name
        try:
            self._evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
        except Exception as error:
            raise self._refusal(error) from error

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs.

        Raises:
            UnsupportedModelError: it cannot run it.
        """
        try:
            outputs: Any = self._evaluator.run(list(names), dict(feed))
        except Exception as error:
            raise self._refusal(error) from error
        return list(outputs)

    def _refusal(self, error: Exception) -> UnsupportedModelError:
        words = visible(" ".join(str(error).split()))[:300]
        return UnsupportedModelError(
            f"{self._name}: onnx's reference evaluator cannot run it: {words}", code=Code.NOT_RUN
        )


def run_anywhere(
    model: onnx.ModelProto, names: Sequence[str], feed: Mapping[str, NDArray[Any]], name: str
) -> list[NDArray[Any]]:
    """The named outputs, by onnxruntime or else by onnx's reference evaluator.

    Valid ONNX that onnxruntime lacks is, for example, SAME with a dilation.

    Raises:
        UnsupportedModelError: neither can run it.
    """
    try:
        return Session(model.SerializeToString(), name).run(names, feed)
    except UnsupportedModelError as error:
        try:
            return Reference(model, name).run(names, feed)
        except UnsupportedModelError as second:
            raise UnsupportedModelError(f"{error}; {second}", code=Code.NOT_RUN) from error
