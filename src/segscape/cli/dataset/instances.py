"""`segscape dataset instances`: instance maps for COCO-Stuff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def instances(
    root: Annotated[Path, typer.Argument(metavar="COCO_ROOT", help="Folder of COCO-Stuff.")],
    split: Annotated[str, typer.Option(help="train or val.")] = "train",
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON", help="COCO's instances file; COCO_ROOT/annotations/instances_{split}2017.json by default."
        ),
    ] = None,
) -> None:
    """Draw the instance maps of COCO-Stuff from COCO's annotations, into COCO_ROOT/{split}_inst.

    Models trained with instance edges need them.
    """
    from segscape.data.published.coco_stuff import write_instance_maps

    folder = write_instance_maps(root, split, annotations)
    print(f"instance maps in {folder.resolve()}")
