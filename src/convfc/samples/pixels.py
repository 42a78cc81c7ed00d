"""`Pixels`: what models want of the pixels of an image: another scale, a mean taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pixels:
    """What an input of real numbers is fed for a pixel: (pixel * scale - mean) / std.

    A pixel is 0..1, whether an image has 8 or 16 bits for it; real numbers are what they are.

    Attributes:
        scale: one number.
        mean: one number, or one for each channel, in the order of image files: red, green, blue.
        std: likewise.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def changes(self) -> bool:
        """Whether anything else is fed than the pixels as they are."""
        return self != AS_THEY_ARE

    def fed(self, array: NDArray[Any], axis: int | None, name: str) -> NDArray[Any]:
        """What an input is fed.

        Args:
            array: pixels in the layout of the input.
            axis: of its channels; ``None``: it has none.
            name: of the input.

        Raises:
            DataError: a number for each channel, and other channels.
        """
        if not self.changes:
            return array
        channels = 1 if axis is None else array.shape[axis]

        def along(option: str, numbers: tuple[float, ...]) -> NDArray[Any]:
            if len(numbers) not in (1, channels):
                has = f"{channels} channel{'s' * (channels > 1)}"
                raise DataError(f"{option}: {len(numbers)} numbers, but input {name!r} has {has}")
            shape = [1] * array.ndim
            shape[axis or 0] = len(numbers)
            return np.array(numbers).reshape(shape)

        centred = array * self.scale - along("--mean", self.mean)
        return np.asarray(centred / along("--std", self.std))

    @property
    def said(self) -> str:
        """What is done, in a phrase; empty if nothing is."""
        if not self.changes:
            return ""
        mean, std = (
            f"{numbers[0]:g}" if len(numbers) == 1 else f"[{', '.join(f'{n:g}' for n in numbers)}]"
            for numbers in (self.mean, self.std)
        )
        return f", (pixel * {self.scale:g} - {mean}) / {std}"


AS_THEY_ARE = Pixels()
