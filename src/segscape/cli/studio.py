"""`segscape studio`: paint a layout in the browser and see the photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def studio(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Folder or Hugging Face id of a model; repeat it to compare. The shipped one by default."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in, with the token that is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0 takes a free one.")] = 8760,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    segmenter: Annotated[
        str | None,
        typer.Option(help="Turns photos into layouts: a folder or Hugging Face id; by default the shipped one."),
    ] = None,
    survey: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Ask a preference study (segscape compare) at /survey too.")
    ] = None,
) -> None:
    """Open a page where people paint with classes and see the photograph change as they paint.

    Everything runs here: the page loads nothing from other hosts.
    """
    from segscape.extras import require

    for package in ("fastapi", "uvicorn", "python_multipart"):  # before models are loaded, which takes long
        require(package, "studio")

    from segscape.studio.engine import load_engine
    from segscape.studio.guard import Access
    from segscape.studio.server import create_studio, serve

    engine = load_engine(model or [], device, segmenter)
    access = Access.at(host)
    app = create_studio(engine, survey=survey, access=access)
    engine.warm_up()
    serve(app, host, port, _announce, access)
    print("stopped")


def _announce(address: str) -> None:
    print(f"open {address} to paint; Ctrl-C stops", flush=True)
