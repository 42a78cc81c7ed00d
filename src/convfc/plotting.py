"""What every drawn figure shares: the library, the colours, the files."""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convfc.errors import UsageError
from convfc.system.atomic import staged

if TYPE_CHECKING:  # who only asks whether it is there need not wait for matplotlib
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, RED = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)
"""Colours of Okabe & Ito (2008), which colour-blind people can tell apart."""
INK, PALE = "#222222", "#bbbbbb"

DPI = 100
"""Pixels per inch of a PNG: a figure 12 inches wide has 1200 of them."""

_STYLE: Any = {
    "axes.axisbelow": True,
    "font.family": "DejaVu Sans",  # it comes with matplotlib, so all machines draw the same
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "convfc",  # else the identifiers in an SVG are random
}

_one_at_a_time = threading.RLock()


@contextmanager
def styled() -> Iterator[None]:
    """Settings of matplotlib while a figure is made and saved.

    They are the whole process's: two threads that changed them at once would each put back what
    the other had made.
    """
    import matplotlib

    with _one_at_a_time, matplotlib.rc_context(_STYLE):
        yield


def require_matplotlib() -> None:
    """See that figures can be drawn, before anything else is done.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "figures need matplotlib, which is not installed: pip install 'convfc[plots]'"
        )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    around = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)  # inches
    return Figure(figsize=(width, height), dpi=DPI, layout=around)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as .png or .svg, by the name; the same figure gives the same bytes.

    Raises:
        FileError: it cannot be written.
    """
    with staged(path) as stage:
        write_figure(figure, stage)
    return path


def write_figure(figure: Figure, path: Path) -> None:
    """The same, without any care for what an interruption leaves or for the file's name."""
    undated = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    # Settings count when it is saved.
    with styled(), warnings.catch_warnings():
        # A name may be in any script: what the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(path, metadata=undated)


def save_both(figure: Figure, stem: Path) -> Sequence[Path]:
    """Write a figure as .png and as .svg; see `save_figure`."""
    return [save_figure(figure, stem.with_suffix(suffix)) for suffix in (".png", ".svg")]
