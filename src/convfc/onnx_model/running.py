"""onnxruntime, imported when it is needed: a conversion does without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from convfc.errors import UnsupportedModelError


class Session:
    """A model that onnxruntime has loaded, on the CPU.

    Args:
        model: a file, or the content of one.
        name: of the model, for messages.
        folder: where the external data of a content lies.

    Raises:
        UnsupportedModelError: onnxruntime cannot load it.
    """

    def __init__(self, model: Path | bytes, name: str, folder: Path | None = None) -> None:
        import onnxruntime

        self._name = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if folder is not None:
            key = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(key, str(folder))
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


def reference(
    names: Sequence[str], feed: Mapping[str, NDArray[Any]], model: onnx.ModelProto, name: str
) -> NDArray[Any]:
    """The first of the named outputs, by onnx's own reference evaluator.

    Raises:
        UnsupportedModelError: it cannot run the model either.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        outputs: Any = ReferenceEvaluator(model).run(list(names), dict(feed))
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise UnsupportedModelError(
            f"{name}: neither onnxruntime nor onnx's reference evaluator can run it: {words}"
        ) from error
    first: NDArray[Any] = outputs[0]
    return first
