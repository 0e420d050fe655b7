"""A batch with a loss that is not finite: the step changes nothing and is counted; too many in a row are an error.

python -m tests.drills.nan_batch --in-a-row 3
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from segscape.training import loop
from tests.drills.runs import Report, checkpoints, make_recipe, metrics_lines, number_option, train_through, workplace

STEP = 2  # images


def drill(in_a_row: int) -> int:
    """Break steps of either network, one and so many in a row; 1 if anything went wrong."""
    report = Report("nan_batch")
    with workplace() as folder:
        shorter = make_recipe(folder / "pairs", images=6 * STEP, log_images=STEP)
        longer = make_recipe(folder / "pairs", images=7 * STEP, log_images=STEP)
        train_through(shorter, folder / "one-less")
        for part in BROKEN:
            run = folder / part
            training = train_through(longer, run, functools.partial(_break, part, range(6, 7)))
            before, after = (
                torch.load(checkpoints(path)[-1], weights_only=True) for path in (folder / "one-less", run)
            )
            left = [name for name in _UNTOUCHED[part] if not _same(before[name], after[name])]
            report.check(f"{part}: the broken step leaves everything as it was", not left, str(left))
            lines = [json.loads(line) for line in metrics_lines(run)]
            report.check(
                f"{part}: warned of and counted",
                "warning: after 12 images a step is not finite" in training.text
                and [line.get("skipped_steps") for line in lines] == [None] * 6 + [1],
                training.text[-2000:],
            )
        recipe = make_recipe(folder / "pairs", tolerance={"steps": in_a_row})
        just = functools.partial(_break, "generator's loss", range(5, 5 + in_a_row))
        report.check(f"{in_a_row} in a row: training goes on", train_through(recipe, folder / "just", just).code == 0)
        many = functools.partial(_break, "generator's loss", range(5, 6 + in_a_row))
        training = train_through(recipe, folder / "many", many)
        newest = checkpoints(folder / "many")[-1]
        report.check(
            f"{in_a_row + 1} in a row: an error that names the checkpoint",
            training.code == 2 and f"the last good checkpoint is {newest}" in training.text,
            training.text[-2000:],
        )
        report.check("and the run goes on from there", train_through(recipe, folder / "many").code == 0)
    return report.summary()


def _break(part: str, steps: range) -> None:
    """Make one network's losses or gradients NaN in these steps of this process."""
    BROKEN[part](steps)


def _break_losses(name: str, key: str, steps: range) -> None:
    real, calls = getattr(loop, name), iter(range(1 << 30))

    def broken(*args: Any, **options: Any) -> Any:
        losses, other = real(*args, **options)
        return (losses | {key: losses[key] * float("nan")} if next(calls) in steps else losses), other

    setattr(loop, name, broken)


def _break_image(steps: range) -> None:
    """Every number that comes of the photos is NaN, running statistics of the style encoder included."""
    real, calls = loop.read_steps, iter(range(1 << 30))

    def broken(*args: Any, **options: Any) -> Any:
        for parts in real(*args, **options):
            if next(calls) in steps:
                for part in parts:
                    part.batch.images.fill_(float("nan"))
            yield parts

    loop.read_steps = broken


def _break_gradients(steps: range) -> None:
    real, calls = loop.clip_gradients, iter(range(1 << 30))

    def broken(network: torch.nn.Module, largest: float | None) -> torch.Tensor:
        if next(calls) // 2 in steps:  # twice in each step
            next(network.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        return real(network, largest)

    loop.clip_gradients = broken


BROKEN: dict[str, Callable[[range], None]] = {
    "photos": _break_image,
    "generator's loss": functools.partial(_break_losses, "generator_step_losses", "gan"),
    "generator's gradients": _break_gradients,
    "discriminator's loss": functools.partial(_break_losses, "discriminator_step_losses", "real"),
}
"""What is broken in a step, by name."""

_ALL = ("generator", "generator_optimizer", "discriminator", "discriminator_optimizer", "average")
_UNTOUCHED: dict[str, tuple[str, ...]] = {
    "photos": _ALL,
    "generator's loss": _ALL,
    "generator's gradients": _ALL,
    "discriminator's loss": ("discriminator", "discriminator_optimizer", "average"),
}
"""The parts of the state that must not change; a generator that was updated before stays updated."""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


if __name__ == "__main__":
    sys.exit(drill(number_option("--in-a-row", 3, "how many broken steps in a row are tolerated")))
