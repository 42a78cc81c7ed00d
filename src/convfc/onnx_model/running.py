"""onnxruntime, imported when it is needed: a conversion does without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from convfc.errors import UnsupportedModelError


class Session:
    """A model that onnxruntime has loaded, on the CPU.

    Args:
        model: a file, or the content of one.
        name: of the model, for messages.
        folder: where the external data of a content lies.
        once: it is going to run once, for which it does not pay to lay out all weights anew and
            to look for all that could be fused.

    Raises:
        UnsupportedModelError: onnxruntime cannot load it.
    """

    def __init__(
        self, model: Path | bytes, name: str, folder: Path | None = None, *, once: bool = False
    ) -> None:
        import onnxruntime

        self._name = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if folder is not None:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(folder))
        if once:
            level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.graph_optimization_level = level
            options.add_session_config_entry("session.disable_prepacking", "1")
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise self._refusal("load", error) from error

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs.

        Raises:
            UnsupportedModelError: onnxruntime cannot run it.
        """
        try:
            return list(self._session.run(list(names), dict(feed)))
        except Exception as error:
            raise self._refusal("run", error) from error

    def _refusal(self, what: str, error: Exception) -> UnsupportedModelError:
        words = " ".join(str(error).split())[:300]
        return UnsupportedModelError(f"{self._name}: onnxruntime cannot {what} it: {words}")


class Reference:
    """A model in onnx's own reference evaluator, which is slow, and rounds as numpy does.

    Args:
        model: what to run.
        name: of the model, for messages.

    Raises:
        UnsupportedModelError: it cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        from onnx.reference import ReferenceEvaluator

        self._name = name
        try:
            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:
            raise self._refusal(error) from error

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The named outputs.

        Raises:
            UnsupportedModelError: it cannot run it.
        """
        try:
            with np.errstate(all="ignore"):
                outputs: Any = self._evaluator.run(list(names), dict(feed))
        except Exception as error:
            raise self._refusal(error) from error
        return list(outputs)

    def _refusal(self, error: Exception) -> UnsupportedModelError:
        words = " ".join(str(error).split())[:300]
        return UnsupportedModelError(
            f"{self._name}: onnx's reference evaluator cannot run it: {words}"
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
            raise UnsupportedModelError(f"{error}; {second}") from error
