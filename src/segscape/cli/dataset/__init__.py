"""`segscape dataset`: look through data, start a recipe for it, bring it into other layouts."""

from __future__ import annotations

import typer

from segscape.cli.dataset.convert import convert
from segscape.cli.dataset.init import init
from segscape.cli.dataset.inspect import inspect
from segscape.cli.dataset.instances import instances
from segscape.cli.dataset.outdoor import outdoor

app = typer.Typer(no_args_is_help=True, help="Look through data, start a recipe for it, convert it.")
app.command()(inspect)
app.command()(init)
app.command()(convert)
app.command()(outdoor)
app.command()(instances)
