"""JSON that any reader takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(document: Mapping[str, Any], indent: int = 2) -> str:
    """A document as text, with a newline behind it.

    JSON has no NaN and no infinity: they become text. Half a character (a surrogate, as a file
    name that is no UTF-8 has them), at which many readers stop, becomes U+FFFD.
    """
    return json.dumps(_plain(document), indent=indent, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON types
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
