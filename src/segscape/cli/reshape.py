"""`segscape reshape`: CA2-SIS draws a layout with the shapes of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import check_folder, prepare_folder
from segscape.cli.styles import parse_look
from segscape.errors import DataError


def reshape(
    layout: Annotated[Path, typer.Argument(metavar="LAYOUT", help="The label map that is drawn.")],
    shapes: Annotated[Path, typer.Option(metavar="MAP", help="The label map that lends its shapes.")],
    model: Annotated[str, typer.Option(help="Folder or Hugging Face id of a ca2-sis model.")],
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture; frames of --frames stand side by side.")],
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Classes whose shapes are taken; all that both have by default.")
    ] = None,
    amount: Annotated[float, typer.Option(min=0, max=1, help="How far the shapes go: 1 is all the way.")] = 1.0,
    frames: Annotated[int | None, typer.Option(min=2, help="So many pictures, from no change to --amount.")] = None,
    style: Annotated[
        str | None, typer.Option(metavar="PHOTO:MAP", help="Photo that lends its style, or a saved style.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a picture that exists.")] = False,
) -> None:
    """Draw a layout with the shapes that some of its classes have in another layout; no label map is edited."""
    if out.exists() and not force:
        raise DataError(f"{out} exists already: add --force to replace it.")
    check_folder(out.parent)
    amounts = (amount,) if frames is None else tuple(amount * step / (frames - 1) for step in range(frames))

    from segscape.files import write_png
    from segscape.inference import Pipeline
    from segscape.inference.shapes import edit_shapes
    from segscape.inference.sheets import paste_grid

    pictures = edit_shapes(
        Pipeline.from_pretrained(model, device),
        layout,
        shapes,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        amounts=amounts,
        style=None if style is None else parse_look(style),
    )
    picture = pictures[0] if frames is None else paste_grid([pictures])
    prepare_folder(out.parent)
    write_png(out, picture)
    print(f"picture in {out.resolve()}")
