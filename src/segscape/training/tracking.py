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

    Call `start` before the first `update`. The sums of a line that is not complete belong to the run's checkpoint, so
    that a resumed run writes the lines of an uninterrupted one.

    Args:
        folder: the run folder.
        every: a line of metrics after so many images, averaged over them.
        active: false in all processes but the first, where nothing is written.
    """

    def __init__(self, folder: Path, every: int, active: bool) -> None:
        self.folder, self.every, self.active = folder, every, active
        self.metrics = folder / "metrics.jsonl"
        self.sums: dict[str, float] = {}
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last line of metrics."""
        return {"sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the sums."""
        self.sums, self.steps = dict(state_dict["sums"]), state_dict["steps"]

    def start(self, images: int, total: int) -> None:
        """Begin, or go on, at image number `images` of `total`; what was written about later ones is dropped."""
        self.first_image, self.started = images, time.monotonic()
        self.bar = tqdm(total=total, initial=images, unit="img", disable=not self.active, dynamic_ncols=True)
        self.board = _summary_writer(self.folder, images) if self.active else None
        if self.active and self.metrics.exists():
            lines = self.metrics.read_text().splitlines(keepends=True)
            kept = "".join(line for line in lines if json.loads(line)["images"] <= images)
            write_atomically(self.metrics, lambda temporary: temporary.write_text(kept))

    def update(self, images: int, step_images: int, values: dict[str, float]) -> None:
        """Count a step of `step_images` images that ended at `images`, with its losses and rates."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.bar.update(images - self.bar.n)
        if images // self.every > (images - step_images) // self.every:
            self._write(images)

    def _write(self, images: int) -> None:
        means = {name: value / self.steps for name, value in self.sums.items()}
        means["images_per_second"] = (images - self.first_image) / (time.monotonic() - self.started)
        self.sums, self.steps, self.first_image, self.started = {}, 0, images, time.monotonic()
        if not self.active:
            return
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()})
        with self.metrics.open("a") as file:
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


def _summary_writer(folder: Path, images: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `train` is not installed; metrics.jsonl holds the same numbers
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=images + 1)


def sample_grid(batch: Batch, generated: Tensor) -> NDArray[np.uint8]:
    """Rows of layout (in its colours), generated image, photograph: uint8 `[N * H, 3 * W, 3]`."""
    colored = np.stack([batch.layout.labels.colorize(label_map) for label_map in batch.layout.label_map.cpu().numpy()])
    columns = np.concatenate([colored, image_array(generated), image_array(batch.images)], axis=2)
    rows: NDArray[np.uint8] = np.concatenate(list(columns), axis=0)
    return rows
