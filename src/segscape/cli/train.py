"""`segscape train`: a recipe in, a trained model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.errors import SegscapeError

if TYPE_CHECKING:
    from segscape.training.recipe import Recipe


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train on what, and how.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one entry, e.g. --set model.base_channels=32."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|RUN|CHECKPOINT",
            help="Start from trained weights: a model's folder or hub id, a run, or a checkpoint; classes may differ.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and leave.")] = False,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Learn four pairs by heart and say what works; leave with 1 if not all.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.99, help="With --sanity: how far the distance must fall, of its start; half by default."
        ),
    ] = None,
) -> None:
    """Train a model by a recipe.

    The run folder receives the resolved recipe, checkpoints, samples and TensorBoard logs. Ctrl-C saves and
    leaves, and so does SIGTERM, with exit code 75; --resume continues exactly where the run stopped. --init-from copies
    what fits from another model, and matches classes by name.
    """
    from segscape.training.recipe import load_recipe

    if resume and init_from:
        raise SegscapeError("--resume goes on with the run's own weights: give --init-from for a new run only.")
    if sanity and (out or resume):
        raise SegscapeError("--sanity is a trial that keeps nothing: leave out --out and --resume.")
    if share is not None and not sanity:
        raise SegscapeError("--share is how far the distance falls in the trial: give it with --sanity.")
    resolved = load_recipe(recipe, overrides or [])
    if init_from:
        resolved = resolved.model_copy(update={"init_from": init_from})
    if dry_run:
        print(resolved.to_yaml(), end="")
        return
    if sanity:
        _try(resolved, share)
        return
    from segscape.training.loop import train as run

    run(resolved, out or Path("runs") / recipe.stem, resume=resume)


def _try(recipe: Recipe, share: float | None) -> None:
    """Print what a short trial finds; leave with 1 if something does not work."""
    from segscape.training.sanity import SHARE, check_sanity

    passed = True
    for finding in check_sanity(recipe, SHARE if share is None else share):
        print(finding, flush=True)
        passed &= finding.passed
    print("Data, losses and model work together." if passed else "Something does not work: mend it before a long run.")
    if not passed:
        raise typer.Exit(1)
