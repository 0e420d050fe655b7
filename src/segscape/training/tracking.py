"""What a run leaves to look at: JSON lines, TensorBoard scalars, sample grids, a progress bar."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from segscape.data.sample import Batch, image_array
from segscape.files import write_atomically


class Tracker:
    """Writes `metrics.jsonl`, TensorBoard events (if tensorboard is installed) and a progress bar that counts images.

    Args:
        folder: the run folder.
        images: images seen so far.
        total: length of the run.
        every: a line of metrics after so many images, averaged over them.
        active: false in all processes but the first, where nothing is written.
    """

    def __init__(self, folder: Path, images: int, total: int, every: int, active: bool) -> None:
        self.folder, self.every, self.active = folder, every, active
        self.sums: dict[str, float] = {}
        self.steps, self.first_image, self.started = 0, images, time.monotonic()
        self.bar = tqdm(total=total, initial=images, unit="img", disable=not active, dynamic_ncols=True, leave=True)
        self.board = _summary_writer(folder) if active else None

    def update(self, images: int, values: dict[str, float]) -> None:
        """Count a step that ended at `images` images, with its losses and rates."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.bar.update(images - self.bar.n)
        if images // self.every > self.first_image // self.every:
            self._write(images)

    def _write(self, images: int) -> None:
        means = {name: value / self.steps for name, value in self.sums.items()}
        means["images_per_second"] = (images - self.first_image) / (time.monotonic() - self.started)
        self.sums, self.steps, self.first_image, self.started = {}, 0, images, time.monotonic()
        if not self.active:
            return
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in means.items() if "_lr" not in name})
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"images": images} | means) + "\n")
        if self.board is not None:
            for name, value in means.items():
                self.board.add_scalar(name, value, images)

    def grid(self, images: int, picture: NDArray[np.uint8]) -> None:
        """Save a sample grid as `samples/NUMBER.png` and to TensorBoard."""
        if not self.active:
            return
        path = self.folder / "samples" / f"{images:010d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: Image.fromarray(picture).save(temporary, format="PNG"))
        if self.board is not None:
            self.board.add_image("samples", picture, images, dataformats="HWC")

    def message(self, text: str) -> None:
        """Print a line above the progress bar."""
        if self.active:
            tqdm.write(text)

    def close(self) -> None:
        """End the bar and flush the events."""
        self.bar.close()
        if self.board is not None:
            self.board.close()


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `train` is not installed; metrics.jsonl holds the same numbers
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def sample_grid(batch: Batch, generated: Tensor) -> NDArray[np.uint8]:
    """Rows of layout (in its colours), generated image, photograph: uint8 `[N * H, 3 * W, 3]`."""
    colored = np.stack([batch.layout.labels.colorize(label_map) for label_map in batch.layout.label_map.cpu().numpy()])
    columns = np.concatenate([colored, image_array(generated), image_array(batch.images)], axis=2)
    rows: NDArray[np.uint8] = np.concatenate(list(columns), axis=0)
    return rows
