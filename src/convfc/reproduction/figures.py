"""The figures of the paper: architectures (8), loss curves (7, 10), first layer's weights (9)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convfc import plotting
from convfc.core.arrays import Array
from convfc.reproduction.architectures import architectures
from convfc.reproduction.results import Trained
from convfc.reproduction.settings import NETWORKS, Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {"sgd": "SGD", "adam": "Adam"}

# Curves that lie on each other stay visible: from wide and pale to narrow and dashed.
_LINES: dict[str, dict[str, Any]] = {
    "cnn": {"color": plotting.SKY, "linewidth": 7.0, "alpha": 0.6, "solid_capstyle": "butt"},
    "converted": {"color": plotting.RED, "linewidth": 2.6, "linestyle": (0, (5, 5))},
    "patches": {"color": plotting.INK, "linewidth": 1.4, "linestyle": (0, (1, 2))},
    "again": {"color": plotting.GREEN, "linewidth": 1.6, "linestyle": (5, (2, 8))},
}
_MARKERS: dict[str, dict[str, Any]] = {
    "cnn": {},
    "converted": {"marker": "o", "markersize": 5, "fillstyle": "none"},
    "patches": {"marker": ".", "markersize": 3},
    "again": {"marker": "x", "markersize": 4},
}
SMALLEST = 1e-9
"""Distances below this are drawn on a linear scale, so that 0 has a place."""


def draw(
    folder: Path, settings: Settings, shape: Sequence[int], trained: Sequence[Trained]
) -> list[Path]:
    """Draw all figures, each as PNG and SVG.

    Args:
        folder: where to write.
        settings: of the experiment.
        shape: height, width and channels of an image.
        trained: every network, trained.

    Raises:
        FileError: a file cannot be written.
    """
    files: list[Path] = []
    with plotting.styled():
        files += plotting.save_both(architectures(settings, shape), folder / "architectures")
        for optimizer in settings.optimizers:
            group = [one for one in trained if one.optimizer == optimizer]
            files += plotting.save_both(losses(group), folder / f"losses_{optimizer}")
            files += plotting.save_both(weights(group), folder / f"weights_{optimizer}")
    return files


def losses(group: Sequence[Trained]) -> Figure:
    """Training and validation curves over each other, and how far apart they are.

    Args:
        group: the networks trained with one optimizer, the CNN first.
    """
    from matplotlib.lines import Line2D

    figure = plotting.new_figure(12, 7.5)
    figure.suptitle(
        f"Trained with {TITLES[group[0].optimizer]}: the loss of {len(group)} networks "
        "that start alike and see the same images",
        fontsize=15,
    )
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[3, 2])
    for (top, bottom), name in zip(axes.T, ("training", "validation"), strict=True):
        curves = {one.network: getattr(one, name) for one in group}
        _curves(top, curves, name)
        _distances(bottom, curves)
        bottom.set_xlabel("epoch")
    axes[0, 0].set_ylabel("mean squared error")
    axes[1, 0].set_ylabel("distance\nfrom the CNN")
    handles = [
        Line2D([], [], label=NETWORKS[one.network], **_LINES[one.network], **_MARKERS[one.network])
        for one in group
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=4, frameon=False, handlelength=4
    )
    return figure


def _curves(axes: Axes, curves: dict[str, Array], name: str) -> None:
    for network, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, label=NETWORKS[network], **_LINES[network])
    axes.set_title(f"{name} loss", fontsize=13)
    axes.set_ylim(bottom=0)


def _distances(axes: Axes, curves: dict[str, Array]) -> None:
    """|curve - the CNN's|, on a scale that is logarithmic but for its lowest step, down to 0."""
    largest = SMALLEST
    for network, curve in curves.items():
        if network != "cnn":
            distance = np.abs(curve - curves["cnn"])
            largest = max(largest, distance.max())
            dots = {"color": _LINES[network]["color"], "linestyle": "none", **_MARKERS[network]}
            axes.plot(range(1, len(curve) + 1), distance, **dots)
    axes.set_yscale("symlog", linthresh=SMALLEST)
    axes.set_ylim(-SMALLEST / 3, 10 * largest)
    axes.grid(axis="y", color=plotting.PALE, linewidth=0.6)


def weights(group: Sequence[Trained]) -> Figure:
    """Histograms of the first layer's weights over each other.

    Args:
        group: the networks trained with one optimizer, the CNN first.
    """
    from matplotlib.ticker import MaxNLocator

    figure = plotting.new_figure(12, 5.5)
    axes = figure.subplots()
    everything = np.concatenate([one.kernel.ravel() for one in group])
    bins = np.linspace(everything.min(), everything.max(), 41)
    for one in group:
        style = dict(_LINES[one.network])
        label, values = NETWORKS[one.network], one.kernel.ravel()
        if one.network == "cnn":
            axes.hist(values, list(bins), label=label, color=style["color"], alpha=style["alpha"])
            continue
        axes.stairs(np.histogram(values, bins)[0], bins, label=label, baseline=None, **style)
    axes.set_title(
        f"The {everything.size // len(group):,} weights of the first layer, "
        f"trained with {TITLES[group[0].optimizer]}",
        fontsize=15,
    )
    axes.set_xlabel("weight")
    axes.set_ylabel("how many")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    # Not inside: any corner may hold bars.
    figure.legend(loc="outside lower center", ncols=4, frameon=False, handlelength=4)
    return figure
