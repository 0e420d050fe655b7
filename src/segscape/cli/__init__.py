"""The `segscape` command: `main`, and the commands, one file each.

A command's file imports nothing heavy at its top, so that `segscape --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from segscape.cli.analyze import analyze
from segscape.cli.compare import compare
from segscape.cli.convert import convert
from segscape.cli.dataset import app as dataset
from segscape.cli.evaluate import evaluate
from segscape.cli.export import export
from segscape.cli.fit_styles import fit_styles
from segscape.cli.generate import generate
from segscape.cli.models import models
from segscape.cli.profile import profile
from segscape.cli.push import push
from segscape.cli.report import report
from segscape.cli.reshape import reshape
from segscape.cli.scenes import scenes
from segscape.cli.segmenter import app as segmenter
from segscape.cli.studio import studio
from segscape.cli.table import table
from segscape.cli.train import train
from segscape.errors import SegscapeError

FAILED = 2
INTERRUPTED = 130

app = typer.Typer(name="segscape", no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command()(generate)
app.command()(reshape)
app.command()(studio)
app.command()(export)
app.command()(train)
app.command()(report)
app.command()(push)
app.command()(evaluate)
app.command()(table)
app.command()(profile)
app.command()(compare)
app.add_typer(analyze, name="analyze")
app.add_typer(segmenter, name="segmenter")
app.command()(convert)
app.command()(fit_styles)
app.command()(models)
app.command()(scenes)
app.add_typer(dataset, name="dataset")


def _print_version(wanted: bool) -> None:
    if wanted:
        from segscape import __version__

        print(f"segscape {__version__}")
        raise typer.Exit


@app.callback()
def segscape(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """From a label map to a photograph: generate pictures, train models, prepare data."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; everything wrong with the input is one `error:` line and exit code 2.

    Args:
        arguments: what stands after `segscape`; None takes the process's own.
    """
    try:
        code = app(args=arguments, prog_name="segscape", standalone_mode=True)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
    except SegscapeError as error:
        fail(str(error))
    except BrokenPipeError:  # the reader of our output has left, as in `segscape models | head -1`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(code)


def fail(message: str) -> None:
    """Print `error: <message>` as one line and leave with exit code 2."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(FAILED)
