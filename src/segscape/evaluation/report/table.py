"""Tables over several reports: a row per model, a column per metric *and* protocol."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segscape.errors import EvaluationError
from segscape.evaluation.report.report import GROUPS, LINE, MISSING, UNSTATED, Report, decimals, figure, footnotes
from segscape.evaluation.score import Group, Score

FORMAT = 1
"""Number of the form of the JSON table."""

GAP = "  "
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_LATEX_ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", None: ""}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "×": r"$\times$",
} | {character: f"\\{character}" for character in "&%$#_{}"}
_MARKDOWN = {character: f"\\{character}" for character in "\\`*_{}[]<>|#~$&"}


@dataclass(frozen=True)
class Column:
    """One metric, measured in one way; every score in the column has this name, unit and protocol."""

    metric: str
    unit: str
    protocol: str
    group: Group
    better: Literal["higher", "lower"] | None

    @property
    def title(self) -> str:
        """The metric with its unit."""
        return f"{self.metric} ({self.unit})" if self.unit else self.metric

    def holds(self, score: Score) -> bool:
        """Whether `score` belongs into this column."""
        return (score.name, score.unit, score.protocol) == (self.metric, self.unit, self.protocol)


@dataclass(frozen=True)
class Table:
    """Scores of several models side by side; those of different protocols are in different columns.

    Attributes:
        models: names of the rows.
        columns: what was measured, and how.
        cells: `[models][columns]`; None where a model was not measured in that way.
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Score | None, ...], ...]

    def to_text(self) -> str:
        """The table for a terminal, in blocks of as many columns as fit into a line, with numbered protocols below."""
        heads = [
            f"{column.title}{_superscript(mark)}{_ARROWS[column.better]}"
            for column, mark in zip(self.columns, self._marks(), strict=True)
        ]
        columns = [_align(column, str.rjust) for column in zip(heads, *self.figures(), strict=True)]
        names = _align(["", *self.models], str.ljust)
        blocks = ["\n".join(_ruled(names, block)) for block in _blocks(columns, LINE - len(names[0]))]
        notes = [line for text in self._footnotes() for line in textwrap.wrap(text, LINE, subsequent_indent="  ")]
        return "\n\n".join([*blocks, "\n".join(notes)])

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown, the best of each column in bold, protocols below."""
        heads = [
            f"{_escape(column.title, _MARKDOWN)}{_superscript(mark)}{_ARROWS[column.better]}"
            for column, mark in zip(self.columns, self._marks(), strict=True)
        ]
        lines = ["| model | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
        for model, figures in zip(self.models, self._emphasised("**{}**".format), strict=True):
            lines.append(f"| {_escape(model, _MARKDOWN)} | " + " | ".join(figures) + " |")
        notes = [f"{_escape(text, _MARKDOWN)}  " for text in self._footnotes()]
        return "\n".join([*lines, "", *notes])

    def to_csv(self) -> str:
        """The table as CSV with two lines of heads, metrics and protocols (`pandas.read_csv(..., header=[0, 1])`).

        Numbers have all their digits; cells without one are empty.
        """
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["model", *(column.title for column in self.columns)])
        writer.writerow(["protocol", *(column.protocol for column in self.columns)])
        for model, cells in zip(self.models, self.cells, strict=True):
            writer.writerow([model, *("" if cell is None else repr(cell.value) for cell in cells)])
        return stream.getvalue().rstrip("\n")

    def to_latex(self) -> str:
        """The table for LaTeX with the package booktabs, the best of each column in bold, protocols below."""
        heads = [
            f"{_escape(column.title, _LATEX)}$^{{{mark}}}${_LATEX_ARROWS[column.better]}"
            for column, mark in zip(self.columns, self._marks(), strict=True)
        ]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule", _latex_row(["Model", *heads]), r"\midrule"]
        for model, figures in zip(self.models, self._emphasised(r"\textbf{{{}}}".format), strict=True):
            lines.append(_latex_row([_escape(model, _LATEX), *(text.replace(MISSING, "--") for text in figures)]))
        texts = footnotes(list(self._protocols()), "[{}]".format)
        notes = [rf"$^{{{mark}}}$ {_escape(text, _LATEX)}\par" for mark, text in enumerate(texts, start=1)]
        notes += [rf"{_escape(text, _LATEX)}\par" for text in self._notes()]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\par\smallskip", r"{\footnotesize", *notes, "}"])

    def to_json(self) -> str:
        """The table as strict JSON: `format`, `columns`, `rows` with `model` and `cells` (value and note, or null)."""
        columns = [
            {"metric": c.metric, "unit": c.unit, "better": c.better, "group": c.group, "protocol": c.protocol}
            for c in self.columns
        ]
        rows = [
            {"model": model, "cells": [_json_cell(cell) for cell in cells]}
            for model, cells in zip(self.models, self.cells, strict=True)
        ]
        table = {"format": FORMAT, "columns": columns, "rows": rows}
        return json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)

    def figures(self) -> list[list[str]]:
        """The cells in figures, `[models][columns]`, with one number of decimals per column."""
        places = [
            decimals((cell.value for cell in cells if cell is not None), column.unit)
            for column, cells in zip(self.columns, zip(*self.cells, strict=True), strict=True)
        ]
        return [
            [MISSING if cell is None else figure(cell.value, count) for cell, count in zip(row, places, strict=True)]
            for row in self.cells
        ]

    def _emphasised(self, emphasise: Callable[[str], str]) -> list[list[str]]:
        """`figures`, with the best of every column that has several numbers emphasised."""
        figures = self.figures()
        for index, column in enumerate(self.columns):
            known = [float(row[index]) for row in figures if row[index] != MISSING]
            if column.better is None or len(known) < 2:
                continue
            best = max(known) if column.better == "higher" else min(known)
            for row in figures:
                if row[index] != MISSING and float(row[index]) == best:
                    row[index] = emphasise(row[index])
        return figures

    def _protocols(self) -> dict[str, int]:
        """The protocols of the columns, numbered from 1."""
        texts = dict.fromkeys(column.protocol or UNSTATED for column in self.columns)
        return {text: number for number, text in enumerate(texts, start=1)}

    def _marks(self) -> list[int]:
        """Per column the number of its protocol."""
        numbers = self._protocols()
        return [numbers[column.protocol or UNSTATED] for column in self.columns]

    def _notes(self) -> list[str]:
        """What else must be said about single numbers."""
        return [
            f"{model}, {cell.name}: {cell.note}"
            for model, cells in zip(self.models, self.cells, strict=True)
            for cell in cells
            if cell is not None and cell.note
        ]

    def _footnotes(self) -> list[str]:
        """Protocols and notes, the protocols under their numbers."""
        texts = footnotes(list(self._protocols()), _superscript)
        return [*(f"{_superscript(mark)} {text}" for mark, text in enumerate(texts, start=1)), *self._notes()]


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": Table.to_text,
    "markdown": Table.to_markdown,
    "csv": Table.to_csv,
    "latex": Table.to_latex,
    "json": Table.to_json,
}
"""How a table can be written."""


def score_table(reports: Sequence[tuple[str, Report]], metrics: Sequence[str] | None = None) -> Table:
    """Put the scores of several reports side by side.

    Args:
        reports: name and report of each row.
        metrics: names of the scores to show, in this order; None shows all, by group.

    Raises:
        EvaluationError: there are no scores, no report has one of the metrics, or one report has two values for one
            metric and protocol.
    """
    scores = [score for _, report in reports for score in report.scores]
    if not scores:
        raise EvaluationError("there is nothing to put into a table: the reports hold no scores.")
    names = list(
        dict.fromkeys(score.name for score in sorted(scores, key=lambda score: list(GROUPS).index(score.group)))
    )
    chosen = names if metrics is None else list(dict.fromkeys(_known_name(metric, names) for metric in metrics))
    found = (_column(score) for name in chosen for score in scores if score.name == name)
    columns = tuple({(c.metric, c.unit, c.protocol): c for c in reversed(list(found))}.values())[::-1]
    cells = tuple(tuple(_cell(name, report, column) for column in columns) for name, report in reports)
    return Table(tuple(name for name, _ in reports), columns, cells)


def split_metrics(text: str, reports: Sequence[Report]) -> list[str]:
    """A list of metrics as the command line takes it, `mIoU,accuracy,FID`; names that hold a comma are kept whole."""
    known = {score.name.lower() for report in reports for score in report.scores}
    metrics: list[str] = []
    for part in text.split(","):
        joined = f"{metrics[-1]},{part}" if metrics else ""
        if joined.strip().lower() in known:
            metrics[-1] = joined
        else:
            metrics.append(part)
    return [metric.strip() for metric in metrics if metric.strip()]


def _known_name(metric: str, names: Sequence[str]) -> str:
    """The name of a score, whatever its case."""
    for name in names:
        if name.lower() == metric.lower():
            return name
    raise EvaluationError(f"no report has the metric {metric!r}; they have {', '.join(names) or 'none'}.")


def _column(score: Score) -> Column:
    return Column(score.name, score.unit, score.protocol, score.group, score.better)


def _cell(model: str, report: Report, column: Column) -> Score | None:
    found = [score for score in report.scores if column.holds(score)]
    if len(found) > 1:
        raise EvaluationError(f"the report of {model} has {len(found)} values of {column.metric} with one protocol.")
    return found[0] if found else None


def _json_cell(cell: Score | None) -> dict[str, object] | None:
    if cell is None:
        return None
    return {"value": cell.value if math.isfinite(cell.value) else None, "note": cell.note}


def _superscript(number: int) -> str:
    return str(number).translate(_SUPERSCRIPTS)


def _escape(text: str, escapes: Mapping[str, str]) -> str:
    """`text` in one line, with the characters replaced that mean something in a format."""
    return "".join(escapes.get(character, character) for character in " ".join(text.split()))


def _align(texts: Sequence[str], justify: Callable[[str, int], str]) -> list[str]:
    """Texts, all as wide as the widest."""
    width = max(map(len, texts))
    return [justify(text, width) for text in texts]


def _blocks(columns: Sequence[list[str]], room: int) -> list[list[list[str]]]:
    """Columns, divided so that each block fits into `room` characters; a block has at least one column."""
    blocks: list[list[list[str]]] = []
    left = 0
    for column in columns:
        left -= len(column[0]) + len(GAP)
        if left < 0:
            blocks.append([])
            left = room - len(column[0]) - len(GAP)
        blocks[-1].append(column)
    return blocks


def _ruled(names: Sequence[str], columns: Sequence[list[str]]) -> list[str]:
    """The lines of one block: heads, a rule, the rows."""
    head, *rows = [GAP.join(cells) for cells in zip(names, *columns, strict=True)]
    return [head, "-" * len(head), *rows]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
