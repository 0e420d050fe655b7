"""`segscape convert`: an official checkpoint in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import parse_size, prepare_folder
from segscape.errors import CheckpointError


def convert(
    generator: Annotated[Path, typer.Argument(metavar="GENERATOR.pth", help="The official *_net_G.pth.")],
    labels: Annotated[str, typer.Option(help="Label set: its name, a JSON file, or a number of classes.")],
    out: Annotated[Path, typer.Option(help="Folder for the converted model.")],
    upsampling: Annotated[
        str, typer.Option(help="normal, more, or most (the official num_upsampling_layers).")
    ] = "normal",
    size: Annotated[str, typer.Option(metavar="HxW", help="Size that the model was trained at.")] = "256x256",
    encoder: Annotated[
        Path | None, typer.Option(help="The official *_net_E.pth of a model with styles.")
    ] = None,
    discriminator: Annotated[Path | None, typer.Option(help="The official *_net_D.pth, to train on.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that exists.")] = False,
) -> None:
    """Convert an official SPADE, CLADE or CLADE-ICPE checkpoint.

    Nothing in the file is executed: it is read as plain tensors.
    """
    image_size = parse_size(size)
    if (out / "config.json").exists() and not force:
        raise CheckpointError(
            f"{out} holds a model already: choose another --out, or add --force to replace it."
        )
    from segscape.models.convert import convert_checkpoint

    model = convert_checkpoint(
        generator,
        labels=int(labels) if labels.isdigit() else labels,
        upsampling=upsampling,
        image_size=image_size,
        encoder_path=encoder,
    )
    prepare_folder(out)
    model.save_pretrained(out)
    print(f"{model.config.model} model in {out.resolve()}")
