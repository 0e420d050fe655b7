"""Drawings of gamma and beta: figures 2 and 3 of the CLADE paper, and the one number per layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segscape.evaluation.modulation.analysis import (
    QUANTITIES,
    ModulationAnalysis,
    ModulationHistogram,
    ModulationMaps,
    Quantity,
)
from segscape.evaluation.modulation.class_moments import ClassHistogram, Floats
from segscape.evaluation.plotting import INK, new_figure, save_figure
from segscape.extras import require
from segscape.labels import LabelSet
from segscape.layout import Layout, Size

COLOUR_MAPS = {"gamma": "viridis", "beta": "RdBu_r"}
SYMBOLS = {"gamma": r"$\gamma$", "beta": r"$\beta$"}
SERIES = {"gamma": "#3b528b", "beta": "#c0392b"}
STEPS = 160
"""Points of a drawn distribution."""
TRIMMED = 0.5
"""Percent of the values at each end that colour scales and axes may leave out."""
LEGEND = 20
"""Classes that a legend names at most: those with the most pixels."""


class Figure(NamedTuple):
    """A picture that was drawn.

    Attributes:
        path: of the PNG file.
        caption: what it shows.
    """

    path: Path
    caption: str


def draw_within_shares(analysis: ModulationAnalysis, path: Path) -> Figure:
    """Within-class share per layer, of all pixels and of the interior of regions."""
    layers = analysis.layers
    figure, axes = new_figure(width=max(5.0, 1.5 + 0.45 * len(layers)), height=3.8)
    axis, places = axes[0, 0], np.arange(len(layers))
    for quantity, size in zip(QUANTITIES, (7, 4), strict=True):  # two sizes, so that equal points both show
        of_layer = [getattr(layer, quantity) for layer in layers]
        style = {"color": SERIES[quantity], "markersize": size, "linewidth": 1, "clip_on": False}
        axis.plot(places, [d.within_share for d in of_layer], "o-", label=f"{SYMBOLS[quantity]}, all pixels", **style)
        label = f"{SYMBOLS[quantity]}, inside regions"
        axis.plot(places, [d.interior for d in of_layer], "o:", markerfacecolor="white", label=label, **style)
    names = [f"{layer.name}  {size_text(layer.size)}" for layer in layers]
    axis.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
    axis.margins(y=0.1)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("within-class / total variance")
    axis.legend(fontsize=8, frameon=False)
    return saved(
        figure,
        path,
        "Within-class share of the variance of gamma and beta, layer by layer; 0 means that the class alone determines "
        "them. Inside regions means that all labels which the norm sees around the pixel are of one class; there is no "
        "point where a map has no such pixels.",
    )


def draw_maps(analysis: ModulationAnalysis, maps: ModulationMaps, path: Path) -> Figure:
    """Gamma and beta of some channels beside the layouts (figure 2 of the paper)."""
    examples, shown = len(analysis.examples), len(maps.channels)
    height, width = panel(analysis.examples[0].size, 1.9)
    columns = 1 + 2 * shown
    figure, axes = new_figure(examples, columns, width=columns * width + 1.8, height=examples * height + 1.0)
    for axis, layout in zip(axes[:, 0], analysis.examples, strict=True):
        draw_layout(axis, layout)
    axes[0, 0].set_title("layout", fontsize=9)
    for place, quantity in enumerate(QUANTITIES):
        own = axes[:, 1 + place * shown : 1 + (place + 1) * shown]
        values: Floats = getattr(maps, quantity)
        scale = colour_limits(values, quantity)
        for (row, column), axis in np.ndenumerate(own):
            image = axis.imshow(values[row, column], cmap=COLOUR_MAPS[quantity], **scale)
            axis.set_axis_off()
            if row == 0:
                axis.set_title(f"{SYMBOLS[quantity]}, channel {maps.channels[column]}", fontsize=9)
        colour_bar(figure, image, own)
    class_legend(figure, analysis.examples, columns)
    size = size_text((maps.gamma.shape[-2], maps.gamma.shape[-1]))
    return saved(figure, path, f"Gamma and beta of {maps.layer} at {size} beside the layouts (figure 2 of the paper).")


def draw_histograms(analysis: ModulationAnalysis, classes: Sequence[int], path: Path) -> Figure:
    """Distributions of gamma and beta per class and resolution (figure 3 of the paper)."""
    return _draw_distributions(
        analysis.histograms,
        analysis.labels,
        classes,
        path,
        "Distribution of gamma and beta over pixels and channels, per class and per resolution of the norm, each "
        f"scaled to its peak; {TRIMMED} % at each end may be cut off. Figure 3 of the paper. Since every channel has "
        "its own value for a class, the curves are wide even where the class determines gamma and beta: see the next "
        "figure.",
    )


def draw_deviations(analysis: ModulationAnalysis, classes: Sequence[int], path: Path) -> Figure:
    """Distributions of how far gamma and beta are from the value in the midst of a large region of the class."""
    return _draw_distributions(
        analysis.deviations,
        analysis.labels,
        classes,
        path,
        "The same for how far gamma and beta are from the value of their channel in the midst of a large region of the "
        "class, in standard deviations of that value between the classes: the more the class alone determines them, "
        "the narrower the curve around 0.",
    )


def _draw_distributions(
    groups: Sequence[ModulationHistogram], labels: LabelSet, classes: Sequence[int], path: Path, caption: str
) -> Figure:
    """Classes in rows, gamma and beta in columns, resolutions as ridges."""
    height = 0.7 + len(classes) * (0.45 + 0.2 * len(groups))
    figure, axes = new_figure(len(classes), 2, width=8.5, height=height)
    for column, quantity in enumerate(QUANTITIES):
        histograms = [getattr(group, quantity) for group in groups]
        low, high = _shown_range(histograms, classes)
        grid = np.linspace(low, high, STEPS + 1)
        for axis, index in zip(axes[:, column], classes, strict=True):
            _draw_ridges(axis, [_density(histogram, index, grid) for histogram in histograms], grid)
            axis.set_title(f"{SYMBOLS[quantity]} of {labels.names[index]}", loc="left", fontsize=9)
            axis.set_yticks(range(len(groups)), _group_names(groups))
            axis.tick_params(left=False, labelleft=column == 0, labelbottom=index == classes[-1], labelsize=7)
    return saved(figure, path, caption)


def _draw_ridges(axis: Any, curves: Sequence[Floats], grid: Floats) -> None:
    """One filled curve above the other, the first one lowest and in front."""
    centres = (grid[:-1] + grid[1:]) / 2
    for place, curve in enumerate(curves):
        order = 2 * (len(curves) - place)
        axis.fill_between(centres, place, place + 1.5 * curve, color=_ridge_colour(place, len(curves)), zorder=order)
        axis.plot(centres, place + 1.5 * curve, color="white", linewidth=0.5, zorder=order + 1)
    axis.set_xlim(grid[0], grid[-1])
    axis.set_ylim(-0.1, len(curves) + 0.7)
    axis.spines["left"].set_visible(False)


def _ridge_colour(place: int, count: int) -> tuple[float, float, float]:
    share = place / max(count - 1, 1)
    return 0.36 - 0.14 * share, 0.33 + 0.38 * share, 0.61 - 0.06 * share


def _group_names(groups: Sequence[ModulationHistogram]) -> list[str]:
    kinds = {group.kind for group in groups}
    return [size_text(group.size) if len(kinds) == 1 else f"{group.kind} {size_text(group.size)}" for group in groups]


def _density(histogram: ClassHistogram, index: int, grid: Floats) -> Floats:
    """Share of the class's values between neighbouring grid points, scaled to a peak of 1; `[len(grid) - 1]`."""
    cumulative = np.concatenate([[0], np.cumsum(histogram.counts[index])])
    share: Floats = np.diff(np.interp(grid, histogram.edges, cumulative))
    share /= max(float(share.max()), 1e-12)
    return share


def _shown_range(histograms: Sequence[ClassHistogram], classes: Sequence[int]) -> tuple[float, float]:
    """From where to where the values of some classes lie in all of the histograms, but for `TRIMMED` percent."""
    lows, highs = [], []
    for histogram in histograms:
        counts = histogram.counts[list(classes)].sum(axis=0)
        if counts.any():
            cumulative = np.cumsum(counts) / counts.sum()
            lows.append(float(histogram.edges[np.searchsorted(cumulative, TRIMMED / 100)]))
            highs.append(float(histogram.edges[np.searchsorted(cumulative, 1 - TRIMMED / 100) + 1]))
    low, high = min(lows, default=0.0), max(highs, default=0.0)
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def panel(size: Size, side: float) -> tuple[float, float]:
    """(height, width) in inches of a panel for maps of a size, which is `side` high if they are not very wide."""
    height, width = size
    wide = min(width / height, 1.6)
    return side * wide * height / width, side * wide


def draw_layout(axis: Any, layout: Layout) -> None:
    """The first label map in the colours of its classes."""
    axis.imshow(layout.labels.colorize(layout.label_map[0].cpu().numpy()), interpolation="nearest")
    axis.set_axis_off()


def class_legend(figure: Any, layouts: Sequence[Layout], columns: int) -> None:
    """The colours of the classes that the layouts hold, below the axes; of very many the `LEGEND` largest."""
    patch = require("matplotlib.patches", "eval").Patch
    labels = layouts[0].labels
    pixels = np.bincount(np.concatenate([layout.label_map.cpu().numpy().ravel() for layout in layouts]))
    largest = np.argsort(-pixels, kind="stable")[: min(LEGEND, np.count_nonzero(pixels))]
    patches = [patch(color=labels.colors[index] / 255, label=labels.names[index]) for index in np.sort(largest)]
    if more := np.count_nonzero(pixels) - len(largest):
        patches.append(patch(color="none", label=f"and {more} smaller"))
    columns = min(len(patches), columns + 1)
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def colour_bar(figure: Any, image: Any, axes: Any, label: str = "") -> None:
    """A slim colour bar to the right of some axes."""
    aspect = max(25, 6 * figure.get_figheight())  # as slim beside a tall figure
    bar = figure.colorbar(image, ax=axes, location="right", shrink=0.8, aspect=aspect, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.set_label(label, fontsize=8)


def colour_limits(values: Floats, quantity: Quantity) -> dict[str, float]:
    """A colour scale for all but `TRIMMED` percent of the values at each end; beta's is centred on 0."""
    low, high = (float(edge) for edge in np.percentile(values, [TRIMMED, 100 - TRIMMED]))
    if quantity == "beta":
        high = max(abs(low), abs(high))
        low = -high
    return {"vmin": low, "vmax": high} if high > low else {"vmin": low - 0.5, "vmax": high + 0.5}


def size_text(size: Size) -> str:
    """`HxW`."""
    return f"{size[0]}x{size[1]}"


def saved(figure: Any, path: Path, caption: str) -> Figure:
    """Write the picture and say what it shows."""
    save_figure(figure, path)
    return Figure(path, caption)
