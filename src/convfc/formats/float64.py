"""What a network in float64 is fed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convfc.formats.protocols import Feed, Port


def in_float64(ports: Sequence[Port], feed: Feed) -> Feed:
    """A feed whose real numbers are float64, for a network that is."""
    real = {port.name for port in ports if "float" in port.dtype}
    return {name: x.astype(np.float64) if name in real else x for name, x in feed.items()}
