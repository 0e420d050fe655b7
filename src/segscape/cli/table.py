"""`segscape table`: the scores of several reports side by side."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from segscape.errors import SegscapeError


class Format(str, Enum):
    """How the table is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"
    JSON = "json"


def table(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT...", help="report.json files of `segscape evaluate`, or their folders."),
    ],
    metrics: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Scores to show, such as mIoU,accuracy,FID; default: all.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How to write the table.")] = Format.TEXT,
) -> None:
    """Put the scores of several reports in one table, a row per model.

    Scores that were measured by different protocols never share a column.
    """
    from segscape.evaluation.report.report import Report
    from segscape.evaluation.report.table import FORMATS, score_table, split_metrics

    loaded = [Report.load(path) for path in reports]
    titles = [report.title for report in loaded]
    names = [
        f"{title} ({path})" if titles.count(title) > 1 else title for title, path in zip(titles, reports, strict=True)
    ]
    chosen = None if metrics is None else split_metrics(metrics, loaded)
    if chosen == []:
        raise SegscapeError("--metrics names no score: write it like mIoU,accuracy,FID.")
    result = score_table(list(zip(names, loaded, strict=True)), chosen)
    print(FORMATS[format.value](result))
