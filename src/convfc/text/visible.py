"""Text of a file, made fit to be seen: no name may steer a terminal or begin a line of its own."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""A text with an escape in the place of everything that has no shape of its own.

    That is every character that Unicode calls a control (ESC, newline, NUL), a format (those that
    turn the direction of writing among them), a surrogate or a separator other than the space.

        >>> print(visible("conv\n\x1b[31m\u202e1"))
        conv\n\x1b[31m\u202e1
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which remain."""
    return "\n".join(map(visible, text.split("\n")))
