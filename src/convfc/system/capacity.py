"""What this machine can hold and do: counted before anything is allocated or run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_UNKNOWN = 2**33
"""Bytes of a machine that does not say: 8 GiB."""
_SHARE = 3 / 4
"""Of the memory, for one thing; the rest is for everything else."""
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says what a container may have."""
MOST_PRODUCTS = 10**13
"""Multiply-adds that one run may take: beyond that, it is hours on two cores."""


def memory() -> int:
    """Bytes that one thing may take in memory, by the machine, its container and its limits."""
    return int(min(_installed(), _limited()) * _SHARE)


@cache
def _installed() -> int:
    found = _UNKNOWN
    with suppress(AttributeError, ValueError, OSError):
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _GROUPS:
        with suppress(ValueError, OSError):  # "max" is no number
            found = min(found, int(Path(group).read_text(encoding="ascii")))
    return found


def _limited() -> int:
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    limits = (resource.getrlimit(one)[0] for one in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=sys.maxsize)


def excess(size: int, products: int = 0) -> str | None:
    """Why something is too much for this machine, in a phrase; ``None``: it is not.

    Args:
        size: bytes that it takes at once.
        products: multiply-adds that it takes.
    """
    if size > memory():
        return f"{in_bytes(size)} at once are more than this machine can hold"
    if products > MOST_PRODUCTS:
        return f"it would take hours ({products:,} multiply-adds)"
    return None


def in_bytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size >> 30:,} GiB" if size >= 2**33 else f"{size >> 20:,} MiB"
