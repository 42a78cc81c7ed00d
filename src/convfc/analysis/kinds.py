"""Which matrices of a layer can be had as files; importing this takes no numpy."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Which matrix of a layer."""

    FILTER = "filter"
    """F, and b."""
    PATCHES = "patches"
    """P, of a sample."""
    WHOLE = "whole"
    """M, sparse, and b'."""
