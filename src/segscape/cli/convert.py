"""`segscape convert`: an official checkpoint in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import parse_labels, parse_settings, parse_size, prepare_folder, require_no_model


def convert(
    generator: Annotated[Path, typer.Argument(metavar="GENERATOR.pth", help="The official *_net_G.pth.")],
    labels: Annotated[
        str,
        typer.Option(
            metavar="SET",
            help="Label set: its name, a JSON file, or a number of classes. ade20k puts the classes of an ADE20K model "
            "in its order (unknown last), ade20k-official keeps them as they are (unknown first).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the converted model.")],
    upsampling: Annotated[
        str | None,
        typer.Option(
            help="The official num_upsampling_layers of systems that have it: normal, more (Cityscapes), most."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What else the file does not tell, for example use_instances=true or final_tanh=false; repeatable. "
            "An unknown key is answered with those of the system.",
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of the training images.")] = "256x256",
    encoder: Annotated[Path | None, typer.Option(help="The official *_net_E.pth of a model with styles.")] = None,
    discriminator: Annotated[
        Path | None, typer.Option(help="The official *_net_D.pth, kept beside the model as safetensors.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that exists.")] = False,
) -> None:
    """Convert an official checkpoint of any system; the file itself tells which.

    Nothing in the file is executed: it is read as plain tensors.
    """
    image_size = parse_size(size)
    require_no_model(out, force)

    from safetensors.torch import save_file

    from segscape.files import write_atomically
    from segscape.models.conversion import convert_checkpoint, convert_discriminator

    classes = parse_labels(labels)
    options = parse_settings(settings or []) | ({"upsampling": upsampling} if upsampling else {})
    model = convert_checkpoint(generator, labels=classes, image_size=image_size, encoder_path=encoder, **options)
    name = model.config.model
    critic = None if discriminator is None else convert_discriminator(discriminator, labels=classes, model=name)
    prepare_folder(out)
    model.save_pretrained(out)
    if critic is not None:
        write_atomically(out / "discriminator.safetensors", lambda part: save_file(critic.state_dict(), part))
    print(f"{model.config.model} model in {out.resolve()}")
