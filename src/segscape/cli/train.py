"""`segscape train`: a recipe in, a trained model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train on what, and how.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one entry, e.g. --set model.base_channels=32."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and leave.")] = False,
) -> None:
    """Train a model by a recipe.

    The run folder receives the resolved recipe, checkpoints, samples and TensorBoard logs. Ctrl-C saves and
    leaves; --resume continues exactly where the run stopped.
    """
    from segscape.training.recipe import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    if dry_run:
        print(resolved.to_yaml(), end="")
        return
    from segscape.training.loop import train as run

    run(resolved, out or Path("runs") / recipe.stem, resume=resume)
