"""`segscape push`: a saved model to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a saved model, e.g. RUN/model.")],
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    license: Annotated[
        str | None, typer.Option(metavar="NAME", help="License for the card, e.g. apache-2.0 or cc-by-nc-4.0.")
    ] = None,
) -> None:
    """Upload a model with its card: classes, recipe, metrics, samples.

    Log in with `hf auth login` first. The card is the README.md in the folder; write into it what a reader should
    know.
    """
    from segscape.models.pretrained import push_folder

    print(push_folder(model, repo_id, private=private, license=license))
