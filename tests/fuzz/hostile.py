"""Texts and numbers that programs stumble over."""

from __future__ import annotations

from random import Random

TEXTS = (
    "", " ", "\0", "a\0b", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "[/]", "[red]x", "[/red]",
    "[link=file:///x]x", "two\nlines", "carriage\rreturn", "\u202egnp.exe", "\u2066x\u2069",
    "\u200b", "\u2028", "\x7f", "\x9b31m", "é" * 300, "x" * 5000, "../../etc/passwd", "/etc/passwd",
    "..", ".", "/", "a/b", "a\\b", "C:\\x", "-o", "--debug", "%s%n", "{0}", "${HOME}", "~", "*",
    "[", "[!a", "?", "nan", "NaN", "None", "null", "true", "\ud7ff", "\ufffe", "\U0010ffff", "💥",
    "convfc", "m.onnx", "m_fc.onnx", "<script>alert(1)</script>", "'\"><", "]]>", "&amp;&#0;",
    "Traceback (most recent", "1e400", "=", "a=b", ",", "x,y",
)  # fmt: skip
"""None of them may steer a terminal, begin a line, leave a folder or be taken for markup."""

INTEGERS = (0, 1, -1, 2, -2, 3, 7, 64, 127, 128, 255, 256, 1000, 65535, 10**6, 10**9, 2**31 - 1,
            2**31, -(2**31), 2**32, 2**40, 2**53, 2**62, 2**63 - 1, -(2**63))  # fmt: skip

REALS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 5e-324)

VALUES: tuple[object, ...] = (
    *(None, True, False, [], {}, [[]], {"": 0}, [None], "", "x", 0, -1, 1.5, 2**63, 2**64, 10**40),
    *(float("nan"), float("inf"), [0] * 40, [2**62, 2**62], {"a": {"b": {"c": []}}}, ["x", 1]),
)
"""Of JSON."""


def text(random: Random, known: tuple[str, ...] = ()) -> str:
    """Such a text, or one with a known one in it."""
    made = random.choice(TEXTS)
    if known and random.random() < 0.3:
        old = random.choice(known)
        made = random.choice([old + made, made + old, old])
    return made


def integer(random: Random, old: int = 0) -> int:
    """Such a number, or one near an old one."""
    near = (old + 1, old - 1, -old, 2 * old)
    return random.choice(near) if random.random() < 0.25 else random.choice(INTEGERS)


def value(random: Random) -> object:
    """Anything that JSON can say."""
    draw = random.random()
    if draw < 0.3:
        return text(random)
    return integer(random) if draw < 0.5 else random.choice(VALUES)
