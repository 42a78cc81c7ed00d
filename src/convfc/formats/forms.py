"""Forms: how a layer's product is written, for clients that take one form and not another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from convfc.core.lowering import PatchMethod


@dataclass(frozen=True)
class Forms:
    """How the product of a layer is written; the numbers are the same.

    Attributes:
        keep_batch: patches are (N, positions, K), and the batch an axis of its own; else they are
            (N * positions, K), of which onnxruntime folds what follows into one Gemm.
        depthwise_products: groups of one channel are a batch of products; else each tap is
            multiplied and the taps are summed, which is faster.
        filters_right: the filter matrix is the right operand of each product; else layers that stay
            channels first have it on the left.
        zeros: where several sizes are open, those that stay are 0 in a Reshape, beside its -1. So
            it was before; nothing is written so any more, but read.
        biased: in the dense form, a sum behind each product, with zeros where nothing is added; and
            all nodes have names.
    """

    keep_batch: bool = False
    depthwise_products: bool = False
    filters_right: bool = False
    zeros: bool = False
    biased: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are set.

        >>> Forms(keep_batch=True).names
        ('keep_batch',)
        """
        return tuple(name for name, is_set in vars(self).items() if is_set)

    @property
    def methods(self) -> frozenset[PatchMethod]:
        """The patch methods that have these forms: by taps, there is no product."""
        without = {PatchMethod.TAPS} if self.depthwise_products else set()
        return frozenset(PatchMethod) - without

    @classmethod
    def of(cls, names: Iterable[str]) -> Forms:
        """Those of such names, each in `FORMS`."""
        return cls(**dict.fromkeys(names, True))


FORMS = tuple(field.name for field in fields(Forms))
"""What there are."""
DEFAULT = Forms()
"""What is fastest in onnxruntime."""
