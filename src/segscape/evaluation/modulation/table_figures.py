"""Drawings of what CLADE norms learned: tables, distances between classes, the response to the position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segscape.evaluation.modulation.analysis import QUANTITIES, ModulationAnalysis, Quantity
from segscape.evaluation.modulation.class_moments import Floats
from segscape.evaluation.modulation.class_tables import ClassTable, PositionResponse, position_channels, table_distances
from segscape.evaluation.modulation.figures import (
    COLOUR_MAPS,
    SYMBOLS,
    Figure,
    class_legend,
    colour_bar,
    colour_limits,
    draw_layout,
    panel,
    saved,
    size_text,
)
from segscape.evaluation.plotting import INK, new_figure
from segscape.labels import LabelSet

RESPONSES_PER_ROW = 7
MANY_CLASSES = 40
"""More classes than this get narrow rows."""


def draw_tables(analysis: ModulationAnalysis, folder: Path) -> list[Figure]:
    """The tables of every CLADE norm as heat maps, classes by channels, with the same colours for the same values."""
    scales = {quantity: _common_limits(analysis.tables, quantity) for quantity in QUANTITIES}
    return [
        _draw_table(table, analysis.labels, scales, folder / f"table-{table.layer}.png") for table in analysis.tables
    ]


def _common_limits(tables: Sequence[ClassTable], quantity: Quantity) -> dict[str, float]:
    """A colour scale wide enough for the widest table."""
    own = [colour_limits(getattr(table, quantity), quantity) for table in tables]
    return {"vmin": min(scale["vmin"] for scale in own), "vmax": max(scale["vmax"] for scale in own)}


def _draw_table(table: ClassTable, labels: LabelSet, scales: dict[Quantity, dict[str, float]], path: Path) -> Figure:
    figure, axes = new_figure(1, 2, width=11, height=1.2 + _row_height(labels) * labels.num_classes)
    for axis, quantity in zip(axes[0], QUANTITIES, strict=True):
        values: Floats = getattr(table, quantity)
        image = axis.imshow(values, cmap=COLOUR_MAPS[quantity], aspect="auto", **scales[quantity])
        axis.set_title(f"{SYMBOLS[quantity]} of {table.layer}", fontsize=9)
        axis.set_xlabel("channel")
        axis.spines[:].set_visible(False)
        colour_bar(figure, image, [axis])
    _name_classes(axes[0, 0].yaxis, labels)
    axes[0, 1].set_yticks([])
    return saved(figure, path, f"The tables of {table.layer}; colours as in the tables of the other layers.")


def draw_distances(analysis: ModulationAnalysis, path: Path) -> Figure:
    """Distances between classes over the tables of all CLADE norms, and over the beta tables alone."""
    labels = analysis.labels
    side = 1.4 + _row_height(labels) * labels.num_classes
    figure, axes = new_figure(1, 2, width=2 * side + 1.8, height=side)
    kinds = {"gamma and beta": QUANTITIES, "beta alone": ("beta",)}
    for axis, (title, quantities) in zip(axes[0], kinds.items(), strict=True):
        distances = table_distances(analysis.tables, quantities)
        image = axis.imshow(np.where(np.eye(labels.num_classes, dtype=bool), np.nan, distances), cmap="magma")
        axis.set_title(title, fontsize=9)
        axis.spines[:].set_visible(False)
        _name_classes(axis.xaxis, labels)
        _name_classes(axis.yaxis, labels)
        axis.tick_params(axis="x", rotation=90)
        colour_bar(figure, image, [axis])
    return saved(
        figure,
        path,
        "Distances between the classes' rows in the tables of all CLADE layers, channels standardised: dark is alike. "
        "Gamma starts as random numbers and beta as zeros, so beta alone shows best what was learned.",
    )


def draw_position_encoding(analysis: ModulationAnalysis, path: Path) -> Figure:
    """The positional encoding of the example layouts beside them (figure 6 of the paper)."""
    rule, rows = analysis.positions[0].rule, len(analysis.examples)
    height, width = panel(analysis.examples[0].size, 2.0)
    figure, axes = new_figure(rows, 3, width=3 * width + 1.0, height=rows * height + 1.0)
    for row, layout in zip(axes, analysis.examples, strict=True):
        draw_layout(row[0], layout)
        for axis, offset in zip(row[1:], position_channels(layout, layout.size, rule), strict=True):
            image = axis.imshow(offset, cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("layout", "d, vertical", "d, horizontal"), strict=True):
        axis.set_title(title, fontsize=9)
    colour_bar(figure, image, axes[:, 1:])
    class_legend(figure, analysis.examples, 4)
    return saved(
        figure, path, f"The positional encoding by the rule {rule!r}: where a pixel lies in its object (figure 6)."
    )


def draw_position_plane(analysis: ModulationAnalysis, path: Path) -> Figure:
    """The positional factors of every layer over d in [-1, 1]^2."""
    places = np.linspace(-1, 1, 65)
    vertical, horizontal = np.meshgrid(places, places, indexing="ij")
    planes = [
        {quantity: getattr(response, quantity).at(vertical, horizontal) for quantity in QUANTITIES}
        for response in analysis.positions
    ]
    return _draw_factors(
        analysis.positions,
        planes,
        path,
        "The positional factors, by which gamma and beta are multiplied, over the place in the object: d vertical from "
        "-1 (top) to 1 (bottom), d horizontal from -1 (left) to 1 (right).",
    )


def draw_position_on_layout(analysis: ModulationAnalysis, path: Path) -> Figure:
    """The positional factors of every layer on the first example, at the layer's resolution."""
    layout, maps = analysis.examples[0], []
    for response in analysis.positions:
        offsets = position_channels(layout, response.size, response.rule)
        maps.append({quantity: getattr(response, quantity).at(*offsets) for quantity in QUANTITIES})
    return _draw_factors(analysis.positions, maps, path, "The positional factors on the first of the layouts above.")


def _draw_factors(
    responses: Sequence[PositionResponse], maps: Sequence[dict[Quantity, Floats]], path: Path, caption: str
) -> Figure:
    """A grid of small maps, one column per layer, gamma above beta, with one colour scale around 1."""
    columns = min(len(responses), RESPONSES_PER_ROW)
    bands = math.ceil(len(responses) / columns)
    height, width = panel((maps[-1]["gamma"].shape[0], maps[-1]["gamma"].shape[1]), 1.1)
    figure, axes = new_figure(2 * bands, columns, width=columns * width + 1.2, height=bands * (2 * height + 0.6))
    extent = max(float(abs(values - 1).max()) for both in maps for values in both.values()) or 1.0
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (response, both) in enumerate(zip(responses, maps, strict=True)):
        band, column = divmod(place, columns)
        for row, quantity in enumerate(QUANTITIES):
            axis = axes[2 * band + row, column]
            image = axis.imshow(both[quantity], cmap="RdBu_r", vmin=1 - extent, vmax=1 + extent)
            if column == 0:
                axis.text(-0.08, 0.5, SYMBOLS[quantity], transform=axis.transAxes, ha="right", va="center", color=INK)
        axes[2 * band, column].set_title(f"{response.layer}\n{size_text(response.size)}", fontsize=7)
    colour_bar(figure, image, axes, "factor")
    return saved(figure, path, f"{caption} 1 means that the position has no effect.")


def _row_height(labels: LabelSet) -> float:
    """Inches per class."""
    return 0.2 if labels.num_classes <= MANY_CLASSES else 0.11


def _name_classes(axis: Any, labels: LabelSet) -> None:
    size = 7 if labels.num_classes <= MANY_CLASSES else 5
    axis.set_ticks(range(labels.num_classes), labels.names, fontsize=size)
