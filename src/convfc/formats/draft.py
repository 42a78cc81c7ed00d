"""What a converted file would be, before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """A converted file that was not written, beside its original.

    Attributes:
        size_before: bytes of the original, with the files beside it that hold weights of it.
        size: the same of the converted file; where weights lie beside it, without the gaps between
            them, which are small.
        operators_before: how many operators of each kind the original has: the nodes of ONNX, also
            those in branches, loops and functions; the layers and operations of Keras.
        operators: the same of the converted file.
        remarks: what could not be kept, a sentence each.
    """

    size_before: int
    size: int
    operators_before: Mapping[str, int]
    operators: Mapping[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def changes(self) -> Mapping[str, tuple[int, int]]:
        """Kinds whose number changes, with both numbers; those that change most come first.

        >>> Draft(9, 9, {"Conv": 2, "Relu": 1}, {"MatMul": 2, "Add": 1, "Relu": 1}).changes
        {'Conv': (2, 0), 'MatMul': (0, 2), 'Add': (0, 1)}
        """
        kinds = {**self.operators_before, **self.operators}
        pairs = {
            kind: (self.operators_before.get(kind, 0), self.operators.get(kind, 0))
            for kind in kinds
        }
        changed = [(kind, pair) for kind, pair in pairs.items() if pair[0] != pair[1]]
        return dict(sorted(changed, key=lambda item: -abs(item[1][0] - item[1][1])))
