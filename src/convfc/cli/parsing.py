"""Reading what people type: sizes, pads, NAME=VALUE."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import StrEnum

from convfc.arguments import MOST_AXES
from convfc.core.builders import convolution
from convfc.core.geometry import Convolution
from convfc.errors import UsageError


def pairs(
    option: str, texts: Sequence[str] | None, form: str = "NAME=VALUE"
) -> Iterator[tuple[str, str]]:
    """What has such a form, cut at the first `=`.

    Raises:
        UsageError: there is no name or no value.
    """
    for text in texts or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise UsageError(f"{option} {text}: write it as {form}")
        yield name, value


def one(option: str, texts: Sequence[str] | None) -> str | None:
    """What an option says that counts once: of several the last would win, without a word.

    Raises:
        UsageError: it says different things.
    """
    said = [*dict.fromkeys(texts or ())]
    if len(said) > 1:
        raise UsageError(f"{', '.join(f'{option} {text}' for text in said)}: give one of them")
    return said[0] if said else None


def shapes(texts: Sequence[str] | None) -> dict[str, list[int]]:
    """What `--shape` says: NAME=DIMS.

    Raises:
        UsageError: something else, or two shapes of one input.
    """
    found: dict[str, list[int]] = {}
    for name, text in pairs("--shape", texts, "NAME=DIMS"):
        sizes = dims(text, f"--shape {name}:")
        if found.setdefault(name, sizes) != sizes:
            raise UsageError(f"--shape {name}: is given twice, with different sizes")
    return found


LARGEST = 2**63 - 1
"""What the runtimes count with: no size is larger."""


def dims(text: str, option: str = "") -> list[int]:
    """`28x28x1` or `28,28,1` as integers.

    Args:
        text: what was typed.
        option: what it was typed for.

    Raises:
        UsageError: something else, a size below 1, or more than anything computes with.
    """
    what = f"{option} {text}".lstrip()
    try:
        numbers = [int(part) for part in text.lower().replace(",", "x").split("x")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{what}: write sizes as positive numbers with an x between, like 28x28x1")
    if max(numbers) > LARGEST or len(numbers) > MOST_AXES:
        raise UsageError(f"{what}: write at most {MOST_AXES} sizes, each below 2^63")
    return numbers


_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def memory(text: str | None, option: str = "--patch-memory") -> int | None:
    """`8MiB`, `512 KiB` or a number of bytes; ``None`` stays.

    Raises:
        UsageError: something else, less than a byte, or more than anything computes with.
    """
    if text is None:
        return None
    parts = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]*)", text.strip().lower(), re.ASCII)
    size = 0 if parts is None else Decimal(parts[1]) * _UNITS.get(parts[2], 0)
    if not 1 <= size <= LARGEST:
        raise UsageError(f"{option} {text}: write it as 8MiB, 512KiB or a number of bytes")
    return int(size)


def numbers(option: str, text: str | None, default: float) -> list[float]:
    """`0.5` or `0.485,0.456,0.406` as numbers.

    Raises:
        UsageError: something else.
    """
    try:
        found = [default] if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise UsageError(f"{option} {text}: write numbers with a comma between, like 0.5,0.4,0.4")
    return found


def wants_json(as_json: bool, layout: StrEnum | None) -> bool:
    """Whether a document is asked for: by --json, or by --format json.

    Raises:
        UsageError: by the one, and something else by the other.
    """
    if as_json and layout not in (None, "json"):
        raise UsageError(f"--json does not go with --format {layout}")
    return as_json or layout == "json"


def per_axis(option: str, text: str, rank: int) -> list[int]:
    """One number for all axes, or one for each.

    Raises:
        UsageError: another count of numbers.
    """
    numbers = dims(text, option)
    if len(numbers) == 1:
        return numbers * rank
    if len(numbers) != rank:
        raise UsageError(f"{option} {text}: the input has {rank} spatial axes")
    return numbers


def padding(text: str, rank: int) -> str | list[tuple[int, int]]:
    """A name, one number for all sides, or before and after of each axis (T,B,L,R).

    Raises:
        UsageError: another count of numbers.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        return text
    if len(numbers) == 1:
        numbers *= 2 * rank
    if len(numbers) != 2 * rank:
        raise UsageError(
            f"--padding {text}: give a name, one number, or two for each axis (T,B,L,R)"
        )
    if max(numbers) > LARGEST:
        raise UsageError(f"--padding {text}: write numbers below 2^63")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def single(
    size: str, kernel: str, stride: str, dilation: str, pads: str, filters: int
) -> tuple[Convolution, tuple[int, ...]]:
    """The convolution that the options of `convfc shapes` describe, and its input's sizes.

    Raises:
        UsageError: texts that are no sizes, or of different lengths.
        GeometryError: they describe no convolution.
    """
    if filters > LARGEST:
        raise UsageError(f"--filters {filters}: write a number below 2^63")
    *sizes, channels = dims(size, "--input")
    if not sizes:
        raise UsageError(f"--input {size}: give the sizes and the channels, like 28x28x1")
    rank = len(sizes)
    conv = convolution(
        per_axis("--kernel", kernel, rank),
        channels=channels,
        filters=filters,
        strides=per_axis("--stride", stride, rank),
        dilations=per_axis("--dilation", dilation, rank),
        padding=padding(pads, rank),
    )
    return conv, tuple(sizes)
