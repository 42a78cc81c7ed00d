"""How a file is to be read, where it leaves that open."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from convfc.core.whole import MaxPool
from convfc.formats.shapes import Shapes


@dataclass(frozen=True)
class Reading:
    """What a file does not say itself.

    Attributes:
        shapes: what inputs are fixed to, by name.
        keras2_numbers: whether what Keras 3 computes otherwise than the Keras before it, which
            wrote the file, stays as it was.
        affine: whether what is affine around the convolutions is taken for one, too; see
            `convfc.formats.onnx.affine`.
        max_pool: what becomes of MaxPool then.
        flat_io: whether inputs and outputs are rows: (N, n) instead of (N, C, H, W).
        biased: whether what has no bias gets one of zeros; see `Forms`.
        architecture: the JSON file of the network that the file's weights belong to.
        compiled: whether a Keras model is compiled if its file says how; optimizers take twice
            the memory of its weights, and inference needs none.
    """

    shapes: Shapes = field(default_factory=dict)
    keras2_numbers: bool = False
    affine: bool = False
    max_pool: MaxPool = MaxPool.KEEP
    flat_io: bool = False
    biased: bool = False
    architecture: Path | None = None
    compiled: bool = True

    @property
    def way_back(self) -> Reading:
        """How what comes back is read, so that it takes rows where the converted file does."""
        return replace(self, architecture=None) if self.flat_io else AS_IT_IS


AS_IT_IS = Reading()
