"""A modulation analysis in words and numbers: tables for the screen, `analysis.json`, and `report.md`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from segscape.evaluation.modulation.analysis import QUANTITIES, ClassDependence, ModulationAnalysis
from segscape.evaluation.modulation.class_tables import ClassTable, PositionFactor, nearest_classes, table_distances
from segscape.evaluation.modulation.figures import (
    Figure,
    draw_deviations,
    draw_histograms,
    draw_maps,
    draw_within_shares,
    size_text,
)
from segscape.evaluation.modulation.table_figures import (
    draw_distances,
    draw_position_encoding,
    draw_position_on_layout,
    draw_position_plane,
    draw_tables,
)
from segscape.files import write_text
from segscape.labels import LabelSet

DEFINITION = (
    "Within-class over total variance of gamma and beta: 0 if the class of a pixel alone determines them. Pixels of "
    "all layouts together, per channel, averaged over channels with the total variance as weight; channels with one "
    "value everywhere (their number for gamma/beta is the last column) have no weight. 'Inside' counts only pixels "
    "around which all labels that the norm sees are of one class; '-' where there is nothing to compare. Where a class "
    "has few pixels (small maps of few layouts) the share comes out too low: take more layouts. "
    "Gamma is the whole factor, with SPADE's 1 + and CLADE's positional factor."
)
NEAREST = (
    "Root mean squared difference between the classes' rows in the tables of all CLADE layers, every channel "
    "standardised over the classes: 0 for equal rows, some 1.4 for unrelated ones. Gamma starts as random numbers and "
    "beta as zeros, so beta alone shows best what was learned."
)
RESPONSE = (
    "Gamma and beta are multiplied by 1 + vertical * d_vertical + horizontal * d_horizontal + bias, d in [-1, 1]."
)


@dataclass(frozen=True)
class TextTable:
    """Rows of text under a title.

    Attributes:
        title: of the table.
        note: what its numbers mean.
        header: one name per column; the first columns are text, those from `numbers` on are numbers.
        rows: as many cells each.
        numbers: the first column to align to the right.
    """

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int

    def plain(self) -> str:
        """Aligned columns, for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.title]
        for row in (self.header, *self.rows):
            cells = [
                cell.rjust(width) if place >= self.numbers else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """A heading, the note, and a pipe table."""
        rule = tuple("--:" if place >= self.numbers else "---" for place in range(len(self.header)))
        lines = [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", self.note, "", *lines])


def text_tables(analysis: ModulationAnalysis) -> list[TextTable]:
    """The tables that an analysis has something for."""
    makers: list[tuple[Sequence[object], Callable[[ModulationAnalysis], TextTable]]] = [
        (analysis.layers, _layer_table),
        (analysis.tables, _nearest_table),
        (analysis.positions, _position_table),
    ]
    return [make(analysis) for found, make in makers if found]


def skipped_sentence(analysis: ModulationAnalysis) -> str:
    """Which norms have no gamma and beta of the layout alone; empty if all have."""
    if not analysis.skipped:
        return ""
    names = ", ".join(analysis.skipped)
    return f"Left out, because their gamma and beta depend on more than the layout: {names}."


def as_json(analysis: ModulationAnalysis) -> dict[str, Any]:
    """The numbers of an analysis as JSON values; what cannot be computed is null."""
    labels, tables = analysis.labels, analysis.tables
    return {
        "labels": labels.name,
        "layouts": analysis.layouts,
        "class_pixels": dict(zip(labels.names, analysis.class_pixels.tolist(), strict=True)),
        "definition": DEFINITION,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "size": list(layer.size),
                "channels": layer.channels,
                **{quantity: _dependence_json(getattr(layer, quantity)) for quantity in QUANTITIES},
            }
            for layer in analysis.layers
        ],
        "skipped": list(analysis.skipped),
        "nearest_classes": {
            "definition": NEAREST,
            "gamma and beta": _nearest_json(tables, labels),
            "gamma": _nearest_json(tables, labels, ("gamma",)),
            "beta": _nearest_json(tables, labels, ("beta",)),
            "layers": {table.layer: _nearest_json([table], labels) for table in tables},
        },
        "position": [
            {"layer": response.layer, "rule": response.rule, "gamma": vars(response.gamma), "beta": vars(response.beta)}
            for response in analysis.positions
        ],
    }


def write_report(analysis: ModulationAnalysis, folder: Path, title: str, classes: Sequence[int]) -> list[Figure]:
    """Write `analysis.json`, the figures and `report.md` into a folder that exists.

    Args:
        analysis: what was measured.
        folder: where to.
        title: of the report.
        classes: whose distributions to draw.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figures = _draw(analysis, folder, classes)
    numbers = json.dumps(as_json(analysis), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(folder / "analysis.json", numbers)
    write_text(folder / "report.md", _markdown(analysis, title, figures))
    return figures


def _draw(analysis: ModulationAnalysis, folder: Path, classes: Sequence[int]) -> list[Figure]:
    """Draw all that an analysis has into a folder."""
    figures = []
    if analysis.layers:
        figures.append(draw_within_shares(analysis, folder / "within-class.png"))
    figures += [draw_maps(analysis, maps, folder / f"maps-{maps.layer}.png") for maps in analysis.maps]
    if analysis.layers and classes:
        figures.append(draw_histograms(analysis, classes, folder / "histograms.png"))
        figures.append(draw_deviations(analysis, classes, folder / "deviations.png"))
    if analysis.positions and analysis.examples:
        figures.append(draw_position_encoding(analysis, folder / "position-encoding.png"))
        figures.append(draw_position_on_layout(analysis, folder / "position-on-layout.png"))
    if analysis.positions:
        figures.append(draw_position_plane(analysis, folder / "position-response.png"))
    if analysis.tables:
        figures.append(draw_distances(analysis, folder / "class-distances.png"))
        figures += draw_tables(analysis, folder)
    return figures


def _markdown(analysis: ModulationAnalysis, title: str, figures: Sequence[Figure]) -> str:
    count = f"{analysis.layouts} label map{'s' * (analysis.layouts != 1)} of the label set {analysis.labels.name}."
    parts = [f"# {title}", count, skipped_sentence(analysis), *(table.markdown() for table in text_tables(analysis))]
    parts += ["## Figures", *(f"![{figure.path.stem}]({figure.path.name})\n\n{figure.caption}" for figure in figures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _layer_table(analysis: ModulationAnalysis) -> TextTable:
    rows = []
    for layer in analysis.layers:
        gamma, beta = layer.gamma, layer.beta
        shares = [_number(share) for d in (gamma, beta) for share in (d.within_share, d.interior)]
        constant = f"{gamma.constant_channels}/{beta.constant_channels}"
        rows.append((layer.name, layer.kind, size_text(layer.size), str(layer.channels), *shares, constant))
    header = ("layer", "norm", "size", "channels", "gamma", "inside", "beta", "inside", "constant")
    return TextTable("Within-class share of the variance", DEFINITION, header, tuple(rows), numbers=2)


def _nearest_table(analysis: ModulationAnalysis) -> TextTable:
    names = analysis.labels.names
    nearest = nearest_classes(table_distances(analysis.tables))
    by_one = [nearest_classes(table_distances(analysis.tables, [quantity]), 1) for quantity in QUANTITIES]
    rows = tuple(
        (names[index], *(f"{names[near.class_index]} {near.distance:.2f}" for near in chain(*neighbours)))
        for index, neighbours in enumerate(zip(nearest, *by_one, strict=True))
    )
    ranks = ("nearest", "second", "third")[: min(3, len(names) - 1)]
    alone = ("by gamma alone", "by beta alone")[: 2 * min(1, len(names) - 1)]
    header = ("class", *ranks, *alone)
    return TextTable("Nearest classes", NEAREST, header, rows, numbers=len(header))


def _position_table(analysis: ModulationAnalysis) -> TextTable:
    rows = tuple(
        (response.layer, *_weights(response.gamma), *_weights(response.beta)) for response in analysis.positions
    )
    header = ("layer", "gamma: vertical", "horizontal", "bias", "beta: vertical", "horizontal", "bias")
    return TextTable("Response to the position", RESPONSE, header, rows, numbers=1)


def _weights(factor: PositionFactor) -> tuple[str, ...]:
    return tuple(f"{weight:+.3f}" for weight in (factor.vertical, factor.horizontal, factor.bias))


def _nearest_json(
    tables: Sequence[ClassTable], labels: LabelSet, quantities: Sequence[str] = QUANTITIES
) -> dict[str, list[dict[str, object]]]:
    if not tables:
        return {}
    return {
        name: [{"class": labels.names[near.class_index], "distance": near.distance} for near in neighbours]
        for name, neighbours in zip(labels.names, nearest_classes(table_distances(tables, quantities)), strict=True)
    }


def _dependence_json(dependence: ClassDependence) -> dict[str, float | None]:
    return {
        "within_share": _or_null(dependence.within_share),
        "interior": _or_null(dependence.interior),
        "constant_channels": dependence.constant_channels,
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
