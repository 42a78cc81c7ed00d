"""Reading what people type: sizes, pads, NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convfc.errors import UsageError


def pairs(option: str, texts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """NAME=VALUE, cut at the first `=`.

    Raises:
        UsageError: there is no name or no value.
    """
    for text in texts or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise UsageError(f"{option} {text}: write it as NAME=VALUE")
        yield name, value


def dims(text: str) -> list[int]:
    """`28x28x1` or `28,28,1` as integers.

    Raises:
        UsageError: something else, or a size below 1.
    """
    try:
        numbers = [int(part) for part in text.lower().replace(",", "x").split("x")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{text}: write sizes as positive numbers with an x between, like 28x28x1")
    return numbers


def per_axis(option: str, text: str, rank: int) -> list[int]:
    """One number for all axes, or one for each.

    Raises:
        UsageError: another count of numbers.
    """
    numbers = dims(text)
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
    return list(zip(numbers[::2], numbers[1::2], strict=True))
