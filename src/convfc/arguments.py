"""What callers give, checked: a wrong one is a UsageError that names it and says what it takes."""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from numbers import Real
from pathlib import Path
from typing import TypeVar

from convfc.errors import UsageError

MOST_AXES = 32
"""Of an array: as many as every version of numpy can hold."""
E = TypeVar("E", bound=StrEnum)


def wrong(name: str, given: object, takes: str) -> UsageError:
    """The error for an argument that is none."""
    return UsageError(f"{name} is {reprlib.repr(given)}: it takes {takes}")


def path(name: str, given: object) -> Path:
    """The path of a file or folder.

    Raises:
        UsageError: neither a text nor a path.
    """
    if not isinstance(given, str | os.PathLike):
        raise wrong(name, given, "a path, as a text or a pathlib.Path")
    return Path(given)


def choice(name: str, given: str, kind: type[E]) -> E:
    """A member of an enumeration, given as such or as its text.

    Raises:
        UsageError: it has no such member.
    """
    try:
        return kind(given)
    except ValueError as error:
        raise wrong(name, given, ", ".join(member.value for member in kind)) from error


def texts(name: str, given: object) -> tuple[str, ...]:
    """A list of texts; a single text is a list of one.

    Raises:
        UsageError: it holds something else.
    """
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise wrong(name, given, "a text or a list of texts")
    return tuple(given)


def whole(name: str, given: object, least: int | None = None) -> int:
    """A whole number, of Python or of numpy.

    Raises:
        UsageError: something else, or less than `least`.
    """
    try:
        number = operator.index(given)  # type: ignore[arg-type] # that is the question
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        more = "" if least is None else f" of at least {least}"
        raise wrong(name, given, f"a whole number{more}")
    return number


def wholes(name: str, given: object) -> tuple[int, ...]:
    """A list of whole numbers, or an array of them.

    Raises:
        UsageError: something else.
    """
    try:
        return tuple(map(operator.index, given))  # type: ignore[call-overload] # as above
    except TypeError as error:
        raise wrong(name, given, "a list of whole numbers") from error


def shapes(name: str, given: object) -> dict[str, tuple[int, ...]]:
    """Whole shapes by the names of inputs, of positive sizes; none if ``None``.

    Raises:
        UsageError: something else.
    """
    found = {}
    for key, sizes in _named(name, given, "a list of sizes").items():
        found[key] = wholes(f"{name}[{key!r}]", sizes)
        for size in found[key]:
            whole(f"a size of {name}[{key!r}]", size, 1)
        if max(found[key], default=0) >= 2**63 or len(found[key]) > MOST_AXES:
            raise wrong(f"{name}[{key!r}]", sizes, f"at most {MOST_AXES} sizes, each below 2^63")
    return found


def real(name: str, given: object) -> float:
    """A number, finite or not.

    Raises:
        UsageError: something else.
    """
    if not isinstance(given, Real):
        raise wrong(name, given, "a number")
    return float(given)


def pixels(
    scale: object = 1.0, mean: object = 0.0, std: object = 1.0
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """What pixels of images become: see `convfc.samples.pixels.Pixels`.

    Raises:
        UsageError: no finite numbers, or a division by 0.
    """
    stds = _finite("std", std)
    if 0.0 in stds:
        raise wrong("std", std, "numbers to divide by")
    return _finite("scale", [scale])[0], _finite("mean", mean), stds


def _finite(name: str, given: object) -> tuple[float, ...]:
    """A finite number, or several."""
    try:
        numbers = [given] if isinstance(given, Real) else list(given)  # type: ignore[call-overload]  # as above
    except TypeError:
        numbers = []
    if not numbers or not all(isinstance(x, Real) and math.isfinite(x) for x in numbers):
        raise wrong(name, given, "finite numbers")
    return tuple(map(float, numbers))


def verifying(
    *,
    data: object = "mnist",
    samples: object = None,
    shapes: object = None,
    inputs: object = None,
    rtol: object = None,
    atol: object = None,
    seed: object = 0,
    scale: object = 1.0,
    mean: object = 0.0,
    std: object = 1.0,
    **_: object,
) -> None:
    """See that the arguments of `verify` can be meant, before any file is opened.

    Raises:
        UsageError: one cannot.
    """
    path("data", data)
    whole("seed", seed, 0)
    pixels(scale, mean, std)
    if samples is not None and whole("samples", samples) < 1:
        raise UsageError(f"{samples} samples prove nothing", remedy="give at least 1")
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance is not None and not 0 <= real(name, tolerance) < math.inf:
            raise UsageError(f"{name} is {tolerance}: a tolerance is a finite number of at least 0")
    for name, sizes in _named("shapes", shapes, "a list of sizes").items():
        for size in wholes(f"shapes[{name!r}]", sizes):
            whole(f"a size of shapes[{name!r}]", size, 0)
    for name, value in _named("inputs", inputs, "a file, a number or an array").items():
        fed = isinstance(value, str | Path | Real | Sequence) or hasattr(value, "__array__")
        if not fed:
            raise wrong(f"inputs[{name!r}]", value, "a file, a number or an array")


def sampling(data: object, sample: object, digit: object) -> None:
    """See that what says which sample to take can be meant.

    Raises:
        UsageError: it cannot.
    """
    path("data", data)
    for name, number in (("sample", sample), ("digit", digit)):
        if number is not None:
            whole(name, number, 0)


def _named(name: str, given: object, takes: str) -> Mapping[str, object]:
    """What is given for inputs by their names."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise wrong(name, given, f"a dictionary: the name of an input, and {takes}")
    return given
