"""Where metrics and sample grids are shown beside the run folder: TensorBoard, Weights & Biases, and others by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segscape.errors import DependencyError
from segscape.training.recipe import BoardName, Recipe

PROJECT = "segscape"
"""Under which runs are listed, where a tracker has projects or experiments."""


class Board(Protocol):
    """What a tracker must do; `images` counts from the beginning of the run and never falls."""

    def scalars(self, values: dict[str, float], images: int) -> None:
        """Show metrics."""
        ...

    def picture(self, name: str, picture: NDArray[np.uint8], images: int) -> None:
        """Show a picture, uint8 `[H, W, 3]`."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


def require_boards(names: Sequence[BoardName]) -> None:
    """Find out whether the trackers' packages are installed; raises DependencyError."""
    for name in names:
        if find_spec(name) is None:
            raise DependencyError(
                f"the tracker {name} needs the package {name}: pip install {name.replace('_', '-')}, or take it out of "
                "`trackers` in the recipe."
            )


def open_boards(recipe: Recipe, run: Path, images: int) -> list[Board]:
    """Begin, or go on, showing a run.

    Args:
        recipe: it names the trackers, and is listed beside the run where that is possible.
        run: the folder; TensorBoard's events go to `RUN/tensorboard`.
        images: what was seen so far.
    """
    return [
        TensorBoard(run, images) if name == "tensorboard" else AcceleratedBoard(name, run, recipe)
        for name in recipe.trackers
    ]


class TensorBoard:
    """Events in `RUN/tensorboard`; a resumed run drops those that were written after its checkpoint."""

    def __init__(self, run: Path, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=images + 1)

    def scalars(self, values: dict[str, float], images: int) -> None:
        """One curve per name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, images)

    def picture(self, name: str, picture: NDArray[np.uint8], images: int) -> None:
        """One picture per name and number of images."""
        self.writer.add_image(name, picture, images, dataformats="HWC")

    def close(self) -> None:
        """Write the rest."""
        self.writer.close()


class AcceleratedBoard:
    """A tracker through accelerate, which knows how each package wants to be called."""

    def __init__(self, name: BoardName, run: Path, recipe: Recipe) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind = LOGGER_TYPE_TO_CLASS[name]
        options: dict[str, Any] = {"logging_dir": str(run)} if kind.requires_logging_directory else {}
        named = {"wandb": {"name": run.name, "dir": str(run)}, "mlflow": {"run_name": run.name}}
        self.tracker = kind(PROJECT, **options, **named.get(name, {}))
        if hasattr(self.tracker, "start"):  # older versions start when they are made
            self.tracker.start()
        self.tracker.store_init_configuration(recipe.model_dump(mode="json"))

    def scalars(self, values: dict[str, float], images: int) -> None:
        """One curve per name."""
        self.tracker.log(values, step=images)

    def picture(self, name: str, picture: NDArray[np.uint8], images: int) -> None:
        """One picture per name and number of images, where the tracker takes pictures."""
        if hasattr(self.tracker, "log_images"):
            self.tracker.log_images({name: [picture]}, step=images)

    def close(self) -> None:
        """Send the rest."""
        self.tracker.finish()
