"""What a run leaves to look at: JSON lines, sample grids, a progress bar, and the boards that show them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from segscape.data.sample import Batch, image_array
from segscape.files import write_png, write_text
from segscape.training.boards import Board

IN_THE_BAR = 4
"""How many metrics the progress bar shows; the losses come first."""


class Tracker:
    """Writes `metrics.jsonl`, sample grids and a progress bar that counts images, and feeds the boards.

    Call `start` before the first `update`. The sums of a line that is not complete belong to the run's checkpoint, so
    that a resumed run writes the lines of an uninterrupted one. Incidents, such as skipped steps, are counted over the
    whole run and stand in every line from the first on.

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
        self.incidents: dict[str, int] = {}
        self.boards: Sequence[Board] = ()

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last line of metrics, and the incidents so far."""
        return {"sums": self.sums, "steps": self.steps, "incidents": self.incidents}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them over."""
        self.sums, self.steps = dict(state_dict["sums"]), state_dict["steps"]
        self.incidents = dict(state_dict["incidents"])

    def start(self, images: int, total: int, boards: Sequence[Board] = ()) -> None:
        """Begin, or go on, at image number `images` of `total`; what was written about later ones is dropped."""
        self.first_image, self.started = images, time.monotonic()
        self.bar = tqdm(total=total, initial=images, unit="img", disable=not self.active, dynamic_ncols=True)
        self.boards = boards
        if self.active and self.metrics.exists():
            self._rewrite([line for line in read_metrics(self.metrics) if line["images"] <= images])

    def _rewrite(self, lines: list[dict[str, Any]]) -> None:
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))

    def update(self, images: int, step_images: int, values: Mapping[str, float | Tensor]) -> None:
        """Count a step of `step_images` images that ended at `images`, with its losses and rates; none if left out."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.steps += bool(values)
        self.bar.update(images - self.bar.n)
        if images // self.every > (images - step_images) // self.every:
            self._write(images)

    def _write(self, images: int) -> None:
        means = {name: value / self.steps for name, value in self.sums.items()}
        means["images_per_second"] = (images - self.first_image) / (time.monotonic() - self.started)
        self.sums, self.steps, self.first_image, self.started = {}, 0, images, time.monotonic()
        if not self.active:
            return
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in islice(means.items(), IN_THE_BAR)})
        means |= self.incidents
        self._append(json.dumps({"images": images} | means) + "\n")
        self._show(lambda board: board.scalars(means, images))

    def _append(self, line: str) -> None:
        """Add a line to `metrics.jsonl`; a full disk costs the line and not the run."""
        size = self.metrics.stat().st_size if self.metrics.exists() else 0
        try:
            with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)
        except OSError as error:
            self.message(f"warning: a line of {self.metrics} is lost ({error.strerror}).")
            with suppress(OSError):
                os.truncate(self.metrics, size)  # no half of it stays

    def record(self, images: int, scores: dict[str, float]) -> None:
        """Write scores measured after `images` images as a line of their own, in place of one with the same names."""
        if not self.active:
            return
        line = {"images": images} | scores
        lines = read_metrics(self.metrics) if self.metrics.exists() else []
        self._rewrite([old for old in lines if old["images"] != images or old.keys() != line.keys()] + [line])
        self.message(", ".join(f"{name} {value:.4g}" for name, value in line.items()))
        self._show(lambda board: board.scalars(scores, images))

    def incident(self, kind: str, sentence: str) -> None:
        """Count something that went wrong without stopping the run, and warn of it."""
        self.incidents[kind] = self.incidents.get(kind, 0) + 1
        self.message(f"warning: {sentence}")

    def own_incident(self, kind: str, sentence: str) -> None:
        """As `incident`, of which only this process knows: other ones than the first warn too, but are not counted."""
        if self.active:
            self.incident(kind, sentence)
        else:
            tqdm.write(f"warning: {sentence}")

    def grid(self, images: int, picture: NDArray[np.uint8]) -> None:
        """Save a sample grid as `samples/NUMBER.png` and show it."""
        if not self.active:
            return
        path = self.folder / "samples" / f"{images:010d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, Image.fromarray(picture))
        self._show(lambda board: board.picture("samples", picture, images))

    def message(self, text: str) -> None:
        """Print a line above the progress bar."""
        if self.active:
            tqdm.write(text)

    def close(self) -> None:
        """End the bar and close the boards."""
        self.bar.close()
        self._show(lambda board: board.close())

    def _show(self, action: Callable[[Board], None]) -> None:
        """Feed the boards; one that fails, on a full disk or without its server, is left out from then on."""
        for board in list(self.boards):
            try:
                action(board)
            except Exception as error:  # of whatever kind its package raises
                self.boards = [other for other in self.boards if other is not board]
                self.message(f"warning: {type(board).__name__} fails and is shown nothing more: {error}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` that are whole; a killed run may leave half of one."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "images" in line]


def sample_grid(batch: Batch, generated: Tensor) -> NDArray[np.uint8]:
    """Rows of layout (in its colours), generated image, photograph: uint8 `[N * H, 3 * W, 3]`."""
    colored = np.stack([batch.layout.labels.colorize(label_map) for label_map in batch.layout.label_map.cpu().numpy()])
    columns = np.concatenate([colored, image_array(generated), image_array(batch.images)], axis=2)
    rows: NDArray[np.uint8] = np.concatenate(list(columns), axis=0)
    return rows
