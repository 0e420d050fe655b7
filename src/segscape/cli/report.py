"""`segscape report`: the curves, samples and recipe of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import check_folder


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, over or going on.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; RUN/report by default.")] = None,
) -> None:
    """Draw the curves of every metric of a run, and sum it up on one page.

    Writes report.md, with the recipe, the last sample grid and the extremes of every metric, and PNG files of the
    curves.
    """
    from segscape.training.report import write_report

    if out is not None:
        check_folder(out)
    print(write_report(run, out))
